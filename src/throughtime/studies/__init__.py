"""Which experiments are run as a whole? Comparisons of cells, each from its own process."""

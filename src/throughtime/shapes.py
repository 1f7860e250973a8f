"""What do B T I H G L mean?

    B  batch: rows, i.e. independent sequences          T  time: steps of one sequence
    I  input: features of x                             H  hidden: units of the hidden state
    P  projection: units of a projected hidden state    G  gates: stacked blocks of rows of a matrix
    L  layers                                           D  depth of the history: the largest lag
    V  vocabulary                                       W  window: steps of one backward pass

Sequences are time-major, [T, B, I], everywhere inside the package.
"""

__all__ = ["DIMENSIONS"]

DIMENSIONS = {
    "B": "batch",
    "T": "time",
    "I": "input",
    "H": "hidden",
    "P": "projection",
    "G": "gates",
    "L": "layers",
    "D": "depth of the history",
    "V": "vocabulary",
    "W": "window",
}

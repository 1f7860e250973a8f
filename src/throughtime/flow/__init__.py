"""How does the gradient travel through time? Measures and verdicts, returned as records."""

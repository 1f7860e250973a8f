"""Recurrent networks for PyTorch in which you can see how far back they learn."""

__version__ = "0.1.0.dev0"

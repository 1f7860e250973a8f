"""Does a cell keep the contract? `check_cell`, for any declared cell, a user's own too."""

from throughtime.testing.check import check_cell
from throughtime.testing.report import CellReport, Line

__all__ = ["CellReport", "Line", "check_cell"]

"""The plots of benchmarks: their colours, and the library that draws them."""

from __future__ import annotations

from importlib.util import find_spec

NEEDS_MATPLOTLIB = "a plot needs matplotlib: pip install matplotlib, or leave out --plot"

GREY = "#9aa5b1"
RED = "#d9480f"
BLUE = "#1971c2"
GREEN = "#2f9e44"
TEXT = "#1f2933"
FAINT = "#616e7c"


def can_plot() -> bool:
    """Tell if matplotlib is installed, without loading it."""
    return find_spec("matplotlib") is not None

"""The style of all pictures: colours, a page measured in inches, the check for matplotlib."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colorbar import Colorbar
    from matplotlib.colors import Colormap

TEXT = "#1f2933"
QUIET = "#616e7c"
ACCENT = "#d9480f"
BAR = "#9aa5b1"
DPI = 150


def require_matplotlib() -> None:
    """Check that pictures can be drawn, before anything is computed for them.

    Raises:
        ImportError: matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise ImportError(
            'pictures need matplotlib: pip install "resnet_rs[pictures]"', name="matplotlib"
        )


class Page:
    """An empty figure, without a window or global state, on which places are in inches.

    Args:
        width: in inches.
        height: in inches.

    Attributes:
        figure: matplotlib's figure.
    """

    def __init__(self, width: float, height: float) -> None:
        from matplotlib.figure import Figure

        self.width = width
        self.height = height
        self.figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")

    def axes(self, left: float, top: float, wide: float, high: float) -> Axes:
        """Add axes at a place and of a size in inches, from the page's upper left corner."""
        bottom = self.height - top - high
        return self.figure.add_axes(
            (left / self.width, bottom / self.height, wide / self.width, high / self.height)
        )

    def sheet(self) -> Axes:
        """Add axes over the whole page, to be measured in inches once `scale` has been called."""
        sheet = self.figure.add_axes((0, 0, 1, 1))
        sheet.set_axis_off()
        return sheet

    def scale(self, sheet: Axes) -> None:
        """Set the sheet's coordinates to inches; `imshow` on it has changed them."""
        sheet.set(xlim=(0, self.width), ylim=(self.height, 0), aspect="auto")

    def text(self, left: float, base: float, text: str, **style: Any) -> None:
        """Write text whose base line starts at a place in inches."""
        self.figure.text(left / self.width, 1 - base / self.height, text, **style)

    def colour_bar(self, drawn: Any, left: float, top: float, high: float) -> Colorbar:
        """Add a narrow colour bar for a picture that `imshow` returned."""
        bar = self.figure.colorbar(drawn, cax=self.axes(left, top, 0.13, high))
        bar.ax.tick_params(labelsize=8, colors=QUIET, length=2)
        bar.outline.set(edgecolor=QUIET, linewidth=0.5)
        return bar


def evidence_colours() -> Colormap:
    """Make a colour map for numbers from -1 (blue) over 0 (clear) to 1 (red)."""
    from matplotlib.colors import LinearSegmentedColormap

    stops = [
        (0.0, (0.05, 0.25, 0.75, 0.75)),
        (0.4, (0.30, 0.55, 0.95, 0.15)),
        (0.5, (1.0, 1.0, 1.0, 0.0)),
        (0.6, (1.0, 0.85, 0.25, 0.25)),
        (0.8, (1.0, 0.45, 0.05, 0.60)),
        (1.0, (0.75, 0.0, 0.05, 0.80)),
    ]
    return LinearSegmentedColormap.from_list("evidence", stops)

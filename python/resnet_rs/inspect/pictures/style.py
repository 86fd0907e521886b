"""What the pictures share: colours, a page measured in inches, the check for matplotlib."""

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
    """Make sure that pictures can be drawn, before anything is computed for them.

    Raises:
        ImportError: matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise ImportError(
            'pictures need matplotlib: pip install "resnet_rs[pictures]"', name="matplotlib"
        )


class Page:
    """An empty figure, of no window and no global state, where things have places in inches.

    Args:
        width: in inches.
        height: in inches.

    Attributes:
        figure: matplotlib's.
    """

    def __init__(self, width: float, height: float) -> None:
        from matplotlib.figure import Figure

        self.width = width
        self.height = height
        self.figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")

    def axes(self, left: float, top: float, wide: float, high: float) -> Axes:
        """Axes whose upper left corner lies so far from the page's."""
        bottom = self.height - top - high
        return self.figure.add_axes(
            (left / self.width, bottom / self.height, wide / self.width, high / self.height)
        )

    def sheet(self) -> Axes:
        """Axes over the whole page with inches as coordinates, from the upper left corner."""
        sheet = self.figure.add_axes((0, 0, 1, 1))
        sheet.set_axis_off()
        return sheet

    def scale(self, sheet: Axes) -> None:
        """Give the sheet its coordinates again, which drawing pictures on it changes."""
        sheet.set(xlim=(0, self.width), ylim=(self.height, 0), aspect="auto")

    def text(self, left: float, base: float, text: str, **style: Any) -> None:
        """Text whose base line starts so far from the upper left corner."""
        self.figure.text(left / self.width, 1 - base / self.height, text, **style)

    def colour_bar(self, drawn: Any, left: float, top: float, high: float) -> Colorbar:
        """A narrow colour bar in quiet lines, for a picture that `imshow` returned."""
        bar = self.figure.colorbar(drawn, cax=self.axes(left, top, 0.13, high))
        bar.ax.tick_params(labelsize=8, colors=QUIET, length=2)
        bar.outline.set(edgecolor=QUIET, linewidth=0.5)
        return bar


def evidence_colours() -> Colormap:
    """For numbers from -1 to 1: blue against, red for, and clear where there is nothing."""
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

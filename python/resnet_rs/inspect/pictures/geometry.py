"""Geometry: the crop on the photo, and a feature map's cells on the crop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...images.preprocess import crop_size, resized_size
from ...images.spec import Preprocessing


@dataclass(frozen=True)
class Box:
    """A rectangle in a photo's pixels; its edges lie between pixels, so they need not be whole."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """The extent of the picture in matplotlib, in which pixel 0 spans -0.5 to 0.5."""
        return self.left - 0.5, self.right - 0.5, self.bottom - 0.5, self.top - 0.5


def crop_box(size: tuple[int, int], spec: Preprocessing) -> Box:
    """Find the part of a photo that the network sees.

    Args:
        size: the photo's `(width, height)` in pixels, upright.
        spec: how it is resized and cropped.

    Returns:
        The crop in the photo's own pixels. If the photo is smaller than the crop, the box extends
        beyond the photo by the zeros that fill the crop.
    """
    resized = resized_size(size, spec)
    height, width = crop_size(spec) or (resized[1], resized[0])
    left, right = _span(size[0], resized[0], width)
    top, bottom = _span(size[1], resized[1], height)
    return Box(left, top, right, bottom)


def _span(photo: int, resized: int, crop: int) -> tuple[float, float]:
    """Find the start and the end of a crop along one side of the photo."""
    # As in `preprocess.center_crop`.
    start = round((resized - crop) / 2) if resized >= crop else -((crop - resized) // 2)
    scale = photo / resized
    return start * scale, (start + crop) * scale


def stride(side: int, cells: int) -> int:
    """Compute the distance in pixels between neighbouring cells of a feature map.

    Each layer with stride 2 halves a side and rounds up, so the stride is a power of two.
    """
    step = 1
    while -(-side // step) > cells:
        step *= 2
    return step


def enlarge(
    values: NDArray[np.float32],
    rows: NDArray[np.float64],
    columns: NDArray[np.float64],
    cell: tuple[float, float],
    size: int,
) -> NDArray[np.float64]:
    """Draw a map with its values at the cells' places, bilinear between them.

    There is no value past the outermost cells: the map holds its last value there for half the
    distance between cells, and then fades to zero over half a cell.

    Args:
        values: `[len(rows), len(columns)]`.
        rows: the values' places along the height, as fractions of it, evenly ascending.
        columns: the same along the width.
        cell: the height and width of one of the network's cells, as such fractions.
        size: the side of the result in pixels.

    Returns:
        `[size, size]`: the whole crop, stretched to a square.
    """
    pixels = (np.arange(size) + 0.5) / size
    wide = np.stack([_interpolated(pixels, columns, row, cell[1]) for row in values])
    return np.stack([_interpolated(pixels, rows, column, cell[0]) for column in wide.T], axis=1)


def _interpolated(
    pixels: NDArray[np.float64],
    places: NDArray[np.float64],
    values: NDArray[np.floating[Any]],
    cell: float,
) -> NDArray[np.float64]:
    """Interpolate the values at some pixels along one side."""
    hold = (places[1] - places[0] if len(places) > 1 else cell) / 2
    fade = hold + cell / 2
    first, last = places[0], places[-1]
    known = np.concatenate([[first - fade, first - hold], places, [last + hold, last + fade]])
    padded = np.concatenate([[0.0, values[0]], values, [values[-1], 0.0]])
    interpolated: NDArray[np.float64] = np.interp(pixels, known, padded)
    return interpolated

"""Grids of small pictures: the feature maps of a layer, the filters of the first convolution."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ... import arguments
from ...images.preprocess import load_pixels
from ...weights.loaded import HasLoaded, Loaded, real_weights
from ..trace import trace
from .style import QUIET, TEXT, Page, require_matplotlib

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

    from ...images.decode import ImageLike

_COLUMNS = 8
_TILE_INCHES = 0.95
_GAP_INCHES = 0.1
_LABEL_INCHES = 0.16
_MARGIN_INCHES = 0.25
_HEADER_INCHES = 1.35
_LEAST_INCHES = 5.5
# The width of the title and the lines below it.
_TEXT_INCHES = 3.9
# The height of the colour bar, in rows.
_BAR_ROWS = 4
# The percentile at which the colours end: the few largest values would dim all the others.
_PERCENTILE = 99.5


def feature_grid(
    model: HasLoaded,
    image: ImageLike,
    layer: str,
    max_channels: int = 64,
    *,
    strongest: bool = False,
) -> Figure:
    """Draw a layer's feature maps, each with its channel's number, all on one colour scale.

    Args:
        model: any network of the family.
        image: one image of any kind that `model.predict` takes.
        layer: one of `model.layer_names`, a stage such as `layer2`, or an operation that
            `model.trace` has, such as `layer2.0.conv1`.
        max_channels: the largest number of maps to draw.
        strongest: draw the maps with the largest mean, strongest first, instead of the maps with
            the lowest channel numbers.

    Returns:
        A matplotlib figure.

    Raises:
        ImportError: matplotlib is not installed.
        ImageError, OSError, TypeError: as `model.predict` does.
        ValueError: as `model.predict` does; also if there is no such layer, or it has no map.
    """
    require_matplotlib()
    max_channels = arguments.count("max_channels", max_channels)
    loaded = model.loaded
    config = loaded.config
    pixels = load_pixels(image, config.preprocessing, config.in_channels, loaded.options)
    maps = _maps_of(loaded, pixels[None], layer)
    height, width, count = maps.shape
    order = np.argsort(-maps.mean(axis=(0, 1)), kind="stable") if strongest else np.arange(count)
    order = order[:max_channels]
    shown = np.moveaxis(maps[:, :, order], 2, 0)
    which = "the strongest" if strongest else "the first"
    many = (
        f"{count} channels" if len(order) == count else f"{which} {len(order)} of {count} channels"
    )
    high = float(np.percentile(np.abs(shown), _PERCENTILE)) or 1.0
    # A result before a ReLU has values of both signs.
    signed = bool((shown < 0).any())
    lines = [
        f"{config.architecture}, {_name_of(image)}, {pixels.shape[1]} x {pixels.shape[0]}",
        f"each map has {width} x {height} pixels",
        f"the colours end at the {_PERCENTILE:g}th percentile{', and white is zero' * signed}",
    ]
    return _Grid(len(order), height, width).draw(
        f"{layer}: {many}",
        lines,
        shown,
        order.tolist(),
        picture=_as_rgb(pixels),
        cmap="RdBu_r" if signed else "magma",
        vmin=-high if signed else 0.0,
        vmax=high,
    )


def stem_filters(model: HasLoaded) -> Figure:
    """Draw the first convolution's filters as colour tiles.

    A filter's weights apply to normalised colours, so they are divided by the preprocessing's
    standard deviations first: then they apply to pixels. Each tile is scaled by itself, so that its
    largest weight by magnitude is black or full colour, and grey is zero.

    Args:
        model: a network for colour images, or for grey ones.

    Returns:
        A matplotlib figure.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: the network takes neither 3 channels nor 1.
    """
    require_matplotlib()
    loaded = model.loaded
    tensors = loaded.tensors()
    name = "conv1.weight" if "conv1.weight" in tensors else "conv1.0.weight"
    weights = real_weights(tensors, name)
    channels = weights.shape[1]
    if channels not in (1, 3):
        raise ValueError(
            f"filters of {channels} channels have no colours; expected a network for 3 channels "
            "or 1"
        )
    std = np.array(loaded.config.preprocessing.std, np.float32)
    weights = weights / std[:, None, None]
    largest = np.abs(weights).max(axis=(1, 2, 3), keepdims=True)
    tiles = 0.5 + 0.5 * weights / np.where(largest > 0, largest, 1)
    tiles = np.broadcast_to(tiles, (len(tiles), 3, *tiles.shape[2:])).transpose(0, 2, 3, 1)
    count, height, width = tiles.shape[:3]
    layer = name.removesuffix(".weight")
    lines = [
        f"{loaded.config.architecture}, each filter has {width} x {height} pixels",
        "weights of pixels; each tile is stretched by itself, and grey is zero",
    ]
    return _Grid(count, height, width).draw(
        f"{layer}: {count} filters", lines, tiles, list(range(count))
    )


def _maps_of(loaded: Loaded, pixels: NDArray[np.uint8], layer: str) -> NDArray[np.float32]:
    """Compute a layer's result for a batch of one image: `[height, width, channels]`."""
    maps: NDArray[np.float32]
    network = loaded.network
    if layer in network.layer_names or layer in loaded.stages:
        maps = network.features(pixels, [layer])[0][0]
    else:
        results = trace(loaded, network.normalize(pixels))
        if layer not in results:
            names = ", ".join(loaded.stages)
            raise ValueError(
                f"there is no layer {layer!r}; expected a stage ({names}), one of "
                "model.layer_names or an operation of model.trace, such as layer1.0.conv1"
            )
        maps = np.asarray(results[layer][0], np.float32)
    if maps.ndim != 3 or maps.shape[:2] == (1, 1):
        raise ValueError(f"{layer} gives single numbers and no maps: there is nothing to draw")
    return maps


def _name_of(image: Any) -> str:
    """Name an image for the title: the file's name if there is a file."""
    return os.path.basename(os.fspath(image)) if isinstance(image, (str, os.PathLike)) else "image"


def _as_rgb(pixels: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """Turn the network's input into a picture; None if its channels are not colours."""
    if pixels.shape[2] not in (1, 3):
        return None
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3))


@dataclass(frozen=True)
class _Grid:
    """Tiles of one size with a number above each, in rows of eight, under a title.

    Attributes:
        count: the number of tiles.
        height: the height of a tile in its own pixels.
        width: the width of a tile in its own pixels.
    """

    count: int
    height: int
    width: int

    @property
    def columns(self) -> int:
        return min(self.count, _COLUMNS)

    @property
    def rows(self) -> int:
        return -(-self.count // self.columns)

    @property
    def tile(self) -> tuple[float, float]:
        """The height and width of a tile in inches; the longer side has the full length."""
        longer = max(self.height, self.width)
        return _TILE_INCHES * self.height / longer, _TILE_INCHES * self.width / longer

    @property
    def pitch(self) -> tuple[float, float]:
        """The distance in inches from one tile to the next, down and right."""
        high, wide = self.tile
        return high + _LABEL_INCHES + _GAP_INCHES, wide + _GAP_INCHES

    def draw(
        self,
        title: str,
        lines: list[str],
        tiles: NDArray[Any],
        numbers: list[int],
        *,
        picture: NDArray[np.uint8] | None = None,
        **colours: Any,
    ) -> Figure:
        """Draw the whole page.

        Args:
            title: the title.
            lines: further lines below the title, in small letters.
            tiles: `[count, height, width]` numbers, or with a last axis of colours from 0 to 1.
            numbers: the number above each tile.
            picture: a small picture beside the title.
            colours: how `imshow` turns numbers into colours; if given, there is a colour bar.
        """
        down, right = self.pitch
        bar_inches = 0.75 if colours else 0.0
        head = _HEADER_INCHES if picture is not None else 0.75 + 0.2 * len(lines)
        text_left = _MARGIN_INCHES
        if picture is not None:
            picture_high = head - 0.45
            picture_wide = picture_high * picture.shape[1] / picture.shape[0]
            text_left += picture_wide + 0.15
        width = max(
            2 * _MARGIN_INCHES + self.columns * right + bar_inches,
            text_left + _TEXT_INCHES + _MARGIN_INCHES,
            _LEAST_INCHES,
        )
        height = head + self.rows * down + _MARGIN_INCHES
        page = Page(width, height)

        # Everything is drawn on one sheet, in inches from its upper left corner.
        sheet = page.sheet()
        if picture is not None:
            _show(sheet, picture, _MARGIN_INCHES, 0.2, picture_wide, picture_high)
        sheet.text(text_left, 0.42, title, fontsize=13, fontweight="bold", color=TEXT)
        for place, line in enumerate(lines):
            sheet.text(text_left, 0.66 + 0.2 * place, line, fontsize=9, color=QUIET)
        high, wide = self.tile
        drawn: Any = None
        for index, (values, number) in enumerate(zip(tiles, numbers, strict=True)):
            row, column = divmod(index, self.columns)
            left = _MARGIN_INCHES + column * right
            top = head + row * down
            sheet.text(left, top + 0.12, str(number), fontsize=8, color=TEXT)
            drawn = _show(sheet, values, left, top + _LABEL_INCHES, wide, high, **colours)
        page.scale(sheet)
        if colours:
            left = _MARGIN_INCHES + self.columns * right + 0.05
            tall = min(self.rows, _BAR_ROWS) * down - _GAP_INCHES - _LABEL_INCHES
            page.colour_bar(drawn, left, head + _LABEL_INCHES, tall)
        return page.figure


def _show(
    sheet: Axes, values: Any, left: float, top: float, wide: float, high: float, **colours: Any
) -> AxesImage:
    extent = (left, left + wide, top + high, top)
    return sheet.imshow(values, extent=extent, interpolation="nearest", **colours)

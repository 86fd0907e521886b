"""Explanations: a photo with its best classes and the places that speak for them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import arguments
from ...images.decode import open_as_rgb
from ...results import Prediction
from ...stream.engine import run_one
from ...stream.tasks import Predictions
from ...terminal.tables import plural
from ...weights.loaded import HasLoaded
from .activation import ActivationMap, activation_maps, last_layer
from .geometry import Box, crop_box, enlarge
from .style import ACCENT, BAR, QUIET, TEXT, Page, evidence_colours, require_matplotlib

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL import Image

    from ...images.decode import ImageLike

_MAPS = 3
_MAP_PIXELS = 256
_PANEL_INCHES = 2.6
_GAP_INCHES = 0.15
_MARGIN_INCHES = 0.2
_TOP_INCHES = 0.75
# Enough for the line at the foot of the page.
_LEAST_INCHES = 7.2
# An average for the size of the titles.
_LETTERS_PER_INCH = 13
_LONGEST_LABEL = 30
# Photos are drawn at about three inches; more pixels only make the file larger.
_PHOTO_PIXELS = 640


def explain(
    model: HasLoaded, image: ImageLike, top_k: int = 5, *, shifts: int | None = None
) -> Figure:
    """Draw the best classes of a photo as bars, and the activation maps of the best three.

    The maps are exact (`activation_maps`), and share one scale in logits: red speaks for the
    class, blue against it, and clear places are neutral. The part of the photo outside the crop,
    which the network does not see, is pale.

    Args:
        model: any network of the family with a last layer.
        image: one image of any kind that `model.predict` takes.
        top_k: the number of classes that get a bar.
        shifts: how finely the maps are drawn, as for `activation_maps`.

    Returns:
        A matplotlib figure: `figure.savefig("out.png")` writes it.

    Raises:
        ImportError: matplotlib is not installed.
        ImageError, OSError, TypeError, ValueError: as `activation_maps` does.
    """
    require_matplotlib()
    top_k = arguments.count("top_k", top_k, most=None)
    loaded = model.loaded
    last_layer(loaded)  # raises the error for a network without classes
    name = os.path.basename(os.fspath(image)) if isinstance(image, (str, os.PathLike)) else ""
    photo = open_as_rgb(image, loaded.options)
    classes = run_one(Predictions(loaded, top_k), photo)
    best = [each.index for each in classes[:_MAPS]]
    maps = activation_maps(model, photo, best, shifts=shifts)
    percent = loaded.config.activation != "none"
    box = crop_box(photo.size, loaded.config.preprocessing)
    note = _note(loaded.config.architecture, maps[0])
    return _draw(photo, box, classes, maps, name, note, percent=percent)


def _draw(
    photo: Image.Image,
    box: Box,
    classes: list[Prediction],
    maps: list[ActivationMap],
    name: str,
    note: str,
    *,
    percent: bool,
) -> Figure:
    """Draw the whole page.

    Args:
        photo: the photo, upright.
        box: the crop on the photo.
        classes: the best classes, best first.
        maps: the activation maps of the first of them.
        name: the photo's file name, or "".
        note: the line at the foot of the page.
        percent: True if scores are probabilities, False if they are plain values.
    """
    aspect = photo.height / photo.width
    wide = min(_PANEL_INCHES, 1.3 * _PANEL_INCHES / aspect)
    high = wide * aspect
    right = wide + _GAP_INCHES
    bars_top = _TOP_INCHES + high + 0.3
    bars_high = 0.34 * len(classes) + 0.1
    page = Page(
        max(_MARGIN_INCHES + (1 + len(maps)) * right + 0.8, _LEAST_INCHES),
        bars_top + bars_high + 0.5,
    )
    best = classes[0]
    page.text(
        _MARGIN_INCHES,
        0.36,
        _said(best, percent=percent),
        fontsize=15,
        fontweight="bold",
        color=TEXT,
    )

    longest = int(wide * _LETTERS_PER_INCH)
    small = photo.copy()
    small.thumbnail((_PHOTO_PIXELS, _PHOTO_PIXELS))
    # Colours over colours would mislead.
    grey = small.convert("L").convert("RGB")
    scale = max(float(np.abs(each.values).max()) for each in maps) or 1.0
    colours = evidence_colours()
    drawn: Any = None
    said = (_said(each, longest, percent=percent) for each in classes)
    titles = [_cut(name or "photo", longest), *said]
    for place, (title, each) in enumerate(zip(titles, [None, *maps], strict=False)):
        axes = page.axes(_MARGIN_INCHES + place * right, _TOP_INCHES, wide, high)
        axes.set_title(title, fontsize=9, color=TEXT)
        _photo(axes, small if each is None else grey, photo, box)
        if each is not None:
            drawn = axes.imshow(
                enlarge(each.values, each.rows, each.columns, each.cell, _MAP_PIXELS),
                extent=box.extent,
                cmap=colours,
                vmin=-scale,
                vmax=scale,
                interpolation="bilinear",
            )
        _limits(axes, photo, box)
    page.colour_bar(drawn, _MARGIN_INCHES + (1 + len(maps)) * right, _TOP_INCHES, high).set_label(
        "evidence (logits)", fontsize=8, color=QUIET
    )

    labels = [_cut(each.label, _LONGEST_LABEL) for each in classes]
    bars_left = _MARGIN_INCHES + 0.1 + 0.09 * max(map(len, labels))
    bars_wide = page.width - bars_left - 0.9
    axes = page.axes(bars_left, bars_top, bars_wide, bars_high)
    _bars(axes, labels, classes, percent=percent)
    note_base = page.height - 0.16
    page.text(_MARGIN_INCHES, note_base, note, fontsize=8, color=QUIET)
    return page.figure


def _number(score: float, *, percent: bool) -> str:
    return f"{score:.1%}" if percent else f"{score:.4g}"


def _said(best: Prediction, longest: int = 80, *, percent: bool) -> str:
    """Write a class with its score, the label cut to fit."""
    score = f", {_number(best.score, percent=percent)}"
    return _cut(best.label, max(longest - len(score), 4)) + score


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _photo(axes: Axes, shown: Image.Image, photo: Image.Image, box: Box) -> None:
    """Draw the photo, pale outside the crop, with a frame around the crop."""
    from matplotlib.patches import Rectangle

    whole = Box(0, 0, photo.width, photo.height)
    axes.imshow(np.asarray(shown), extent=whole.extent, interpolation="bilinear")
    left, right, bottom, top = box.extent
    x0, x1, y1, y0 = whole.extent
    for x, y, wide, tall in (
        (x0, y0, left - x0, y1 - y0),
        (right, y0, x1 - right, y1 - y0),
        (left, y0, right - left, top - y0),
        (left, bottom, right - left, y1 - bottom),
    ):
        if wide > 0 and tall > 0:
            axes.add_patch(Rectangle((x, y), wide, tall, color="white", alpha=0.65, linewidth=0))
    axes.add_patch(
        Rectangle(
            (left, top), right - left, bottom - top, fill=False, edgecolor=ACCENT, linewidth=1.2
        )
    )
    axes.set_axis_off()


def _limits(axes: Axes, photo: Image.Image, box: Box) -> None:
    """Show the whole photo and the whole crop, either of which may be the larger one."""
    left, right, bottom, top = box.extent
    axes.set_xlim(min(left, -0.5), max(right, photo.width - 0.5))
    axes.set_ylim(max(bottom, photo.height - 0.5), min(top, -0.5))


def _bars(axes: Axes, labels: list[str], classes: list[Prediction], *, percent: bool) -> None:
    """Draw a bar for each class, the best one on top."""
    colours = [ACCENT] + [BAR] * (len(classes) - 1)
    scores = [each.score for each in classes]
    bars = axes.barh(range(len(scores)), scores, 0.68, color=colours)
    axes.set_yticks(range(len(scores)), labels, fontsize=10)
    numbers = [_number(score, percent=percent) for score in scores]
    axes.bar_label(bars, numbers, padding=4, fontsize=9, color=TEXT)
    axes.invert_yaxis()
    # Plain values may be of any size and sign.
    axes.set_xlim(*((0, 1) if percent else (min(0.0, *scores), max(0.0, *scores) or 1.0)))
    axes.set_xticks([])
    axes.tick_params(axis="y", colors=TEXT, length=0)
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)
    axes.spines["left"].set_color(BAR)


def _note(architecture: str, first: ActivationMap) -> str:
    """Write the line at the foot of the page."""
    rows, columns = (side // first.shifts for side in first.values.shape)
    cells = f"class activation maps of {rows} x {columns} cells"
    if first.shifts > 1:
        cells += f", the photo moved to {plural(first.shifts**2, 'place')}"
    return f"{architecture}, {cells}; the frame is what the network saw"

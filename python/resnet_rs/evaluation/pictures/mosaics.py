"""Mosaics of photos: the most confident mistakes, and a batch as the network sees it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ... import arguments
from ...images.decode import open_as_rgb
from ...images.options import DEFAULT, Decoding
from ...terminal.tables import plural
from ..figures import Figures, Mistake
from .canvas import PALE, QUIET, RED, SCALE, TEXT, Canvas, pixels

if TYPE_CHECKING:
    from PIL import Image

_MARGIN = 24.0
_HEAD = 64.0
_GAP = 12.0
_MISTAKE_SIDE = 150.0
_MISTAKE_COLUMNS = 5
_MISTAKE_CAPTION = 50.0
_BATCH_SIDE = 96.0
_BATCH_COLUMNS = 8
_BATCH_CAPTION = 18.0
# The least share of a soft label that is written.
_LEAST_SHARE = 0.01


def mistake_mosaic(
    evaluation: Figures, most: int = 20, *, decoding: Decoding = DEFAULT
) -> Image.Image:
    """Draw the most confident mistakes: each photo with the answer, its label and the scores.

    Args:
        evaluation: an `Evaluation` that knows its images.
        most: the number of mistakes, at most.
        decoding: how photos are decoded.

    Returns:
        An RGB image. A photo that cannot be read any more is an empty tile with its name.

    Raises:
        TypeError, ValueError: `most` is not a whole number from 1 up.
    """
    mistakes = evaluation.mistakes(arguments.count("most", most))
    wrong = evaluation.count - evaluation.correct
    columns = min(_MISTAKE_COLUMNS, max(len(mistakes), 2))
    rows = -(-len(mistakes) // columns)
    pitch = (_MISTAKE_SIDE + _GAP, _MISTAKE_SIDE + _MISTAKE_CAPTION + _GAP)
    canvas = Canvas(
        2 * _MARGIN + columns * pitch[0] - _GAP,
        _HEAD + rows * pitch[1] - _GAP + _MARGIN if rows else _HEAD + _MARGIN,
    )
    title = plural(wrong, "mistake") if wrong else "No mistake"
    canvas.text(_MARGIN, _MARGIN - 6, f"{title} in {plural(evaluation.count, 'image')}", size=15)
    if mistakes:
        text = "the most confident first"
        if len(mistakes) < wrong:
            text += f"; the first {len(mistakes)} of them"
        canvas.text(_MARGIN, _MARGIN + 16, text, size=10, colour=QUIET)
    for place, mistake in enumerate(mistakes):
        row, column = divmod(place, columns)
        left, top = _MARGIN + column * pitch[0], _HEAD + row * pitch[1]
        _photo(canvas, mistake, left, top, decoding)
        below = top + _MISTAKE_SIDE + 5
        lines = (
            ("answer", mistake.predicted, mistake.score, RED),
            ("label", mistake.label, mistake.label_score, TEXT),
        )
        for line, (word, index, score, colour) in enumerate(lines):
            number = f"{score:.4g}" if evaluation.activation == "none" else f"{score:.1%}"
            base = below + 10 + 15 * line
            canvas.text(left, base, word, size=10, colour=QUIET, anchor="ls")
            name = evaluation.classes[index]
            room = _MISTAKE_SIDE - 84
            canvas.text(left + 38, base, name, colour=colour, anchor="ls", width=room)
            canvas.text(left + _MISTAKE_SIDE, base, number, colour=colour, anchor="rs")
        canvas.text(left, below + 31, _name_of(mistake), size=9, colour=QUIET, width=_MISTAKE_SIDE)
    return canvas.image


def batch_mosaic(
    x: NDArray[np.float32],
    labels: NDArray[Any],
    classes: Sequence[str],
    *,
    mean: Sequence[float],
    std: Sequence[float],
    most: int = 32,
) -> Image.Image:
    """Draw a training batch as the network sees it, with the labels below.

    Args:
        x: float32 `[n, height, width, channels]`, normalised.
        labels: `[n]`, the indices of the classes; or soft labels `[n, classes]`, of which the
            largest two shares are written.
        classes: the names of the classes, by index.
        mean: `[channels]`, what was subtracted from values between 0 and 1.
        std: `[channels]`, what they were then divided by.
        most: the number of images, at most.

    Returns:
        An RGB image. One channel is grey; of two or of more than three the first one is shown.

    Raises:
        TypeError, ValueError: arrays of other shapes, or labels out of range.
    """
    most = arguments.count("most", most)
    if not isinstance(x, np.ndarray) or x.ndim != 4 or 0 in x.shape:
        raise ValueError(
            "a batch must be float32 [n, height, width, channels], with at least one image; got "
            f"{list(np.shape(x))}"
        )
    if not len(mean) == len(std) == x.shape[3]:
        raise ValueError(
            f"mean and std must have {x.shape[3]} values, one for each channel; got {len(mean)} "
            f"and {len(std)}"
        )
    names = label_texts(labels, len(x), classes)
    tiles = [_tile(image) for image in as_pixels(x[:most], mean, std)]
    width, height = (side / SCALE for side in tiles[0].size)
    columns = min(_BATCH_COLUMNS, max(len(tiles), 2))
    rows = -(-len(tiles) // columns)
    pitch = (width + _GAP, height + _BATCH_CAPTION + _GAP)
    canvas = Canvas(
        2 * _MARGIN + columns * pitch[0] - _GAP, _HEAD + rows * pitch[1] - _GAP + _MARGIN
    )
    canvas.text(_MARGIN, _MARGIN - 6, "A batch as the network sees it", size=15)
    text = f"{x.shape[2]} x {x.shape[1]} pixels"
    if len(tiles) < len(x):
        text += f"; the first {len(tiles)} of {len(x)} images"
    canvas.text(_MARGIN, _MARGIN + 16, text, size=10, colour=QUIET)
    for place, (tile, name) in enumerate(zip(tiles, names, strict=False)):
        row, column = divmod(place, columns)
        left, top = _MARGIN + column * pitch[0], _HEAD + row * pitch[1]
        canvas.paste(tile, left, top)
        canvas.text(left + width / 2, top + height + 4, name, anchor="ma", width=width)
    return canvas.image


def as_pixels(
    x: NDArray[np.float32], mean: Sequence[float], std: Sequence[float]
) -> NDArray[np.uint8]:
    """Undo the normalisation: `[n, height, width, 3]`, or `[n, height, width]` for grey."""
    values = (x.astype(np.float64) * np.asarray(std) + np.asarray(mean)) * 255
    pixels: NDArray[np.uint8] = np.nan_to_num(values).clip(0, 255).round().astype(np.uint8)
    return pixels if x.shape[3] == 3 else pixels[..., 0]


def label_texts(labels: NDArray[Any], count: int, classes: Sequence[str]) -> list[str]:
    """Write the label of each image: a name, or for soft labels up to two with their shares.

    Raises:
        TypeError: no numbers.
        ValueError: another shape, or a label out of range.
    """
    array = np.asarray(labels)
    if array.shape == (count, len(classes)) and array.dtype.kind == "f":
        return [_soft(row, classes) for row in array]
    if array.shape != (count,):
        raise ValueError(
            f"labels must be [{count}] or soft labels [{count}, {len(classes)}]; got "
            f"{list(array.shape)}"
        )
    if array.dtype.kind not in "iu":
        raise TypeError(f"labels must be integers, the indices of classes; got {array.dtype}")
    if array.size and not 0 <= array.min() <= array.max() < len(classes):
        raise ValueError(
            f"labels must be from 0 to {len(classes) - 1}; got {array.min()} to {array.max()}"
        )
    return [classes[index] for index in array.tolist()]


def _soft(shares: NDArray[Any], classes: Sequence[str]) -> str:
    order = np.argsort(-shares, kind="stable")
    best, second = order[0], order[min(1, len(order) - 1)]
    # Label smoothing gives all other classes one small share; only mixed images have a second one.
    smoothed = shares[second] <= 1.5 * shares.min() and (len(order) > 2 or shares[second] < 0.1)
    if len(order) < 2 or shares[second] < _LEAST_SHARE or smoothed:
        return str(classes[best])
    return f"{classes[best]} {shares[best]:.0%}, {classes[second]} {shares[second]:.0%}"


def _tile(image: NDArray[np.uint8]) -> Image.Image:
    """Make a large image smaller, and enlarge a small one by a whole factor: its pixels show."""
    from PIL import Image

    picture = Image.fromarray(image)
    longer, room = max(picture.size), pixels(_BATCH_SIDE)
    if longer <= room:
        factor = room // longer
        size = (picture.width * factor, picture.height * factor)
        return picture.resize(size, Image.Resampling.NEAREST).convert("RGB")
    return _fitted(picture, room, Image.Resampling.LANCZOS).convert("RGB")


def _photo(canvas: Canvas, mistake: Mistake, left: float, top: float, decoding: Decoding) -> None:
    """Draw a whole photo into its square, on a pale ground."""
    from PIL import Image

    canvas.box(left, top, _MISTAKE_SIDE, _MISTAKE_SIDE, fill=PALE)
    try:
        picture = open_as_rgb(mistake.image, decoding)
    except (OSError, ValueError, TypeError):
        middle = left + _MISTAKE_SIDE / 2, top + _MISTAKE_SIDE / 2
        canvas.text(*middle, "cannot be shown", size=10, colour=QUIET, anchor="mm")
        return
    room = pixels(_MISTAKE_SIDE)
    picture = _fitted(picture, room, Image.Resampling.BICUBIC)
    across, down = room - picture.width, room - picture.height
    canvas.paste(picture, left + across / 2 / SCALE, top + down / 2 / SCALE)


def _fitted(picture: Image.Image, room: int, filter_: Image.Resampling) -> Image.Image:
    """Resize a picture so that its longer side is `room` pixels long."""
    longer = max(picture.size)
    width, height = (max(1, round(side * room / longer)) for side in picture.size)
    return picture.resize((width, height), filter_)


def _name_of(mistake: Mistake) -> str:
    if isinstance(mistake.image, (str, os.PathLike)):
        name = os.path.basename(os.fsdecode(mistake.image))
        return name.encode("utf-8", "replace").decode("utf-8")
    return f"image {mistake.index}"

"""The confusion matrix as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...terminal.tables import plural
from ..figures import Figures
from .canvas import BLUE, LINE, QUIET, RED, SCALE, TEXT, WHITE, Canvas, mix, text_width

if TYPE_CHECKING:
    from PIL import Image

_MARGIN = 24.0
_HEAD = 62.0
# The side of the matrix if there are many classes, and the largest side of a cell.
_SIDE = 760.0
_LARGEST_CELL = 46.0
# The smallest cells with a number, with lines between them, and with a name for each.
_NUMBER_CELL = 19.0
_LINE_CELL = 8.0
_NAME_CELL = 12.0
_NAME_WIDTH = 130.0
_BAR = 12.0
_BAR_TICKS = (0.0, 0.25, 0.5, 1.0)
# The strength of the palest colour of a cell that is not empty; cells of few pixels need a stronger
# one.
_PALEST, _PALEST_SMALL = 0.16, 0.5
_SMALL_CELL = 4.0


def confusion_matrix(evaluation: Figures) -> Image.Image:
    """Draw the confusion matrix: a row for each label, a column for each answer.

    A cell's colour is its share of the row's images: blue for right answers, red for wrong ones.
    Classes that are neither a label nor an answer are left out. Cells have the number of images if
    there is room; of very many classes only some have their names.

    Args:
        evaluation: an `Evaluation`.

    Returns:
        An RGB image.
    """
    chosen = evaluation.occurring
    counts = evaluation.confusion[np.ix_(chosen, chosen)]
    names = [evaluation.classes[index] for index in chosen.tolist()]
    number = len(names)
    cell = min(_LARGEST_CELL, max(_SIDE / number, 1.0))
    # Whole pixels, so that all cells are equal.
    cell = int(cell * SCALE) / SCALE
    side = cell * number
    size = min(11.0, max(7.0, cell * 0.8))
    step = _name_step(number, cell)
    wide = min(_NAME_WIDTH, max(text_width(name, size) for name in names[::step]))
    turned = wide > cell * step - 4
    above = wide if turned else size
    left = _MARGIN + 22 + wide + 6
    top = _HEAD + 22 + above + 8
    canvas = Canvas(max(left + side + 92, _MARGIN * 2 + 330), max(top + side, top + 100) + _MARGIN)
    _head(canvas, evaluation, number)

    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    palest = _PALEST if cell >= _SMALL_CELL else _PALEST_SMALL
    strengths = _strength(shares, palest)
    canvas.paste(_cells(strengths, round(cell * SCALE)), left, top)
    if cell >= _LINE_CELL:
        for place in range(1, number):
            canvas.box(left + place * cell, top, 1 / SCALE, side, fill=mix(LINE, 0.6))
            canvas.box(left, top + place * cell, side, 1 / SCALE, fill=mix(LINE, 0.6))
    canvas.box(left - 0.5, top - 0.5, side + 1, side + 1, outline=QUIET)
    if cell >= _NUMBER_CELL:
        _numbers(canvas, counts, strengths, left, top, cell)

    canvas.turned(_MARGIN + 8, top + side / 2 + 14, "label", size=11, colour=QUIET)
    canvas.text(left + side / 2, _HEAD + 10, "answer", size=11, colour=QUIET, anchor="mm")
    for place in range(0, number, step):
        middle = (place + 0.5) * cell
        canvas.text(left - 6, top + middle, names[place], size=size, anchor="rm", width=wide)
        if turned:
            canvas.turned(left + middle, top - 6, names[place], size=size, width=wide)
        else:
            canvas.text(left + middle, top - 6, names[place], size=size, anchor="ms")
        if step > 1:
            canvas.box(left - 4, top + middle, 3.5, 1 / SCALE, fill=QUIET)
            canvas.box(left + middle, top - 4, 1 / SCALE, 3.5, fill=QUIET)
    _legend(canvas, left + side + 22, top, min(max(side, 100.0), 220.0), palest)
    return canvas.image


def _head(canvas: Canvas, evaluation: Figures, shown: int) -> None:
    one = evaluation
    title = f"{one.top1:.2%} right: {one.correct} of {plural(one.count, 'image')}"
    canvas.text(_MARGIN, _MARGIN - 4, title, size=15)
    text = "colours: share of a row's images"
    if absent := len(one.classes) - shown:
        text += f"; {plural(absent, 'class', 'classes')} without images left out"
    canvas.text(_MARGIN, _MARGIN + 19, text, size=10, colour=QUIET)


def _name_step(number: int, cell: float) -> int:
    """Of how many classes one has its name: 1, 2, 5, 10, ..."""
    step, power = 1, 1
    while step * cell < _NAME_CELL and step < number:
        for factor in (1, 2, 5):
            step = factor * power
            if step * cell >= _NAME_CELL:
                break
        power *= 10
    return step


def _strength(shares: NDArray[np.float64], palest: float) -> NDArray[np.float64]:
    """The strength of a colour: rare mistakes must not be as pale as none at all."""
    return np.where(shares > 0, palest + (1 - palest) * np.sqrt(shares), 0.0)


def _cells(strengths: NDArray[np.float64], side: int) -> Image.Image:
    """Colour the cells, each a square of `side` pixels."""
    from PIL import Image

    right = np.eye(len(strengths), dtype=bool)[..., None]
    full = np.where(right, np.array(BLUE), np.array(RED))
    colours = 255 + (full - 255) * strengths[..., None]
    picture = Image.fromarray(colours.round().astype(np.uint8))
    return picture.resize((len(strengths) * side,) * 2, Image.Resampling.NEAREST)


def _numbers(
    canvas: Canvas,
    counts: NDArray[np.int64],
    strengths: NDArray[np.float64],
    left: float,
    top: float,
    cell: float,
) -> None:
    longest = len(str(counts.max()))
    size = min(13.0, cell * 0.5, cell * 1.5 / longest)
    dark = strengths > 0.6
    for row, column in np.argwhere(counts > 0).tolist():
        canvas.text(
            left + (column + 0.5) * cell,
            top + (row + 0.5) * cell,
            str(counts[row, column]),
            size=size,
            colour=WHITE if dark[row, column] else TEXT,
            anchor="mm",
        )


def _legend(canvas: Canvas, left: float, top: float, high: float, palest: float) -> None:
    """Draw the two scales of colours, with the largest share at the top."""
    for place, (colour, name) in enumerate(((BLUE, "right"), (RED, "wrong"))):
        start = left + place * (_BAR + 2)
        strengths = _strength(np.linspace(1, 0, int(high * SCALE)), palest)
        for row, strength in enumerate(strengths.tolist()):
            canvas.box(start, top + row / SCALE, _BAR, 1 / SCALE, fill=mix(colour, strength))
        canvas.box(start, top, _BAR, high, outline=LINE)
        canvas.turned(start + _BAR / 2, top - 6, name, size=9, colour=colour)
    for share in _BAR_TICKS:
        at = top + (1 - share) * (high - 0.5)
        canvas.text(left + 2 * _BAR + 7, at, f"{share:.0%}", size=9, colour=QUIET, anchor="lm")

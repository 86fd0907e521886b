"""Learning curves: loss, accuracy and learning rate over the epochs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from .canvas import LINE, QUIET, SCALE, TEXT, Canvas, Colour, mix, text_width
from .ticks import Axis, linear, logarithmic

if TYPE_CHECKING:
    from PIL import Image

Rows: TypeAlias = "Sequence[Mapping[str, int | float | None]]"
# Epochs and values.
Points: TypeAlias = "list[tuple[float, float]]"

TRAIN: Colour = (20, 104, 178)
VAL: Colour = (217, 72, 15)
RATE: Colour = (43, 138, 62)

_MARGIN = 24.0
_HEAD = 52.0
_WIDE, _HIGH = 330.0, 220.0
_GAP = 30.0
_TITLE = 30.0
_BELOW = 36.0
# A loss whose values differ by more than this factor has a logarithmic axis.
_LOG_RATIO = 30.0


@dataclass(frozen=True)
class _Panel:
    """One plot: its title, and the column, name and colour of each curve."""

    title: str
    curves: tuple[tuple[str, str, Colour], ...]
    percent: bool = False


_PANELS = (
    _Panel("loss", (("train_loss", "train", TRAIN), ("val_loss", "val", VAL))),
    _Panel(
        "accuracy",
        (("train_accuracy", "train", TRAIN), ("val_accuracy", "val", VAL)),
        percent=True,
    ),
    _Panel("learning rate", (("learning_rate", "", RATE),)),
)


def learning_curves(rows: Rows) -> Image.Image:
    """Draw the learning curves of a training.

    Args:
        rows: a row for each epoch, as `read_history` gives them, with some of the columns `epoch`,
            `train_loss`, `val_loss`, `train_accuracy`, `val_accuracy` (shares) and
            `learning_rate`. Values that are missing or not finite are gaps. A plot whose columns
            are all missing is left out.

    Returns:
        An RGB image.

    Raises:
        ValueError: there is nothing to draw: no row, or none of the columns.
    """
    panels = [panel for panel in _PANELS if any(_points(rows, one[0]) for one in panel.curves)]
    if not panels:
        raise ValueError(
            "there are no learning curves: expected rows with an epoch and some of train_loss, "
            "val_loss, train_accuracy, val_accuracy and learning_rate"
        )
    values = [_value_axis(panel, rows) for panel in panels]
    # Room for the labels of the ticks.
    rooms = [
        max(text_width(label, 9) for label in axis.labels(percent=panel.percent)) + 8
        for panel, axis in zip(panels, values, strict=True)
    ]
    epochs = linear(_epochs(rows), most=7, whole=True, snug=True)
    width = 2 * _MARGIN + sum(rooms) + len(panels) * _WIDE + (len(panels) - 1) * _GAP
    canvas = Canvas(width, _HEAD + _TITLE + _HIGH + _BELOW + 8)
    canvas.text(_MARGIN, _MARGIN - 6, _summary(rows), size=15)
    left = _MARGIN
    for panel, axis, room in zip(panels, values, rooms, strict=True):
        left += room
        _draw(canvas, panel, rows, epochs, axis, left)
        left += _WIDE + _GAP
    return canvas.image


def _draw(canvas: Canvas, panel: _Panel, rows: Rows, epochs: Axis, axis: Axis, left: float) -> None:
    top = _HEAD + _TITLE
    title = f"{panel.title}, logarithmic" if axis.log else panel.title
    canvas.text(left, _HEAD + 6, title, size=12)
    for tick, label in zip(axis.ticks, axis.labels(percent=panel.percent), strict=True):
        place = top + _HIGH * (1 - axis.place(tick))
        canvas.box(left, place, _WIDE, 1 / SCALE, fill=mix(LINE, 0.6))
        canvas.text(left - 6, place, label, size=9, colour=QUIET, anchor="rm")
    for tick, label in zip(epochs.ticks, epochs.labels(), strict=True):
        place = left + _WIDE * epochs.place(tick)
        canvas.box(place, top + _HIGH, 1 / SCALE, 4, fill=QUIET)
        canvas.text(place, top + _HIGH + 7, label, size=9, colour=QUIET, anchor="ma")
    canvas.box(left, top + _HIGH, _WIDE, 1 / SCALE, fill=QUIET)
    canvas.text(left + _WIDE / 2, top + _HIGH + 21, "epoch", size=10, colour=QUIET, anchor="ma")
    end = left + _WIDE
    for column, name, colour in reversed(panel.curves):
        if not _points(rows, column):
            continue
        runs = [
            [(left + _WIDE * epochs.place(x), top + _HIGH * (1 - axis.place(y))) for x, y in run]
            for run in _runs(rows, column)
        ]
        canvas.lines(runs, colour)
        if name:
            canvas.text(end, _HEAD + 13, name, size=10, colour=TEXT, anchor="rm")
            end -= text_width(name, 10) + 6
            canvas.lines([[(end - 16, _HEAD + 13), (end, _HEAD + 13)]], colour, 2)
            end -= 30


def _value_axis(panel: _Panel, rows: Rows) -> Axis:
    values = [y for column, _, _ in panel.curves for _, y in _points(rows, column)]
    low, high = min(values), max(values)
    if panel.title == "loss" and low > 0 and high / low > _LOG_RATIO:
        return logarithmic(values)
    if panel.title == "learning rate":
        values = [*values, 0.0]
    return linear(values)


def _epochs(rows: Rows) -> list[float]:
    return [float(row["epoch"]) for row in rows if row.get("epoch") is not None]  # type: ignore[arg-type]


def _points(rows: Rows, column: str) -> Points:
    """The epochs and finite values of a column."""
    return [point for run in _runs(rows, column) for point in run]


def _runs(rows: Rows, column: str) -> list[Points]:
    """The points of a column, in pieces between gaps."""
    runs: list[Points] = [[]]
    for row in rows:
        epoch, value = row.get("epoch"), row.get(column)
        if epoch is None:
            continue
        if value is None or not math.isfinite(value):
            runs.append([])
        else:
            runs[-1].append((float(epoch), float(value)))
    return [run for run in runs if run]


def _summary(rows: Rows) -> str:
    """The title: the best epoch, if the accuracy is known."""
    accuracies = _points(rows, "val_accuracy")
    last = _epochs(rows)[-1]
    if not accuracies:
        return f"Epoch {last:g}"
    epoch, best = max(accuracies, key=lambda point: (point[1], -point[0]))
    return f"Best accuracy on val {best:.2%}, in epoch {epoch:g} of {last:g}"

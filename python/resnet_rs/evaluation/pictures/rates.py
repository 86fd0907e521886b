"""The losses of a sweep over learning rates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .canvas import BLUE, LINE, QUIET, RED, SCALE, Canvas, mix, text_width
from .ticks import linear, logarithmic

if TYPE_CHECKING:
    from PIL import Image

_MARGIN = 24.0
_HEAD = 52.0
_WIDE, _HIGH = 420.0, 240.0
_BELOW = 44.0
# Losses above so many times the first one are cut off: one at the end would hide all others.
_TALLEST = 1.5


def rate_curve(
    rates: Sequence[float],
    losses: Sequence[float],
    smoothed: Sequence[float],
    suggestion: float | None,
) -> Image.Image:
    """Draw losses over learning rates, on a logarithmic axis.

    Args:
        rates: the learning rates, rising.
        losses: the loss at each of them.
        smoothed: the running mean of the losses.
        suggestion: the rate to mark; None for none.

    Returns:
        An RGB image.

    Raises:
        ValueError: fewer than two rates, or another number of losses.
    """
    if len(rates) < 2 or not len(rates) == len(losses) == len(smoothed):
        raise ValueError(
            f"expected two learning rates or more, with a loss for each; got {len(rates)}, "
            f"{len(losses)} and {len(smoothed)}"
        )
    top_loss = max(_TALLEST * smoothed[0], min(smoothed) * 1.01)
    across = logarithmic(list(rates))
    up = linear([min([*smoothed, *losses]), min(top_loss, max([*losses, *smoothed]))])
    room = max(text_width(label, 9) for label in up.labels()) + 8
    canvas = Canvas(2 * _MARGIN + room + _WIDE, _HEAD + _HIGH + _BELOW + 8)
    title = "No learning rate" if suggestion is None else f"Learning rate {suggestion:.2g}"
    canvas.text(_MARGIN, _MARGIN - 6, title, size=15)
    left, top = _MARGIN + room, _HEAD
    for tick, label in zip(up.ticks, up.labels(), strict=True):
        place = top + _HIGH * (1 - up.place(tick))
        canvas.box(left, place, _WIDE, 1 / SCALE, fill=mix(LINE, 0.6))
        canvas.text(left - 6, place, label, size=9, colour=QUIET, anchor="rm")
    for tick, label in zip(across.ticks, across.labels(), strict=True):
        place = left + _WIDE * across.place(tick)
        canvas.box(place, top + _HIGH, 1 / SCALE, 4, fill=QUIET)
        canvas.text(place, top + _HIGH + 7, label, size=9, colour=QUIET, anchor="ma")
    canvas.box(left, top + _HIGH, _WIDE, 1 / SCALE, fill=QUIET)
    names = "learning rate, logarithmic; loss of each step and smoothed"
    canvas.text(left + _WIDE / 2, top + _HIGH + 24, names, size=10, colour=QUIET, anchor="ma")
    if suggestion is not None and across.low <= suggestion <= across.high:
        place = left + _WIDE * across.place(suggestion)
        canvas.box(place, top, 2 / SCALE, _HIGH, fill=RED)
    for values, colour, width in ((losses, mix(BLUE, 0.35), 1.0), (smoothed, BLUE, 2.0)):
        points = [
            (
                left + _WIDE * across.place(rate),
                top + _HIGH * (1 - min(1.0, up.place(min(value, up.high)))),
            )
            for rate, value in zip(rates, values, strict=True)
            if math.isfinite(value)
        ]
        canvas.lines([points], colour, width)
    return canvas.image

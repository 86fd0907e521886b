"""Curves of several networks beside each other, drawn with Pillow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image

from resnet_rs.evaluation.pictures.canvas import LINE, QUIET, SCALE, Canvas, mix
from resnet_rs.evaluation.pictures.ticks import linear, logarithmic

COLOURS = (
    (224, 130, 110),
    (180, 30, 10),
    (120, 170, 220),
    (10, 80, 160),
    (43, 138, 62),
    (130, 90, 180),
)

_WIDE, _HIGH = 330.0, 220.0
_LEFT, _TOP, _BELOW = 58.0, 54.0, 60.0


@dataclass(frozen=True)
class Panel:
    """One plot.

    Attributes:
        title: above it.
        below: the name of the horizontal axis, which has whole numbers.
        curves: points by name, the same names in all panels.
        percent: the values are shares.
        log: the vertical axis is logarithmic.
    """

    title: str
    below: str
    curves: Mapping[str, Sequence[tuple[float, float]]]
    percent: bool = False
    log: bool = False


def draw(panels: Sequence[Panel]) -> Image.Image:
    """Draw panels side by side, with the names of the curves below."""
    canvas = Canvas(len(panels) * (_LEFT + _WIDE) + 24, _TOP + _HIGH + _BELOW)
    for number, panel in enumerate(panels):
        _draw(canvas, panel, _LEFT + number * (_LEFT + _WIDE))
    for number, name in enumerate(panels[0].curves):
        x, y = _LEFT + 84 * number, _TOP + _HIGH + 48
        canvas.lines([[(x, y), (x + 18, y)]], COLOURS[number], 2)
        canvas.text(x + 24, y, name, size=10, anchor="lm")
    return canvas.image


def _draw(canvas: Canvas, panel: Panel, left: float) -> None:
    points = [point for curve in panel.curves.values() for point in curve]
    across = linear([x for x, _ in points], most=8, whole=True, snug=True)
    values = [y for _, y in points if y > 0 or not panel.log]
    up = logarithmic(values) if panel.log else linear(values)
    canvas.text(left, _TOP - 28, panel.title, size=12)
    for tick, label in zip(up.ticks, up.labels(percent=panel.percent), strict=True):
        y = _TOP + _HIGH * (1 - up.place(tick))
        canvas.box(left, y, _WIDE, 1 / SCALE, fill=mix(LINE, 0.6))
        canvas.text(left - 6, y, label, size=9, colour=QUIET, anchor="rm")
    for tick, label in zip(across.ticks, across.labels(), strict=True):
        x = left + _WIDE * across.place(tick)
        canvas.text(x, _TOP + _HIGH + 6, label, size=9, colour=QUIET, anchor="ma")
    canvas.text(
        left + _WIDE / 2, _TOP + _HIGH + 20, panel.below, size=10, colour=QUIET, anchor="ma"
    )
    for curve, colour in zip(panel.curves.values(), COLOURS, strict=False):
        places = [
            (left + _WIDE * across.place(x), _TOP + _HIGH * (1 - up.place(y)))
            for x, y in curve
            if y > 0 or not panel.log
        ]
        canvas.lines([places], colour)

"""Axes: round numbers for ticks, and from values to places."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

# Round steps within a power of ten.
_STEPS = (1.0, 2.0, 5.0, 10.0)
_LOG_STEPS = (1.0, 2.0, 5.0)
# The fewest ticks within the data of a logarithmic axis before steps of 2 and 5 are left out.
_MANY_DECADES = 3


@dataclass(frozen=True)
class Axis:
    """One axis: its ends and ticks.

    Attributes:
        low: the value at its start.
        high: the value at its end, above `low`.
        ticks: the values with a label, in order.
        log: True if equal distances are equal ratios.
    """

    low: float
    high: float
    ticks: tuple[float, ...]
    log: bool = False

    def place(self, value: float) -> float:
        """The place of a value: 0 at the start and 1 at the end."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def labels(self, *, percent: bool = False) -> list[str]:
        """Write the ticks, all with as many decimals as they need.

        Args:
            percent: write shares in percent.
        """
        values = [value * 100 for value in self.ticks] if percent else list(self.ticks)
        if self.log:
            return [f"{value:g}" for value in values]
        step = min((b - a for a, b in itertools.pairwise(values)), default=1.0)
        largest = max(map(abs, values), default=0.0)
        if largest and not 1e-3 <= largest < 1e6:
            return ["0" if value == 0 else f"{value:.6g}" for value in values]
        decimals = max(0, -math.floor(math.log10(step) + 1e-9))
        sign = "%" if percent else ""
        return [f"{value:.{decimals}f}{sign}" for value in values]


def linear(
    values: Sequence[float], *, most: int = 6, whole: bool = False, snug: bool = False
) -> Axis:
    """Make an axis whose ticks are round numbers.

    Args:
        values: the values to show, at least one.
        most: the number of ticks, at most.
        whole: ticks are whole numbers.
        snug: the axis ends with the values, instead of with ticks.
    """
    low, high = min(values), max(values)
    if low == high:
        # A single value stands in the middle of something around it.
        around = 0.5 if whole else abs(low) / 2
        low, high = (low - around, high + around) if around else (0.0, 1.0)
    step = _round_step((high - low) / (most - 1))
    if whole:
        step = max(1.0, step)
    first, last = _outside(low, high, step)
    while last - first >= most and not snug:
        # The ends are rounded outwards, which may make one tick too many.
        step = _round_step(step * 1.5)
        first, last = _outside(low, high, step)
    if snug:
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    ticks = tuple(round(index * step, 12) for index in range(first, last + 1))
    return Axis(low, high, ticks) if snug else Axis(ticks[0], ticks[-1], ticks)


def logarithmic(values: Sequence[float]) -> Axis:
    """Make an axis for positive values of very different size."""
    low, high = min(values), max(values)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1.0,) if len(decades) > _MANY_DECADES + 1 else _LOG_STEPS
    ticks = tuple(
        value
        for decade in decades
        for step in steps
        if low / 1.0001 <= (value := step * 10.0**decade) <= high * 1.0001
    )
    return Axis(low / 1.05, high * 1.05, ticks, log=True)


def _outside(low: float, high: float, step: float) -> tuple[int, int]:
    """The last multiple of `step` up to `low`, and the first one from `high` on."""
    return math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)


def _round_step(least: float) -> float:
    """The smallest round number from `least` up."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(step * power for step in _STEPS if step * power >= least * (1 - 1e-9))

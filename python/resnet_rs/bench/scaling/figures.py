"""Figures from the times at which calls began and ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from .settings import Setting

Call: TypeAlias = "tuple[float, float]"
"""The start and the end of one call, in seconds of a clock that all callers share."""

Turn: TypeAlias = "Sequence[Sequence[Call]]"
"""The calls of each caller while all of them run side by side."""


@dataclass(frozen=True, slots=True)
class Row:
    """A setting with its figures.

    Attributes:
        setting: the measured setting.
        calls: the number of timed calls.
        images_per_second: the images that all callers together finish in a second, the median over
            the rounds.
        p50_ms: the median of the calls' milliseconds, for the whole batch.
        p99_ms: the 99th percentile of the calls' milliseconds.
        spread: the difference between the best and the worst round's images a second, divided by
            their median.
    """

    setting: Setting
    calls: int
    images_per_second: float
    p50_ms: float
    p99_ms: float
    spread: float

    def as_dict(self) -> dict[str, Any]:
        """Return the setting's fields and the figures by name."""
        return {
            "processes": self.setting.processes,
            "callers": self.setting.callers,
            "threads": self.setting.threads,
            "batch": self.setting.batch,
            "calls": self.calls,
            "images_per_second": self.images_per_second,
            "p50_ms": self.p50_ms,
            "p99_ms": self.p99_ms,
            "spread": self.spread,
        }


def row_of(setting: Setting, turns: Sequence[Turn]) -> Row:
    """Sum up the turns of a setting.

    Args:
        setting: the measured setting.
        turns: a turn for each round; every caller has at least one call in it.
    """
    ms = [(end - start) * 1e3 for turn in turns for calls in turn for start, end in calls]
    p50, p99 = (float(p) for p in np.percentile(ms, (50, 99)))
    rates = [calls_per_second(turn, takes_turns=setting.takes_turns) for turn in turns]
    rate = float(np.median(rates))
    return Row(
        setting=setting,
        calls=len(ms),
        images_per_second=rate * setting.batch,
        p50_ms=p50,
        p99_ms=p99,
        spread=(max(rates) - min(rates)) / rate,
    )


def calls_per_second(turn: Turn, *, takes_turns: bool = False) -> float:
    """The rate of all callers together.

    Args:
        turn: the calls of each caller.
        takes_turns: True if only one of the callers computes at a time. Then it is the number of
            calls by the time of all of them. Otherwise it is the rate while every caller is
            calling, and a call that is only partly in that time counts by its part: neither a
            caller that begins late nor one that still computes when the others have ended changes
            it. On a machine that is busy there may be no such time.
    """
    first = max(calls[0][0] for calls in turn)
    last = min(calls[-1][1] for calls in turn)
    if takes_turns or first >= last:
        starts = [start for calls in turn for start, _ in calls]
        ends = [end for calls in turn for _, end in calls]
        return len(ends) / (max(ends) - min(starts))
    done = sum(
        max(0.0, min(end, last) - max(start, first)) / (end - start)
        for calls in turn
        for start, end in calls
    )
    return done / (last - first)

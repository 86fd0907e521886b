"""Interleaved timing: every runtime runs in every round, in an order that changes."""

import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

PAUSE_S = 0.05
"""Before a runtime's turn: long enough for the threads of the one before to stop spinning."""

ORDER_SEED = 0


class Timed(Protocol):
    """Something with a name that runs when it is called."""

    name: str

    def __call__(self) -> Any:
        """Run once."""


@dataclass(frozen=True)
class Timing:
    """Seconds of one runtime's timed calls, a list for each round."""

    rounds: list[list[float]]

    @property
    def median_s(self) -> float:
        """The median over all calls."""
        return statistics.median(second for calls in self.rounds for second in calls)

    @property
    def min_s(self) -> float:
        """The fastest call."""
        return min(second for calls in self.rounds for second in calls)

    def ratio_to(self, other: "Timing") -> float:
        """The median over rounds of this round's median by the other's.

        Both sides of each ratio are from the same second or so: what slows the whole machine for
        a while slows both.
        """
        return statistics.median(
            statistics.median(ours) / statistics.median(theirs)
            for ours, theirs in zip(self.rounds, other.rounds, strict=True)
        )


def time_interleaved(runtimes: Sequence[Timed], rounds: int, calls: int) -> dict[str, Timing]:
    """Time loaded runtimes.

    Args:
        runtimes: loaded, names all different.
        rounds: how often each has a turn.
        calls: timed calls in a turn, after one that is not timed.

    Returns:
        Name to timing.
    """
    timings: dict[str, Timing] = {runtime.name: Timing([]) for runtime in runtimes}
    shuffler = random.Random(ORDER_SEED)
    for _ in range(rounds):
        for runtime in shuffler.sample(list(runtimes), len(runtimes)):
            time.sleep(PAUSE_S)
            runtime()
            timings[runtime.name].rounds.append([_seconds(runtime) for _ in range(calls)])
    return timings


def _seconds(runtime: Timed) -> float:
    start = time.perf_counter()
    runtime()
    return time.perf_counter() - start

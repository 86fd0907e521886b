"""Networks that are timed in turns, so that a slow phase of the machine slows all of them."""

from __future__ import annotations

from collections.abc import Sequence

from .._core import Network
from ..terminal.progress import Progress
from .run import FEWEST_CALLS, Pixels, seconds_of_call, warm_up

TURN_SECONDS = 0.1
"""The time of a network's timed calls in one round; at least one call is made."""


def time_in_turns(
    networks: Sequence[Network], x: Pixels, seconds: float, progress: Progress
) -> list[list[float]]:
    """Time calls of each network in turn, round after round.

    Args:
        networks: the networks, all in memory.
        x: the batch of every call.
        seconds: how long to time each of them; each is timed at least `FEWEST_CALLS` times.
        progress: where to show how far it is.

    Returns:
        The seconds of each call, network by network.
    """
    calls: list[list[float]] = [[] for _ in networks]
    for network in networks:
        progress.say("warming up ...")
        warm_up(network, x)
    while any(sum(timed) < seconds or len(timed) < FEWEST_CALLS for timed in calls):
        progress.say(f"measuring: {sum(map(sum, calls)):.0f} of {seconds * len(calls):.0f} s ...")
        for network, timed in zip(networks, calls, strict=True):
            # Not timed: this call brings the network's weights back into the caches.
            seconds_of_call(network, x)
            spent = 0.0
            while spent < TURN_SECONDS:
                timed.append(seconds_of_call(network, x))
                spent += timed[-1]
    return calls

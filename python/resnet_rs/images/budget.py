"""The pixels that are decoded at the same time, in all threads of the process: bounded.

A photo takes 4 bytes a pixel in Pillow while it is decoded and resized. With a large photo in each
of many threads that would be gigabytes. So a picture waits until there is room for it. Pictures
take their turns in order; one that is larger than the whole budget is decoded alone.
"""

from __future__ import annotations

import os
import threading
from collections import deque

from .._core import default_threads

_LEAST_PIXELS = 1 << 27
_PIXELS_OF_A_CPU = 1 << 25


def budget_pixels() -> int:
    """The pixels in flight at most: 2^27, or 2^25 for each CPU that the process may use."""
    return max(_LEAST_PIXELS, _PIXELS_OF_A_CPU * default_threads())


class Budget:
    """A number of pixels that threads share.

    Args:
        pixels: the number; None for `budget_pixels`, found with the first picture.
    """

    def __init__(self, pixels: int | None = None) -> None:
        self._pixels = pixels
        self._used = 0
        self._queue: deque[object] = deque()
        self._changed = threading.Condition(threading.Lock())

    def take(self, pixels: int) -> None:
        """Wait for room, and take it."""
        turn = object()
        with self._changed:
            if self._pixels is None:
                self._pixels = budget_pixels()
            limit = self._pixels
            self._queue.append(turn)
            try:
                self._changed.wait_for(
                    lambda: (
                        self._queue[0] is turn and (not self._used or self._used + pixels <= limit)
                    )
                )
                self._used += pixels
            finally:
                self._queue.remove(turn)
                self._changed.notify_all()

    def give(self, pixels: int) -> None:
        """Give room back."""
        with self._changed:
            self._used -= pixels
            self._changed.notify_all()


class Share:
    """The room that one picture has taken; leaving the `with` block gives it back.

    Args:
        budget: the budget to take from; None for that of the process.
    """

    def __init__(self, budget: Budget | None = None) -> None:
        self._budget = _budget if budget is None else budget
        self._pixels = 0

    def take(self, pixels: int) -> None:
        """Wait for the room that a picture needs, once."""
        if self._pixels:
            return
        self._pixels = pixels
        try:
            self._budget.take(pixels)
        except BaseException:
            self._pixels = 0
            raise

    def __enter__(self) -> Share:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pixels:
            self._budget.give(self._pixels)
            self._pixels = 0


_budget = Budget()


def _after_fork() -> None:
    """Start anew in a forked child: the threads that held room are in the parent."""
    global _budget
    _budget = Budget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

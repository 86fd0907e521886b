"""Ctrl-C during a training: noted at first, so that the step ends and is kept."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any


class Interrupt:
    """Notes the first Ctrl-C; the second one ends the program as usual.

    As a context manager it takes the place of the handler of SIGINT, in the main thread only: other
    threads get no signals, and the handler stays.

    Args:
        on_first: called at the first Ctrl-C, between two instructions of the main thread.

    Attributes:
        is_set: True once there was a Ctrl-C.
    """

    def __init__(self, on_first: Callable[[], None]) -> None:
        self.is_set = False
        self._before: Any = None
        self._is_ours = False
        self._on_first = on_first

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.getsignal(signal.SIGINT)
            # A program that ignores Ctrl-C, or has a handler of its own, keeps it.
            if self._before is signal.default_int_handler:
                signal.signal(signal.SIGINT, self._note)
                self._is_ours = True
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.is_set = True
        self._restore()
        # A stream refuses to be written to in the middle of a write to it.
        with contextlib.suppress(RuntimeError):
            self._on_first()

    def _restore(self) -> None:
        if self._is_ours:
            signal.signal(signal.SIGINT, self._before)
            self._is_ours = False

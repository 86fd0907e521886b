"""How far a download is, on one line of the terminal."""

from __future__ import annotations

import time

from ..progress import Progress

_BAR = 24
_EVERY_S = 0.1


class Meter:
    """`resnet50.pth  [######......]  52 %  51.0 of 97.8 MB  12.3 MB/s  4 s left`.

    Args:
        name: what is fetched.
        line: where to write; None writes nothing.
    """

    def __init__(self, name: str, line: Progress | None) -> None:
        self._name = name
        self._line = line
        self._done = 0
        self._total: int | None = None
        self._since = time.monotonic()
        self._from = 0
        self._shown = 0.0
        self.received = 0

    def start(self, done: int, total: int | None) -> None:
        """A connection begins: `done` bytes of `total` are there already; None is not known."""
        self._done = self._from = done
        self._total = total
        self._since = time.monotonic()

    def add(self, count: int) -> None:
        """`count` more bytes have come."""
        self._done += count
        self.received += count
        now = time.monotonic()
        if now - self._shown >= _EVERY_S:
            self._shown = now
            self.say(
                meter_text(self._done, self._total, self._done - self._from, now - self._since)
            )

    def say(self, text: str) -> None:
        """Show `text` behind the name."""
        if self._line is not None:
            self._line.say(f"{self._name}  {text}")


def meter_text(done: int, total: int | None, received: int, seconds: float) -> str:
    """What is shown of a download.

    Args:
        done: the bytes that are there.
        total: the file's length in bytes; None where it is not known.
        received: the bytes that this connection brought, for the rate.
        seconds: how long it took to bring them.
    """
    rate = received / seconds if seconds > 0 else 0.0
    speed = f"{rate / 1e6:.1f} MB/s"
    if not total:
        return f"{done / 1e6:.1f} MB  {speed}"
    share = done / total
    bar = "#" * int(share * _BAR)
    left = f"  {_duration((total - done) / rate)} left" if rate else ""
    return (
        f"[{bar:.<{_BAR}}]  {share:4.0%}  {done / 1e6:.1f} of {total / 1e6:.1f} MB  {speed}{left}"
    )


def _duration(seconds: float) -> str:
    """`9 s`, `2:05 min`, `1:30 h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}:{rest:02} min"
    return f"{minutes // 60}:{minutes % 60:02} h"

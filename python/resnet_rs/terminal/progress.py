"""Progress on the last line of a terminal."""

from __future__ import annotations

import shutil
import sys
import time
from collections import deque
from dataclasses import dataclass
from typing import TextIO

# The shortest time between two changes of the line: more changes would only flicker.
_REFRESH_SECONDS = 0.1
# The time over which the rate is averaged: the rate follows a change, and does not jump.
_RATE_SECONDS = 15.0
_BAR_COLUMNS = 24


class Progress:
    """A line on a terminal that each text replaces. Nothing is written to a file or a pipe.

    As a context manager it clears the line at the end.

    Args:
        stream: the stream to write to; by default stderr.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._on = self._stream.isatty()

    @property
    def is_on(self) -> bool:
        """True if texts are shown."""
        return self._on

    def turn_off(self) -> None:
        """Stop writing from now on."""
        self._on = False

    def say(self, text: str) -> None:
        """Replace the line with `text`."""
        if self._on:
            # Go back to the start of the line, and clear it to its end.
            self._stream.write(f"\r\x1b[K{text}")
            self._stream.flush()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.say("")


@dataclass(frozen=True)
class Unit:
    """The unit of the numbers that a `Meter` shows.

    Attributes:
        name: the name to show.
        size: the count that makes one unit, such as 10^6 bytes for a megabyte.
        digits: the number of digits after the point.
    """

    name: str
    size: float = 1.0
    digits: int = 0

    def text(self, amount: float) -> str:
        """Write a count in this unit, without the name."""
        return f"{amount / self.size:.{self.digits}f}"


IMAGES = Unit("images")
BYTES = Unit("MB", 1e6, 1)


class Meter:
    """The progress of counted work: a bar, the count, the rate and the time left.

        [########----------------]  312/1000 images  41.2 images/s  0:17 left  2 failed

    Args:
        progress: the line to write to.
        unit: the unit to show.
        name: the start of the line, such as a file's name.
        start: the count that was done before; the rate leaves it out.
    """

    def __init__(self, progress: Progress, unit: Unit, *, name: str = "", start: int = 0) -> None:
        self.advanced = False
        """True if anything was done since the meter was made."""
        self._progress = progress
        self._unit = unit
        self._name = name
        self._next = 0.0
        self.begin(start, None)

    @property
    def is_on(self) -> bool:
        """True if texts are shown."""
        return self._progress.is_on

    def begin(self, start: int, total: int | None) -> None:
        """Begin, or begin again, with `start` of `total` done; None is an unknown total."""
        self.total = total
        """The count of all work; None as long as it is not known."""
        self._start = start
        self._samples: deque[tuple[float, int]] = deque([(time.monotonic(), start)])

    def show(self, done: int, failed: int = 0) -> None:
        """Show the count, unless the line has changed a moment ago."""
        self.advanced |= done > self._start
        now = time.monotonic()
        if not self._progress.is_on or now < self._next:
            return
        self._next = now + _REFRESH_SECONDS
        self._samples.append((now, done))
        while len(self._samples) > 2 and now - self._samples[1][0] > _RATE_SECONDS:
            self._samples.popleft()
        since, before = self._samples[0]
        rate = (done - before) / max(now - since, 1e-9)
        self.say(meter_text(done, self.total, rate, failed, self._unit))

    def say(self, text: str) -> None:
        """Replace the line with `text`, after the name."""
        line = f"{self._name}  {text}" if self._name else text
        # One column stays free, because some terminals break a full line.
        self._progress.say(line[: shutil.get_terminal_size().columns - 1])


def meter_text(done: int, total: int | None, rate: float, failed: int, unit: Unit) -> str:
    """Write the line of a `Meter`; without a total it has no bar and no time left.

    Args:
        done: the count that is done, not in units but one by one.
        total: the count of all work; None if it is not known.
        rate: the count in a second.
        failed: how many of them failed.
        unit: the unit to show.
    """
    parts = [f"{unit.text(done)} {unit.name}"]
    if total:
        share = min(done / total, 1.0)
        filled = int(share * _BAR_COLUMNS)
        bar = "#" * filled + "-" * (_BAR_COLUMNS - filled)
        whole = unit.text(total)
        parts = [f"[{bar}]", f"{unit.text(done):>{len(whole)}}/{whole} {unit.name}"]
    parts.append(f"{rate / unit.size:.1f} {unit.name}/s")
    if total and rate > 0:
        parts.append(f"{duration_text((total - done) / rate)} left")
    if failed:
        parts.append(f"{failed} failed")
    return "  ".join(parts)


def duration_text(seconds: float) -> str:
    """Write seconds as `m:ss`, or as `h:mm:ss` from an hour up."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

"""What takes time, said on a terminal's last line."""

from __future__ import annotations

import shutil
import sys
import time
from collections import deque
from dataclasses import dataclass
from typing import TextIO

# How often the line changes at most, in seconds: more often is only flicker.
_REFRESH_SECONDS = 0.1
# Over how long the rate is averaged, in seconds: it follows a change, and does not jump.
_RATE_SECONDS = 15.0
_BAR_COLUMNS = 24


class Progress:
    """One line that is written over again and again, and nothing where nobody looks.

    As a context manager it clears the line at the end.

    Args:
        stream: where to write; by default stderr. Only a terminal is written to.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._on = self._stream.isatty()

    @property
    def is_on(self) -> bool:
        """Whether anybody looks."""
        return self._on

    def turn_off(self) -> None:
        """Write nothing from now on."""
        self._on = False

    def say(self, text: str) -> None:
        """Replace the line by `text`."""
        if self._on:
            # Back to the start of the line, and clear it to its end.
            self._stream.write(f"\r\x1b[K{text}")
            self._stream.flush()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.say("")


@dataclass(frozen=True)
class Unit:
    """What a `Meter` counts.

    Attributes:
        name: as it is shown.
        size: how much of what is counted makes one of it.
        digits: how many of a count are shown after the point.
    """

    name: str
    size: float = 1.0
    digits: int = 0

    def text(self, amount: float) -> str:
        """An amount, without the name."""
        return f"{amount / self.size:.{self.digits}f}"


IMAGES = Unit("images")
BYTES = Unit("MB", 1e6, 1)


class Meter:
    """How far counted work has come: a bar, the count, the rate and the time left.

        [########----------------]  312/1000 images  41.2 images/s  0:17 left  2 failed

    Args:
        progress: the line to write to.
        unit: what is counted.
        name: what the line starts with, such as a file's name.
        start: how much was done before; the rate leaves it out.
    """

    def __init__(self, progress: Progress, unit: Unit, *, name: str = "", start: int = 0) -> None:
        self.advanced = False
        """Whether anything was done since the meter was made."""
        self._progress = progress
        self._unit = unit
        self._name = name
        self._next = 0.0
        self.begin(start, None)

    @property
    def is_on(self) -> bool:
        """Whether anybody looks."""
        return self._progress.is_on

    def begin(self, start: int, total: int | None) -> None:
        """Begin, maybe anew, where `start` of `total` is done; None is not known."""
        self.total = total
        """How much there is to do; None as long as it is not known."""
        self._start = start
        self._samples: deque[tuple[float, int]] = deque([(time.monotonic(), start)])

    def show(self, done: int, failed: int = 0) -> None:
        """Say how much is done, unless that was said a moment ago."""
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
        """Replace the line by `text`, behind the name."""
        line = f"{self._name}  {text}" if self._name else text
        # One column less than there are, because some terminals break a line that is full.
        self._progress.say(line[: shutil.get_terminal_size().columns - 1])


def meter_text(done: int, total: int | None, rate: float, failed: int, unit: Unit) -> str:
    """The line of a `Meter`: without bar and time left where `total` is not known.

    `done` and `total` are counted singly, and so is `rate`, per second.
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
    """Seconds as `m:ss`, or `h:mm:ss` from an hour up."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

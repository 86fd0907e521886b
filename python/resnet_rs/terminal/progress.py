"""Progress of a long task on a terminal's last line.

The package shows it without an extra, which is why tqdm does not draw it; downloads need an extra
anyway, and their libraries use tqdm.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections import deque
from typing import TextIO

# How often the line changes at most, in seconds: more often is only flicker.
_REFRESH_SECONDS = 0.1
# The time over which the rate is averaged, in seconds: it follows a change without jumping.
_RATE_SECONDS = 15.0
_BAR_COLUMNS = 24


class Progress:
    """One line that is overwritten again and again; nothing if the stream is not a terminal.

    As a context manager it clears the line at the end.

    Args:
        stream: the stream to write to; by default stderr.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._on = self._stream.isatty()

    @property
    def is_on(self) -> bool:
        """True if the line is written at all."""
        return self._on

    def turn_off(self) -> None:
        """Stop writing from now on."""
        self._on = False

    def say(self, text: str) -> None:
        """Replace the line with `text`."""
        if self._on:
            # Back to the start of the line, and clear it to its end.
            self._stream.write(f"\r\x1b[K{text}")
            self._stream.flush()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.say("")


class Meter:
    """The progress of a count of images: a bar, the count, the rate and the time left.

        [########----------------]  312/1000 images  41.2 images/s  0:17 left  2 failed

    Args:
        progress: the line to write to.
        start: the number of images done before; the rate leaves them out.

    Attributes:
        total: the number of images; None as long as it is not known.
    """

    def __init__(self, progress: Progress, *, start: int = 0) -> None:
        self.total: int | None = None
        self._progress = progress
        self._next = 0.0
        self._samples: deque[tuple[float, int]] = deque([(time.monotonic(), start)])

    @property
    def is_on(self) -> bool:
        """True if the line is written at all."""
        return self._progress.is_on

    def show(self, done: int, failed: int = 0) -> None:
        """Write how many images are done, unless the line changed a moment ago."""
        now = time.monotonic()
        if not self._progress.is_on or now < self._next:
            return
        self._next = now + _REFRESH_SECONDS
        self._samples.append((now, done))
        while len(self._samples) > 2 and now - self._samples[1][0] > _RATE_SECONDS:
            self._samples.popleft()
        since, before = self._samples[0]
        rate = (done - before) / max(now - since, 1e-9)
        line = meter_text(done, self.total, rate, failed)
        # One column less than the terminal has, because some terminals break a line that is full.
        self._progress.say(line[: shutil.get_terminal_size().columns - 1])


def meter_text(done: int, total: int | None, rate: float, failed: int) -> str:
    """Write the line of a `Meter`, without bar and time left if `total` is not known.

    `rate` is in images per second.
    """
    parts = [f"{done} images"]
    if total:
        filled = int(min(done / total, 1.0) * _BAR_COLUMNS)
        bar = "#" * filled + "-" * (_BAR_COLUMNS - filled)
        parts = [f"[{bar}]", f"{done:>{len(str(total))}}/{total} images"]
    parts.append(f"{rate:.1f} images/s")
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

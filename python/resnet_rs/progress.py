"""What takes time, said on a terminal's last line."""

from __future__ import annotations

import sys
from typing import TextIO


class Progress:
    """One line that is written over again and again, and nothing where nobody looks.

    As a context manager it clears the line at the end.

    Args:
        stream: where to write; by default stderr. Only a terminal is written to.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._on = self._stream.isatty()

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

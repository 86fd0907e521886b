"""Results printed one after another, for eyes or for another program: nothing to resume."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import Any, BinaryIO, TextIO

from ...file_errors import names_file
from ...results import Result
from ...terminal.visible import visible
from .records import Format, as_record


class Printed:
    """The common part of the printers: counts, and no memory of earlier runs.

    Args:
        stream: the destination.
    """

    def __init__(self, stream: TextIO | BinaryIO) -> None:
        self.done = self.failed = 0
        self._owned = stream

    def __contains__(self, path: str) -> bool:
        return False

    def write(self, result: Result) -> None:
        """Print a result."""
        self.done += 1
        self.failed += result.error is not None

    def finish(self) -> None:
        """All results are printed."""

    def close(self) -> None:
        """Close the stream, unless it is the process's own."""
        if not self._is_standard():
            with self._named():
                self._owned.close()

    def _is_standard(self) -> bool:
        return self._owned in (sys.stdout, sys.stdout.buffer)

    def _named(self) -> contextlib.AbstractContextManager[Any]:
        """Name the file in errors of writing to it."""
        return contextlib.nullcontext() if self._is_standard() else names_file(self._owned.name)


class Text(Printed):
    """A paragraph for each image; an error is a line on stderr.

    Args:
        stream: the destination.
        percent: True if scores are probabilities, False if they are plain values.
    """

    def __init__(self, stream: TextIO, *, percent: bool = True) -> None:
        super().__init__(stream)
        self._stream = stream
        self._score = "7.2%" if percent else "9.4f"

    def write(self, result: Result) -> None:
        """Print a result."""
        super().write(result)
        if result.error is not None:
            print(f"resnet-rs: {visible(f'{result.path}: {result.reason}')}", file=sys.stderr)
            return
        lines = [str(result.path)]
        lines += [f"  {one.score:{self._score}}  {one.label}" for one in result.predictions or []]
        with self._named():
            print(*map(visible, lines), sep="\n", file=self._stream, flush=True)


class JsonArray(Printed):
    """One JSON array, one object on each line.

    Args:
        stream: the destination.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._stream = stream

    def write(self, result: Result) -> None:
        """Print a result."""
        before = ",\n" if self.done else "[\n"
        super().write(result)
        with self._named():
            print(before + json.dumps(as_record(result)), end="", file=self._stream, flush=True)

    def close(self) -> None:
        """End the array, so that it can be read however the run ended, and close the stream."""
        # If the reader has gone, an earlier write has reported it.
        with contextlib.suppress(OSError):
            print("\n]" if self.done else "[\n]", file=self._stream, flush=True)
        super().close()


class Records(Printed):
    """Records of one of the formats that files have.

    Args:
        stream: the destination.
        kind: the format.
    """

    def __init__(self, stream: BinaryIO, kind: Format) -> None:
        super().__init__(stream)
        self._stream, self._kind = stream, kind
        self._print(kind.header)

    def write(self, result: Result) -> None:
        """Print a result."""
        super().write(result)
        self._print(self._kind.encode(result))

    def _print(self, data: bytes) -> None:
        with self._named():
            self._stream.write(data)
            self._stream.flush()

"""Bytes that a reader takes piece by piece: of an open file, or of a part unpacked in memory.

A file may be truncated or rewritten while it is read. A memory map would then end the process with
SIGBUS; a read ends early, and the comparison at the end notices what was written in between.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from ..._core import WeightsError
from ...file_errors import names_file
from .files import require_regular

_BUFFER_BYTES = 1 << 16


class Source(Protocol):
    """Bytes by their places."""

    def __len__(self) -> int:
        """Count the bytes."""
        ...

    def read(self, begin: int, end: int) -> bytes:
        """A copy of the bytes from `begin` to before `end`, fewer beyond the last one."""
        ...

    def take(self, begin: int, end: int) -> memoryview:
        """Bytes that are kept, read-only: asked for again, the same memory is given.

        Raises:
            WeightsError: pieces overlap.
        """
        ...


class InputFile:
    """An open file. Use it in a `with` statement.

    Attributes:
        path: the path, for messages.

    Args:
        path: a regular file.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it cannot be opened.
        WeightsError: it is not a regular file.
    """

    def __init__(self, path: Path) -> None:
        # Before it is opened: opening a pipe would wait for its writer.
        require_regular(path)
        self.path = path
        self._file = io.BufferedReader(io.FileIO(path), _BUFFER_BYTES)
        self._state = _state(os.fstat(self._file.fileno()))
        self._size = self._state[0]
        self._taken: dict[tuple[int, int], memoryview] = {}
        self._left = self._size

    def __enter__(self) -> InputFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        # Pieces that are still in use stay with their users.
        self._taken.clear()

    def __len__(self) -> int:
        """Count the bytes that it had when it was opened."""
        return self._size

    def read(self, begin: int, end: int) -> bytes:
        """A copy of the bytes from `begin` to before `end`, fewer beyond the last one.

        Raises:
            OSError: they cannot be read.
            WeightsError: the file has become shorter. The message is without the path.
        """
        end = min(end, self._size)
        if begin >= end:
            return b""
        with names_file(self.path):
            self._file.seek(begin)
            content = self._file.read(end - begin)
        if len(content) < end - begin:
            raise self._shorter()
        return content

    def take(self, begin: int, end: int) -> memoryview:
        """Bytes that are kept until they are dropped or the file is closed.

        Asked for again, the same memory is given. So all pieces take no more memory than the file,
        even if it is damaged.

        Returns:
            Bytes in memory of their own, read-only, fewer beyond the last one.

        Raises:
            OSError: they cannot be read.
            WeightsError: the file has become shorter, or pieces overlap. The message is without
                the path.
        """
        end = min(end, self._size)
        begin = min(begin, end)
        if (begin, end) not in self._taken:
            if end - begin > self._left:
                raise WeightsError("parts of it overlap: it is damaged")
            self._left -= end - begin
            content = np.empty(end - begin, np.uint8).data
            with names_file(self.path):
                self._file.seek(begin)
                count = self._file.readinto(content)
            if count < end - begin:
                raise self._shorter()
            self._taken[begin, end] = content.toreadonly()
        return self._taken[begin, end]

    def drop(self, begin: int, end: int) -> None:
        """Forget a piece that was taken and is not asked for again, and leave it to its users."""
        self._taken.pop((begin, end), None)

    def require_unchanged(self) -> None:
        """Check that nobody has written to the file since it was opened.

        Raises:
            WeightsError: its length or its time of modification is another one. The message is
                without the path.
        """
        if _state(os.fstat(self._file.fileno())) != self._state:
            raise self._changed("somebody has written to it")

    def require_same(self, status: os.stat_result) -> None:
        """Check that the path led to this file, as it is, at an earlier moment.

        Args:
            status: what `os.stat` said then.

        Raises:
            WeightsError: it was another file, or was written to. The message is without the path.
        """
        now = os.fstat(self._file.fileno())
        if not os.path.samestat(status, now) or _state(status) != _state(now):
            raise self._changed("it was replaced by another one")

    def _shorter(self) -> WeightsError:
        return self._changed("it has become shorter")

    def _changed(self, found: str) -> WeightsError:
        return WeightsError(
            f"expected a file that stays as it is while it is loaded, but {found}: load it again "
            f"when it is complete, and replace files by renaming a finished one "
            f"(mv new.tmp {self.path})"
        )


class Unpacked:
    """Bytes in memory, as a `Source`."""

    def __init__(self, content: bytes | memoryview) -> None:
        self._content = memoryview(content)

    def __len__(self) -> int:
        """Count the bytes."""
        return len(self._content)

    def read(self, begin: int, end: int) -> bytes:
        """A copy of the bytes from `begin` to before `end`, fewer beyond the last one."""
        return bytes(self._content[begin:end])

    def take(self, begin: int, end: int) -> memoryview:
        """A view of the bytes from `begin` to before `end`, fewer beyond the last one."""
        return self._content[begin:end]


class Part:
    """A part of another source, such as a member of an archive or the elements of a dataset.

    Args:
        source: the whole.
        begin: the part's first byte.
        end: the place after its last one, fewer bytes than that beyond the whole's last one.
    """

    def __init__(self, source: Source, begin: int, end: int) -> None:
        self._source = source
        self._end = min(end, len(source))
        self._begin = min(begin, self._end)

    def __len__(self) -> int:
        """Count the bytes."""
        return self._end - self._begin

    def read(self, begin: int, end: int) -> bytes:
        """A copy of the bytes from `begin` to before `end`, fewer beyond the last one."""
        return self._source.read(*self._places(begin, end))

    def take(self, begin: int, end: int) -> memoryview:
        """The source's bytes from `begin` to before `end`, fewer beyond the last one."""
        return self._source.take(*self._places(begin, end))

    def whole(self) -> memoryview:
        """All of its bytes."""
        return self._source.take(self._begin, self._end)

    def _places(self, begin: int, end: int) -> tuple[int, int]:
        return self._begin + begin, min(self._begin + end, self._end)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[InputFile]:
    """Open a file to read a network from it; errors name it.

    If somebody has written to the file meanwhile, that is the error, whatever else went wrong.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it cannot be read.
        WeightsError: it is no regular file, or empty, or was written to, or as in the `with` block.
    """
    with InputFile(path) as file:
        try:
            try:
                if not len(file):
                    raise WeightsError("an empty file")
                yield file
            finally:
                file.require_unchanged()
        except WeightsError as error:
            raise WeightsError(f"{path}: {error}") from None


def _state(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns

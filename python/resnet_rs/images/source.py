"""① From whatever a caller passes to a file that Pillow can read, and its name in messages."""

from __future__ import annotations

import inspect
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from .errors import ImageError
from .kinds import kind_of_text

EXPECTED = (
    "an image (a path, bytes, a binary file object, a PIL image or a uint8 array "
    "[height, width, 3]) or a list of images"
)

_NOT_FILES = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


@contextmanager
def opened(source: Any) -> Iterator[tuple[BinaryIO, str]]:
    """Open a path, bytes or a file object.

    Yields:
        A seekable file at its start that nobody else uses, and its name in messages.

    Raises:
        ImageError, OSError: it cannot be read; the message names it.
        TypeError: it is none of these.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        data = bytes(source)
        yield io.BytesIO(data), f"image of {len(data)} bytes"
    elif isinstance(source, (str, os.PathLike)):
        name = os.fsdecode(source)
        with _open_path(name) as file:
            yield file, repr(shortened(name))
    elif hasattr(source, "read"):
        yield _copy_of(source)
    else:
        raise TypeError(f"expected {EXPECTED}; got {type(source).__name__}")


def shortened(name: str) -> str:
    """A name for messages: a text that is no path, such as base64, may have megabytes."""
    return name if len(name) <= 1000 else f"{name[:40]}... ({len(name)} characters)"


def _open_path(name: str) -> BinaryIO:
    """Open a regular file; anything else is refused at once, since reading it may never end."""
    # Opening some devices has effects of its own, so the first look is from outside.
    try:
        mode = os.stat(name).st_mode
    except (OSError, ValueError):
        _refuse_what_is_no_path(name)
        raise
    _refuse_special(name, mode)
    # If a pipe has taken the file's place meanwhile, it does not block.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(name, flags | getattr(os, "O_CLOEXEC", 0))
    try:
        _refuse_special(name, os.fstat(descriptor).st_mode)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _refuse_what_is_no_path(name: str) -> None:
    if os.path.lexists(name):  # such as a link to nothing
        return
    if kind := kind_of_text(name):
        raise ImageError(f"{shortened(name)!r}: {kind}") from None
    if "\0" in name:
        raise ImageError(
            f"{shortened(name)!r}: a path holds no NUL; pass the content of a file as bytes"
        ) from None


def _refuse_special(name: str, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(21, os.strerror(21), name)
    for is_kind, kind in _NOT_FILES:
        if is_kind(mode):
            raise ImageError(f"{name!r}: {kind}, expected a file: read it, and pass the bytes")


def _copy_of(file: Any) -> tuple[BinaryIO, str]:
    """Read a file object: from its start if it can be sought, and it is put back."""
    name = f"file object {getattr(file, 'name', type(file).__name__)!r}"
    _refuse_asynchronous(file, name)
    not_binary = f"{name}: open in text mode; open it with mode 'rb'"
    if isinstance(file, io.TextIOBase):
        raise TypeError(not_binary)
    try:
        position: int | None = file.tell()
        file.seek(0)
    except (AttributeError, OSError):
        position = None  # a pipe or a socket: it can only be read onwards
    except ValueError as error:
        raise ImageError(f"{name}: closed; open it again, or pass its path") from error
    data: object = file.read()
    if position is not None:
        file.seek(position)
    if inspect.isawaitable(data):
        if inspect.iscoroutine(data):
            data.close()
        raise _asynchronous(name)
    if data is None:
        raise ImageError(f"{name}: not ready; it does not block, so read it and pass the bytes")
    if not isinstance(data, bytes):
        raise TypeError(not_binary)
    return io.BytesIO(data), name


def _refuse_asynchronous(file: Any, name: str) -> None:
    if inspect.iscoroutinefunction(file.read) or inspect.iscoroutinefunction(
        getattr(file, "seek", None)
    ):
        raise _asynchronous(name)


def _asynchronous(name: str) -> TypeError:
    return TypeError(
        f"{name}: asynchronous, such as an upload: pass the bytes, `await upload.read()`"
    )

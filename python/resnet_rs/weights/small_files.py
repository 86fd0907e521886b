"""Bounded reading of the small files beside weights: JSON, and lists of names."""

from __future__ import annotations

import codecs
import os
import stat

from .._core import WeightsError

MAX_SMALL_BYTES = 16 << 20
"""The largest small file that is read; configs, indices and lists of labels are far smaller."""

_PIECE_BYTES = 1 << 16

# UTF-32 first: its little-endian mark begins with that of UTF-16.
_OTHER_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)


def require_regular(path: str | os.PathLike[str]) -> None:
    """Check that `path` is a regular file: reading a pipe or a device might never end.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it cannot be reached.
        WeightsError: it is not a regular file, or a symbolic link that leads to none.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError:
        if os.path.islink(path):
            raise WeightsError(
                f"{os.fspath(path)}: a symbolic link to {os.readlink(path)!r}, which leads to no "
                "file: expected a regular file"
            ) from None
        raise
    if not stat.S_ISREG(mode):
        raise WeightsError(f"{os.fspath(path)}: expected a regular file")


def read_small(path: str | os.PathLike[str], *, regular: bool = True) -> bytes:
    """Read a small file, up to `MAX_SMALL_BYTES`.

    Args:
        path: the file.
        regular: False to read a pipe too, such as a shell's `<(command)`.

    Raises:
        FileNotFoundError: there is no such file.
        WeightsError: it is not a regular file, or it is too large.
    """
    if regular:
        require_regular(path)
    pieces = []
    left = MAX_SMALL_BYTES + 1
    with open(path, "rb") as file:
        # A single read of the bound would allocate as much, however small the file.
        while piece := file.read(min(left, _PIECE_BYTES)):
            pieces.append(piece)
            left -= len(piece)
    content = b"".join(pieces)
    if len(content) > MAX_SMALL_BYTES:
        size = max(len(content), os.path.getsize(path))
        raise WeightsError(f"{os.fspath(path)}: {size} bytes are too many for a file of this kind")
    return content


def read_text(path: str | os.PathLike[str], *, regular: bool = True) -> str:
    """Read a small file of UTF-8 text; a byte order mark at its start is dropped.

    Args:
        path: the file.
        regular: as for `read_small`.

    Raises:
        FileNotFoundError: there is no such file.
        WeightsError: as `read_small` raises it; also for another encoding than UTF-8.
    """
    return decode_text(read_small(path, regular=regular), os.fspath(path))


def decode_text(content: bytes, name: str) -> str:
    """Decode UTF-8 text; a byte order mark at its start is dropped.

    Args:
        content: the bytes of a file.
        name: the file's name, for the message.

    Raises:
        WeightsError: another encoding than UTF-8.
    """
    if encoding := other_encoding(content):
        raise WeightsError(f"{name}: expected UTF-8, found {encoding}: save it as UTF-8")
    content = content.removeprefix(codecs.BOM_UTF8)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise WeightsError(
            f"{name}: expected UTF-8, found the byte 0x{content[error.start]:02x} in line {line}, "
            "as in files of Latin-1 or another old encoding: save it as UTF-8"
        ) from error


def other_encoding(content: bytes) -> str | None:
    """The encoding that a byte order mark states, `UTF-16` or `UTF-32`; None without one."""
    return next((name for mark, name in _OTHER_MARKS if content.startswith(mark)), None)

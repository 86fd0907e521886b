"""Files that have their old content or the new one at any time."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from .file_errors import names_file


def require_no_directory(path: str | os.PathLike[str]) -> None:
    """Check that a file of this name can be written, before it is made.

    Raises:
        IsADirectoryError: there is a directory of this name.
    """
    if os.path.isdir(path):
        raise IsADirectoryError(
            f"{os.fspath(path)} is a directory: expected the name of a file to write"
        )


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[str]:
    """Write a file under another name, which then takes the place of the old one.

    Args:
        path: the file.

    Yields:
        The name to write to, with the same suffix. After an error it is removed, and `path` is as
        before.

    Raises:
        OSError: the file cannot be written; the error names `path`.
    """
    path = os.fspath(path)
    require_no_directory(path)
    stem, suffix = os.path.splitext(path)
    unfinished = f"{stem}.{os.getpid()}.tmp{suffix}"
    try:
        with names_file(path, unfinished):
            yield unfinished
            os.replace(unfinished, path)
    except BaseException:
        if os.path.exists(unfinished):
            os.unlink(unfinished)
        raise

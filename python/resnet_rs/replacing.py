"""Files that have their old content or the new one at any time."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from .file_errors import names_file


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

"""The system's errors about files, with the file's name."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def names_file(
    path: str | os.PathLike[str], aside: str | os.PathLike[str] | None = None
) -> Iterator[None]:
    """Name a file in the system's errors about it.

    Python does so only if a file cannot be opened. Errors of a write, such as "File too large" and
    "No space left on device", have no name.

    Args:
        path: the file that is read or written in the `with` block.
        aside: the file that is written at first, and then takes the name `path`: a name that nobody
            knows, so errors do not have it.
    """
    try:
        yield
    except OSError as error:
        unknown = (None,) if aside is None else (None, os.fspath(aside))
        if error.errno is not None and error.filename in unknown:
            error.filename = os.fspath(path)
        raise

"""The system's errors about files, with the file's name."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def names_file(path: str | os.PathLike[str]) -> Iterator[None]:
    """Name a file in the system's errors about it.

    Python does so only if a file cannot be opened. Errors of a write, such as "File too large" and
    "No space left on device", have no name.

    Args:
        path: the file that is read or written in the `with` block.
    """
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = os.fspath(path)
        raise

"""Bounded reading of the small files beside weights."""

from __future__ import annotations

import os

from .._core import WeightsError

MAX_JSON_BYTES = 16 << 20
"""The largest JSON file that is read; configs and indices are far smaller."""


def require_regular(path: str | os.PathLike[str]) -> None:
    """Check that `path` is a regular file: reading a pipe or a device might never end.

    Raises:
        FileNotFoundError: there is no such file.
        WeightsError: it is not a regular file.
    """
    if not os.path.exists(path):
        raise FileNotFoundError(2, os.strerror(2), os.fspath(path))
    if not os.path.isfile(path):
        raise WeightsError(f"{os.fspath(path)}: expected a regular file")


def read_small(path: str | os.PathLike[str]) -> bytes:
    """Read a file of JSON, up to `MAX_JSON_BYTES`.

    Raises:
        FileNotFoundError: there is no such file.
        WeightsError: it is not a regular file, or it is too large.
    """
    require_regular(path)
    size = os.path.getsize(path)
    if size > MAX_JSON_BYTES:
        raise WeightsError(
            f"{os.fspath(path)}: {size} bytes are too many for a JSON file of this kind"
        )
    with open(path, "rb") as file:
        return file.read()

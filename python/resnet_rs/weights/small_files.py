"""Files beside the weights, read with bounds: they end, and they are small."""

from __future__ import annotations

import os

from .._core import WeightsError

MAX_JSON_BYTES = 16 << 20
"""No config or index comes near; a file above this is not one."""


def require_regular(path: str | os.PathLike[str]) -> None:
    """Check that `path` is a file that ends: no pipe or device, which a read would wait for.

    Raises:
        FileNotFoundError: there is none.
        WeightsError: it is something else.
    """
    if not os.path.exists(path):
        raise FileNotFoundError(2, os.strerror(2), os.fspath(path))
    if not os.path.isfile(path):
        raise WeightsError(f"{os.fspath(path)}: expected a regular file")


def read_small(path: str | os.PathLike[str]) -> bytes:
    """Read a file that should hold JSON.

    Raises:
        FileNotFoundError: there is none.
        WeightsError: it is no regular file, or too large.
    """
    require_regular(path)
    size = os.path.getsize(path)
    if size > MAX_JSON_BYTES:
        raise WeightsError(
            f"{os.fspath(path)}: {size} bytes are too many for a JSON file of this kind"
        )
    with open(path, "rb") as file:
        return file.read()

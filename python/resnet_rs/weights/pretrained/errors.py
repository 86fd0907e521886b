"""Errors of downloads."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


class DownloadError(OSError):
    """A file could not be fetched, or it is not the expected one."""


class NotFoundError(DownloadError):
    """The server has no such file."""


@contextlib.contextmanager
def named_extra() -> Iterator[None]:
    """Say what to install if an import in this block fails.

    Raises:
        ImportError: a library of the extra `pretrained` is missing.
    """
    try:
        yield
    except ImportError as error:
        raise ImportError(
            f'downloads need {error.name}: pip install "resnet_rs[pretrained]". '
            "Weights that are in the cache load without it"
        ) from error

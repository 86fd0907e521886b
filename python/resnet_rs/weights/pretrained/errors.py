"""What goes wrong with downloads."""

from __future__ import annotations


class DownloadError(OSError):
    """A file could not be fetched, or what came is not what was expected."""


class NotFoundError(DownloadError):
    """The server has no such file."""

"""`DataError`: labelled photos from which nothing can be learnt, or that cannot be read as such."""

from __future__ import annotations

from collections.abc import Sequence


class DataError(ValueError):
    """A set of labelled photos is not as it must be.

    The message says what was expected, what was found, and what to do. A file or folder that cannot
    be opened raises the operating system's own error instead.
    """


def listed(names: Sequence[object], most: int = 5) -> str:
    """Write names for a message, `'a', 'b' and 7 more`; long lists are cut."""
    shown = ", ".join(map(repr, map(str, names[:most])))
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown

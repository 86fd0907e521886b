"""The places of labelled photos, and the parts that each of them has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from .labelled import Labelled

ALL, TRAIN, VAL, TEST = "all", "train", "val", "test"

PART_NAMES = {
    "train": TRAIN,
    "training": TRAIN,
    "val": VAL,
    "valid": VAL,
    "validation": VAL,
    "dev": VAL,
    "test": TEST,
    "testing": TEST,
}
"""The names of parts, in lower case, in folders and in tables."""


class Place(Protocol):
    """A place of labelled photos: a folder, a table, or values in memory.

    Attributes:
        name: its name in messages.
        parts: `ALL` alone, or some of `TRAIN`, `VAL` and `TEST`.
    """

    name: str
    parts: tuple[str, ...]

    def read(self, part: str, classes: Sequence[str] | None) -> tuple[Labelled, tuple[str, ...]]:
        """Read one part.

        Args:
            part: one of `parts`.
            classes: the names that labels are indices of; None for those found there.

        Returns:
            The photos, and remarks on what was left out.

        Raises:
            DataError: it has no labelled photos, or a class that is not among `classes`.
            OSError: it cannot be read.
        """
        ...

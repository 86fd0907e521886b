"""Labelled photos: found, split, checked, augmented, and loaded in batches."""

from .errors import DataError
from .labelled import Labelled
from .reading import Split, read, read_part

__all__ = ["DataError", "Labelled", "Split", "read", "read_part"]

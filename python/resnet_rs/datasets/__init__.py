"""Labelled photos: found, split, checked, changed at random, and loaded in batches."""

from .augment import Augment
from .checks import Dropped, Report, check
from .errors import DataError
from .labelled import Labelled
from .loader import Batch, Batches, Loader, measuring
from .photos import PhotoCache
from .reading import Split, read, read_part

__all__ = [
    "Augment",
    "Batch",
    "Batches",
    "DataError",
    "Dropped",
    "Labelled",
    "Loader",
    "PhotoCache",
    "Report",
    "Split",
    "check",
    "measuring",
    "read",
    "read_part",
]

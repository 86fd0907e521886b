"""Photos and labels that are in memory already."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .labelled import Labelled, labels_by_name
from .places import ALL


class Values:
    """Photos and labels in memory.

    Args:
        images: pixels or paths, as `Labelled` takes them.
        labels: an index or a name of a class for each; indices without names of classes become
            the names "0", "1" and so on.
    """

    name = "data"
    parts: tuple[str, ...] = (ALL,)

    def __init__(self, images: Any, labels: Any) -> None:
        self._images = images
        self._labels = np.asarray(labels)

    def read(self, part: str, classes: Sequence[str] | None) -> tuple[Labelled, tuple[str, ...]]:
        """Read them, as `Place.read` describes."""
        labels = self._labels
        if labels.ndim == 1 and labels.dtype.kind in "UO":
            indices, found = labels_by_name(list(map(str, labels)), (), self.name, classes)
            return Labelled(self._images, indices, found), ()
        if classes is None:
            whole = len(labels) and labels.dtype.kind in "iu"
            classes = [str(index) for index in range(max(int(labels.max()) + 1, 1) if whole else 1)]
        return Labelled(self._images, labels, tuple(classes)), ()


class Given:
    """A `Labelled` of the caller."""

    name = "data"
    parts: tuple[str, ...] = (ALL,)

    def __init__(self, labelled: Labelled) -> None:
        self._labelled = labelled

    def read(self, part: str, classes: Sequence[str] | None) -> tuple[Labelled, tuple[str, ...]]:
        """Return it, as `Place.read` describes."""
        if classes is None:
            return self._labelled, ()
        return self._labelled.renamed_to(classes, self.name), ()

"""`Labelled`: photos, a label for each, and the names of the classes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..terminal.tables import plural
from .errors import DataError, listed


@dataclass(frozen=True, eq=False)
class Labelled:
    """Photos with labels: checked, never changed.

    Attributes:
        images: paths of image files, or pixels, uint8 `[n, height, width, channels]`. Pixels
            `[n, height, width]` are taken as grey, with one channel.
        labels: the index of each photo's class in `classes`, int64 `[n]`.
        classes: the names of the classes, all different.

    Raises:
        DataError: lengths differ, or a label is no index of a class.
        TypeError, ValueError: another dtype, shape or kind of value.
    """

    images: tuple[Path, ...] | NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        images: Any = self.images
        images = _pixels(images) if isinstance(images, np.ndarray) else _paths(images)
        classes = class_names(self.classes)
        labels = _indices(self.labels)
        if len(labels) != len(images):
            raise DataError(
                f"expected a label for each photo; found {plural(len(images), 'photo')} and "
                f"{plural(len(labels), 'label')}"
            )
        _check_range(labels, classes)
        for name, value in (("images", images), ("labels", labels), ("classes", classes)):
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def paths(self) -> tuple[Path, ...] | None:
        """The paths of image files; None for pixels."""
        return None if isinstance(self.images, np.ndarray) else self.images

    def counts(self) -> NDArray[np.int64]:
        """The number of photos of each class, int64 `[classes]`."""
        return np.bincount(self.labels, minlength=len(self.classes)).astype(np.int64)

    def subset(self, indices: Sequence[int] | NDArray[np.int64]) -> Labelled:
        """The photos at these indices, in their order, with the same classes."""
        chosen = np.asarray(indices, np.int64)
        images: Any = self.images
        if isinstance(images, np.ndarray):
            images = images[chosen]
        else:
            images = tuple(images[i] for i in chosen.tolist())
        return Labelled(images, self.labels[chosen], self.classes)

    def renamed_to(self, classes: Sequence[str], where: str) -> Labelled:
        """The same photos, with labels that are indices into another list of classes.

        Args:
            classes: all names; those that have no photo here may be among them.
            where: the place of these photos, for the message.

        Raises:
            DataError: a class of these photos is not in the list.
        """
        names = class_names(classes)
        places = {name: index for index, name in enumerate(names)}
        unknown = [name for name in self.classes if name not in places]
        if unknown:
            raise DataError(
                f"{where}: {plural(len(unknown), 'class is', 'classes are')} not among those to "
                f"learn: {listed(unknown)}. Expected {listed(names, 20)}: rename them, or take "
                "them away"
            )
        table = np.array([places[name] for name in self.classes], np.int64)
        return Labelled(self.images, table[self.labels], names)

    def name_of(self, index: int) -> str:
        """A photo's name in messages: its path, or its place in the array."""
        image = self.images[index]
        return f"image {index}" if isinstance(image, np.ndarray) else os.fspath(image)


def class_names(names: Any) -> tuple[str, ...]:
    """Check names of classes.

    Raises:
        DataError: one cannot be written in UTF-8, such as that of a folder in another encoding.
        TypeError: they are not a sequence of str.
        ValueError: there is none, one is empty, or two are the same.
    """
    if isinstance(names, (str, bytes)) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"classes must be a list of names (str); got {names!r}")
    found = tuple(map(str, names))
    if not found or "" in found:
        raise ValueError(f"classes must be names, one or more, none of them empty; got {found!r}")
    if strange := [name for name in found if _is_no_text(name)]:
        raise DataError(
            f"expected names of classes in UTF-8, as weights keep them; found {listed(strange)}: "
            "rename them"
        )
    twice = sorted({name for name in found if found.count(name) > 1}) if _repeats(found) else []
    if twice:
        raise ValueError(f"classes must all be different; twice there: {listed(twice)}")
    return found


def labels_by_name(
    names: Sequence[str], known: Sequence[str], where: str, classes: Sequence[str] | None
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Turn the class of each photo, a name, into a label.

    Args:
        names: the class of each photo.
        known: the names of classes at this place, also of those without a photo.
        where: the place, for the message.
        classes: the names that labels are indices of; None for those at this place, sorted as
            Python sorts text, which is the order of torchvision's `ImageFolder`.

    Returns:
        The labels and the classes.

    Raises:
        DataError: a name is not among `classes`.
    """
    found = tuple(sorted({*known, *names}))
    places = {name: index for index, name in enumerate(found)}
    labels = np.array([places[name] for name in names], np.int64)
    if classes is None:
        return labels, found
    if not found:
        return labels, class_names(classes)
    # No photos are needed to give labels new names.
    empty = (Path(),) * len(labels)
    renamed = Labelled(empty, labels, found).renamed_to(classes, where)
    return renamed.labels, renamed.classes


def _is_no_text(name: str) -> bool:
    """True for a name with bytes that are no UTF-8, which Python keeps as surrogates."""
    return any("\ud800" <= letter <= "\udfff" for letter in name)


def _repeats(names: tuple[str, ...]) -> bool:
    return len(set(names)) < len(names)


def _pixels(images: NDArray[Any]) -> NDArray[np.uint8]:
    expected = "images must be uint8 [n, height, width, channels]"
    shape = list(images.shape)
    if images.dtype != np.uint8:
        raise TypeError(
            f"{expected}; got {images.dtype} {shape}. Pixels from 0 to 1 become such: "
            "(images * 255).round().astype('uint8')"
        )
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4:
        raise ValueError(f"{expected}; got shape {shape}")
    if shape[1] in (1, 3) and shape[-1] not in (1, 3, 4):
        raise ValueError(
            f"{expected}; shape {shape} has its channels second: pass images.transpose(0, 2, 3, 1)"
        )
    if 0 in images.shape[1:]:
        raise ValueError(f"{expected}, with at least one pixel; got shape {shape}")
    return images


def _paths(images: Any) -> tuple[Path, ...]:
    if isinstance(images, (str, bytes, os.PathLike)):
        raise TypeError(f"images must be a list of paths, or an array; got {images!r}")
    for image in images:
        if not isinstance(image, (str, os.PathLike)):
            raise TypeError(
                "images must be paths, or one uint8 array [n, height, width, channels]; got "
                f"{type(image).__name__} among them"
            )
    return tuple(map(Path, images))


def _indices(labels: Any) -> NDArray[np.int64]:
    found = np.asarray(labels)
    if found.ndim != 1:
        raise ValueError(f"labels must be int64 [n]; got shape {list(found.shape)}")
    if len(found) and found.dtype.kind not in "iu":
        raise TypeError(
            f"labels must be int64 [n]; got {found.dtype}. Whole numbers of another dtype become "
            "such: labels.astype('int64')"
        )
    result = found.astype(np.int64)  # a copy, so that the caller's may change
    result.setflags(write=False)
    return result


def _check_range(labels: NDArray[np.int64], classes: tuple[str, ...]) -> None:
    wrong = np.flatnonzero((labels < 0) | (labels >= len(classes)))
    if len(wrong):
        first = int(wrong[0])
        raise DataError(
            f"labels must be from 0 to {len(classes) - 1}, an index of each of the "
            f"{plural(len(classes), 'class', 'classes')}; found {labels[first]} at index {first}"
            + (f", and {len(wrong) - 1} more out of range" if len(wrong) > 1 else "")
            + ". Labels that count from 1 become such: labels - 1"
        )

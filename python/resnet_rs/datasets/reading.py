"""`read`: labelled photos from a folder, a table or arrays, divided for training and validation."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .draws import checked_seed
from .errors import DataError
from .folders import Folder
from .labelled import Labelled, class_names
from .places import ALL, TEST, TRAIN, VAL, Place
from .split import stratified
from .tables import Table
from .values import Given, Values

_KINDS = (
    "a folder with a folder of photos for each class, a folder with train/ and val/, a CSV file of "
    "paths and labels, a pair (images, labels), or a Labelled"
)


@dataclass(frozen=True, eq=False)
class Split:
    """Photos for training and for validation.

    Attributes:
        train: the photos to learn from.
        val: the photos to measure on, with the same classes; there may be none.
        drawn: True if `val` was drawn by the seed, False if the data state it.
        remarks: sentences on what was found and what was left out.
    """

    train: Labelled
    val: Labelled
    drawn: bool
    remarks: tuple[str, ...]


def read(
    data: Any,
    *,
    val: Any = None,
    val_fraction: float = 0.2,
    seed: int = 0,
    classes: Sequence[str] | None = None,
) -> Split:
    """Read labelled photos, and divide them for training and validation.

    Photos are found, and no photo is opened. Photos of a part `test` are not used: a network that
    is chosen by its result on them is measured too well.

    Args:
        data: `class/photo.jpg` below a folder; a folder with `train/` and `val/` (or `valid/`,
            `validation/`), each with a folder for each class; a CSV file with a column of paths
            and one of labels, maybe with one of parts; a pair `(images, labels)`; or a `Labelled`.
        val: photos for validation, in any of these forms; None to take the part `val` of `data`,
            or to draw it.
        val_fraction: the part of each class that is drawn for validation if there is no other, from
            0 up to 1, 1 excluded. Each class keeps at least one photo for training.
        seed: the seed of that draw. The draw depends on the seed and on the names of the photos.
        classes: the names of the classes in the order of the network's outputs; None for the names
            found, sorted as Python sorts text (as torchvision's `ImageFolder`: "10" before "2").

    Returns:
        Both parts, with the same classes.

    Raises:
        DataError: the data have no labelled photos, or `val` has a class that is not in `train`.
        OSError: a folder or file cannot be read.
        TypeError, ValueError: an argument of another kind or out of range.
    """
    seed = checked_seed(seed)
    fraction = _checked_fraction(val_fraction)
    place = _place_of(data)
    if TRAIN not in place.parts and ALL not in place.parts:
        raise DataError(
            f"{place.name}: expected photos to train on; found only {' and '.join(place.parts)}"
        )
    names = None if classes is None else class_names(classes)
    train, remarks = place.read(TRAIN if TRAIN in place.parts else ALL, names)
    notes = [*remarks]
    if TEST in place.parts:
        notes.append(f"{place.name}: the part test is not used for training")
    if val is None and VAL not in place.parts:
        rest, chosen = stratified(train, fraction, seed)
        if fraction:
            notes.append(
                f"validation: {len(chosen)} of {len(train)} photos, drawn from each class by the "
                f"seed {seed}"
            )
        return Split(train.subset(rest), train.subset(chosen), True, tuple(notes))
    if val is not None and VAL in place.parts:
        notes.append(f"{place.name}: its part val is not used, since val was passed")
    held, more = (
        place.read(VAL, train.classes) if val is None else _only_part(_place_of(val), train.classes)
    )
    return Split(train, held, False, tuple(dict.fromkeys((*notes, *more))))


def read_part(
    data: Any, *, part: str | None = None, classes: Sequence[str] | None = None
) -> tuple[Labelled, tuple[str, ...]]:
    """Read one part of labelled photos, such as those to evaluate a network on.

    Args:
        data: as for `read`.
        part: `train`, `val` or `test`; `all` for data without parts. None for all of them, or for
            `val` if there are parts.
        classes: the names of a network's classes; None for those found.

    Returns:
        The photos, and remarks on what was left out.

    Raises:
        DataError: there is no such part, it has no labelled photos, or a class not in `classes`.
        OSError, TypeError, ValueError: as `read` does.
    """
    place = _place_of(data)
    names = None if classes is None else class_names(classes)
    if part is None:
        return _only_part(place, names)
    if part not in place.parts:
        raise DataError(
            f"{place.name}: expected the part {part!r}; found {' and '.join(place.parts)}"
        )
    return place.read(part, names)


def _only_part(place: Place, classes: Sequence[str] | None) -> tuple[Labelled, tuple[str, ...]]:
    """The part of a place that is meant when none is named."""
    if len(place.parts) > 1 and VAL not in place.parts:
        raise DataError(
            f"{place.name}: expected one part, or one called val; found "
            f"{' and '.join(place.parts)}: say which, as in part={place.parts[-1]!r}"
        )
    part = VAL if VAL in place.parts else place.parts[0]
    photos, remarks = place.read(part, classes)
    if part == TRAIN:
        remarks = (*remarks, f"{place.name}: these are the photos of train, the only part")
    return photos, remarks


def _place_of(data: Any) -> Place:
    if isinstance(data, Labelled):
        return Given(data)
    if isinstance(data, (str, os.PathLike)):
        return _place_at(Path(os.fsdecode(data)))
    if isinstance(data, (tuple, list)) and len(data) == 2:
        images, labels = data
        if isinstance(images, np.ndarray) or not isinstance(images, (str, bytes, os.PathLike)):
            return Values(images, labels)
    raise TypeError(f"data must be {_KINDS}; got {type(data).__name__}")


def _place_at(path: Path) -> Place:
    if path.is_dir():
        return Folder(path)
    if "://" in os.fspath(path) or not path.exists():
        raise FileNotFoundError(
            2, f"no such folder or file of photos; expected {_KINDS}", str(path)
        )
    if not path.is_file():
        raise DataError(f"{path}: expected a folder or a CSV file; found a pipe or a device")
    return Table(path)


def _checked_fraction(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.floating, np.integer)):
        raise TypeError(f"val_fraction must be a number; got {value!r} ({type(value).__name__})")
    if not 0.0 <= value < 1.0:
        raise ValueError(f"val_fraction must be from 0 up to 1, 1 excluded; got {value!r}")
    return float(value)

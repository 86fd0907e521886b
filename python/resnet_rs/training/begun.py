"""The choices that a run began with: its `args.json`, which a resumption goes on with."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..datasets.checks import Report
from ..datasets.errors import listed
from .directory import RunDirectory
from .recipe import Recipe

FILE = "args.json"


@dataclass(frozen=True)
class Begun:
    """The choices of a run, completed.

    Attributes:
        data: the place of the photos; None for photos in memory.
        val: the place of those for validation; None if they are in `data` or in memory.
        val_fraction: the part that was drawn for validation.
        duplicates: as `resnet_rs.datasets.checks.check` takes it.
        weights: what it began with; None for a model in memory.
        zero_last: as `train` takes it.
        recipe: the choices of the training.
        classes: the names of the classes.
        photos: the numbers of photos for training and for validation.
        fingerprint: of the photos, as `fingerprint_of` makes it; None in a run of an older version.
    """

    data: str | None
    val: str | None
    val_fraction: float
    duplicates: str | None
    weights: str | None
    zero_last: bool
    recipe: Recipe
    classes: tuple[str, ...]
    photos: tuple[int, int]
    fingerprint: str | None

    def write(self, directory: RunDirectory, report: Report, remarks: Sequence[str]) -> None:
        """Write args.json.

        Args:
            directory: of the run.
            report: what was found out about the photos.
            remarks: everything that was found out, assumed or left out, as sentences.

        Raises:
            OSError: it cannot be written.
        """
        fields = {
            **vars(self),
            "recipe": self.recipe.as_dict(),
            "photos": {"train": self.photos[0], "val": self.photos[1]},
            "dropped": [vars(one) for one in report.dropped],
            "remarks": list(dict.fromkeys(remarks)),
        }
        directory.write_json(FILE, fields)

    @classmethod
    def read(cls, directory: RunDirectory) -> Begun:
        """Read args.json.

        Raises:
            OSError: it cannot be read.
            ValueError: it holds something else; the message names it.
        """
        saved = directory.read_json(FILE)
        try:
            return cls(
                data=saved["data"],
                val=saved["val"],
                val_fraction=saved["val_fraction"],
                duplicates=saved["duplicates"],
                weights=saved["weights"],
                zero_last=saved["zero_last"],
                recipe=Recipe.from_dict(saved["recipe"]),
                classes=tuple(saved["classes"]),
                photos=(saved["photos"]["train"], saved["photos"]["val"]),
                fingerprint=saved.get("fingerprint"),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{directory.path / FILE}: expected the choices of a run; found others ({error})"
            ) from error

    def weights_of(self, directory: RunDirectory) -> Any:
        """The network to go on with.

        Raises:
            ValueError: the run has no checkpoint yet, and its first weights are gone: a model in
                memory, or weights in its own directory, which it may have replaced.
        """
        if directory.checkpoint.exists():
            # All numbers come from the checkpoint; these have its shapes, and need no other file.
            return directory.last
        early = f"{directory.path}: the run ended before its first checkpoint"
        if self.weights is None:
            raise ValueError(
                f"{early}, and it began with a model in memory: begin anew (force=True)"
            )
        first = Path(self.weights)  # Names of networks are not absolute.
        if first.is_absolute() and first.resolve().is_relative_to(directory.path.resolve()):
            raise ValueError(
                f"{early}, and it began with {self.weights}, which it replaces: begin anew with "
                "what is there (force=True, --force)"
            )
        return self.weights

    def check(self, report: Report, directory: RunDirectory) -> None:
        """Compare the photos with those that the run began with.

        Raises:
            ValueError: they are others.
        """
        advice = (
            f"To learn from other photos, begin another run with weights={str(directory.last)!r}"
        )
        classes = report.train.classes
        if classes != self.classes:
            raise ValueError(
                f"{directory.path}: expected the classes that the run began with, "
                f"{listed(self.classes)}; found {listed(classes)}. {advice}"
            )
        found = (len(report.train), len(report.val))
        if found != self.photos:
            raise ValueError(
                f"{directory.path}: expected the photos that the run began with, {self.photos[0]} "
                f"for training and {self.photos[1]} for validation; found {found[0]} and "
                f"{found[1]}. {advice}"
            )
        if self.fingerprint not in (None, fingerprint_of(report)):
            raise ValueError(
                f"{directory.path}: expected the photos that the run began with; found as many, "
                f"with other names, labels or pixels in memory. {advice}"
            )


def place(value: Any) -> str | None:
    """The path or name that a value is; None for something in memory.

    A path is absolute, so that it leads there from any working directory.
    """
    if not isinstance(value, (str, os.PathLike)):
        return None
    text = os.fsdecode(value)
    return os.path.abspath(text) if os.path.exists(text) else text


def fingerprint_of(report: Report) -> str:
    """A hash of all photos, by which a resumption knows them again.

    It is that of their labels and of their names below the folder that holds them all, so that this
    folder may be moved; of photos in memory it is that of the pixels.
    """
    found = hashlib.blake2b(digest_size=16)
    for photos in (report.train, report.val):
        found.update(repr(photos.labels.shape).encode())
        found.update(photos.labels.tobytes())
        if isinstance(photos.images, np.ndarray):
            found.update(repr(photos.images.shape).encode())
            found.update(np.ascontiguousarray(photos.images).data)
            continue
        names = [os.path.abspath(path) for path in photos.images]
        # As letters, since paths on two drives of Windows have no folder in common.
        folder = os.path.commonprefix(names).rpartition(os.sep)[0]  # noqa: RUF071
        for name in names:
            found.update(os.fsencode(name[len(folder) :]) + b"\0")
    return found.hexdigest()

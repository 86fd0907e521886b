"""The choices that a run began with: its `args.json`, which a resumption goes on with."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..datasets.checks import Report
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
        if Path(self.weights).resolve().is_relative_to(directory.path.resolve()):
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
                f"{_some(self.classes)}; found {_some(classes)}. {advice}"
            )
        found = (len(report.train), len(report.val))
        if found != self.photos:
            raise ValueError(
                f"{directory.path}: expected the photos that the run began with, {self.photos[0]} "
                f"for training and {self.photos[1]} for validation; found {found[0]} and "
                f"{found[1]}. {advice}"
            )


def place(value: Any) -> str | None:
    """The path or name that a value is; None for something in memory."""
    return os.fspath(value) if isinstance(value, (str, os.PathLike)) else None


def _some(names: Sequence[str]) -> str:
    return f"{', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"

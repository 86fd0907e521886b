"""The directory of a run: what is written where, whole at any time."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..datasets.folders import Folder
from ..datasets.places import ALL
from ..evaluation.history import History
from ..replacing import replacing

if TYPE_CHECKING:
    from ..evaluation import Evaluation

COLUMNS = (
    "epoch",
    "train_loss",
    "train_accuracy",
    "val_loss",
    "val_accuracy",
    "learning_rate",
    "seconds",
    "images_per_second",
    "waited_seconds",
)


_OF_A_RUN = (
    "args.json",
    "results.csv",
    "checkpoint.safetensors",
    "report.json",
    "curves.png",
    "confusion.png",
    "mistakes.jpg",
    "batches.jpg",
    "best/model.safetensors",
    "best/config.json",
    "last/model.safetensors",
    "last/config.json",
)


class RunDirectory:
    """The files of a run.

    | file | what it holds |
    |---|---|
    | `args.json` | all choices, and what was found out about the data |
    | `results.csv` | a row of numbers for each epoch |
    | `best/`, `last/` | weights directories that `resnet_rs.load` loads |
    | `checkpoint.safetensors` | everything that is needed to go on |
    | `report.json` | the evaluation of the best weights on the validation photos |
    | `curves.png`, `confusion.png`, `mistakes.jpg`, `batches.jpg` | pictures |

    The checkpoint is the last file that an epoch writes. After a kill the run goes on from it, and
    writes the rest again.

    Args:
        path: the directory.
        resume: go on with what is there; otherwise a run there is an error, unless `force` is set.
        force: begin anew over a run that is there.

    Raises:
        FileExistsError: there is a run, and neither `resume` nor `force` is set.
        FileNotFoundError: `resume` is set, and there is no run.
        NotADirectoryError: it is a file.
    """

    def __init__(self, path: str | os.PathLike[str], *, resume: bool, force: bool) -> None:
        self.path = Path(path)
        self._resume = resume
        if self.path.exists() and not self.path.is_dir():
            raise NotADirectoryError(f"{self.path} is a file: expected a directory for the run")
        there = [name for name in _OF_A_RUN if (self.path / name).exists()]
        if resume and not (self.path / "args.json").exists():
            text = "no such run: expected its args.json, and a checkpoint to go on from"
            raise FileNotFoundError(2, text, str(self.path / "args.json"))
        if there and not resume and not force:
            raise FileExistsError(
                f"{self.path} holds a run already ({_some(there)}): resume it (resume=True, "
                "--resume), begin anew (force=True, --force), or choose another directory"
            )

    def check_outside(self, data: Any) -> None:
        """Check that the directory is none that the next training would take for a class.

        Args:
            data: the photos, as `train` takes them.

        Raises:
            ValueError: it lies among the folders of classes.
        """
        if not isinstance(data, (str, os.PathLike)) or not Path(data).is_dir():
            return
        is_inside = self.path.resolve().is_relative_to(Path(data).resolve())
        if is_inside and Folder(Path(data)).parts == (ALL,):
            raise ValueError(
                f"{self.path}: expected a directory outside of {os.fspath(data)}, whose folders "
                "are the classes; the run would be one of them"
            )

    def begin(self) -> None:
        """Make the directory, and remove what a run that was there left; a resumed run stays.

        Raises:
            OSError: it cannot be made.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        # Files that a killed run did not finish.
        for path in self.path.glob("*.tmp.*"):
            path.unlink(missing_ok=True)
        for pattern in (".best-*", ".last-*"):
            for path in self.path.glob(pattern):
                shutil.rmtree(path, ignore_errors=True)
        if self._resume:
            return
        for name in _OF_A_RUN:
            (self.path / name).unlink(missing_ok=True)

    @property
    def checkpoint(self) -> Path:
        """The file to go on from."""
        return self.path / "checkpoint.safetensors"

    @property
    def best(self) -> Path:
        """The weights with the best result on the validation photos."""
        return self.path / "best"

    @property
    def last(self) -> Path:
        """The last weights."""
        return self.path / "last"

    def kept(self) -> str:
        """A sentence on the weights that are there, for a message."""
        kinds = {"those after the last epoch": self.last, "the best ones": self.best}
        places = [
            f"{kind} in {path}"
            for kind, path in kinds.items()
            if (path / "model.safetensors").exists()
        ]
        if not places:
            return f"No epoch has ended, so {self.path} holds no weights"
        return f"The weights that were kept are not touched: {', '.join(places)}"

    def history(self, last_epoch: int) -> History:
        """The table of results; rows after `last_epoch` are dropped."""
        return History(self.path / "results.csv", COLUMNS, last_epoch=last_epoch)

    def write_json(self, name: str, values: Mapping[str, Any]) -> None:
        """Write a JSON file."""
        text = json.dumps(values, indent=2, ensure_ascii=False, default=_plain)
        with replacing(self.path / name) as unfinished:
            Path(unfinished).write_text(text + "\n", encoding="utf-8")

    def read_json(self, name: str) -> dict[str, Any]:
        """Read a JSON file of the run.

        Raises:
            OSError: it cannot be read.
            ValueError: it holds something else.
        """
        path = self.path / name
        try:
            values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path}: expected JSON as a run writes it: {error}") from error
        return values

    def draw_curves(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Draw the learning curves."""
        from ..evaluation.pictures import learning_curves, save

        save(learning_curves(rows), self.path / "curves.png")

    def draw_batch(self, picture: Any) -> None:
        """Keep a picture of a batch."""
        from ..evaluation.pictures import save

        save(picture, self.path / "batches.jpg")

    def report(self, evaluation: Evaluation) -> None:
        """Write and draw the evaluation of the best weights."""
        from ..evaluation.pictures import confusion_matrix, mistake_mosaic, save

        self.write_json("report.json", evaluation.to_dict())
        save(confusion_matrix(evaluation), self.path / "confusion.png")
        save(mistake_mosaic(evaluation), self.path / "mistakes.jpg")


def _plain(value: Any) -> Any:
    """NumPy's numbers as Python's, and anything else as text."""
    return value.item() if isinstance(value, np.generic) else str(value)


def _some(names: Sequence[str]) -> str:
    return f"{', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"

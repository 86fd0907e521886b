"""The directory of a run: what is written where, whole at any time."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..datasets.errors import listed
from ..datasets.folders import Folder
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

_FILES = (
    "args.json",
    "results.csv",
    "checkpoint.safetensors",
    "report.json",
    "curves.png",
    "confusion.png",
    "mistakes.jpg",
    "batches.jpg",
)
_WEIGHTS = ("model.safetensors", "config.json")
_PLACES = ("best", "last")
_OF_A_RUN = (*_FILES, *(f"{place}/{name}" for place in _PLACES for name in _WEIGHTS))

# A killed run leaves files and folders of these names: `replacing` and `write_directory` write to
# them at first.
_STEMS = "|".join(
    rf"{re.escape(stem)}\.\d+\.tmp{re.escape(suffix)}"
    for stem, suffix in map(os.path.splitext, _FILES)
)
_UNFINISHED_FILE = re.compile(_STEMS)
_UNFINISHED_WEIGHTS = re.compile(rf"\.({'|'.join(_PLACES)})-[a-z0-9_]{{8}}")


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
        NotADirectoryError: it is a file, or below one.
        PermissionError: it may not be written to.
    """

    def __init__(self, path: str | os.PathLike[str], *, resume: bool, force: bool) -> None:
        self.path = Path(path)
        self._resume = resume
        _check_can_be_made(self.path)
        there = [name for name in _OF_A_RUN if (self.path / name).exists()]
        if resume and not (self.path / "args.json").exists():
            text = "no such run: expected its args.json, and a checkpoint to go on from"
            raise FileNotFoundError(2, text, str(self.path / "args.json"))
        if there and not resume and not force:
            raise FileExistsError(
                f"{self.path} holds a run already ({listed(there, 3)}): resume it (resume=True, "
                "--resume), begin anew (force=True, --force), or choose another directory"
            )

        # Other files of these names are the user's.
        self._held_run = bool(there) or any(map(_is_first_unfinished, _names_in(self.path)))

    def check_outside(self, data: Any) -> None:
        """Check that the directory is none that the next training would take for a class.

        Args:
            data: the photos, as `train` takes them, for training or for validation.

        Raises:
            ValueError: it lies among the folders of classes.
        """
        if not isinstance(data, (str, os.PathLike)) or not Path(data).is_dir():
            return
        for folder in Folder(Path(data)).places:
            if self.path.resolve().is_relative_to(folder.resolve()):
                raise ValueError(
                    f"{self.path}: expected a directory outside of {folder}, whose folders are the "
                    "classes; the run would be one of them"
                )

    def begin(self) -> None:
        """Make the directory, and remove what a run that was there left; a resumed run stays.

        The weights of the old run stay too, until those of the new one take their place: a kill
        before that loses nothing.

        Raises:
            OSError: it cannot be made.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        if self._held_run:
            self._remove_unfinished()
        if self._resume:
            return
        # The checkpoint comes first: with the args.json of another run it would be resumed.
        for name in ("checkpoint.safetensors", *_FILES):
            (self.path / name).unlink(missing_ok=True)

    def _remove_unfinished(self) -> None:
        """Remove what a killed run did not finish."""
        for name in _names_in(self.path):
            path = self.path / name
            if _UNFINISHED_FILE.fullmatch(name):
                path.unlink(missing_ok=True)
            elif _UNFINISHED_WEIGHTS.fullmatch(name) and set(_names_in(path)) <= set(_WEIGHTS):
                shutil.rmtree(path, ignore_errors=True)

    def remove(self, weights: Path) -> None:
        """Remove weights that the run before left, and that this run does not replace.

        Args:
            weights: `best` or `last`.
        """
        for name in _WEIGHTS:
            (weights / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # The user keeps something there.
            weights.rmdir()

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

    def kept(self, *, epoch_ended: bool) -> str:
        """A sentence on the weights that are there, for a message.

        Args:
            epoch_ended: True if an epoch of this run has ended.
        """
        if not epoch_ended:
            old = self.of_run_before(epoch_ended=False)
            if self.checkpoint.exists():
                return f"The weights at the last Ctrl-C are in {self.last}{old}"
            return f"No epoch has ended, so {self.path} holds no weights of this run{old}"
        return (
            f"The weights that were kept are not touched: those after the last epoch in "
            f"{self.last}, the best ones in {self.best}"
        )

    def of_run_before(self, *, epoch_ended: bool) -> str:
        """The end of a sentence on weights that the run before left, and that are still there."""
        ours = {self.best: epoch_ended, self.last: self.checkpoint.exists()}
        old = [
            os.fspath(path)
            for path, is_ours in ours.items()
            if not is_ours and (path / _WEIGHTS[0]).exists()
        ]
        return f"; those of the run before are still in {' and '.join(old)}" if old else ""

    def history(self, last_epoch: int) -> History:
        """The table of results; rows after `last_epoch` are dropped."""
        return History(self.path / "results.csv", COLUMNS, last_epoch=last_epoch)

    def write_json(self, name: str, values: Mapping[str, Any]) -> None:
        """Write a JSON file."""
        # Names of files need not be UTF-8, and so are escaped.
        text = json.dumps(values, indent=2, ensure_ascii=True, default=_plain)
        with replacing(self.path / name) as unfinished:
            Path(unfinished).write_text(text + "\n", encoding="ascii")

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

        evaluation.save(self.path / "report.json")
        save(confusion_matrix(evaluation), self.path / "confusion.png")
        save(mistake_mosaic(evaluation), self.path / "mistakes.jpg")


def _plain(value: Any) -> Any:
    """NumPy's numbers as Python's, and anything else as text."""
    return value.item() if isinstance(value, np.generic) else str(value)


def _check_can_be_made(path: Path) -> None:
    """Find out before the work that a directory can be made and written to.

    Raises:
        NotADirectoryError: it is a file, or below one.
        PermissionError: it may not be written to.
    """
    place = path.absolute()
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    if not place.is_dir():
        below = "" if place == path.absolute() else f"{path}: "
        raise NotADirectoryError(f"{below}{place} is no directory: expected one for the run")
    if not os.access(place, os.W_OK | os.X_OK):
        raise PermissionError(13, "no permission to write the run there", os.fspath(place))


def _is_first_unfinished(name: str) -> bool:
    """True for the args.json of a run that was killed while it wrote its first file."""
    return name.startswith("args.") and bool(_UNFINISHED_FILE.fullmatch(name))


def _names_in(directory: Path) -> list[str]:
    return sorted(os.listdir(directory)) if directory.is_dir() else []

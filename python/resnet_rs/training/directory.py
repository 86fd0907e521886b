"""The directory of a run: what is written where, whole at any time."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..evaluation.files import replacing
from ..evaluation.history import History

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

    Args:
        path: the directory; it is made if it does not exist.
        resume: go on with what is there; otherwise a run there is an error, unless `force` is set.
        force: begin anew over a run that is there.

    Raises:
        FileExistsError: there is a run, and neither `resume` nor `force` is set.
        FileNotFoundError: `resume` is set, and there is no checkpoint.
        NotADirectoryError: it is a file.
        OSError: it cannot be made.
    """

    def __init__(self, path: str | os.PathLike[str], *, resume: bool, force: bool) -> None:
        self.path = Path(path)
        if self.path.exists() and not self.path.is_dir():
            raise NotADirectoryError(f"{self.path} is a file: expected a directory for the run")
        there = [name for name in ("args.json", "results.csv") if (self.path / name).exists()]
        if resume and not self.checkpoint.exists():
            raise FileNotFoundError(
                2, "no such checkpoint: expected a run to resume", str(self.checkpoint)
            )
        if there and not resume and not force:
            raise FileExistsError(
                f"{self.path} holds a run already ({', '.join(there)}): resume it (resume=True, "
                "--resume), begin anew (force=True, --force), or choose another directory"
            )
        if there and force and not resume:
            for name in ("results.csv", "checkpoint.safetensors", "report.json"):
                (self.path / name).unlink(missing_ok=True)
        self.path.mkdir(parents=True, exist_ok=True)

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

    def history(self, last_epoch: int | None) -> History:
        """The table of results; rows after `last_epoch` are dropped."""
        return History(self.path / "results.csv", COLUMNS, last_epoch=last_epoch)

    def write_json(self, name: str, values: Mapping[str, Any]) -> None:
        """Write a JSON file."""
        text = json.dumps(values, indent=2, ensure_ascii=False, default=str)
        with replacing(self.path / name) as unfinished:
            Path(unfinished).write_text(text + "\n", encoding="utf-8")

    def read_json(self, name: str) -> dict[str, Any]:
        """Read a JSON file of the run."""
        values: dict[str, Any] = json.loads((self.path / name).read_text(encoding="utf-8"))
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

"""`Run`: what a training leaves."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..evaluation import Evaluation
from .trainer import Trainer


@dataclass(frozen=True, eq=False)
class Run:
    """A training that has ended.

    Attributes:
        directory: its directory; None if nothing was kept on disk.
        trainer: the network with its last weights, also if those of another epoch are the best.
        evaluation: the best weights on the validation photos; None if there are none.
        history: the rows of `results.csv`.
        best_epoch: the epoch of the best weights, from 1.
        interrupted: True if Ctrl-C ended it.
        remarks: everything that was found out, assumed or left out, as sentences.
        seconds: the time that it took.
    """

    directory: Path | None
    trainer: Trainer = field(repr=False)
    evaluation: Evaluation | None = field(repr=False)
    history: tuple[dict[str, Any], ...] = field(repr=False)
    best_epoch: int
    interrupted: bool
    remarks: tuple[str, ...]
    seconds: float

    @property
    def best(self) -> Path | None:
        """The directory of the best weights, which `resnet_rs.load` loads."""
        return None if self.directory is None else self.directory / "best"

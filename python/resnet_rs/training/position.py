"""The position of a training, and the result of each of its epochs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Position:
    """How far a training has come: kept in its checkpoint.

    Attributes:
        epoch: the epoch that runs, from 0.
        batch: the batches of it that are done.
        seconds: the time of training so far.
        loss: the sum of the losses of this epoch's photos so far.
        right: the photos of this epoch that were seen as what they are so far.
        photos: this epoch's photos so far.
        rate: the learning rate of the last step.
        best_score: the best result on the validation photos: accuracy, then loss with the sign
            turned.
        best_epoch: its epoch.
    """

    epoch: int = 0
    batch: int = 0
    seconds: float = 0.0
    loss: float = 0.0
    right: int = 0
    photos: int = 0
    rate: float = 0.0
    best_score: list[float] = field(default_factory=list)
    best_epoch: int = -1


@dataclass(frozen=True)
class EpochResult:
    """The result of an epoch, a row of `results.csv`.

    Attributes:
        epoch: from 1.
        row: the numbers by column.
        is_best: True if it is the best so far.
    """

    epoch: int
    row: dict[str, Any]
    is_best: bool

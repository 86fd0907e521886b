"""The loop of a training: epochs of steps, measuring, and everything that is kept on the way."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._core import WeightsError
from ..datasets.loader import Batch, Loader
from ..evaluation import Evaluation
from .batches import measured
from .directory import RunDirectory
from .errors import ADVICE, TrainingError
from .interrupt import Interrupt
from .position import EpochResult, Position
from .recipe import Recipe
from .show import Show
from .trainer import Trainer


class Loop:
    """A training that runs.

    Args:
        trainer: the network.
        recipe: all choices, completed.
        train: batches to learn from.
        val: batches to measure on; None if there are no validation photos.
        directory: the directory of the run; None keeps nothing on disk.
        position: how far it has come.
        show: the progress.
        on_epoch: called after each epoch.

    Attributes:
        running: the epoch that runs, from 1.
        best: the evaluation of the best weights; None if no epoch has ended since the beginning or
            the resumption, or if there are no validation photos.
        interrupted: True if Ctrl-C ended it.
    """

    def __init__(
        self,
        trainer: Trainer,
        recipe: Recipe,
        train: Loader,
        val: Loader | None,
        directory: RunDirectory | None,
        position: Position,
        *,
        show: Show,
        on_epoch: Callable[[EpochResult], None],
    ) -> None:
        self.trainer = trainer
        self.recipe = recipe
        self.position = position
        self._train = train
        self._val = val
        self._directory = directory
        self._show = show
        self._on_epoch = on_epoch
        self._schedule = recipe.schedule_of()
        self._history = None
        if directory is not None:
            self._history = directory.history(position.epoch)
        self.rows: list[dict[str, Any]] = list(self._history.rows) if self._history else []
        self.running = position.epoch + 1
        self.best: Evaluation | None = None
        self.interrupted = False
        self._is_measuring = False
        self._begin = time.monotonic()
        self._before = position.seconds

    @property
    def seconds(self) -> float:
        """The time of training so far, with that before a resumption."""
        return self._before + time.monotonic() - self._begin

    @property
    def batches(self) -> int:
        """The number of batches of an epoch."""
        return len(self._train)

    @property
    def done(self) -> float:
        """The part of the training that is done, from 0 to 1."""
        if self.recipe.time is not None:
            assert isinstance(self.recipe.time, float)
            return min(self.seconds / self.recipe.time, 1.0)
        assert self.recipe.epochs is not None
        at = self.position
        return (at.epoch * self.batches + at.batch) / (self.recipe.epochs * self.batches)

    def run(self) -> None:
        """Train to the end, or until Ctrl-C, which sets `interrupted` after the step.

        Raises:
            TrainingError: the training diverges.
        """
        with Interrupt(lambda: self._show.interrupted(self._is_measuring)) as interrupt:
            while not self.is_over:
                self._freeze()
                if not self._epoch(interrupt):
                    self.keep()
                elif not interrupt.is_set or self.is_over:
                    continue
                self.interrupted = True
                return

    def keep(self) -> None:
        """Write the last weights, and then the checkpoint."""
        if self._directory is None:
            return
        self.position.seconds = self.seconds
        self._save(self._directory.last)
        self.trainer.checkpoint(self._directory.checkpoint, position=vars(self.position))

    @property
    def _averages(self) -> bool:
        return self.recipe.average is not None

    @property
    def is_over(self) -> bool:
        """True if no step is left."""
        at, recipe = self.position, self.recipe
        if recipe.epochs is not None and at.epoch >= recipe.epochs:
            return True
        if isinstance(recipe.time, float) and at.batch == 0 and self.seconds >= recipe.time:
            return True
        waits = at.epoch - 1 - at.best_epoch
        return recipe.patience is not None and at.epoch > 0 and waits >= recipe.patience

    def _freeze(self) -> None:
        """Freeze what this epoch does not train."""
        assert self.recipe.frozen_epochs is not None
        freeze = set(self.recipe.freeze)
        if self.position.epoch < self.recipe.frozen_epochs:
            freeze.add("backbone")
        self.trainer.freeze(sorted(freeze))

    def _epoch(self, interrupt: Interrupt) -> bool:
        """Run an epoch, or the rest of one; False if Ctrl-C ended it."""
        at = self.position
        self.running = at.epoch + 1
        begin = self.seconds
        photos_before = at.photos
        waited = 0.0
        with self._train.epoch(at.epoch, skip=at.batch) as batches:
            for batch in batches:
                self._step(batch, self._schedule.at(self.done))
                if interrupt.is_set:
                    return False
                if isinstance(self.recipe.time, float) and self.seconds >= self.recipe.time:
                    break
            waited = batches.waited_s
        took = self.seconds - begin
        row: dict[str, Any] = {
            "epoch": at.epoch + 1,
            "train_loss": at.loss / max(at.photos, 1),
            "train_accuracy": at.right / max(at.photos, 1),
            "learning_rate": at.rate,
            "images_per_second": (at.photos - photos_before) / max(took, 1e-9),
            "waited_seconds": waited,
        }
        is_best = self._measure(row, at.epoch)
        row["seconds"] = self.seconds
        at.epoch, at.batch, at.loss, at.right, at.photos = at.epoch + 1, 0, 0.0, 0, 0
        if self._directory is not None and self._history is not None:
            if is_best:
                self._save(self._directory.best)
            # A kill before the checkpoint is written makes this epoch run again, and its row too.
            self._history.append(row)
            self.keep()
        self.rows.append(row)
        self._on_epoch(EpochResult(at.epoch, row, is_best))
        return True

    def _step(self, batch: Batch, rate: float) -> None:
        loss, seen = self.trainer.backward(batch.x, batch.y)
        self.trainer.update(lr=rate)
        at = self.position
        labels = batch.y if batch.y.ndim == 1 else batch.y.argmax(axis=1)
        at.batch += 1
        at.rate = rate
        at.loss += loss * len(batch.x)
        at.right += int((seen == labels).sum())
        at.photos += len(batch.x)
        self._show.step(self, loss)

    def _measure(self, row: dict[str, Any], epoch: int) -> bool:
        """Measure on the validation photos; True if it is the best result so far."""
        at = self.position
        score = [row["train_accuracy"], -row["train_loss"]]
        evaluation = None
        if self._val is not None:
            evaluation = self._evaluate(self._val)
            row["val_loss"], row["val_accuracy"] = evaluation.loss, evaluation.top1
            score = [evaluation.top1, -(evaluation.loss or 0.0)]
        if at.best_score and score <= at.best_score:
            return False
        at.best_score, at.best_epoch, self.best = score, epoch, evaluation
        return True

    def _evaluate(self, val: Loader) -> Evaluation:
        """Measure the weights of now on the validation photos."""
        self._is_measuring = True
        try:
            return measured(val, self._logits, self._show)
        finally:
            self._is_measuring = False

    def _logits(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            logits = self.trainer.logits(x, average=self._averages)
        except WeightsError as error:  # One is not finite, or too large to be folded.
            raise self._diverged(str(error)) from error
        if not np.isfinite(logits).all():
            raise self._diverged("the network's outputs are not finite")
        return logits

    def _save(self, weights: Path) -> None:
        # Weights that answer nothing take no other ones' place.
        size, channels = self.recipe.size, len(self.trainer.preprocessing.mean)
        assert size is not None
        self._logits(np.zeros((1, size, size, channels), np.float32))
        self.trainer.save(weights, force=True, average=self._averages)

    def _diverged(self, what: str) -> TrainingError:
        return TrainingError(f"after step {self.trainer.steps}: {what}. {ADVICE}")

"""The progress of a training, for a person who watches."""

from __future__ import annotations

import shutil
import sys
import time
from typing import Protocol, TextIO

from ..terminal.progress import Meter, Progress, duration_text
from ..terminal.visible import visible
from .position import EpochResult, Position
from .recipe import Recipe
from .trainer import Trainer

_SMOOTHING = 0.95
_RATE_SECONDS = 20.0


class Running(Protocol):
    """A training that runs, as far as its progress is shown.

    Attributes:
        recipe: all choices, completed.
        trainer: the network.
        position: how far it has come.
    """

    recipe: Recipe
    trainer: Trainer
    position: Position

    @property
    def seconds(self) -> float:
        """The time of training so far."""
        ...

    @property
    def batches(self) -> int:
        """The number of batches of an epoch."""
        ...

    @property
    def done(self) -> float:
        """The part of the training that is done, from 0 to 1."""
        ...


class Show:
    """Writes remarks, a line that changes while an epoch runs, and a line for each epoch.

    Args:
        on: True or False to write or not; None writes if `stream` is a terminal.
        stream: by default stderr.
        remarks: what a line with a remark begins with. Such lines are then written in any case, as
            commands do; None writes them as all others.
    """

    def __init__(
        self,
        on: bool | None = None,
        stream: TextIO | None = None,
        *,
        remarks: str | None = None,
    ) -> None:
        self._remarks = remarks
        self._stream = sys.stderr if stream is None else stream
        self._on = self._stream.isatty() if on is None else on
        self._progress = Progress(self._stream)
        if not self._on:
            self._progress.turn_off()
        self._meter: Meter | None = None
        self._loss: float | None = None
        self._rates: list[tuple[float, float]] = []

    def say(self, text: str) -> None:
        """Write a line that stays."""
        if self._on:
            self._progress.say("")
            print(visible(text), file=self._stream, flush=True)

    def remark(self, text: str) -> None:
        """Write a remark, a line that stays."""
        if self._remarks is None:
            self.say(text)
            return
        self._progress.say("")
        print(f"{self._remarks}{visible(text)}", file=self._stream, flush=True)

    def begin_photos(self, photos: int) -> None:
        """Show a pass over so many photos from now on: the check, or measuring."""
        self._meter = Meter(self._progress)
        self._meter.total = photos

    def photos(self, done: int, failed: int) -> None:
        """Show how many photos are done."""
        if self._meter is not None:
            self._meter.show(done, failed)

    def begin(self, loop: Running) -> None:
        """Write the head of the epochs' lines."""
        recipe, trainer = loop.recipe, loop.trainer
        span = f"{recipe.epochs} epochs" if recipe.epochs else f"{recipe.time:g} seconds"
        self.say(
            f"{trainer.config['architecture']}, {trainer.num_classes} classes, "
            f"{recipe.size} x {recipe.size}, {span} of {loop.batches} batches of "
            f"{recipe.batch_size}, {trainer.threads} threads, {trainer.isa}"
            f"{'' if recipe.precision == 'f32' else f', {recipe.precision}'}"
        )
        self.say("epoch   loss    acc    val loss  val acc  images/s    time")

    def step(self, loop: Running, loss: float) -> None:
        """Show a step."""
        if not self._progress.is_on:
            return
        before = self._loss
        self._loss = loss if before is None else _SMOOTHING * before + (1 - _SMOOTHING) * loss
        now, done = time.monotonic(), loop.done
        self._rates.append((now, done))
        while len(self._rates) > 2 and now - self._rates[0][0] > _RATE_SECONDS:
            self._rates.pop(0)
        (since, from_done), at = self._rates[0], loop.position
        rate = (done - from_done) / max(now - since, 1e-9)
        left = f"  {duration_text((1 - done) / rate)} left" if rate > 0 else ""
        filled = round(20 * at.batch / max(loop.batches, 1))
        line = (
            f"{at.epoch + 1:5}  {self._loss:6.4f} {at.right / max(at.photos, 1):6.1%}  "
            f"[{'#' * filled}{'-' * (20 - filled)}]{left}"
        )
        self._progress.say(line[: shutil.get_terminal_size().columns - 1])

    def epoch(self, result: EpochResult, loop: Running) -> None:
        """Write an epoch's line."""
        row = result.row
        val = "        -        -"
        if row.get("val_accuracy") is not None:
            val = f"  {row['val_loss'] or 0.0:7.4f} {row['val_accuracy']:8.1%}"
        wait = row["waited_seconds"]
        took = (row["train_loss"], row["train_accuracy"])
        waits = f"  waited {wait:.1f} s for photos" if wait > 1 else ""
        self.say(
            f"{result.epoch:5}  {took[0]:6.4f} {took[1]:6.1%}  {val}  "
            f"{row['images_per_second']:8.1f} {duration_text(loop.seconds):>7}"
            f"{'  best' if result.is_best else ''}{waits}"
        )

    def interrupted(self, is_measuring: bool) -> None:
        """Say what the first Ctrl-C does."""
        what = "measuring" if is_measuring else "this step"
        self.say(f"ending after {what}; press Ctrl-C again to end at once")

    def end(self) -> None:
        """Clear the line."""
        self._progress.say("")


class Remarks:
    """The remarks of a run: each is shown once, and kept.

    Args:
        show: writes them.
    """

    def __init__(self, show: Show) -> None:
        self._show = show
        self._all: dict[str, None] = {}

    def add(self, *texts: str) -> None:
        """Keep remarks, and show those that are new."""
        for text in texts:
            if text not in self._all:
                self._all[text] = None
                self._show.remark(text)

    @property
    def all(self) -> tuple[str, ...]:
        """All remarks, in their order."""
        return tuple(self._all)

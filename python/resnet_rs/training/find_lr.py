"""`find_lr`: the learning rate, found by trying all of them in one short training.

The rate rises from step to step, by the same factor each time. As long as it is too small, the loss
stays; then it falls; and at last the steps are too large and it explodes. The rate to train with
lies between: Smith, "Cyclical Learning Rates for Training Neural Networks", 2017.
"""

from __future__ import annotations

import itertools
import os
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from .. import arguments
from ..datasets.loader import Loader
from .errors import TrainingError
from .numbers import number
from .trainer import Trainer

if TYPE_CHECKING:
    from PIL import Image

Batches: TypeAlias = "Loader | Sequence[tuple[Any, Any]]"

SMOOTHING = 0.9
"""The part of the running mean of losses that a step keeps."""

EXPLODED = 3.0
"""The sweep ends when the smoothed loss is so many times the smallest one."""

FALLEN = 0.9
"""The part of the whole fall of the loss that is looked for.

The rate with the lowest loss itself says little: on easy photos the loss is almost 0 long before
the steps are too large.
"""

BELOW = 3.0
"""The suggestion is so much smaller than the rate at which that part is reached: the rate of a
sweep passes quickly, while a training stays near it for hundreds of steps."""

_FIRST = 10
"""Steps at whose rates the loss stays: they show its first value, and how far batches differ."""

_LEAST_FALL = 0.05
"""The least part of the first loss by which it must fall."""

_NOISE = 1.5
"""The least fall in standard deviations of a batch's loss. That of the running mean is a quarter of
one, and the smallest of a hundred means is some three times that below their middle."""


@dataclass(frozen=True, eq=False)
class LrSweep:
    """The losses of a sweep over learning rates.

    Attributes:
        rates: the learning rate of each step, rising.
        losses: the loss before each step.
        smoothed: the running mean of the losses.
        suggestion: the learning rate to train with, as the largest one of a schedule; None if no
            rate made the loss fall.
        reason: a sentence that says how the suggestion was found, or why there is none.
        exploded: True if the sweep ended because the loss exploded.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    suggestion: float | None
    reason: str
    exploded: bool

    def __str__(self) -> str:
        found = "no learning rate" if self.suggestion is None else f"lr={self.suggestion:.2g}"
        return f"{found}: {self.reason}"

    def picture(self) -> Image.Image:
        """Draw the losses over the learning rates.

        Returns:
            An RGB image with two pixels a point.
        """
        from ..evaluation.pictures import rate_curve

        return rate_curve(self.rates, self.losses, self.smoothed, self.suggestion)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the picture, by the end of the file's name: `.png`, `.jpg`, ...

        Raises:
            OSError, ValueError: it cannot be written.
        """
        from ..evaluation.pictures import save

        save(self.picture(), path)


def find_lr(
    trainer: Trainer,
    batches: Batches,
    *,
    low: float = 1e-5,
    high: float = 10.0,
    steps: int = 100,
) -> LrSweep:
    """Sweep over learning rates, and suggest one.

    ```python
    import numpy as np
    from resnet_rs.training import Trainer, find_lr

    random = np.random.default_rng(0)
    labels = np.arange(8) % 2
    images = random.standard_normal((8, 16, 16, 3), dtype=np.float32) + labels[:, None, None, None]
    trainer = Trainer("cifar_resnet20", num_classes=2)
    sweep = find_lr(trainer, [(images, labels)], steps=40)
    print(sweep)
    sweep.save("rates.png")
    ```

    The sweep trains a copy: `trainer` stays as it is. Every step has a new batch if there are
    enough of them, and the time is that of as many steps of a training.

    Args:
        trainer: the trainer, with the optimiser and all choices of the training to come.
        batches: a `Loader`, whose epochs follow each other; or a list of pairs `(x, y)`, as
            `Trainer.step` takes them, which is repeated.
        low: the first learning rate.
        high: the learning rate of the last step, if the loss does not explode before.
        steps: the number of steps.

    Returns:
        The losses, and the suggestion with its reason.

    Raises:
        ValueError: no batches, fewer than 10 steps, or rates that do not rise.
        TypeError, MemoryError: as `Trainer.step` does.
    """
    steps = arguments.count("steps", steps, least=10)
    low, high = number("low", low), number("high", high)
    if not 0 < low < high:
        raise ValueError(f"expected 0 < low < high; got low={low!r} and high={high!r}")
    copy = trainer.copy()
    rates: list[float] = []
    losses: list[float] = []
    smoothed: list[float] = []
    exploded = False
    mean = 0.0
    for done, (x, y) in enumerate(itertools.islice(_endless(batches), steps)):
        rate = low * (high / low) ** (done / (steps - 1))
        try:
            loss = copy.step(x, y, lr=rate)
        except TrainingError:
            exploded = True
            break
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        rates.append(rate)
        losses.append(loss)
        smoothed.append(mean / (1 - SMOOTHING ** (done + 1)))
        if done and smoothed[-1] > EXPLODED * min(smoothed):
            exploded = True
            break
    if not rates:
        raise TrainingError(
            f"the loss is no number before the first step, at a learning rate of {low:g}: look at "
            "the images and at the weights"
        )
    suggestion, reason = _suggested(rates, losses, smoothed, exploded)
    return LrSweep(tuple(rates), tuple(losses), tuple(smoothed), suggestion, reason, exploded)


def _suggested(
    rates: Sequence[float], losses: Sequence[float], smoothed: Sequence[float], exploded: bool
) -> tuple[float | None, str]:
    first = statistics.median(losses[:_FIRST])
    least = max(_LEAST_FALL * first, _NOISE * statistics.pstdev(losses[:_FIRST]))
    lowest = min(smoothed)
    last = f"{rates[-1]:.2g}"
    end = f"exploded at {last}" if exploded else f"was {smoothed[-1]:.3g} at {last}"
    if not lowest < first - least:
        if exploded and len(rates) <= 2 * _FIRST:
            advice = f"it {end} already: pass a smaller low"
        elif exploded:
            advice = f"it {end} without falling first: look at the photos and their labels"
        else:
            advice = f"it {end}: pass a larger high, or more steps"
        return None, f"the loss did not fall from {losses[0]:.3g}; {advice}"
    wanted = first - FALLEN * (first - lowest)
    rate = next(r for r, loss in zip(rates, smoothed, strict=True) if loss <= wanted)
    return rate / BELOW, (
        f"the loss fell from {first:.3g} to {lowest:.3g}, nine tenths of that up to {rate:.2g}, "
        f"and {end}; this is a third of {rate:.2g}"
    )


def _endless(batches: Batches) -> Iterator[tuple[Any, Any]]:
    """Go through the batches again and again."""
    if isinstance(batches, Loader):
        yield from _of_loader(batches)
        return
    pairs = list(batches)
    if not pairs or not all(isinstance(pair, (tuple, list)) and len(pair) == 2 for pair in pairs):
        raise ValueError("batches: expected a Loader, or a list of pairs (x, y)")
    while True:
        yield from pairs


def _of_loader(loader: Loader) -> Iterator[tuple[Any, Any]]:
    for epoch in itertools.count():
        with loader.epoch(epoch) as batches:
            for batch in batches:
                yield batch.x, batch.y

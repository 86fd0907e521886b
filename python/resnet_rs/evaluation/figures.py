"""The figures of an evaluation, and its mistakes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import arguments

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Mistake:
    """One image whose best class is not its label.

    Attributes:
        index: its place among the evaluated images, from 0.
        image: its path, or whatever stands for it; None if the images are not known.
        label: the index of its true class.
        predicted: the index of the class that was given.
        score: the score of the class that was given.
        label_score: the score of the true class.
    """

    index: int
    image: Any
    label: int
    predicted: int
    score: float
    label_score: float


@dataclass(frozen=True, slots=True)
class Skipped:
    """One image that could not be read, and so was left out.

    Attributes:
        image: its path, or whatever stands for it.
        reason: the error in words.
    """

    image: Any
    reason: str


@dataclass(frozen=True, eq=False)
class Figures:
    """The fields of an `Evaluation`, which describes them."""

    classes: tuple[str, ...]
    labels: Ints = field(repr=False)
    predicted: Ints = field(repr=False)
    scores: NDArray[np.float32] = field(repr=False)
    label_scores: NDArray[np.float32] = field(repr=False)
    top1: float
    top5: float
    loss: float | None
    calibration_error: float | None
    confusion: Ints = field(repr=False)
    support: Ints = field(repr=False)
    precision: Floats = field(repr=False)
    recall: Floats = field(repr=False)
    f1: Floats = field(repr=False)
    macro_precision: float
    macro_recall: float
    macro_f1: float
    activation: str = "softmax"
    images: tuple[Any, ...] | None = field(default=None, repr=False)
    skipped: tuple[Skipped, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """The number of evaluated images."""
        return len(self.labels)

    @property
    def correct(self) -> int:
        """The number of images whose label was given."""
        return int(np.trace(self.confusion))

    @property
    def occurring(self) -> NDArray[np.intp]:
        """The indices of the classes that occur, as a label or as an answer, in order."""
        return np.flatnonzero(self.confusion.any(axis=0) | self.confusion.any(axis=1))

    def mistakes(self, most: int | None = None) -> list[Mistake]:
        """List the wrong answers, the most confident first.

        Args:
            most: the number of mistakes to list, at most; None for all.

        Returns:
            The mistakes by falling score of the class that was given; equal scores by index.

        Raises:
            TypeError, ValueError: `most` is not a whole number from 0 up.
        """
        if most is not None:
            most = arguments.count("most", most, least=0)
        wrong = np.flatnonzero(self.labels != self.predicted)
        order = wrong[np.argsort(-self.scores[wrong], kind="stable")][:most]
        return [
            Mistake(
                index,
                None if self.images is None else self.images[index],
                int(self.labels[index]),
                int(self.predicted[index]),
                float(self.scores[index]),
                float(self.label_scores[index]),
            )
            for index in order.tolist()
        ]

"""The results that users see: predictions, and what a stream says of each image."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .images.errors import ImageError


@dataclass(frozen=True, slots=True)
class Prediction:
    """One class that an image may belong to.

    Attributes:
        label: the class's name.
        score: its probability by softmax or sigmoid, 0 to 1; or the output's plain value, if the
            model's `config.activation` is `none`.
        index: its place among the logits, from 0.
    """

    label: str
    score: float
    index: int


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """The result of one image of a stream, or the error in its place.

    Attributes:
        index: its place among the paths, from 0.
        path: the path, or whatever kind of image was given in its place.
        predictions: its best classes, best first, as `model.predict` gives them; None if
            something else was asked for or there is an error.
        vector: the array that `model.embed` or `model.logits` gives, float32; else None.
        error: the reason why there is no result; None if there is one.
    """

    index: int
    path: Any
    predictions: list[Prediction] | None = None
    vector: NDArray[np.float32] | None = None
    error: Exception | None = None

    @property
    def reason(self) -> str | None:
        """The error in words, without the path; None if there is no error."""
        if self.error is None:
            return None
        if isinstance(self.error, OSError):
            return self.error.strerror or str(self.error) or type(self.error).__name__
        if isinstance(self.error, MemoryError):
            return f"out of memory: {self.error}"
        text = str(self.error) or type(self.error).__name__
        if isinstance(self.error, ImageError) and isinstance(self.path, (str, os.PathLike)):
            text = text.removeprefix(f"{os.fsdecode(self.path)!r}: ")
        return text


def predictions_of(
    labels: Sequence[str], scores: NDArray[np.float32], indices: NDArray[np.int64]
) -> list[Prediction]:
    """One image's predictions.

    Args:
        labels: the names of all classes.
        scores: `[k]`, best first.
        indices: `[k]`, the class that each score belongs to.
    """
    pairs = zip(scores.tolist(), indices.tolist(), strict=True)
    return [Prediction(labels[index], score, index) for score, index in pairs]

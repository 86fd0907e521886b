"""From logits to scores: the output function, and the mean over an image's views."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .._core import top_k as core_top_k
from ..images.views import VIEWS


def class_scores(
    logits: NDArray[np.float32], activation: str, top_k: int | None = None
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Apply the output function, and pick each image's best classes.

    This is the only place where logits become scores: predictions, probabilities, streams and the
    mean over views all come here.

    Args:
        logits: `[n, classes]`, C-contiguous.
        activation: the output function, the config's `activation`.
        top_k: the number of classes to pick; None for all.

    Returns:
        Scores and indices of the classes, each `[n, top_k]`, best first; equal logits are ordered
        by index. No activation changes the order of the logits.
    """
    return core_top_k(logits, logits.shape[1] if top_k is None else top_k, activation)


def probabilities_of(logits: NDArray[np.float32], activation: str) -> NDArray[np.float32]:
    """The score of every class, `[n, classes]` in the order of the logits."""
    scores, indices = class_scores(logits, activation)
    probabilities = np.empty_like(scores)
    np.put_along_axis(probabilities, indices, scores, axis=1)
    return probabilities


def best_of(
    probabilities: NDArray[np.float32], top_k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The largest of each row and their indices, largest first, equal ones by index."""
    indices = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k].astype(np.int64)
    return np.take_along_axis(probabilities, indices, axis=1), indices


class MeanProbabilities:
    """The mean over the views of each image, summed in float64 in the order in which they come.

    It is the mean of the views' scores, whatever the activation.

    Args:
        images: the number of images.
        classes: the number of classes.
        tta: one of `VIEWS`.
        activation: the output function.
    """

    def __init__(self, images: int, classes: int, tta: str, activation: str) -> None:
        self._activation = activation
        self._sums = np.zeros((images, classes))
        self._views = VIEWS[tta]

    def add(self, logits: NDArray[np.float32], images: NDArray[np.intp]) -> None:
        """Add views: logits `[n, classes]`, and `[n]`, the image of each, from 0."""
        # Unlike `sums[images] += ...`, this adds every row of an image that comes more than once.
        np.add.at(self._sums, images, probabilities_of(logits, self._activation))

    def result(self) -> NDArray[np.float32]:
        """`[images, classes]`, once every view of every image was added."""
        return (self._sums / self._views).astype(np.float32)

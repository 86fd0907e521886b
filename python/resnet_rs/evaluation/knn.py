"""Classification by the nearest neighbours of an embedding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import arguments
from .embeddings import checked_embeddings, checked_pair
from .evaluation import Evaluation
from .metrics import measure

_CHUNK = 1024
# The weights of the neighbours, as in Wu et al., Unsupervised Feature Learning via Non-Parametric
# Instance Discrimination.
_TEMPERATURE = 0.07


def knn(
    train_x: Any,
    train_y: Any,
    val_x: Any,
    val_y: Any,
    *,
    k: int = 10,
    classes: Sequence[str] | None = None,
    images: Sequence[Any] | None = None,
) -> Evaluation:
    """Give each embedding the class that its nearest neighbours have.

    Neighbours are those with the largest cosine. Each votes for its class with the weight
    exp(cosine / 0.07), so that nearer ones count more. Nothing is trained.

    Args:
        train_x: `[n, features]`, the embeddings of labelled images, as `model.embed` gives them.
        train_y: `[n]`, the indices of their classes.
        val_x: `[m, features]`, the embeddings to classify.
        val_y: `[m]`, the indices of their classes.
        k: the number of neighbours; all of them if there are fewer.
        classes: the names of the classes, by index; by default the indices up to the largest.
        images: the paths of `val_x`, or whatever stands for them.

    Returns:
        An `Evaluation` of `val_x`. A score is the share of the votes; there is no loss.

    Raises:
        TypeError: no numbers, labels that are not integers.
        ValueError: arrays of other shapes, no embedding, values that are not finite, labels out of
            range.
    """
    k = arguments.count("k", k)
    train = checked_embeddings("train", train_x)
    val = checked_embeddings("val", val_x)
    train_labels, val_labels, names = checked_pair(train, train_y, val, val_y, classes)
    return measure(
        votes(train, train_labels, val, len(names), k),
        val_labels,
        names,
        activation="none",
        images=images,
    )


def votes(
    train: NDArray[np.float32],
    labels: NDArray[np.int64],
    val: NDArray[np.float32],
    classes: int,
    k: int,
) -> NDArray[np.float64]:
    """Compute the share of the neighbours' votes for each class, `[m, classes]`.

    Args:
        train: `[n, features]`.
        labels: `[n]`.
        val: `[m, features]`.
        classes: the number of classes.
        k: the number of neighbours.
    """
    near, k = _unit(train), min(k, len(train))
    result = np.zeros((len(val), classes))
    for start in range(0, len(val), _CHUNK):
        cosines = _unit(val[start : start + _CHUNK]) @ near.T
        best = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
        of_best = np.take_along_axis(cosines, best, axis=1).astype(np.float64)
        weights = np.exp((of_best - of_best[:, :1]) / _TEMPERATURE)
        rows = np.repeat(np.arange(start, start + len(best)), k)
        np.add.at(result, (rows, labels[best].ravel()), weights.ravel())
    shares: NDArray[np.float64] = result / result.sum(axis=1, keepdims=True)
    return shares


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale each row to length 1; a row of zeros stays one."""
    lengths = np.sqrt(np.square(vectors, dtype=np.float64).sum(axis=1, keepdims=True))
    unit = vectors / np.where(lengths > 0, lengths, 1)
    return unit.astype(np.float32)

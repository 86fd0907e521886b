"""Checks on embeddings and their labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import arguments
from .metrics import checked_labels


def checked_embeddings(name: str, x: Any) -> NDArray[np.float32]:
    """Check embeddings `[n, features]`, and make them float32.

    Args:
        name: the set's name in messages.
        x: any object.

    Raises:
        TypeError: not an array of numbers.
        ValueError: another shape, none at all, or a value that is not finite.
    """
    array = np.asarray(x)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name}_x must be an array of numbers; got {array.dtype}")
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(
            f"{name}_x must be [n, features], as model.embed gives it, with at least one row; got "
            f"shape {list(array.shape)}"
        )
    values: NDArray[np.float32] = np.ascontiguousarray(array, np.float32)
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        raise ValueError(f"{name}_x must be finite; row {int(finite.argmin())} is not")
    return values


def checked_pair(
    train: NDArray[np.float32],
    train_y: Any,
    val: NDArray[np.float32],
    val_y: Any,
    classes: Sequence[str] | None,
) -> tuple[NDArray[np.int64], NDArray[np.int64], tuple[str, ...]]:
    """Check the labels of two sets of embeddings.

    Returns:
        The labels of both, and the names of the classes: `classes`, or else the indices up to the
        largest label.

    Raises:
        TypeError, ValueError: as `checked_labels` does; also if the embeddings have different
            lengths.
    """
    if train.shape[1] != val.shape[1]:
        raise ValueError(
            f"train_x has {train.shape[1]} features and val_x {val.shape[1]}: both must come from "
            "one network"
        )
    if classes is None:
        largest = max(
            (int(np.max(y)) for y in map(np.asarray, (train_y, val_y)) if y.dtype.kind in "iu"),
            default=0,
        )
        names = tuple(map(str, range(max(largest, 0) + 1)))
    else:
        names = arguments.texts("classes", classes)
    labels = []
    for name, x, y in (("train_y", train, train_y), ("val_y", val, val_y)):
        try:
            labels.append(checked_labels(y, len(x), len(names)))
        except (TypeError, ValueError) as error:
            raise type(error)(f"{name}: {error}") from None
    return labels[0], labels[1], names

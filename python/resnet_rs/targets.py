"""Labels, label smoothing, class weights and soft targets as one matrix for the loss.

The loss of training is softmax cross-entropy, with the definitions of
`torch.nn.functional.cross_entropy` and its mean over the batch. All of its options are in the
matrix T of `target_matrix`: with it, for every combination of options,

    loss    = - sum over n, c of T[n, c] * log_softmax(logits)[n, c]
    dlogits = softmax(logits) * (sum over c of T[n, c]) - T
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def target_matrix(
    y: ArrayLike,
    classes: int,
    *,
    smoothing: float = 0.0,
    class_weights: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """Make the matrix T of the loss.

    With labels, B pictures, K classes, smoothing s and class weights w:

        T[n, c] = ((1 - s) * w[y[n]] * (1 if c = y[n] else 0) + s / K * w[c])
                  / (sum over the batch of w[y[n]])

    With soft targets t, which state a probability for each class:

        T[n, c] = ((1 - s) * t[n, c] + s / K) * w[c] / B

    So labels are divided by the weights of the batch, and soft targets by its size, as torch does.

    Args:
        y: labels, integers `[batch]` from 0 to `classes - 1`; or soft targets, floating-point
            numbers `[batch, classes]`, usually with rows that add up to 1 (mixup and cutmix).
        classes: the number of the network's logits.
        smoothing: from 0 to 1: the part of each target that is shared among all classes.
        class_weights: `[classes]`, numbers of at least 0; None for 1 each.

    Returns:
        float64 `[batch, classes]`.

    Raises:
        TypeError: y holds neither integers nor floating-point numbers.
        ValueError: a shape does not fit, a label or a number is out of range, or all pictures of
            the batch have the weight 0.
    """
    if not 0 <= smoothing <= 1:  # also refuses NaN
        raise ValueError(f"smoothing must be from 0 to 1; got {smoothing}")
    weights = _checked_weights(class_weights, classes)
    found = np.asarray(y)
    if found.ndim < 1 or not len(found):
        raise ValueError(f"y must be a batch of at least one picture; got shape {found.shape}")
    if np.issubdtype(found.dtype, np.integer):
        labels = _checked_labels(found, classes)
        own = weights[labels]  # [batch]
        total = own.sum()
        if total == 0:
            raise ValueError(
                f"class_weights is 0 for every label of the batch ({_some(np.unique(labels))}): "
                "give one of these classes a weight above 0"
            )
        matrix = np.tile(smoothing / classes * weights, (len(labels), 1))
        matrix[np.arange(len(labels)), labels] += (1 - smoothing) * own
        result: NDArray[np.float64] = matrix / total
        return result
    if np.issubdtype(found.dtype, np.floating):
        soft = _checked_soft(found, classes)
        return ((1 - smoothing) * soft + smoothing / classes) * weights / len(soft)
    raise TypeError(
        f"y must be integer labels [batch] or floating-point targets [batch, {classes}]; "
        f"got dtype {found.dtype}"
    )


def _checked_labels(labels: NDArray[Any], classes: int) -> NDArray[np.int64]:
    if labels.ndim != 1:
        raise ValueError(
            f"integer labels must have shape [batch]; got {list(labels.shape)}. Soft targets "
            f"[batch, {classes}] are floating-point numbers: pass y.astype(numpy.float32)"
        )
    wrong = (labels < 0) | (labels >= classes)
    if wrong.any():
        place = int(wrong.argmax())
        raise ValueError(
            f"y[{place}] is {labels[place]}; with {classes} classes, labels are from 0 to "
            f"{classes - 1}"
        )
    return labels.astype(np.int64)


def _checked_soft(targets: NDArray[Any], classes: int) -> NDArray[np.float64]:
    if targets.ndim != 2 or targets.shape[1] != classes:
        raise ValueError(
            f"soft targets must have shape [batch, {classes}]; got {list(targets.shape)}. Labels "
            "[batch] are integers: pass y.astype(numpy.int64)"
        )
    if not np.isfinite(targets).all() or targets.min() < 0:
        raise ValueError("soft targets must be finite and at least 0")
    return targets.astype(np.float64)


def _checked_weights(weights: ArrayLike | None, classes: int) -> NDArray[np.float64]:
    if weights is None:
        return np.ones(classes)
    found = np.asarray(weights, np.float64)
    if found.shape != (classes,):
        raise ValueError(f"class_weights must have shape [{classes}]; got {list(found.shape)}")
    if not np.isfinite(found).all() or found.min() < 0:
        raise ValueError(f"class_weights must be finite and at least 0; got {_some(found)}")
    return found


def _some(values: NDArray[Any]) -> str:
    """Name a few values."""
    shown = ", ".join(f"{value:g}" for value in values[:5])
    return f"{shown}, ..." if len(values) > 5 else shown

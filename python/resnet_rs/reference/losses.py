"""The loss of training, softmax cross-entropy, and its gradient.

Labels, label smoothing, class weights, soft targets and the mean over the batch all go into one
matrix T, `[batch, classes]` (`resnet_rs.targets.target_matrix` makes it). Two formulas then hold
for every case:

    loss    = - sum over n, c of T[n, c] * log_softmax(logits)[n, c]
    dlogits = softmax(logits) * (sum over c of T[n, c]) - T
"""

from __future__ import annotations

import numpy as np

from .layers import softmax
from .windows import Array


def log_softmax(logits: Array) -> Array:
    """Compute the logarithm of `softmax`, also where the probability itself rounds to 0.

        log_softmax(z)[c] = z[c] - log(sum over k of exp(z[k]))

    The largest logit is subtracted first, so exp cannot overflow and the sum is at least 1.

    Args:
        logits: `[..., classes]`.
    """
    shifted = logits - logits.max(axis=-1, keepdims=True)
    result: Array = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result


def cross_entropy(logits: Array, targets: Array) -> float:
    """Measure how far the scores are from the targets: 0 is perfect.

        loss = - sum over n, c of targets[n, c] * log_softmax(logits)[n, c]

    Args:
        logits: `[batch, classes]`.
        targets: `[batch, classes]`, the matrix of `resnet_rs.targets.target_matrix`.

    Raises:
        ValueError: the shapes differ.
    """
    _same_shape(logits, targets)
    return float(-(targets * log_softmax(logits)).sum())


def cross_entropy_gradient(logits: Array, targets: Array) -> Array:
    """Return the gradient of `cross_entropy` by the logits.

        dlogits[n, k] = softmax(logits)[n, k] * (sum over c of targets[n, c]) - targets[n, k]

    For dlog_softmax[c]/dlogits[k] = (1 if c = k else 0) - softmax[k]; times -targets[n, c], summed
    over c. With one label and nothing else it is (probabilities - one-hot) / batch.

    Args:
        logits: `[batch, classes]`.
        targets: `[batch, classes]`.

    Returns:
        `[batch, classes]`. Each row adds up to 0.

    Raises:
        ValueError: the shapes differ.
    """
    _same_shape(logits, targets)
    weights: Array = targets.sum(axis=1, keepdims=True)  # [batch, 1]
    return softmax(logits) * weights - targets


def _same_shape(logits: Array, targets: Array) -> None:
    if logits.ndim != 2 or logits.shape != targets.shape:
        raise ValueError(
            f"expected logits and targets of one shape [batch, classes]; got {list(logits.shape)} "
            f"and {list(targets.shape)}. resnet_rs.targets.target_matrix makes targets of labels"
        )

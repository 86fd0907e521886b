"""Batch norm while a network is trained: with the statistics of the batch, and its gradients.

While a network is used, batch norm is a scale and a shift (`layers.batch_norm`). While it is
trained, the mean and the variance come from the batch itself. So every pixel of a channel takes
part in every other's result, and the gradient has two terms more.

m is the number of values that a channel has in the batch: batch * height * width.
"""

from __future__ import annotations

import numpy as np

from .layers import batch_norm
from .windows import Array

CHANNELWISE = (0, 1, 2)
"""The axes of NHWC that a channel's statistics go over: batch, height and width."""


def batch_norm_training(
    x: Array,
    running_mean: Array,
    running_variance: Array,
    scale: Array,
    shift: Array,
    epsilon: float = 1e-5,
    momentum: float = 0.1,
) -> tuple[Array, Array, Array]:
    """Normalise with the batch's own statistics, and move the running ones towards them.

        mean             = sum of x / m
        variance         = sum of (x - mean)^2 / m            (biased: for the normalisation)
        y                = (x - mean) / sqrt(variance + epsilon) * scale + shift
        running_mean     = (1 - momentum) * running_mean + momentum * mean
        running_variance = (1 - momentum) * running_variance + momentum * variance * m / (m - 1)

    The running variance is unbiased: it is an estimate for all pictures. The batch's variance is a
    property of the batch.

    Args:
        x: `[batch, h, w, channels]`.
        running_mean: `[channels]`, before this batch.
        running_variance: `[channels]`, before this batch.
        scale: `[channels]`, torch's `weight`, the paper's gamma.
        shift: `[channels]`, torch's `bias`, the paper's beta.
        epsilon: keeps the root away from 0.
        momentum: the weight of the new batch; 0.1 in torch. Keras states 1 minus it.

    Returns:
        y `[batch, h, w, channels]`, the new running mean and the new running variance.

    Raises:
        ValueError: a channel has a single value, and so no variance.
    """
    count = x.size // x.shape[3]
    if count < 2:
        raise ValueError(
            f"batch statistics need at least 2 values for each channel; x is {list(x.shape)} "
            "(NHWC): train with a larger batch or larger pictures"
        )
    mean, variance = x.mean(axis=CHANNELWISE), x.var(axis=CHANNELWISE)
    y = batch_norm(x, mean, variance, scale, shift, epsilon)
    unbiased = variance * count / (count - 1)
    return (
        y,
        (1 - momentum) * running_mean + momentum * mean,
        (1 - momentum) * running_variance + momentum * unbiased,
    )


def batch_norm_training_gradients(
    dy: Array, x: Array, scale: Array, epsilon: float = 1e-5
) -> tuple[Array, Array, Array]:
    """Return the gradients of `batch_norm_training` by x, scale and shift.

    With s = sqrt(variance + epsilon) and the normalised value n = (x - mean) / s:

        dshift = sum of dy
        dscale = sum of dy * n
        dx     = scale / s * (dy - dshift / m - n * dscale / m)

    The last line in three steps. (1) y = n * scale + shift, so dn = dy * scale. (2) x takes part in
    n directly, with the factor 1 / s, and through the two statistics:

        dn[j]/dx[i] = ((1 if i = j else 0) - 1 / m - n[i] * n[j] / m) / s

    as dmean/dx[i] = 1 / m and ds/dx[i] = n[i] / m. (3) Multiply by dn[j] and add up over j: the
    three terms become dy, its sum, and its sum with n.

    So dx has the mean 0 in each channel and is orthogonal to n: moving or stretching a whole
    channel changes no result, as the normalisation takes it back.

    Args:
        dy: `[batch, h, w, channels]`.
        x: the input of the forward, `[batch, h, w, channels]`.
        scale: `[channels]`.
        epsilon: as in the forward.

    Returns:
        dx `[batch, h, w, channels]`, dscale `[channels]`, dshift `[channels]`.
    """
    m = x.size // x.shape[3]
    s = np.sqrt(x.var(axis=CHANNELWISE) + epsilon)
    n = (x - x.mean(axis=CHANNELWISE)) / s
    dshift = dy.sum(axis=CHANNELWISE)
    dscale = (dy * n).sum(axis=CHANNELWISE)
    dx = scale / s * (dy - dshift / m - n * dscale / m)
    return dx, dscale, dshift


def batch_norm_gradients(
    dy: Array, x: Array, mean: Array, variance: Array, scale: Array, epsilon: float = 1e-5
) -> tuple[Array, Array, Array]:
    """Return the gradients of `layers.batch_norm`, whose statistics are constants.

    This is a batch norm in evaluation mode, as frozen layers have it:

        dx     = dy * scale / sqrt(variance + epsilon)
        dscale = sum of dy * (x - mean) / sqrt(variance + epsilon)
        dshift = sum of dy

    Args:
        dy: `[batch, h, w, channels]`.
        x: the input of the forward, `[batch, h, w, channels]`.
        mean: `[channels]`, the running mean.
        variance: `[channels]`, the running variance.
        scale: `[channels]`.
        epsilon: as in the forward.

    Returns:
        dx `[batch, h, w, channels]`, dscale `[channels]`, dshift `[channels]`.
    """
    s = np.sqrt(variance + epsilon)
    dscale = (dy * (x - mean) / s).sum(axis=CHANNELWISE)
    return dy * scale / s, dscale, dy.sum(axis=CHANNELWISE)

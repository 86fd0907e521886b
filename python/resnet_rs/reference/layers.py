"""The operations of a ResNet, one function each.

Layouts: activations are NHWC, `[batch, height, width, channels]`; a convolution's weights are OHWI,
`[out, kernel height, kernel width, in]`. Everything is float64. Files keep a convolution's weights
as OIHW, as torch does: `ohwi` turns them.

A **tap** is one position `(ky, kx)` of a kernel's window. Convolution and pooling loop over the
taps; the values under one tap, for all output pixels at once, are a slice of the padded input
(`windows.py`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .windows import Array, counted_places, pad, pad_for_pool, pooled_size, under_tap


def conv2d(
    x: Array,
    weights: Array,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
    bias: Array | None = None,
    dilation: int = 1,
) -> Array:
    """Slide a window over the picture; every output pixel is a weighted sum of what it covers.

        y[n, i, j, o] = bias[o] + sum over ky, kx, c of
                        x[n, i * stride + ky * dilation - padding,
                             j * stride + kx * dilation - padding, c]
                        * weights[o, ky, kx, c]

    Outside the picture x is 0. The kernel is not mirrored: the convolution of networks is the
    cross-correlation of signal processing.

    With `groups` above 1 the channels are cut into that many equal runs, and the outputs of a run
    see the inputs of the same run only.

    Args:
        x: `[batch, in_h, in_w, in_channels]`.
        weights: `[out_channels, kernel_h, kernel_w, in_channels / groups]` (OHWI).
        stride: how far the window moves between one output pixel and the next.
        padding: how many zeros go around the picture, on each side.
        groups: a divisor of both channel counts.
        bias: `[out_channels]`; None adds nothing.
        dilation: how far apart the taps are; with 2 a 3x3 window covers 5x5 pixels.

    Returns:
        `[batch, out_h, out_w, out_channels]`, with
        `out = floor((in + 2 * padding - span) / stride) + 1`, `span = (kernel - 1) * dilation + 1`.

    Raises:
        ValueError: the weights do not fit x.
    """
    out_channels, kernel_h, kernel_w, group_in = weights.shape
    if group_in * groups != x.shape[3] or out_channels % groups:
        raise ValueError(
            f"weights {list(weights.shape)} (OHWI) in {groups} group(s) take "
            f"{group_in * groups} input channels; x is {list(x.shape)} (NHWC)"
        )
    group_out = out_channels // groups
    padded = pad(x, padding, 0.0)  # [batch, in_h + 2 * padding, in_w + 2 * padding, in_channels]
    out_h = (padded.shape[1] - (kernel_h - 1) * dilation - 1) // stride + 1
    out_w = (padded.shape[2] - (kernel_w - 1) * dilation - 1) // stride + 1

    y = np.zeros((len(x), out_h, out_w, out_channels))
    for ky in range(kernel_h):
        for kx in range(kernel_w):
            # [batch, out_h, out_w, in]
            tap = under_tap(padded, ky * dilation, kx * dilation, stride, out_h, out_w)
            for group in range(groups):
                ins = slice(group * group_in, (group + 1) * group_in)
                outs = slice(group * group_out, (group + 1) * group_out)
                # [batch, out_h, out_w, in] @ [in, out] -> [batch, out_h, out_w, out]
                y[..., outs] += tap[..., ins] @ weights[outs, ky, kx].T
    return y if bias is None else y + bias


def batch_norm(
    x: Array,
    mean: Array,
    variance: Array,
    scale: Array,
    shift: Array,
    epsilon: float = 1e-5,
) -> Array:
    """Give each channel mean 0 and variance 1, then its learned scale and shift.

        y = (x - mean) / sqrt(variance + epsilon) * scale + shift

    The mean and variance come from training (`running_mean`, `running_var`), not from this batch,
    so the result for a picture does not depend on the others.

    Args:
        x: `[batch, h, w, channels]`.
        mean: `[channels]`, torch's `running_mean`.
        variance: `[channels]`, torch's `running_var`.
        scale: `[channels]`, torch's `weight`, the paper's gamma.
        shift: `[channels]`, torch's `bias`, the paper's beta.
        epsilon: keeps the root away from 0; 1e-5 in torch, 1.001e-5 in Keras.

    Returns:
        `[batch, h, w, channels]`.
    """
    return (x - mean) / np.sqrt(variance + epsilon) * scale + shift


def relu(x: Array) -> Array:
    """Replace negative values with 0: `y = max(x, 0)`. Any shape."""
    return np.maximum(x, 0.0)


def add(x: Array, shortcut: Array) -> Array:
    """Add a block's result and its shortcut, both `[batch, h, w, channels]`.

    Raises:
        ValueError: the shapes differ. NumPy by itself would repeat a side of length 1.
    """
    if x.shape != shortcut.shape:
        raise ValueError(f"cannot add {list(x.shape)} and {list(shortcut.shape)}")
    return x + shortcut


def max_pool(
    x: Array, kernel: int, stride: int, padding: int = 0, ceil_mode: bool = False
) -> Array:
    """Keep the largest value under the window, channel by channel.

    Outside the picture x is minus infinity, so the border never wins.

    Args:
        x: `[batch, in_h, in_w, channels]`.
        kernel: the side of the window.
        stride: how far the window moves.
        padding: how far the window may extend outside, on each side; at most half of `kernel`.
        ceil_mode: also keep a last window that hangs over the end, as Caffe does.

    Returns:
        `[batch, out_h, out_w, channels]`, sized as for `avg_pool`.
    """
    out_h, out_w = (pooled_size(size, kernel, stride, padding, ceil_mode) for size in x.shape[1:3])
    padded = pad_for_pool(x, kernel, padding, -np.inf)

    y = np.full((len(x), out_h, out_w, x.shape[3]), -np.inf)
    for ky in range(kernel):
        for kx in range(kernel):
            y = np.maximum(y, under_tap(padded, ky, kx, stride, out_h, out_w))
    return y


def avg_pool(
    x: Array,
    kernel: int,
    stride: int,
    padding: int = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    extra: int = 0,
) -> Array:
    """Take the mean of the values under the window, channel by channel.

    Args:
        x: `[batch, in_h, in_w, channels]`.
        kernel: the side of the window.
        stride: how far the window moves.
        padding: how many zeros go around the picture, on each side.
        ceil_mode: also keep a last window that hangs over the end. Places beyond the end do not
            count.
        count_include_pad: count the zeros of the padding among the averaged values.
        extra: how many further rows of zeros go below the picture, and columns on its right; they
            count.

    Returns:
        `[batch, out_h, out_w, channels]`; out = floor((in + 2 * padding - kernel) / stride) + 1,
        or ceil with `ceil_mode`, less 1 if the last window would start beyond the picture.
    """
    x = np.pad(x, ((0, 0), (0, extra), (0, extra), (0, 0)))
    out_h, out_w = (pooled_size(size, kernel, stride, padding, ceil_mode) for size in x.shape[1:3])
    padded = pad_for_pool(x, kernel, padding, 0.0)
    count = counted_places(
        x.shape[1], x.shape[2], kernel, stride, padding, ceil_mode, count_include_pad
    )

    total = np.zeros((len(x), out_h, out_w, x.shape[3]))
    for ky in range(kernel):
        for kx in range(kernel):
            total += under_tap(padded, ky, kx, stride, out_h, out_w)
    return total / count


def global_avg_pool(x: Array) -> Array:
    """Take each channel's mean over the picture: `[batch, h, w, c]` -> `[batch, 1, 1, c]`."""
    pooled: Array = x.mean(axis=(1, 2), keepdims=True)
    return pooled


def global_max_pool(x: Array) -> Array:
    """Keep each channel's largest value: `[batch, h, w, c]` -> `[batch, 1, 1, c]`."""
    pooled: Array = x.max(axis=(1, 2), keepdims=True)
    return pooled


def pad_shortcut(x: Array, kernel: int, stride: int, before: int, after: int) -> Array:
    """Give a block's input fewer pixels and more channels without weights: the paper's option A.

    Args:
        x: `[batch, in_h, in_w, channels]`.
        kernel: 1 takes every `stride`-th pixel; 2 takes the mean of 2x2 pixels, at the end of an
            odd side of those that there are.
        stride: how far apart the pixels are that a result is made of.
        before: channels of zeros before those of x.
        after: channels of zeros after them.

    Returns:
        `[batch, ceil(in_h / stride), ceil(in_w / stride), before + channels + after]`.
    """
    fewer = avg_pool(x, kernel, stride, ceil_mode=True)
    return np.pad(fewer, ((0, 0), (0, 0), (0, 0), (before, after)))


def flatten(x: Array) -> Array:
    """Lay each picture out as one row, in torch's order: channel by channel.

    torch's tensors are NCHW, so `torch.flatten` puts all pixels of channel 0 first, then those of
    channel 1. Flattening an NHWC array directly would put all channels of the first pixel first,
    and the columns of `fc.weight` would meet the wrong values. After global average pooling there
    is a single pixel, and both orders are the same.

    Args:
        x: `[batch, h, w, c]`.

    Returns:
        `[batch, c * h * w]`.
    """
    return x.transpose(0, 3, 1, 2).reshape(len(x), -1)


def fully_connected(x: Array, weights: Array, bias: Array | None = None) -> Array:
    """Compute each output as a weighted sum of all inputs.

        y[n, o] = bias[o] + sum over i of x[n, i] * weights[o, i]

    Args:
        x: `[batch, in_features]`.
        weights: `[out_features, in_features]`, as torch keeps them.
        bias: `[out_features]`; None adds nothing.

    Returns:
        `[batch, out_features]`.
    """
    y = x @ weights.T
    return y if bias is None else y + bias


def softmax(logits: Array) -> Array:
    """Turn scores into probabilities: `exp(logits) / sum of exp(logits)` over the last axis.

    The largest logit is subtracted first: the quotient stays the same, and exp cannot overflow.
    """
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities: Array = powers / powers.sum(axis=-1, keepdims=True)
    return probabilities


def ohwi(weights: NDArray[Any]) -> NDArray[Any]:
    """Transpose a convolution's weights from torch's OIHW (out, in, height, width) to OHWI."""
    return weights.transpose(0, 2, 3, 1)

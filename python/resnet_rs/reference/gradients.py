"""The gradients of the operations in `layers.py`: each formula read backwards.

The loss L is one number. The gradient of L by an array has the array's shape and says, for each
element, how fast L changes with it: dL/dx[i]. Training needs it for every weight. It is found from
the end to the beginning: an operation `y = f(x)` gets `dy`, the gradient of L by its result, and
returns `dx`, the gradient by its input. This is the chain rule,

    dx[i] = sum over j of dy[j] * dy[j]/dx[i]

where the sum goes over all results j in which x[i] takes part. So every function here answers one
question: in which results does this element take part, and with which factor?

Names: `dy` is the gradient by the result and `dx` by the input, of the same shapes as the result
and the input. Layouts are those of `layers.py`: NHWC, weights OHWI, float64. The gradients of pools
are in `pool_gradients.py`, those of batch norm in `training_norm.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .pool_gradients import avg_pool_gradient
from .windows import Array, crop, pad, under_tap


def conv2d_input_gradient(
    dy: Array,
    weights: Array,
    height: int,
    width: int,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
    dilation: int = 1,
) -> Array:
    """Spread the gradient of a convolution's result over the pixels that each window saw.

    The forward is `y[i, j, o] += x[row, column, c] * weights[o, ky, kx, c]` for each tap, with
    `row = i * stride + ky * dilation - padding` and the column likewise. So x[row, column, c] takes
    part in y[i, j, o] with the factor weights[o, ky, kx, c], and

        dx[n, row, column, c] = sum over o and all (i, ky), (j, kx) that lead to row, column of
                                dy[n, i, j, o] * weights[o, ky, kx, c]

    At stride 1 this is itself a convolution, of dy with the kernel turned by 180 degrees, in and
    out exchanged, and the padding `(kernel - 1) * dilation - padding`. At any stride it is the
    forward's loop over the taps with reading and writing exchanged.

    Args:
        dy: `[batch, out_h, out_w, out_channels]`.
        weights: `[out_channels, kernel_h, kernel_w, in_channels / groups]` (OHWI).
        height: of the input. dy alone does not tell it: at stride 2, inputs of 7 and of 8 pixels
            may give the same number of results.
        width: of the input.
        stride: as in the forward.
        padding: as in the forward.
        groups: as in the forward.
        dilation: as in the forward.

    Returns:
        `[batch, height, width, in_channels]`.
    """
    batch, out_h, out_w, out_channels = dy.shape
    _, kernel_h, kernel_w, group_in = weights.shape
    group_out = out_channels // groups
    padded = np.zeros((batch, height + 2 * padding, width + 2 * padding, group_in * groups))
    for ky in range(kernel_h):
        for kx in range(kernel_w):
            # [batch, out_h, out_w, in]: a view, so adding to it adds to `padded`
            tap = under_tap(padded, ky * dilation, kx * dilation, stride, out_h, out_w)
            for group in range(groups):
                ins = slice(group * group_in, (group + 1) * group_in)
                outs = slice(group * group_out, (group + 1) * group_out)
                # [batch, out_h, out_w, out] @ [out, in] -> [batch, out_h, out_w, in]
                tap[..., ins] += dy[..., outs] @ weights[outs, ky, kx]
    # The border is zeros by definition: nothing depends on its gradient.
    return crop(padded, padding, height, width)


def conv2d_weight_gradient(
    dy: Array,
    x: Array,
    kernel_h: int,
    kernel_w: int,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
    dilation: int = 1,
) -> Array:
    """Multiply what each weight saw by the gradient of what it went into, and add it all up.

    A weight takes part in every pixel of its output channel, each time with another input:

        dweights[o, ky, kx, c] = sum over n, i, j of
                                 dy[n, i, j, o] * x[n, i * stride + ky * dilation - padding,
                                                       j * stride + kx * dilation - padding, c]

    For one tap this is a matrix product with K = batch * out_h * out_w: few results, long sums.

    Args:
        dy: `[batch, out_h, out_w, out_channels]`.
        x: the convolution's input, `[batch, in_h, in_w, in_channels]`.
        kernel_h: of the weights.
        kernel_w: of the weights.
        stride: as in the forward.
        padding: as in the forward.
        groups: as in the forward.
        dilation: as in the forward.

    Returns:
        `[out_channels, kernel_h, kernel_w, in_channels / groups]` (OHWI).
    """
    _, out_h, out_w, out_channels = dy.shape
    group_in, group_out = x.shape[3] // groups, out_channels // groups
    padded = pad(x, padding, 0.0)
    dweights = np.zeros((out_channels, kernel_h, kernel_w, group_in))
    for ky in range(kernel_h):
        for kx in range(kernel_w):
            # [batch, out_h, out_w, in]
            tap = under_tap(padded, ky * dilation, kx * dilation, stride, out_h, out_w)
            for group in range(groups):
                ins = slice(group * group_in, (group + 1) * group_in)
                outs = slice(group * group_out, (group + 1) * group_out)
                rows = dy[..., outs].reshape(-1, group_out)  # [batch * out_h * out_w, out]
                seen = tap[..., ins].reshape(-1, group_in)  # [batch * out_h * out_w, in]
                dweights[outs, ky, kx] = rows.T @ seen  # [out, in]
    return dweights


def conv2d_bias_gradient(dy: Array) -> Array:
    """Add up dy over all pixels, as a bias takes part in each with the factor 1.

    Args:
        dy: `[batch, out_h, out_w, out_channels]`.

    Returns:
        `[out_channels]`.
    """
    dbias: Array = dy.sum(axis=(0, 1, 2))
    return dbias


def relu_gradient(dy: Array, y: Array) -> Array:
    """Let dy pass where the result is positive, and stop it where the result is 0.

        dx = dy if y > 0, else 0

    At x = 0 the function has a corner; like torch, we take the slope on the left, 0. A result that
    is NaN lets dy pass, also as in torch.

    Args:
        dy: the gradient by the result, any shape.
        y: the result of `relu`. The input is not needed: it has the sign of the result.
    """
    return np.where(y <= 0, 0.0, dy)


def add_gradient(dy: Array) -> tuple[Array, Array]:
    """Copy dy to both sides of an addition, as each takes part with the factor 1.

    Returns:
        The gradient by the block's result and that by the shortcut.
    """
    return dy, dy


def pad_shortcut_gradient(
    dy: Array, height: int, width: int, kernel: int, stride: int, before: int, after: int
) -> Array:
    """Return the gradient of the paper's option A: the new channels are constants, and get none.

    Args:
        dy: `[batch, ceil(height / stride), ceil(width / stride), before + channels + after]`.
        height: of the input.
        width: of the input.
        kernel: as in the forward.
        stride: as in the forward.
        before: as in the forward.
        after: as in the forward.

    Returns:
        `[batch, height, width, channels]`. Pixels that the forward left out get 0.
    """
    kept = dy[..., before : dy.shape[3] - after]
    return avg_pool_gradient(kept, height, width, kernel, stride, ceil_mode=True)


def flatten_gradient(dy: Array, height: int, width: int) -> Array:
    """Lay each row out as a picture again: `[batch, c * h * w]` -> `[batch, h, w, c]`."""
    return dy.reshape(len(dy), -1, height, width).transpose(0, 2, 3, 1)


def fully_connected_gradients(dy: Array, x: Array, weights: Array) -> tuple[Array, Array, Array]:
    """Return the gradients of `y = x @ weights.T + bias` by x, weights and bias.

        dx[n, i]       = sum over o of dy[n, o] * weights[o, i]
        dweights[o, i] = sum over n of dy[n, o] * x[n, i]
        dbias[o]       = sum over n of dy[n, o]

    Args:
        dy: `[batch, out_features]`.
        x: `[batch, in_features]`.
        weights: `[out_features, in_features]`.

    Returns:
        dx `[batch, in_features]`, dweights `[out_features, in_features]`, dbias `[out_features]`.
    """
    return dy @ weights, dy.T @ x, dy.sum(axis=0)


def oihw(weights: NDArray[Any]) -> NDArray[Any]:
    """Transpose OHWI back to torch's OIHW: the reverse of `layers.ohwi`."""
    return weights.transpose(0, 3, 1, 2)

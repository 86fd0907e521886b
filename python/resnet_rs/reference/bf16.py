"""The arithmetic of a bf16 network, to the bit: activations and weights of bf16, sums in float32.

A bf16 value is the upper half of a float32: its range, with 8 bits of precision in place of 24.
Here it is a float32 whose lower half is zero. The product of two is exact in float32.

A layer's sums are float32: they begin with the bias, take the products one after the other, each
sum rounded, then the shortcut. ReLU follows, and **one** rounding to bf16, to nearest even. A
convolution is summed in the order of the instruction that multiplies pairs (`vdpbf16ps`,
Intel's Software Developer's Manual): tap by tap, pair of channels by pair of channels, and of a
pair the second channel first.

Layouts are those of `layers.py`: activations NHWC, weights OHWI. `bf16_network.py` walks a network.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .windows import counted_places, pad_for_pool, pooled_size, under_tap

Floats: TypeAlias = NDArray[np.float32]


def rounded(values: ArrayLike) -> Floats:
    """Round float32 values to bf16: to the nearest, of two that are as near to the even one.

    A NaN stays a NaN, and what lies beyond the range becomes infinite.

    Returns:
        float32 of the same shape, the lower half of each value zero.
    """
    x = np.ascontiguousarray(values, np.float32)
    bits = x.view(np.uint32).astype(np.uint64)
    # Half of the last place that stays, a little less if that place is even: a tie is not raised.
    nearest = (bits + 0x7FFF + (bits >> 16 & 1)).astype(np.uint32)
    upper = np.where(np.isnan(x), x.view(np.uint32) | 0x00400000, nearest) & 0xFFFF0000
    result: Floats = upper.astype(np.uint32).view(np.float32)
    return result


def add_products(
    sums: Floats,
    x: Floats,
    weights: Floats,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
    dilation: int = 1,
) -> Floats:
    """Add a convolution's products to sums, in the order above.

    Args:
        sums: `[batch, out_h, out_w, out]`.
        x: bf16 `[batch, in_h, in_w, in_channels]`.
        weights: bf16 `[out, kernel, kernel, in_channels / groups]`.
        stride: as for `layers.conv2d`, like the other arguments.
        padding: see `stride`.
        groups: see `stride`.
        dilation: see `stride`.

    Returns:
        float32 of the shape of `sums`.
    """
    kernel = weights.shape[1]
    out_h, out_w = sums.shape[1:3]
    channels = x.shape[3]
    sides = (padding, padding)
    x = np.pad(x, ((0, 0), sides, sides, (0, channels % 2)))
    dense = _dense(weights, groups, channels + channels % 2)
    sums = sums.copy()
    for ky in range(kernel):
        for kx in range(kernel):
            values = under_tap(x, ky * dilation, kx * dilation, stride, out_h, out_w)
            for pair in range(0, dense.shape[3], 2):
                for c in (pair + 1, pair):
                    # The product is exact, so this is one rounding, as in a fused multiply-add.
                    sums += values[..., c, None] * dense[:, ky, kx, c]
    return sums


def _dense(weights: Floats, groups: int, channels: int) -> Floats:
    """Weights for all channels, with zeros between groups: `[out, kernel, kernel, channels]`."""
    out, kernel, _, inside = weights.shape
    dense = np.zeros((out, kernel, kernel, channels), np.float32)
    for o in range(out):
        first = o // (out // groups) * inside
        dense[o, :, :, first : first + inside] = weights[o]
    return dense


def finished(sums: Floats, skip: Floats | None = None, relu: bool = False) -> Floats:
    """Turn a layer's sums into its output: the shortcut added, ReLU, one rounding.

    Args:
        sums: float32 `[batch, h, w, channels]`.
        skip: the block's input, of the same shape.
        relu: whether negative values become 0.
    """
    total = sums if skip is None else sums + skip
    return rounded(np.where(total < 0, np.float32(0), total) if relu else total)


def avg_pool(
    x: Floats,
    kernel: int,
    stride: int,
    padding: int = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    extra: int = 0,
) -> Floats:
    """Take the mean under the window: row sums, their sum, times `1 / count`, all in float32.

    The arguments are those of `layers.avg_pool`.
    """
    x = np.pad(x, ((0, 0), (0, extra), (0, extra), (0, 0)))
    height, width = x.shape[1:3]
    out_h, out_w = (pooled_size(side, kernel, stride, padding, ceil_mode) for side in x.shape[1:3])
    count = counted_places(height, width, kernel, stride, padding, ceil_mode, count_include_pad)
    padded = pad_for_pool(np.asarray(x, np.float64), kernel, padding, 0.0).astype(np.float32)
    total = np.zeros((len(x), out_h, out_w, x.shape[3]), np.float32)
    for ky in range(kernel):
        row = np.zeros_like(total)
        for kx in range(kernel):
            row += under_tap(padded, ky, kx, stride, out_h, out_w)
        total += row
    return rounded(total * (np.float32(1) / count.astype(np.float32)))


def global_avg_pool(x: Floats) -> Floats:
    """Take each channel's mean over the picture, as `avg_pool`: `[batch, 1, 1, channels]`."""
    total = np.zeros((len(x), 1, 1, x.shape[3]), np.float32)
    for row in np.moveaxis(x, 1, 0):
        total += _row_sum(row)[:, None, None]
    return rounded(total * (np.float32(1) / np.float32(x.shape[1] * x.shape[2])))


def _row_sum(row: NDArray[Any]) -> Floats:
    """Sum pixels from left to right: `[batch, width, channels]` to `[batch, channels]`."""
    total = np.zeros((len(row), row.shape[2]), np.float32)
    for pixel in np.moveaxis(row, 1, 0):
        total += pixel
    return total


def pad_shortcut(x: Floats, kernel: int, stride: int, before: int, after: int) -> Floats:
    """Shrink the picture by `avg_pool` and widen the channels with zeros."""
    fewer = avg_pool(x, kernel, stride, ceil_mode=True)
    return np.pad(fewer, ((0, 0), (0, 0), (0, 0), (before, after)))

"""Windows over a picture: padding, taps and counts, shared by convolutions, pools and gradients.

A **tap** is one position `(ky, kx)` of a window. The values under one tap, for all output pixels at
once, are a slice of the padded input. A forward reads that slice. A backward adds to it: the slice
is a view, and the pixels under one tap are all different, so `+=` adds each value in its place.
"""

from __future__ import annotations

from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]
Values = TypeVar("Values", NDArray[np.float64], NDArray[np.float32])


def pad(x: Array, padding: int, value: float) -> Array:
    """Put `padding` rows and columns of `value` around each picture."""
    sides = (padding, padding)
    return np.pad(x, ((0, 0), sides, sides, (0, 0)), constant_values=value)


def crop(padded: Array, padding: int, height: int, width: int) -> Array:
    """Take the picture out of its border: the reverse of `pad`."""
    return padded[:, padding : padding + height, padding : padding + width]


def under_tap(padded: Values, ky: int, kx: int, stride: int, out_h: int, out_w: int) -> Values:
    """Slice the values under one tap, for all output pixels: `[batch, out_h, out_w, channels]`."""
    return padded[
        :,
        ky : ky + (out_h - 1) * stride + 1 : stride,
        kx : kx + (out_w - 1) * stride + 1 : stride,
    ]


def pad_for_pool(x: Array, kernel: int, padding: int, value: float) -> Array:
    """Put a border around x that also holds what windows of a pool hang over the end.

    The picture begins at row and column `padding` of the result.
    """
    overhang = kernel  # more than a window can hang over the end
    return pad(x, padding + overhang, value)[:, overhang:, overhang:]


def pooled_size(size: int, kernel: int, stride: int, padding: int, ceil_mode: bool) -> int:
    """Count the windows of a pool along one side."""
    room = size + 2 * padding - kernel
    if not ceil_mode:
        return room // stride + 1
    count = -(-room // stride) + 1
    starts_beyond = (count - 1) * stride >= size + padding
    return count - 1 if starts_beyond else count


def counted_places(
    height: int, width: int, kernel: int, stride: int, padding: int, ceil_mode: bool, padded: bool
) -> Array:
    """Count the places under each window of an average pool: its divisors.

    Args:
        height: of the picture.
        width: of the picture.
        kernel: the side of the window.
        stride: how far the window moves.
        padding: how many zeros go around the picture, on each side.
        ceil_mode: also keep a last window that hangs over the end; places beyond do not count.
        padded: count the zeros of the padding.

    Returns:
        `[1, out_h, out_w, 1]`.
    """
    out_h = pooled_size(height, kernel, stride, padding, ceil_mode)
    out_w = pooled_size(width, kernel, stride, padding, ceil_mode)
    # 1 for a place that counts and 0 for one that does not: the sums over it are the counts.
    counted = pad(np.ones((1, height, width, 1)), padding, float(padded))
    counted = pad_for_pool(counted, kernel, 0, 0.0)
    count = np.zeros((1, out_h, out_w, 1))
    for ky in range(kernel):
        for kx in range(kernel):
            count += under_tap(counted, ky, kx, stride, out_h, out_w)
    return count

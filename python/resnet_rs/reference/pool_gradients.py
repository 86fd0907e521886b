"""The gradients of the pools in `layers.py`. Names and layouts are those of `gradients.py`."""

from __future__ import annotations

import numpy as np

from .windows import Array, counted_places, crop, pad_for_pool, under_tap


def max_pool_gradient(dy: Array, x: Array, kernel: int, stride: int, padding: int = 0) -> Array:
    """Give each window's gradient to the one pixel that won there.

        dx[row, column, c] = sum of dy[i, j, c] over the windows (i, j) whose maximum it is

    A maximum changes with its winner only, at the rate 1. If several pixels are equal, torch's rule
    decides: it reads a window row by row and keeps the first of them. A NaN wins against
    everything, the last of several too. The border never wins, even where all pixels of a window
    are minus infinity: then its first pixel does.

    Args:
        dy: `[batch, out_h, out_w, channels]`.
        x: the pool's input, `[batch, in_h, in_w, channels]`.
        kernel: as in the forward.
        stride: as in the forward.
        padding: as in the forward. `ceil_mode` shows in the shape of dy.

    Returns:
        `[batch, in_h, in_w, channels]`.
    """
    _, out_h, out_w, _ = dy.shape
    padded = pad_for_pool(x, kernel, padding, -np.inf)
    inside = pad_for_pool(np.ones((1, *x.shape[1:3], 1)), kernel, padding, 0.0)

    taps = [(ky, kx) for ky in range(kernel) for kx in range(kernel)]
    best = np.full(dy.shape, -np.inf)
    winner = np.full(dy.shape, -1)  # the winner's number among the taps
    for number, (ky, kx) in enumerate(taps):
        value = under_tap(padded, ky, kx, stride, out_h, out_w)
        candidate = under_tap(inside, ky, kx, stride, out_h, out_w) > 0
        wins = candidate & ((value > best) | np.isnan(value) | (winner < 0))
        best = np.where(wins, value, best)
        winner = np.where(wins, number, winner)

    dpadded = np.zeros(padded.shape)
    for number, (ky, kx) in enumerate(taps):
        tap = under_tap(dpadded, ky, kx, stride, out_h, out_w)
        tap += np.where(winner == number, dy, 0.0)  # in place: `tap` is a view
    return crop(dpadded, padding, *x.shape[1:3])


def avg_pool_gradient(
    dy: Array,
    height: int,
    width: int,
    kernel: int,
    stride: int,
    padding: int = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    extra: int = 0,
) -> Array:
    """Give each pixel under a window the same share of its gradient.

        dx[row, column, c] = sum over the windows (i, j) that cover it of dy[i, j, c] / count[i, j]

    `count` is the divisor of the forward.

    Args:
        dy: `[batch, out_h, out_w, channels]`.
        height: of the input.
        width: of the input.
        kernel: as in the forward.
        stride: as in the forward.
        padding: as in the forward.
        ceil_mode: as in the forward.
        count_include_pad: as in the forward.
        extra: as in the forward.

    Returns:
        `[batch, height, width, channels]`.
    """
    batch, out_h, out_w, channels = dy.shape
    sides = (height + extra, width + extra)
    share = dy / counted_places(*sides, kernel, stride, padding, ceil_mode, count_include_pad)
    dpadded = pad_for_pool(np.zeros((batch, *sides, channels)), kernel, padding, 0.0)
    for ky in range(kernel):
        for kx in range(kernel):
            tap = under_tap(dpadded, ky, kx, stride, out_h, out_w)
            tap += share  # in place: `tap` is a view
    return crop(dpadded, padding, height, width)


def global_avg_pool_gradient(dy: Array, height: int, width: int) -> Array:
    """Give each pixel the same share: `[batch, 1, 1, c]` -> `[batch, height, width, c]`."""
    return np.tile(dy / (height * width), (1, height, width, 1))


def global_max_pool_gradient(dy: Array, x: Array) -> Array:
    """Give each channel's gradient to its largest pixel; equal ones and NaN as in a max pool.

    Args:
        dy: `[batch, 1, 1, channels]`.
        x: the pool's input, `[batch, in_h, in_w, channels]`.

    Returns:
        `[batch, in_h, in_w, channels]`.
    """
    rows = x.reshape(len(x), -1, x.shape[3])  # [batch, in_h * in_w, channels]
    last_nan = rows.shape[1] - 1 - np.isnan(rows)[:, ::-1].argmax(axis=1)
    winner = np.where(np.isnan(rows).any(axis=1), last_nan, rows.argmax(axis=1))
    dx = np.zeros(rows.shape)
    np.put_along_axis(dx, winner[:, None], dy[:, 0], axis=1)
    return dx.reshape(x.shape)

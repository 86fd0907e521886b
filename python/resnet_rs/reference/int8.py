"""The arithmetic of a quantised network, to the bit: int8 weights, 8-bit activations, i32 sums.

An activation is an integer q >= 0 that stands for the real value `q * scale`, with one scale for
each layer's output. A weight is an integer w in -127..127 that stands for `w * weight_scale[o]`,
with one scale for each output channel o. So a convolution is a sum of integers,

    real sum[o] = (bias_q[o] + sum over taps and channels of q * w) * t[o]
    t[o] = input scale * weight_scale[o]

and the next layer's integers are that sum divided by the next scale, rounded and clipped
(`requantized`). ReLU needs no operation: integers below 0 are clipped to 0 anyway.

Sums of integers are exact in any order, so every processor gives the same bits. The rounding steps
are in float32, one operation at a time, to nearest even, without fused multiply-add. Sums are
computed here in float64, which is exact up to 2^53; the core's are i32.

Layouts are those of `layers.py`: activations NHWC, weights OHWI. `int8_network.py` walks a network.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import bf16, layers
from .windows import Array, counted_places, pad_for_pool, pooled_size, under_tap

Integers: TypeAlias = NDArray[Any]
"""Quantised activations: uint8, or uint16 for 12 bits."""

Floats: TypeAlias = NDArray[np.float32]

MOST = 255
"""The largest activation."""

MOST_POOLED = 4095
"""The largest activation of the pool before fc: it has 12 bits."""

MOST_WEIGHT = 127
"""The largest weight; the least is its negative."""


def quantized_pixels(image: NDArray[Any], mean: ArrayLike, std: ArrayLike) -> Integers:
    """Make the integers that the first convolution reads: pixels 0..255.

        q = rint(min(max(x * f32(255 * std) + f32(255 * mean), 0), 255))

    Args:
        image: `[batch, height, width, channels]`: uint8 pixels, which are q already, or float32,
            normalised.
        mean: of each channel, of pixels 0..1; as everywhere here, its float32 counts.
        std: of each channel.

    Returns:
        uint8 of the same shape; NaN gives 0.
    """
    if image.dtype == np.uint8:
        return image
    scale = (255 * _stored(std)).astype(np.float32)
    shift = (255 * _stored(mean)).astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        values = image.astype(np.float32) * scale
        values = values + shift
    # fmax and fmin return the other value in place of NaN.
    pixels: Integers = np.rint(np.fmin(np.fmax(values, 0), MOST)).astype(np.uint8)
    return pixels


def border_pixel(mean: ArrayLike) -> tuple[Integers, int]:
    """The pixel outside the picture, which normalisation makes 0: a pixel of the mean.

    The mean is no integer. So each channel has the nearest integer, and a further channel, the
    *marker*, is V on the border and 0 inside: its weights (`marker_weights`) add the difference.

    Returns:
        The channels' integers `r`, `[channels]`, and V.
    """
    nearest = np.rint(255 * _stored(mean))
    pixel = np.fmin(np.fmax(nearest, 0), MOST).astype(np.uint8)
    return pixel, min(max(2, -(-len(pixel) // 2)), MOST)


def marker_weights(weights: Integers, mean: ArrayLike) -> Integers:
    """The marker's weight under each tap: `rint(sum over c of w[c] * (255 * mean[c] - r[c]) / V)`.

    Args:
        weights: int8 `[out, kernel, kernel, channels]` of the first convolution.
        mean: of each channel.

    Returns:
        `[out, kernel, kernel, 1]`.

    Raises:
        ValueError: they are not within -127..127, because a mean lies outside 0..1.
    """
    pixel, mark = border_pixel(mean)
    difference = 255 * _stored(mean) - pixel
    total = np.zeros(weights.shape[:3])
    for channel, part in enumerate(difference):  # in this order, for float64 rounds too
        total = total + weights[..., channel] * part
    marked = np.rint(total / mark)[..., None]
    if np.abs(marked).max(initial=0) > MOST_WEIGHT:
        raise ValueError(
            f"preprocessing.mean: expected values within 0..1; got {list(np.asarray(mean))}"
        )
    return marked


def first_sums(
    pixels: Integers, weights: Integers, mean: ArrayLike, stride: int, padding: int
) -> Array:
    """Convolve pixels, with the mean around them, as `sums` does.

    Args:
        pixels: uint8 `[batch, height, width, channels]`.
        weights: int8 `[out, kernel, kernel, channels]`.
        mean: of each channel.
        stride: how far the window moves.
        padding: how many border pixels go around the picture, on each side.

    Returns:
        The sums without bias, `[batch, out_h, out_w, out]`. They are of pixels, not of normalised
        values: `first_bias` subtracts the means.
    """
    border, mark = border_pixel(mean)
    marked = np.append(border, mark)
    batch, height, width, channels = pixels.shape
    framed = np.empty((batch, height + 2 * padding, width + 2 * padding, channels + 1))
    framed[:] = marked
    inside = framed[:, padding : padding + height, padding : padding + width]
    inside[..., :channels] = pixels
    inside[..., channels] = 0
    whole = np.concatenate([weights, marker_weights(weights, mean)], axis=3)
    return sums(framed, whole, stride=stride)


def first_bias(bias: Floats, scale: Array, weights: Integers, mean: ArrayLike) -> Array:
    """The first convolution's bias as an integer, with the means subtracted.

        bias_q = rint(bias / t - sum over c of (sum over taps of w[c]) * 255 * mean[c])

    Args:
        bias: float32 `[out]`, of the network with normalised input.
        scale: t, float64 `[out]`.
        weights: int8 `[out, kernel, kernel, channels]`.
        mean: of each channel.
    """
    total = np.zeros(len(weights))
    for channel, part in enumerate(255 * _stored(mean)):
        total = total + weights[..., channel].sum(axis=(1, 2), dtype=np.int64) * part
    return np.rint(bias.astype(np.float64) / scale - total)


def sums(
    q: Integers,
    weights: Integers,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
    dilation: int = 1,
) -> Array:
    """Convolve integers: `sum over ky, kx, c of q * w`, with zeros around the picture.

    Args:
        q: `[batch, in_h, in_w, in_channels]`.
        weights: `[out, kernel, kernel, in_channels / groups]`.
        stride: as for `layers.conv2d`, like the other arguments.
        padding: see `stride`.
        groups: see `stride`.
        dilation: see `stride`.

    Returns:
        Whole numbers in float64, `[batch, out_h, out_w, out]`.
    """
    return layers.conv2d(
        np.asarray(q, np.float64),
        np.asarray(weights, np.float64),
        stride=stride,
        padding=padding,
        groups=groups,
        dilation=dilation,
    )


def requantized(
    total: Array, multiplier: Floats, skip: Integers | None = None, ratio: np.float32 | None = None
) -> Integers:
    """Turn a layer's sums into its output's integers, the shortcut added.

        v = f32(total) * multiplier + f32(skip) * ratio
        q = rint(min(max(v, 0), 255))

    Args:
        total: whole numbers `[batch, h, w, channels]`, the bias added.
        multiplier: `f32(t / output scale)`, `[channels]`.
        skip: the block's input, of the same shape as `total`.
        ratio: `f32(its scale / output scale)`.

    Returns:
        uint8.
    """
    v = total.astype(np.float32) * multiplier
    if skip is not None and ratio is not None:
        v = v + skip.astype(np.float32) * ratio
    q: Integers = np.rint(np.clip(v, 0, MOST)).astype(np.uint8)
    return q


def max_pool(
    q: Integers, kernel: int, stride: int, padding: int = 0, ceil_mode: bool = False
) -> Integers:
    """Keep the largest integer under the window, as `layers.max_pool` does; the scale stays."""
    pooled = layers.max_pool(q.astype(np.float64), kernel, stride, padding, ceil_mode)
    return pooled.astype(q.dtype)


def avg_pool(
    q: Integers,
    kernel: int,
    stride: int,
    padding: int = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    extra: int = 0,
    ratio: float = 1.0,
    most: int = MOST,
) -> Integers:
    """Take the mean of the integers under the window.

        y = rint(min(max(f32(sum) * f32(ratio / count), 0), most))

    Args:
        q: `[batch, in_h, in_w, channels]`.
        kernel: as for `layers.avg_pool`, like the following arguments.
        stride: see `kernel`.
        padding: see `kernel`.
        ceil_mode: see `kernel`.
        count_include_pad: see `kernel`.
        extra: see `kernel`.
        ratio: the input's scale divided by the output's.
        most: the largest result.

    Returns:
        uint8, or uint16 if `most` is above 255.
    """
    x = np.pad(q.astype(np.float64), ((0, 0), (0, extra), (0, extra), (0, 0)))
    height, width = x.shape[1:3]
    out_h, out_w = (pooled_size(side, kernel, stride, padding, ceil_mode) for side in x.shape[1:3])
    count = counted_places(height, width, kernel, stride, padding, ceil_mode, count_include_pad)
    padded = pad_for_pool(x, kernel, padding, 0.0)
    total = np.zeros((len(x), out_h, out_w, x.shape[3]))
    for ky in range(kernel):
        for kx in range(kernel):
            total += under_tap(padded, ky, kx, stride, out_h, out_w)
    return _mean(total, count, ratio, most)


def global_avg_pool(q: Integers, ratio: float, most: int = MOST_POOLED) -> Integers:
    """Take each channel's mean over the picture, as `avg_pool`: `[batch, 1, 1, channels]`."""
    total = q.sum(axis=(1, 2), keepdims=True, dtype=np.float64)
    return _mean(total, np.float64(q.shape[1] * q.shape[2]), ratio, most)


def pad_shortcut(q: Integers, kernel: int, stride: int, before: int, after: int) -> Integers:
    """Shrink the picture by `avg_pool` and widen the channels with zeros; the scale stays."""
    fewer = avg_pool(q, kernel, stride, ceil_mode=True)
    return np.pad(fewer, ((0, 0), (0, 0), (0, 0), (before, after)))


def to_bf16(q: Integers, scale: np.float32) -> Floats:
    """The integers of a layer for one that computes in bf16: `bf16(f32(q) * scale)`."""
    return bf16.rounded(dequantized(q, scale))


def from_bf16(x: Floats, scale: np.float32) -> Integers:
    """The integers of a layer that computes in bf16, for one in int8.

        q = rint(min(max(x * f32(1 / scale), 0), 255))

    Args:
        x: its output.
        scale: the output scale of its convolution.

    Returns:
        uint8 of the same shape; NaN gives 0.
    """
    factor = np.float32(1 / np.float64(scale))
    with np.errstate(over="ignore", invalid="ignore"):
        values = x * factor
    q: Integers = np.rint(np.fmin(np.fmax(values, 0), MOST)).astype(np.uint8)
    return q


def dequantized(q: Integers, scale: np.float32) -> Floats:
    """The real values that integers stand for: `f32(q) * scale`."""
    return q.astype(np.float32) * np.float32(scale)


def _stored(values: ArrayLike) -> Array:
    """Means and deviations as the core keeps them: float32, widened to float64."""
    return np.asarray(values, np.float32).astype(np.float64)


def _mean(total: Array, count: Any, ratio: float, most: int) -> Integers:
    factor = np.asarray(ratio / count, np.float32)
    values: Floats = np.rint(np.clip(total.astype(np.float32) * factor, 0, most))
    return values.astype(np.uint8 if most <= MOST else np.uint16)

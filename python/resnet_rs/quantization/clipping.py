"""The largest value that a layer's 8 bits hold, chosen from the layer's histogram.

An activation is rounded to one of 256 levels, `scale * 0` to `scale * 255 = clip`. A large clip
makes the steps coarse, a small one cuts off the largest values. The methods:

- `minmax`: the largest value. Nothing is cut off.
- `percentile`: the value that 99.999 % of all values do not exceed.
- `mse`: the least mean squared difference between the values and their levels.
- `kl`: the least Kullback-Leibler divergence between the histograms before and after.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from .histogram import quantile, upper_part
from .statistics import LayerStatistics

LEVELS = 255
"""The steps from 0 to the largest level."""

METHODS = ("minmax", "percentile", "mse", "kl")
"""The ways to choose a clip."""

PERCENTILE = 99.999
"""The percentage of values that the method `percentile` keeps."""

_UNUSED = 1.0  # of a layer whose outputs are all zero: any clip is right
# Squared errors change slowly with the clip; divergences have dents, so each one is tried.
_GRIDS_OF_MSE = (20, 15)
_GRIDS_OF_KL = (128,)
_LEAST_CLIP = 0.05  # of the largest value
_LINEAR_BINS = 2048


def clip_of(method: str, statistics: LayerStatistics, *, percentile: float = PERCENTILE) -> float:
    """Choose a layer's clip.

    Args:
        method: one of `METHODS`.
        statistics: the layer's.
        percentile: for that method, above 0 and at most 100.

    Returns:
        A value above 0, at most the largest one; 1 for a layer that gave nothing but zeros.

    Raises:
        ValueError: there is no such method.
    """
    counts, largest = statistics.counts, statistics.largest
    if method not in METHODS:
        raise ValueError(f"method: expected one of {', '.join(METHODS)}; got {method!r}")
    if largest <= 0:
        return _UNUSED
    match method:
        case "percentile":
            clip = quantile(counts, largest, percentile / 100)
        case "mse":
            clip = _least(squared_errors, counts, largest, _GRIDS_OF_MSE)
        case "kl":
            clip = _least(divergences, counts, largest, _GRIDS_OF_KL)
        case _:
            clip = largest
    return min(clip, largest) if clip > 0 else largest


def squared_errors(
    counts: NDArray[np.uint64], largest: float, clips: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The sum of squared differences between values and their levels, for each clip.

    The values of a bin count as spread evenly over it, so the sum is an integral, which has a
    closed form. With steps of s, the squared differences from 0 up to x are

        n * s^3 / 12 + (x - n * s)^3 / 3,   n = min(rint(x / s), 255),

    as each whole step adds s^3 / 12; beyond the last level n stays, and the difference grows.

    Args:
        counts: the layer's histogram.
        largest: its largest value.
        clips: `[candidates]`.

    Returns:
        `[candidates]`; the smallest values, which are the same for all of them, are left out.
    """
    part, bounds = upper_part(counts, largest)
    step = clips[:, None] / LEVELS
    level = np.minimum(np.rint(bounds / step), LEVELS)
    integral = level * step**3 / 12 + (bounds - level * step) ** 3 / 3
    density = part / np.diff(bounds)
    errors: NDArray[np.float64] = np.diff(integral, axis=1) @ density
    return errors


def divergences(
    counts: NDArray[np.uint64], largest: float, clips: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The Kullback-Leibler divergence of the levels' histogram from the values', for each clip.

    As TensorRT has it: P is the histogram of the positive values in 2048 bins up to the clip, with
    those beyond added to its last bin. In Q, each bin has the mean of the bins of its level, empty
    ones left out; there are 256 levels. The divergence is sum of P * log(P / Q).

    Args:
        counts: the layer's histogram.
        largest: its largest value.
        clips: `[candidates]`.

    Returns:
        `[candidates]`.
    """
    part, bounds = upper_part(counts, largest)
    reached = np.concatenate([[0.0], np.cumsum(part)])
    total = reached[-1]
    found = np.empty(len(clips))
    for place, clip in enumerate(clips):
        ends = np.interp(np.linspace(0, clip, _LINEAR_BINS + 1), bounds, reached)
        inside = np.diff(ends)
        values = inside.copy()
        values[-1] += total - ends[-1]
        filled = inside > 0
        level = np.arange(_LINEAR_BINS) * (LEVELS + 1) // _LINEAR_BINS
        sums = np.bincount(level, inside)
        bins = np.bincount(level, filled)
        levels = (sums / np.maximum(bins, 1))[level]
        used = (values > 0) & (levels > 0)
        if not used.any() or ends[-1] <= 0:
            found[place] = np.inf
            continue
        p, q = values[used] / total, levels[used] / ends[-1]
        found[place] = float(np.sum(p * np.log(p / q)))
    return found


_Cost: TypeAlias = Callable[[NDArray[np.uint64], float, NDArray[np.float64]], NDArray[np.float64]]


def _least(cost: _Cost, counts: NDArray[np.uint64], largest: float, grids: Sequence[int]) -> float:
    """Take the clip of the least cost, from a twentieth of the largest value up to it.

    Each grid of clips but the first lies between the neighbours of the best clip before.
    """
    low, high = _LEAST_CLIP, 1.0
    best = high
    for points in grids:
        clips = np.linspace(low, high, points)
        best = float(clips[np.argmin(cost(counts, largest, clips * largest))])
        step = (high - low) / (points - 1)
        low, high = max(low, best - step), min(high, best + step)
    return best * largest

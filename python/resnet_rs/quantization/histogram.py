"""Histograms whose bins are the upper 16 bits of a float32: 128 bins for each power of two.

A bin is at most 1/128 as wide as its values are large, whatever their range is. So no range has to
be known before the images are seen, and histograms of parts are added bin by bin.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BINS = 1 << 15

# Bins of values this many times smaller than the largest make no difference to a scale.
_OCTAVES = 14
_BINS_OF_AN_OCTAVE = 128


def edges() -> NDArray[np.float64]:
    """The bounds of all bins: bin i holds values from `edges[i]` up to `edges[i + 1]`.

    Returns:
        `[BINS + 1]`; those from 32640 up, of infinity and NaN, are not finite.
    """
    bits = np.arange(BINS + 1, dtype=np.uint32) << np.uint32(16)
    bits[-1] = 0x7FFF_FFFF  # the next pattern would be that of -0
    with np.errstate(invalid="ignore"):
        return bits.view(np.float32).astype(np.float64)


def upper_part(
    counts: NDArray[np.uint64], largest: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The bins that matter for a scale: down to 2^-14 of the largest value.

    Args:
        counts: `[BINS]`.
        largest: the largest value, above 0.

    Returns:
        Counts `[n]` and bounds `[n + 1]`; the last bound is the largest value.
    """
    last = int(np.float32(largest).view(np.uint32)) >> 16
    first = max(1, last + 1 - _OCTAVES * _BINS_OF_AN_OCTAVE)
    bounds = edges()[first : last + 2].copy()
    # The bin of the largest value ends with it; it may be the bin's very first value.
    bounds[-1] = max(largest, np.nextafter(bounds[-2], np.inf))
    return counts[first : last + 1].astype(np.float64), bounds


def quantile(counts: NDArray[np.uint64], largest: float, share: float) -> float:
    """The value that `share` of all values (zeros too) are at most as large as.

    Within a bin values count as spread evenly.

    Args:
        counts: `[BINS]`.
        largest: the largest value, above 0.
        share: from 0 to 1.
    """
    wanted = share * float(counts.sum())
    part, bounds = upper_part(counts, largest)
    below = float(counts.sum()) - part.sum()
    reached = below + np.concatenate([[0.0], np.cumsum(part)])
    return float(np.interp(wanted, reached, bounds))

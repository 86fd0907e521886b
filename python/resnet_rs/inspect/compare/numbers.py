"""Measures of how far two arrays are apart."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def relative_l2(actual: NDArray[Any], expected: NDArray[Any]) -> float:
    """Compute `|actual - expected| / |expected|` in the Euclidean norm, in float64.

    The result is 0 if both are 0, infinite if only `expected` is 0, and NaN if a value is NaN.
    """
    return _ratio(_norm(_difference(actual, expected)), _norm(expected))


def max_absolute(actual: NDArray[Any], expected: NDArray[Any]) -> float:
    """Compute the largest `|actual - expected|`; NaN if a value is NaN."""
    return float(np.abs(_difference(actual, expected)).max(initial=0.0))


def cosine(actual: NDArray[Any], expected: NDArray[Any]) -> float:
    """Compute the cosine of the angle between two arrays as vectors.

    The result is 1 if they differ by a positive factor only, or if both are 0. It is NaN if one of
    them is 0, or a value is NaN.
    """
    a, b = (np.asarray(array, np.float64).ravel() for array in (actual, expected))
    norms = _norm(a) * _norm(b)
    if norms == 0:
        return 1.0 if not a.any() and not b.any() else math.nan
    return float(a @ b) / norms


def decibels(actual: NDArray[Any], expected: NDArray[Any]) -> float | None:
    """Compute the signal-to-noise ratio, `10 * log10(sum of expected^2 / sum of differences^2)`.

    The result is None if there is no noise, or no signal, or if a value is not finite.
    """
    return ratio_in_decibels(
        float(np.square(np.asarray(expected, np.float64)).sum()),
        float(np.square(_difference(actual, expected)).sum()),
    )


def ratio_in_decibels(signal: float, noise: float) -> float | None:
    """Compute `10 * log10(signal / noise)`; None unless both are above 0 and finite."""
    if not (0 < signal < math.inf and 0 < noise < math.inf):
        return None
    return 10 * math.log10(signal / noise)


def finite(value: Any) -> Any:
    """Replace numbers that JSON does not have by None, in dicts and lists too."""
    if isinstance(value, Mapping):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _difference(actual: NDArray[Any], expected: NDArray[Any]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):  # infinity minus infinity is NaN, as intended
        difference: NDArray[np.float64] = np.asarray(actual, np.float64) - expected
    return difference


def _norm(array: NDArray[Any]) -> float:
    return float(np.linalg.norm(np.asarray(array, np.float64).ravel()))


def _ratio(distance: float, length: float) -> float:
    if length == 0:
        return 0.0 if distance == 0 else (math.nan if math.isnan(distance) else math.inf)
    return distance / length

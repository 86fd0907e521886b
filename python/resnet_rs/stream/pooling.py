"""Pooling: from feature maps to vectors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.float32]

POOLS = ("avg", "max", "avgmax", "catavgmax", "none")
"""The choices for `pool` of `ResNet.embed`, under timm's names for the same."""


def pool_map(values: Map, pool: str) -> NDArray[np.float32]:
    """Pool one image's feature map over its places.

    Args:
        values: `[height, width, channels]`.
        pool: `avg`, `max`, `avgmax` (the mean of both) or `catavgmax` (one behind the other).

    Returns:
        `[channels]`; `[2 * channels]` for `catavgmax`. Means are taken in float64 and rounded
        once.
    """
    places = values.reshape(-1, values.shape[-1])
    return _POOLERS[pool](places)


def unit_length(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale each row of `[n, length]` to Euclidean length 1; a row of zeros stays one."""
    unit = np.empty_like(vectors)
    # Row by row: a sum over all rows at once might be ordered by how many there are, and a
    # vector must not depend on its neighbours.
    for row, vector in zip(unit, vectors, strict=True):
        length = np.sqrt(np.square(vector, dtype=np.float64).sum())
        row[:] = vector / length if length > 0 else vector
    return unit


def _mean(places: Map) -> Map:
    return np.asarray(places.mean(axis=0, dtype=np.float64), np.float32)


def _max(places: Map) -> Map:
    return np.asarray(places.max(axis=0))


_POOLERS: dict[str, Callable[[Map], Map]] = {
    "avg": _mean,
    "max": _max,
    "avgmax": lambda places: (_mean(places) + _max(places)) / np.float32(2),
    "catavgmax": lambda places: np.concatenate([_mean(places), _max(places)]),
}

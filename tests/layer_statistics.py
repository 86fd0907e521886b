"""`Network.statistics` in NumPy: from the activations of every layer."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet_rs import _core
from resnet_rs.quantization.core_calls import Statistics


def statistics(network: _core.Network, x: NDArray[Any]) -> Statistics:
    """`Network.statistics` from the activations."""
    values = x if x.dtype == np.float32 else network.normalize(x)
    return [
        (name, float(y.max()), histogram(y), y.sum(axis=tuple(range(y.ndim - 1)), dtype=np.float64))
        for name, y in [("input", values), *network.activations(x)]
    ]


def histogram(values: NDArray[np.float32]) -> NDArray[np.uint64]:
    """Counts by the upper 16 bits of the positive values; all others are in bin 0."""
    bits = np.where(values > 0, values, 0).astype(np.float32).ravel().view(np.uint32) >> 16
    return np.bincount(bits, minlength=1 << 15).astype(np.uint64)

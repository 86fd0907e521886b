"""The calls of the compiled core that quantising needs, each in one place."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._core import Network

Statistics = list[tuple[str, float, NDArray[np.uint64], NDArray[np.float64]]]


def statistics(network: Network, x: NDArray[np.uint8] | NDArray[np.float32]) -> Statistics:
    """Every layer's largest value, histogram and sums of channels, as `Network.statistics`."""
    found: Statistics = network.statistics(x)
    return found


def int8_network(
    tensors: Mapping[str, NDArray[Any]],
    config: Mapping[str, Any],
    *,
    isa: str | None = None,
    threads: int | None = None,
) -> Network:
    """Make a network of quantised tensors in memory.

    Raises:
        WeightsError: the core refuses them.
    """
    return Network.from_tensors(
        tensors,
        json.dumps(config),
        origin="the quantised network",
        isa=isa,
        threads=threads,
        precision="int8",
    )

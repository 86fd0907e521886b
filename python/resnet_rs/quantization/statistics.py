"""Statistics of every layer of the f32 network over images: ranges, histograms, means."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .._core import Network
from ..reference.fused import IMAGE
from . import core_calls

INPUT = "input"
"""The core's name for the normalised image, which is no layer."""


@dataclass(frozen=True)
class LayerStatistics:
    """One layer's outputs over all calibration images.

    Attributes:
        largest: the largest value.
        counts: uint64 `[32768]`, the number of values by the upper 16 bits of their float32: bin i
            holds the positive values from the one with the bits `i << 16` up to the next bin's;
            zeros and negative values are in bin 0 (`histogram.py`).
        sums: float64 `[channels]`, over images and pixels.
    """

    largest: float
    counts: NDArray[np.uint64]
    sums: NDArray[np.float64]

    @property
    def means(self) -> NDArray[np.float64]:
        """The mean of each channel."""
        pixels = int(self.counts.sum()) // len(self.sums)
        return self.sums / max(pixels, 1)

    def with_more(self, other: LayerStatistics) -> LayerStatistics:
        """The statistics of both parts together."""
        return LayerStatistics(
            max(self.largest, other.largest),
            self.counts + other.counts,
            self.sums + other.sums,
        )


def gather(
    network: Network,
    batches: Iterable[NDArray[np.uint8] | NDArray[np.float32]],
    done: Callable[[int], None] = lambda images: None,
) -> dict[str, LayerStatistics]:
    """Run the f32 network over images and collect every layer's statistics.

    Args:
        network: the f32 network.
        batches: `[n, height, width, channels]` each, uint8 pixels or float32, normalised.
        done: called after each batch with the number of images so far.

    Returns:
        By layer, in network order, `image` (the normalised input) first.

    Raises:
        ValueError: a layer's values are not finite.
    """
    found: dict[str, LayerStatistics] = {}
    images = 0
    for batch in batches:
        for name, largest, counts, sums in core_calls.statistics(network, batch):
            name = IMAGE if name == INPUT else name
            one = LayerStatistics(largest, counts, sums)
            if not (np.isfinite(largest) and np.isfinite(sums).all()):
                raise ValueError(
                    f"calibration: layer {name} gives values that are not finite for images "
                    f"{images} to {images + len(batch) - 1}; expected a network and images whose "
                    "results float32 holds"
                )
            found[name] = found[name].with_more(one) if name in found else one
        images += len(batch)
        done(images)
    return found

"""The trial of `auto`: several methods' logits beside those of f32, on a few images.

Rounding adds a little noise to every image. Clipping adds none to most images, and much to the few
with the largest values; these are rarely among the compared ones, and new images may have larger
values still. So a method that clips looks better in a trial than it is, and is taken only if it is
clearly better than `minmax`, which clips nothing. The geometric mean over images keeps one odd
image from deciding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np

from .._core import Network
from .errors import relative_error
from .images import Batch, evenly

TRIED = ("minmax", "mse")
"""The methods that `auto` tries: one clips nothing, one clips what costs least in each layer."""

CLEARLY = 0.6
"""The error of another method by that of `minmax`, at most, for `auto` to take it."""

SIDE = 112
"""The height and width that images are cropped to, at most: their centre tells as much."""

PIXELS = 4 * SIDE * SIDE
FEWEST, MOST = 2, 8
"""The trial's pixels, and the fewest and most images: more take long beside the calibration."""

_LEAST_ERROR = 1e-9  # 0 has no logarithm


class Trial:
    """Images, and the logits of the f32 network for them.

    Args:
        network: the f32 network.
        sample: images `[1, height, width, channels]`.
    """

    def __init__(self, network: Network, sample: Sequence[Batch]) -> None:
        crops = [_centre(x) for x in sample]
        self.images = _chosen(crops if _takes(network, crops[0]) else sample)
        self._expected = [network.logits(x) for x in self.images]

    def error(self, network: Network) -> float:
        """The relative error of a network's logits: the geometric mean over the images."""
        errors = [
            relative_error([network.logits(x)], [expected])
            for x, expected in zip(self.images, self._expected, strict=True)
        ]
        return math.exp(sum(math.log(max(error, _LEAST_ERROR)) for error in errors) / len(errors))


def best_of(errors: Mapping[str, float]) -> str:
    """Choose a method: `minmax`, unless another one's error is clearly less.

    Args:
        errors: of each of `TRIED`.
    """
    best = min(errors, key=lambda one: errors[one])
    plain = TRIED[0]
    return best if errors[best] <= CLEARLY * errors[plain] else plain


def _centre(x: Batch) -> Batch:
    """The middle `SIDE` x `SIDE` pixels of images; all of a smaller side."""
    height, width = (min(side, SIDE) for side in x.shape[1:3])
    top, left = (x.shape[1] - height) // 2, (x.shape[2] - width) // 2
    return cast(Batch, np.ascontiguousarray(x[:, top : top + height, left : left + width]))


def _chosen(images: Sequence[Batch]) -> list[Batch]:
    """As many of the images as the trial has pixels for, evenly over all of them."""
    _, height, width, _ = images[0].shape
    count = min(max(PIXELS // (height * width), FEWEST), MOST)
    return [images[place] for place in evenly(len(images), count)]


def _takes(network: Network, x: Batch) -> bool:
    """Tell if a network takes images of this size: one without a global pool has its own."""
    try:
        network.embed(x)
    except ValueError:
        return False
    return True

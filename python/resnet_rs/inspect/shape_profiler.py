"""The environment variable `RESNET_RS_PROFILE`: profiles of a program that is there already."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ..weights.loaded import Loaded


class ShapeProfiler:
    """Prints a network's profile to stderr at each new input shape.

    Args:
        loaded: the network.
    """

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded
        self._shapes: set[tuple[int, ...]] = set()

    def __call__(self, x: NDArray[np.float32] | NDArray[np.uint8]) -> None:
        """Print the profile for an input that the network has just run, if its shape is new.

        Args:
            x: `[batch, height, width, channels]`: normalised float32 or uint8 pixels.
        """
        if x.shape in self._shapes:
            return
        import sys

        from .profile import ROUNDS, measure_profile

        self._shapes.add(x.shape)
        print(measure_profile(self._loaded.network, x, rounds=ROUNDS), file=sys.stderr)


def shape_profiler(loaded: Loaded) -> ShapeProfiler | None:
    """Make a network's profiler if `RESNET_RS_PROFILE` asks for one, else None.

    The backend `reference` has none: it has no kernels to time.

    Raises:
        ValueError: the variable is neither empty, 0 nor 1.
    """
    value = os.environ.get("RESNET_RS_PROFILE", "")
    if value not in ("", "0", "1"):
        raise ValueError(
            f"RESNET_RS_PROFILE must be 1 (print each input shape's profile) or 0; got {value!r}"
        )
    is_timed = value == "1" and loaded.options.backend == "fast"
    return ShapeProfiler(loaded) if is_timed else None

"""Slopes by two evaluations on either side: gradients that know nothing of any formula."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

STEP = 1e-5
"""Central differences are wrong by STEP squared and by 1e-16 / STEP: here both are 1e-10."""

TOLERANCE = 1e-7
"""Largest relative L2 error of a gradient by differences; a wrong formula is off by 1e-2."""


def slopes(f: Callable[[Array], float], x: Array) -> Array:
    """The gradient of a function of an array, by central differences of each element."""
    gradient = np.zeros(x.shape)
    for place in np.ndindex(x.shape):
        for sign in (1, -1):
            moved = x.copy()
            moved[place] += sign * STEP
            gradient[place] += sign * f(moved) / (2 * STEP)
    return gradient

"""Minimisation of a smooth function by L-BFGS, in NumPy."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

# The pairs of steps and changes of the gradient that stand for the curvature.
_MEMORY = 10
# The conditions of Wolfe: enough descent, and a slope that is flat enough.
_DESCENT, _FLATNESS = 1e-4, 0.9
_TRIES = 30


@dataclass(frozen=True)
class Minimum:
    """The end of a minimisation.

    Attributes:
        x: the place.
        value: the function there.
        gradient: the largest component of its gradient, by magnitude.
        steps: the number of steps.
        converged: True if the gradient is as small as was asked for.
    """

    x: Vector
    value: float
    gradient: float
    steps: int
    converged: bool


def minimise(
    function: Callable[[Vector], tuple[float, Vector]],
    start: Vector,
    *,
    tolerance: float = 1e-6,
    steps: int = 500,
) -> Minimum:
    """Find a place where a function's gradient vanishes, going downhill (Nocedal, 1980).

    Args:
        function: returns the value and the gradient at a place; differentiable and bounded below.
        start: the place to begin at, float64.
        tolerance: the largest component of the gradient, by magnitude, at which to stop.
        steps: the number of steps, at most.
    """
    x = start.copy()
    value, gradient = function(x)
    pairs: deque[tuple[Vector, Vector, float]] = deque(maxlen=_MEMORY)
    done = 0
    while done < steps and np.abs(gradient).max() > tolerance:
        direction = _direction(gradient, pairs)
        slope = float(gradient @ direction)
        if slope >= 0:
            # Rounding has spoilt the curvature: begin anew, straight downhill.
            pairs.clear()
            direction, slope = -gradient, -float(gradient @ gradient)
        first = 1.0 if pairs else min(1.0, 1.0 / float(np.abs(gradient).sum()))
        found = _search(function, x, value, direction, slope, first)
        if found is None:
            if not pairs:
                break  # no step goes down: the rounding of float64 is reached
            pairs.clear()
            continue
        new_x, new_value, new_gradient = found
        step, change = new_x - x, new_gradient - gradient
        curvature = float(step @ change)
        if curvature > 1e-10 * float(change @ change):
            pairs.append((step, change, 1.0 / curvature))
        x, value, gradient = new_x, new_value, new_gradient
        done += 1
    largest = float(np.abs(gradient).max())
    return Minimum(x, value, largest, done, largest <= tolerance)


def _direction(gradient: Vector, pairs: deque[tuple[Vector, Vector, float]]) -> Vector:
    """The direction of Newton's step, by the two loops over the pairs."""
    q = -gradient
    shares = []
    for step, change, rho in reversed(pairs):
        share = rho * float(step @ q)
        shares.append(share)
        q = q - share * change
    if pairs:
        step, change, rho = pairs[-1]
        q = q / (rho * float(change @ change))
    for (step, change, rho), share in zip(pairs, reversed(shares), strict=True):
        q = q + (share - rho * float(change @ q)) * step
    return q


def _search(
    function: Callable[[Vector], tuple[float, Vector]],
    x: Vector,
    value: float,
    direction: Vector,
    slope: float,
    first: float,
) -> tuple[Vector, float, Vector] | None:
    """Find a step along a direction that meets both conditions of Wolfe, by bisection.

    Returns:
        The new place, its value and gradient; None if there is no step that goes down.
    """
    low, high, length = 0.0, np.inf, first
    best: tuple[Vector, float, Vector] | None = None
    for _ in range(_TRIES):
        place = x + length * direction
        new_value, gradient = function(place)
        if not new_value <= value + _DESCENT * length * slope:
            high = length
        else:
            best = (place, new_value, gradient)
            if float(gradient @ direction) >= _FLATNESS * slope:
                return best
            low = length
        length = 2 * low if high == np.inf else (low + high) / 2
    return best

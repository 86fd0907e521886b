"""Wrong formulas for single operations, and what is common to all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...reference.walk import Operation, evaluate

Array: TypeAlias = NDArray[np.float64]
# Computes an operation from its inputs and its tensors, as `reference.evaluate` does.
Formula: TypeAlias = Callable[[Operation, Sequence[Array], Mapping[str, Array]], Array]


@dataclass(frozen=True)
class Mistake:
    """One way to get an operation wrong.

    Attributes:
        mistake: the class of mistakes that it belongs to, such as `transposed weights`.
        text: a clause that says what was done: `height and width of the kernels are swapped`.
        formula: the wrong formula.
    """

    mistake: str
    text: str
    formula: Formula


def with_tensor(part: str, change: Callable[[Array], Array]) -> Formula:
    """Make the right formula with one tensor changed."""
    return lambda o, i, t: evaluate(o, i, {**t, part: change(t[part])})


def with_swapped(one: str, other: str) -> Formula:
    """Make the right formula with two tensors swapped."""
    return lambda o, i, t: evaluate(o, i, {**t, one: t[other], other: t[one]})


def with_fields(**fields: Any) -> Formula:
    """Make the right formula with some of the operation's numbers changed."""
    return lambda o, i, t: evaluate({**o, **fields}, i, t)


def skip(operation: Operation, inputs: Sequence[Array], tensors: Mapping[str, Array]) -> Array:
    """Give the first input back."""
    return inputs[0]

"""Mistakes in storing a result: right numbers in the wrong order, or on the wrong scale."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True)
class Arrangement:
    """One way to store a result wrongly.

    Attributes:
        mistake: the class of mistakes.
        text: a clause that says what was done.
        result: the right numbers, stored in this way.
    """

    mistake: str
    text: str
    result: Array


def arrangements(right: Array) -> Iterator[Arrangement]:
    """Yield `right` as each mistake of storing leaves it.

    Args:
        right: the right result, NHWC.
    """
    batch, height, width, channels = right.shape
    layout = "wrong layout"
    yield Arrangement(
        layout,
        "the dump says NHWC, and its arrays are NCHW",
        right.transpose(0, 3, 1, 2),
    )
    yield Arrangement(
        layout,
        "the dump says NCHW, and its arrays are NHWC",
        right.transpose(0, 2, 3, 1),
    )
    yield Arrangement(layout, "height and width are swapped (NWHC)", right.transpose(0, 2, 1, 3))
    reshaped = "reshape for a transpose"
    yield Arrangement(
        reshaped,
        "NHWC became NCHW by reshape, which moves nothing: transpose(0, 3, 1, 2) is needed",
        right.reshape(batch, channels, height, width).transpose(0, 2, 3, 1),
    )
    yield Arrangement(
        reshaped,
        "NCHW became NHWC by reshape, which moves nothing: transpose(0, 2, 3, 1) is needed",
        right.transpose(0, 3, 1, 2).reshape(right.shape),
    )


def scaled(right: Array, given: Array) -> Iterator[Arrangement]:
    """Yield `right` with every value multiplied by the factor that fits `given` best.

    Args:
        right: the right result, NHWC.
        given: the wrong one.
    """
    if right.shape == given.shape:
        square = float(np.square(right).sum())
        factor = float((right * given).sum()) / square if square else 0.0
        text = f"every value is {factor:.6g} times the right one" if factor else "every value is 0"
        yield Arrangement("wrong scale", text, factor * right)

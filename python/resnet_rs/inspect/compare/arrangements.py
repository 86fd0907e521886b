"""A result whose numbers are right, and lie in the wrong order or on the wrong scale."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True)
class Arrangement:
    """One way in which a result may be stored wrongly.

    Attributes:
        mistake: the class of mistakes.
        text: what was done, as a clause.
        result: the right numbers, so stored.
    """

    mistake: str
    text: str
    result: Array


def arrangements(right: Array) -> Iterator[Arrangement]:
    """What `right` looks like after each mistake of storing it.

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
    """What `right` looks like when every value is multiplied by the factor that fits best.

    Args:
        right: the right result, NHWC.
        given: the wrong one.
    """
    if right.shape == given.shape:
        square = float(np.square(right).sum())
        factor = float((right * given).sum()) / square if square else 0.0
        text = f"every value is {factor:.6g} times the right one" if factor else "every value is 0"
        yield Arrangement("wrong scale", text, factor * right)

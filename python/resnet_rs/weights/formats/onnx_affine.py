"""Arithmetic with constants in an ONNX graph: a factor and a summand for each channel.

Batch norms that were frozen before the export are a Mul and an Add with a number for each channel,
and biases can be an Add of their own. At the image the same operations are its preprocessing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..._core import WeightsError
from .onnx_constants import as_floats, is_float
from .onnx_proto import Array, Node
from .onnx_steps import NotResNetError, Order, Step

Numbers = NDArray[np.float64]

_PIXEL_RANGE = 255.0
_MOST_CHANNELS = 1 << 16


@dataclass(frozen=True)
class Affine:
    """Multiplication by one number and addition of another, for each channel or for all."""

    factor: Numbers
    summand: Numbers

    def after(self, first: Affine) -> Affine:
        """Give the arithmetic that does `first` and then this."""
        return Affine(self.factor * first.factor, self.factor * first.summand + self.summand)


def affine_of(
    node: Node, constant: Array, order: Order, channels: int | None, *, constant_first: bool
) -> Affine:
    """Read an Add, Sub, Mul or Div with a constant.

    Args:
        node: the operation.
        constant: one number, or one for each channel.
        order: the axes of the other operand.
        channels: its channels; None if they are unknown.
        constant_first: whether the constant is the first operand.

    Raises:
        NotResNetError: the constant has other axes, or the operation is no arithmetic of this kind.
    """
    numbers = _per_channel(node, constant, order, channels)
    one, zero = np.ones_like(numbers), np.zeros_like(numbers)
    with np.errstate(all="ignore"):  # the core refuses what is not finite
        if node.operator in ("Add", "Sum"):
            return Affine(one, numbers)
        if node.operator == "Sub":
            return Affine(-one, numbers) if constant_first else Affine(one, -numbers)
        if node.operator == "Mul":
            return Affine(numbers, zero)
        if node.operator == "Div" and not constant_first:
            return Affine(one / numbers, zero)
    raise NotResNetError(node, "a division by a constant")


def _per_channel(node: Node, constant: Array, order: Order, channels: int | None) -> Numbers:
    """Give a constant's numbers along the axis of channels."""
    axis = order.index(1)
    shape = (1,) * (len(order) - constant.ndim) + constant.shape
    length = 1 if len(shape) != len(order) else shape[axis]
    # An axis of more than one number elsewhere would make a map of its own.
    fits = len(shape) == len(order) and constant.size == length <= _MOST_CHANNELS
    if not fits or (channels is not None and length not in (1, channels)):
        expected = "one number" if channels is None else f"1 or {channels} numbers"
        raise NotResNetError(node, f"{expected}, for the channels", str(list(constant.shape)))
    floats = as_floats(constant) if is_float(constant) else constant
    numbers = floats.reshape(length).astype(np.float64)
    if channels is not None and length == 1:
        numbers = np.repeat(numbers, channels)
    return numbers


def absorb(step: Step, affine: Affine) -> None:
    """Make arithmetic part of the batch norm before it."""
    weight, bias = (_float64(constant) for constant in step.constants[:2])
    with np.errstate(all="ignore"):
        if weight.shape == bias.shape == affine.factor.shape:
            step.constants[0] = weight * affine.factor
            step.constants[1] = bias * affine.factor + affine.summand
            return
    raise NotResNetError(step.node, f"{affine.factor.size} numbers", str(weight.shape))


def norm_constants(affine: Affine) -> list[Array | None]:
    """Give weight, bias, mean and variance of a batch norm that is only arithmetic."""
    one, zero = np.ones_like(affine.factor), np.zeros_like(affine.factor)
    return [affine.factor, affine.summand, zero, one]


def _float64(constant: Array | None) -> Numbers:
    assert constant is not None
    return as_floats(constant).astype(np.float64)


def preprocessing_of(node: Node, affine: Affine, channels: int) -> tuple[dict[str, Any], str]:
    """Express arithmetic on the image as the mean and std of a config.

    Args:
        node: the last of its nodes, for messages.
        affine: what is done to the image.
        channels: of the image.

    Returns:
        The fields `mean` and `std`, which are of images in 0 to 1, and a remark.

    Raises:
        WeightsError: it is no subtraction of a mean and division by a std, or it does not show
            whether the image is in 0 to 1 or in 0 to 255.
    """
    factor, summand = (
        np.broadcast_to(numbers, (channels,)) if numbers.size == 1 else numbers
        for numbers in (affine.factor, affine.summand)
    )
    finite = bool(np.isfinite(factor).all() and np.isfinite(summand).all())
    if len(factor) != channels or not finite or not (factor > 0).all():
        raise NotResNetError(node, "a subtraction of a mean and a division by a std for the image")
    mean, std = -summand / factor, 1 / factor
    # A mean lies in the range of the pixels, and what is divided by more than 2 has more than 1.
    if (mean.max() > 1 and mean.min() >= 0) or std.min() > 2:
        largest = _PIXEL_RANGE
    elif mean.min() > 0 and mean.max() < 1:
        largest = 1.0
    else:
        raise WeightsError(
            f"{node}: the graph prepares the image itself (mean {_rounded(mean)}, std "
            f"{_rounded(std)}), which does not show whether the image is in 0 to 1 or in 0 to 255: "
            "export the network without its preprocessing"
        )
    remark = (
        f"the graph prepares images in 0 to {largest:g} itself (mean {_rounded(mean)}, std "
        f"{_rounded(std)}): that became the mean and std of the preprocessing here, and a mean or "
        "std that you state replaces it"
    )
    fields = {"mean": (mean / largest).tolist(), "std": (std / largest).tolist()}
    return fields, remark


def _rounded(numbers: Numbers) -> str:
    return str([float(f"{number:.4g}") for number in numbers])

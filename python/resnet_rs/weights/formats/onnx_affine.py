"""Arithmetic with constants in an ONNX graph: a factor and a summand for each channel.

Batch norms that were frozen before the export are a Mul and an Add with a number for each channel,
and biases can be an Add of their own. At the image the same operations are its preprocessing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .onnx_constants import as_floats, is_float
from .onnx_proto import Array, Node
from .onnx_steps import NotResNetError, Order, Step

Numbers = NDArray[np.float64]

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

"""The operations to which an ONNX graph of a ResNet is reduced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..._core import WeightsError
from .onnx_proto import Node, Tensor

Array = NDArray[Any]
Size = tuple[int, int]

MAX_SIZE = 1 << 16
"""Kernels, strides, pads and images beyond this are damage."""


class NotResNetError(WeightsError):
    """A node that does not fit; the message names it."""

    def __init__(self, node: Node, expected: str, got: str = "") -> None:
        ending = f", got {got}" if got else ""
        super().__init__(
            f"{node}: expected {expected}{ending}: the graph is no ResNet of this kind"
        )


@dataclass(frozen=True)
class Constant:
    """A tensor of the file; `order` permutes its axes."""

    tensor: Tensor
    order: tuple[int, ...] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Its dimensions, in the order of `order`."""
        shape = self.tensor.shape
        return shape if self.order is None else tuple(shape[axis] for axis in self.order)

    def array(self) -> Array:
        """Its numbers, C-contiguous, float32 or float16."""
        values = self.tensor.floats()
        return values if self.order is None else np.ascontiguousarray(values.transpose(self.order))

    def turned(self) -> Constant:
        """The same with its two axes swapped."""
        first, second = self.order or (0, 1)
        order = (second, first)
        return Constant(self.tensor, None if order == (0, 1) else order)


@dataclass
class Window:
    """The window of a convolution or pooling, the same in both directions."""

    kernel: int
    stride: int
    padding: int
    ceil_mode: bool = False


@dataclass
class Step:
    """One operation.

    Attributes:
        kind: `conv`, `batch_norm`, `relu`, `add`, `max_pool`, `avg_pool`, `global_avg_pool`,
            `flatten`, `linear` or `softmax`.
        node: the node that it comes from, for messages.
        inputs: the values that it takes.
        output: the value that it gives.
        constants: weight and bias of a convolution or a linear layer; weight, bias, mean and
            variance of a batch norm.
        window: of a convolution or pooling.
        groups: of a convolution.
        epsilon: of a batch norm.
        count_padding: whether an average counts the padding.
        transposed: whether a linear layer's weight is `[in, out]`.
    """

    kind: str
    node: Node
    inputs: list[str]
    output: str
    constants: list[Constant | None] = field(default_factory=list)
    window: Window | None = None
    groups: int = 1
    epsilon: float = 1e-5
    count_padding: bool = False
    transposed: bool = False


@dataclass(frozen=True)
class Padding:
    """A Pad node, which becomes part of the operation after it."""

    source: str
    before: Size
    after: Size
    value: float


def integer(node: Node, name: str, default: int) -> int:
    """A node's attribute that is an integer."""
    value = node.attributes.get(name, default)
    if not isinstance(value, int):
        raise NotResNetError(node, f"an integer as {name}", repr(value))
    return value


def integers(node: Node, name: str, default: list[int]) -> list[int]:
    """A node's attribute that is a list of integers."""
    value = node.attributes.get(name, default)
    if not isinstance(value, list):
        raise NotResNetError(node, f"integers as {name}", repr(value))
    return list(value)


def window(node: Node, pad: Padding | None, shape: Sequence[int] | None) -> Window:
    """The window of a convolution or pooling, which must be square and even on all sides."""
    kernel = integers(node, "kernel_shape", list(shape or ()))
    strides = integers(node, "strides", [1, 1])
    pads = integers(node, "pads", [0, 0, 0, 0])
    dilations = integers(node, "dilations", [1, 1])
    if shape is not None and kernel != list(shape):
        raise NotResNetError(node, f"a kernel of {list(shape)}", str(kernel))
    automatic = node.attributes.get("auto_pad", "NOTSET")
    if automatic in ("SAME_UPPER", "SAME_LOWER") and len(kernel) == 2:
        if strides != [1, 1] or any(side % 2 == 0 for side in kernel):
            raise NotResNetError(node, "the same padding on all sides", f"auto_pad {automatic}")
        pads = [side // 2 for side in kernel] * 2
    elif automatic not in ("NOTSET", "VALID", ""):
        raise NotResNetError(node, "padding in numbers", f"auto_pad {automatic}")
    if pad is not None and len(pads) == 4:
        more = (*pad.before, *pad.after)
        pads = [own + extra for own, extra in zip(pads, more, strict=True)]
    numbers = [*kernel, *strides, *pads]
    if (len(kernel), len(strides), len(pads), dilations) != (2, 2, 4, [1, 1]):
        raise NotResNetError(node, "a window of height and width without dilation")
    if not all(0 <= number <= MAX_SIZE for number in numbers) or 0 in kernel + strides:
        raise NotResNetError(node, "kernel, strides and pads of a sane size", str(numbers))
    if len(set(kernel)) > 1 or len(set(strides)) > 1 or len(set(pads)) > 1:
        raise NotResNetError(
            node,
            "the same kernel, stride and padding in both directions",
            f"kernel {kernel}, strides {strides}, pads {pads}",
        )
    return Window(kernel[0], strides[0], pads[0], bool(integer(node, "ceil_mode", 0)))

"""The operations to which an ONNX graph of a ResNet is reduced."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..._core import WeightsError
from .onnx_proto import Array, Node
from .onnx_wire import MAX_NUMBERS

Size = tuple[int, int]

Order = tuple[int, ...]
"""For each axis of a value, the axis of an NCHW tensor that it is: 0 for N, 1 for C, and so on."""

NCHW: Order = (0, 1, 2, 3)
NHWC: Order = (0, 2, 3, 1)
ROWS: Order = (0, 1)
"""One row of features for each image."""

MAX_SIZE = 1 << 16
"""Kernels, strides, pads and images beyond this are damage."""


class NotResNetError(WeightsError):
    """A node that does not fit; the message names it."""

    def __init__(self, node: Node, expected: str, got: str = "") -> None:
        ending = f", got {got}" if got else ""
        super().__init__(
            f"{node}: expected {expected}{ending}: the graph is no ResNet of this kind"
        )


@dataclass
class Step:
    """One operation.

    Attributes:
        kind: `conv`, `batch_norm`, `relu`, `add`, `max_pool`, `avg_pool`, `slice` (every n-th
            pixel), `pad_channels`, `global_avg_pool`, `global_max_pool`, `flatten`, `linear`,
            `softmax` or `sigmoid`.
        node: the node that it comes from, for messages.
        inputs: the values that it takes.
        output: the value that it gives.
        constants: weight and bias of a convolution or a linear layer; weight, bias, mean and
            variance of a batch norm.
        attributes: of a convolution or pooling, by the names of the core's operations; of a
            slice its `stride`; of `pad_channels` the channels `before` and `after`.
        epsilon: of a batch norm; 0 if it is only a factor and a summand for each channel.
        transposed: whether a linear layer's weight is `[in, out]`.
    """

    kind: str
    node: Node
    inputs: list[str]
    output: str
    constants: list[Array | None] = field(default_factory=list)
    attributes: dict[str, int] = field(default_factory=dict)
    epsilon: float = 1e-5
    transposed: bool = False


@dataclass(frozen=True)
class Padding:
    """A Pad node of height and width, which becomes part of the operation after it."""

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


def numbers_of(node: Node, constant: Array) -> list[int]:
    """The numbers of a constant that is a short list of integers."""
    if constant.dtype.kind not in "iu" or constant.size > MAX_NUMBERS:
        raise NotResNetError(node, "a short list of integers", f"{constant.size} numbers")
    return [int(number) for number in constant.ravel()]

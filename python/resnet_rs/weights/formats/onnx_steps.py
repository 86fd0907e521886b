"""The operations to which an ONNX graph of a ResNet is reduced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..._core import WeightsError
from .onnx_proto import Array, Node
from .onnx_wire import MAX_NUMBERS

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


@dataclass
class Step:
    """One operation.

    Attributes:
        kind: `conv`, `batch_norm`, `relu`, `add`, `max_pool`, `avg_pool`, `global_avg_pool`,
            `flatten`, `linear`, `softmax` or `sigmoid`.
        node: the node that it comes from, for messages.
        inputs: the values that it takes.
        output: the value that it gives.
        constants: weight and bias of a convolution or a linear layer; weight, bias, mean and
            variance of a batch norm.
        attributes: of a convolution or pooling, by the names of the core's operations.
        epsilon: of a batch norm.
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


def numbers_of(node: Node, constant: Array) -> list[int]:
    """The numbers of a constant that is a short list of integers."""
    if constant.dtype.kind not in "iu" or constant.size > MAX_NUMBERS:
        raise NotResNetError(node, "a short list of integers", f"{constant.size} numbers")
    return [int(number) for number in constant.ravel()]


def window(node: Node, pad: Padding | None, shape: Sequence[int] | None = None) -> dict[str, int]:
    """Read the window of a convolution or pooling: square, and padded evenly on all sides.

    Args:
        node: the operation.
        pad: the Pad node before it.
        shape: height and width of a convolution's weight.

    Returns:
        `kernel`, `stride`, `padding` and `ceil_mode`.
    """
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
    return {
        "kernel": kernel[0],
        "stride": strides[0],
        "padding": pads[0],
        "ceil_mode": bool(integer(node, "ceil_mode", 0)),
    }

"""The values of an ONNX graph: which step gives each, which take it, its axes and its size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..._core import WeightsError
from .onnx_constants import Constants, is_float
from .onnx_proto import Array, Graph, Node
from .onnx_steps import (
    MAX_SIZE,
    NCHW,
    NHWC,
    NotResNetError,
    Order,
    Padding,
    Size,
    Step,
    integers,
    numbers_of,
)

Dimensions = list[int | None]


@dataclass(frozen=True)
class Value:
    """A value, by any of its names.

    Attributes:
        source: the name under which a step gives it, or the image's.
        order: its axes; a Transpose changes nothing else.
    """

    source: str
    order: Order


class Values:
    """The values between the operations of a graph.

    Attributes:
        remarks: what the user should know.
        steps: the operations so far.
        input: the name of the image, after any preprocessing in the graph.
        input_shape: its dimensions in NCHW order, None for a free one; None if it states none.
        channels: for each value its channels, or None.
        sizes: for each value its height and width, or None.
        zeros: the names of values that are zeros everywhere, with their channels.

    Args:
        graph: the file's graph.
    """

    def __init__(self, graph: Graph) -> None:
        self.remarks: list[str] = []
        self.steps: list[Step] = []
        self.constants = Constants(graph, self._dimensions)
        self.input, shape = _image(graph)
        order = _image_order(graph, self.input, shape)
        self.input_shape = shape and [shape[order.index(axis)] for axis in range(4)]
        if order == NHWC:
            self.remark(
                "the graph takes its channels last, as exports of TensorFlow and Keras do, and "
                "does not say in which order: keras.applications' ResNets take B, G, R minus the "
                "means. If it is one of them, load its .keras or .h5 file, which is read as that"
            )
        _, channels, *sides = self.input_shape or [None] * 4
        height, width = (side if side and 0 < side <= MAX_SIZE else None for side in sides)
        self.channels: dict[str, int | None] = {self.input: channels if channels else None}
        self.sizes: dict[str, Size | None] = {
            self.input: None if height is None or width is None else (height, width)
        }
        self.zeros: dict[str, int] = {}
        self._same: dict[str, Value] = {self.input: Value(self.input, order)}
        self._paddings: dict[str, tuple[Padding, Order]] = {}
        self._by_output: dict[str, Step] = {}
        self._consumers: dict[str, list[Step]] = {self.input: []}

    # -- The graph, for its readers ------------------------------------------------------------

    def consumers(self, value: str) -> list[Step]:
        """The steps that take a value."""
        return self._consumers.get(value, [])

    def only_consumer(self, value: str) -> Step | None:
        """The step that takes a value, if there is just one."""
        steps = self.consumers(value)
        return steps[0] if len(steps) == 1 else None

    def producer(self, value: str) -> Step | None:
        """The step that computes a value; None for the image."""
        return self._by_output.get(value)

    def source_of(self, name: str) -> str:
        """The value that a name stands for."""
        return self._same[name].source if name in self._same else name

    # -- Steps ---------------------------------------------------------------------------------

    def add_step(
        self,
        kind: str,
        node: Node,
        inputs: list[str],
        *,
        order: Order = NCHW,
        channels: int | None = None,
        size: Size | None = None,
        **fields: Any,
    ) -> Step:
        """Add an operation whose result is the node's first output.

        Args:
            kind: see `Step`.
            node: the node.
            inputs: the values that it takes.
            order: the result's axes.
            channels: the result's channels, if they are known.
            size: the result's height and width, if they are known.
            fields: further fields of the step.
        """
        step = Step(kind, node, inputs, node.outputs[0], **fields)
        for value in inputs:
            self._consumers[value].append(step)
        self.steps.append(step)
        self._register(step, order, channels, size)
        return step

    def add_same_shape(self, kind: str, node: Node, inputs: list[Value], **fields: Any) -> Step:
        """Add an operation whose result has the shape and the axes of its first input."""
        first = inputs[0].source
        return self.add_step(
            kind,
            node,
            [value.source for value in inputs],
            order=inputs[0].order,
            channels=self.channels[first],
            size=self.sizes[first],
            **fields,
        )

    def extend_step(self, step: Step, node: Node, order: Order) -> None:
        """Make a node part of the step before it, whose former result is no value any more."""
        former = step.output
        channels, size = self.channels.pop(former), self.sizes.pop(former)
        del self._by_output[former], self._consumers[former]
        step.output = node.outputs[0]
        self._register(step, order, channels, size)

    def extend_image(self, node: Node, order: Order) -> None:
        """Make a node part of the image's preprocessing."""
        former, self.input = self.input, node.outputs[0]
        self.channels[self.input] = self.channels.pop(former)
        self.sizes[self.input] = self.sizes.pop(former)
        del self._consumers[former]
        self._same[self.input] = Value(self.input, order)
        self._consumers[self.input] = []

    def _register(self, step: Step, order: Order, channels: int | None, size: Size | None) -> None:
        self._same[step.output] = Value(step.output, order)
        self._by_output[step.output] = step
        self._consumers[step.output] = []
        self.channels[step.output] = channels
        self.sizes[step.output] = size

    def rename(self, node: Node, order: Order | None = None) -> None:
        """Take a node for one without effect, but perhaps on the order of the axes."""
        name, result = node.inputs[0], node.outputs[0]
        if name in self._paddings:
            padding, old = self._paddings[name]
            self._paddings[result] = padding, old if order is None else order
        else:
            value = self.value(node, name)
            self._same[result] = value if order is None else Value(value.source, order)

    def add_padding(self, node: Node, padding: Padding, order: Order) -> None:
        """Keep a Pad node for the operation after it."""
        self._paddings[node.outputs[0]] = padding, order

    def _dimensions(self, name: str) -> list[int | None]:
        """The dimensions of a value, without the number of images."""
        value = self._same.get(name)
        if value is None or value.source not in self._consumers:
            return []
        height, width = self.sizes[value.source] or (None, None)
        dimensions = [None, self.channels[value.source], height, width]
        return [dimensions[axis] for axis in value.order]

    # -- Parts of nodes ------------------------------------------------------------------------

    def value(self, node: Node, name: str) -> Value:
        """The value of a name that is an input of a node."""
        if name in self._paddings:
            raise NotResNetError(node, "a convolution or a pool after padding")
        value = self._same.get(name)
        if value is None or value.source not in self._consumers:
            raise NotResNetError(node, "a result of the nodes before it as input", repr(name))
        return value

    def order_of(self, node: Node) -> Order:
        """The axes of a node's first input, whether it is padded or not."""
        name = node.inputs[0]
        return self._paddings[name][1] if name in self._paddings else self.value(node, name).order

    def channels_first(self, node: Node) -> str:
        """The value that is a node's first input, which takes NCHW."""
        value = self.value(node, node.inputs[0])
        _require_nchw(node, value.order)
        return value.source

    def padded(self, node: Node) -> tuple[str, Padding | None]:
        """A node's first input, which takes NCHW, without the Pad before it."""
        if node.inputs[0] not in self._paddings:
            return self.channels_first(node), None
        padding, order = self._paddings[node.inputs[0]]
        _require_nchw(node, order)
        return padding.source, padding

    def weight(self, node: Node, index: int, rank: int) -> Array:
        """The constant that is an input of a node."""
        name = node.inputs[index] if index < len(node.inputs) else ""
        constant = self.constants.get(name)
        if constant is None:
            raise NotResNetError(node, f"constants as input {index}", repr(name))
        if constant.ndim != rank or 0 in constant.shape:
            raise NotResNetError(
                node, f"{rank} dimensions for input {index}", str(list(constant.shape))
            )
        if not is_float(constant):
            raise WeightsError(f"tensor {name}: expected float numbers, got {constant.dtype}")
        return constant

    def numbers(
        self, node: Node, index: int, attribute: str, default: list[int] | None = None
    ) -> list[int] | None:
        """Integers that are an attribute in old versions and an input in new ones."""
        if attribute in node.attributes:
            return integers(node, attribute, [])
        name = node.inputs[index] if index < len(node.inputs) else ""
        if not name:
            return default
        constant = self.constants.get(name)
        if constant is None:
            raise NotResNetError(node, f"constants as input {index}", repr(name))
        return numbers_of(node, constant)

    def remark(self, text: str) -> None:
        """Keep something that the user should know, once."""
        if text not in self.remarks:
            self.remarks.append(text)


def axes_of(node: Node, axes: list[int], order: Order) -> list[int]:
    """Give the NCHW axes that a node's axes are, which may count from the end.

    Raises:
        NotResNetError: there is no such axis.
    """
    if not all(-len(order) <= axis < len(order) for axis in axes):
        raise NotResNetError(node, f"axes of {len(order)}", str(axes))
    return [order[axis] for axis in axes]


def _require_nchw(node: Node, order: Order) -> None:
    if order != NCHW:
        letters = ", ".join("NCHW"[axis] for axis in order)
        raise NotResNetError(node, "an input with the axes N, C, H, W", letters)


def _image(graph: Graph) -> tuple[str, Dimensions | None]:
    """The one input that is no constant, and its dimensions."""
    inputs = {name: shape for name, shape in graph.inputs.items() if name not in graph.constants}
    if len(inputs) != 1:
        raise WeightsError(f"expected a graph with one input, got {len(inputs)}")
    ((name, shape),) = inputs.items()
    if shape is not None and len(shape) != 4:
        raise WeightsError(f"expected an input [batch, channels, height, width], got {shape}")
    return name, shape


_BEFORE_TRANSPOSE = frozenset({"Add", "Cast", "Div", "Identity", "Mul", "Pad", "Sub"})


def _image_order(graph: Graph, name: str, shape: Dimensions | None) -> Order:
    """Tell whether the image's channels come last: a Transpose then turns it."""
    followers: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for each in node.inputs:
            followers.setdefault(each, []).append(node)
    for _ in graph.nodes:
        if len(followers.get(name, [])) != 1:
            return NCHW
        (node,) = followers[name]
        if node.operator == "Transpose":
            return NHWC if node.attributes.get("perm") == [0, 3, 1, 2] else NCHW
        if node.operator == "Reshape" and shape is not None and shape[3] == 1:
            return NHWC  # the same numbers in the same places, if there is one channel
        if node.operator not in _BEFORE_TRANSPOSE:
            return NCHW
        name = node.outputs[0]
    return NCHW

"""Reduces an ONNX graph to the few operations that a ResNet consists of.

Names are ignored, as each exporter invents its own. The nodes are read in order. Nodes without an
effect on the result (Identity, Dropout, casts, the shape arithmetic before a Reshape) are left
out, padding becomes part of the operation after it, and an addition of constants part of the
operation before it. The first node of any other kind is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..._core import WeightsError
from .onnx_constants import Constants, as_floats, is_float
from .onnx_proto import Array, Graph, Node
from .onnx_steps import (
    MAX_SIZE,
    NotResNetError,
    Padding,
    Step,
    integer,
    integers,
    numbers_of,
    window,
)

OLDEST_OPSET, NEWEST_OPSET = 7, 25
"""Versions of ONNX's operators for which every operator that is read was checked."""


class Flow:
    """The operations of a graph, by the values between them.

    Args:
        graph: the file's graph.

    Raises:
        WeightsError: the graph is malformed, or has a node that no ResNet has.
    """

    def __init__(self, graph: Graph) -> None:
        if not OLDEST_OPSET <= graph.opset <= NEWEST_OPSET:
            raise WeightsError(
                f"expected ONNX operators of version {OLDEST_OPSET} to {NEWEST_OPSET}, "
                f"got {graph.opset}: export the network again with one of them"
            )
        self._opset = graph.opset
        self.remarks: list[str] = []
        self.steps: list[Step] = []
        self.input, self.input_shape = _image(graph)
        self._constants = Constants(graph)
        self._same: dict[str, str] = {self.input: self.input}
        self._paddings: dict[str, Padding] = {}
        self._by_output: dict[str, Step] = {}
        self._consumers: dict[str, list[Step]] = {self.input: []}
        for node in graph.nodes:
            if not node.outputs or not node.outputs[0]:
                raise WeightsError(f"{node}: expected a node with an output")
            if node.outputs[0] in self._same or node.outputs[0] in self._constants:
                raise WeightsError(f"{node}: the value {node.outputs[0]} is given twice")
            self._take(node)
        self.outputs = [self._same.get(name, name) for name in graph.outputs]

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

    # -- Nodes ---------------------------------------------------------------------------------

    def _take(self, node: Node) -> None:
        if self._constants.take(node):
            return
        if node.operator in _HANDLERS:
            if not node.inputs:
                raise WeightsError(f"{node}: expected a node with an input")
            _HANDLERS[node.operator](self, node)
        else:
            hint = _HINTS.get(node.operator, "")
            if "." in node.operator:
                hint = " (that one is a runtime's own: save the graph before it is optimized)"
            raise NotResNetError(node, f"an operation of a ResNet{hint}")

    def _drop(self, node: Node) -> None:
        """A node without effect: its output is its input."""
        name = node.inputs[0]
        if name in self._paddings:
            self._paddings[node.outputs[0]] = self._paddings[name]
        else:
            self._same[node.outputs[0]] = self._value(node, name)

    def _cast(self, node: Node) -> None:
        if node.attributes.get("to") not in (1, 10, 11, 16):
            raise NotResNetError(node, "a cast to float numbers")
        self._drop(node)

    def _pad(self, node: Node) -> None:
        pads = self._numbers_of(node, 1, "pads")
        axes = self._numbers_of(node, 3, "", [0, 1, 2, 3])
        mode = node.attributes.get("mode", "constant")
        value = node.attributes.get("value", 0.0)
        if len(node.inputs) > 2 and node.inputs[2]:
            constant = self._constants.get(node.inputs[2])
            if constant is None or constant.size != 1 or not is_float(constant):
                raise NotResNetError(node, "a constant to pad with")
            value = float(as_floats(constant).reshape(()))
        if mode != "constant" or pads is None or axes is None or len(pads) != 2 * len(axes):
            raise NotResNetError(node, "padding with a constant", f"mode {mode}")
        before, after = {}, {}
        for index, axis in enumerate(axes):
            before[axis % 4], after[axis % 4] = pads[index], pads[index + len(axes)]
        outside = [before.get(axis, 0) or after.get(axis, 0) for axis in (0, 1)]
        sides = (before.get(2, 0), before.get(3, 0)), (after.get(2, 0), after.get(3, 0))
        if any(outside) or any(not 0 <= side <= MAX_SIZE for pair in sides for side in pair):
            raise NotResNetError(node, "padding of height and width", str(pads))
        source = self._value(node, node.inputs[0])
        self._paddings[node.outputs[0]] = Padding(source, *sides, float(value))

    def _conv(self, node: Node) -> None:
        weight = self._weight(node, 1, 4)
        value, padding = self._padded(node)
        if padding is not None and padding.value != 0:
            raise NotResNetError(node, "padding with zeros", str(padding.value))
        attributes = window(node, padding, weight.shape[2:])
        attributes["groups"] = integer(node, "group", 1)
        bias = self._weight(node, 2, 1) if len(node.inputs) > 2 and node.inputs[2] else None
        self._add_step("conv", node, [value], constants=[weight, bias], attributes=attributes)

    def _batch_norm(self, node: Node) -> None:
        if integer(node, "spatial", 1) != 1:
            raise NotResNetError(node, "one mean for each channel")
        # Before version 14 a node in training mode has further outputs.
        if integer(node, "training_mode", 0) or any(node.outputs[1:]):
            self._remark("the graph was exported in training mode: it is run in inference mode")
        constants = [self._weight(node, index, 1) for index in range(1, 5)]
        epsilon = node.attributes.get("epsilon", 1e-5)
        if not isinstance(epsilon, float) or not 0 <= epsilon < 1:
            raise NotResNetError(node, "an epsilon from 0 to 1", repr(epsilon))
        value = self._value(node, node.inputs[0])
        # The file has the epsilon rounded to float32: 9.999999747378752e-06 for 1e-5.
        rounded = float(f"{epsilon:.7g}")
        self._add_step("batch_norm", node, [value], constants=constants, epsilon=rounded)

    def _relu(self, node: Node) -> None:
        self._add_step("relu", node, [self._value(node, node.inputs[0])])

    def _add(self, node: Node) -> None:
        constants = [self._constants.get(name) for name in node.inputs]
        if len(constants) != 2:
            raise NotResNetError(node, "an addition of two values", str(len(constants)))
        for constant, other in zip(constants, reversed(node.inputs), strict=True):
            if constant is not None:
                self._bias(node, self._value(node, other), constant)
                return
        self._add_step("add", node, [self._value(node, name) for name in node.inputs])

    def _bias(self, node: Node, value: str, bias: Array) -> None:
        """An addition of constants is the bias of the convolution or linear layer before it."""
        step = self.producer(value)
        if step is None or step.kind not in ("conv", "linear") or self.consumers(value):
            raise NotResNetError(node, "an addition of two values, or of a bias to a convolution")
        weight = step.constants[0]
        assert weight is not None
        shape = weight.shape
        channels = shape[1] if step.kind == "linear" and step.transposed else shape[0]
        trailing = (1, 1) if step.kind == "conv" else ()
        if step.constants[1] is not None or bias.shape not in {
            (channels, *trailing),
            (1, channels, *trailing),
        }:
            raise NotResNetError(node, f"a bias of {channels} numbers", str(list(bias.shape)))
        step.constants[1] = bias.reshape(channels)
        # The sum is what follows; the step's former result is no value of its own any more.
        del self._by_output[value], self._consumers[value]
        step.output = node.outputs[0]
        self._register(step)

    def _max_pool(self, node: Node) -> None:
        value, padding = self._padded(node)
        producer = self.producer(value)
        # After a ReLU nothing is below 0, so zeros are as good as the lowest number.
        harmless = producer is not None and producer.kind == "relu"
        if padding is not None and not (padding.value < -1e30 or (padding.value == 0 and harmless)):
            raise NotResNetError(node, "padding that a maximum does not see", str(padding.value))
        self._add_step("max_pool", node, [value], attributes=window(node, padding))

    def _avg_pool(self, node: Node) -> None:
        value, padding = self._padded(node)
        if padding is not None:
            raise NotResNetError(node, "an average without a Pad before it")
        counted = bool(integer(node, "count_include_pad", 0))
        attributes = {**window(node, None), "count_include_pad": counted}
        self._add_step("avg_pool", node, [value], attributes=attributes)

    def _global_avg_pool(self, node: Node) -> None:
        if node.operator == "ReduceMean":
            self._check_sides(node, self._numbers_of(node, 1, "axes"))
        self._add_step("global_avg_pool", node, [self._value(node, node.inputs[0])])

    def _flatten(self, node: Node) -> None:
        """Flatten, Reshape or Squeeze to one row for each image."""
        if node.operator == "Flatten" and integer(node, "axis", 1) not in (1, -3):
            raise NotResNetError(node, "one row for each image")
        if node.operator == "Reshape":
            shape = node.inputs[1] if len(node.inputs) > 1 else ""
            unknown = self._constants.is_size(shape)
            target = None if unknown else self._numbers_of(node, 1, "")
            if not unknown and (target is None or len(target) != 2):
                raise NotResNetError(node, "one row for each image", str(target))
        if node.operator == "Squeeze":
            self._check_sides(node, self._numbers_of(node, 1, "axes", [2, 3]))
        self._add_step("flatten", node, [self._value(node, node.inputs[0])])

    def _linear(self, node: Node) -> None:
        gemm = node.operator == "Gemm"
        plain = integer(node, "transA", 0) == 0 and all(
            node.attributes.get(name, 1.0) == 1.0 for name in ("alpha", "beta")
        )
        if not plain:
            raise NotResNetError(node, "a plain product with the weights")
        weight = self._weight(node, 1, 2)
        bias = None
        if gemm and len(node.inputs) > 2 and node.inputs[2]:
            bias = self._weight(node, 2, 1)
        transposed = not (gemm and integer(node, "transB", 0) == 1)
        value = self._value(node, node.inputs[0])
        self._add_step("linear", node, [value], constants=[weight, bias], transposed=transposed)

    def _softmax(self, node: Node) -> None:
        axis = integer(node, "axis", 1 if self._opset < 13 else -1)
        if axis not in (1, -1):
            raise NotResNetError(node, "the axis of the classes", f"axis {axis}")
        if node.operator == "LogSoftmax":
            self._remark("the graph ends in LogSoftmax: scores are the probabilities themselves")
        self._add_step("softmax", node, [self._value(node, node.inputs[0])])

    def _sigmoid(self, node: Node) -> None:
        self._add_step("sigmoid", node, [self._value(node, node.inputs[0])])

    # -- Parts of nodes ------------------------------------------------------------------------

    def _add_step(self, kind: str, node: Node, inputs: list[str], **fields: Any) -> None:
        step = Step(kind, node, inputs, node.outputs[0], **fields)
        for value in inputs:
            self._consumers[value].append(step)
        self.steps.append(step)
        self._register(step)

    def _register(self, step: Step) -> None:
        self._same[step.output] = step.output
        self._by_output[step.output] = step
        self._consumers[step.output] = []

    def _value(self, node: Node, name: str) -> str:
        """The value that a name stands for."""
        if self._same.get(name) not in self._consumers:
            raise NotResNetError(node, "a result of the nodes before it as input", repr(name))
        return self._same[name]

    def _weight(self, node: Node, index: int, rank: int) -> Array:
        """The constant that is an input of a node."""
        name = node.inputs[index] if index < len(node.inputs) else ""
        constant = self._constants.get(name)
        if constant is None:
            raise NotResNetError(node, f"constants as input {index}", repr(name))
        if len(constant.shape) != rank or 0 in constant.shape:
            raise NotResNetError(
                node, f"{rank} dimensions in input {index}", str(list(constant.shape))
            )
        if not is_float(constant):
            raise WeightsError(f"tensor {name}: expected float numbers, got {constant.dtype}")
        return constant

    def _numbers_of(
        self, node: Node, index: int, attribute: str, default: list[int] | None = None
    ) -> list[int] | None:
        """Integers that are an attribute in old versions and an input in new ones."""
        if attribute in node.attributes:
            return integers(node, attribute, [])
        name = node.inputs[index] if index < len(node.inputs) else ""
        if not name:
            return default
        constant = self._constants.get(name)
        if constant is None:
            raise NotResNetError(node, f"constants as input {index}", repr(name))
        return numbers_of(node, constant)

    def _padded(self, node: Node) -> tuple[str, Padding | None]:
        """A node's first input, without the Pad before it."""
        padding = self._paddings.get(node.inputs[0])
        return (self._value(node, node.inputs[0]) if padding is None else padding.source), padding

    def _check_sides(self, node: Node, axes: list[int] | None) -> None:
        if axes is None or sorted(axis % 4 for axis in axes) != [2, 3]:
            raise NotResNetError(node, "the axes of height and width", f"axes {axes}")

    def _remark(self, text: str) -> None:
        if text not in self.remarks:
            self.remarks.append(text)


_HANDLERS: dict[str, Callable[[Flow, Node], None]] = {
    "Add": Flow._add,
    "AveragePool": Flow._avg_pool,
    "BatchNormalization": Flow._batch_norm,
    "Cast": Flow._cast,
    "Conv": Flow._conv,
    "Dropout": Flow._drop,
    "Flatten": Flow._flatten,
    "Gemm": Flow._linear,
    "GlobalAveragePool": Flow._global_avg_pool,
    "Identity": Flow._drop,
    "LogSoftmax": Flow._softmax,
    "MatMul": Flow._linear,
    "MaxPool": Flow._max_pool,
    "Pad": Flow._pad,
    "ReduceMean": Flow._global_avg_pool,
    "Relu": Flow._relu,
    "Reshape": Flow._flatten,
    "Sigmoid": Flow._sigmoid,
    "Softmax": Flow._softmax,
    "Squeeze": Flow._flatten,
    "Sum": Flow._add,
}

_HINTS = {
    "Transpose": " in NCHW order (networks that came from TensorFlow often turn their axes: "
    "load the Keras file instead)",
    "DequantizeLinear": " in float numbers, and this one is quantized",
    "QuantizeLinear": " in float numbers, and this one is quantized",
    "QLinearConv": " in float numbers, and this one is quantized",
    "Sub": " (export the network without its preprocessing)",
    "Div": " (export the network without its preprocessing)",
    "Mul": " (export the network without its preprocessing)",
}


def _image(graph: Graph) -> tuple[str, list[int | None] | None]:
    """The one input that is no constant, and its dimensions `[batch, channels, height, width]`."""
    inputs = {name: shape for name, shape in graph.inputs.items() if name not in graph.constants}
    if len(inputs) != 1:
        raise WeightsError(f"expected a graph with one input, got {len(inputs)}")
    ((name, shape),) = inputs.items()
    if shape is not None and len(shape) != 4:
        raise WeightsError(f"expected an input [batch, channels, height, width], got {shape}")
    return name, shape

"""Reduces an ONNX graph to the few operations that a ResNet consists of.

Names are ignored, as each exporter invents its own. Nodes without an effect on the result
(Identity, Dropout, casts, the shape arithmetic before a Reshape) are left out, and so are
transpositions: each value knows its axes instead. Padding becomes part of the operation after it,
arithmetic with constants part of the operation before it. The first node of any other kind is
refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..._core import WeightsError
from . import onnx_head, onnx_shortcuts
from .onnx_affine import Affine, absorb, affine_of, norm_constants
from .onnx_attributes import check_attributes
from .onnx_constants import as_floats, is_float
from .onnx_order import in_order
from .onnx_proto import Array, Graph, Node
from .onnx_steps import MAX_SIZE, NotResNetError, Padding, integer, integers
from .onnx_values import Value, Values, axes_of
from .onnx_window import AUTOMATIC, Window, window

OLDEST_OPSET, NEWEST_OPSET = 7, 25
"""Versions of ONNX's operators for which every operator that is read was checked."""


class Flow(Values):
    """The operations of a graph, by the values between them.

    Attributes:
        outputs: the values that the graph returns.
        preparation: the arithmetic that the graph does with the image, and its last node; None if
            there is none.

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
        super().__init__(graph)
        self._opset = graph.opset
        self.preparation: tuple[Node, Affine] | None = None
        self._opset = graph.opset
        for node in in_order(graph.nodes, {*graph.inputs, *graph.constants}):
            self._take(node)
        self.outputs = [self.source_of(name) for name in graph.outputs]

    # -- Nodes ---------------------------------------------------------------------------------

    def _take(self, node: Node) -> None:
        if self.constants.take(node):
            return
        if node.operator in _HANDLERS:
            if not node.inputs:
                raise WeightsError(f"{node}: expected a node with an input")
            check_attributes(node)
            _HANDLERS[node.operator](self, node)
        else:
            hint = _HINTS.get(node.operator, "")
            if "." in node.operator:
                hint = " (that one is a runtime's own: save the graph before it is optimized)"
            raise NotResNetError(node, f"an operation of a ResNet{hint}")

    def _drop(self, node: Node) -> None:
        """A node without effect: its output is its input."""
        self.rename(node)

    def _cast(self, node: Node) -> None:
        if node.attributes.get("to") not in (1, 10, 11, 16):
            raise NotResNetError(node, "a cast to float numbers")
        self.rename(node)

    def _transpose(self, node: Node) -> None:
        order = self.order_of(node)
        turned = integers(node, "perm", list(range(len(order)))[::-1])
        if sorted(turned) != list(range(len(order))):
            raise NotResNetError(node, f"an order of {len(order)} axes", str(turned))
        self.rename(node, tuple(order[axis] for axis in turned))

    def _pad(self, node: Node) -> None:
        pads = self.numbers(node, 1, "pads") or []
        value = self.value(node, node.inputs[0])
        axes = self.numbers(node, 3, "", list(range(len(value.order)))) or []
        mode = node.attributes.get("mode", "constant")
        if mode != "constant":
            raise NotResNetError(node, "padding with a constant", f"mode {mode}")
        if len(pads) != 2 * len(axes):
            raise NotResNetError(node, f"{2 * len(axes)} pads", str(pads))
        number = node.attributes.get("value", 0.0)
        if len(node.inputs) > 2 and node.inputs[2]:
            constant = self.constants.get(node.inputs[2])
            if constant is None or constant.size != 1 or not is_float(constant):
                raise NotResNetError(node, "a constant to pad with")
            number = float(as_floats(constant).reshape(()))
        before, after = [0] * 4, [0] * 4
        for index, axis in enumerate(axes_of(node, axes, value.order)):
            before[axis], after[axis] = pads[index], pads[index + len(axes)]
        if not all(0 <= side <= MAX_SIZE for side in pads) or before[0] or after[0]:
            raise NotResNetError(node, "padding of height and width, or of the channels", str(pads))
        if before[1] or after[1]:
            if any(before[2:] + after[2:]) or number != 0:
                raise NotResNetError(node, "channels of zeros alone", str(pads))
            onnx_shortcuts.pad_channels(self, node, value, before[1], after[1])
            return
        sides = (before[2], before[3]), (after[2], after[3])
        self.add_padding(node, Padding(value.source, *sides, float(number)), value.order)

    def _conv(self, node: Node) -> None:
        weight = self.weight(node, 1, 4)
        value, padding = self.padded(node)
        if padding is not None and padding.value != 0:
            raise NotResNetError(node, "padding with zeros", str(padding.value))
        size = self.sizes[value]
        found = window(node, padding, size, weight.shape[2:])
        if found.even_padding is None:
            raise NotResNetError(node, "the same padding on all sides", f"pads {list(found.pads)}")
        attributes = {
            "kernel": found.kernel,
            "stride": found.stride,
            "padding": found.even_padding,
            "dilation": found.dilation,
            "ceil_mode": False,
            "groups": integer(node, "group", 1),
        }
        bias = self.weight(node, 2, 1) if len(node.inputs) > 2 and node.inputs[2] else None
        self.add_step(
            "conv",
            node,
            [value],
            channels=weight.shape[0],
            size=found.size_of(size),
            constants=[weight, bias],
            attributes=attributes,
        )

    def _batch_norm(self, node: Node) -> None:
        if integer(node, "spatial", 1) != 1:
            raise NotResNetError(node, "one mean for each channel")
        # Before version 14 a node in training mode has further outputs.
        if integer(node, "training_mode", 0) or any(node.outputs[1:]):
            self.remark("the graph was exported in training mode: it is run in inference mode")
        constants = [self.weight(node, index, 1) for index in range(1, 5)]
        epsilon = node.attributes.get("epsilon", 1e-5)
        if not isinstance(epsilon, float) or not 0 <= epsilon < 1:
            raise NotResNetError(node, "an epsilon from 0 to 1", repr(epsilon))
        value = Value(self.channels_first(node), self.order_of(node))
        # The file has the epsilon rounded to float32: 9.999999747378752e-06 for 1e-5.
        rounded = float(f"{epsilon:.7g}")
        self.add_same_shape("batch_norm", node, [value], constants=constants, epsilon=rounded)

    def _relu(self, node: Node) -> None:
        self.add_same_shape("relu", node, [self.value(node, node.inputs[0])])

    # -- Arithmetic ----------------------------------------------------------------------------

    def _arithmetic(self, node: Node) -> None:
        """Add, Sub, Mul, Div or Sum: of a block's branches, or with constants."""
        constants = [self.constants.get(name) for name in node.inputs]
        if len(constants) != 2:
            raise NotResNetError(node, "an addition of two values", str(len(constants)))
        for index, constant in enumerate(constants):
            if constant is not None:
                self._with_constant(node, node.inputs[1 - index], constant, first=index == 0)
                return
        if node.operator not in ("Add", "Sum"):
            raise NotResNetError(node, "an operation of a ResNet")
        values = [self.value(node, name) for name in node.inputs]
        if values[0].order != values[1].order:
            raise NotResNetError(node, "an addition of two values with the same axes")
        self.add_same_shape("add", node, values)

    def _with_constant(self, node: Node, name: str, constant: Array, *, first: bool) -> None:
        value = self.value(node, name)
        source, order = value.source, value.order
        step, channels = self.producer(source), self.channels[source]
        if len(order) == 2:
            if step is None or step.kind != "linear" or self.consumers(source):
                raise NotResNetError(node, "a bias after a linear layer, or no arithmetic there")
            onnx_head.linear_bias(self, node, step, constant, first=first)
            return
        affine = affine_of(node, constant, order, channels, constant_first=first)
        foldable = source == self.input or (step is not None and step.kind in _FOLDABLE)
        if (
            not foldable
            and channels is not None
            and not (affine.factor.any() or affine.summand.any())
        ):
            self.zeros[node.outputs[0]] = channels
            return
        if foldable and self.consumers(source):
            raise NotResNetError(node, "arithmetic on a value that nothing else takes")
        if source == self.input:
            before = self.preparation
            self.preparation = node, affine if before is None else affine.after(before[1])
            self.extend_image(node, order)
        elif step is not None and step.kind == "conv":
            plain = (affine.factor == 1).all() and step.constants[1] is None
            if plain:
                step.constants[1] = affine.summand
                self.extend_step(step, node, order)
            else:
                constants = norm_constants(affine)
                self.add_same_shape("batch_norm", node, [value], constants=constants, epsilon=0.0)
        elif step is not None and step.kind == "batch_norm":
            absorb(step, affine)
            self.extend_step(step, node, order)
        else:
            raise NotResNetError(
                node,
                "arithmetic with constants on the image (its preprocessing), or after a "
                "convolution or a batch norm",
            )

    # -- Pools and the head --------------------------------------------------------------------

    def _max_pool(self, node: Node) -> None:
        if any(node.outputs[1:]):
            raise NotResNetError(node, "maxima without their places")
        value, padding = self.padded(node)
        producer = self.producer(value)
        # After a ReLU nothing is below 0, so zeros are as good as the lowest number.
        harmless = producer is not None and producer.kind == "relu"
        if padding is not None and not (padding.value < -1e30 or (padding.value == 0 and harmless)):
            raise NotResNetError(node, "padding that a maximum does not see", str(padding.value))
        self._pool("max_pool", node, value, padding)

    def _avg_pool(self, node: Node) -> None:
        value, padding = self.padded(node)
        if padding is not None and any(padding.before + padding.after):
            raise NotResNetError(node, "an average without a Pad before it")
        counted = bool(integer(node, "count_include_pad", 0))
        self._pool("avg_pool", node, value, None, count_include_pad=counted)

    def _pool(
        self, kind: str, node: Node, value: str, padding: Padding | None, **fields: bool
    ) -> None:
        size = self.sizes[value]
        found = window(node, padding, size)
        if found.dilation != 1:
            raise NotResNetError(node, "a pool without dilation", str(found.dilation))
        if found.kernel == 1 and found.even_padding == 0:
            onnx_shortcuts.take_every(
                self, node, self.value(node, node.inputs[0]), [found.stride] * 2
            )
            return
        attributes = _pool_attributes(node, found, counted=fields.get("count_include_pad", False))
        if size is not None and found.stride > 1 and node.attributes.get("auto_pad") in AUTOMATIC:
            self.remark(
                f"{node}: auto_pad pads as a map of {size[0]} x {size[1]} needs: that is done for "
                "images of any size"
            )
        self.add_step(
            kind,
            node,
            [value],
            channels=self.channels[value],
            size=found.size_of(size),
            attributes={**attributes, **fields},
        )

    def _softmax(self, node: Node) -> None:
        axis = integer(node, "axis", 1 if self._opset < 13 else -1)
        if axis not in (1, -1):
            raise NotResNetError(node, "the axis of the classes", f"axis {axis}")
        if node.operator == "LogSoftmax":
            self.remark("the graph ends in LogSoftmax: scores are the probabilities themselves")
        self.add_same_shape("softmax", node, [self.value(node, node.inputs[0])])

    def _sigmoid(self, node: Node) -> None:
        self.add_same_shape("sigmoid", node, [self.value(node, node.inputs[0])])


def _pool_attributes(node: Node, found: Window, *, counted: bool) -> dict[str, Any]:
    """Give a pool's window with the same padding on all sides."""
    padding, ceil_mode = found.even_padding, found.ceil_mode
    if padding is None:
        # A last window that reaches one row beyond the map sees the same pixels without that row.
        if found.pads == (0, 0, 1, 1) and found.stride == 2 and not counted:
            padding, ceil_mode = 0, True
        else:
            raise NotResNetError(node, "the same padding on all sides", f"pads {list(found.pads)}")
    return {
        "kernel": found.kernel,
        "stride": found.stride,
        "padding": padding,
        "ceil_mode": ceil_mode,
    }


_FOLDABLE = ("batch_norm", "conv")
"""The steps that arithmetic with constants becomes part of."""

_HANDLERS: dict[str, Callable[[Flow, Node], None]] = {
    "Add": Flow._arithmetic,
    "AveragePool": Flow._avg_pool,
    "BatchNormalization": Flow._batch_norm,
    "Cast": Flow._cast,
    "Concat": onnx_shortcuts.concatenate,
    "Conv": Flow._conv,
    "Div": Flow._arithmetic,
    "Dropout": Flow._drop,
    "Flatten": onnx_head.flatten,
    "Gemm": onnx_head.linear,
    "GlobalAveragePool": onnx_head.global_pool,
    "GlobalMaxPool": onnx_head.global_pool,
    "Identity": Flow._drop,
    "LogSoftmax": Flow._softmax,
    "MatMul": onnx_head.linear,
    "MaxPool": Flow._max_pool,
    "Mul": Flow._arithmetic,
    "Pad": Flow._pad,
    "ReduceMax": onnx_head.global_pool,
    "ReduceMean": onnx_head.global_pool,
    "Relu": Flow._relu,
    "Reshape": onnx_head.flatten,
    "Sigmoid": Flow._sigmoid,
    "Slice": onnx_shortcuts.subsample,
    "Softmax": Flow._softmax,
    "Squeeze": onnx_head.flatten,
    "Sub": Flow._arithmetic,
    "Sum": Flow._arithmetic,
    "Transpose": Flow._transpose,
}

_HINTS = {
    "DequantizeLinear": " in float numbers, and this one is quantized",
    "QuantizeLinear": " in float numbers, and this one is quantized",
    "QLinearConv": " in float numbers, and this one is quantized",
}

"""Single nodes of ONNX graphs: forms that compute the same, and malformed ones, which are named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx_cases import Builder, images, logits_of, variant
from onnx_runtime import assert_equals_runtime, refuse, saved
from torch.nn import functional

from resnet_rs.weights.formats.onnx_file import read_onnx
from resnet_rs.weights.formats.onnx_window import Window

SMALL: dict[str, Any] = {"block": "basic", "blocks": [1, 1], "widths": [4, 8], "stem_widths": [4]}


def built(**fields: Any) -> Any:
    """Two basic blocks, whose nodes have no names: messages name their outputs, `v0` and so on.

    v0 to v3 are the stem (Conv, BatchNormalization, Relu, MaxPool), v4 to v10 the first block
    (v10 its last Relu) and v11 to v19 the second; then v20 GlobalAveragePool, v21 Flatten, v22
    Gemm. The maps are 32, 16 and 8 pixels wide.
    """
    builder = Builder(variant(**SMALL, **fields), opset=13)
    value = builder.node("GlobalAveragePool", [builder.body("image")])
    return builder.model(builder.classes(builder.node("Flatten", [value])))


class Edit:
    """A copy of a graph, with the changes that the tests make."""

    def __init__(self, model: Any) -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        self.graph = self.model.graph

    def node(self, output: str) -> Any:
        """The node that gives a value."""
        return next(node for node in self.graph.node if node.output[:1] == [output])

    def turn_into(self, output: str, operator: str, **attributes: Any) -> Any:
        """Give a node another operator and its attributes."""
        node = self.node(output)
        node.op_type = operator
        del node.attribute[:]
        node.attribute.extend(helper.make_attribute(*each) for each in attributes.items())
        return node

    def constant(self, values: Any, dtype: Any = np.int64) -> str:
        """Add an initializer; returns its name."""
        name = f"constant{len(self.graph.initializer)}"
        self.graph.initializer.append(numpy_helper.from_array(np.array(values, dtype), name))
        return name

    def replace(self, name: str, values: Any, dtype: Any = np.float32) -> None:
        """Give an initializer other numbers."""
        (tensor,) = [each for each in self.graph.initializer if each.name == name]
        tensor.CopyFrom(numpy_helper.from_array(np.array(values, dtype), name))

    def after(self, output: str, operator: str, *more: str, **attributes: Any) -> Any:
        """Put a node between one and those that take its result."""
        node = self.node(output)
        node.output[0] = f"{output}_before_{len(self.graph.node)}"
        new = helper.make_node(operator, [node.output[0], *more], [output], **attributes)
        self.graph.node.insert(list(self.graph.node).index(node) + 1, new)
        return new

    def pad(self, output: str, pads: list[int], *value: str) -> Any:
        return self.after(output, "Pad", self.constant(pads), *value)


@pytest.fixture(scope="module")
def small() -> Any:
    return built()


Change = Callable[[Edit], object]

SIDES = [0, 0, 1, 1, 0, 0, 1, 1]


def drop_inputs(graph: Edit) -> None:
    del graph.node("v2").input[:]


def drop_output(graph: Edit) -> None:
    del graph.node("v22").output[:]


def floats_as_axis(graph: Edit) -> None:
    graph.turn_into("v21", "Flatten", axis=[0.5])


def branch_with_its_channels_last(graph: Edit) -> None:
    graph.after("v8", "Transpose", perm=[0, 2, 3, 1])


def pad_before_the_relu(graph: Edit) -> None:
    """A maximum over what may be negative, with zeros around."""
    graph.turn_into("v2", "MaxPool", kernel_shape=[3, 3], strides=[2, 2])
    graph.turn_into("v3", "Relu")
    graph.pad("v1", SIDES)


def padded_average(graph: Edit) -> None:
    graph.turn_into("v20", "AveragePool", kernel_shape=[10, 10])
    graph.pad("v19", SIDES)


def padding_of_a_maximum(value: float) -> Change:
    return lambda graph: graph.pad("v2", SIDES, graph.constant(value, np.float32))


def padding_of_a_convolution(value: Any, dtype: Any) -> Change:
    return lambda graph: graph.pad("v6", SIDES, graph.constant(value, dtype))


def sliced(*numbers: list[int]) -> Change:
    return lambda graph: graph.after("v3", "Slice", *(graph.constant(each) for each in numbers))


def joined(zeros: Any, axis: int = 1, dtype: Any = np.float32) -> Change:
    return lambda graph: graph.after("v3", "Concat", graph.constant(zeros, dtype), axis=axis)


def reshaped(target: Any, dtype: Any = np.int64) -> Change:
    def change(graph: Edit) -> None:
        graph.turn_into("v21", "Reshape").input.append(graph.constant(target, dtype))

    return change


def average_head(**attributes: Any) -> Change:
    window = {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [1, 1, 1, 1], **attributes}
    return lambda graph: graph.turn_into("v20", "AveragePool", **window)


def ends_with_an_addition(graph: Edit) -> None:
    del graph.graph.node[19:]
    graph.graph.output[0].name = "v18"


def convolution(output: str, channels: int) -> Change:
    weight = np.ones((channels, channels, 1, 1))
    return lambda graph: graph.after(output, "Conv", graph.constant(weight, np.float32))


def convolutions(*outputs: str) -> Change:
    def change(graph: Edit) -> None:
        for output in outputs:
            convolution(output, 4)(graph)

    return change


def norm_and_factor(graph: Edit) -> None:
    """A batch norm of 5 channels after a convolution of 4, and a factor for these 4."""
    graph.replace("bn1.weight", np.ones(5))
    graph.after("v1", "Mul", graph.constant(np.ones((4, 1, 1)), np.float32))


def one_divided(graph: Edit) -> None:
    node = graph.after("v0", "Div")
    node.input.insert(0, graph.constant(1, np.float32))
    graph.node("v0").CopyFrom(node)


MALFORMED: dict[str, tuple[Change, str]] = {
    # Any node.
    "without inputs": (drop_inputs, "node v2 (Relu): expected a node with an input"),
    "without outputs": (drop_output, "node without a name (Gemm): expected a node with an output"),
    "output without a name": (
        lambda graph: graph.node("v22").output.__setitem__(0, ""),
        "(Gemm): expected a node with an output",
    ),
    "attribute of another kind": (
        floats_as_axis,
        "node v21 (Flatten): expected a number, text or list of integers as axis",
    ),
    "text": (
        lambda graph: graph.turn_into("v21", "Flatten", axis="x"),
        "node v21 (Flatten): expected an integer as axis, got 'x'",
    ),
    "no list": (
        lambda graph: graph.turn_into("v3", "MaxPool", kernel_shape=[3, 3], strides=2),
        "node v3 (MaxPool): expected integers as strides, got 2",
    ),
    "numbers that are no integers": (
        reshaped([1.0, -1.0], np.float32),
        "node v21 (Reshape): expected a short list of integers, got 2 numbers",
    ),
    "many numbers": (
        reshaped([1] * 4097),
        "node v21 (Reshape): expected a short list of integers, got 4097 numbers",
    ),
    "numbers that are not known": (
        lambda graph: graph.turn_into("v21", "Reshape").input.append("absent"),
        "node v21 (Reshape): expected constants as input 1, got 'absent'",
    ),
    "weight that is not known": (
        lambda graph: graph.node("v0").input.__setitem__(1, "absent"),
        "node v0 (Conv): expected constants as input 1, got 'absent'",
    ),
    "weight of three dimensions": (
        lambda graph: graph.replace("conv1.weight", np.ones((4, 3, 7))),
        "node v0 (Conv): expected 4 dimensions for input 1, got [4, 3, 7]",
    ),
    "weight without numbers": (
        lambda graph: graph.replace("conv1.weight", np.ones((4, 0, 7, 7))),
        "node v0 (Conv): expected 4 dimensions for input 1, got [4, 0, 7, 7]",
    ),
    # Axes and padding.
    "integers": (
        lambda graph: graph.after("v3", "Cast", to=TensorProto.INT64),
        "node v3 (Cast): expected a cast to float numbers",
    ),
    "three axes": (
        lambda graph: graph.after("v3", "Transpose", perm=[0, 1, 2]),
        "node v3 (Transpose): expected an order of 4 axes, got [0, 1, 2]",
    ),
    "the same axis twice": (
        lambda graph: graph.after("v3", "Transpose", perm=[0, 1, 3, 3]),
        "node v3 (Transpose): expected an order of 4 axes, got [0, 1, 3, 3]",
    ),
    "padding with an integer": (
        padding_of_a_convolution(0, np.int64),
        "node v6 (Pad): expected a constant to pad with",
    ),
    "padding with two numbers": (
        padding_of_a_convolution([0, 0], np.float32),
        "node v6 (Pad): expected a constant to pad with",
    ),
    "padding with what is not known": (
        lambda graph: graph.pad("v6", SIDES, "v0"),
        "node v6 (Pad): expected a constant to pad with",
    ),
    "padding of a convolution": (
        padding_of_a_convolution(1, np.float32),
        "node v7 (Conv): expected padding with zeros, got 1.0",
    ),
    "padding of a maximum above": (
        padding_of_a_maximum(1),
        "node v3 (MaxPool): expected padding that a maximum does not see, got 1.0",
    ),
    "padding of a maximum below": (
        padding_of_a_maximum(-1),
        "node v3 (MaxPool): expected padding that a maximum does not see, got -1.0",
    ),
    "padding of a maximum of any numbers": (
        pad_before_the_relu,
        "node v2 (MaxPool): expected padding that a maximum does not see, got 0.0",
    ),
    "padding of an average": (
        padded_average,
        "node v20 (AveragePool): expected an average without a Pad before it",
    ),
    "pool with its channels last": (
        lambda graph: graph.after("v19", "Transpose", perm=[0, 2, 3, 1]),
        "node v20 (GlobalAveragePool): expected an input with the axes N, C, H, W, got N, H, W, C",
    ),
    # Arithmetic.
    "sum of three": (
        lambda graph: graph.turn_into("v9", "Sum").input.append("v3"),
        "node v9 (Sum): expected an addition of two values, got 3",
    ),
    "sum of other axes": (
        branch_with_its_channels_last,
        "node v9 (Add): expected an addition of two values with the same axes",
    ),
    "division by a map": (one_divided, "node v0 (Div): expected a division by a constant"),
    "norm of other channels": (
        norm_and_factor,
        "node v1_before_23 (BatchNormalization): expected 4 numbers, got (5,)",
    ),
    # Shortcuts.
    "starts without ends": (
        sliced([0, 0], [8]),
        "node v3 (Slice): expected as many starts, ends and steps as axes",
    ),
    "steps without starts": (
        sliced([0, 0], [16, 16], [2, 3], [2]),
        "node v3 (Slice): expected as many starts, ends and steps as axes",
    ),
    "zeros below": (
        joined(np.zeros((1, 4, 16, 16)), 2),
        "node v3 (Concat): expected zeros beside the channels",
    ),
    "zeros of three dimensions": (
        joined(np.zeros((4, 16, 16))),
        "node v3 (Concat): expected zeros of four dimensions, got [4, 16, 16]",
    ),
    "zeros that are integers": (
        joined(np.zeros((1, 4, 1, 1)), 1, np.int64),
        "node v3 (Concat): expected zeros of four dimensions, got [1, 4, 1, 1]",
    ),
    "ones beside the channels": (
        joined(np.arange(4).reshape(1, 4, 1, 1)),
        "node v3 (Concat): expected zeros beside the channels, got other constants",
    ),
    # The network.
    "block of three convolutions after one of two": (
        convolution("v13", 8),
        "node v11 (Conv): expected a block like those before it",
    ),
    "stem of two convolutions": (
        convolution("v2", 4),
        "node v0 (Conv): expected a stem of one or three convolutions, got 2",
    ),
    "stem of four convolutions": (
        convolutions("v2", "v2", "v2"),
        "node v0 (Conv): expected a stem of one or three convolutions, got 4",
    ),
    # Its end.
    "map as rows": (
        lambda graph: graph.turn_into("v21", "Identity"),
        "node v22 (Gemm): expected one row for each image, got 4 axes",
    ),
    "reshape between the sides": (
        reshaped([-1, 1, 8, 1]),
        "node v21 (Reshape): expected one row for each image, got [-1, 1, 8, 1]",
    ),
    "average that leaves its padding out": (
        average_head(),
        "node v20 (AveragePool): expected an average that counts its padding and rounds down",
    ),
    "average that rounds up": (
        average_head(count_include_pad=1, ceil_mode=1),
        "node v20 (AveragePool): expected an average that counts its padding and rounds down",
    ),
    "end without a ReLU": (
        ends_with_an_addition,
        "the graph ends after node v18 (Add): expected a ReLU there",
    ),
    "another output": (
        lambda graph: setattr(graph.graph.output[0], "name", "v2"),
        "expected the last operation's result as the graph's output",
    ),
    # Arrays.
    "statistics of other channels": (
        lambda graph: graph.replace("bn1.running_mean", np.ones(5)),
        "node v1 (BatchNormalization): expected a running_mean of 4 numbers, got [5]",
    ),
    "factors of other channels": (
        lambda graph: graph.replace("bn1.weight", np.ones(1)),
        "node v1 (BatchNormalization): expected a weight of 4 numbers, got [1]",
    ),
    "bias of other classes": (
        lambda graph: graph.replace("fc.bias", np.ones(6)),
        "node v22 (Gemm): expected a bias of 5 numbers, got [6]",
    ),
    "bias of other channels": (
        lambda graph: graph.node("v0").input.append(graph.constant(np.ones(5), np.float32)),
        "node v0 (Conv): expected a bias of 4 numbers, got [5]",
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed(name: str, small: Any, tmp_path: Path) -> None:
    change, message = MALFORMED[name]
    graph = Edit(small)
    change(graph)
    refuse(saved(graph.model, tmp_path), message)


WHOLE = (1 << 63) - 1


def padded_maximum(value: float) -> Change:
    def change(graph: Edit) -> None:
        graph.turn_into("v3", "MaxPool", kernel_shape=[3, 3], strides=[2, 2])
        padding_of_a_maximum(value)(graph)

    return change


def square_after_the_pool(graph: Edit) -> None:
    """Through N, C, 1, 1 and N, 1, 1, C: no number moves."""
    graph.after("v20", "Reshape", graph.constant([-1, 1, 1, 8]))
    graph.after("v20", "Reshape", graph.constant([-1, 8, 1, 1]))
    graph.turn_into("v21", "Squeeze").input.append(graph.constant([2, 3]))


def last_after_the_pool(graph: Edit) -> None:
    graph.after("v20", "Reshape", graph.constant([-1, 1, 1, 8]))
    graph.turn_into("v21", "Squeeze").input.append(graph.constant([1, 2]))


def without_bias(graph: Edit) -> None:
    del graph.node("v22").input[2]
    (bias,) = [each for each in graph.graph.initializer if each.name == "fc.bias"]
    graph.graph.initializer.remove(bias)


def flattened_by_sizes(graph: Edit) -> None:
    """The number of images is taken from a result that becomes part of the step before it."""
    graph.after("v0", "Add", graph.constant(np.ones((4, 1, 1)), np.float32))
    nodes = [
        helper.make_node("Shape", [graph.node("v0").input[0]], ["shape"]),
        helper.make_node("Cast", ["shape"], ["sizes"], to=TensorProto.INT64),
        helper.make_node("Gather", ["sizes", graph.constant([0])], ["count"]),
        helper.make_node("Concat", ["count", graph.constant([-1])], ["rows"], axis=0),
    ]
    for node in reversed(nodes):
        graph.graph.node.insert(2, node)
    graph.turn_into("v21", "Reshape").input.append("rows")


def without_a_shape(graph: Edit) -> None:
    graph.graph.input[0].type.tensor_type.ClearField("shape")


SAME: dict[str, Change] = {
    "padding below all numbers": padded_maximum(-3.4e38),
    "padding with zeros after a ReLU": padded_maximum(0),
    "slice of everything": sliced([0, 0], [WHOLE, 16], [2, 3], [1, 1]),
    "slice of all axes": sliced([0] * 4, [WHOLE] * 4),
    "two transpositions": lambda graph: [graph.after("v3", "Transpose") for _ in range(2)],
    "square after the pool": square_after_the_pool,
    "channels last after the pool": last_after_the_pool,
    "no bias": without_bias,
    "rows by sizes": flattened_by_sizes,
    "image of any shape": without_a_shape,
    "casts": lambda graph: graph.after("v3", "Cast", to=TensorProto.FLOAT),
}


@pytest.mark.parametrize("name", SAME)
def test_forms_that_are_read(name: str, small: Any, tmp_path: Path) -> None:
    graph = Edit(small)
    SAME[name](graph)
    assert_equals_runtime(saved(graph.model, tmp_path))


@pytest.mark.parametrize(("last", "read"), [([64, 64, 1], True), ([32, 128, 1], False)])
def test_one_channel_that_becomes_the_last(last: list[int], read: bool, tmp_path: Path) -> None:
    graph = Edit(built(in_channels=1))
    nodes = [
        helper.make_node("Reshape", ["image", graph.constant([-1, *last])], ["last"]),
        helper.make_node("Transpose", ["last"], ["first"], perm=[0, 3, 1, 2]),
    ]
    graph.node("v0").input[0] = "first"
    for node in reversed(nodes):
        graph.graph.node.insert(0, node)
    path = saved(graph.model, tmp_path)
    if read:
        stated = {"preprocessing": {"mean": [0.0], "std": [1.0]}}
        assert_equals_runtime(path, images((2, 64, 64, 1)), **stated)
    else:
        refuse(path, "node last (Reshape): expected one row for each image, got [-1, 32, 128, 1]")


@pytest.mark.parametrize(
    ("pads", "expected"),
    [
        ([0, 0, 0, 0, 0, 0, 1, 1], [1, 1, 2, 2]),
        ([0, 0, 1, 0, 0, 0, 0, 0], [2, 0, 1, 1]),
        ([0, 0, 0, 2, 0, 0, 0, 1], [0, 3, 1, 2]),
    ],
)
def test_automatic_padding_after_a_pad(
    pads: list[int], expected: list[int], small: Any, tmp_path: Path
) -> None:
    """The map that is padded automatically is larger by the Pad node's rows and columns."""
    graph = Edit(small)
    graph.turn_into("v3", "MaxPool", kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER")
    graph.pad("v2", pads)
    refuse(
        saved(graph.model, tmp_path),
        f"node v3 (MaxPool): expected the same padding on all sides, got pads {expected}",
    )


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize(("kernel", "padding"), [(3, 0), (3, 1), (2, 1), (2, 0), (1, 0)])
def test_sizes_of_pools(kernel: int, padding: int, ceil_mode: bool) -> None:
    """torch's. A window that would begin in the padding below or on the right is left out."""
    for stride in (1, 2, 3):
        found = Window(kernel, stride, (padding,) * 4, 1, ceil_mode)
        for side in range(max(1, kernel - 2 * padding), 9):
            pooled = functional.max_pool2d(
                torch.zeros(1, side, side + 1), kernel, stride, padding, ceil_mode=ceil_mode
            )
            assert found.size_of((side, side + 1)) == tuple(pooled.shape[1:])
    assert Window(3, 1, (0, 0, 0, 0), 1, ceil_mode).size_of((3, 2)) is None
    assert Window(2, 1, (0, 0, 0, 0), 3, ceil_mode).size_of((3, 4)) is None
    assert Window(2, 1, (0, 0, 1, 1), 3, ceil_mode).size_of((3, 4)) == (1, 2)


class TestGraphs:
    """Graphs of few nodes that are no network."""

    def write(self, folder: Path, *nodes: Any, dims: Any = (1, 4, 8, 8)) -> Path:
        weight = numpy_helper.from_array(np.ones((4, 4, 3, 3), np.float32), "weight")
        image = helper.make_tensor_value_info("image", TensorProto.FLOAT, dims)
        result = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)
        graph = helper.make_graph(nodes, "graph", [image], [result], [weight])
        opsets = [helper.make_opsetid("", 13)]
        return saved(helper.make_model(graph, opset_imports=opsets), folder)

    def test_block_without_a_stem(self, tmp_path: Path) -> None:
        attributes = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
        nodes = [
            helper.make_node("Conv", ["image", "weight"], ["a"], **attributes),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("Conv", ["b", "weight"], ["c"], **attributes),
            helper.make_node("Add", ["c", "image"], ["d"]),
        ]
        refuse(self.write(tmp_path, *nodes), "no stem before its residual blocks")

    def test_nothing_but_nodes_without_effect(self, tmp_path: Path) -> None:
        nodes = [helper.make_node("Identity", ["image"], ["same"])]
        refuse(self.write(tmp_path, *nodes), "no stem before its residual blocks")

    def test_image_of_three_dimensions(self, tmp_path: Path) -> None:
        path = self.write(tmp_path, helper.make_node("Relu", ["image"], ["a"]), dims=("N", 8, 4))
        message = "expected an input [batch, channels, height, width], got [None, 8, 4]"
        refuse(path, message)


def test_features_of_a_graph_without_classes_are_its_output(small: Any, tmp_path: Path) -> None:
    graph = Edit(small)
    del graph.graph.node[20:]
    graph.graph.output[0].name = "v19"
    path = saved(graph.model, tmp_path)
    assert read_onnx(path).config["num_classes"] == 0
    assert logits_of(path, images()).shape == (2, 8)

"""Forms of an ONNX graph's nodes that compute the same: onnxruntime's results."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx_cases import images, logits_of
from onnx_runtime import Edit, assert_equals_runtime, built, refuse, saved
from torch.nn import functional

from resnet_rs.weights.formats.onnx_file import read_onnx
from resnet_rs.weights.formats.onnx_window import Window


@pytest.fixture(scope="module")
def small() -> Any:
    return built()


Change = Callable[[Edit], object]

SIDES = [0, 0, 1, 1, 0, 0, 1, 1]


def sliced(*numbers: list[int]) -> Change:
    return lambda graph: graph.after("v3", "Slice", *(graph.constant(each) for each in numbers))


WHOLE = (1 << 63) - 1


def padded_maximum(value: float) -> Change:
    def change(graph: Edit) -> None:
        graph.turn_into("v3", "MaxPool", kernel_shape=[3, 3], strides=[2, 2])
        graph.pad("v2", SIDES, graph.constant(value, np.float32))

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
    graph.drop_inputs("v22", left=2)


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


class TestBareShortcuts:
    """Shortcuts of a Slice and a Pad node in the second block."""

    def graph(self, model: Any, pads: list[int], *slices: tuple[list[int], list[int]]) -> Edit:
        """v16 becomes the last slice, of axes and steps, and v17 the Pad node of channels."""
        graph = Edit(model)
        graph.turn_into("v17", "Pad")
        graph.drop_inputs("v17").input.append(graph.constant(pads))
        graph.turn_into("v16", "Identity")
        graph.drop_inputs("v16")
        for axes, steps in slices:
            whole = [[0] * len(axes), [WHOLE] * len(axes), axes, steps]
            graph.after("v16", "Slice", *(graph.constant(each) for each in whole))
        return graph

    @pytest.mark.parametrize("slices", [[([2, 3], [2, 2])], [([3], [2]), ([-2], [2])]])
    def test_slices(self, slices: Any, small: Any, tmp_path: Path) -> None:
        graph = self.graph(small, [0, 2, 0, 0, 0, 2, 0, 0], *slices)
        path = saved(graph.model, tmp_path)
        assert_equals_runtime(path)
        shortcut = {"pad": {"reduce": "slice", "zeros": "around"}}
        assert read_onnx(path).config["variant"]["shortcut"] == shortcut

    def test_too_few_zeros(self, small: Any, tmp_path: Path) -> None:
        graph = self.graph(small, [0, 1, 0, 0, 0, 1, 0, 0], ([2, 3], [2, 2]))
        refuse(
            saved(graph.model, tmp_path),
            "node v17 (Pad): expected a shortcut with "
            "{'pixels': 'slice', 'zeros': {'before': 2, 'after': 2}}, "
            "got {'pixels': 'slice', 'zeros': {'before': 1, 'after': 1}}",
        )

    def test_all_pixels(self, small: Any, tmp_path: Path) -> None:
        graph = self.graph(small, [0, 2, 0, 0, 0, 2, 0, 0])
        refuse(saved(graph.model, tmp_path), "node v17 (Pad): expected a shortcut with", "None")

    def test_rows_alone(self, small: Any, tmp_path: Path) -> None:
        graph = self.graph(small, [0, 2, 0, 0, 0, 2, 0, 0], ([2], [2]))
        message = "expected every second pixel or a 2x2 average in a shortcut, got {'rows': 2, "
        refuse(saved(graph.model, tmp_path), message + "'columns': 1}")

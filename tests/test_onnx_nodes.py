"""Malformed nodes of ONNX graphs, and those of no ResNet: each is named, with what was expected."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto
from onnx_runtime import Edit, built, refuse, saved


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
    "softmax over the images": (
        lambda graph: graph.after("v22", "Softmax", axis=0),
        "node v22 (Softmax): expected the axis of the classes, got axis 0",
    ),
    # Arrays.
    "kernel of another size": (
        lambda graph: graph.turn_into("v0", "Conv", kernel_shape=[5, 5]),
        "node v0 (Conv): expected a kernel of [7, 7], got [5, 5]",
    ),
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

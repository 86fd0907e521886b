"""ONNX windows: automatic padding, Pad nodes, and attributes that change a result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx_cases import export, images, logits_of, variant
from onnx_runtime import TensorFlowBuilder, assert_equals_runtime, refuse, saved


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network of bottlenecks, its batch norms in nodes of their own."""
    return export(variant(), tmp_path_factory.mktemp("onnx") / "x.onnx", "script-unfolded")


def changed(sound: Path, operator: str, index: int, **attributes: Any) -> Any:
    """The graph with other attributes of one node; None takes one away."""
    graph = onnx.load(sound)
    node = [node for node in graph.graph.node if node.op_type == operator][index]
    for attribute in list(node.attribute):
        if attribute.name in attributes:
            node.attribute.remove(attribute)
    for name, value in attributes.items():
        if value is not None:
            node.attribute.append(helper.make_attribute(name, value))
    return graph


class TestWindows:
    """Padding and the other attributes of convolutions and pools."""

    # In an unfolded bottleneck: conv 0 is the stem, 1 to 4 the first block with its shortcut.
    @pytest.mark.parametrize("automatic", ["SAME_UPPER", "SAME_LOWER"])
    def test_automatic_padding_with_stride_1(
        self, automatic: str, sound: Path, tmp_path: Path
    ) -> None:
        graph = changed(sound, "Conv", 2, auto_pad=automatic, pads=None)
        assert_equals_runtime(saved(graph, tmp_path))

    @pytest.mark.parametrize("automatic", ["SAME_UPPER", "SAME_LOWER", "VALID"])
    def test_automatic_padding_of_a_window_of_one_pixel(
        self, automatic: str, sound: Path, tmp_path: Path
    ) -> None:
        graph = changed(sound, "Conv", 8, auto_pad=automatic, pads=None)
        strides = [a.ints for a in graph.graph.node[0].attribute if a.name == "strides"]
        assert strides
        assert_equals_runtime(saved(graph, tmp_path))

    def test_automatic_padding_that_is_uneven(self, sound: Path, tmp_path: Path) -> None:
        """A 3x3 with stride 2 on a map of even sides needs a row below and none above."""
        graph = changed(sound, "Conv", 6, auto_pad="SAME_UPPER", pads=None)
        refuse(saved(graph, tmp_path), "(Conv)", "same padding on all sides", "[0, 0, 1, 1]")

    def test_automatic_padding_without_a_size(self, sound: Path, tmp_path: Path) -> None:
        graph = changed(sound, "Conv", 6, auto_pad="SAME_UPPER", pads=None)
        for index in (2, 3):
            graph.graph.input[0].type.tensor_type.shape.dim[index].dim_param = "side"
        refuse(saved(graph, tmp_path), "(Conv)", "SAME_UPPER", "images of one size")

    def test_automatic_padding_of_nothing(self, sound: Path, tmp_path: Path) -> None:
        """VALID pads nothing, whatever `pads` says."""
        graph = changed(sound, "Conv", 2, auto_pad="VALID")
        refuse(saved(graph, tmp_path), "(Conv)", "padding 1", "padding 0")

    @pytest.mark.parametrize("mode", ["reflect", "edge", "wrap"])
    def test_padding_that_is_not_constant(self, mode: str, tmp_path: Path) -> None:
        builder = TensorFlowBuilder(variant(), opset=13)
        graph = builder.whole()
        (pad,) = [node for node in graph.graph.node if node.op_type == "Pad"]
        pad.attribute.append(helper.make_attribute("mode", mode))
        refuse(saved(graph, tmp_path), "(Pad)", f"mode {mode}")

    @pytest.mark.parametrize(
        "pads", [[1, 0, 0, 0] * 2, [0, 0, -1, 0] * 2, [0, 1, 1, 1] * 2, [0, 0, 1, 1], [1] * 10]
    )
    def test_padding_of_other_axes(self, pads: list[int], tmp_path: Path) -> None:
        graph = TensorFlowBuilder(variant(), opset=13).whole()
        for tensor in graph.graph.initializer:
            if tensor.name == "pads":
                tensor.CopyFrom(numpy_helper.from_array(np.array(pads), "pads"))
        refuse(saved(graph, tmp_path), "(Pad)")

    def test_padding_before_another_operation(self, tmp_path: Path) -> None:
        graph = TensorFlowBuilder(variant(), opset=13).whole()
        pool = next(node for node in graph.graph.node if node.op_type == "MaxPool")
        pool.op_type = "Relu"
        del pool.attribute[:]
        refuse(saved(graph, tmp_path), "(Relu)", "a convolution or a pool after padding")

    @pytest.mark.parametrize(
        ("operator", "name", "value"),
        [
            ("MaxPool", "dilations", [2, 2]),
            ("MaxPool", "kernel_shape", [3, 2]),
            ("MaxPool", "strides", [2, 1]),
            ("MaxPool", "kernel_shape", [3]),
            ("Conv", "pads", [1, 1]),
            ("Conv", "strides", [0, 0]),
            ("Conv", "surprise", 1),
            ("Relu", "alpha", 0.1),
            ("BatchNormalization", "spatial", 0),
            ("BatchNormalization", "epsilon", 2.0),
            ("Add", "axis", 1),
            ("Flatten", "axis", 0),
            ("Gemm", "beta", 0.5),
            ("GlobalAveragePool", "axes", [2]),
        ],
    )
    def test_attributes_that_change_the_result(
        self, operator: str, name: str, value: Any, sound: Path, tmp_path: Path
    ) -> None:
        graph = changed(sound, operator, 0, **{name: value})
        refuse(saved(graph, tmp_path), "node ", f"({operator})")

    @pytest.mark.parametrize(
        ("operator", "name", "value"),
        [("MaxPool", "storage_order", 1), ("BatchNormalization", "momentum", 0.5)],
    )
    def test_attributes_without_effect(
        self, operator: str, name: str, value: Any, sound: Path, tmp_path: Path
    ) -> None:
        x = images()
        path = saved(changed(sound, operator, 0, **{name: value}), tmp_path)
        np.testing.assert_array_equal(logits_of(path, x), logits_of(sound, x))

    def test_places_of_maxima(self, sound: Path, tmp_path: Path) -> None:
        graph = onnx.load(sound)
        pool = next(node for node in graph.graph.node if node.op_type == "MaxPool")
        pool.output.append("places")
        refuse(saved(graph, tmp_path), "(MaxPool)", "places")

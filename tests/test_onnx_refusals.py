"""ONNX files that are refused: the first node that does not fit a ResNet, or the data, is named."""

from __future__ import annotations

import re
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import timm
import torch
import torchvision
from onnx import TensorProto, helper, numpy_helper
from onnx_cases import CLASSES, assert_same, export, variant

from resnet_rs import WeightsError
from resnet_rs.weights import formats
from resnet_rs.weights.formats import onnx_wire
from resnet_rs.weights.formats.onnx_file import read_onnx


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network of bottlenecks, its batch norms folded."""
    return export(variant(), tmp_path_factory.mktemp("onnx") / "x.onnx")


class TestExternalData:
    """Tensors in a file beside the model."""

    def saved(self, folder: Path, location: str = "x.data") -> tuple[torch.nn.Module, Path]:
        model = variant(num_classes=CLASSES)
        graph = onnx.load(export(model, folder / "whole.onnx"))
        path = folder / "x.onnx"
        onnx.save(graph, path, save_as_external_data=True, location=location, size_threshold=0)
        return model, path

    def test_file_beside_the_model(self, tmp_path: Path) -> None:
        model, path = self.saved(tmp_path)
        assert_same(path, model)

    def refuse(self, path: Path, message: str) -> None:
        with pytest.raises(WeightsError) as caught:
            read_onnx(path)
        assert message in str(caught.value)
        assert str(path) in str(caught.value)

    def test_missing_or_short(self, tmp_path: Path) -> None:
        _, path = self.saved(tmp_path)
        content = (tmp_path / "x.data").read_bytes()
        (tmp_path / "x.data").write_bytes(content[:-5])
        self.refuse(path, "are not there")
        (tmp_path / "x.data").unlink()
        self.refuse(path, "put the file beside the model")

    @pytest.mark.parametrize("location", ["../x.data", "/etc/passwd", "a/../../x.data", ""])
    def test_files_elsewhere_are_not_opened(self, location: str, tmp_path: Path) -> None:
        _, path = self.saved(tmp_path)
        graph = onnx.load(path, load_external_data=False)
        for tensor in graph.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = location
        path.write_bytes(graph.SerializeToString())
        self.refuse(path, "beside the model")

    @pytest.mark.parametrize(
        ("key", "value"), [("offset", "-1"), ("length", "9" * 30), ("offset", "x")]
    )
    def test_ranges_that_lie(self, key: str, value: str, tmp_path: Path) -> None:
        _, path = self.saved(tmp_path)
        graph = onnx.load(path, load_external_data=False)
        for entry in graph.graph.initializer[0].external_data:
            if entry.key == key:
                entry.value = value
        path.write_bytes(graph.SerializeToString())
        self.refuse(path, f"tensor {graph.graph.initializer[0].name}")


def set_attribute(node: Any, name: str, value: Any) -> None:
    for attribute in list(node.attribute):
        if attribute.name == name:
            node.attribute.remove(attribute)
    node.attribute.append(helper.make_attribute(name, value))


def nodes_of(graph: Any, operator: str) -> list[Any]:
    return [node for node in graph.graph.node if node.op_type == operator]


class TestRefusals:
    """Graphs that are no ResNet: the first node that does not fit is named."""

    def refuse(self, path: Path, *messages: str) -> None:
        with pytest.raises(WeightsError) as caught:
            read_onnx(path)
        for message in [str(path), *messages]:
            assert message in str(caught.value)

    # In a folded bottleneck: conv 0 is the stem, 1 to 4 the first block with its shortcut.
    CHANGES = (
        ("Relu", 0, "op_type", "LeakyRelu"),
        ("Relu", 5, "op_type", "Sigmoid"),
        ("Conv", 0, "strides", [3, 3]),
        ("Conv", 0, "pads", [3, 3, 2, 2]),
        ("Conv", 6, "strides", [4, 4]),
        ("Conv", 2, "dilations", [2, 2]),
        ("Conv", 2, "pads", [0, 0, 0, 0]),
        ("Conv", 2, "strides", [2, 2]),
        ("Conv", 3, "strides", [2, 2]),
        ("Conv", 6, "strides", [1, 1]),
        ("Conv", 5, "group", 2),
        ("Conv", 1, "auto_pad", "SAME_UPPER_"),
        ("MaxPool", 0, "kernel_shape", [2, 2]),
        ("MaxPool", 0, "ceil_mode", 1),
        ("Add", 1, "op_type", "Mul"),
        ("Add", 1, "op_type", "Concat"),
        ("GlobalAveragePool", 0, "op_type", "GlobalLpPool"),
        ("Flatten", 0, "axis", 2),
        ("Gemm", 0, "alpha", 0.5),
        ("Gemm", 0, "transA", 1),
    )

    @pytest.mark.parametrize(("operator", "index", "field", "value"), CHANGES)
    def test_node_that_does_not_fit(
        self, operator: str, index: int, field: str, value: Any, sound: Path, tmp_path: Path
    ) -> None:
        graph = onnx.load(sound)
        node = nodes_of(graph, operator)[index]
        if field == "op_type":
            node.op_type = value
        else:
            set_attribute(node, field, value)
        path = tmp_path / "x.onnx"
        path.write_bytes(graph.SerializeToString())
        self.refuse(path, "node ")
        if field == "op_type":
            self.refuse(path, node.name, f"({value})")

    @pytest.mark.parametrize(
        ("strided", "conv", "expected", "got"),
        [([1, 1, 2], "conv2", 2, 1), ([2, 2, 1], "conv2", 1, 2), ([1, 2, 2], "conv3", 1, 2)],
    )
    def test_strides_of_no_resnet(
        self, strided: list[int], conv: str, expected: int, got: int, sound: Path, tmp_path: Path
    ) -> None:
        """In the first block that shrinks its input, which the others are held against."""
        graph = onnx.load(sound)
        for node, stride in zip(nodes_of(graph, "Conv")[5:8], strided, strict=True):
            set_attribute(node, "strides", [stride, stride])
        path = tmp_path / "x.onnx"
        path.write_bytes(graph.SerializeToString())
        message = f"a convolution with stride {expected}, got stride {got}"
        self.refuse(path, f"node /layer2/layer2.0/{conv}/", message)

    def test_stride_that_wanders(self, sound: Path, tmp_path: Path) -> None:
        """v1.5 in the second stage and v1 in the third."""
        graph = onnx.load(sound)
        for node, stride in zip(nodes_of(graph, "Conv")[9:11], [2, 1], strict=True):
            set_attribute(node, "strides", [stride, stride])
        path = tmp_path / "x.onnx"
        path.write_bytes(graph.SerializeToString())
        self.refuse(
            path, "node /layer3/layer3.0/conv1/", "a convolution with stride 1, got stride 2"
        )

    def test_values_that_are_given_twice(self, sound: Path, tmp_path: Path) -> None:
        graph = onnx.load(sound)
        (gemm,) = nodes_of(graph, "Gemm")
        for name in (gemm.input[0], gemm.input[1]):
            changed = onnx.ModelProto()
            changed.CopyFrom(graph)
            nodes_of(changed, "Gemm")[0].output[0] = name
            path = tmp_path / "x.onnx"
            path.write_bytes(changed.SerializeToString())
            self.refuse(path, f"{name} is given twice")

    def test_missing_addition(self, sound: Path, tmp_path: Path) -> None:
        """A network without residual connections."""
        graph = onnx.load(sound)
        for node in nodes_of(graph, "Add"):
            node.op_type = "Identity"
            del node.input[1:]
        path = tmp_path / "x.onnx"
        path.write_bytes(graph.SerializeToString())
        self.refuse(path, "node /layer1/layer1.0/", "no ResNet")

    @pytest.mark.parametrize("name", ["mobilenet_v2", "densenet121", "squeezenet1_1"])
    def test_other_networks(self, name: str, tmp_path: Path) -> None:
        model = getattr(torchvision.models, name)(num_classes=2).eval()
        path = export(model, tmp_path / "x.onnx", shape=(1, 3, 32, 32))
        self.refuse(path, "node ", "no ResNet")

    @pytest.mark.parametrize("name", ["seresnet18", "resnetaa50", "resnetblur18", "resnetv2_50"])
    def test_relatives(self, name: str, tmp_path: Path) -> None:
        """A graph tells networks apart that share a state dict."""
        try:
            model = timm.create_model(name, num_classes=2).eval()
        except RuntimeError:
            pytest.skip(f"this timm has no {name}")
        path = export(model, tmp_path / "x.onnx", shape=(1, 3, 64, 64))
        self.refuse(path, "node ", "no ResNet")

    @pytest.mark.parametrize("opset", [6, 26, 1 << 40])
    def test_operator_versions_that_are_not_read(
        self, opset: int, sound: Path, tmp_path: Path
    ) -> None:
        graph = onnx.load(sound)
        graph.opset_import[0].version = opset
        path = tmp_path / "x.onnx"
        path.write_bytes(graph.SerializeToString())
        self.refuse(path, "version 7 to 25", str(opset))

    def test_constants_that_unfold(self, sound: Path, tmp_path: Path) -> None:
        """Few numbers that a Gather would make 67 million of."""
        graph = onnx.load(sound)
        zeros = np.zeros(8000, np.int64)
        graph.graph.initializer.append(numpy_helper.from_array(zeros[None], "row"))
        graph.graph.initializer.append(numpy_helper.from_array(zeros, "places"))
        graph.graph.node.insert(0, helper.make_node("Gather", ["row", "places"], ["many"]))
        path = tmp_path / "x.onnx"
        path.write_bytes(graph.SerializeToString())
        tracemalloc.start()
        try:
            self.refuse(path, "(Gather)", "too many")
            assert tracemalloc.get_traced_memory()[1] < 10 << 20
        finally:
            tracemalloc.stop()

    def test_chain_without_blocks(self, tmp_path: Path) -> None:
        nodes = [
            helper.make_node("Relu", [f"v{index}"], [f"v{index + 1}"], name=f"relu{index}")
            for index in range(3)
        ]
        image = helper.make_tensor_value_info("v0", TensorProto.FLOAT, [1, 3, 8, 8])
        result = helper.make_tensor_value_info("v3", TensorProto.FLOAT, None)
        graph = helper.make_graph(nodes, "chain", [image], [result])
        opsets = [helper.make_opsetid("", 13)]
        onnx.save(helper.make_model(graph, opset_imports=opsets), tmp_path / "x.onnx")
        self.refuse(tmp_path / "x.onnx", "node relu2 ", "a residual block before it", "no ResNet")

    @pytest.mark.parametrize("operator", ["Relu", "GlobalAveragePool", "Gemm"])
    def test_operation_beside_those_of_a_resnet(
        self, operator: str, sound: Path, tmp_path: Path
    ) -> None:
        """A ReLU more on the result of the last such node."""
        graph = onnx.load(sound)
        value = nodes_of(graph, operator)[-1].output[0]
        graph.graph.node.append(helper.make_node("Relu", [value], ["more"], name="beside"))
        path = tmp_path / "x.onnx"
        path.write_bytes(graph.SerializeToString())
        self.refuse(path, "node beside ", "no ResNet")

    def test_two_inputs(self, sound: Path, tmp_path: Path) -> None:
        graph = onnx.load(sound)
        graph.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))
        path = tmp_path / "x.onnx"
        path.write_bytes(graph.SerializeToString())
        self.refuse(path, "one input")

    def test_quantized(self, sound: Path, tmp_path: Path) -> None:
        graph = onnx.load(sound)
        weight = graph.graph.initializer[0]
        values = np.zeros(list(weight.dims), np.int8)
        weight.CopyFrom(numpy_helper.from_array(values, weight.name))
        path = tmp_path / "x.onnx"
        path.write_bytes(graph.SerializeToString())
        self.refuse(path, weight.name, "int8")

    @pytest.mark.parametrize("operator", ["QuantizeLinear", "DequantizeLinear", "QLinearConv"])
    def test_operators_of_quantized_networks(
        self, operator: str, sound: Path, tmp_path: Path
    ) -> None:
        graph = onnx.load(sound)
        graph.graph.node[0].op_type = operator
        path = tmp_path / "x.onnx"
        path.write_bytes(graph.SerializeToString())
        self.refuse(path, operator, "in float numbers, and this one is quantized")

    def test_fields_without_end(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """protobuf would make 180 bytes of each of these empty nodes, which take 2."""
        nodes = b"\x0a\x00" * 500_000
        path = tmp_path / "x.onnx"
        path.write_bytes(b"\x08\x07\x3a\xc0\x84\x3d" + nodes)
        self.refuse(path, "more than 400000 fields")
        # A tenth, because Python is ten times slower while its memory is traced.
        monkeypatch.setattr(onnx_wire, "_MAX_FIELDS", 40_000)
        nodes = nodes[:100_000]
        path.write_bytes(b"\x08\x07\x3a\xa0\x8d\x06" + nodes)
        tracemalloc.start()
        try:
            self.refuse(path, "more than 40000 fields")
            assert tracemalloc.get_traced_memory()[1] < 2 * len(nodes)
        finally:
            tracemalloc.stop()

    def test_without_onnx_the_extra_is_named(
        self, sound: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "onnx", None)
        with pytest.raises(ImportError, match=r'needs onnx: pip install "resnet_rs\[onnx\]"$'):
            formats.read(sound)
        with pytest.raises(ImportError, match=re.escape(str(sound))):
            formats.read(sound)

    def test_no_onnx_file(self, tmp_path: Path) -> None:
        path = tmp_path / "x.onnx"
        for content in (b"", b"\x08", b"\x08\x07", b"\xff" * 64, b"text" * 100, bytes(64)):
            path.write_bytes(content)
            self.refuse(path)
        with pytest.raises(FileNotFoundError):
            read_onnx(tmp_path / "absent.onnx")

    def test_description_of_tensors(self, sound: Path, tmp_path: Path) -> None:
        """Dimensions and types, before the bytes are looked at."""
        for dims, kind, message in (
            ([1] * 17, 1, f"dimensions of no tensor, {[1] * 8}"),
            ([1 << 30, 1 << 30], 1, "dimensions of no tensor, [1073741824, 1073741824]"),
            ([0, 1 << 60], 1, "dimensions of no tensor"),
            ([-1, 3], 1, "expected dimensions from 0 up, got [-1, 3]"),
            ([1] * 16, 1, "needs 4 bytes of data, got 0"),
            ([1 << 30, 1 << 29], 1, "needs 2305843009213693952 bytes"),
            ([2], 9, "expected float numbers, got bool"),
            ([2], 999, "expected float numbers, got type 999"),
        ):
            graph = onnx.load(sound)
            tensor = onnx.TensorProto(name="odd", dims=dims, data_type=kind)
            graph.graph.initializer.append(tensor)
            path = tmp_path / "x.onnx"
            path.write_bytes(graph.SerializeToString())
            self.refuse(path, f"tensor odd: {message}" if "needs" not in message else message)

    def test_halves_with_more_bits_than_they_have(self, sound: Path, tmp_path: Path) -> None:
        for numbers, message in (
            ([0xFFFF], "the shape [2] needs 4 bytes of data, got 2"),
            ([1, 1 << 16], "tensor odd: expected numbers of 16 bits"),
        ):
            graph = onnx.load(sound)
            tensor = onnx.TensorProto(name="odd", dims=[2], data_type=10, int32_data=numbers)
            graph.graph.initializer.append(tensor)
            path = tmp_path / "x.onnx"
            path.write_bytes(graph.SerializeToString())
            self.refuse(path, message)

    def test_sparse_tensors(self, sound: Path, tmp_path: Path) -> None:
        graph = onnx.load(sound)
        graph.graph.sparse_initializer.add()
        path = tmp_path / "x.onnx"
        path.write_bytes(graph.SerializeToString())
        self.refuse(path, "the graph has sparse tensors, which no ResNet has")

    @pytest.mark.parametrize(("count", "refused"), [(20_000, False), (20_001, True)])
    def test_most_nodes_and_tensors(self, count: int, refused: bool, tmp_path: Path) -> None:
        graph = onnx.ModelProto(opset_import=[helper.make_opsetid("", 13)])
        graph.graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32), "one"))
        graph.graph.node.extend([onnx.NodeProto()] * (count - 1))
        path = tmp_path / "x.onnx"
        path.write_bytes(graph.SerializeToString())
        self.refuse(path, "more than 20000 nodes" if refused else "expected a graph with one input")

    @pytest.mark.parametrize(("length", "refused"), [(1 << 16, False), ((1 << 16) + 1, True)])
    def test_longest_name(self, length: int, refused: bool, sound: Path, tmp_path: Path) -> None:
        graph = onnx.load(sound)
        graph.graph.node[0].name = "n" * length
        path = tmp_path / "x.onnx"
        path.write_bytes(graph.SerializeToString())
        if refused:
            self.refuse(path, f"expected a name, got a text of {length} bytes")
        else:
            assert read_onnx(path).tensors

    def test_graph_or_version_that_is_missing(self, sound: Path, tmp_path: Path) -> None:
        path = tmp_path / "x.onnx"
        for field in ("graph", "opset_import"):
            graph = onnx.load(sound)
            graph.ClearField(field)
            path.write_bytes(graph.SerializeToString())
            self.refuse(path, "expected an ONNX model with a graph and an opset version")

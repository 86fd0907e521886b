"""ONNX graphs in every form that tools write: order, axes, sizes, heads. onnxruntime's numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras_cases
import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from onnx_cases import Builder, export, images, logits_of, variant
from onnx_runtime import TensorFlowBuilder, assert_equals_runtime, refuse, saved

import resnet_rs
from resnet_rs.weights import formats
from resnet_rs.weights.formats.onnx_file import read_onnx


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network of bottlenecks, its batch norms in nodes of their own."""
    return export(variant(), tmp_path_factory.mktemp("onnx") / "x.onnx", "script-unfolded")


class TestOrder:
    """Nodes need not be in the order in which they are computed."""

    @pytest.mark.parametrize("seed", [None, 0, 1])
    def test_nodes_in_any_order(self, seed: int | None, sound: Path, tmp_path: Path) -> None:
        graph = onnx.load(sound)
        nodes = list(graph.graph.node)
        if seed is None:
            nodes.reverse()
        else:
            np.random.default_rng(seed).shuffle(nodes)
        del graph.graph.node[:]
        graph.graph.node.extend(nodes)
        x = images()
        np.testing.assert_array_equal(logits_of(saved(graph, tmp_path), x), logits_of(sound, x))

    def test_names_that_are_no_utf_8(self, sound: Path, tmp_path: Path) -> None:
        """Protobuf leaves such a name as bytes."""
        tensors = onnx.load(sound).graph.initializer
        tensor = next(one.name for one in tensors if len(one.name) > 5)
        content = sound.read_bytes()
        changed = content.replace(tensor.encode(), b"\xff" * len(tensor))
        assert changed != content
        (tmp_path / "x.onnx").write_bytes(changed)
        x = images()
        np.testing.assert_array_equal(logits_of(tmp_path / "x.onnx", x), logits_of(sound, x))

    def test_cycle(self, sound: Path, tmp_path: Path) -> None:
        graph = onnx.load(sound)
        relus = [node for node in graph.graph.node if node.op_type == "Relu"]
        relus[0].input[0] = relus[3].output[0]
        refuse(saved(graph, tmp_path), "cycle", "waits for its own result")

    def test_node_that_takes_its_own_result(self, sound: Path, tmp_path: Path) -> None:
        graph = onnx.load(sound)
        node = graph.graph.node[4]
        node.input[0] = node.output[0]
        refuse(saved(graph, tmp_path), "cycle")

    def test_value_that_nothing_gives(self, sound: Path, tmp_path: Path) -> None:
        graph = onnx.load(sound)
        node = next(node for node in graph.graph.node if node.op_type == "Relu")
        node.input[0] = "absent"
        refuse(saved(graph, tmp_path), node.name, "'absent'")


@pytest.fixture(scope="module")
def keras_exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what Keras' own `model.export` writes."""
    folder = tmp_path_factory.mktemp("keras")
    keras_cases.write(folder, "tiny.onnx", "sequential.onnx", "grey.onnx")
    return folder


class TestChannelsLast:
    """Graphs of TensorFlow and Keras, whose images and maps are N, H, W, C."""

    @pytest.mark.parametrize("last", [True, False])
    @pytest.mark.parametrize("block", ["basic", "bottleneck"])
    def test_tf2onnx(self, block: str, last: bool, tmp_path: Path) -> None:
        builder = TensorFlowBuilder(variant(block=block, blocks=[1, 2, 1, 1]), opset=13)
        path = saved(builder.whole(last=last), tmp_path)
        assert_equals_runtime(path, last=last)
        remarks = " ".join(read_onnx(path).remarks)
        assert ("channels last" in remarks) == last

    def test_one_channel_is_turned_by_a_reshape(self, tmp_path: Path) -> None:
        """tf2onnx writes no Transpose where none moves a number."""
        builder = TensorFlowBuilder(variant(in_channels=1), opset=13)
        graph = builder.whole()
        turn = next(node for node in graph.graph.node if node.op_type == "Transpose")
        shape = numpy_helper.from_array(np.array([-1, 1, 64, 64]), "new_shape")
        graph.graph.initializer.append(shape)
        turn.CopyFrom(helper.make_node("Reshape", ["image", "new_shape"], list(turn.output)))
        stated = {"preprocessing": {"mean": [0.0], "std": [1.0]}}
        path = saved(graph, tmp_path)
        assert_equals_runtime(path, images((2, 64, 64, 1)), last=True, **stated)

    def test_permuted_in_torch(self, tmp_path: Path) -> None:
        class Turned(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.inner = variant()

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                result: torch.Tensor = self.inner(x.permute(0, 3, 1, 2))
                return result

        path = export(Turned().eval(), tmp_path / "x.onnx", shape=(1, 64, 48, 3))
        assert_equals_runtime(path, images((2, 64, 48, 3)), last=True)

    @pytest.mark.parametrize("case", ["tiny", "sequential", "grey"])
    def test_export_of_keras(self, case: str, keras_exports: Path) -> None:
        """A Transpose on both sides of each convolution."""
        path = keras_exports / f"{case}.onnx"
        operators = [node.op_type for node in onnx.load(path).graph.node]
        assert operators.count("Transpose") > 10
        channels = 1 if case == "grey" else 3
        stated: dict[str, Any] = {}
        if channels == 1:
            stated["preprocessing"] = {"mean": [0.0], "std": [1.0]}
        x = 100 * images((2, 64, 64, channels))  # the weights are for pixels in 0 to 255
        assert_equals_runtime(path, x, last=True, **stated)

    def test_map_that_is_flattened_with_its_channels_last(self, tmp_path: Path) -> None:
        """Keras' Flatten without a pool: other weights than those of a flattened NCHW map."""
        builder = TensorFlowBuilder(variant(), opset=13)
        image = builder.node("Transpose", ["image"], perm=[0, 3, 1, 2])
        value = builder.node("Transpose", [builder.body(image)], perm=[0, 2, 3, 1])
        graph = builder.model(builder.node("Flatten", [value]), 64)
        refuse(saved(graph, tmp_path), "Flatten", "channels last")

    @pytest.mark.parametrize("perm", [[0, 2, 3, 1], [0, 1, 3, 2]])
    def test_axes_in_another_order(self, perm: list[int], sound: Path, tmp_path: Path) -> None:
        graph = onnx.load(sound)
        first = graph.graph.node[0]
        turn = helper.make_node("Transpose", [first.input[0]], ["turned"], perm=perm)
        first.input[0] = "turned"
        graph.graph.node.insert(0, turn)
        refuse(saved(graph, tmp_path), first.name, "N, C, H, W")


class TestImageSize:
    """Images get the size of the graph's input, if that is fixed."""

    @pytest.mark.parametrize(
        ("sides", "resize", "crop"),
        [
            ((32, 32), 32, 32),
            ((64, 64), 64, 64),
            ((224, 224), 232, 224),
            ((64, 32), (64, 32), (64, 32)),
        ],
    )
    def test_fixed_size(
        self, sides: tuple[int, int], resize: Any, crop: Any, tmp_path: Path
    ) -> None:
        path = export(variant(), tmp_path / "x.onnx", shape=(1, 3, *sides))
        with pytest.warns(UserWarning, match="IMAGENET1K_V2") as caught:
            spec = resnet_rs.load(path).config.preprocessing
        assert (spec.resize, spec.crop) == (resize, crop)
        text = " ".join(str(warning.message) for warning in caught)
        assert ("and the size of the file's input" in text) == (sides != (224, 224))
        assert f"crop {crop}" in text
        assert f"resize {resize}" in text

    def test_free_size(self, tmp_path: Path) -> None:
        axes = {"x": {0: "n", 2: "height", 3: "width"}}
        path = export(variant(), tmp_path / "x.onnx", input_names=["x"], dynamic_axes=axes)
        with pytest.warns(UserWarning, match="crop 224") as caught:
            spec = resnet_rs.load(path).config.preprocessing
        assert not [w for w in caught if "size of the file's input" in str(w.message)]
        assert (spec.resize, spec.crop) == (232, 224)
        stated = {"preprocessing": {"crop": 48}}
        assert not [r for r in formats.read(path, **stated).remarks if "48 x 48" in r]

    @pytest.mark.parametrize(
        ("stated", "size"),
        [
            ({"crop": 48}, "48 x 48"),
            ({"crop": [64, 48]}, "64 x 48"),
            ("IMAGENET1K_V1", "224 x 224"),
            ({"resize": [48, 80], "crop": None}, "48 x 80"),
        ],
    )
    def test_stated_size_that_differs(self, stated: Any, size: str, tmp_path: Path) -> None:
        path = export(variant(), tmp_path / "x.onnx", shape=(1, 3, 64, 64))
        remarks = " ".join(formats.read(path, preprocessing=stated).remarks)
        assert f"64 x 64 pixels, and its preprocessing makes them {size}" in remarks
        assert 'preprocessing={"resize": 64, "crop": 64}' in remarks

    @pytest.mark.parametrize(
        "stated", [{"crop": 64}, {"crop": [64, 64], "resize": 80}, {"mean": [0.5] * 3}]
    )
    def test_stated_size_that_is_the_same(self, stated: Any, tmp_path: Path) -> None:
        path = export(variant(), tmp_path / "x.onnx", shape=(1, 3, 64, 64))
        checkpoint = formats.read(path, preprocessing=stated)
        assert "pixels" not in " ".join(checkpoint.remarks)
        assert checkpoint.config["preprocessing"]["crop"] in (64, [64, 64])


class TestHead:
    """Forms of the pooling, and of what follows it."""

    def headed(self, head: Callable[[Builder, str], str], folder: Path, opset: int = 13) -> Path:
        builder = Builder(variant(), opset=opset)
        return saved(builder.model(head(builder, builder.body("image"))), folder)

    @pytest.mark.parametrize("axes", [[2, 3], [-2, -1], [3, 2]])
    def test_mean_without_axes_of_one(self, axes: list[int], tmp_path: Path) -> None:
        def head(builder: Builder, value: str) -> str:
            return builder.classes(builder.node("ReduceMean", [value], axes=axes, keepdims=0))

        assert_equals_runtime(self.headed(head, tmp_path))

    @pytest.mark.parametrize("target", [[-1, 32 * 4], [0, -1], [1, -1]])
    def test_reshape(self, target: list[int], tmp_path: Path) -> None:
        def head(builder: Builder, value: str) -> str:
            value = builder.node("GlobalAveragePool", [value])
            shape = builder.constant("shape", np.array(target))
            return builder.classes(builder.node("Reshape", [value, shape]))

        path = self.headed(head, tmp_path)
        x = images()
        if target[0] == 1:  # onnxruntime too takes one image at a time then
            graph = onnx.load(path)
            graph.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
            path = saved(graph, tmp_path)
        assert_equals_runtime(path, x)

    @pytest.mark.parametrize("target", [[128, -1], [2, 64, 1], [-1]])
    def test_reshape_to_something_else(self, target: list[int], tmp_path: Path) -> None:
        def head(builder: Builder, value: str) -> str:
            value = builder.node("GlobalAveragePool", [value])
            shape = builder.constant("shape", np.array(target))
            return builder.classes(builder.node("Reshape", [value, shape]))

        refuse(self.headed(head, tmp_path), "(Reshape)", "one row for each image")

    def test_axes_turned_after_the_pool(self, tmp_path: Path) -> None:
        def head(builder: Builder, value: str) -> str:
            value = builder.node("GlobalAveragePool", [value])
            value = builder.node("Transpose", [value], perm=[0, 2, 3, 1])
            return builder.classes(builder.node("Squeeze", [value], axes=[1, 2]))

        assert_equals_runtime(self.headed(head, tmp_path, opset=11))

    @pytest.mark.parametrize("axes", [[1, 2], [3], [0, 1, 2, 3], [2, 4]])
    def test_means_over_other_axes(self, axes: list[int], tmp_path: Path) -> None:
        def head(builder: Builder, value: str) -> str:
            value = builder.node("ReduceMean", [value], axes=axes, keepdims=1)
            return builder.classes(builder.node("Flatten", [value]))

        refuse(self.headed(head, tmp_path), "(ReduceMean)", "axes")

    def test_logits_that_are_scaled(self, tmp_path: Path) -> None:
        """A temperature is no part of the family."""

        def head(builder: Builder, value: str) -> str:
            value = builder.node("GlobalAveragePool", [value])
            value = builder.classes(builder.node("Flatten", [value]))
            number = builder.constant("temperature", np.array(2, np.float32))
            return builder.node("Div", [value, number])

        refuse(self.headed(head, tmp_path), "(Div)", "one bias after a linear layer")

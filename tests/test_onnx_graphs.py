"""ONNX graphs of every form that tools write: the same numbers as onnxruntime's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras_cases
import numpy as np
import onnx
import onnx_cases
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx_cases import MODES, TOLERANCE, Builder, export, images, logits_of, variant
from torchvision.ops import FrozenBatchNorm2d

import resnet_rs
from resnet_rs import WeightsError
from resnet_rs.weights import formats
from resnet_rs.weights.formats.onnx_file import read_onnx


def runtime_logits(path: Path, x: NDArray[Any], *, last: bool = False) -> NDArray[np.float32]:
    """Compute the logits with onnxruntime for `[batch, height, width, channels]`."""
    session = onnxruntime.InferenceSession(path)
    (image,) = session.get_inputs()
    given = x if last else np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    batch = image.shape[0] if isinstance(image.shape[0], int) else len(x)
    parts = [given[begin : begin + batch] for begin in range(0, len(x), batch)]
    return np.concatenate([session.run(None, {image.name: part})[0] for part in parts])


def assert_equals_runtime(
    path: Path, x: NDArray[np.float32] | None = None, *, last: bool = False, **stated: Any
) -> None:
    x = images() if x is None else x
    expected = runtime_logits(path, x, last=last)
    got = logits_of(path, x, **stated)
    assert np.isfinite(expected).all()
    assert np.linalg.norm(expected[0] - expected[1]) > 1e-3 * np.linalg.norm(expected)
    assert np.linalg.norm(got - expected.reshape(got.shape)) <= TOLERANCE * np.linalg.norm(expected)


def saved(graph: Any, folder: Path) -> Path:
    path = folder / "changed.onnx"
    path.write_bytes(graph.SerializeToString())
    return path


def refuse(path: Path, *messages: str) -> None:
    with pytest.raises(WeightsError) as caught:
        read_onnx(path)
    for message in [str(path), *messages]:
        assert message in str(caught.value)


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


# -- TensorFlow and Keras ----------------------------------------------------------------------


class TensorFlowBuilder(Builder):
    """Writes a network as tf2onnx writes one of Keras.

    A Transpose of the image, batch norms as Mul and Add with constants `[1, C, 1, 1]`, a Pad before
    the pool, and at the end Squeeze, MatMul and Add. Its padding of the first convolution is in
    the node, and that of the others too.
    """

    def norm(self, value: str, name: str) -> str:
        parts = ("weight", "bias", "running_mean", "running_var")
        gamma, beta, mean, variance = (self.state[f"{name}.{part}"] for part in parts)
        factor = gamma / np.sqrt(variance + self.variant["norm_epsilon"])
        shape = (1, -1, 1, 1)
        value = self.node("Mul", [value, self.constant(f"{name}/mul", factor.reshape(shape))])
        shift = (beta - mean * factor).reshape(shape)
        return self.node("Add", [value, self.constant(f"{name}/add", shift)])

    def node(self, operator: str, inputs: list[str], **attributes: Any) -> str:
        if operator == "MaxPool":
            pads = np.array([0, 0, 1, 1, 0, 0, 1, 1])
            inputs = [super().node("Pad", [*inputs, self.constant("pads", pads)])]
            del attributes["pads"]
        return super().node(operator, inputs, **attributes)

    def whole(self, side: int | str = 64, *, last: bool = True) -> Any:
        image = self.node("Transpose", ["image"], perm=[0, 3, 1, 2]) if last else "image"
        value = self.node("GlobalAveragePool", [self.body(image)])
        value = self.node("Squeeze", [value, self.constant("axes", np.array([2, 3]))])
        self.state["kernel"] = np.ascontiguousarray(self.state["fc.weight"].T)
        value = self.node("MatMul", [value, self.constant("kernel")])
        value = self.node("Add", [value, self.constant("fc.bias")])
        model = self.model(value, side)
        if last:
            dimensions = model.graph.input[0].type.tensor_type.shape.dim
            channels, width = dimensions[1].dim_value, dimensions[3]
            dimensions[1].CopyFrom(width)
            dimensions[3].Clear()
            dimensions[3].dim_value = channels
        return model


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
    def test_export_of_keras(self, case: str, tmp_path: Path) -> None:
        """Keras' own `model.export`: a Transpose on both sides of each convolution."""
        keras_cases.write(tmp_path, f"{case}.onnx")
        path = tmp_path / f"{case}.onnx"
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


# -- Arithmetic with constants -----------------------------------------------------------------


def frozen(**fields: Any) -> torch.nn.Module:
    """A network whose batch norms are frozen, as torchvision's detectors have them."""
    model = variant(**fields)
    for name, norm in list(model.named_modules()):
        if isinstance(norm, torch.nn.BatchNorm2d):
            new = FrozenBatchNorm2d(norm.num_features, norm.eps)
            new.load_state_dict(
                {k: v for k, v in norm.state_dict().items() if "num_batches" not in k}
            )
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, new)
    return model.eval()


Norm = Callable[[Builder, str, dict[str, NDArray[Any]]], str]


def centred(builder: Builder, value: str, c: dict[str, NDArray[Any]]) -> str:
    """(x - mean) / deviation * gamma + beta."""
    value = builder.node("Sub", [value, builder.constant(f"{value}a", c["mean"])])
    value = builder.node("Div", [value, builder.constant(f"{value}b", c["deviation"])])
    value = builder.node("Mul", [builder.constant(f"{value}c", c["gamma"]), value])
    return builder.node("Add", [value, builder.constant(f"{value}d", c["beta"])])


def scaled(builder: Builder, value: str, c: dict[str, NDArray[Any]]) -> str:
    """A BatchNormalization without its own factors and a Scale layer, as from Caffe."""
    ones, zeros = np.ones_like(c["gamma"]).ravel(), np.zeros_like(c["gamma"]).ravel()
    variance = (c["deviation"] ** 2).ravel()
    inputs = [
        builder.constant(f"{value}{name}", array)
        for name, array in (("a", ones), ("b", zeros), ("c", c["mean"].ravel()), ("d", variance))
    ]
    value = builder.node("BatchNormalization", [value, *inputs], epsilon=0.0)
    value = builder.node("Mul", [value, builder.constant(f"{value}e", c["gamma"])])
    return builder.node("Add", [value, builder.constant(f"{value}f", c["beta"])])


class TestArithmetic:
    """Batch norms and preprocessing as Sub, Div, Mul and Add."""

    @pytest.mark.parametrize("mode", MODES)
    def test_frozen_batch_norms(self, mode: str, tmp_path: Path) -> None:
        model = frozen()
        path = export(model, tmp_path / "x.onnx", mode)
        assert "BatchNormalization" not in {node.op_type for node in onnx.load(path).graph.node}
        assert_equals_runtime(path)
        config = read_onnx(path).config
        assert config["variant"]["batch_norm"] is False
        assert any("folded" in remark for remark in read_onnx(path).remarks)

    @pytest.mark.parametrize("bias", [False, True])
    @pytest.mark.parametrize("shape", [(-1, 1, 1), (1, -1, 1, 1)])
    @pytest.mark.parametrize("form", [centred, scaled])
    def test_forms_of_batch_norms(
        self, form: Norm, shape: tuple[int, ...], bias: bool, tmp_path: Path
    ) -> None:
        class Written(Builder):
            def norm(self, value: str, name: str) -> str:
                parts = ("weight", "bias", "running_mean", "running_var")
                gamma, beta, mean, variance = (self.state[f"{name}.{part}"] for part in parts)
                named = {"gamma": gamma, "beta": beta, "mean": mean}
                named["deviation"] = np.sqrt(variance + self.variant["norm_epsilon"])
                return form(self, value, {k: v.reshape(shape) for k, v in named.items()})

        builder = Written(variant(conv_bias=bias), opset=13)
        value = builder.node("GlobalAveragePool", [builder.body("image")])
        value = builder.classes(builder.node("Flatten", [value]))
        path = saved(builder.model(value), tmp_path)
        assert_equals_runtime(path)

    def arithmetic_after(self, sound: Path, operator: str, node: Any) -> Any:
        """The graph with one node more after the first one of an operator."""
        graph = onnx.load(sound)
        index, before = next(
            (index, each) for index, each in enumerate(graph.graph.node) if each.op_type == operator
        )
        value = before.output[0]
        before.output[0] = "before"
        node.output.append(value)
        graph.graph.node.insert(index + 1, node)
        return graph

    @pytest.mark.parametrize("operator", ["Relu", "MaxPool", "Flatten", "Gemm"])
    def test_factors_elsewhere(self, operator: str, sound: Path, tmp_path: Path) -> None:
        node = helper.make_node("Mul", ["before", "factor"], [], name="scaling")
        graph = self.arithmetic_after(sound, operator, node)
        factor = numpy_helper.from_array(np.array(2, np.float32), "factor")
        graph.graph.initializer.append(factor)
        refuse(saved(graph, tmp_path), "node scaling (Mul)")

    @pytest.mark.parametrize("shape", [(1, 1, 32, 32), (8, 1, 1, 1), (8,), (3, 1, 1)])
    def test_constants_of_another_shape(
        self, shape: tuple[int, ...], sound: Path, tmp_path: Path
    ) -> None:
        node = helper.make_node("Mul", ["before", "factor"], [], name="scaling")
        graph = self.arithmetic_after(sound, "Conv", node)
        factor = numpy_helper.from_array(np.ones(shape, np.float32), "factor")
        graph.graph.initializer.append(factor)
        refuse(saved(graph, tmp_path), "node scaling (Mul)", "8 numbers, for the channels")

    def test_result_of_a_convolution_that_is_used_twice(self, sound: Path, tmp_path: Path) -> None:
        graph = onnx.load(sound)
        conv = next(node for node in graph.graph.node if node.op_type == "Conv")
        twice = helper.make_node("Mul", [conv.output[0], "factor"], ["more"], name="beside")
        graph.graph.node.append(twice)
        graph.graph.initializer.append(numpy_helper.from_array(np.array(2, np.float32), "factor"))
        refuse(saved(graph, tmp_path), "node beside (Mul)", "nothing else takes")


class Prepared(torch.nn.Module):
    """A network that prepares its image itself."""

    def __init__(self, prepare: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.inner = variant()
        self.prepare = prepare

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.inner(self.prepare(x))
        return result


MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]


class TestPreparation:
    """Preprocessing in the graph becomes the config's."""

    @pytest.mark.parametrize(
        ("prepare", "largest"),
        [
            (lambda x: (x - 0.5) / 0.2, 1),
            (lambda x: (x - MEAN) / STD, 1),
            (lambda x: (x / 255 - MEAN) / STD, 255),
            (lambda x: x / 255.0, 255),
            (lambda x: x / 127.5 - 1, 255),
            (lambda x: x - MEAN * 255, 255),
        ],
    )
    @pytest.mark.parametrize("mode", ["script", "dynamo"])
    def test_mean_and_std(
        self,
        mode: str,
        prepare: Callable[[torch.Tensor], torch.Tensor],
        largest: int,
        tmp_path: Path,
    ) -> None:
        path = export(Prepared(prepare).eval(), tmp_path / "x.onnx", mode)
        checkpoint = formats.read(path)
        spec = checkpoint.config["preprocessing"]
        pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype(np.float32)
        expected = runtime_logits(path, pixels * np.float32(largest / 255))
        normal = ((pixels / 255 - spec["mean"]) / spec["std"]).astype(np.float32)
        got = onnx_cases.network_of(checkpoint).logits(normal)
        assert np.linalg.norm(got - expected) <= TOLERANCE * np.linalg.norm(expected)
        assert any(f"images in 0 to {largest} itself" in each for each in checkpoint.remarks)

    @pytest.mark.parametrize(
        "prepare",
        [lambda x: x * 1.5, lambda x: x + 0.25, lambda x: 1 - x],
    )
    def test_range_that_does_not_show(
        self, prepare: Callable[[torch.Tensor], torch.Tensor], tmp_path: Path
    ) -> None:
        path = export(Prepared(prepare).eval(), tmp_path / "x.onnx")
        refuse(path, "node /", "the image")

    def test_image_that_is_used_twice(self, tmp_path: Path) -> None:
        path = export(Prepared(lambda x: (x - 0.5) / 0.2 + x).eval(), tmp_path / "x.onnx")
        refuse(path, "node /", "no ResNet")


# -- Windows -----------------------------------------------------------------------------------


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
        with pytest.warns(UserWarning, match="size of the file's input|IMAGENET1K_V2") as caught:
            spec = resnet_rs.load(path).config.preprocessing
        assert (spec.resize, spec.crop) == (resize, crop)
        text = " ".join(str(warning.message) for warning in caught)
        assert f"crop {crop}" in text
        assert f"resize {resize}" in text

    def test_free_size(self, tmp_path: Path) -> None:
        axes = {"x": {0: "n", 2: "height", 3: "width"}}
        path = export(variant(), tmp_path / "x.onnx", input_names=["x"], dynamic_axes=axes)
        with pytest.warns(UserWarning, match="crop 224"):
            spec = resnet_rs.load(path).config.preprocessing
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

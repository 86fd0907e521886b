"""ONNX files of torch's exporters and of others: the same logits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_cases
import onnxruntime
import pytest
import timm
import torch
import torchvision
from onnx import TensorProto, helper, numpy_helper
from onnx_cases import (
    CLASSES,
    MODES,
    TOLERANCE,
    Builder,
    assert_same,
    export,
    images,
    logits_of,
    variant,
)
from torch_variants import VariantResNet
from transformers import ResNetConfig, ResNetForImageClassification

from resnet_rs import WeightsError
from resnet_rs.weights import formats
from resnet_rs.weights.formats.onnx_file import read_onnx


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network of bottlenecks, its batch norms folded."""
    return export(variant(), tmp_path_factory.mktemp("onnx") / "x.onnx")


VARIANTS: dict[str, dict[str, Any]] = {
    "bottleneck": {},
    "basic": {"block": "basic", "blocks": [2, 2, 1, 1]},
    "groups": {"groups": 4, "width_per_group": 32},
    "deep-d": {"stem": "deep", "stem_widths": [4, 4, 8], "shortcut": "avg_pool_conv"},
    "v1": {"stride_on": "conv1"},
    "biases": {"conv_bias": True},
    "epsilon": {"norm_epsilon": 1.001e-5},
    "relu-before-add": {"relu_before_add": True},
    "cifar": {"block": "basic", "stem": "conv3x3", "blocks": [2, 2, 2], "widths": [8, 12, 16]},
    "one-channel": {"in_channels": 1},
    "without-norms": {"batch_norm": False},
    "headless": {"num_classes": 0},
    "padded-head": {"head": {"avg_pool": {"kernel": 2, "stride": 2, "padding": 1}}},
    "two-stages": {"blocks": [1, 3], "widths": [8, 16]},
}


class TestExporters:
    """torch.onnx.export, both of its kinds, folding or not."""

    @pytest.mark.parametrize("mode", ["script", "script-unfolded"])
    @pytest.mark.parametrize("name", VARIANTS)
    def test_variants(self, name: str, mode: str, tmp_path: Path) -> None:
        fields = VARIANTS[name]
        channels = fields.get("in_channels", 3)
        model = variant(**fields)
        path = export(model, tmp_path / "x.onnx", mode, (2, channels, 64, 64))
        stated: dict[str, Any] = {}
        if channels == 1:
            stated["preprocessing"] = {"mean": [0.0], "std": [1.0]}
        if name == "padded-head":
            stated["preprocessing"] = {"crop": 64}
        assert_same(path, model, images((2, 64, 64, channels)), **stated)

        expected = {name: value for name, value in fields.items() if name != "num_classes"}
        found = read_onnx(path).config.get("variant", {})
        folded = mode == "script" and fields.get("batch_norm", True)
        for field in ("stride_on", "norm_epsilon", "relu_before_add", "head", "conv_bias"):
            if field in expected and not (folded and field in ("norm_epsilon", "conv_bias")):
                assert found[field] == expected[field]
        assert found.get("batch_norm", True) == (not folded and fields.get("batch_norm", True))

    @pytest.mark.parametrize("name", ["bottleneck", "basic", "deep-d"])
    @pytest.mark.parametrize("mode", ["dynamo", "dynamo-unfolded"])
    def test_dynamo(self, mode: str, name: str, tmp_path: Path) -> None:
        # Two stages of each block: this exporter takes seconds for four.
        model = variant(**{**VARIANTS[name], "blocks": [1, 1], "widths": [8, 16]})
        path = export(model, tmp_path / "x.onnx", mode)
        assert_same(path, model)

    @pytest.mark.parametrize(
        ("name", "source"),
        [
            ("resnet18", torchvision.models.resnet18),
            ("resnet50", torchvision.models.resnet50),
            ("resnext50_32x4d", torchvision.models.resnext50_32x4d),
            ("resnet50d", timm.create_model),
        ],
    )
    def test_whole_networks(
        self, name: str, source: Callable[..., torch.nn.Module], tmp_path: Path
    ) -> None:
        """The names of the family, and sizes that the graph leaves open."""
        arguments = (name,) if source is timm.create_model else ()
        model = onnx_cases.randomized(source(*arguments, num_classes=CLASSES))
        axes = {"x": {0: "n", 2: "height", 3: "width"}}
        path = export(model, tmp_path / "x.onnx", input_names=["x"], dynamic_axes=axes)
        config = read_onnx(path).config
        assert (config["architecture"], config["num_classes"]) == (name, CLASSES)
        assert config["variant"] == {"batch_norm": False}
        assert_same(path, model, images((1, 75, 97, 3)))

    def test_unfolded_tensors_are_torchs_own(self, tmp_path: Path) -> None:
        model = variant()
        tensors = read_onnx(export(model, tmp_path / "x.onnx", "script-unfolded")).tensors
        state = {k: v for k, v in model.state_dict().items() if "num_batches" not in k}
        assert set(tensors) == set(state)
        for name, tensor in state.items():
            np.testing.assert_array_equal(tensors[name], tensor.numpy())
            assert tensors[name].flags.c_contiguous
            assert tensors[name].flags.aligned

    @pytest.mark.parametrize("opset", [7, 9, 11, 13, 16, 18, 20])
    def test_operator_versions(self, opset: int, tmp_path: Path) -> None:
        """Axes and pads were attributes once, and training mode had outputs of its own."""
        model = variant()
        mode = "script-unfolded" if opset > 7 else "script"
        assert_same(export(model, tmp_path / "x.onnx", mode, opset_version=opset), model)

    def test_newest_operator_version_of_dynamo(self, tmp_path: Path) -> None:
        model = variant(blocks=[1], widths=[8])
        path = export(model, tmp_path / "x.onnx", "dynamo", opset_version=21)
        assert onnx.load(path).opset_import[0].version == 21
        assert_same(path, model)

    def test_training_mode_is_a_remark(self, tmp_path: Path) -> None:
        model = variant()
        training = torch.onnx.TrainingMode.TRAINING
        path = export(
            model, tmp_path / "x.onnx", "script", training=training, do_constant_folding=False
        )
        model.eval()
        assert_same(path, model)
        assert any("training mode" in remark for remark in read_onnx(path).remarks)

    def test_softmax_is_the_activation_and_no_part_of_the_logits(self, tmp_path: Path) -> None:
        model = variant()
        path = export(torch.nn.Sequential(model, torch.nn.Softmax(1)).eval(), tmp_path / "x.onnx")
        assert_same(path, model)
        assert read_onnx(path).config["activation"] == "softmax"

    @pytest.mark.parametrize("mode", MODES)
    def test_flatten_by_view(self, mode: str, tmp_path: Path) -> None:
        """`x.view(x.size(0), -1)` becomes arithmetic with sizes."""

        class Viewed(VariantResNet):
            def pooled(self, x: torch.Tensor) -> torch.Tensor:
                x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
                for stage in self.stages:
                    x = self.get_submodule(stage)(x)
                return self.avgpool(x).view(x.size(0), -1)

        model = onnx_cases.randomized(Viewed({"blocks": [1], "widths": [8]}, CLASSES))
        axes = {"dynamic_axes": {"x": {0: "n"}}} if mode.startswith("script") else {}
        assert_same(export(model, tmp_path / "x.onnx", mode, input_names=["x"], **axes), model)


class TestOtherWriters:
    """Graphs as other tools write them, some of them built node by node."""

    @pytest.mark.parametrize("layer_type", ["basic", "bottleneck"])
    def test_hugging_face(self, layer_type: str, tmp_path: Path) -> None:
        sizes = {"embedding_size": 8, "hidden_sizes": [16, 32], "depths": [1, 2]}
        config = ResNetConfig(
            layer_type=layer_type, num_labels=CLASSES, downsample_in_bottleneck=True, **sizes
        )

        class Logits(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.inner = ResNetForImageClassification(config)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                result: torch.Tensor = self.inner(x).logits
                return result

        model = onnx_cases.randomized(Logits())
        path = export(model, tmp_path / "x.onnx")
        assert_same(path, model)
        on_first = read_onnx(path).config["variant"].get("stride_on") == "conv1"
        assert on_first == (layer_type == "bottleneck")

    @pytest.mark.parametrize("level", ["BASIC", "EXTENDED"])
    def test_graph_that_onnxruntime_optimized(
        self, level: str, sound: Path, tmp_path: Path
    ) -> None:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = getattr(
            onnxruntime.GraphOptimizationLevel, f"ORT_ENABLE_{level}"
        )
        options.optimized_model_filepath = str(tmp_path / "x.onnx")
        options.log_severity_level = 4
        onnxruntime.InferenceSession(sound, options)
        if level == "BASIC":
            assert_same(tmp_path / "x.onnx", variant())
        else:
            with pytest.raises(WeightsError, match=r"microsoft\.FusedConv.*runtime's own"):
                read_onnx(tmp_path / "x.onnx")

    def test_caffe2_like(self, tmp_path: Path) -> None:
        model = variant()
        path = onnx_cases.caffe2_like(model, tmp_path / "x.onnx", 64)
        assert_same(path, model)
        assert "2x2 average covers the whole map" in " ".join(read_onnx(path).remarks)
        assert read_onnx(path).config["activation"] == "softmax"

    def test_light_resnet50_of_the_onnx_package(self) -> None:
        """Its constants are made by nodes; the maps of all stages against onnxruntime's."""
        folder = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
        path = folder / "light_resnet50.onnx"
        checkpoint = formats.read(path)
        assert checkpoint.config["architecture"] == "resnet50"
        assert "variant" not in checkpoint.config
        network = onnx_cases.network_of(checkpoint)
        x = np.arange(3 * 224 * 224, dtype=np.float32).reshape(1, 3, 224, 224) / (3 * 224 * 224)
        names = ["relu", "layer1", "layer2", "layer3", "layer4"]
        ours = network.features(x.transpose(0, 2, 3, 1).copy(), names)

        graph = onnx.load(path)
        theirs = ["r2", "r35", "r77", "r139", "r171"]
        for name in theirs:
            graph.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
        session = onnxruntime.InferenceSession(graph.SerializeToString())
        expected = session.run(theirs, {graph.graph.input[0].name: x})
        for got, nchw in zip(ours, expected, strict=True):
            nhwc = nchw.transpose(0, 2, 3, 1)
            # onnxruntime too computes in f32, and the maps grow from 3 to 1e17.
            assert np.linalg.norm((got - nhwc) / nhwc.max()) <= 2e-5 * np.linalg.norm(
                nhwc / nhwc.max()
            )

    @pytest.mark.parametrize("typed", [False, True])
    @pytest.mark.parametrize(
        ("dtype", "tolerance"),
        [
            (TensorProto.FLOAT, TOLERANCE),
            (TensorProto.DOUBLE, TOLERANCE),
            # The weights are rounded to 11 and 8 bits; each of 13 layers adds its own error.
            (TensorProto.FLOAT16, 1e-2),
            (TensorProto.BFLOAT16, 1e-1),
        ],
    )
    def test_types_of_weights(
        self, dtype: int, tolerance: float, typed: bool, tmp_path: Path
    ) -> None:
        model = variant()
        builder = Builder(model, dtype=dtype, typed=typed)
        value = builder.node("GlobalAveragePool", [builder.body("image")])
        value = builder.classes(builder.node("Flatten", [value], axis=1))
        path = tmp_path / "x.onnx"
        onnx.save(builder.model(value), path)
        expected = onnx_cases.reference(model, images())
        got = logits_of(path, images())
        assert np.linalg.norm(got - expected) <= tolerance * np.linalg.norm(expected)
        # And the numbers themselves are the ones in the file.
        tensors = read_onnx(path).tensors
        for stored in onnx.load(path).graph.initializer:
            np.testing.assert_array_equal(
                tensors[stored.name], numpy_helper.to_array(stored).astype(np.float32)
            )

    def headed(self, model: torch.nn.Module, head: Callable[[Builder, str], str]) -> Builder:
        builder = Builder(model, opset=13)
        self.output = head(builder, builder.body("image"))
        return builder

    def test_head_in_many_nodes(self, tmp_path: Path) -> None:
        """ReduceMean, Squeeze, Cast, Dropout, Identity; MatMul and Add for the last layer."""

        def head(builder: Builder, value: str) -> str:
            value = builder.node("ReduceMean", [value], axes=[-1, -2], keepdims=1)
            axes = builder.constant("axes", np.array([2, 3]))
            value = builder.node("Squeeze", [value, axes])
            value = builder.node("Cast", [value], to=TensorProto.FLOAT)
            value = builder.node("Dropout", [builder.node("Identity", [value])])
            weight = builder.node("Transpose", [builder.constant("fc.weight")], perm=[1, 0])
            value = builder.node("MatMul", [value, weight])
            return builder.node("Add", [builder.constant("fc.bias"), value])

        model = variant()
        builder = self.headed(model, head)
        onnx.save(builder.model(self.output), tmp_path / "x.onnx")
        assert_same(tmp_path / "x.onnx", model)

    def test_padding_and_biases_in_nodes_of_their_own(self, tmp_path: Path) -> None:
        """As converters from Keras write: Pad before Conv and MaxPool, Add after Conv."""
        model = variant(conv_bias=True)

        class Padded(Builder):
            def conv(self, value: str, name: str, stride: int, groups: int = 1) -> str:
                weight = self.state[f"{name}.weight"]
                side = weight.shape[2] // 2
                if side:
                    pads = np.array([0, 0, side, side, 0, 0, side, side])
                    value = self.node("Pad", [value, self.constant(f"{name}.pads", pads)])
                inputs = [value, self.constant(f"{name}.weight")]
                value = self.node("Conv", inputs, strides=[stride, stride], group=groups)
                bias = self.state[f"{name}.bias"][None, :, None, None]
                self.state[f"{name}.bias4"] = bias
                return self.node("Add", [value, self.constant(f"{name}.bias4")])

            def node(self, operator: str, inputs: list[str], **attributes: Any) -> str:
                if operator == "MaxPool":
                    pads = np.array([0, 0, 1, 1, 0, 0, 1, 1])
                    inputs = [self.node("Pad", [*inputs, self.constant("pool.pads", pads)])]
                    attributes.pop("pads")
                return super().node(operator, inputs, **attributes)

        builder = Padded(model, opset=13)
        value = builder.node("GlobalAveragePool", [builder.body("image")])
        value = builder.classes(builder.node("Flatten", [value]))
        onnx.save(builder.model(value), tmp_path / "x.onnx")
        assert_same(tmp_path / "x.onnx", model)

    def test_norms_of_different_epsilons_are_folded(self, tmp_path: Path) -> None:
        model = variant()
        model.bn1.eps = 1e-2  # type: ignore[union-attr]
        path = export(model, tmp_path / "x.onnx", "script-unfolded")
        assert_same(path, model)
        assert read_onnx(path).config["variant"]["batch_norm"] is False

    def test_neither_norms_nor_biases(self, tmp_path: Path) -> None:
        model = torchvision.models.resnet18(num_classes=2, norm_layer=torch.nn.Identity).eval()
        assert_same(export(model, tmp_path / "x.onnx"), model)

    def test_features_as_second_output(self, tmp_path: Path) -> None:
        model = variant()
        path = export(model, tmp_path / "x.onnx")
        graph = onnx.load(path)
        (flatten,) = [node for node in graph.graph.node if node.op_type == "Flatten"]
        graph.graph.output.append(
            helper.make_tensor_value_info(flatten.output[0], TensorProto.FLOAT, None)
        )
        onnx.save(graph, path)
        assert_same(path, model)

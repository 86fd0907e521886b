"""ONNX graphs that compute with constants: frozen batch norms, and preprocessing in the graph."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_cases
import pytest
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx_cases import MODES, TOLERANCE, Builder, export, variant
from onnx_runtime import assert_equals_runtime, refuse, runtime_logits, saved
from torchvision.ops import FrozenBatchNorm2d

from resnet_rs.weights import formats
from resnet_rs.weights.formats.onnx_file import read_onnx


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network of bottlenecks, its batch norms in nodes of their own."""
    return export(variant(), tmp_path_factory.mktemp("onnx") / "x.onnx", "script-unfolded")


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
        self.inner = variant(blocks=[1], widths=[8])
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

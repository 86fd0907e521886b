"""ONNX files by torch's exporters and by hand, of networks with random weights and statistics."""

from __future__ import annotations

import json
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch_variants import VariantResNet

from resnet_rs import _core
from resnet_rs.weights import formats
from resnet_rs.weights.formats.checkpoint import Checkpoint

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))

from random_resnet import random_tensors

CLASSES = 5

MODES: dict[str, dict[str, Any]] = {
    "script": {"dynamo": False},
    "script-unfolded": {
        "dynamo": False,
        "do_constant_folding": False,
        "training": torch.onnx.TrainingMode.PRESERVE,
    },
    "dynamo": {"dynamo": True},
    "dynamo-unfolded": {"dynamo": True, "optimize": False},
}
"""torch's two exporters, folding batch norms and whatever is constant, or leaving all as it is."""


def variant(seed: int = 0, side: int = 64, **fields: Any) -> torch.nn.Module:
    """A small network of any variant; num_classes may be among the fields."""
    num_classes = fields.pop("num_classes", CLASSES)
    return randomized(VariantResNet(fields, num_classes, side), seed)


def randomized(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Give a network random weights and statistics."""
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    model.load_state_dict(random_tensors(shapes, seed), strict=False)
    return model.eval()


def export(
    model: torch.nn.Module,
    path: Path,
    mode: str = "script",
    shape: tuple[int, ...] = (1, 3, 64, 64),
    **options: Any,
) -> Path:
    """Export a network as torch does; returns the path."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        arguments = {"verbose": False, **MODES[mode], **options}
        torch.onnx.export(model, (torch.rand(shape),), str(path), **arguments)
    return path


def reference(model: torch.nn.Module, images: NDArray[np.float32]) -> NDArray[np.float64]:
    """Compute the network in f64 for `[batch, height, width, channels]`."""
    nchw = torch.from_numpy(images).permute(0, 3, 1, 2).double()
    with torch.inference_mode():
        result: NDArray[np.float64] = model.double()(nchw).numpy()
    model.float()
    return result


# -- Comparing ---------------------------------------------------------------------------------

# A f32 convolution adds 3e-7 to 1e-6, and folding a batch norm in f64 rounds each weight once.
TOLERANCE = 1e-5


def images(shape: tuple[int, ...] = (2, 64, 64, 3)) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def network_of(checkpoint: Checkpoint) -> _core.Network:
    return _core.Network.from_tensors(
        checkpoint.tensors, json.dumps(checkpoint.config), origin=checkpoint.origin
    )


def logits_of(path: Path, x: NDArray[np.float32], **stated: Any) -> NDArray[np.float32]:
    return network_of(formats.read(path, **stated)).logits(x)


def assert_same(
    path: Path, model: torch.nn.Module, x: NDArray[np.float32] | None = None, **stated: Any
) -> None:
    """The file's network computes what the torch module computes in f64."""
    x = images() if x is None else x
    expected = reference(model, x)
    got = logits_of(path, x, **stated)
    assert np.linalg.norm(got - expected) <= TOLERANCE * np.linalg.norm(expected)


# -- By hand -----------------------------------------------------------------------------------


class Builder:
    """Writes the graph of a `VariantResNet` node by node, as exporters of other times did.

    Args:
        model: the network; bottlenecks or basic blocks with a 7x7 stem and a plain shortcut.
        opset: the version of the operators.
        add: `Add` or `Sum`.
        dtype: the type of the weights.
        typed: put the numbers into typed fields rather than raw bytes.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        *,
        opset: int = 9,
        add: str = "Add",
        dtype: int = TensorProto.FLOAT,
        typed: bool = False,
    ) -> None:
        self.variant: dict[str, Any] = model.variant  # type: ignore[assignment]
        self.state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
        self.opset, self.add, self.dtype, self.typed = opset, add, dtype, typed
        self.nodes: list[Any] = []
        self.tensors: list[Any] = []

    def node(self, operator: str, inputs: list[str], **attributes: Any) -> str:
        output = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def constant(self, name: str, values: NDArray[Any] | None = None) -> str:
        array = self.state[name] if values is None else values
        if values is not None and array.dtype.kind == "i":
            self.tensors.append(numpy_helper.from_array(array, name))
        elif self.typed:
            flat = array.ravel().tolist()
            self.tensors.append(helper.make_tensor(name, self.dtype, array.shape, flat))
        else:
            cast = helper.tensor_dtype_to_np_dtype(self.dtype)
            self.tensors.append(numpy_helper.from_array(array.astype(cast), name))
        return name

    def conv(self, value: str, name: str, stride: int, groups: int = 1) -> str:
        inputs = [value, self.constant(f"{name}.weight")]
        if f"{name}.bias" in self.state:
            inputs.append(self.constant(f"{name}.bias"))
        kernel = self.state[f"{name}.weight"].shape[2:]
        pads = [side // 2 for side in kernel] * 2
        strides = [stride, stride]
        return self.node(
            "Conv", inputs, kernel_shape=kernel, pads=pads, strides=strides, group=groups
        )

    def norm(self, value: str, name: str) -> str:
        parts = ("weight", "bias", "running_mean", "running_var")
        inputs = [value, *(self.constant(f"{name}.{part}") for part in parts)]
        return self.node("BatchNormalization", inputs, epsilon=self.variant["norm_epsilon"])

    def body(self, value: str) -> str:
        """Everything from the image to the last block."""
        value = self.node("Relu", [self.norm(self.conv(value, "conv1", 2), "bn1")])
        value = self.node(
            "MaxPool", [value], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]
        )
        count = 2 if self.variant["block"] == "basic" else 3
        for stage, blocks in enumerate(self.variant["blocks"], 1):
            for block in range(blocks):
                name, before = f"layer{stage}.{block}", value
                stride = 2 if stage > 1 and block == 0 else 1
                strided = 1 if count == 2 or self.variant["stride_on"] == "conv1" else 2
                for index in range(1, count + 1):
                    step = stride if index == strided else 1
                    groups = self.variant["groups"] if index == 2 and count == 3 else 1
                    value = self.conv(value, f"{name}.conv{index}", step, groups)
                    value = self.norm(value, f"{name}.bn{index}")
                    if index < count:
                        value = self.node("Relu", [value])
                if f"{name}.downsample.0.weight" in self.state:
                    before = self.conv(before, f"{name}.downsample.0", stride)
                    before = self.norm(before, f"{name}.downsample.1")
                value = self.node("Relu", [self.node(self.add, [value, before])])
        return value

    def classes(self, value: str) -> str:
        """The last layer, from one row of features for each image."""
        weights = [self.constant("fc.weight"), self.constant("fc.bias")]
        return self.node("Gemm", [value, *weights], transB=1)

    def model(
        self, output: str, side: int | str = 64, *, constants_are_inputs: bool = False
    ) -> Any:
        """The finished model."""
        channels = self.variant["in_channels"]
        image = helper.make_tensor_value_info("image", self.dtype, ["N", channels, side, side])
        inputs = [image]
        if constants_are_inputs:  # so it had to be before version 4 of the format
            inputs += [
                helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
                for tensor in self.tensors
            ]
        outputs = [helper.make_tensor_value_info(output, self.dtype, None)]
        graph = helper.make_graph(self.nodes, "resnet", inputs, outputs, self.tensors)
        opsets = [helper.make_opsetid("", self.opset)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=3)


def caffe2_like(model: torch.nn.Module, path: Path, side: int) -> Path:
    """Sum, an average over a window as large as the last map, a Reshape, a Softmax: opset 9."""
    builder = Builder(model, add="Sum")
    value = builder.body("image")
    kernel = -(-side // 32)
    value = builder.node("AveragePool", [value], kernel_shape=[kernel, kernel])
    shape = builder.constant("shape", np.array([1, -1]))
    value = builder.classes(builder.node("Reshape", [value, shape]))
    value = builder.node("Softmax", [value], axis=1)
    onnx.save(builder.model(value, side, constants_are_inputs=True), path)
    return path

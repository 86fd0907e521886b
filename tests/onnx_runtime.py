"""Helpers of the tests of ONNX graphs: the results of onnxruntime, changed graphs and refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx_cases import TOLERANCE, Builder, images, logits_of, variant

from resnet_rs import WeightsError
from resnet_rs.weights.formats.onnx_file import read_onnx


def runtime_logits(path: Path, x: NDArray[Any], *, last: bool = False) -> NDArray[np.float32]:
    """Compute the logits with onnxruntime for `[batch, height, width, channels]`."""
    session = onnxruntime.InferenceSession(path)
    (image,) = session.get_inputs()
    given = x if last else np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    fixed = image.shape and isinstance(image.shape[0], int)
    batch = image.shape[0] if fixed else len(x)
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


SMALL: dict[str, Any] = {"block": "basic", "blocks": [1, 1], "widths": [4, 8], "stem_widths": [4]}


def built(**fields: Any) -> Any:
    """Two basic blocks, whose nodes have no names: messages name their outputs, `v0` and so on.

    v0 to v3 are the stem (Conv, BatchNormalization, Relu, MaxPool), v4 to v10 the first block
    (v10 its last Relu) and v11 to v19 the second; then v20 GlobalAveragePool, v21 Flatten, v22
    Gemm. The maps are 32, 16 and 8 pixels wide.
    """
    builder = Builder(variant(**{**SMALL, **fields}), opset=13)
    value = builder.node("GlobalAveragePool", [builder.body("image")])
    return builder.model(builder.classes(builder.node("Flatten", [value])))


class Edit:
    """A copy of a graph, with the changes that the tests make."""

    def __init__(self, model: Any) -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        self.graph = self.model.graph
        self.count = 0

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

    def drop_inputs(self, output: str, left: int = 1) -> Any:
        """Leave a node its first inputs; old versions of ONNX know no unused initializers."""
        node = self.node(output)
        dropped = list(node.input[left:])
        del node.input[left:]
        for tensor in [each for each in self.graph.initializer if each.name in dropped]:
            self.graph.initializer.remove(tensor)
        return node

    def constant(self, values: Any, dtype: Any = np.int64) -> str:
        """Add an initializer; returns its name."""
        self.count += 1
        name = f"constant{self.count}"
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

"""Helpers of the tests of ONNX graphs: the results of onnxruntime, changed graphs and refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx_cases import TOLERANCE, Builder, images, logits_of

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

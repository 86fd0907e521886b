"""Write a loaded network as an ONNX file, for other runtimes."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .. import _core, arguments
from ..replacing import replacing, require_no_directory
from .formats.onnx_file import CONFIG_KEY
from .loaded import Loaded

Array: TypeAlias = NDArray[Any]

OPSET = 17
"""The version of ONNX's operators: of 2022, and older than every runtime in use."""

_IR_VERSION = 8
_SIDE = 224


def export_onnx(
    loaded: Loaded,
    path: str | os.PathLike[str],
    *,
    fold_norms: bool = True,
    force: bool = False,
) -> None:
    """Write an ONNX file, as `ResNet.export_onnx` describes.

    Args:
        loaded: the network.
        path: the file to write.
        fold_norms: fold batch norms into the convolutions before them.
        force: replace a file that is there.

    Raises:
        ImportError: the onnx package is not installed.
        FileExistsError: there is such a file, and `force` is not given.
        OSError: it cannot be written.
        WeightsError: the weights' files have changed since the network was loaded.
    """
    name = os.fspath(arguments.path("path", path))
    onnx = _require_onnx()
    require_no_directory(name)
    if os.path.exists(name) and not force:
        raise FileExistsError(
            f"{name} is there already: choose another name, or force (--force) to replace it"
        )
    model = _model(onnx, loaded, fold_norms=arguments.flag("fold_norms", fold_norms))
    onnx.checker.check_model(model)
    with replacing(name) as unfinished, open(unfinished, "wb") as file:
        file.write(model.SerializeToString())


def _require_onnx() -> Any:
    try:
        return importlib.import_module("onnx")
    except ImportError as error:
        raise ImportError(
            'writing ONNX needs the onnx package: pip install "resnet_rs[onnx]"', name="onnx"
        ) from error


def _model(onnx: Any, loaded: Loaded, *, fold_norms: bool) -> Any:
    """Make the message of the whole file."""
    loaded.require_f32("an ONNX file")
    sides = _sides(loaded)
    operations = loaded.network.operations(*(sides or (_SIDE, _SIDE)))
    graph = _Graph(onnx, operations, loaded.tensors(), fold_norms)
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    height, width = sides or ("height", "width")
    channels = loaded.network.in_channels
    result, length = graph.finish()
    message = helper.make_graph(
        graph.nodes,
        loaded.config.architecture,
        [helper.make_tensor_value_info("image", kind, ["batch", channels, height, width])],
        [helper.make_tensor_value_info(result, kind, ["batch", length])],
        graph.initializers,
    )
    model = helper.make_model(
        message,
        producer_name="resnet_rs",
        producer_version=_core.__version__,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=_IR_VERSION,
        doc_string=(
            "image: float32 [batch, channels, height, width], RGB, prepared as "
            f"`preprocessing` of the metadata {CONFIG_KEY} says. logits: before the activation."
        ),
    )
    config = loaded.config.as_dict()
    helper.set_model_props(model, {CONFIG_KEY: json.dumps(config, ensure_ascii=False)})
    return model


def _sides(loaded: Loaded) -> tuple[int, int] | None:
    """Height and width of the images, if the last layer takes one size of maps only."""
    spec = loaded.config.preprocessing
    wanted = spec.crop or spec.resize or _SIDE
    height, width = (wanted, wanted) if isinstance(wanted, int) else wanted
    last = loaded.network.operations(height, width)[-1]
    if last["kind"] == "linear":
        weight = last["parameters"]["weight"][1]
        before = {o["name"]: o for o in loaded.network.operations(height, width)}
        shape = before[last["inputs"][0]]["output_shape"]
        if weight[1] != shape[2]:  # more than one pixel of each channel
            return height, width
    return None


class _Graph:
    """Collects the nodes and tensors of a network, operation by operation."""

    def __init__(
        self,
        onnx: Any,
        operations: Sequence[Mapping[str, Any]],
        tensors: Mapping[str, Array],
        fold_norms: bool,
    ) -> None:
        self._onnx = onnx
        self._tensors = {name: np.asarray(array, np.float32) for name, array in tensors.items()}
        self._operations = operations
        self._folded = dict(_folded(operations)) if fold_norms else {}
        self._values = {"image": "image"}
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        for operation in operations:
            self._add(operation)

    def finish(self) -> tuple[str, int]:
        """Flatten and name the result: its name and the length of its rows."""
        last = self._operations[-1]
        if last["kind"] == "linear":
            return "logits", int(last["out_features"])
        self._node("Flatten", [self._values[last["name"]]], "embedding", axis=1)
        return "embedding", int(last["output_shape"][2])

    def _add(self, operation: Mapping[str, Any]) -> None:
        name, inputs = operation["name"], [self._values[i] for i in operation["inputs"]]
        match operation["kind"]:
            case "conv":
                result = self._conv(operation, inputs[0])
            case "batch_norm" if name in self._folded.values():
                result = inputs[0]
            case "batch_norm":
                parts = ("weight", "bias", "running_mean", "running_var")
                given = [self._initializer(operation["parameters"][part][0]) for part in parts]
                result = self._node(
                    "BatchNormalization", [*inputs, *given], name, epsilon=operation["epsilon"]
                )
            case "relu":
                result = self._node("Relu", inputs, name)
            case "add":
                result = self._node("Add", inputs, name)
            case "max_pool" | "avg_pool":
                result = self._pool(operation, inputs[0])
            case "global_avg_pool":
                result = self._node("GlobalAveragePool", inputs, name)
            case "global_max_pool":
                result = self._node("GlobalMaxPool", inputs, name)
            case "pad":
                result = self._shortcut(operation, inputs[0])
            case "linear":
                result = self._linear(operation, inputs[0])
            case kind:
                raise ValueError(f"{name}: ONNX has no node for an operation of kind {kind!r}")
        self._values[name] = result

    def _conv(self, operation: Mapping[str, Any], x: str) -> str:
        name = operation["name"]
        weight, bias = (self._own(operation, part) for part in ("weight", "bias"))
        norm = self._folded.get(name)
        if norm is not None:
            weight, bias = self._fold(norm, weight, bias)
        given = [x, self._initializer(f"{name}.weight", weight)]
        if bias is not None:
            given.append(self._initializer(f"{name}.bias", bias))
        return self._node(
            "Conv",
            given,
            name if norm is None else norm,
            group=operation["groups"],
            dilations=[operation["dilation"]] * 2,
            **_window(operation),
        )

    def _fold(self, norm: str, weight: Array, bias: Array | None) -> tuple[Array, Array]:
        """Fold a batch norm into the convolution before it, in float64."""
        operation = next(o for o in self._operations if o["name"] == norm)
        scale, shift, mean, variance = (
            np.asarray(self._own(operation, part), np.float64)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        factor = scale / np.sqrt(variance + operation["epsilon"])
        start = np.zeros_like(mean) if bias is None else np.asarray(bias, np.float64)
        folded = weight * factor[:, None, None, None]
        return folded.astype(np.float32), ((start - mean) * factor + shift).astype(np.float32)

    def _pool(self, operation: Mapping[str, Any], x: str) -> str:
        name, extra = operation["name"], operation["extra"]
        window = {**_window(operation), "ceil_mode": int(operation["ceil_mode"])}
        if operation["kind"] == "max_pool":
            end = operation["padding"] + extra
            window["pads"] = [operation["padding"]] * 2 + [end, end]
            return self._node("MaxPool", [x], name, **window)
        if extra:
            x = self._pad(x, f"{name}.extra", [0, 0, 0, 0, 0, 0, extra, extra])
        counts = operation["count_include_pad"] and operation["padding"] > 0
        return self._node("AveragePool", [x], name, count_include_pad=int(counts), **window)

    def _shortcut(self, operation: Mapping[str, Any], x: str) -> str:
        """Option A: fewer pixels, then channels of zeros."""
        name = operation["name"]
        sides = [operation["kernel"]] * 2, [operation["stride"]] * 2
        fewer = self._node(
            "AveragePool",
            [x],
            f"{name}.pool",
            kernel_shape=sides[0],
            strides=sides[1],
            ceil_mode=int(operation["kernel"] > 1),
        )
        pads = [0, operation["before"], 0, 0, 0, operation["after"], 0, 0]
        return self._pad(fewer, name, pads)

    def _pad(self, x: str, name: str, pads: Sequence[int]) -> str:
        given = self._initializer(f"{name}.pads", np.array(pads, np.int64))
        return self._node("Pad", [x, given], name, mode="constant")

    def _linear(self, operation: Mapping[str, Any], x: str) -> str:
        flat = self._node("Flatten", [x], "flatten", axis=1)
        parts = [operation["parameters"][part][0] for part in ("weight", "bias")]
        given = [self._initializer(part) for part in parts]
        return self._node("Gemm", [flat, *given], "logits", transB=1)

    def _own(self, operation: Mapping[str, Any], part: str) -> Any:
        """An operation's tensor, None if it has no such part."""
        found = operation["parameters"].get(part)
        return None if found is None else self._tensors.get(found[0])

    def _initializer(self, name: str, array: Array | None = None) -> str:
        values = np.ascontiguousarray(self._tensors[name] if array is None else array)
        self.initializers.append(self._onnx.numpy_helper.from_array(values, name))
        return name

    def _node(self, operator: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        node = self._onnx.helper.make_node(operator, inputs, [name], name=name, **attributes)
        self.nodes.append(node)
        return name


def _folded(operations: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """The convolutions whose result only a batch norm reads, with its name."""
    readers: dict[str, list[Mapping[str, Any]]] = {}
    for operation in operations:
        for name in operation["inputs"]:
            readers.setdefault(name, []).append(operation)
    for operation in operations:
        found = readers.get(operation["name"], [])
        if operation["kind"] == "conv" and [o["kind"] for o in found] == ["batch_norm"]:
            yield operation["name"], found[0]["name"]


def _window(operation: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "kernel_shape": [operation["kernel"]] * 2,
        "strides": [operation["stride"]] * 2,
        "pads": [operation["padding"]] * 4,
    }

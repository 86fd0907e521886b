"""The graph of an ONNX file, as the onnx package reads it, with bounds.

Only what a network's graph needs is kept. Tensors stay bytes until they are asked for: copied out
of protobuf's message, or views of the files beside the model.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..._core import WeightsError
from .libraries import library_errors, require_extra
from .onnx_wire import MAX_NUMBERS, check_fields
from .safetensors_file import widen_bfloat16

Array = NDArray[Any]

BFLOAT16 = 16
FLOATS: dict[int, np.dtype[Any]] = {1: np.dtype("<f4"), 10: np.dtype("<f2"), 11: np.dtype("<f8")}
INTEGERS: dict[int, np.dtype[Any]] = {6: np.dtype("<i4"), 7: np.dtype("<i8")}

MAX_NODES = 20_000
"""Nodes and tensors that a graph may have; ResNet-200's, with nothing folded, has some 5,000."""

MAX_RANK = 16
_MAX_NAME = 1 << 16


@dataclass(frozen=True)
class Tensor:
    """A constant.

    Attributes:
        name: its name in the graph.
        kind: ONNX's number for the type of its elements.
        shape: its dimensions.
        data: its elements' bytes, little-endian.
    """

    name: str
    kind: int
    shape: tuple[int, ...]
    data: memoryview

    def floats(self) -> Array:
        """Give the numbers as float32, or as the float16 that they are: a view where possible.

        Raises:
            WeightsError: they are not floats, or not as many as the shape needs.
        """
        if self.kind == BFLOAT16:
            return widen_bfloat16(np.frombuffer(self._bytes(2), np.uint8)).reshape(self.shape)
        if self.kind not in FLOATS:
            raise WeightsError(
                f"tensor {self.name}: expected float numbers, got {_type_name(self.kind)}"
            )
        dtype = FLOATS[self.kind]
        values = np.frombuffer(self._bytes(dtype.itemsize), dtype).reshape(self.shape)
        if self.kind == 11:
            # Beyond float32's range: infinite, which the core refuses with the tensor's name.
            with np.errstate(over="ignore", invalid="ignore"):
                return values.astype(np.float32)
        # In a file beside the model the bytes may start anywhere.
        return np.require(values, requirements=["A"])

    def integers(self) -> list[int]:
        """Give the numbers of a short list of integers.

        Raises:
            WeightsError: they are not integers, or too many.
        """
        if self.kind not in INTEGERS or self.count > MAX_NUMBERS:
            raise WeightsError(f"tensor {self.name}: expected a short list of integers")
        dtype = INTEGERS[self.kind]
        return [int(number) for number in np.frombuffer(self._bytes(dtype.itemsize), dtype)]

    @property
    def count(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    def _bytes(self, item_bytes: int) -> memoryview:
        """Give the elements' bytes, of the length that the shape needs."""
        if len(self.data) != self.count * item_bytes:
            raise WeightsError(
                f"tensor {self.name}: the shape {list(self.shape)} needs "
                f"{self.count * item_bytes} bytes of data, got {len(self.data)}"
            )
        return self.data


@dataclass
class Node:
    """One operation.

    Attributes:
        operator: such as `Conv`; prefixed by its domain if that is not ONNX's own.
        name: may be empty.
        inputs: names of values; empty for an optional input that is left out.
        outputs: names of values.
        attributes: numbers, texts, lists of integers and tensors; others are None.
    """

    operator: str
    name: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]

    def __str__(self) -> str:
        name = self.name or ", ".join(self.outputs) or "without a name"
        return f"node {name} ({self.operator})"


@dataclass
class Graph:
    """A network.

    Attributes:
        nodes: in topological order.
        constants: the initializers by name.
        inputs: the values that a caller passes, with their dimensions; None for a free one.
        outputs: the values that a caller receives.
        opset: the version of ONNX's own operators.
        file_bytes: the length of the file, with those that hold its tensors.
    """

    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, Tensor] = field(default_factory=dict)
    inputs: dict[str, list[int | None] | None] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)
    opset: int = 0
    file_bytes: int = 0


def read_graph(path: Path) -> Graph:
    """Read the graph of an ONNX file.

    Raises:
        ImportError: the onnx package is not installed.
        WeightsError: the file is damaged or not an ONNX model, or a tensor's file is missing, too
            short, or not beside it. The message is without the path.
    """
    onnx = require_extra("onnx", path, "onnx")
    content = path.read_bytes()
    file_bytes = len(content)
    check_fields(memoryview(content), onnx.ModelProto.DESCRIPTOR)
    with library_errors("no ONNX model"):
        model = onnx.ModelProto.FromString(content)
    del content  # before the tensors are copied out of the message
    return _Reader(model, path.parent, file_bytes).graph


class _Reader:
    """Turns protobuf's messages into a `Graph`, and maps the files beside the model."""

    def __init__(self, model: Any, folder: Path, file_bytes: int) -> None:
        self._folder = folder
        self._mapped: dict[str, memoryview] = {}
        self.graph = Graph(file_bytes=file_bytes)
        for opset in model.opset_import:
            if opset.domain in ("", "ai.onnx"):
                self.graph.opset = opset.version
        graph = model.graph
        if not model.HasField("graph") or self.graph.opset == 0:
            raise WeightsError("expected an ONNX model with a graph and an opset version")
        if len(graph.sparse_initializer):
            raise WeightsError("the graph has sparse tensors, which no ResNet has")
        if len(graph.node) + len(graph.initializer) > MAX_NODES:
            raise WeightsError(f"the graph has more than {MAX_NODES} nodes and tensors")
        for initializer in graph.initializer:
            tensor = self._tensor(initializer)
            self.graph.constants[tensor.name] = tensor
        self.graph.nodes = [self._node(node) for node in graph.node]
        self.graph.inputs = {_text(value.name): _dimensions(value) for value in graph.input}
        self.graph.outputs = [_text(value.name) for value in graph.output]

    def _node(self, node: Any) -> Node:
        domain, operator = _text(node.domain), _text(node.op_type)
        return Node(
            operator=operator if domain in ("", "ai.onnx") else f"{domain}.{operator}",
            name=_text(node.name),
            inputs=[_text(name) for name in node.input],
            outputs=[_text(name) for name in node.output],
            attributes={_text(each.name): self._attribute(each) for each in node.attribute},
        )

    def _attribute(self, attribute: Any) -> Any:
        """Give a number, a text, a list of integers or a tensor; None for any other kind."""
        if attribute.HasField("f"):
            return attribute.f
        if attribute.HasField("i"):
            return attribute.i
        if attribute.HasField("s"):
            return _text(attribute.s)
        if attribute.HasField("t"):
            return self._tensor(attribute.t)
        return list(attribute.ints) or None

    def _tensor(self, tensor: Any) -> Tensor:
        name = _text(tensor.name)
        shape = tuple(tensor.dims)
        # NumPy cannot name a shape of more than 2 ** 63 elements, not even without any.
        if len(shape) > MAX_RANK or not 0 <= math.prod(max(n, 1) for n in shape) < 1 << 60:
            raise WeightsError(f"tensor {name}: dimensions of no tensor, {list(shape[:8])}")
        if any(length < 0 for length in shape):
            raise WeightsError(f"tensor {name}: expected dimensions from 0 up, got {list(shape)}")
        if tensor.data_location == tensor.EXTERNAL:
            data = self._external(name, tensor.external_data)
        else:
            data = memoryview(tensor.raw_data or _typed_data(tensor))
        return Tensor(name, tensor.data_type, shape, data)

    def _external(self, name: str, entries: Sequence[Any]) -> memoryview:
        """Find the bytes of a tensor that lie in a file beside this one."""
        stated = {_text(entry.key): _text(entry.value) for entry in entries}
        location = stated.get("location", "")
        parts = PurePosixPath(location)
        if not location or parts.is_absolute() or ".." in parts.parts or "\\" in location:
            raise WeightsError(
                f"tensor {name}: expected data in a file beside the model, got {location!r}"
            )
        if location not in self._mapped:
            path = self._folder / location
            if not path.is_file():
                raise WeightsError(
                    f"tensor {name}: its data lies in {location}, which is not there: put the "
                    f"file beside the model"
                )
            self._mapped[location] = _map(path)
            self.graph.file_bytes += len(self._mapped[location])
        content = self._mapped[location]
        try:
            offset = int(stated.get("offset", "0")[:20])
            length = int(stated.get("length", str(len(content) - offset))[:20])
        except ValueError:
            raise WeightsError(f"tensor {name}: expected numbers as offset and length") from None
        if offset < 0 or length < 0 or offset + length > len(content):
            raise WeightsError(
                f"tensor {name}: bytes {offset} to {offset + length} of {location} are not there: "
                f"it has {len(content)}"
            )
        return content[offset : offset + length]


def _typed_data(tensor: Any) -> bytes:
    """Give the bytes of a tensor whose numbers are not raw but in a field of their own."""
    for values, dtype in ((tensor.float_data, "<f4"), (tensor.double_data, "<f8")):
        if len(values):
            return np.fromiter(values, dtype, len(values)).tobytes()
    if len(tensor.int64_data):
        return np.fromiter(tensor.int64_data, "<i8", len(tensor.int64_data)).tobytes()
    integers = np.fromiter(tensor.int32_data, "<i4", len(tensor.int32_data))
    if tensor.data_type == tensor.INT32:
        return integers.tobytes()
    # The bits of a float16 or bfloat16 are an integer here.
    if (integers >> 16).any():
        raise WeightsError(f"tensor {_text(tensor.name)}: expected numbers of 16 bits")
    return integers.astype("<u2").tobytes()


def _dimensions(value: Any) -> list[int | None] | None:
    """Give the dimensions of a graph's input, None for those that are free."""
    if not value.type.tensor_type.HasField("shape"):
        return None
    dimensions = value.type.tensor_type.shape.dim
    return [each.dim_value if each.HasField("dim_value") else None for each in dimensions]


def _text(value: str | bytes) -> str:
    """Give a name; protobuf leaves one that is no UTF-8 as bytes."""
    if len(value) > _MAX_NAME:
        raise WeightsError(f"expected a name, got a text of {len(value)} bytes")
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _type_name(kind: int) -> str:
    """Name ONNX's type of elements as messages do: `int8`."""
    import onnx

    names = {number: str(name) for name, number in onnx.TensorProto.DataType.items()}
    return names.get(kind, f"type {kind}").lower()


def _map(path: Path) -> memoryview:
    with path.open("rb") as file:
        if file.seek(0, 2) == 0:
            return memoryview(b"")
        # The views of the tensors keep the mapping open.
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

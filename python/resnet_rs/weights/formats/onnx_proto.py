"""The graph of an ONNX file, as the onnx package reads it, with bounds.

Only the parts that a network's graph needs are kept. Constants are arrays of the file's types,
copied out of protobuf's message, or read from the files beside the model.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..._core import WeightsError
from .input_file import InputFile
from .libraries import library_errors, require_extra
from .onnx_wire import check_fields

Array = NDArray[Any]

BFLOAT16 = np.dtype("V2")
"""NumPy has no bfloat16: its numbers are pairs of bytes until they are widened."""

DTYPES: dict[int, np.dtype[Any]] = {
    **{1: np.dtype("<f4"), 10: np.dtype("<f2"), 11: np.dtype("<f8"), 16: BFLOAT16},
    **{2: np.dtype("u1"), 3: np.dtype("i1"), 6: np.dtype("<i4"), 7: np.dtype("<i8")},
}
"""NumPy's types for ONNX's types of elements that a graph of a ResNet may have."""

MAX_NODES = 20_000
"""Nodes and tensors that a graph may have; ResNet-200's, with nothing folded, has some 5,000."""

MAX_RANK = 16
_MAX_NAME = 1 << 16


@dataclass
class Node:
    """One operation.

    Attributes:
        operator: such as `Conv`; prefixed by its domain if that is not ONNX's own.
        name: may be empty.
        inputs: names of values; empty for an optional input that is left out.
        outputs: names of values.
        attributes: numbers, texts, lists of integers and arrays; others are None.
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
        constants: the initializers by name: views, as they are stored.
        inputs: the values that a caller passes, with their dimensions; None for a free one.
        outputs: the values that a caller receives.
        opset: the version of ONNX's own operators.
        file_bytes: the length of the file, with those that hold its tensors.
        metadata: texts by key, beside the graph.
    """

    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    inputs: dict[str, list[int | None] | None] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)
    opset: int = 0
    file_bytes: int = 0
    metadata: dict[str, str] = field(default_factory=dict)


def read_graph(path: Path) -> Graph:
    """Read the graph of an ONNX file.

    Raises:
        ImportError: the onnx package is not installed.
        WeightsError: the file is damaged or not an ONNX model, a tensor's file is missing, too
            short, or not beside it, or somebody writes to one of them meanwhile. The message is
            without the path.
    """
    onnx = require_extra("onnx", path, "onnx")
    with InputFile(path) as file:
        content = file.read(0, len(file))
        file.require_unchanged()
    file_bytes = len(content)
    check_fields(memoryview(content), onnx.ModelProto.DESCRIPTOR)
    with library_errors("no ONNX model"):
        model = onnx.ModelProto.FromString(content)
    del content  # before the tensors are copied out of the message
    with contextlib.ExitStack() as stack:
        reader = _Reader(model, path.parent, file_bytes, stack)
        reader.require_unchanged()
    return reader.graph


class _Reader:
    """Turns protobuf's messages into a `Graph`, and reads the files beside the model."""

    def __init__(
        self, model: Any, folder: Path, file_bytes: int, stack: contextlib.ExitStack
    ) -> None:
        self._folder = folder
        self._stack = stack
        self._files: dict[str, InputFile] = {}
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
            self.graph.constants[_text(initializer.name)] = self._array(initializer)
        self.graph.nodes = [self._node(node) for node in graph.node]
        self.graph.inputs = {_text(value.name): _dimensions(value) for value in graph.input}
        self.graph.outputs = [_text(value.name) for value in graph.output]
        self.graph.metadata = {
            _text(entry.key): _decoded(entry.value) for entry in model.metadata_props
        }

    def require_unchanged(self) -> None:
        """Check that nobody has written to the files beside the model while they were read.

        Raises:
            WeightsError: somebody has; the message names the file.
        """
        for location, file in self._files.items():
            with _named(location):
                file.require_unchanged()

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
        """Give a number, a text, a list of integers or an array; None for any other kind."""
        if attribute.HasField("f"):
            return attribute.f
        if attribute.HasField("i"):
            return attribute.i
        if attribute.HasField("s"):
            return _text(attribute.s)
        if attribute.HasField("t"):
            return self._array(attribute.t)
        return list(attribute.ints) or None

    def _array(self, tensor: Any) -> Array:
        """Give a tensor's numbers, whose bytes must be as many as its shape needs."""
        name = _text(tensor.name)
        shape = list(tensor.dims)
        # NumPy cannot name a shape of more than 2 ** 63 elements, not even without any.
        if len(shape) > MAX_RANK or not 0 <= math.prod(max(n, 1) for n in shape) < 1 << 60:
            raise WeightsError(f"tensor {name}: dimensions of no tensor, {shape[:8]}")
        if any(length < 0 for length in shape):
            raise WeightsError(f"tensor {name}: expected dimensions from 0 up, got {shape}")
        if tensor.data_type not in DTYPES:
            kind = _type_name(tensor.data_type)
            raise WeightsError(f"tensor {name}: expected float numbers, got {kind}")
        dtype = DTYPES[tensor.data_type]
        if tensor.data_location == tensor.EXTERNAL:
            data = self._external(name, tensor.external_data)
        else:
            data = memoryview(tensor.raw_data or _typed_data(tensor, dtype))
        needed = math.prod(shape) * dtype.itemsize
        if len(data) != needed:
            raise WeightsError(
                f"tensor {name}: the shape {shape} needs {needed} bytes of data, got {len(data)}"
            )
        return np.frombuffer(data, dtype).reshape(shape)

    def _external(self, name: str, entries: Sequence[Any]) -> memoryview:
        """Find the bytes of a tensor that lie in a file beside this one."""
        stated = {_text(entry.key): _text(entry.value) for entry in entries}
        location = stated.get("location", "")
        parts = PurePosixPath(location)
        if not location or parts.is_absolute() or ".." in parts.parts or "\\" in location:
            raise WeightsError(
                f"tensor {name}: expected data in a file beside the model, got {location!r}"
            )
        if location not in self._files:
            path = self._folder / location
            if not path.is_file():
                raise WeightsError(
                    f"tensor {name}: its data lies in {location}, which is not there: put the "
                    f"file beside the model"
                )
            self._files[location] = self._stack.enter_context(InputFile(path))
            self.graph.file_bytes += len(self._files[location])
        content = self._files[location]
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
        with _named(location):
            return content.take(offset, offset + length)


def _typed_data(tensor: Any, dtype: np.dtype[Any]) -> bytes:
    """Give the bytes of a tensor whose numbers are not raw but in a field of their own."""
    fields = ((tensor.float_data, "<f4"), (tensor.double_data, "<f8"), (tensor.int64_data, "<i8"))
    for numbers, stored in fields:
        if len(numbers):
            return np.fromiter(numbers, stored, len(numbers)).tobytes()
    # The bits of a float16 or bfloat16 are an integer here.
    integers = np.fromiter(tensor.int32_data, "<i4", len(tensor.int32_data))
    if dtype.itemsize == 2 and (integers >> 16).any():
        raise WeightsError(f"tensor {_text(tensor.name)}: expected numbers of 16 bits")
    return integers.astype(f"<i{dtype.itemsize}").tobytes()


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
    return _decoded(value)


def _decoded(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _type_name(kind: int) -> str:
    """Name ONNX's type of elements as messages do: `int8`."""
    import onnx

    names = {number: str(name) for name, number in onnx.TensorProto.DataType.items()}
    return names.get(kind, f"type {kind}").lower()


@contextlib.contextmanager
def _named(location: str) -> Iterator[None]:
    """Name a file beside the model in errors about reading it."""
    try:
        yield
    except WeightsError as error:
        raise WeightsError(f"{location}: {error}") from None

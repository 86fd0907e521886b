"""ONNX's protobuf messages, read from a mapped file without the onnx package.

Only what a network's graph needs is kept; tensors stay views of the file until they are asked for.
The numbers of fields are those of onnx.proto3.
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..._core import WeightsError
from .onnx_wire import MAX_NUMBERS, Wire, extend, numbers_of_16_bits, signed, text
from .safetensors_file import widen_bfloat16

Array = NDArray[Any]

FLOATS: dict[int, np.dtype[Any]] = {1: np.dtype("<f4"), 10: np.dtype("<f2"), 11: np.dtype("<f8")}
INTEGERS: dict[int, np.dtype[Any]] = {6: np.dtype("<i4"), 7: np.dtype("<i8")}
BFLOAT16 = 16
TYPE_NAMES = {
    **{2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 8: "string", 9: "bool", 12: "uint32"},
    **{13: "uint64", 14: "complex64", 15: "complex128", 17: "float8", 21: "uint4", 22: "int4"},
}

MAX_NODES = 20_000
"""Nodes and tensors that a graph may have; ResNet-200's, with nothing folded, has some 5,000."""

MAX_RANK = 16


@dataclass(frozen=True)
class Tensor:
    """A constant: where its numbers are.

    Attributes:
        name: its name in the graph.
        kind: ONNX's number for the type of its elements.
        shape: its dimensions.
        data: its bytes, little-endian, in this file or in another; None where the file has it as
            a list of varints.
        varints: that list's bytes.
    """

    name: str
    kind: int
    shape: tuple[int, ...]
    data: memoryview | None
    varints: memoryview | None = None

    def floats(self) -> Array:
        """The numbers as float32, or float16 where they are: a view where possible."""
        if self.kind == BFLOAT16:
            return widen_bfloat16(np.frombuffer(self._bytes(2), np.uint8)).reshape(self.shape)
        if self.kind not in FLOATS:
            name = TYPE_NAMES.get(self.kind, f"type {self.kind}")
            raise WeightsError(f"tensor {self.name}: expected float numbers, got {name}")
        dtype = FLOATS[self.kind]
        values = np.frombuffer(self._bytes(dtype.itemsize), dtype).reshape(self.shape)
        if self.kind == 11:
            # Beyond float32's range: infinite, which the core refuses with the tensor's name.
            with np.errstate(over="ignore", invalid="ignore"):
                return values.astype(np.float32)
        # A message's bytes may start anywhere.
        return np.require(values, requirements=["A"])

    def integers(self) -> list[int]:
        """The numbers of a short list of integers."""
        if self.kind not in INTEGERS or self.count > MAX_NUMBERS:
            raise WeightsError(f"tensor {self.name}: expected a short list of integers")
        if self.varints is not None:
            numbers: list[int] = []
            extend(numbers, self.varints)
            return numbers
        dtype = INTEGERS[self.kind]
        return [int(number) for number in np.frombuffer(self._bytes(dtype.itemsize), dtype)]

    @property
    def count(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)

    def _bytes(self, item_bytes: int) -> memoryview:
        """The elements' bytes, of the length that the shape needs."""
        data = self.data
        if data is None and self.varints is not None and item_bytes == 2:
            bits = numbers_of_16_bits(self.varints, self.count)
            data = memoryview(bits.tobytes())
        if data is None or data.nbytes != self.count * item_bytes:
            raise WeightsError(
                f"tensor {self.name}: the shape {list(self.shape)} needs "
                f"{self.count * item_bytes} bytes of data, got {0 if data is None else data.nbytes}"
            )
        return data


@dataclass
class Node:
    """One operation.

    Attributes:
        operator: such as `Conv`; with its domain in front where that is not ONNX's own.
        name: may be empty.
        inputs: names of values; empty for an optional input that is left out.
        outputs: names of values.
        attributes: numbers, texts, lists of numbers and tensors; others are None.
    """

    operator: str = ""
    name: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    attributes: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        name = self.name or ", ".join(self.outputs) or "without a name"
        return f"node {name} ({self.operator})"


@dataclass
class Graph:
    """A network.

    Attributes:
        nodes: in an order in which each comes after those whose results it takes.
        constants: the initializers by name.
        inputs: the values that a caller gives, with their dimensions, None where one is free.
        outputs: the values that a caller gets.
        opset: the version of ONNX's own operators.
        producer: who wrote the file.
        file_bytes: the length of the file, with those that hold its tensors.
    """

    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, Tensor] = field(default_factory=dict)
    inputs: dict[str, list[int | None] | None] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)
    opset: int = 0
    producer: str = ""
    file_bytes: int = 0


def read_graph(path: Path) -> Graph:
    """Read the graph of an ONNX file; tensors are views of it, or of the files that it names.

    Raises:
        WeightsError: the file is damaged or not an ONNX model, or a tensor's file is missing, too
            short, or not beside it. The message is without the path.
    """
    return _Reader(path).graph


class _Reader:
    """Reads one model, with the files beside it mapped as they are needed."""

    def __init__(self, path: Path) -> None:
        self._folder = path.parent
        self._mapped: dict[str, memoryview] = {}
        self._wire = Wire()
        self.graph = Graph()
        body: memoryview | None = None
        content = _map(path)
        self.graph.file_bytes = len(content)
        for number, value in self._wire.fields(content):
            if number == 2 and isinstance(value, memoryview):
                self.graph.producer = text(value)
            elif number == 7 and isinstance(value, memoryview):
                if body is not None:
                    raise WeightsError("expected one graph, got two")
                body = value
            elif number == 8 and isinstance(value, memoryview):
                self._opset(value)
        if body is None or self.graph.opset == 0:
            raise WeightsError("expected an ONNX model with a graph and an opset version")
        self._graph(body)

    def _opset(self, message: memoryview) -> None:
        if text(self._wire.last(message, 1)) in ("", "ai.onnx"):
            version = self._wire.last(message, 2)
            self.graph.opset = version if isinstance(version, int) else 0

    def _graph(self, message: memoryview) -> None:
        for number, value in self._wire.fields(message):
            if not isinstance(value, memoryview):
                continue
            if number == 1:
                self.graph.nodes.append(self._node(value))
            elif number == 5:
                tensor = self._tensor(value)
                self.graph.constants[tensor.name] = tensor
            elif number == 11:
                self.graph.inputs.update([self._value_info(value)])
            elif number == 12:
                self.graph.outputs.append(self._value_info(value)[0])
            elif number == 15:
                raise WeightsError("the graph has sparse tensors, which no ResNet has")
            if len(self.graph.nodes) + len(self.graph.constants) > MAX_NODES:
                raise WeightsError(f"the graph has more than {MAX_NODES} nodes and tensors")

    def _node(self, message: memoryview) -> Node:
        node = Node()
        domain = ""
        for number, value in self._wire.fields(message):
            if not isinstance(value, memoryview):
                continue
            if number == 1:
                node.inputs.append(text(value))
            elif number == 2:
                node.outputs.append(text(value))
            elif number == 3:
                node.name = text(value)
            elif number == 4:
                node.operator = text(value)
            elif number == 5:
                node.attributes.update([self._attribute(value)])
            elif number == 7:
                domain = text(value)
        if domain not in ("", "ai.onnx"):
            node.operator = f"{domain}.{node.operator}"
        return node

    def _attribute(self, message: memoryview) -> tuple[str, Any]:
        name, result = "", None
        integers: list[int] = []
        for number, value in self._wire.fields(message):
            if number == 1 and isinstance(value, memoryview):
                name = text(value)
            elif number == 2 and isinstance(value, bytes):
                (result,) = struct.unpack("<f", value[:4].ljust(4, b"\0"))
            elif number == 3 and isinstance(value, int):
                result = signed(value)
            elif number == 4 and isinstance(value, memoryview):
                result = text(value)
            elif number == 5 and isinstance(value, memoryview):
                result = self._tensor(value)
            elif number == 8:
                extend(integers, value)
                result = integers
        return name, result

    def _tensor(self, message: memoryview) -> Tensor:
        shape: list[int] = []
        kind, name, external = 0, "", False
        data: memoryview | None = None
        varints: memoryview | None = None
        loose = bytearray()  # numbers that are not packed into one field
        entries: dict[str, str] = {}
        for number, value in self._wire.fields(message):
            if number == 1:
                extend(shape, value)
            elif number == 2 and isinstance(value, int):
                kind = value
            elif number in (4, 10, 9) and isinstance(value, memoryview):  # float, double, raw
                data = value
            elif number in (4, 10) and isinstance(value, bytes):
                loose += value
            elif number in (5, 7) and isinstance(value, memoryview):  # int32 or int64
                varints = value
            elif number == 8 and isinstance(value, memoryview):
                name = text(value)
            elif number == 13 and isinstance(value, memoryview):
                key = text(self._wire.last(value, 1))
                entries[key] = text(self._wire.last(value, 2))
            elif number == 14:
                external = value == 1
        # NumPy cannot name a shape of more than 2 ** 63 elements, not even without any.
        if len(shape) > MAX_RANK or not 0 <= math.prod(max(n, 1) for n in shape) < 1 << 60:
            raise WeightsError(f"tensor {name}: dimensions of no tensor, {shape[:8]}")
        if any(length < 0 for length in shape):
            raise WeightsError(f"tensor {name}: expected dimensions from 0 up, got {shape}")
        if external:
            data = self._external(name, entries)
        elif data is None and loose:
            data = memoryview(bytes(loose))
        # A tensor without elements has no data at all.
        if data is None and varints is None:
            data = memoryview(b"")
        return Tensor(name, kind, tuple(shape), data, varints if data is None else None)

    def _external(self, name: str, entries: dict[str, str]) -> memoryview:
        """The bytes of a tensor that lie in a file beside this one."""
        location = entries.get("location", "")
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
            offset = int(entries.get("offset", "0")[:20])
            length = int(entries.get("length", str(len(content) - offset))[:20])
        except ValueError:
            raise WeightsError(f"tensor {name}: expected numbers as offset and length") from None
        if offset < 0 or length < 0 or offset + length > len(content):
            raise WeightsError(
                f"tensor {name}: bytes {offset} to {offset + length} of {location} are not there: "
                f"it has {len(content)}"
            )
        return content[offset : offset + length]

    def _value_info(self, message: memoryview) -> tuple[str, list[int | None] | None]:
        """A graph input's or output's name and dimensions."""
        tensor_type = self._wire.last(self._wire.last(message, 2), 1)
        dimensions = self._wire.last(tensor_type, 2)
        shape: list[int | None] | None = None
        if isinstance(dimensions, memoryview):
            shape = []
            for number, value in self._wire.fields(dimensions):
                length = self._wire.last(value, 1) if number == 1 else None
                shape.append(signed(length) if isinstance(length, int) else None)
        return text(self._wire.last(message, 1)), shape


def _map(path: Path) -> memoryview:
    with path.open("rb") as file:
        if file.seek(0, 2) == 0:
            return memoryview(b"")
        # The views of the tensors keep the mapping open.
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

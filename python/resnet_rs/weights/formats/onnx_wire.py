"""A check of an ONNX file's size in memory, before protobuf parses it.

protobuf makes an object of 180 bytes of an empty message, which takes 2 bytes in the file, and 8
bytes of a packed integer, which takes 1. The fields are therefore counted first.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..._core import WeightsError

MAX_NUMBERS = 4096
"""Most numbers of a list that is no tensor: far above those in a ResNet's graph."""

# The graph of ResNet-152, with nothing folded, has 68,000 fields.
_MAX_FIELDS = 400_000
_DEEPEST = 64
_LONGEST_VARINT_BYTES = 10

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
"""Wire types."""


def check_fields(message: memoryview, descriptor: Any) -> None:
    """Check that the objects that protobuf makes of a message take little memory.

    Args:
        message: the serialized message.
        descriptor: the protobuf descriptor of its type.

    Raises:
        WeightsError: it has too many fields, or too long a list of integers, or is damaged.
    """
    _count(message, descriptor, _MAX_FIELDS, _DEEPEST)


def _count(message: memoryview, descriptor: Any, left: int, depth: int) -> int:
    """Count a message's fields; return how many more there may be."""
    if depth < 0:
        raise WeightsError(f"messages inside messages, {_DEEPEST} deep: it is damaged")
    for number, value in _fields(message):
        left -= 1
        if left < 0:
            raise WeightsError(f"the file has more than {_MAX_FIELDS} fields: it is damaged")
        field = descriptor.fields_by_number.get(number)
        if field is None or value is None:
            continue
        if field.message_type is not None:
            left = _count(value, field.message_type, left, depth - 1)
        elif (
            field.cpp_type in (field.CPPTYPE_INT64, field.CPPTYPE_UINT64)
            and len(value) > _LONGEST_VARINT_BYTES * MAX_NUMBERS
        ):
            raise WeightsError(f"{field.name}: expected a short list of integers")
    return left


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview | None]]:
    """Yield each field's number, and its value if that is a run of bytes."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        kind = key & 7
        length = {_FIXED32: 4, _FIXED64: 8}.get(kind, 0)
        if kind == _VARINT:
            _, place = _varint(message, place)
        elif kind == _BYTES:
            length, place = _varint(message, place)
        elif not length:
            raise WeightsError(f"field {key >> 3} has the wire type {kind}: no ONNX model")
        if place + length > len(message):
            raise WeightsError("the file ends inside a field: it is damaged or no ONNX model")
        yield key >> 3, message[place : place + length] if kind == _BYTES else None
        place += length


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """Read a number of 7 bits a byte, lowest first; return it and the place after it."""
    number = 0
    for index in range(_LONGEST_VARINT_BYTES):
        if place + index >= len(message):
            break
        byte = message[place + index]
        number |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return number, place + index + 1
    raise WeightsError("the file ends inside a number: it is damaged or no ONNX model")

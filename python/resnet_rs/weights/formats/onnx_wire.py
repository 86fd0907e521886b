"""Protobuf's wire format: numbered fields, each a varint, a fixed number or a run of bytes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ..._core import WeightsError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Wire types."""

# The graph of ResNet-200, batch norm and shapes not folded, has some 60,000.
MAX_FIELDS = 400_000
"""Fields that a file may have: what bounds time and memory for a hostile one."""

MAX_NUMBERS = 4096
"""Numbers of a list that is no tensor: far beyond any that a ResNet's graph has."""

Value = int | bytes | memoryview
"""A varint, the bytes of a fixed number, or the view of a run of bytes."""


class Wire:
    """Takes messages apart, and counts how much of that a file asks for."""

    def __init__(self) -> None:
        self._left = MAX_FIELDS

    def fields(self, message: memoryview) -> Iterator[tuple[int, Value]]:
        """Yield each field's number and value, in the message's order.

        Raises:
            WeightsError: the message ends too early, or holds what is no field.
        """
        position = 0
        while position < len(message):
            self._left -= 1
            if self._left < 0:
                raise WeightsError(f"the file has more than {MAX_FIELDS} fields: it is damaged")
            key, position = varint(message, position)
            wire = key & 7
            if wire == VARINT:
                number, position = varint(message, position)
                yield key >> 3, number
                continue
            if wire == BYTES:
                length, position = varint(message, position)
            elif wire in (FIXED32, FIXED64):
                length = 4 if wire == FIXED32 else 8
            else:
                raise WeightsError(f"field {key >> 3} has the wire type {wire}: no ONNX model")
            if position + length > len(message):
                raise WeightsError("the file ends inside a field: it is damaged or no ONNX model")
            value = message[position : position + length]
            position += length
            yield key >> 3, value if wire == BYTES else bytes(value)

    def last(self, message: Value | None, number: int) -> Value | None:
        """The value of one field, the last where it comes again; None where it is absent."""
        found = None
        if isinstance(message, memoryview):
            for each, value in self.fields(message):
                if each == number:
                    found = value
        return found


def varint(message: memoryview, position: int) -> tuple[int, int]:
    """A number of 7 bits a byte, lowest first, and the position after it."""
    number = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            break
        byte = message[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
    raise WeightsError("the file ends inside a number: it is damaged or no ONNX model")


def signed(number: int) -> int:
    """A varint's 64 bits as a two's complement number."""
    number &= (1 << 64) - 1
    return number - (1 << 64) if number >> 63 else number


def extend(numbers: list[int], value: Value) -> None:
    """Add a repeated integer's next value: one number, or several packed into one field."""
    if isinstance(value, int):
        numbers.append(signed(value))
    elif isinstance(value, memoryview) and len(value) <= 10 * MAX_NUMBERS:
        position = 0
        while position < len(value):
            number, position = varint(value, position)
            numbers.append(signed(number))
    else:
        raise WeightsError(f"expected a short list of integers, got {len(value)} bytes")
    if len(numbers) > MAX_NUMBERS:
        raise WeightsError(f"expected a list of at most {MAX_NUMBERS} integers")


def text(value: Value | None) -> str:
    """A name; empty where there is none."""
    if not isinstance(value, memoryview):
        return ""
    if len(value) > 1 << 16:
        raise WeightsError(f"expected a name, got a text of {len(value)} bytes")
    return bytes(value).decode("utf-8", "replace")


def numbers_of_16_bits(packed: memoryview, count: int) -> NDArray[np.uint16]:
    """Numbers of 16 bits that are stored as varints, 1 to 3 bytes each.

    Args:
        packed: the varints, one behind the other.
        count: how many there are.

    Raises:
        WeightsError: there are more, fewer, or larger ones.
    """
    stored = np.frombuffer(packed, np.uint8)
    if not count <= len(stored) <= 3 * count:
        raise WeightsError(f"{len(stored)} bytes do not hold {count} numbers of 16 bits")
    result = np.empty(count, np.uint16)
    done = position = 0
    while position < len(stored):
        # A block at a time, so that the arrays of positions stay small.
        block = stored[position : position + (1 << 16)]
        (ends,) = np.nonzero(block < 0x80)
        lengths = np.diff(ends, prepend=-1)
        if not len(ends) or lengths.max() > 3 or done + len(ends) > count:
            raise WeightsError(f"expected {count} numbers of 16 bits, got others")
        starts = ends - lengths + 1
        low = (block & 0x7F).astype(np.uint32)
        numbers = low[starts]
        numbers[lengths > 1] |= low[starts[lengths > 1] + 1] << 7
        numbers[lengths > 2] |= low[ends[lengths > 2]] << 14
        result[done : done + len(ends)] = numbers
        done += len(ends)
        position += int(ends[-1]) + 1
    if done != count:
        raise WeightsError(f"expected {count} numbers of 16 bits, got {done}")
    return result

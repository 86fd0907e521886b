"""The check of an ONNX file's fields, before protobuf makes objects of them."""

from __future__ import annotations

import onnx
import pytest

from resnet_rs import WeightsError
from resnet_rs.weights.formats import onnx_wire
from resnet_rs.weights.formats.onnx_wire import check_fields


def field(number: int, payload: bytes) -> bytes:
    """A field of bytes or of a message, as protobuf writes it."""
    length, rest = b"", len(payload)
    while rest > 0x7F:
        length, rest = length + bytes([rest & 0x7F | 0x80]), rest >> 7
    return bytes([number << 3 | 2]) + length + bytes([rest]) + payload


class TestWire:
    """Depth, lengths and numbers at their bounds, and damage."""

    def check(self, message: bytes) -> None:
        check_fields(memoryview(message), onnx.ModelProto.DESCRIPTOR)

    def nested(self, depth: int) -> bytes:
        """Graphs in attributes of nodes of graphs: the model has messages of this depth in it."""
        fields = [7, *(1, 5, 6) * depth][:depth]
        message = b""
        for number in reversed(fields):
            message = field(number, message)
        return message

    def test_deepest_messages(self) -> None:
        self.check(self.nested(64))
        with pytest.raises(WeightsError, match="messages inside messages, 64 deep: it is damaged"):
            self.check(self.nested(65))

    @pytest.mark.parametrize(
        ("fields", "number", "name"), [((7, 1, 5), 8, "ints"), ((7, 5), 1, "dims")]
    )
    def test_longest_list_of_integers(
        self, fields: tuple[int, ...], number: int, name: str
    ) -> None:
        """4096 integers of ten bytes."""
        for length, refused in ((40_960, False), (40_961, True)):
            message = field(number, bytes(length))
            for each in reversed(fields):
                message = field(each, message)
            if refused:
                with pytest.raises(WeightsError, match=f"^{name}: expected a short list of int"):
                    self.check(message)
            else:
                self.check(message)

    def test_bytes_of_tensors_are_no_list(self) -> None:
        self.check(field(7, field(5, field(9, bytes(50_000)))))

    def test_most_fields(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(onnx_wire, "_MAX_FIELDS", 10)
        self.check(b"\x08\x07" * 10)
        for message in (b"\x08\x07" * 11, field(7, field(1, b"")) + b"\x08\x07" * 9):
            with pytest.raises(WeightsError, match="the file has more than 10 fields"):
                self.check(message)

    @pytest.mark.parametrize(
        ("message", "expected"),
        [
            (b"\x08\x80", "ends inside a number"),
            (b"\x08" + b"\x80" * 10 + b"\x00", "ends inside a number"),
            (b"\x0a\x02a", "ends inside a field"),
            (b"\x09" + bytes(7), "ends inside a field"),
            (b"\x0d" + bytes(3), "ends inside a field"),
            (b"\x0b", "field 1 has the wire type 3: no ONNX model"),
        ],
    )
    def test_damage(self, message: bytes, expected: str) -> None:
        with pytest.raises(WeightsError, match=expected):
            self.check(message)

    def test_numbers_of_every_length(self) -> None:
        self.check(b"\x08" + b"\x80" * 9 + b"\x01" + b"\x09" + bytes(8) + b"\x0d" + bytes(4))

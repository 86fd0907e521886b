"""The part of a file that a pickle's opcodes are read from, with every length checked."""

from __future__ import annotations

from dataclasses import dataclass

from .input_file import Source
from .torch_budget import Budget

LONGEST_VALUE_BYTES = 1 << 17
"""Longest string or bytes that is built: names are short. A longer one stays where it is."""
LONGEST_LINE_BYTES = 1 << 16
"""Longest argument of the opcodes that are text."""

_USUAL_LINE_BYTES = 1 << 8
_PIECE_BYTES = 1 << 20

# The opcodes of long strings and bytes: bytes of the length that follows, and if it is UTF-8.
_LONG_OPCODES = {
    b"X": (4, True),
    b"\x8d": (8, True),
    b"T": (4, False),
    b"B": (4, False),
    b"\x8e": (8, False),
    b"\x96": (8, False),
}


@dataclass(frozen=True, slots=True)
class LongValue:
    """A long string or bytes, left in the file.

    Attributes:
        data: the file, or what was unpacked of it.
        begin: the place of the first byte.
        end: the place after the last one.
        is_text: it is UTF-8.
    """

    data: Source
    begin: int
    end: int
    is_text: bool

    def latin1(self, size: int, budget: Budget) -> memoryview:
        """Give the bytes, or those whose text this is: one character for each.

        Args:
            size: the number of bytes that are expected.
            budget: the budget of memory for the bytes of a text.

        Raises:
            ValueError: the text has a character that is no byte, or is of another size.
        """
        if not self.is_text:
            return self.data.take(self.begin, self.end)
        budget.spend(size)
        whole = bytearray(size)
        place, begin = 0, self.begin
        while begin < self.end:
            end = min(begin + _PIECE_BYTES, self.end)
            # Not in the middle of a character: its further bytes are 0b10xxxxxx.
            while end < self.end and self.data.read(end, end + 1)[0] & 0xC0 == 0x80:
                end -= 1
            piece = self.data.read(begin, end).decode("utf-8").encode("latin-1")
            if place + len(piece) > size or not piece:
                raise ValueError(f"a text of other than {size} characters")
            whole[place : place + len(piece)] = piece
            place, begin = place + len(piece), end
        if place != size:
            raise ValueError(f"a text of {place} characters instead of {size}")
        return memoryview(whole)


class PickleStream:
    """Gives pickletools the bytes that it asks for.

    Args:
        data: the file, or what was unpacked of it.
        begin: the pickle's first byte.
        end: the place by which it must have stopped.
    """

    def __init__(self, data: Source, begin: int, end: int) -> None:
        self._data = data
        self._place = begin
        self._end = end

    def tell(self) -> int:
        """The place of the next byte."""
        return self._place

    def read(self, size: int) -> bytes:
        """The next `size` bytes, or all that are left.

        Raises:
            ValueError: that is more than a value may have.
        """
        if size > LONGEST_VALUE_BYTES:
            raise ValueError(f"a value of {size} bytes; at most {LONGEST_VALUE_BYTES} are read")
        begin = self._place
        self._place = min(begin + size, self._end)
        return self._data.read(begin, self._place)

    def readline(self) -> bytes:
        """The rest of a line, up to `LONGEST_LINE_BYTES`."""
        begin = self._place
        limit = min(begin + LONGEST_LINE_BYTES, self._end)
        line = self._data.read(begin, min(begin + _USUAL_LINE_BYTES, limit))
        if b"\n" not in line:
            line = self._data.read(begin, limit)
        line = line[: line.find(b"\n") + 1] or line
        self._place = begin + len(line)
        return line

    def long_value(self) -> LongValue | None:
        """Step over the next opcode if it is a long string or bytes.

        Raises:
            ValueError: it goes on past the end.
        """
        begin = self._place
        length_bytes, is_text = _LONG_OPCODES.get(self._data.read(begin, begin + 1), (0, False))
        if not length_bytes:
            return None
        begin += 1 + length_bytes
        size = int.from_bytes(self._data.read(begin - length_bytes, begin), "little")
        if size <= LONGEST_VALUE_BYTES:
            return None
        if begin + size > self._end:
            left = max(0, self._end - begin)
            raise ValueError(f"a value of {size} bytes; at most {left} are left")
        self._place = begin + size
        return LongValue(self._data, begin, begin + size, is_text)

"""The directory of a zip file, read from a mapped file: enough for what `torch.save` writes.

`zipfile` would copy every member and trust the sizes that the directory states. Here a stored
member is a view of the map, and a compressed one is unpacked to its stated size at most.

Source: PKWARE's APPNOTE.TXT, sections 4.3.7 to 4.3.16 and 4.5.3.
"""

from __future__ import annotations

import mmap
import struct
import zlib
from dataclasses import dataclass

from ..._core import WeightsError

LOCAL_HEADER = b"PK\x03\x04"
_ENTRY = b"PK\x01\x02"
_END = b"PK\x05\x06"
_END_64 = b"PK\x06\x06"
_LOCATOR_64 = b"PK\x06\x07"

_END_BYTES = 22
_LONGEST_COMMENT_BYTES = 0xFFFF
_LOCATOR_64_BYTES = 20
_END_64_BYTES = 56
_ENTRY_BYTES = 46
_LOCAL_BYTES = 30

_STORED = 0
_DEFLATED = 8
_ENCRYPTED = 1
_ZIP64_FIELD = 1
_IN_ZIP64_FIELD = 0xFFFFFFFF

_FREE_ENTRIES = 10_000
"""This many entries are read from any file, and beyond them one for every 400 bytes of it."""


@dataclass(frozen=True, slots=True)
class Member:
    """One file inside the zip file.

    Attributes:
        method: how it is packed: 0 not at all, 8 by deflate.
        checksum: CRC-32 of the content; 0 where the writer computed none.
        packed_bytes: what it takes in the zip file.
        size: its content, in bytes.
        header: where its own header starts.
    """

    method: int
    checksum: int
    packed_bytes: int
    size: int
    header: int

    @property
    def is_stored(self) -> bool:
        """Whether the content lies in the zip file as it is."""
        return self.method == _STORED


def read_members(data: mmap.mmap) -> dict[str, Member]:
    """Read the directory at the end of a zip file.

    Returns:
        The members by name, in the directory's order.

    Raises:
        WeightsError: there is no directory, or it is damaged, or a member is encrypted.
    """
    try:
        return _read_members(data)
    except struct.error:
        raise WeightsError("a damaged zip file: its directory is cut off") from None


def locate(data: mmap.mmap, name: str, member: Member) -> int:
    """Where a member's packed bytes begin: behind its own header, which must be there.

    Raises:
        WeightsError: it is not, or the bytes go on past the end of the file.
    """
    header = data[member.header : member.header + _LOCAL_BYTES]
    encoded = name.encode("utf-8", "surrogateescape")
    if len(header) == _LOCAL_BYTES and header[:4] == LOCAL_HEADER:
        name_bytes, extra_bytes = struct.unpack_from("<HH", header, 26)
        begin: int = member.header + _LOCAL_BYTES
        if data[begin : begin + name_bytes] == encoded:
            begin += name_bytes + extra_bytes
            if begin + member.packed_bytes <= len(data):
                return begin
    raise WeightsError(f"a damaged zip file: {name[:80]} is not where the directory says")


def content(data: mmap.mmap, name: str, member: Member) -> memoryview:
    """The content of a member: a view of the map, or of fresh bytes if it is compressed.

    The caller bounds `member.size`. The checksum is compared where the writer computed one.

    Raises:
        WeightsError: the member is damaged or packed in a way that torch does not use.
    """
    begin = locate(data, name, member)
    packed = memoryview(data)[begin : begin + member.packed_bytes]
    unpacked = _unpacked(name[:80], member, packed)
    if member.checksum and zlib.crc32(unpacked) != member.checksum:
        raise WeightsError(f"a damaged zip file: the checksum of {name[:80]} is wrong")
    return unpacked


def _unpacked(name: str, member: Member, packed: memoryview) -> memoryview:
    if member.method == _STORED:
        if member.packed_bytes != member.size:
            raise WeightsError(f"a damaged zip file: {name} has two sizes")
        return packed
    if member.method != _DEFLATED:
        raise WeightsError(f"{name} is packed by method {member.method}: pack it by deflate")
    try:
        unpacked = zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, member.size + 1)
    except zlib.error as error:
        raise WeightsError(f"a damaged zip file: {name} cannot be unpacked ({error})") from None
    if len(unpacked) != member.size:
        raise WeightsError(f"a damaged zip file: {name} does not unpack to {member.size} bytes")
    return memoryview(unpacked)


def _read_members(data: mmap.mmap) -> dict[str, Member]:
    place, end = _directory(data)
    most = _FREE_ENTRIES + len(data) // 400
    members: dict[str, Member] = {}
    while place < end:
        if len(members) == most:
            raise WeightsError(f"more than {most} members, more than a checkpoint of this size has")
        entry = data[place : place + _ENTRY_BYTES]
        if entry[:4] != _ENTRY:
            raise WeightsError(f"a damaged zip file: no directory entry at byte {place}")
        flags, method = struct.unpack_from("<HH", entry, 8)
        checksum, packed_bytes, size, name_bytes, extra_bytes, comment_bytes = struct.unpack_from(
            "<IIIHHH", entry, 16
        )
        (header,) = struct.unpack_from("<I", entry, 42)
        place += _ENTRY_BYTES
        name = data[place : place + name_bytes].decode("utf-8", "surrogateescape")
        place += name_bytes
        extra = data[place : place + extra_bytes]
        size, packed_bytes, header = _wide(extra, (size, packed_bytes, header))
        place += extra_bytes + comment_bytes
        if flags & _ENCRYPTED:
            raise WeightsError(f"{name[:80]} is encrypted: pack the file without a password")
        if name in members:
            raise WeightsError(f"a damaged zip file: two members are called {name[:80]}")
        members[name] = Member(method, checksum, packed_bytes, size, header)
    return members


def _directory(data: mmap.mmap) -> tuple[int, int]:
    """Where the directory begins and ends."""
    end = data.rfind(_END, max(0, len(data) - _END_BYTES - _LONGEST_COMMENT_BYTES))
    if end < 0:
        raise WeightsError("a zip file without its end: it was cut off, perhaps while downloading")
    size, begin = struct.unpack_from("<II", data, end + 12)
    locator = end - _LOCATOR_64_BYTES
    if locator >= 0 and data[locator : locator + 4] == _LOCATOR_64:
        (end,) = struct.unpack_from("<Q", data, locator + 8)
        if end + _END_64_BYTES > len(data) or data[end : end + 4] != _END_64:
            raise WeightsError("a damaged zip file: its directory is not where it should be")
        size, begin = struct.unpack_from("<QQ", data, end + 40)
    if begin + size > end:
        raise WeightsError("a damaged zip file: its directory is not where it should be")
    return begin, begin + size


def _wide(extra: bytes, values: tuple[int, int, int]) -> tuple[int, int, int]:
    """Replace the values that did not fit 32 bits by those of the zip64 field."""
    if _IN_ZIP64_FIELD not in values:
        return values
    place = 0
    while place + 4 <= len(extra):
        kind, size = struct.unpack_from("<HH", extra, place)
        place += 4
        if kind == _ZIP64_FIELD:
            field = extra[place : place + size]
            wide = iter(struct.unpack(f"<{size // 8}Q", field[: size // 8 * 8]))
            first, second, third = (
                next(wide, value) if value == _IN_ZIP64_FIELD else value for value in values
            )
            return first, second, third
        place += size
    return values

"""Reads zip archives: torch's checkpoints and Keras' models.

`zipfile` reads the archive's directory. The contents are taken here: a stored member is a part of
the file, which is read once, and a compressed one is unpacked to its stated size at most.
"""

from __future__ import annotations

import struct
import zipfile
import zlib

from ..._core import WeightsError
from .input_file import Part, Source, Unpacked
from .libraries import library_errors

SIGNATURE = b"PK\x03\x04"
"""The first bytes of a zip archive, and of each member's own header."""

_HEADER_BYTES = 30
_ENCRYPTED = 1
# An entry of the directory takes 46 bytes of the file and, as an object, some 700 of memory.
_FREE_DIRECTORY_BYTES = 1 << 20
_DIRECTORY_SHARE = 32

_PIECE_BYTES = 1 << 20

Members = dict[str, zipfile.ZipInfo]


class _Archive:
    """A file for zipfile, which refuses to hand out a directory of an implausible size."""

    def __init__(self, data: Source) -> None:
        self._data = data
        self._place = 0
        self._most = _FREE_DIRECTORY_BYTES + len(data) // _DIRECTORY_SHARE

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = 0) -> int:
        self._place = offset + (0, self._place, len(self._data))[whence]
        if self._place < 0:
            raise OSError("a place before the file's start")
        return self._place

    def read(self, size: int = -1) -> bytes:
        if size > self._most:
            raise WeightsError("more members than an archive of this size has")
        begin = self._place
        self._place = len(self._data) if size < 0 else min(begin + size, len(self._data))
        return self._data.read(begin, self._place)


def read_members(data: Source) -> Members:
    """Read the directory of an archive.

    Returns:
        The members by name, in the directory's order.

    Raises:
        WeightsError: the directory is missing or damaged, lists a name twice, or has an encrypted
            member.
    """
    with library_errors("no zip file"), zipfile.ZipFile(_Archive(data)) as archive:
        entries = archive.infolist()
    members: Members = {}
    for entry in entries:
        if entry.flag_bits & _ENCRYPTED:
            raise WeightsError(f"{entry.filename[:80]} is encrypted: pack it without a password")
        if entry.filename in members:
            raise WeightsError(f"a damaged zip file: it has {entry.filename[:80]} twice")
        members[entry.filename] = entry
    return members


def is_stored(member: zipfile.ZipInfo) -> bool:
    """Report whether a member's content lies in the archive as it is."""
    return member.compress_type == zipfile.ZIP_STORED


def content(data: Source, member: zipfile.ZipInfo) -> memoryview:
    """Give a member's content as one piece of memory.

    The caller bounds `member.file_size`. A checksum of 0 means that the writer computed none.

    Raises:
        WeightsError: the member is damaged, or packed by another method than deflate.
    """
    begin, end = locate(data, member)
    if is_stored(member):
        taken = data.take(begin, end)
        _check(member, len(taken), zlib.crc32(taken) if member.CRC else 0)
        return taken
    return _unpacked(data.read(begin, end), member)


def source(data: Source, member: zipfile.ZipInfo) -> Source:
    """Give a member's content to be read piece by piece: a part of the file if it is stored.

    The checksum is compared before. The caller bounds `member.file_size`.

    Raises:
        WeightsError: the member is damaged, or packed by another method than deflate.
    """
    if not is_stored(member):
        return Unpacked(content(data, member))
    begin, end = locate(data, member)
    checksum = 0
    if member.CRC:
        for place in range(begin, end, _PIECE_BYTES):
            checksum = zlib.crc32(data.read(place, min(place + _PIECE_BYTES, end)), checksum)
    _check(member, end - begin, checksum)
    return Part(data, begin, end)


def _unpacked(packed: bytes, member: zipfile.ZipInfo) -> memoryview:
    name = member.filename[:80]
    if member.compress_type == zipfile.ZIP_DEFLATED:
        try:
            inflate = zlib.decompressobj(-zlib.MAX_WBITS)
            unpacked = memoryview(inflate.decompress(packed, member.file_size + 1))
        except zlib.error as error:
            raise WeightsError(f"a damaged zip file: {name} cannot be unpacked: {error}") from None
    else:
        raise WeightsError(f"{name} is packed by method {member.compress_type}: use deflate")
    _check(member, len(unpacked), zlib.crc32(unpacked) if member.CRC else 0)
    return unpacked


def _check(member: zipfile.ZipInfo, size: int, checksum: int) -> None:
    """Compare a content's size and checksum with the directory's."""
    name = member.filename[:80]
    if size != member.file_size:
        raise WeightsError(f"a damaged zip file: {name} has {size} bytes, not as stated")
    if checksum != member.CRC:
        raise WeightsError(f"a damaged zip file: the checksum of {name} is wrong")


def locate(data: Source, member: zipfile.ZipInfo) -> tuple[int, int]:
    """Find where a member's packed bytes begin, behind its own header, and end.

    Raises:
        WeightsError: there is no such header, or the bytes go on past the end of the file.
    """
    place = member.header_offset
    header = data.read(place, place + _HEADER_BYTES) if place >= 0 else b""
    if len(header) == _HEADER_BYTES and header.startswith(SIGNATURE):
        name_bytes, extra_bytes = struct.unpack_from("<HH", header, 26)
        begin: int = place + _HEADER_BYTES + name_bytes + extra_bytes
        if begin + member.compress_size <= len(data):
            return begin, begin + member.compress_size
    name = member.filename[:80]
    raise WeightsError(f"a damaged zip file: {name} is not where the directory says")

"""Reads zip archives in a mapped file: torch's checkpoints and Keras' models.

`zipfile` reads the archive's directory. It would copy every member, so the contents are taken
here: a stored member is a view of the map, and a compressed one is unpacked to its stated size at
most.
"""

from __future__ import annotations

import mmap
import struct
import zipfile
import zlib

from ..._core import WeightsError
from .libraries import library_errors

SIGNATURE = b"PK\x03\x04"
"""The first bytes of a zip archive, and of each member's own header."""

_HEADER_BYTES = 30
_ENCRYPTED = 1
# An entry of the directory takes 46 bytes of the file and, as an object, some 700 of memory.
_FREE_DIRECTORY_BYTES = 1 << 20
_DIRECTORY_SHARE = 32

Buffer = mmap.mmap | memoryview
Members = dict[str, zipfile.ZipInfo]


class _Archive:
    """A mapped file for zipfile, which refuses to hand out a directory of an implausible size."""

    def __init__(self, data: Buffer) -> None:
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
        return bytes(self._data[begin : self._place])


def read_members(data: Buffer) -> Members:
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


def content(data: Buffer, member: zipfile.ZipInfo) -> memoryview:
    """Give a member's content: a view of the map, or fresh bytes if it is compressed.

    The caller bounds `member.file_size`. A checksum of 0 means that the writer computed none.

    Raises:
        WeightsError: the member is damaged, or packed by another method than deflate.
    """
    name = member.filename[:80]
    begin = locate(data, member)
    packed = memoryview(data)[begin : begin + member.compress_size]
    if is_stored(member):
        unpacked = packed
    elif member.compress_type == zipfile.ZIP_DEFLATED:
        try:
            inflate = zlib.decompressobj(-zlib.MAX_WBITS)
            unpacked = memoryview(inflate.decompress(packed, member.file_size + 1))
        except zlib.error as error:
            raise WeightsError(f"a damaged zip file: {name} cannot be unpacked: {error}") from None
    else:
        raise WeightsError(f"{name} is packed by method {member.compress_type}: use deflate")
    if len(unpacked) != member.file_size:
        raise WeightsError(f"a damaged zip file: {name} has {len(unpacked)} bytes, not as stated")
    if member.CRC and zlib.crc32(unpacked) != member.CRC:
        raise WeightsError(f"a damaged zip file: the checksum of {name} is wrong")
    return unpacked


def locate(data: Buffer, member: zipfile.ZipInfo) -> int:
    """Find where a member's packed bytes begin, behind its own header.

    Raises:
        WeightsError: there is no such header, or the bytes go on past the end of the file.
    """
    place = member.header_offset
    header = bytes(data[place : place + _HEADER_BYTES]) if place >= 0 else b""
    if len(header) == _HEADER_BYTES and header.startswith(SIGNATURE):
        name_bytes, extra_bytes = struct.unpack_from("<HH", header, 26)
        begin: int = place + _HEADER_BYTES + name_bytes + extra_bytes
        if begin + member.compress_size <= len(data):
            return begin
    name = member.filename[:80]
    raise WeightsError(f"a damaged zip file: {name} is not where the directory says")

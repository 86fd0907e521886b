"""The part of HDF5 that Keras writes, read from a mapped file without the HDF5 library.

Files come from strangers, and the C library trusts them too much: a damaged group can keep it busy
for ever, or make it allocate gigabytes for a file of kilobytes. Every address here is checked
against the file's end, every object is visited once, and arrays are views of the file.

Read: superblocks 0 to 3, groups as symbol tables and as links, contiguous and compact datasets of
floats, attributes that are one string. Refused: chunked, compressed, external and virtual data.
The layout is in the "HDF5 File Format Specification", version 3.0; sections are cited by its
numbers.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..._core import WeightsError
from .safetensors_file import widen_bfloat16

SIGNATURE = b"\x89HDF\r\n\x1a\n"
UNDEFINED = (1 << 64) - 1
"""The address of what does not exist."""

# Keras' ResNet-152 has some 3,000 groups and datasets and 20,000 messages.
MAX_ITEMS = 400_000
"""Messages, links and tree nodes that a file may have: what bounds the time for a hostile one."""

DATASPACE, LINK_INFO, DATATYPE, EXTERNAL_FILES, LINK, LAYOUT = 0x1, 0x2, 0x3, 0x7, 0x6, 0x8
FILTERS, ATTRIBUTE, CONTINUATION, SYMBOL_TABLE = 0xB, 0xC, 0x10, 0x11
"""Types of messages in an object's header (IV.A.2)."""

Span = tuple[int, int]
"""The bytes from the first to before the second, counted from the file's start."""


@dataclass(frozen=True)
class Datatype:
    """What an element is: `kind` is `float`, `bfloat16`, `text`, `text in heap` or `other`."""

    kind: str
    item_bytes: int
    order: str = "<"


@dataclass
class Object:
    """A group or a dataset.

    Attributes:
        address: where its header lies, in bytes from the start of the file.
        links: of a group, its members' names and addresses.
        texts: its attributes that are one string.
        shape: of a dataset, its dimensions; None where it is none, or has no elements.
        datatype: of a dataset, its elements.
        data: of a dataset, the bytes of its elements; None where it is stored in another way.
        storage: how a dataset without `data` is stored, in words.
    """

    address: int
    links: dict[str, int] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    shape: tuple[int, ...] | None = None
    datatype: Datatype | None = None
    data: Span | None = None
    storage: str = ""

    @property
    def is_dataset(self) -> bool:
        """Whether it has elements of a type; a group has none."""
        return self.shape is not None and self.datatype is not None


class Hdf5:
    """An HDF5 file in memory.

    Args:
        data: the whole file, as bytes.

    Raises:
        WeightsError: it is no HDF5 file, or one of a kind that is not read.
    """

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._items = 0
        self._text_bytes = 0
        self._root = self._superblock()

    def walk(self) -> Iterator[tuple[tuple[str, ...], Object]]:
        """Yield every object with its path from the root, each once, groups before members.

        Raises:
            WeightsError: a part of the file points outside it or is malformed.
        """
        seen = {self._root}
        waiting: list[tuple[tuple[str, ...], int]] = [((), self._root)]
        while waiting:
            path, address = waiting.pop()
            item = self._object(address)
            yield path, item
            for name, target in reversed(item.links.items()):
                if target not in seen:
                    seen.add(target)
                    waiting.append(((*path, name), target))

    def array(self, item: Object) -> NDArray[np.floating]:
        """A dataset's elements as float32, or float16 where they are: a view where possible.

        Raises:
            WeightsError: they are not floats, or not stored as one block of the right length.
        """
        if item.shape is None or item.datatype is None:
            raise WeightsError("expected a dataset, got a group")
        if item.data is None:
            raise WeightsError(f"the data is {item.storage}: save the file again without that")
        kind, item_bytes = item.datatype.kind, item.datatype.item_bytes
        begin, end = item.data
        count = math.prod(item.shape)
        # NumPy cannot name a shape of more than 2 ** 63 elements, not even without any.
        sane = math.prod(max(length, 1) for length in item.shape) < 1 << 60
        if not sane or count * item_bytes != end - begin:
            raise WeightsError(
                f"the shape {list(item.shape)} needs {count * item_bytes} bytes of data, "
                f"got {end - begin}"
            )
        raw = self._data[begin:end]
        if kind == "bfloat16":
            return widen_bfloat16(np.frombuffer(raw, np.uint8)).reshape(item.shape)
        if kind != "float" or item_bytes not in (2, 4, 8):
            raise WeightsError(f"expected floats of 2, 4 or 8 bytes, got {kind} of {item_bytes}")
        values = np.frombuffer(raw, f"{item.datatype.order}f{item_bytes}").reshape(item.shape)
        # Beyond float32's range: infinite, which the core refuses with the tensor's name.
        with np.errstate(over="ignore", invalid="ignore"):
            return values.astype(np.float16 if item_bytes == 2 else np.float32, copy=False)

    # -- Numbers -------------------------------------------------------------------------------

    def _unpack(self, form: str, offset: int) -> tuple[int, ...]:
        """Read little-endian numbers, counting what was read."""
        self._items += 1
        if self._items > MAX_ITEMS:
            raise WeightsError("the file has more parts than any network: it is damaged")
        size = struct.calcsize(f"<{form}")
        if offset + size > len(self._data):
            raise WeightsError(f"the file ends before byte {offset + size}, which it refers to")
        return struct.unpack_from(f"<{form}", self._data, offset)

    def _number(self, form: str, offset: int) -> int:
        return self._unpack(form, offset)[0]

    def _bytes(self, begin: int, length: int) -> bytes:
        if begin + length > len(self._data):
            raise WeightsError(f"the file ends before byte {begin + length}, which it refers to")
        return bytes(self._data[begin : begin + length])

    def _text(self, raw: bytes) -> str:
        """A name or an attribute, up to its first zero byte; all of them fit in the file once."""
        self._text_bytes += len(raw)
        if self._text_bytes > len(self._data):
            raise WeightsError("the file's names and texts overlap: it is damaged")
        return raw.partition(b"\0")[0].decode("utf-8", "replace")

    def _expect(self, signature: bytes, offset: int) -> None:
        found = self._bytes(offset, len(signature))
        if found != signature:
            raise WeightsError(f"expected {signature!r} at byte {offset}, got {found!r}")

    # -- Structure -----------------------------------------------------------------------------

    def _superblock(self) -> int:
        """The address of the root group's header (II.A)."""
        self._expect(SIGNATURE, 0)
        version = self._number("B", 8)
        if version in (0, 1):
            sizes = self._unpack("BB", 13)
            base = 24 if version == 0 else 28
            root = base + 4 * 8 + 8
        elif version in (2, 3):
            sizes = self._unpack("BB", 9)
            base = 12
            root = base + 3 * 8
        else:
            raise WeightsError(f"expected an HDF5 superblock of version 0 to 3, got {version}")
        if sizes != (8, 8):
            raise WeightsError(f"expected HDF5 addresses and lengths of 8 bytes, got {sizes}")
        if self._number("Q", base) != 0:
            raise WeightsError("expected an HDF5 file that starts at its first byte")
        return self._number("Q", root)

    def _object(self, address: int) -> Object:
        """Read a group's or dataset's header with all of its messages."""
        item = Object(address)
        for kind, begin, end in self._messages(address):
            if kind == DATASPACE:
                item.shape = self._dataspace(begin)[0]
            elif kind == DATATYPE:
                item.datatype = self._datatype(begin)
            elif kind == LAYOUT:
                self._layout(begin, item)
            elif kind in (FILTERS, EXTERNAL_FILES):
                item.storage = "compressed" if kind == FILTERS else "in another file"
            elif kind == ATTRIBUTE:
                self._attribute(begin, end, item)
            elif kind == SYMBOL_TABLE:
                tree, heap = self._unpack("QQ", begin)
                self._symbol_table(tree, heap, item)
            elif kind == LINK:
                self._link(begin, item)
            elif kind == LINK_INFO:
                self._link_info(begin)
        if item.storage:
            item.data = None
        return item

    def _messages(self, address: int) -> Iterator[tuple[int, int, int]]:
        """Each message of an object header: its type and where its bytes lie (IV.A.1)."""
        if self._bytes(address, 4) == b"OHDR":
            blocks, head = [self._first_block(address)], "BHB"
            # Messages carry the order in which they were made where bit 2 says so.
            head_bytes = 4 + (2 if self._number("B", address + 5) & 4 else 0)
        else:
            version, _, _, _, length = self._unpack("BBHII", address)
            if version != 1:
                raise WeightsError(f"expected an HDF5 object header at byte {address}")
            blocks, head, head_bytes = [(address + 16, address + 16 + length)], "HHB", 8
        for begin, end in blocks:
            while begin + head_bytes <= end:
                kind, length, flags = self._unpack(head, begin)
                begin += head_bytes
                if begin + length > end:
                    raise WeightsError(f"a message at byte {begin} is longer than its header")
                if kind == CONTINUATION:
                    blocks.append(self._continuation(begin, newer=head_bytes < 8))
                elif not flags & 2:  # bit 1: the message lies elsewhere, and Keras shares none
                    yield kind, begin, begin + length
                begin += length

    def _first_block(self, address: int) -> Span:
        """Where the messages of a header of version 2 begin and end (IV.A.1.b)."""
        flags = self._number("B", address + 5)
        begin = address + 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
        width = flags & 3
        length = self._number("BHIQ"[width], begin)
        begin += 1 << width
        return begin, begin + length

    def _continuation(self, begin: int, *, newer: bool) -> Span:
        """Where a header goes on; in version 2 between a signature and a checksum."""
        address, length = self._unpack("QQ", begin)
        if newer:
            self._expect(b"OCHK", address)
            return address + 4, address + length - 4
        return address, address + length

    def _symbol_table(self, tree: int, heap: int, group: Object) -> None:
        """Add the members of a group that is a tree of symbol tables (III.A.1, III.B, III.D)."""
        self._expect(b"HEAP", heap)
        names_bytes, _, names = self._unpack("QQQ", heap + 8)
        seen = {tree}
        waiting = [tree]
        while waiting:
            node = waiting.pop()
            if self._bytes(node, 4) == b"TREE":
                kind, _, count = self._unpack("BBH", node + 4)
                if kind != 0:
                    raise WeightsError(f"expected a group's tree at byte {node}, got kind {kind}")
                # Keys and children take turns: skip the first key, then one after each child.
                children = self._unpack(f"{2 * count}Q", node + 24 + 8)[::2]
                waiting += [child for child in children if child not in seen]
                seen.update(children)
                continue
            self._expect(b"SNOD", node)
            for index in range(self._number("H", node + 6)):
                name, header, cached = self._unpack("QQI", node + 8 + 40 * index)
                if name >= names_bytes:
                    raise WeightsError(f"a name lies outside its heap at byte {heap}")
                if cached != 2:  # 2: a link by name, which could lead anywhere
                    group.links[self._name(names + name, names + names_bytes)] = header

    def _name(self, begin: int, end: int) -> str:
        """A name that ends with a zero byte, before `end`."""
        name, zero, _ = self._bytes(begin, min(end, begin + 1024) - begin).partition(b"\0")
        if not zero:
            raise WeightsError(f"expected a name of at most 1023 bytes at byte {begin}")
        return self._text(name)

    def _link(self, begin: int, group: Object) -> None:
        """Add a member that is a message of the group's own header (IV.A.2.g)."""
        version, flags = self._unpack("BB", begin)
        if version != 1:
            raise WeightsError(f"expected a link of version 1 at byte {begin}, got {version}")
        begin += 2
        if flags & 8 and self._number("B", begin) != 0:
            return  # not a hard link: it could lead to another file
        begin += (1 if flags & 8 else 0) + (8 if flags & 4 else 0) + (1 if flags & 0x10 else 0)
        length = self._number("BHIQ"[flags & 3], begin)
        begin += 1 << (flags & 3)
        name = self._text(self._bytes(begin, length))
        group.links[name] = self._number("Q", begin + length)

    def _link_info(self, begin: int) -> None:
        """Refuse a group whose members lie in a fractal heap (IV.A.2.c)."""
        flags = self._number("B", begin + 1)
        if self._number("Q", begin + 2 + (8 if flags & 1 else 0)) != UNDEFINED:
            raise WeightsError(
                "a group has its members in a fractal heap (HDF5's libver='latest'): "
                "save the model again with Keras"
            )

    # -- Data and attributes -------------------------------------------------------------------

    def _dataspace(self, begin: int) -> tuple[tuple[int, ...] | None, int]:
        """The dimensions, None for a null space, and where they end (IV.A.2.b)."""
        version, rank, _, kind = self._unpack("BBBB", begin)
        if version not in (1, 2) or rank > 32:
            raise WeightsError(f"expected an HDF5 dataspace at byte {begin}")
        begin += 8 if version == 1 else 4
        shape = self._unpack(f"{rank}Q", begin)
        return None if version == 2 and kind == 2 else shape, begin + 8 * rank

    def _datatype(self, begin: int) -> Datatype:
        """The type of a dataset's or attribute's elements (IV.A.2.d)."""
        class_and_version, bits, _, _, size = self._unpack("BBBBI", begin)
        kind = class_and_version & 15
        order = ">" if bits & 1 else "<"
        if kind == 1:
            _, _, _, exponent_bits = self._unpack("HHBB", begin + 8)
            expected = {2: 5, 4: 8, 8: 11}.get(size)
            return Datatype("float" if exponent_bits == expected else "other", size, order)
        if kind == 3:
            return Datatype("text", size)
        if kind == 5 and size == 2:
            return Datatype("bfloat16", size)  # h5py stores it as opaque pairs of bytes
        if kind == 9:
            return Datatype("text in heap" if bits & 15 == 1 else "other", size)
        return Datatype("other", size)

    def _layout(self, begin: int, item: Object) -> None:
        """Where a dataset's elements lie (IV.A.2.i)."""
        version, kind = self._unpack("BB", begin)
        if item.storage:
            return  # a filter's message came first, and says more
        if version not in (3, 4):
            item.storage = "in a layout from before HDF5 1.6"
        elif kind == 0:
            length = self._number("H", begin + 2)
            item.data = (begin + 4, begin + 4 + length)
        elif kind == 1:
            address, length = self._unpack("QQ", begin + 2)
            # Nothing is allocated for data that was never written, or that has no elements.
            item.data = (0, 0) if address == UNDEFINED else (address, address + length)
        else:
            item.storage = "in chunks" if kind == 2 else "made of other datasets"
        if item.data is not None and item.data[1] > len(self._data):
            raise WeightsError(f"the file ends before byte {item.data[1]}, where data should lie")

    def _attribute(self, begin: int, end: int, item: Object) -> None:
        """Keep an attribute that is one string (IV.A.2.m)."""
        version, flags, name_bytes, type_bytes, space_bytes = self._unpack("BBHHH", begin)
        if version not in (1, 2, 3):
            raise WeightsError(f"expected an attribute at byte {begin}, got version {version}")
        if version > 1 and flags:
            return  # its type is stored elsewhere: Keras writes none such
        name_at = begin + (9 if version == 3 else 8)

        def padded(length: int) -> int:
            return -(-length // 8) * 8 if version == 1 else length

        type_at = name_at + padded(name_bytes)
        space_at = type_at + padded(type_bytes)
        value_at = space_at + padded(space_bytes)
        if value_at > end:
            raise WeightsError(f"an attribute at byte {begin} is longer than its message")
        if self._dataspace(space_at)[0] != ():
            return
        datatype = self._datatype(type_at)
        name = self._text(self._bytes(name_at, name_bytes))
        if datatype.kind == "text":
            text = self._bytes(value_at, datatype.item_bytes)
        elif datatype.kind == "text in heap":
            text = self._heap_object(*self._unpack("IQI", value_at))
        else:
            return
        item.texts[name] = self._text(text)

    def _heap_object(self, length: int, heap: int, index: int) -> bytes:
        """A string of variable length, which lies in a global heap (III.E)."""
        if length == 0:
            return b""
        self._expect(b"GCOL", heap)
        end = heap + self._number("Q", heap + 8)
        begin = heap + 16
        while begin + 16 <= end:
            found, _, _, size = self._unpack("HHIQ", begin)
            if found == index:
                return self._bytes(begin + 16, min(length, size))
            if found == 0:
                break
            begin += 16 + -(-size // 8) * 8
        raise WeightsError(f"the heap at byte {heap} has no object {index}")

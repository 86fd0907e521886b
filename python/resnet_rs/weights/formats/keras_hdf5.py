"""The part of HDF5 that Keras writes: pyfive reads the headers, and arrays are read one by one.

Files come from strangers. The HDF5 library hangs or crashes on some damaged ones, and pyfive's
high-level classes allocate whatever an attribute or a compressed chunk states. So only pyfive's
parser of object headers is used, on a file that counts what is read of it, and every size is
checked here against the file's before an array is made.

Contiguous and compact datasets of floats are read, and attributes that are one string. Chunked,
compressed, external and virtual data are refused. Sections of the "HDF5 File Format
Specification", version 3.0, are cited by their numbers.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..._core import WeightsError
from .input_file import Part, Source, Unpacked
from .libraries import library_errors
from .safetensors_file import widen_bfloat16

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_EXPECTED = "no HDF5 file of a known kind"
_UNDEFINED = (1 << 64) - 1
"""The address of what does not exist."""

_MAX_READS = 400_000
"""Pieces that are read of a file."""
_HEADER_BYTES = 1 << 18
"""Bytes of one object's header: pyfive makes an object of every four of them."""
_CONTENT_BYTES = 4 << 20
"""Bytes of one object's links and texts; the longest is a model's description."""

_EXPONENT_BITS = {2: 5, 4: 8, 8: 11}
"""Of IEEE's floats, by their bytes; bfloat16 has 8."""


@dataclass
class Object:
    """A group or a dataset.

    Attributes:
        links: of a group, its members' names and addresses.
        texts: its attributes that are one string.
        shape: of a dataset, its dimensions; None for a group, or if there are no elements.
        dtype: of a dataset's floats; a void type of two bytes for bfloat16, None for any other.
        data: of a dataset, the place of its elements; None if they are stored in another way.
        storage: how a dataset without `data` is stored, in words.
    """

    links: dict[str, int] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    shape: tuple[int, ...] | None = None
    dtype: np.dtype[Any] | None = None
    data: Part | None = None
    storage: str = ""

    @property
    def stored_bytes(self) -> int:
        """The bytes of a dataset's elements in the file; 0 if `data` is None."""
        return 0 if self.data is None else len(self.data)


class Hdf5:
    """An HDF5 file.

    Args:
        data: the whole file.

    Raises:
        WeightsError: it is no HDF5 file, or one of a kind that is not read.
    """

    def __init__(self, data: Source) -> None:
        # Here, not above: Keras files are an extra, which `read_keras` asks for.
        from pyfive import dataobjects
        from pyfive.misc_low_level import SuperBlock

        self._pyfive = dataobjects

        self._data = data
        self._file = _CountedFile(data)
        with library_errors(_EXPECTED):
            self._root: int = SuperBlock(self._file, 0).offset_to_dataobjects

    def __len__(self) -> int:
        """Count the file's bytes."""
        return len(self._data)

    def walk(self) -> Iterator[tuple[tuple[str, ...], Object]]:
        """Yield every object with its path from the root, each once, groups before members.

        Raises:
            WeightsError: a part of the file points outside it or is malformed.
        """
        seen = {self._root}
        waiting: list[tuple[tuple[str, ...], int]] = [((), self._root)]
        while waiting:
            path, address = waiting.pop()
            with library_errors(_EXPECTED):
                item = self._object(address)
            yield path, item
            for name, target in reversed(item.links.items()):
                if target not in seen:
                    seen.add(target)
                    waiting.append(((*path, name), target))

    def array(self, item: Object) -> NDArray[np.floating]:
        """Give a dataset's elements as float32, or as the float16 that they are.

        Raises:
            WeightsError: they are not floats, or not stored as one block of the right length.
        """
        if item.shape is None or item.dtype is None:
            raise WeightsError("expected a dataset of floats of 2, 4 or 8 bytes")
        if item.data is None:
            raise WeightsError(f"the data is {item.storage}: save the file again without that")
        needed = math.prod(item.shape) * item.dtype.itemsize
        # NumPy cannot name a shape of more than 2 ** 63 elements, not even without any.
        sane = math.prod(max(length, 1) for length in item.shape) < 1 << 60
        if not sane or needed != len(item.data):
            raise WeightsError(
                f"the shape {list(item.shape)} needs {needed} bytes of data, got {len(item.data)}"
            )
        stored = np.frombuffer(item.data.whole(), np.uint8)
        if item.dtype.kind == "V":
            return widen_bfloat16(stored).reshape(item.shape)
        values = stored.view(item.dtype).reshape(item.shape)
        # Beyond float32's range: infinite, which the core refuses with the tensor's name.
        with np.errstate(over="ignore", invalid="ignore"):
            return values.astype(np.float16 if item.dtype.itemsize == 2 else np.float32, copy=False)

    def _object(self, address: int) -> Object:
        """Read a group's or dataset's header."""
        parser = self._pyfive
        self._file.allow(_HEADER_BYTES)
        header = parser.DataObjects(self._file, address)
        self._file.allow(_CONTENT_BYTES)
        self._refuse_heaps(header)
        header.msgs = [message for message in header.msgs if not self._leads_out(header, message)]
        # A link that is no address is a soft one, by name.
        links = {name: to for name, to in header.iter_links() if isinstance(to, int)}
        item = Object(links=links, texts=self._texts(header))
        if header.is_dataset and header.find_msg_type(parser.DATATYPE_MSG_TYPE):
            item.shape = header.shape
            item.dtype = self._float_type(header)
            self._find_data(header, item)
        return item

    def _leads_out(self, header: Any, message: Any) -> bool:
        """Report whether a message is a link to another file, or of another kind (IV.A.2.g)."""
        place = message["offset_to_message"]
        return bool(
            message["type"] == self._pyfive.LINK_MSG_TYPE
            and header.msg_data[place + 1] & 8
            and header.msg_data[place + 2] > 1
        )

    def _refuse_heaps(self, header: Any) -> None:
        """Refuse a group whose members lie in a fractal heap (IV.A.2.c).

        Such a heap states its size as a power of two, and pyfive computes with it.
        """
        for message in header.find_msg_type(self._pyfive.LINK_INFO_MSG_TYPE):
            place = message["offset_to_message"]
            heap_at = place + 2 + (8 if header.msg_data[place + 1] & 1 else 0)
            if struct.unpack_from("<Q", header.msg_data, heap_at) != (_UNDEFINED,):
                raise WeightsError(
                    "a group has its members in a fractal heap (HDF5's libver='latest'): "
                    "save the model again with Keras"
                )

    def _texts(self, header: Any) -> dict[str, str]:
        """Read the attributes that are one string: pyfive allocates what any other one states."""
        texts = {}
        for message in header.find_msg_type(self._pyfive.ATTRIBUTE_MSG_TYPE):
            place = message["offset_to_message"]
            # IV.A.2.m: in version 1 each part is padded to a multiple of 8 bytes.
            version, _, *sizes = struct.unpack_from("<BBHHH", header.msg_data, place)
            name_bytes, type_bytes, _ = (-(-n // 8) * 8 if version == 1 else n for n in sizes)
            type_at = place + (9 if version == 3 else 8) + name_bytes
            kind, bits = header.msg_data[type_at : type_at + 2]
            is_text = kind & 15 == 3 or (kind & 15 == 9 and bits & 15 == 1)
            shape, _ = self._pyfive.determine_data_shape(header.msg_data, type_at + type_bytes)
            if is_text and shape == ():
                name, value = header.unpack_attribute(place)
                if isinstance(value, bytes):
                    texts[name] = value.partition(b"\0")[0].decode("utf-8", "replace")
        return texts

    def _float_type(self, header: Any) -> np.dtype[Any] | None:
        """Give the type of a dataset's elements if they are floats that NumPy has, or bfloat16."""
        (message,) = header.find_msg_type(self._pyfive.DATATYPE_MSG_TYPE)
        place = message["offset_to_message"]
        # IV.A.2.d. pyfive takes any float of 2 bytes for a float16.
        kind, _, _, _, size = struct.unpack_from("<BBBBI", header.msg_data, place)
        if kind & 15 == 5 and size == 2:
            return np.dtype("V2")  # h5py stores bfloat16 as opaque pairs of bytes
        if kind & 15 != 1 or header.msg_data[place + 13] != _EXPONENT_BITS.get(size):
            return None
        dtype: np.dtype[Any] = header.ptype.dtype
        return dtype

    def _find_data(self, header: Any, item: Object) -> None:
        """Find where a dataset's elements lie (IV.A.2.i)."""
        _, layout, place = header.get_id_storage_params()
        if header.find_msg_type(self._pyfive.DATA_STORAGE_FILTER_PIPELINE_MSG_TYPE):
            item.storage = "compressed"
        elif header.find_msg_type(self._pyfive.EXTERNAL_DATA_FILES_MSG_TYPE):
            item.storage = "in another file"
        elif layout == 0:
            (length,) = struct.unpack_from("<H", header.msg_data, place)
            item.data = Part(Unpacked(header.msg_data), place + 2, place + 2 + length)
        elif layout == 1:
            begin, length = struct.unpack_from("<QQ", header.msg_data, place)
            # Nothing is allocated for data that was never written, or that has no elements.
            begin, length = (0, 0) if begin == _UNDEFINED else (begin, length)
            item.data = Part(self._data, begin, begin + length)
        else:
            item.storage = "in chunks" if layout == 2 else "made of other datasets"


class _CountedFile:
    """A file for pyfive that ends all reading once it has been asked for too much.

    Trees, heaps and headers that lead back to themselves end in this way, and so do sizes that
    are damaged.
    """

    def __init__(self, data: Source) -> None:
        self._data = data
        self._place = 0
        self._reads_left = _MAX_READS
        self._bytes_left = _HEADER_BYTES

    def allow(self, size: int) -> None:
        """Allow `size` bytes to be read from here on."""
        self._bytes_left = size

    def seek(self, offset: int) -> None:
        """Go to a place, which may be anywhere."""
        self._place = offset

    def read(self, size: int) -> bytes:
        """Read exactly `size` bytes.

        Raises:
            WeightsError: they are not in the file, or more than is allowed.
        """
        begin, self._place = self._place, self._place + size
        self._reads_left -= 1
        self._bytes_left -= size
        if self._reads_left < 0 or self._bytes_left < 0:
            raise WeightsError("the file has more or larger parts than any network: it is damaged")
        if not 0 <= begin <= self._place <= len(self._data):
            raise WeightsError(f"the file ends before byte {self._place}, which it refers to")
        return self._data.read(begin, self._place)

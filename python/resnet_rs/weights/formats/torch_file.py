"""Files of `torch.save` (`.pth`, `.pt`, `.bin`), read without torch and without running anything.

There are two formats. Since torch 1.6 a file is a zip file: `NAME/data.pkl` is a pickle, and each
storage (a flat run of numbers that tensors are views of) is a member `NAME/data/KEY`, not
compressed. Before, and with `_use_new_zipfile_serialization=False` until today, a file is
five pickles (a magic number, the protocol's version, the machine's byte order and sizes, the
object, the storages' keys) and then each storage: eight bytes with its number of elements and the
elements.

A plain pickle (`.pkl`) with a dict of NumPy arrays is read too.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

from ..._core import WeightsError
from ..remarks import Note
from . import zip_members
from .checkpoint import RawCheckpoint
from .files import listed
from .input_file import InputFile, Source, reading
from .numpy_pickle import NUMPY_CALLS
from .pickle_machine import Global, Inert, PickleMachine
from .torch_budget import Budget
from .torch_state_dict import find_state_dict, holds_arrays
from .torch_tensor import (
    ITEM_BYTES,
    ArrayMaker,
    StorageRef,
    Storages,
    first_argument,
    rebuild_tensor,
    rebuild_tensor_of_dtype,
    storage_ref,
)

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001

SAVE_STATE_DICT = "save the state dict with torch.save(model.state_dict(), path)"

_PICKLES = tuple(bytes((0x80, protocol)) for protocol in range(2, 6))

_PROTOCOL_0 = b"(dp"

_COUNTER = "num_batches_tracked"
_TAR_MAGIC = b"ustar"
_TAR_MAGIC_PLACE = 257


def read_torch(path: Path, key: str | None = None) -> RawCheckpoint:
    """Read the state dict of a file of `torch.save`.

    Each storage is read once, and arrays are views of it where possible. Nothing else of the file
    (an optimizer, arguments) is read, and no code is run.

    Args:
        path: the file, in the zip or the legacy format.
        key: the key of the state dict in a checkpoint, such as `model_ema`; nested keys are
            joined by `/`. By default the usual keys are tried, `model` and `state_dict` first.

    Returns:
        The float tensors under the file's names, float16 or float32 (bfloat16 and float64 are
        converted), without integer tensors; and remarks on what was unwrapped and left out.

    Raises:
        FileNotFoundError: there is no such file.
        WeightsError: it is not such a file, or damaged, or holds no state dict under `key`, or
            asks for much more memory than twice its size, or somebody writes to it meanwhile.
    """
    with reading(path) as data:
        budget = Budget(len(data))
        content, storages = _load(data, budget)
        tensors, modules, remarks = find_state_dict(content, key, budget)
        integers = [name for name, tensor in tensors.items() if tensor.is_integer]
        others = [name for name in integers if not name.endswith(_COUNTER)]
        if others:
            words = f"left out tensors of integers: {listed(others)}"
            # Counters are harmless; weights are not: without fc a network gives embeddings.
            weights = any(name.endswith("weight") for name in others)
            remarks.append(words if weights else Note(words))
        floats = {name: tensor for name, tensor in tensors.items() if not tensor.is_integer}
        arrays = ArrayMaker(storages, budget).arrays(floats)
    return RawCheckpoint(arrays, remarks=tuple(remarks), modules=modules)


def _load(data: InputFile, budget: Budget) -> tuple[Any, Storages]:
    """The object that was saved, and the storages that its tensors point into."""
    head = data.read(0, 512)
    if head[:4] == zip_members.SIGNATURE:
        return _load_zip(data, budget)
    if head[_TAR_MAGIC_PLACE:].startswith(_TAR_MAGIC):
        raise WeightsError(
            "a tar file, the format of torch before 0.1.10: load it with torch.load and "
            f"{SAVE_STATE_DICT}"
        )
    return _load_legacy(data, budget)


def _machine(persistent: Any, budget: Budget) -> PickleMachine:
    plain = {
        ("torch._utils", "_rebuild_tensor"): rebuild_tensor,
        ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
        ("torch._utils", "_rebuild_tensor_v3"): rebuild_tensor_of_dtype,
        ("torch._utils", "_rebuild_parameter"): first_argument,
        ("torch._utils", "_rebuild_parameter_with_state"): first_argument,
        ("torch.nn.parameter", "Parameter"): first_argument,
        ("torch", "Size"): first_argument,
    }

    def rebuild_from_type(arguments: Any) -> Any:
        """A tensor of a class of its own, or with attributes: `(function, type, arguments, ..)`."""
        if len(arguments) < 3 or not isinstance(arguments[2], tuple):
            raise WeightsError("a tensor of another class without arguments")
        function = arguments[0]
        rebuild = plain.get(function.path) if isinstance(function, Global) else None
        name = f"{function.module}.{function.name}" if isinstance(function, Global) else ""
        return rebuild(arguments[2]) if rebuild else Inert(name)

    calls = {**plain, **NUMPY_CALLS, ("torch._tensor", "_rebuild_from_type_v2"): rebuild_from_type}
    return PickleMachine(calls, persistent, budget)


class _ZipStorages:
    """Storages that are members of a zip file."""

    def __init__(
        self, data: InputFile, members: dict[str, zipfile.ZipInfo], prefix: str, budget: Budget
    ) -> None:
        self._data = data
        self._members = members
        self._prefix = prefix
        self._budget = budget
        self._contents: dict[str, memoryview] = {}
        self.little_endian = self._byte_order() == b"little"

    def _byte_order(self) -> bytes:
        """The byte order of the writer's machine; files before torch 2.1 are little-endian."""
        if f"{self._prefix}byteorder" not in self._members:
            return b"little"
        order = bytes(self.member("byteorder")[:16])
        if order not in (b"little", b"big"):
            raise WeightsError(f"byteorder must be little or big, got {order!r}")
        return order

    def member(self, name: str) -> memoryview:
        """The content of a member, checked against its checksum once."""
        path = self._prefix + name
        if path not in self._contents:
            member = self._members.get(path)
            if member is None:
                raise WeightsError(f"no member {path[:80]} in the zip file")
            self._spend(member)
            self._contents[path] = zip_members.content(self._data, member)
        return self._contents[path]

    def pickle(self) -> Source:
        """The pickle of the object, whose place in the file is taken by nothing else."""
        member = self._members[f"{self._prefix}data.pkl"]
        self._spend(member)
        return zip_members.source(self._data, member)

    def _spend(self, member: zipfile.ZipInfo) -> None:
        if not zip_members.is_stored(member):
            self._budget.spend(member.file_size)

    def content(self, storage: StorageRef) -> memoryview:
        content = self.member(f"data/{storage.key}")
        if len(content) != storage.size * ITEM_BYTES[storage.kind]:
            raise WeightsError(
                f"storage {storage.key[:80]}: expected {storage.size} numbers ({storage.kind}), "
                f"got {len(content)} bytes"
            )
        return content

    def drop(self, storage: StorageRef) -> None:
        path = f"{self._prefix}data/{storage.key}"
        if self._contents.pop(path, None) and zip_members.is_stored(self._members[path]):
            self._data.drop(*zip_members.locate(self._data, self._members[path]))


def _load_zip(data: InputFile, budget: Budget) -> tuple[Any, Storages]:
    members = zip_members.read_members(data)
    # The folder is called after the file; some archives have a data.pkl deeper down as well.
    pickles = [name for name in members if name.count("/") <= 1 and _last_part(name) == "data.pkl"]
    prefix = pickles[0].removesuffix("data.pkl") if len(pickles) == 1 else ""
    if any(name.startswith((f"{prefix}code/", f"{prefix}constants.pkl")) for name in members):
        raise WeightsError(f"a TorchScript archive, which is a program: {SAVE_STATE_DICT}")
    if len(pickles) != 1:
        raise WeightsError(
            f"a zip file that torch.save did not write: it has {len(pickles)} members data.pkl"
        )
    storages = _ZipStorages(data, members, prefix, budget)
    pickle = storages.pickle()
    content, _ = _machine(storage_ref, budget).run(pickle, 0, len(pickle))
    return content, storages


def _last_part(name: str) -> str:
    return name.rpartition("/")[2]


class _LegacyStorages:
    """Storages that follow the pickles; their bytes are little-endian on every machine."""

    little_endian = True

    def __init__(self, data: InputFile, places: dict[str, tuple[int, int]]) -> None:
        self._data = data
        self._places = places

    def content(self, storage: StorageRef) -> memoryview:
        if storage.key not in self._places:
            raise WeightsError(f"no storage {storage.key[:80]} in the file")
        return self._data.take(*self._places[storage.key])

    def drop(self, storage: StorageRef) -> None:
        if storage.key in self._places:
            self._data.drop(*self._places[storage.key])


def _load_legacy(data: InputFile, budget: Budget) -> tuple[Any, Storages]:
    seen: dict[str, StorageRef] = {}

    def persistent(identity: Any) -> Any:
        storage = storage_ref(identity)
        if isinstance(storage, StorageRef):
            first = seen.setdefault(storage.key, storage)
            if (first.kind, first.size) != (storage.kind, storage.size):
                raise WeightsError(f"storage {storage.key[:80]} has two sizes")
        return storage

    machine = _machine(persistent, budget)
    place = 0
    try:
        magic, place = machine.run(data, 0, len(data))
    except WeightsError:
        if data.read(0, 2) in _PICKLES:
            raise
        magic = None
    if magic != LEGACY_MAGIC:
        if holds_arrays(magic):
            return magic, _LegacyStorages(data, {})
        if data.read(0, 3) == _PROTOCOL_0:
            raise WeightsError(
                "a pickle of protocol 0, whose numbers are text: write it again with "
                "pickle.dump(content, file, protocol=4)"
            )
        raise WeightsError(
            f"not a file of torch.save: neither a zip file nor torch's legacy format "
            f"(it starts with {data.read(0, 8)!r})"
        )
    protocol, place = machine.run(data, place, len(data))
    if protocol != LEGACY_PROTOCOL:
        raise WeightsError("a legacy file of another protocol than 1001")
    _, place = machine.run(data, place, len(data))
    content, place = machine.run(data, place, len(data))
    keys, place = machine.run(data, place, len(data))
    if not isinstance(keys, list):
        raise WeightsError("a damaged legacy file: no list of storages")
    places: dict[str, tuple[int, int]] = {}
    for key in keys:
        storage = seen.get(key) if isinstance(key, str) else None
        if storage is None or storage.key in places:
            raise WeightsError("a damaged legacy file: a storage that no tensor, or two, name")
        size = int.from_bytes(data.read(place, place + 8), "little")
        begin = place + 8
        place = begin + size * ITEM_BYTES[storage.kind]
        if size != storage.size or place > len(data):
            raise WeightsError(
                f"storage {storage.key[:80]}: expected {storage.size} numbers ({storage.kind}), "
                f"got {size}, of which {len(data) - begin} bytes are there"
            )
        places[storage.key] = begin, place
    missing = [key for key in seen if key not in places]
    if missing:
        raise WeightsError(f"a damaged legacy file: no storage {listed(missing)}")
    return content, _LegacyStorages(data, places)

"""Pickles and torch files that no honest program writes, for the tests of the readers."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import torch

from resnet_rs.weights.formats.torch_file import LEGACY_MAGIC, LEGACY_PROTOCOL


def zip_file(path: Path, pickled: bytes, storages: dict[str, bytes] | None = None) -> Path:
    """A zip file as `torch.save` lays it out, with a pickle and storages of one's own."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/byteorder", b"little")
        archive.writestr("archive/version", b"3\n")
        for key, content in (storages or {}).items():
            archive.writestr(f"archive/data/{key}", content)
    return path


def legacy_file(path: Path, pickled: bytes, storages: dict[str, bytes] | None = None) -> Path:
    """A legacy file with a pickle and storages (of 4-byte numbers) of one's own."""
    storages = storages or {}
    head = (LEGACY_MAGIC, LEGACY_PROTOCOL, {"little_endian": True})
    parts = [pickle.dumps(value, protocol=2) for value in head]
    parts += [pickled, pickle.dumps(list(storages), protocol=2)]
    for content in storages.values():
        parts.append(struct.pack("<q", len(content) // 4) + content)
    path.write_bytes(b"".join(parts))
    return path


class _Ref:
    """Pickled as a persistent id."""

    def __init__(self, identity: Any) -> None:
        self.identity = identity


class _Call:
    """Pickled as a call of a function that need not exist."""

    def __init__(self, module: str, name: str, *arguments: Any) -> None:
        self.module, self.name, self.arguments = module, name, arguments


class _Name:
    """Pickled as a global."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class _Pickler(pickle._Pickler):  # type: ignore[misc]
    """The pickler in Python, which can be made to write any global."""

    def persistent_id(self, value: Any) -> Any:
        return value.identity if isinstance(value, _Ref) else None

    def save(self, value: Any, save_persistent_id: bool = True) -> None:
        if isinstance(value, _Name):
            self.write(f"c{value.module}\n{value.name}\n".encode())
        elif isinstance(value, _Call):
            self.save(_Name(value.module, value.name))
            self.save(value.arguments)
            self.write(pickle.REDUCE)
        else:
            super().save(value, save_persistent_id)


def dumps(value: Any) -> bytes:
    """Pickle plain values, and what `tensor`, `call` and `name` give, by protocol 2."""
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=2).dump(value)
    return buffer.getvalue()


def name(module: str, attribute: str) -> Any:
    """A global."""
    return _Name(module, attribute)


def call(module: str, function: str, *arguments: Any) -> Any:
    """A call that the file asks for."""
    return _Call(module, function, *arguments)


def storage(key: Any = "0", size: Any = 6, kind: str = "FloatStorage", *more: Any) -> Any:
    """A reference to a storage; `more` is the legacy format's view."""
    return _Ref(("storage", _Name("torch", kind), key, "cpu", size, *more))


def tensor(shape: Any = (2, 3), strides: Any = (3, 1), offset: Any = 0, source: Any = None) -> Any:
    """A tensor of a storage, as `torch.save` describes it."""
    source = storage() if source is None else source
    hooks = _Call("collections", "OrderedDict")
    return _Call("torch._utils", "_rebuild_tensor_v2", source, offset, shape, strides, False, hooks)


def saved(content: Any, *, legacy: bool = False) -> bytes:
    """The bytes that `torch.save` writes."""
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def repacked(data: bytes, pickled: bytes, *, compress: bool = False) -> bytes:
    """A zip file of torch with another pickle, its checksums right again."""
    buffer = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w", method) as new:
        for member in old.infolist():
            is_pickle = member.filename.endswith("data.pkl")
            new.writestr(member.filename, pickled if is_pickle else old.read(member))
    return buffer.getvalue()


def pickle_of(data: bytes) -> bytes:
    """The pickle inside a zip file of torch."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith("data.pkl")]
        return archive.read(name)

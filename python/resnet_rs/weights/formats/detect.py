"""Detects the format of a file or directory by its content, and calls the format's reader."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ..._core import WeightsError
from ..remarks import Note
from ..strangers import HEAD_BYTES, meaning
from .checkpoint import RawCheckpoint
from .directories import INDEX_SUFFIX, TENSOR_FILES, describe, joined, listed_shards, shard_files
from .files import require_regular
from .input_file import InputFile

SUPPORTED = (
    "supported are .safetensors; .pth, .pt and .bin of torch; .h5 and .keras of Keras; .onnx; and "
    "directories of resnet_rs, of transformers' save_pretrained, of timm's save_for_hf, and of "
    "text files with a number a line"
)

# The longest header that the safetensors format allows.
_MAX_SAFETENSORS_HEADER_BYTES = 100_000_000

_ZIP = b"PK\x03\x04"
_HDF5 = b"\x89HDF\r\n\x1a\n"
_PICKLES = tuple(bytes((0x80, protocol)) for protocol in range(2, 6))

_DIRECTORIES = (
    ("saved_model.pb", "a TensorFlow SavedModel: save the Keras model as .h5 or .keras"),
    ("Manifest.json", "a Core ML package: export the network to ONNX where it was trained"),
    ("checkpoint", "a TensorFlow checkpoint: save the Keras model as .h5 or .keras"),
    ("_CHECKPOINT_METADATA", "a checkpoint of JAX: export the network to ONNX"),
    (".metadata", "a distributed checkpoint of torch: join it with dcp_to_torch_save"),
)
"""Directories that users pass by mistake, by a file that they have."""

_BY_SUFFIX = {
    ".safetensors": "safetensors",
    ".pth": "torch",
    ".pt": "torch",
    ".bin": "torch",
    ".ckpt": "torch",
    ".tar": "torch",
    ".pkl": "torch",
    ".h5": "keras",
    ".hdf5": "keras",
    ".keras": "keras",
    ".onnx": "onnx",
}


def read_raw(
    path: Path, key: str | None, variant: Mapping[str, Any] | None = None
) -> tuple[RawCheckpoint, bool]:
    """Read a file or directory of any supported format.

    Args:
        path: a file or directory.
        key: which of several networks, None for the usual one.
        variant: the caller's override, for readers that check that the network is complete.

    Returns:
        The reader's result, and whether it used `key`; if not, `key` is a prefix of names.

    Raises:
        FileNotFoundError: there is no such file or directory.
        WeightsError: it is of no supported format, or malformed.
    """
    if path.is_dir():
        return _read_directory(path, key, own_blocks="blocks" in (variant or {}))
    require_regular(path)
    if path.name.endswith(INDEX_SUFFIX):
        raw = _read_shards(listed_shards(path))
        return joined(raw, describe(path.parent)), False
    kind = kind_of(path)
    raw, key_used = _read_file(path, kind, key)
    if kind == "safetensors" or path.name in TENSOR_FILES:
        return joined(raw, describe(path.parent)), key_used
    return joined(raw, _published(path)), key_used


def _published(path: Path) -> RawCheckpoint | None:
    """Recognise a file that torchvision publishes, by its name and its SHA-256."""
    from ..files import digest_of
    from ..torchvision_weights import TORCHVISION_WEIGHTS

    for weights in TORCHVISION_WEIGHTS:
        if path.name == weights.file and digest_of(path).startswith(weights.sha256_prefix):
            config = {
                "architecture": weights.architecture,
                "preprocessing": weights.preprocessing(),
                "source": {"weights": f"torchvision {weights.full_name}"},
            }
            remark = Note(f"torchvision's {weights.full_name}, by its sha256")
            return RawCheckpoint({}, config, (remark,))
    return None


def kind_of(path: Path) -> str:
    """A file's format: `safetensors`, `torch`, `keras` or `onnx`.

    The content decides. The suffix counts only if the content is of no known format, so that the
    format's own reader can say what is wrong.

    Raises:
        OSError: the file cannot be read.
        WeightsError: it is of another kind.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if not head:
        raise WeightsError(f"{path}: the file is empty")
    kind = _kind_of_content(path, head)
    # Other projects' models in protocol buffers begin like one of ONNX.
    if kind is None or (kind == "onnx" and path.suffix.lower() != ".onnx"):
        if words := meaning(path, head):
            raise WeightsError(f"{path}: this is {words}; {SUPPORTED}")
        kind = kind or _BY_SUFFIX.get(path.suffix.lower())
    if kind is None:
        raise WeightsError(f"{path}: no weights that are known; {SUPPORTED}")
    return kind


def _kind_of_content(path: Path, head: bytes) -> str | None:
    if head.startswith(_ZIP):
        return _kind_of_zip(path)
    if head.startswith(_HDF5):
        return "keras"
    if head.startswith(_PICKLES):
        return "torch"
    if head[257:262] == b"ustar" and meaning(path, head) is None:
        return "torch"  # before version 0.1.10; the reader says so
    if len(head) > 8 and head[8:9] == b"{":
        (header_bytes,) = struct.unpack_from("<Q", head)
        if header_bytes <= _MAX_SAFETENSORS_HEADER_BYTES:
            return "safetensors"
    # A ModelProto begins with ir_version (field 1, a small varint), then has another field of
    # its own: producer's names (2, 3), domain (4), versions (5, 14), documentation (6), graph (7).
    if len(head) > 2 and head[0] == 0x08 and 0 < head[1] < 0x20:
        return "onnx" if head[2] in (0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42, 0x72) else None
    return None


def _kind_of_zip(path: Path) -> str:
    from .zip_members import read_members

    try:
        with InputFile(path) as file:
            names = list(read_members(file))
    except WeightsError:
        return _BY_SUFFIX.get(path.suffix.lower(), "torch")
    if any(name.endswith(".weights.h5") for name in names):
        return "keras"
    if any("exported_program" in name or name.endswith("archive_format") for name in names):
        raise WeightsError(
            f"{path}: this is a program of torch.export: save the state dict with "
            f"torch.save(model.state_dict(), path); {SUPPORTED}"
        )
    if not any(name.endswith(("data.pkl", "constants.pkl")) for name in names):
        if inside := next((n for n in names if n.lower().endswith(tuple(_BY_SUFFIX))), None):
            raise WeightsError(
                f"{path}: this is a zip archive around {inside[:200]!r}: unpack it, and pass that"
            )
        if all(name.endswith(".npy") for name in names):
            raise WeightsError(f"{path}: this is a NumPy archive (.npz); {SUPPORTED}")
        raise WeightsError(f"{path}: a zip archive, but not of torch or Keras; {SUPPORTED}")
    return "torch"


def _read_file(path: Path, kind: str, key: str | None) -> tuple[RawCheckpoint, bool]:
    """Read a file of a known format; also return whether `key` was used."""
    if kind == "safetensors":
        from .safetensors_file import read_safetensors

        return read_safetensors(path), False
    if kind == "keras":
        from .keras_file import read_keras

        return read_keras(path), False
    if kind == "onnx":
        from .onnx_file import read_onnx

        return read_onnx(path), False
    from .torch_file import read_torch

    if key is None:
        return read_torch(path), False
    try:
        return read_torch(path, key), True
    except WeightsError as error:
        # No key of the checkpoint's dict: it may be the prefix of tensors' names.
        raw = read_torch(path)
        prefix = key if key.endswith(".") else f"{key}."
        if not any(name.startswith(prefix) for name in raw.tensors):
            raise error from None
        return raw, False


def _read_shards(shards: list[Path]) -> RawCheckpoint:
    """Read the tensors of a network that is split over several files."""
    tensors: dict[str, NDArray[Any]] = {}
    for shard in shards:
        tensors.update(_read_file(shard, kind_of(shard), None)[0].tensors)
    return RawCheckpoint(tensors)


def _read_directory(path: Path, key: str | None, *, own_blocks: bool) -> tuple[RawCheckpoint, bool]:
    from .text_directory import is_text_directory, read_text_directory

    if is_text_directory(path):
        return read_text_directory(path, key, own_blocks=own_blocks), True
    described = describe(path)
    if shards := shard_files(path):
        return joined(_read_shards(shards), described), False
    for name in TENSOR_FILES:
        if (path / name).is_file():
            raw, key_used = _read_file(path / name, kind_of(path / name), key)
            return joined(raw, described), key_used
    if described is not None:
        raise WeightsError(f"{path}: expected {' or '.join(TENSOR_FILES)} beside config.json")
    for name, words in _DIRECTORIES:
        if (path / name).exists():
            raise WeightsError(f"{path}: this is {words}; {SUPPORTED}")
    if (path / "args.json").is_file() and (path / "best").is_dir():
        raise WeightsError(f"{path}: this is the directory of a training: pass {path / 'best'}")
    raise WeightsError(f"{path}: a directory without weights that are known; {SUPPORTED}")

"""Write a network as our own directory: `model.safetensors` and `config.json`."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import _core
from ..._core import WeightsError
from ...file_errors import names_file
from ..remarks import with_remarks
from .checkpoint import Checkpoint

TENSORS = "model.safetensors"
CONFIG = "config.json"

_DTYPES: dict[str, Any] = {"f32": np.float32, "f16": np.float16}

INT8 = "int8"
"""The storage of quantised tensors: int8 weights stay so, vectors are f32."""


def write_directory(
    checkpoint: Checkpoint,
    directory: str | os.PathLike[str],
    *,
    dtype: str = "f32",
    force: bool = False,
) -> None:
    """Write a checkpoint as a directory that `resnet_rs.load` loads, and load it once.

    The files are written aside, read back and compared, and only then moved into place: there is
    never half a network in `directory`.

    Args:
        checkpoint: what to write; its config should state the preprocessing.
        directory: the directory to write to; it is created if necessary.
        dtype: storage of convolution and fc weights, `f32` or `f16`; vectors are f32 always, for
            they are 0.3 % of the bytes, and a variance suffers in f16. `int8` for tensors that are
            quantised already.
        force: replace a network that is there.

    Raises:
        FileExistsError: the directory holds a network already, and `force` is not set.
        NotADirectoryError: it is a file.
        WeightsError: a weight is not finite, or too large for `dtype`.
        ValueError: no such dtype.
        OSError: it cannot be written.
    """
    if dtype not in (*_DTYPES, INT8):
        raise ValueError(f"dtype: expected {' or '.join(_DTYPES)}; got {dtype!r}")
    target = Path(directory)
    require_free(target, force=force)
    tensors = _stored(checkpoint, dtype)
    config = _config(checkpoint, dtype)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as name:
        staging = Path(name)
        with names_file(target / TENSORS, staging / TENSORS):
            _core.write_safetensors(str(staging / TENSORS), tensors, {"format": "pt"})
        text = json.dumps(config, indent=2, ensure_ascii=False)
        with names_file(target / CONFIG):
            (staging / CONFIG).write_text(text + "\n", encoding="utf-8")
        _read_back(staging, tensors)
        target.mkdir(exist_ok=True)
        for file in (TENSORS, CONFIG):
            os.replace(staging / file, target / file)


def require_free(target: Path, *, force: bool) -> None:
    """Check that a directory can take a network, before there is one.

    Raises:
        FileExistsError: the directory holds a network already, and `force` is not set.
        NotADirectoryError: it, or a directory above it, is a file.
        PermissionError: it cannot be written to.
    """
    if target.exists() and not target.is_dir():
        raise NotADirectoryError(f"{target} is a file: expected a directory to write to")
    existing = [name for name in (TENSORS, CONFIG) if (target / name).exists()]
    if existing and not force:
        raise FileExistsError(
            f"{target} holds {' and '.join(existing)} already: choose another directory, or force "
            "(--force) to replace them"
        )
    # Files are written beside the directory, then moved into it.
    above = next(path for path in target.absolute().parents if path.exists())
    if not above.is_dir():
        raise NotADirectoryError(f"{above} is a file: expected a directory, to make {target} in")
    if not os.access(above, os.W_OK):
        raise PermissionError(errno.EACCES, "cannot write there", str(above))


def _stored(checkpoint: Checkpoint, dtype: str) -> dict[str, NDArray[Any]]:
    """The tensors as they go to disk.

    Raises:
        WeightsError: one of them is not finite then.
    """
    stored = {}
    for name, tensor in checkpoint.tensors.items():
        kind: Any = np.float32
        if tensor.ndim > 1:
            kind = tensor.dtype if dtype == INT8 else _DTYPES[dtype]
        with np.errstate(over="ignore"):
            array = np.ascontiguousarray(tensor, dtype=kind)
        if not np.isfinite(array).all():
            largest = float(np.abs(tensor).max())
            raise WeightsError(
                f"{checkpoint.origin}: tensor {name}: not finite in {dtype} (largest value "
                f"{largest:g})"
            )
        stored[name] = array
    return stored


def _config(checkpoint: Checkpoint, dtype: str) -> dict[str, Any]:
    source = dict(checkpoint.config.get("source") or {})
    source.setdefault("file", os.path.basename(os.path.abspath(checkpoint.origin)))
    source = with_remarks(source, checkpoint.remarks)
    return {**checkpoint.config, "source": {**source, "dtype": dtype}}


def _read_back(staging: Path, tensors: Mapping[str, NDArray[Any]]) -> None:
    """Compare what was written with what should have been, and load it as everyone will."""
    from .safetensors_file import read_safetensors

    written = read_safetensors(staging / TENSORS, quantized=True).tensors
    if written.keys() != tensors.keys():
        raise WeightsError(f"{staging / TENSORS}: not the tensors that were written")
    for name, tensor in tensors.items():
        if not np.array_equal(written[name], tensor):
            raise WeightsError(f"{staging / TENSORS}: tensor {name} is not what was written")
    _core.Network(str(staging), threads=1)

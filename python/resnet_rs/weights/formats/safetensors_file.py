"""Reads `.safetensors` files: a JSON header, then the tensors' bytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import _core
from ..._core import WeightsError
from .checkpoint import RawCheckpoint
from .files import MAX_NAME_SHOWN
from .input_file import reading

BFLOAT16 = "BF16"
"""The one type that NumPy lacks; its bytes are read as whole numbers."""

FLOATS: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    BFLOAT16: np.dtype("<u2"),
    "F64": np.dtype("<f8"),
}
"""The types that are read, as they are stored."""

MOST_DIMENSIONS = 32
"""The most axes of a tensor that is read."""

NOT_FLOATS = frozenset({"BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64"})
"""Those of counters such as num_batches_tracked, and of masks: a forward does not need them."""


INT8 = "I8"
"""The type of quantised weights; other I8 tensors are left out."""


def is_quantized(names: Iterable[str]) -> bool:
    """Tell by the tensors' names if a file holds a network that resnet_rs has quantised."""
    return any(name.endswith(".weight_scale") for name in names)


def read_safetensors(path: Path, *, quantized: bool = False) -> RawCheckpoint:
    """Read every floating-point tensor of a file.

    F32 and F16 tensors are read-only; BF16 and F64 ones are converted.

    Args:
        path: the file.
        quantized: read int8 tensors too. Otherwise a file of quantised weights is refused.

    Raises:
        FileNotFoundError: there is no such file.
        WeightsError: the header does not fit the file, a tensor is of a type that is not read,
            or somebody writes to the file meanwhile.
    """
    tensors: dict[str, NDArray[Any]] = {}
    status = path.stat()
    index = _core.safetensors_index(str(path))
    if not quantized and is_quantized(index):
        raise WeightsError(
            f"{path}: expected f32 or f16 weights; found int8 ones, which resnet_rs.load takes as "
            "they are, in a directory with their config.json"
        )
    with reading(path) as file:
        file.require_same(status)
        # In the order in which they lie in the file, so that messages are the same every time.
        for name, (kind, shape, begin, end) in sorted(index.items(), key=lambda item: item[1][2:]):
            if kind in NOT_FLOATS and not (quantized and kind == INT8):
                continue
            if kind == INT8:
                tensors[name] = np.frombuffer(file.read(begin, end), np.int8).reshape(shape)
                continue
            require_float(kind, f"tensor {name[:MAX_NAME_SHOWN]}")
            require_rank(shape, f"tensor {name[:MAX_NAME_SHOWN]}")
            stored = np.frombuffer(file.read(begin, end), np.uint8)
            tensors[name] = floats(stored, kind).reshape(shape)
    return RawCheckpoint(tensors)


def require_float(kind: str, where: str) -> None:
    """Check that tensors of a type are read.

    Args:
        kind: the type in the file's words.
        where: the file and the tensor, for the message.

    Raises:
        WeightsError: they are not.
    """
    if kind not in FLOATS:
        *most, last = FLOATS
        raise WeightsError(f"{where}: expected {', '.join(most)} or {last}, found {kind}")


def require_rank(shape: Sequence[int], where: str) -> None:
    """Check that an array can have so many axes; no tensor of a network has more than four.

    Args:
        shape: the tensor's.
        where: the file and the tensor, for the message.

    Raises:
        WeightsError: it has too many.
    """
    if len(shape) > MOST_DIMENSIONS:
        raise WeightsError(f"{where}: expected {MOST_DIMENSIONS} axes at most, found {len(shape)}")


def floats(stored: NDArray[np.uint8], kind: str) -> NDArray[Any]:
    """A tensor's numbers from its bytes.

    Args:
        stored: the little-endian bytes, a whole number of elements.
        kind: one of `FLOATS`.

    Returns:
        `[elements]`, float32 or float16: a view of F32 and F16, others converted. An F64 that
        float32 cannot hold becomes infinite, which a network refuses.
    """
    if kind == BFLOAT16:
        return widen_bfloat16(stored)
    # A tensor need not start at a multiple of its element's size: copy it where not.
    array = np.require(np.asarray(stored).view(FLOATS[kind]), requirements="A")
    if kind == "F64":
        with np.errstate(over="ignore"):
            array = array.astype(np.float32)
    return array


def widen_bfloat16(stored: NDArray[np.uint8]) -> NDArray[np.float32]:
    """bfloat16 to float32: the same upper 16 bits, and zeros below.

    Args:
        stored: the little-endian bytes, two for each number.

    Returns:
        `[stored.size // 2]`.
    """
    bits = np.frombuffer(stored.tobytes(), dtype="<u2").astype(np.uint32)
    bits <<= 16
    return bits.view(np.float32)

"""`.safetensors`: a JSON header, then the tensors' bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .._core import WeightsError
from .checkpoint import RawCheckpoint

_FLOATS: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "F64": np.dtype("<f8"),
}
_BFLOAT16 = "BF16"
# Counters such as num_batches_tracked, and masks: a forward does not need them.
_NOT_FLOATS = frozenset({"BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64"})


def read_safetensors(path: Path) -> RawCheckpoint:
    """Read every floating-point tensor of a file.

    F32 and F16 tensors are read-only views of the mapped file; BF16 and F64 ones are converted.

    Raises:
        FileNotFoundError: there is no such file.
        WeightsError: the header does not fit the file, or a tensor is of a type that is not read.
    """
    index = _core.safetensors_index(str(path))
    content = np.memmap(path, dtype=np.uint8, mode="r")
    tensors: dict[str, NDArray[Any]] = {}
    # In the order in which they lie in the file, so that messages are the same every time.
    for name, (kind, shape, begin, end) in sorted(index.items(), key=lambda item: item[1][2:]):
        if kind in _NOT_FLOATS:
            continue
        stored = content[begin:end]
        if kind == _BFLOAT16:
            array: NDArray[Any] = widen_bfloat16(stored)
        elif kind in _FLOATS:
            # A tensor need not start at a multiple of its element's size: copy it where not.
            array = np.require(stored.view(_FLOATS[kind]), requirements="A")
            if kind == "F64":
                array = array.astype(np.float32)
        else:
            raise WeightsError(
                f"{path}: tensor {name}: expected F32, F16, BF16 or F64, found {kind}"
            )
        tensors[name] = np.asarray(array).reshape(shape)
    return RawCheckpoint(tensors)


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

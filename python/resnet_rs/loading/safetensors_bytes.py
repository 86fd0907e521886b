"""The tensors of a `.safetensors` file that is in memory."""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._core import WeightsError

ORIGIN = "weights (bytes)"
"""What errors call the weights in place of a path."""

_LENGTH_BYTES = 8
_FLOATS: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2")}
_COUNTER = "I64"  # num_batches_tracked, which a forward does not need


def tensors_in(data: bytes) -> dict[str, NDArray[Any]]:
    """Read every floating-point tensor.

    Args:
        data: a whole file: the header's length (u64, little-endian), a JSON header, the tensors.

    Returns:
        Arrays by name, float32 or float16: views of `data`, read-only.

    Raises:
        WeightsError: it is no such file, or holds tensors of another type.
    """
    import json

    if len(data) < _LENGTH_BYTES:
        raise WeightsError(f"{ORIGIN}: {len(data)} bytes are too few for a safetensors file")
    (header_bytes,) = struct.unpack_from("<Q", data)
    start = _LENGTH_BYTES + header_bytes
    if start > len(data):
        raise WeightsError(
            f"{ORIGIN}: the header should have {header_bytes} bytes, and {len(data)} is all: "
            "expected the content of a .safetensors file"
        )
    try:
        header = json.loads(data[_LENGTH_BYTES:start])
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{ORIGIN}: the header is no JSON: {error}") from error
    if not isinstance(header, dict):
        raise WeightsError(f"{ORIGIN}: the header is no JSON object")
    return {
        name: _tensor(name, entry, data, start)
        for name, entry in header.items()
        if name != "__metadata__" and not (isinstance(entry, dict) and _is_counter(entry))
    }


def _is_counter(entry: dict[str, Any]) -> bool:
    return entry.get("dtype") == _COUNTER


def _tensor(name: str, entry: Any, data: bytes, start: int) -> NDArray[Any]:
    """One tensor, whose place lies inside the data and is as large as its shape says."""
    match entry:
        case {"dtype": str(kind), "shape": list(shape), "data_offsets": [int(begin), int(end)]}:
            pass
        case _:
            raise WeightsError(f"{ORIGIN}: {name}: expected dtype, shape and data_offsets")
    if kind not in _FLOATS:
        raise WeightsError(
            f"{ORIGIN}: {name}: expected F32 or F16, found {kind}: convert the file with "
            "`resnet-rs convert`"
        )
    if not all(isinstance(side, int) and side >= 0 for side in shape):
        raise WeightsError(f"{ORIGIN}: {name}: no shape: {shape}")
    dtype, count = _FLOATS[kind], math.prod(shape)
    if not 0 <= begin <= end <= len(data) - start or end - begin != count * dtype.itemsize:
        raise WeightsError(
            f"{ORIGIN}: {name}: {kind} {shape} does not fit bytes {begin} to {end} of "
            f"{len(data) - start}"
        )
    array = np.frombuffer(data, dtype, count, start + begin).reshape(shape)
    # Tensors need not start at a multiple of their element's size: such a one is copied.
    return np.require(array, requirements="A")

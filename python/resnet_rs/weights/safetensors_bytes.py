"""The tensors of a `.safetensors` file that is in memory."""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._core import WeightsError
from ..options import BYTES_ORIGIN as ORIGIN
from .formats.safetensors_file import (
    FLOATS,
    INT8,
    NOT_FLOATS,
    floats,
    is_quantized,
    require_float,
    require_rank,
)

_LENGTH_BYTES = 8


def tensors_in(data: bytes) -> dict[str, NDArray[Any]]:
    """Read every floating-point tensor.

    Args:
        data: a whole file: the header's length (u64, little-endian), a JSON header, the tensors.

    Returns:
        Arrays by name, float32 or float16: of F32 and F16 read-only views of `data`; BF16 and F64
        are converted, and integers left out, as from a file. Of a quantised file I8 tensors are
        there too.

    Raises:
        WeightsError: the data is malformed, or holds tensors of another dtype.
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
    quantized = is_quantized(header)
    return {
        name: _tensor(name, entry, data, start)
        for name, entry in header.items()
        if name != "__metadata__" and not _is_left_out(entry, quantized)
    }


def _is_left_out(entry: Any, quantized: bool) -> bool:
    match entry:
        case {"dtype": str(kind)}:
            return kind in NOT_FLOATS and not (quantized and kind == INT8)
    return False


def _tensor(name: str, entry: Any, data: bytes, start: int) -> NDArray[Any]:
    """Read one tensor, after checking that its bytes lie inside the data and fit its shape."""
    match entry:
        case {"dtype": str(kind), "shape": list(shape), "data_offsets": [int(begin), int(end)]}:
            pass
        case _:
            raise WeightsError(f"{ORIGIN}: {name}: expected dtype, shape and data_offsets")
    if kind != INT8:
        require_float(kind, f"{ORIGIN}: {name}")
    require_rank(shape, f"{ORIGIN}: {name}")
    if not all(isinstance(side, int) and side >= 0 for side in shape):
        raise WeightsError(f"{ORIGIN}: {name}: no shape: {shape}")
    length = math.prod(shape) * (1 if kind == INT8 else FLOATS[kind].itemsize)
    if not 0 <= begin <= end <= len(data) - start or end - begin != length:
        raise WeightsError(
            f"{ORIGIN}: {name}: {kind} {shape} does not fit bytes {begin} to {end} of "
            f"{len(data) - start}"
        )
    stored = np.frombuffer(data, np.uint8, length, start + begin)
    return (stored.view(np.int8) if kind == INT8 else floats(stored, kind)).reshape(shape)

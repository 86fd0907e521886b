"""The bytes of a `.safetensors` file, for a network in memory; the core writes files."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .safetensors_file import INT8

_ALIGNMENT = 8
_KINDS = {np.dtype(np.float32): "F32", np.dtype(np.float16): "F16", np.dtype(np.int8): INT8}


def bytes_of(tensors: Mapping[str, NDArray[Any]]) -> bytes:
    """Make the bytes of a file.

    Args:
        tensors: arrays by name, float32, float16 or int8.

    Raises:
        KeyError: an array of another dtype.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    # Wide elements first, so that every tensor begins at a multiple of its element's size.
    order = sorted(tensors, key=lambda name: (-tensors[name].itemsize, name))
    parts, end = [], 0
    for name in order:
        array = np.ascontiguousarray(tensors[name])
        begin, end = end, end + array.nbytes
        header[name] = {
            "dtype": _KINDS[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [begin, end],
        }
        parts.append(array.tobytes())
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return b"".join([struct.pack("<Q", len(text)), text, *parts])

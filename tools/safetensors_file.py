"""Read and write safetensors files as torch tensors, without the safetensors package.

The format: 8 bytes with the header's length as a little-endian integer, the header as JSON (tensor
name to dtype, shape and byte range), then the tensors' bytes one after the other, little-endian,
row-major. The header is padded with spaces to a multiple of 8 bytes, so that the data is aligned.
"""

import json
import struct
import sys
from collections.abc import Mapping
from pathlib import Path

import torch

DTYPES: dict[str, torch.dtype] = {
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
ALIGNMENT_BYTES = 8


def write_safetensors(
    path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]
) -> None:
    """Write tensors in the mapping's order.

    Args:
        path: the file to create; an existing one is overwritten.
        tensors: name to f32, f16 or bf16 tensor of any shape and strides.
        metadata: free text, kept in the header.

    Raises:
        TypeError: a tensor has another dtype.
    """
    _require_little_endian()
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    end = 0
    for name, tensor in tensors.items():
        if tensor.dtype not in NAMES:
            raise TypeError(f"{name}: expected one of {list(NAMES)}, got {tensor.dtype}: cast it")
        begin, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % ALIGNMENT_BYTES)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(encoded)))
        file.write(encoded)
        for tensor in tensors.values():
            # numpy has no bf16: hand the bytes over as uint8.
            file.write(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)


def read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """Read every tensor of a trusted file, in its stored dtype and the header's order.

    Raises:
        ValueError: a tensor has a dtype other than f32, f16 and bf16.
    """
    _require_little_endian()
    data = bytearray(path.read_bytes())
    (header_bytes,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + header_bytes])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if entry["dtype"] not in DTYPES:
            raise ValueError(f"{name}: expected one of {list(DTYPES)}, got {entry['dtype']}")
        begin, end = (8 + header_bytes + offset for offset in entry["data_offsets"])
        tensor = torch.frombuffer(data[begin:end], dtype=DTYPES[entry["dtype"]])
        tensors[name] = tensor.reshape(entry["shape"])
    return tensors


def _require_little_endian() -> None:
    if sys.byteorder != "little":
        raise NotImplementedError("safetensors data is little-endian, this machine is not")

"""Write a loaded network as a resnet_rs weights directory."""

from __future__ import annotations

import os

from .formats.checkpoint import Checkpoint
from .formats.convert import INT8, write_directory
from .loaded import Loaded


def save(
    loaded: Loaded, directory: str | os.PathLike[str], *, dtype: str = "f32", force: bool = False
) -> None:
    """Write `model.safetensors` and `config.json`, as `ResNet.save` describes.

    Raises:
        FileExistsError: there is a network, and `force` is not given.
        OSError: the original files are gone, or the new ones cannot be written.
        WeightsError: the original files have changed since the network was loaded.
        ValueError: another `dtype` than the default for a quantised network.
    """
    if loaded.weights_precision == "int8":
        if dtype != "f32":
            raise ValueError(f"dtype: a quantised model is written as it is; got {dtype!r}")
        dtype = INT8
    checkpoint = Checkpoint(
        loaded.tensors(), loaded.config.as_dict(), loaded.options.origin, loaded.remarks
    )
    write_directory(checkpoint, directory, dtype=dtype, force=force)

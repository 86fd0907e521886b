"""Checkpoints: all numbers of a trainer in one safetensors file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from ..file_errors import names_file
from ..weights.formats.safetensors_file import read_safetensors

_SETS = ("values", "first", "second", "average")
_VERSION = 1


def copy_sets(source: Any, target: Any) -> None:
    """Copy all numbers of a trainer of the core to one of the same network, and its steps."""
    for kind in _SETS:
        for name, _, _ in source.tensors():
            array = source.read(kind, name)
            if array is not None:
                target.write(kind, name, array)
    target.steps = source.steps


def write(
    core: Any, path: str | os.PathLike[str], config: Mapping[str, Any], more: Mapping[str, Any]
) -> None:
    """Write a checkpoint: aside first, so that a kill leaves the old one or the new one.

    Raises:
        OSError: it cannot be written; the error names the file.
    """
    tensors: dict[str, NDArray[Any]] = {}
    for kind in _SETS:
        for name, _, _ in core.tensors():
            array = core.read(kind, name)
            if array is not None:
                tensors[f"{kind}/{name}"] = array
    state = {
        "version": _VERSION,
        "steps": core.steps,
        "config": _identity(config),
        "more": dict(more),
    }
    target = os.fspath(path)
    aside = f"{target}.{os.getpid()}.unfinished"
    try:
        with names_file(target, aside):
            _core.write_safetensors(aside, tensors, {"resnet_rs_trainer": json.dumps(state)})
            with open(aside, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(aside, target)
    except BaseException:
        if os.path.exists(aside):
            os.unlink(aside)
        raise


def read(core: Any, path: str | os.PathLike[str], config: Mapping[str, Any]) -> dict[str, Any]:
    """Take up a checkpoint.

    Returns:
        The further values.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no checkpoint, or that of another network.
    """
    file = read_safetensors(Path(path))
    text = _metadata(path).get("resnet_rs_trainer")
    if text is None:
        raise ValueError(
            f"{os.fspath(path)}: expected a checkpoint of a trainer; found a safetensors file "
            "without its state. Weights to begin with are the first argument of Trainer"
        )
    state = json.loads(text)
    if state.get("version") != _VERSION:
        raise ValueError(
            f"{os.fspath(path)}: expected version {_VERSION} of checkpoints; found "
            f"{state.get('version')}"
        )
    found, expected = state["config"], _identity(config)
    if found != expected:
        raise ValueError(
            f"{os.fspath(path)}: expected a checkpoint of {expected}; found one of {found}"
        )
    for name, array in file.tensors.items():
        kind, _, tensor = name.partition("/")
        core.write(kind, tensor, np.ascontiguousarray(array, np.float32))
    core.steps = state["steps"]
    more: dict[str, Any] = state["more"]
    return more


def _metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """The texts in the header of a safetensors file, which has been read before."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    return header.get("__metadata__", {})  # type: ignore[no-any-return]


def _identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that decide which tensors there are."""
    return {
        "architecture": config["architecture"],
        "variant": dict(config.get("variant") or {}),
        "num_classes": config["num_classes"],
    }

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
from ..replacing import replacing
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
    with replacing(path) as unfinished:
        _core.write_safetensors(unfinished, tensors, {"resnet_rs_trainer": json.dumps(state)})
        with open(unfinished, "rb+") as file:
            os.fsync(file.fileno())


def read(core: Any, path: str | os.PathLike[str], config: Mapping[str, Any]) -> dict[str, Any]:
    """Take up a checkpoint; after an error the trainer is as before.

    Returns:
        The further values.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no checkpoint, or that of another network.
    """
    name = os.fspath(path)
    file = read_safetensors(Path(path))
    text = _metadata(path).get("resnet_rs_trainer")
    if text is None:
        raise ValueError(
            f"{name}: expected a checkpoint of a trainer; found a safetensors file "
            "without its state. Weights to begin with are the first argument of Trainer"
        )
    steps, more = _state(name, text, config)
    shapes = {tensor: (tuple(shape), statistic) for tensor, shape, statistic in core.tensors()}
    sets = _sets(name, file.tensors, shapes)
    for kind in _SETS:
        for tensor in shapes:
            array = sets[kind].get(tensor)
            if array is None:
                # The trainer may have such numbers, from its own steps.
                own = core.read(kind, tensor)
                if own is None:
                    continue
                array = sets["values"][tensor] if kind == "average" else np.zeros_like(own)
            core.write(kind, tensor, np.ascontiguousarray(array, np.float32))
    core.steps = steps
    return more


def _state(name: str, text: str, config: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    """The number of steps and the further values, checked."""
    try:
        state = json.loads(text)
        version, found = state.get("version"), state.get("config")
        steps, more = state.get("steps"), state.get("more")
    except (ValueError, AttributeError, RecursionError) as error:
        raise ValueError(f"{name}: expected the state of a trainer as JSON: {error}") from error
    if version != _VERSION:
        raise ValueError(f"{name}: expected version {_VERSION} of checkpoints; found {version}")
    expected = _identity(config)
    if found != expected:
        raise ValueError(f"{name}: expected a checkpoint of {expected}; found one of {found}")
    is_count = isinstance(steps, int) and not isinstance(steps, bool) and 0 <= steps < 2**63
    if not is_count or not isinstance(more, dict):
        raise ValueError(
            f"{name}: expected a number of steps and further values; found {steps!r:.50} and "
            f"{type(more).__name__}"
        )
    return steps, more


def _sets(
    name: str,
    tensors: Mapping[str, NDArray[Any]],
    shapes: Mapping[str, tuple[tuple[int, ...], bool]],
) -> dict[str, dict[str, NDArray[Any]]]:
    """The tensors by set and name, all of a set or none of it, checked."""
    sets: dict[str, dict[str, NDArray[Any]]] = {kind: {} for kind in _SETS}
    for full, array in tensors.items():
        kind, _, tensor = full.partition("/")
        shape = shapes[tensor][0] if kind in sets and tensor in shapes else None
        if shape != array.shape:
            raise ValueError(
                f"{name}: tensor {full}: expected "
                f"{'no such one' if shape is None else f'shape {list(shape)}'}; found "
                f"{list(array.shape)}"
            )
        sets[kind][tensor] = array
    for kind, found in sets.items():
        of_set = {
            tensor
            for tensor, (_, statistic) in shapes.items()
            if not statistic or kind in ("values", "average")
        }
        missing = sorted(of_set - found.keys())
        if missing and (found or kind == "values"):
            raise ValueError(f"{name}: expected the tensor {kind}/{missing[0]}; found none")
    return sets


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

"""Gradients that another program computed: as a mapping, in a file, or as weights after a step."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..._core import WeightsError
from ...weights.formats.safetensors_file import read_safetensors
from ...weights.formats.torch_file import read_torch
from ..aliases import aliases
from ..dumps import LAYOUTS, DumpError, load_entries
from .step_values import StepTask, StepValues, as_array

Array: TypeAlias = NDArray[Any]

GIVEN = ("image", "labels", "targets", "loss", "layout")
"""Entries of a file that are no gradients."""

STEP_FILES = (".npz", ".safetensors", ".pt", ".pth")
"""The ends of the names of files that are read."""

_IGNORED = ("num_batches_tracked", "image.gradient")

_UNITS = {2: 2.0**-11, 4: 2.0**-24, 8: 2.0**-53}
"""The largest relative error of rounding to a float, by its bytes."""


@dataclass(frozen=True)
class Sgd:
    """The step of SGD that led to weights, the first one, with or without momentum.

    Attributes:
        lr: the learning rate.
        weight_decay: the part of the weights that was added to the gradients.
    """

    lr: float
    weight_decay: float


def read_step(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a file of gradients, or of weights after a step.

    Args:
        path: `.npz`, `.safetensors`, or a state dict of torch (`.pt`, `.pth`).

    Returns:
        All entries by name.

    Raises:
        ValueError: a file of another kind.
        DumpError, WeightsError, OSError: it cannot be read.
    """
    name = os.fsdecode(path)
    if name.endswith(".npz"):
        return dict(load_entries(name))
    try:
        if name.endswith(".safetensors"):
            return dict(read_safetensors(Path(name)).tensors)
        if name.endswith((".pt", ".pth")):
            return dict(read_torch(Path(name)).tensors)
    except WeightsError as error:
        raise WeightsError(f"{name}: {error}") from error
    raise ValueError(f"{name}: expected gradients by name, as .npz, .safetensors, .pt or .pth")


def given_values(
    entries: Mapping[str, Any],
    label: str,
    task: StepTask,
    before: Mapping[str, Array],
    sgd: Sgd | None,
) -> StepValues:
    """Sort entries into gradients of tensors and of results, and running statistics.

    Args:
        entries: arrays or torch tensors: gradients by the names of tensors and of operations,
            running statistics by their names, `loss`. With `sgd`, the tensors are weights after a
            step.
        label: the side's name for people.
        task: the step.
        before: the weights before the step.
        sgd: how weights were changed.

    Raises:
        TypeError, ValueError: an entry of another kind.
    """
    learned, kept = task.names("weight", "bias"), task.names("running_mean", "running_var")
    operations = {o["name"] for o in task.operations}
    others = aliases(task.operations)
    nhwc = _is_nhwc(entries, label)
    tensors: dict[str, Array] = {}
    results: dict[str, Array] = {}
    statistics: dict[str, Array] = {}
    rounding: dict[str, float] = {}
    unknown = []
    for name, value in entries.items():
        place = others.get(name, name)
        if name in GIVEN or name.endswith(_IGNORED):
            continue
        if name in learned:
            tensors[name] = _floats(value, name)
            if sgd is not None and tensors[name].shape == before[name].shape:
                tensors[name], rounding[name] = _gradient(tensors[name], before[name], sgd)
        elif name in kept:
            statistics[name] = _floats(value, name)
        elif place in operations and sgd is None:
            results[place] = _as_nhwc(_floats(value, name), nhwc, name, label)
        else:
            unknown.append(name)
    loss = float(np.asarray(entries["loss"])) if "loss" in entries else None
    return StepValues(label, loss, tensors, results, statistics, rounding, tuple(unknown))


def given_input(entries: Mapping[str, Any], label: str) -> tuple[Array | None, Array | None]:
    """The input (NHWC) and the labels or soft targets of a file, None for what it lacks."""
    image = entries.get("image")
    if image is not None:
        nhwc = _is_nhwc(entries, label)
        image = np.ascontiguousarray(
            _as_nhwc(_floats(image, "image"), nhwc, "image", label), np.float32
        )
    return image, entries.get("targets", entries.get("labels"))


def _gradient(after: Array, before: Array, sgd: Sgd) -> tuple[Array, float]:
    """The gradient that led from weights to weights, and its relative error by rounding."""
    start = np.asarray(before, np.float64)
    gradient = (start - after) / sgd.lr - sgd.weight_decay * start
    length = float(np.linalg.norm(gradient))
    error = _UNITS[after.itemsize] * float(np.linalg.norm(start)) / sgd.lr
    return gradient, error / length if length else 0.0


def _is_nhwc(entries: Mapping[str, Any], label: str) -> bool | None:
    """Tell the layout that the entries state; None if they state none."""
    if "layout" not in entries:
        return None
    layout = str(entries["layout"])
    if layout not in LAYOUTS:
        raise DumpError(f"{label}: layout must be 'NHWC' or 'NCHW'; got {layout!r}")
    return layout == "NHWC"


def _as_nhwc(array: Array, nhwc: bool | None, name: str, label: str) -> Array:
    if array.ndim == 2:
        return array[:, None, None, :]
    if array.ndim != 4:
        raise DumpError(f"{label}: {name} must have four axes or two; got {list(array.shape)}")
    if nhwc is None:
        raise DumpError(
            f"{label}: no entry 'layout', which says how the axes of {name} are ordered: "
            'add layout="NCHW" for torch\'s order, or "NHWC"'
        )
    return array if nhwc else array.transpose(0, 2, 3, 1)


def _floats(value: Any, name: str) -> Array:
    try:
        return as_array(value)
    except TypeError as error:
        raise TypeError(f"{name}: {error}") from error

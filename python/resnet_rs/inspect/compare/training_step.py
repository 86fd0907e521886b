"""`compare_step`: the loss, the running statistics and the gradients of a training step."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...weights.loaded import HasLoaded, Loaded
from ..gradients import Labels, frozen_operations, targets_of
from ..inputs import network_input
from .step_diagnosis import StepDiagnosis
from .step_files import Sgd, given_input, given_values, read_step
from .step_values import StepTask, StepValues, core_values, module_values, reference_values
from .table import Comparison, Row

if TYPE_CHECKING:
    from torch import nn

Array: TypeAlias = NDArray[Any]
Steps: TypeAlias = "HasLoaded | nn.Module | Mapping[str, Any] | str | os.PathLike[str]"

STEP_TOLERANCE = 5e-3
"""The largest relative L2 difference of gradients that counts as equal.

Two correct implementations in f32 differ by some 1e-6, and by up to 4e-3 if a result lies so near
to 0 that a ReLU, or the choice of a max pool, falls out differently.
"""

FORWARD_SHARE = 0.02
"""The part of the tolerance for the loss and the running statistics: a forward is nearer."""


def compare_step(
    model: HasLoaded,
    other: Steps,
    images: Any = None,
    labels: Labels | None = None,
    *,
    label_smoothing: float = 0.0,
    frozen: Collection[str] = (),
    norm_momentum: float = 0.1,
    lr: float | None = None,
    weight_decay: float = 0.0,
    tolerance: float = STEP_TOLERANCE,
) -> Comparison:
    """Compare a training step with another implementation's, and name the first wrong value.

    The values are compared in the order of a step: running statistics, loss, and gradients from the
    last layer to the first.

    Args:
        model: a model of this package, which is taken to be right. With `backend="reference"` its
            step is computed in float64 by NumPy, and gradients by results are compared too.
        other: the step to check. A mapping, or the path of an `.npz`, `.safetensors`, `.pt` or
            `.pth` file, has arrays or tensors by name: gradients by the names of tensors
            (`conv1.weight`), in torch's layout; and what there is of running statistics by their
            names, `loss`, and gradients by results under the names of operations, with `layout`
            (docs/debugging.md). A torch module runs in the mode that it is in. Another model takes
            its step with its own weights.
        images: one image or several, or what `ResNet.forward` takes; None takes `image` of `other`.
        labels: a class for each image, by index or name, or soft targets; None takes `labels` or
            `targets` of `other`.
        label_smoothing: the part of each label that is shared among all classes.
        frozen: names of operations that do not learn, or `norms` for all batch norms.
        norm_momentum: the share of the batch in the running statistics.
        lr: the tensors of `other` are weights after the first step of SGD with this rate; without
            it they are gradients.
        weight_decay: of that step.
        tolerance: the largest relative L2 difference of gradients that counts as equal; for the
            loss and running statistics it is a fiftieth.

    Returns:
        A table, with the first wrong value and the mistake that explains it.

    Raises:
        TypeError: a side of another kind.
        ValueError: no images or labels, or no value in common.
        DumpError, WeightsError, OSError: a file that cannot be read.

    Example:
        ```python
        import resnet_rs

        model = resnet_rs.load("weights")
        model.trace_gradients("photo.jpg", 3).save("gradients.npz")
        comparison = resnet_rs.compare_step(model, "gradients.npz")
        assert comparison.ok
        print(comparison)
        ```
    """
    if not tolerance > 0:
        raise ValueError(f"tolerance must be above 0; got {tolerance!r}")
    loaded = _loaded_of(model)
    if loaded is None:
        raise TypeError(f"model: expected a model of resnet_rs; got {type(model).__name__}")
    entries, label = _entries(other)
    sgd = _sgd(lr, weight_decay, entries)
    if entries is not None:
        own_image, own_labels = given_input(entries, label)
        images = own_image if images is None else images
        labels = own_labels if labels is None else labels
    if images is None or labels is None:
        raise ValueError(
            f"expected images and labels; {label} has no `image` with `labels` or `targets` either"
        )
    loaded.require_f32("a training step")
    task = _task(loaded, images, labels, label_smoothing, frozen, norm_momentum)
    tensors = loaded.tensors()
    if entries is not None:
        given = given_values(entries, label, task, tensors, sgd)
    elif (other_loaded := _loaded_of(other)) is not None:
        given = _model_values(other_loaded, task)
    else:
        given = module_values(other, task)
    diagnosis = StepDiagnosis(task, tensors, given, sgd, tolerance)
    if loaded.options.backend == "reference" or given.results:
        right = reference_values(loaded, diagnosis.right)
    else:
        right = core_values(loaded, task)
    return _comparison(right, diagnosis)


def _comparison(right: StepValues, diagnosis: StepDiagnosis) -> Comparison:
    given, tolerance = diagnosis.given, diagnosis.tolerance
    rows = []
    missing = []
    for name, kind, one, other in _pairs(diagnosis.task, right, given):
        if one is None:
            continue
        if other is None:
            if kind in ("weight", "bias") or given.statistics:
                missing.append(name)
            continue
        is_gradient = name != "loss" and name not in given.statistics
        allowed = tolerance * (1 if is_gradient else FORWARD_SHARE)
        allowed += given.rounding.get(name, 0.0)
        rows.append(Row.between(name, kind, np.asarray(one), np.asarray(other), allowed))
    if not any(row.name != "loss" for row in rows):
        raise ValueError(
            f"{right.label} and {given.label} have no value in common. Gradients have the names of "
            f"tensors, such as conv1.weight; {given.label} has "
            f"{', '.join(given.unknown[:5]) or 'none at all'}"
        )
    wrong = [row.name for row in rows if not row.ok]
    agree = [row.name for row in rows if row.ok]
    return Comparison(
        a=right.label,
        b=given.label,
        rows=tuple(rows),
        tolerance=tolerance,
        first_wrong=wrong[0] if wrong else None,
        diagnosis=diagnosis.find(wrong, agree) if wrong else None,
        can_diagnose=True,
        missing=tuple(missing),
        unknown=given.unknown,
        noun="value",
    )


def _pairs(
    task: StepTask, right: StepValues, given: StepValues
) -> list[tuple[str, str, ArrayLike | None, ArrayLike | None]]:
    """Name, kind and both sides' values, in the order of a step."""
    found: list[tuple[str, str, ArrayLike | None, ArrayLike | None]] = []
    for name in task.names("running_mean", "running_var"):
        kind = name.rpartition(".")[2]
        found.append((name, kind, right.statistics.get(name), given.statistics.get(name)))
    if given.loss is not None:
        found.append(("loss", "loss", right.loss, given.loss))
    for operation in reversed(task.operations):
        name = operation["name"]
        if name in given.results:
            found.append((name, operation["kind"], right.results.get(name), given.results[name]))
        for part, (tensor, _) in operation["parameters"].items():
            if part in ("weight", "bias"):
                found.append((tensor, part, right.tensors.get(tensor), given.tensors.get(tensor)))
    return found


def _task(
    loaded: Loaded,
    images: Any,
    labels: Labels,
    label_smoothing: float,
    frozen: Collection[str],
    momentum: float,
) -> StepTask:
    if isinstance(images, np.ndarray) and images.dtype.kind == "f":
        images = np.ascontiguousarray(images, np.float32)
    x = network_input(loaded, images)
    targets = targets_of(loaded, labels, len(x), label_smoothing=label_smoothing)
    operations = loaded.network.operations(*x.shape[1:3])
    return StepTask(operations, x, targets, frozen_operations(operations, frozen), momentum)


def _entries(other: Any) -> tuple[Mapping[str, Any] | None, str]:
    """The entries of a mapping or a file, None for another side; and the side's name."""
    if isinstance(other, Mapping):
        return other, "the mapping"
    if isinstance(other, (str, os.PathLike)):
        return read_step(other), os.path.basename(os.fsdecode(other))
    torch = sys.modules.get("torch")
    if _loaded_of(other) is None and (torch is None or not isinstance(other, torch.nn.Module)):
        raise TypeError(
            "compare_step takes a mapping of gradients, the path of a file with them, a torch "
            f"module or a model; got {type(other).__name__}"
        )
    return None, "the other side"


def _sgd(lr: float | None, weight_decay: float, entries: Mapping[str, Any] | None) -> Sgd | None:
    if lr is None:
        if weight_decay:
            raise ValueError("weight_decay is that of the step that `lr` describes: pass lr too")
        return None
    if entries is None:
        raise ValueError("lr: only a mapping or a file has weights after a step")
    if not lr > 0:
        raise ValueError(f"lr must be above 0; got {lr!r}")
    if not weight_decay >= 0:
        raise ValueError(f"weight_decay must be at least 0; got {weight_decay!r}")
    return Sgd(float(lr), float(weight_decay))


def _model_values(loaded: Loaded, task: StepTask) -> StepValues:
    if loaded.options.backend == "reference":
        return reference_values(loaded, task.reference(loaded.tensors()))
    return core_values(loaded, task)


def _loaded_of(side: Any) -> Loaded | None:
    loaded = getattr(side, "loaded", None)
    return loaded if isinstance(loaded, Loaded) else None

"""Mistakes in a training step as a whole, and in the way that gradients are stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...reference import layers, losses, training_norm
from ...reference.walk import Operation, evaluate, parameters
from .arrangements import Arrangement
from .formulas import Formula
from .step_values import StepTask
from .way_back import WayBack

Array: TypeAlias = NDArray[Any]


def stored_gradients(name: str, gradients: Mapping[str, Array]) -> Iterator[Arrangement]:
    """Yield a tensor's right gradient as each mistake of storing leaves it.

    Args:
        name: the tensor.
        gradients: the right gradients by all tensors.
    """
    right = gradients[name]
    transposed = "transposed weights"
    if right.ndim == 2:
        yield Arrangement(transposed, "in and out are swapped", right.T)
        yield Arrangement(
            transposed, "[in, out] was read as [out, in] without a transpose", reshaped(right, 1, 0)
        )
    if right.ndim == 4:
        swapped = {
            "height and width of the kernels are swapped": (0, 1, 3, 2),
            "in and out are swapped": (1, 0, 2, 3),
            "the gradient is OHWI, not OIHW": (0, 2, 3, 1),
            "the gradient is HWIO, not OIHW": (2, 3, 1, 0),
        }
        for text, axes in swapped.items():
            yield Arrangement(transposed, text, right.transpose(axes))
        for text, axes in {"OHWI": (0, 2, 3, 1), "HWIO": (2, 3, 1, 0)}.items():
            clause = f"{text} became OIHW by reshape, which moves nothing: transpose is needed"
            yield Arrangement(transposed, clause, reshaped(right, *axes))
        yield Arrangement("mirrored kernels", "the kernels are mirrored", right[..., ::-1, ::-1])
    for other, gradient in gradients.items():
        if other != name and gradient.shape == right.shape:
            yield Arrangement("another tensor", f"this is the gradient by {other}", gradient)


def reshaped(right: Array, *axes: int) -> Array:
    """The values in the order of other axes, in the shape of the right ones."""
    return right.transpose(axes).reshape(right.shape)


def other_losses(way: WayBack) -> Iterator[tuple[str, str, Array]]:
    """Yield mistakes in the loss: class of mistakes, text, gradient by the logits."""
    logits, targets = way.logits, way.task.targets
    labels = "labels off by one"
    yield (
        labels,
        "each label is one too large: it counts from 1",
        losses.cross_entropy_gradient(logits, np.roll(targets, 1, axis=1)),
    )
    yield (
        labels,
        "each label is one too small",
        losses.cross_entropy_gradient(logits, np.roll(targets, -1, axis=1)),
    )
    if len(targets) > 1:
        yield (
            "labels of other images",
            "the labels are those of the batch in the opposite order",
            losses.cross_entropy_gradient(logits, targets[::-1]),
        )
    p = layers.softmax(logits)
    outer = losses.cross_entropy_gradient(p, targets)
    yield (
        "softmax twice",
        "the loss takes softmax of probabilities: it expects logits",
        p * (outer - (p * outer).sum(axis=1, keepdims=True)),
    )
    weights = targets.sum(axis=1, keepdims=True)
    yield (
        "another loss",
        "the loss is the squared error of the probabilities",
        _through_softmax(p, 2 * (p * weights - targets)),
    )
    yield (
        "another loss",
        "the loss is binary cross-entropy of each class (sigmoid), not softmax cross-entropy",
        weights / (1 + np.exp(-logits)) - targets,
    )


def _through_softmax(p: Array, dp: Array) -> Array:
    return np.asarray(p * (dp - (p * dp).sum(axis=1, keepdims=True)))


def fitted_smoothing(way: WayBack, wrong: str, given: Array) -> Iterator[tuple[str, str, Array]]:
    """Yield the label smoothing that fits a wrong gradient of the last layer best.

    The gradient depends on the smoothing by a straight line.
    """
    targets, right = way.task.targets, way.of_loss(way.dlogits, wrong)
    shared = targets.sum(axis=1, keepdims=True) / targets.shape[1]
    unit = way.of_loss(targets - shared, wrong)
    if right is None or unit is None or right.shape != given.shape or not unit.any():
        return
    more = float(((given - right) * unit).sum() / np.square(unit).sum())
    if 0 < more <= 1:
        text = f"the labels are smoothed by {more:.4g} more"
        yield "label smoothing", text, right + more * unit
    elif more < 0:
        text = f"the labels are not smoothed: {more / (more - 1):.4g} is missing"
        yield "label smoothing", text, right + more * unit


def other_forwards(
    task: StepTask, tensors: Mapping[str, Array]
) -> Iterator[tuple[str, str, Mapping[str, Array]]]:
    """Yield mistakes in the forward's batch norms: class of mistakes, text, all results."""
    if not any(_learns(operation, task) for operation in task.operations):
        return
    yield (
        "batch norm in eval mode",
        "the network ran in eval mode: batch norm took its running statistics",
        _forward(task, tensors, evaluate),
    )
    yield (
        "unbiased variance",
        "batch norm normalises with the unbiased variance (m - 1): the biased one (m) is right",
        _forward(task, tensors, _unbiased),
    )


def _unbiased(operation: Operation, inputs: Sequence[Array], tensors: Mapping[str, Array]) -> Array:
    x, axes = inputs[0], training_norm.CHANNELWISE
    variance = x.var(axis=axes, ddof=1)
    numbers = tensors["weight"], tensors["bias"], operation["epsilon"]
    return layers.batch_norm(x, x.mean(axis=axes), variance, *numbers)


def _forward(task: StepTask, tensors: Mapping[str, Array], norm: Formula) -> Mapping[str, Array]:
    """Run the network with another formula of the batch norms that learn."""
    results: dict[str, Array] = {"image": np.asarray(task.image, np.float64)}
    for operation in task.operations:
        inputs = [results[name] for name in operation["inputs"]]
        formula = norm if _learns(operation, task) else evaluate
        results[operation["name"]] = formula(operation, inputs, parameters(operation, tensors))
    return results


def _learns(operation: Operation, task: StepTask) -> bool:
    return operation["kind"] == "batch_norm" and operation["name"] not in task.frozen


def other_statistics(
    name: str, task: StepTask, before: Array, right: Array
) -> Iterator[tuple[str, str, Array]]:
    """Yield mistakes in a running mean or variance: class of mistakes, text, values.

    Args:
        name: of the statistic.
        task: the step.
        before: its values before the step.
        right: its right values after it.
    """
    m = task.momentum
    batch = (right - (1 - m) * before) / m
    yield (
        "batch norm in eval mode",
        "the running statistics did not change: the network ran in eval mode",
        before,
    )
    if name.endswith("running_var"):
        operation = next(o for o in task.operations if name in _names(o))
        height, width, _ = operation["output_shape"]
        count = len(task.image) * height * width
        yield (
            "biased variance",
            "the running variance takes the biased variance (m): the unbiased one (m - 1) is right",
            (1 - m) * before + m * batch * (count - 1) / count,
        )
        yield (
            "unbiased variance",
            "the running variance takes the unbiased variance twice",
            (1 - m) * before + m * batch * count / (count - 1),
        )
    yield (
        "momentum",
        f"the momentum is reversed: {m:g} is the share of the new batch, as in torch; Keras "
        "states 1 minus it",
        m * before + (1 - m) * batch,
    )


def _names(operation: Operation) -> list[str]:
    return [name for name, _ in operation["parameters"].values()]

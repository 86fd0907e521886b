"""The values of a training step: loss, running statistics and gradients, from any side."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ... import _core
from ...reference.walk_back import Backward, backward
from ...weights.loaded import Loaded

if TYPE_CHECKING:
    from torch import nn

Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True)
class StepValues:
    """The values that one side computes in a training step.

    Attributes:
        label: the side's name for people.
        loss: the loss; None if it is not known.
        tensors: names of tensors to the gradient by them, in torch's layout.
        results: names of operations to the gradient by their results, NHWC.
        statistics: names of running means and variances to their values after the step.
        rounding: names of tensors to the relative L2 error that their gradient has at most because
            it was taken from rounded weights.
        unknown: names of values that the network does not have.
    """

    label: str
    loss: float | None
    tensors: Mapping[str, Array]
    results: Mapping[str, Array] = field(default_factory=dict)
    statistics: Mapping[str, Array] = field(default_factory=dict)
    rounding: Mapping[str, float] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True)
class StepTask:
    """The inputs of a training step, the same for every side.

    Attributes:
        operations: the network's operations for the image's size.
        image: `[batch, height, width, channels]`, normalised.
        targets: the matrix of the loss, `[batch, classes]`.
        frozen: the names of operations that do not learn.
        momentum: of the running statistics.
    """

    operations: Sequence[Mapping[str, Any]]
    image: NDArray[np.float32]
    targets: NDArray[np.float64]
    frozen: Collection[str]
    momentum: float

    def reference(self, tensors: Mapping[str, Array]) -> Backward:
        """Compute the step with the NumPy reference, in float64."""
        return backward(
            self.operations,
            tensors,
            self.image,
            self.targets,
            momentum=self.momentum,
            frozen=self.frozen,
        )

    def names(self, *parts: str) -> list[str]:
        """The names of the tensors that are some parts of an operation, in network order."""
        return [
            tensor
            for operation in self.operations
            for part, (tensor, _) in operation["parameters"].items()
            if part in parts
        ]


def reference_values(loaded: Loaded, step: Backward) -> StepValues:
    """A step of the NumPy reference as a side."""
    return StepValues(
        f"{loaded.config.architecture} of {_origin(loaded)} (NumPy reference)",
        step.loss,
        step.gradients,
        step.result_gradients,
        step.statistics,
    )


def core_values(loaded: Loaded, task: StepTask) -> StepValues:
    """Compute the step with the compiled core, in float32; it keeps no gradients by results.

    Raises:
        ValueError: the network cannot be trained.
    """
    frozen = {
        tensor
        for operation in task.operations
        if operation["name"] in task.frozen
        for part, (tensor, _) in operation["parameters"].items()
        if part in ("weight", "bias")
    }
    trainer = _core.Trainer(
        loaded.tensors(),
        json.dumps(loaded.network.config),
        origin=loaded.options.origin,
        isa=loaded.network.isa,
        threads=loaded.network.threads,
        winograd=loaded.options.winograd,
        norm_momentum=task.momentum,
    )
    trainer.freeze(frozen)
    losses, _ = trainer.backward(task.image, task.targets.astype(np.float32))
    learned = [name for name in task.names("weight", "bias") if name not in frozen]
    return StepValues(
        f"{loaded.config.architecture} of {_origin(loaded)} (resnet_rs)",
        float(sum(losses)),
        {name: _present(trainer.read("gradients", name)) for name in learned},
        statistics={
            name: _present(trainer.read("values", name))
            for operation in task.operations
            if operation["name"] not in task.frozen
            for part, (name, _) in operation["parameters"].items()
            if part.startswith("running_")
        },
    )


def module_values(module: nn.Module, task: StepTask) -> StepValues:
    """Run a torch module in the mode that it is in, and its gradients by autograd.

    The module keeps its gradients and its buffers, which batch norm in training mode would change.
    """
    import torch

    parameters = dict(module.named_parameters())
    before = {name: parameter.grad for name, parameter in parameters.items()}
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    like = next(iter(parameters.values()), torch.zeros(()))
    nchw = torch.from_numpy(np.ascontiguousarray(task.image.transpose(0, 3, 1, 2)))
    targets = torch.from_numpy(task.targets).to(like.device, like.dtype)
    try:
        for parameter in parameters.values():
            parameter.grad = None
        with torch.enable_grad():
            logits = module(nchw.to(like.device, like.dtype))
            loss = -(targets * logits.log_softmax(1)).sum()
            loss.backward()
        gradients = {
            name: as_array(parameter.grad)
            for name, parameter in parameters.items()
            if parameter.grad is not None
        }
        statistics = {
            name: as_array(buffer.clone())
            for name, buffer in module.named_buffers()
            if name in task.names("running_mean", "running_var")
        }
    finally:
        for name, parameter in parameters.items():
            parameter.grad = before[name]
        with torch.no_grad():
            for name, buffer in module.named_buffers():
                buffer.copy_(buffers[name])
    label = f"{type(module).__name__} (torch)"
    return StepValues(label, float(loss.detach()), gradients, statistics=statistics)


def as_array(value: Any) -> Array:
    """Turn an array or a torch tensor into an array.

    Raises:
        TypeError: something else, or no floats.
    """
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = (value.float() if value.itemsize == 2 else value).numpy()
    array = np.asarray(value)
    if array.dtype.kind != "f":
        raise TypeError(f"expected an array or a tensor of floats; got {array.dtype}")
    return array


def _origin(loaded: Loaded) -> str:
    return os.path.basename(loaded.options.origin)


def _present(array: Array | None) -> Array:
    assert array is not None
    return array

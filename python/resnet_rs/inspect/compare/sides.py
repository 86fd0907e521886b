"""What can be compared: models, torch modules, dumps and traces, all seen the same way."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..dumps import Dump
from ..trace import Trace, trace_model

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ...model import ResNet

Array: TypeAlias = NDArray[Any]


class Source(Protocol):
    """One side of a comparison.

    Attributes:
        label: what to call it.
        image: the network's input, NHWC; None where it is not told.
    """

    label: str
    image: Array | None

    def names(self) -> Sequence[str]:
        """The operations whose results it has, by any of their names."""

    def results(self, names: Sequence[str]) -> Iterator[Array]:
        """The results of some of `names()`, in that order, NHWC."""

    def tensor(self, name: str) -> Array | None:
        """The tensor of this name that its network uses; None where that is not told."""


class ModelSource:
    """One of our models, at one input."""

    def __init__(self, model: ResNet, image: Any) -> None:
        self.model = model
        origin = os.path.basename(model.loaded.options.origin)
        self.label = f"{model.config.architecture} of {origin} (resnet_rs)"
        self.trace = trace_model(model, image)
        self.image: Array | None = self.trace.image
        self.operations = self.trace.operations

    @cached_property
    def tensors(self) -> Mapping[str, Array]:
        """By torchvision's names, read when they are first asked for."""
        return self.model.loaded.tensors()

    def names(self) -> Sequence[str]:
        """Every operation."""
        return list(self.trace)

    def results(self, names: Sequence[str]) -> Iterator[Array]:
        """Compute them."""
        return self.trace.select(names)

    def tensor(self, name: str) -> Array | None:
        """From the model's own weights."""
        return self.tensors.get(name)


class TraceSource:
    """A trace."""

    label = "trace"

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.operations = trace.operations
        self.image: Array | None = trace.image

    def names(self) -> Sequence[str]:
        """Every result."""
        return list(self.trace)

    def results(self, names: Sequence[str]) -> Iterator[Array]:
        """Compute them."""
        return self.trace.select(names)

    def tensor(self, name: str) -> Array | None:
        """A trace tells no tensors."""
        return None


class DumpSource:
    """A dump in an `.npz` file."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.dump = Dump(path)
        self.label = os.path.basename(self.dump.path)
        self.image: Array | None = self.dump["image"] if self.dump.has_image else None

    def names(self) -> Sequence[str]:
        """Every entry."""
        return self.dump.names

    def results(self, names: Sequence[str]) -> Iterator[Array]:
        """Read them."""
        return (self.dump[name] for name in names)

    def tensor(self, name: str) -> Array | None:
        """A dump tells no tensors."""
        return None


class ModuleSource:
    """A torch module, run once on an input with a forward hook on each of its modules.

    All results are in memory. The module's mode (training or evaluation) stays as it is, and so do
    its buffers: batch norm in training mode would change them.
    """

    def __init__(self, module: nn.Module, image: Array) -> None:
        self.module = module
        self.label = f"{type(module).__name__} (torch)"
        self.image: Array | None = None  # it is given the other side's: nothing to compare
        self._results = _record(module, image)

    def names(self) -> Sequence[str]:
        """Every module that was called, and each call of a block's shared ReLU."""
        return list(self._results)

    def results(self, names: Sequence[str]) -> Iterator[Array]:
        """Hand out what the hooks kept."""
        return (self._results[name] for name in names)

    def tensor(self, name: str) -> Array | None:
        """From the module's state dict."""
        tensor = self.module.state_dict().get(name)
        if tensor is None:
            return None
        array: Array = tensor.detach().double().cpu().numpy()
        return array


def _record(module: nn.Module, image: Array) -> dict[str, Array]:
    """Run a torch module and keep what every module in it returns, NHWC."""
    import torch

    calls: dict[str, list[Array]] = {}

    def hook(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, torch.Tensor) and output.ndim in (2, 4):
                calls.setdefault(name, []).append(_nhwc(output))

        return keep

    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    hooks = [part.register_forward_hook(hook(name)) for name, part in module.named_modules()]
    like = next(module.parameters(), torch.zeros(()))
    nchw = np.ascontiguousarray(image.transpose(0, 3, 1, 2))
    try:
        with torch.no_grad():
            module(torch.from_numpy(nchw).to(like.device, like.dtype))
    finally:
        for handle in hooks:
            handle.remove()
        with torch.no_grad():
            for name, buffer in module.named_buffers():
                buffer.copy_(buffers[name])
    return _by_operation(calls)


def _by_operation(calls: Mapping[str, Sequence[Array]]) -> dict[str, Array]:
    """Name the calls of a block's one ReLU module: torchvision calls it two or three times."""
    results: dict[str, Array] = {}
    for name, outputs in calls.items():
        block, _, last = name.rpartition(".")
        if last == "relu" and block:
            # As many calls as a block of this depth has: else it is not known which is missing.
            depth = 3 if f"{block}.conv3" in calls else 2
            if len(outputs) == depth:
                results.update({f"{block}.relu{i}": o for i, o in enumerate(outputs[:-1], 1)})
        else:
            results[name] = outputs[-1]
    return results


def _nhwc(output: Tensor) -> Array:
    output = output.detach().cpu()
    if output.itemsize == 2:  # bfloat16 is none of NumPy's types
        output = output.float()
    # A copy: a ReLU with inplace=True will overwrite the tensor.
    array: Array = output.clone().numpy()
    return array.transpose(0, 2, 3, 1) if array.ndim == 4 else array[:, None, None, :]

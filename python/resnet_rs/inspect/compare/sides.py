"""The sides of a comparison: models, torch modules, dumps and traces behind one interface."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...weights.loaded import Loaded
from ..dumps import Dump
from ..trace import Trace, trace

if TYPE_CHECKING:
    from torch import Tensor, nn

Array: TypeAlias = NDArray[Any]


class Source(Protocol):
    """One side of a comparison.

    Attributes:
        label: its name for people.
        image: the network's input, NHWC; None if it is not known.
    """

    label: str
    image: Array | None

    def names(self) -> Sequence[str]:
        """Name the operations whose results it has, by any of their names."""

    def results(self, names: Sequence[str]) -> Iterator[Array]:
        """Yield the results of some of `names()`, in that order, NHWC."""

    def tensor(self, name: str) -> Array | None:
        """Return the tensor of this name in its network; None if that is not known."""


class ModelSource:
    """A network of this package, at one input.

    Args:
        loaded: the network.
        image: an image, or what `ResNet.forward` takes.
    """

    def __init__(self, loaded: Loaded, image: Any) -> None:
        self.loaded = loaded
        origin = os.path.basename(loaded.options.origin)
        self.label = f"{loaded.config.architecture} of {origin} (resnet_rs)"
        self.trace = trace(loaded, image)
        self.image: Array | None = self.trace.image
        self.operations = self.trace.operations

    @cached_property
    def tensors(self) -> Mapping[str, Array]:
        """The tensors by torchvision's names, read on first access."""
        return self.loaded.tensors()

    def names(self) -> Sequence[str]:
        """Name every operation."""
        return list(self.trace)

    def results(self, names: Sequence[str]) -> Iterator[Array]:
        """Compute them."""
        return self.trace.select(names)

    def tensor(self, name: str) -> Array | None:
        """Look the tensor up in the model's weights."""
        return self.tensors.get(name)


class TraceSource:
    """A trace."""

    label = "trace"

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.operations = trace.operations
        self.image: Array | None = trace.image

    def names(self) -> Sequence[str]:
        """Name every result."""
        return list(self.trace)

    def results(self, names: Sequence[str]) -> Iterator[Array]:
        """Compute them."""
        return self.trace.select(names)

    def tensor(self, name: str) -> Array | None:
        """Return None: a trace has no tensors."""
        return None


class DumpSource:
    """A dump in an `.npz` file."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.dump = Dump(path)
        self.label = os.path.basename(self.dump.path)
        self.image: Array | None = self.dump["image"] if self.dump.has_image else None

    def names(self) -> Sequence[str]:
        """Name every entry."""
        return self.dump.names

    def results(self, names: Sequence[str]) -> Iterator[Array]:
        """Read them."""
        return (self.dump[name] for name in names)

    def tensor(self, name: str) -> Array | None:
        """Return None: a dump has no tensors."""
        return None


class ModuleSource:
    """A torch module, run once on an input with a forward hook on each of its modules.

    All results are in memory. The module keeps its mode (training or evaluation) and its buffers,
    which batch norm in training mode would change.

    Args:
        module: the torch module.
        image: its input, NHWC, normalised.
    """

    def __init__(self, module: nn.Module, image: Array) -> None:
        self.module = module
        self.label = f"{type(module).__name__} (torch)"
        # It runs on the other side's input, so there is nothing to compare.
        self.image: Array | None = None
        self._results = _record(module, image)

    def names(self) -> Sequence[str]:
        """Name every module that was called, and each call of a block's shared ReLU."""
        return list(self._results)

    def results(self, names: Sequence[str]) -> Iterator[Array]:
        """Yield what the hooks kept."""
        return (self._results[name] for name in names)

    def tensor(self, name: str) -> Array | None:
        """Look the tensor up in the module's state dict."""
        tensor = self.module.state_dict().get(name)
        if tensor is None:
            return None
        array: Array = tensor.detach().double().cpu().numpy()
        return array


def _record(module: nn.Module, image: Array) -> dict[str, Array]:
    """Run a torch module and keep the output of every module in it, NHWC."""
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
            # With fewer or more calls than such a block makes, nothing tells which call is which.
            depth = 3 if f"{block}.conv3" in calls else 2
            if len(outputs) == depth:
                results.update({f"{block}.relu{i}": o for i, o in enumerate(outputs[:-1], 1)})
        else:
            results[name] = outputs[-1]
    return results


def _nhwc(output: Tensor) -> Array:
    """Copy a tensor into an NHWC array."""
    output = output.detach().cpu()
    if output.itemsize == 2:  # NumPy has no bfloat16
        output = output.float()
    # A copy: a ReLU with inplace=True will overwrite the tensor.
    array: Array = output.clone().numpy()
    return array.transpose(0, 2, 3, 1) if array.ndim == 4 else array[:, None, None, :]

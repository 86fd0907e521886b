"""Every operation's result, by name: look inside a network as it runs."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import ItemsView as AbstractItemsView
from collections.abc import ValuesView as AbstractValuesView
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .._core import Network
from ..terminal.tables import text_table

if TYPE_CHECKING:
    from ..model import ResNet

Array: TypeAlias = NDArray[Any]
# Computes the operations of these names, which are in network order, one after the other.
Compute: TypeAlias = Callable[[Sequence[str]], Iterator[Array]]

CHUNK_BYTES = 256 << 20
"""How many bytes of results a walk over a trace holds at once; one result may need more."""


@dataclass(frozen=True, slots=True)
class Stats:
    """What an array's values are like.

    Attributes:
        min: the smallest finite value; NaN where there is none, as in the next three.
        max: the largest finite value.
        mean: the finite values' mean.
        std: their standard deviation.
        zeros: the share of values that are 0, from 0 to 1.
        nans: how many values are NaN.
        infs: how many are infinite.
    """

    min: float
    max: float
    mean: float
    std: float
    zeros: float
    nans: int
    infs: int

    @classmethod
    def of(cls, array: Array) -> Stats:
        """Count and measure, in float64."""
        nans = int(np.isnan(array).sum())
        infs = int(np.isinf(array).sum())
        zeros = float(np.mean(array == 0)) if array.size else float("nan")
        finite = array[np.isfinite(array)] if nans or infs else array
        if not finite.size:
            return cls(*(float("nan"),) * 4, zeros, nans, infs)
        return cls(
            min=float(finite.min()),
            max=float(finite.max()),
            mean=float(finite.mean(dtype=np.float64)),
            std=float(finite.std(dtype=np.float64)),
            zeros=zeros,
            nans=nans,
            infs=infs,
        )


class Trace(Mapping[str, Array]):
    """The results of a network's operations for one input, computed when they are asked for.

    A mapping from names to NHWC arrays, in network order; pooled features and logits are
    `[batch, 1, 1, channels]`. Names are torchvision's (`conv1`, `bn1`, `relu`, `maxpool`,
    `layer1.0.conv1`, ..., `avgpool`, `fc`); where torchvision has none, a block's ReLUs are `relu1`
    and `relu2`, its sum is `add`, and the ReLU after it has the block's name. The other names that
    torch's forward hooks see work too: `layer1` is the last block's result, `layer1.0.downsample`
    that of its batch norm, `layer1.0.relu` that of its last call, and `""` is the network's.

    No result is kept: `trace[name]` runs the network as far as `name`, and walking over `items()`
    or `values()` runs it again for every 256 MiB of results. So a trace of a large input needs
    little memory; keep what you want to use twice.

    `print(trace)` shows a table of every result's shape and statistics.
    """

    def __init__(
        self,
        operations: Sequence[Mapping[str, Any]],
        names: Sequence[str],
        image: Array,
        compute: Compute,
    ) -> None:
        """Describe what can be computed; `model.trace(image)` does this.

        Args:
            operations: the network's, from the core, for the image's size.
            names: which of them have a result: all, or those that end a fused layer.
            image: `[batch, height, width, channels]`, normalised.
            compute: gives the results of some of `names`.
        """
        self._operations = {operation["name"]: operation for operation in operations}
        self._names = dict.fromkeys(names)
        self._aliases = aliases(operations)
        self._image = image
        self._compute = compute
        self._stats: dict[str, Stats] = {}

    @property
    def operations(self) -> list[Mapping[str, Any]]:
        """The network's operations in order, as the core describes them for the image's size."""
        return list(self._operations.values())

    @property
    def image(self) -> Array:
        """The network's input: `[batch, height, width, channels]`, normalised."""
        return self._image

    def __getitem__(self, name: str) -> Array:
        """Compute one result; its array belongs to the caller."""
        return next(iter(self._compute([self._resolve(name)])))

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._aliases.get(name, name) in self._names

    def items(self) -> AbstractItemsView[str, Array]:
        """Names and results in network order, with a bounded number of results in memory."""
        return _Items(self)

    def values(self) -> AbstractValuesView[Array]:
        """Results in network order, with a bounded number of them in memory."""
        return _Values(self)

    def select(self, names: Sequence[str]) -> Iterator[Array]:
        """Compute several results in fewer runs than one by one.

        Args:
            names: in network order.

        Yields:
            The result of each name, in that order.

        Raises:
            KeyError: there is no such name.
        """
        return self._compute([self._resolve(name) for name in names])

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape `[batch, height, width, channels]` of a result; computes nothing.

        Raises:
            KeyError: there is no such name.
        """
        height, width, channels = self._operations[self._resolve(name)]["output_shape"]
        return len(self._image), height, width, channels

    def kind(self, name: str) -> str:
        """What computes a result: `conv`, `batch_norm`, `relu`, `add`, `max_pool`, ...

        In a fused trace it is the last of the operations that are fused.

        Raises:
            KeyError: there is no such name.
        """
        kind: str = self._operations[self._resolve(name)]["kind"]
        return kind

    def stats(self, name: str) -> Stats:
        """A result's smallest and largest value, mean, deviation, and counts of the odd ones.

        Raises:
            KeyError: there is no such name.
        """
        name = self._resolve(name)
        if name not in self._stats:
            self._stats[name] = Stats.of(self[name])
        return self._stats[name]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write every result to an `.npz` file, a dump that `resnet-rs compare` reads.

        The results go there one by one, and the file takes its name when it is complete.

        Args:
            path: the file; one that is there already is replaced.

        Raises:
            OSError: the file cannot be written.
        """
        from .dumps import write_dump

        write_dump(path, self.items(), image=self._image)

    def __repr__(self) -> str:
        if len(self._stats) < len(self._names):
            self._stats = {name: Stats.of(array) for name, array in self.items()}
        rows = [self._row(name) for name in self._names]
        shape = " x ".join(map(str, self._image.shape))
        return f"Trace of {len(rows)} results, input {shape}\n\n" + text_table(
            [("name", "kind", "shape", "min", "max", "mean", "std", "zeros", "NaN, Inf"), *rows],
            left=3,
        )

    def _row(self, name: str) -> tuple[str, ...]:
        stats = self._stats[name]
        numbers = (f"{n:.4g}" for n in (stats.min, stats.max, stats.mean, stats.std))
        shape = " x ".join(map(str, self.shape(name)))
        odd = f"{stats.nans}, {stats.infs}" if stats.nans or stats.infs else "-"
        return name, self.kind(name), shape, *numbers, f"{stats.zeros:.1%}", odd

    def _resolve(self, name: str) -> str:
        """The name that a result has here."""
        if not isinstance(name, str):
            raise TypeError(f"a result's name is a str; got {type(name).__name__}")
        found = self._aliases.get(name, name)
        if found in self._names:
            return found
        if found in self._operations:
            layer = self._operations[found]["fused_into"]
            raise KeyError(
                f"{found!r} has no result of its own here: it is fused into {layer!r}. "
                "trace(image, fused=False) has it"
            )
        import difflib

        close = difflib.get_close_matches(name, self._names, n=3)
        hint = f"did you mean {' or '.join(map(repr, close))}?" if close else "list(trace) has all"
        raise KeyError(f"no operation {name!r}; {hint}")


class _Items(AbstractItemsView[str, Array]):
    _mapping: Trace

    def __iter__(self) -> Iterator[tuple[str, Array]]:
        names = list(self._mapping)
        return zip(names, self._mapping.select(names), strict=True)


class _Values(AbstractValuesView[Array]):
    _mapping: Trace

    def __iter__(self) -> Iterator[Array]:
        return self._mapping.select(list(self._mapping))


def trace_model(
    model: ResNet, image: Any, *, fused: bool = False, chunk_bytes: int = CHUNK_BYTES
) -> Trace:
    """What `model.trace(image)` returns.

    Args:
        model: the network.
        image: one image or several, or what `forward` takes.
        fused: whether to give the results that production has, where batch norm, ReLU and add are
            fused into the convolution before them; else those of every single operation.
        chunk_bytes: how many bytes of results a walk holds at once.

    Raises:
        ImageError, OSError, TypeError, ValueError: as `model.preprocess` or `model.forward` does.
        WeightsError: the weights' files have changed since the model was loaded.
    """
    x = np.array(model._input_of(image))  # a copy: results stay the same if the caller's changes
    height, width = x.shape[1:3]
    operations = model.loaded.network.operations(height, width)
    if model.loaded.options.backend == "reference":
        names = [o["name"] for o in operations if not fused or o["fused_into"] == o["name"]]
        return Trace(operations, names, x, reference_results(operations, model.loaded.tensors(), x))
    network = model.loaded.network if fused else unfused(model)
    sizes = {o["name"]: 4 * len(x) * math.prod(o["output_shape"]) for o in operations}
    compute = core_results(network, x, sizes, chunk_bytes)
    return Trace(operations, network.layer_names, x, compute)


def unfused(model: ResNet) -> Network:
    """The model's network with every operation as a step of its own: it loads the weights again."""
    network = model.loaded.network
    return Network.from_tensors(
        model.loaded.tensors(),
        network.config_json,
        origin=model.loaded.options.origin,
        isa=network.isa,
        threads=network.threads,
        winograd=model.loaded.options.winograd,
        fused=False,
    )


def core_results(network: Network, x: Array, sizes: Mapping[str, int], chunk_bytes: int) -> Compute:
    """Results from the compiled core.

    Args:
        network: fused or not; its layers are what can be asked for.
        x: its input.
        sizes: each layer's bytes.
        chunk_bytes: how many bytes of results to hold at once.
    """

    def compute(names: Sequence[str]) -> Iterator[Array]:
        for chunk in _chunks(names, sizes, chunk_bytes):
            results = network.features(x, chunk)
            while results:
                yield results.pop(0)

    return compute


def reference_results(
    operations: Sequence[Mapping[str, Any]], tensors: Mapping[str, Array], x: Array
) -> Compute:
    """Results from the NumPy reference, in float64; a walk over them is a single run."""

    def compute(names: Sequence[str]) -> Iterator[Array]:
        from ..reference import run

        wanted = iter(names)
        name = next(wanted, None)
        for done, result in run(operations, tensors, x):
            if done == name:
                yield result
                name = next(wanted, None)
                if name is None:
                    return

    return compute


def _chunks(names: Sequence[str], sizes: Mapping[str, int], limit: int) -> Iterator[list[str]]:
    """Consecutive names whose sizes add up to `limit` at most; at least one each."""
    chunk: list[str] = []
    total = 0
    for name in names:
        if chunk and total + sizes[name] > limit:
            yield chunk
            chunk, total = [], 0
        chunk.append(name)
        total += sizes[name]
    if chunk:
        yield chunk


def aliases(operations: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Names that torchvision's and timm's modules have beside the operations' own."""
    names = {operation["name"] for operation in operations}
    found: dict[str, str] = {}
    for operation in operations:
        name: str = operation["name"]
        parts = name.split(".")
        if name.startswith("layer") and len(parts) == 2:  # a block: its last ReLU
            found[parts[0]] = name
            found[f"{name}.relu"] = name
            last_inner = sum(f"{name}.relu{i}" in names for i in (1, 2, 3))
            found[f"{name}.act{last_inner + 1}"] = name
        elif name.startswith("layer") and parts[2].startswith("relu"):
            found[name.replace("relu", "act")] = name
        elif name.startswith("layer") and parts[2] == "downsample":
            found[f"{parts[0]}.{parts[1]}.downsample"] = name
            if parts[3] == "1" and operation["kind"] == "conv":
                # A stage of stride 1 pools nothing: its `downsample.0` hands the input on.
                pool = name.removesuffix("1") + "0"
                if pool not in names:
                    found[pool] = operation["inputs"][0]
        elif parts[0] == "conv1" and len(parts) == 2:
            found["conv1"] = name
        elif name == "relu":
            found["act1"] = name
        elif name == "avgpool":
            found["global_pool"] = name
        found[""] = name
    return {alias: name for alias, name in found.items() if alias not in names}

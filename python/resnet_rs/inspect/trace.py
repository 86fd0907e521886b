"""Traces: the result of every operation of a network, by name."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import ItemsView as AbstractItemsView
from collections.abc import ValuesView as AbstractValuesView
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .. import arguments
from .._core import Network
from ..reference import walk
from ..terminal.tables import text_table
from ..weights.loaded import Loaded
from .aliases import aliases
from .dumps import write_dump
from .inputs import network_input

Array: TypeAlias = NDArray[Any]
# Takes names in network order, and yields the result of each.
Compute: TypeAlias = Callable[[Sequence[str]], Iterator[Array]]

CHUNK_BYTES = 256 << 20
"""How many bytes of results a walk over a trace holds at once; one result may need more."""


@dataclass(frozen=True, slots=True)
class Stats:
    """Statistics of an array's values.

    Attributes:
        min: the smallest finite value. NaN if no value is finite, as in the next three.
        max: the largest finite value.
        mean: the finite values' mean.
        std: the finite values' standard deviation.
        zeros: the share of values that are 0, from 0 to 1.
        nans: the number of NaNs.
        infs: the number of infinite values.
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
        """Compute the statistics of `array`, in float64."""
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
    """The results of a network's operations for one input, each computed on access.

    A trace is a mapping from names to NHWC arrays, in network order; pooled features and logits are
    `[batch, 1, 1, channels]`. Names are torchvision's (`conv1`, `bn1`, `relu`, `maxpool`,
    `layer1.0.conv1`, ..., `avgpool`, `fc`). torchvision has no names for some operations of a
    block: here its ReLUs are `relu1` and `relu2`, its sum is `add`, and the ReLU after the sum has
    the block's name. The other names that torch's forward hooks see work too: `layer1` is the
    result of the last block, `layer1.0.downsample` that of its batch norm, `layer1.0.relu` that of
    the ReLU's last call, and `""` that of the network.

    No result is kept: `trace[name]` runs the network up to `name`, and a walk over `items()` or
    `values()` runs it again for every 256 MiB of results. A trace of a large input therefore needs
    little memory. Keep the arrays that you use twice.

    `print(trace)` shows a table of every result's shape and statistics.
    """

    def __init__(
        self,
        operations: Sequence[Mapping[str, Any]],
        names: Sequence[str],
        image: Array,
        compute: Compute,
    ) -> None:
        """Make a trace; users call `model.trace(image)`.

        Args:
            operations: the network's operations for the image's size, as the core lists them.
            names: the operations that have a result: all, or those that end a fused layer.
            image: `[batch, height, width, channels]`, normalised.
            compute: yields the results of some of `names`.
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
        """Compute one result; the array belongs to the caller."""
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
        """Compute several results, in fewer runs of the network than one by one.

        Args:
            names: in network order.

        Yields:
            The result of each name, in that order.

        Raises:
            KeyError: there is no such name.
        """
        return self._compute([self._resolve(name) for name in names])

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape `[batch, height, width, channels]` of a result, without computing it.

        Raises:
            KeyError: there is no such name.
        """
        height, width, channels = self._operations[self._resolve(name)]["output_shape"]
        return len(self._image), height, width, channels

    def kind(self, name: str) -> str:
        """The kind of a result's operation: `conv`, `batch_norm`, `relu`, `add`, `max_pool`, ...

        In a fused trace it is the kind of the last of the fused operations.

        Raises:
            KeyError: there is no such name.
        """
        kind: str = self._operations[self._resolve(name)]["kind"]
        return kind

    def stats(self, name: str) -> Stats:
        """Compute a result's statistics, once.

        Raises:
            KeyError: there is no such name.
        """
        name = self._resolve(name)
        if name not in self._stats:
            self._stats[name] = Stats.of(self[name])
        return self._stats[name]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write every result to an `.npz` file, a dump that `resnet-rs compare` reads.

        The results are written one by one. The file gets its name when it is complete, and then
        replaces an older file of that name.

        Args:
            path: the file to write.

        Raises:
            OSError: the file cannot be written.
        """
        write_dump(path, self.items(), image=self._image)

    def as_list(self) -> list[dict[str, Any]]:
        """Return name, kind, shape and statistics of every result, in types that JSON has.

        A number that is not finite becomes None.
        """
        self._measure()
        return [
            {
                "name": name,
                "kind": self.kind(name),
                "shape": self.shape(name),
                **{key: _finite(value) for key, value in asdict(self._stats[name]).items()},
            }
            for name in self._names
        ]

    def __repr__(self) -> str:
        self._measure()
        rows = [self._row(name) for name in self._names]
        shape = " x ".join(map(str, self._image.shape))
        return f"Trace of {len(rows)} results, input {shape}\n\n" + text_table(
            [("name", "kind", "shape", "min", "max", "mean", "std", "zeros", "NaN, Inf"), *rows],
            left=3,
        )

    def _measure(self) -> None:
        """Compute the statistics of all results in one walk."""
        if len(self._stats) < len(self._names):
            self._stats = {name: Stats.of(array) for name, array in self.items()}

    def _row(self, name: str) -> tuple[str, ...]:
        stats = self._stats[name]
        numbers = (f"{n:.4g}" for n in (stats.min, stats.max, stats.mean, stats.std))
        shape = " x ".join(map(str, self.shape(name)))
        odd = f"{stats.nans}, {stats.infs}" if stats.nans or stats.infs else "-"
        return name, self.kind(name), shape, *numbers, f"{stats.zeros:.1%}", odd

    def _resolve(self, name: str) -> str:
        """Find the name under which this trace has a result.

        Raises:
            KeyError: there is no such name.
        """
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


def trace(
    loaded: Loaded, image: Any, *, fused: bool = False, chunk_bytes: int = CHUNK_BYTES
) -> Trace:
    """Trace a network for one input, as `ResNet.trace` describes.

    Args:
        loaded: the network.
        image: one image or several, or what `ResNet.forward` takes.
        fused: trace the layers that a forward runs, which have batch norm, ReLU and addition fused
            into the convolutions before them; otherwise trace every single operation.
        chunk_bytes: how many bytes of results a walk holds at once.

    Raises:
        ImageError, OSError, TypeError, ValueError: as `ResNet.preprocess` or `ResNet.forward` does.
        WeightsError: the weights' files have changed since the network was loaded.
    """
    fused = arguments.flag("fused", fused)
    is_reference = loaded.options.backend == "reference"
    if not fused and (is_reference or loaded.precision == "int8"):
        loaded.require_f32("a trace of single operations (not --fused)")
    # A copy: the trace stays the same if the caller changes the array.
    x = np.array(network_input(loaded, image))
    height, width = x.shape[1:3]
    operations = loaded.network.operations(height, width)
    if is_reference and loaded.precision == "f32":
        names = [o["name"] for o in operations if not fused or o["fused_into"] == o["name"]]
        return Trace(operations, names, x, reference_results(operations, loaded.tensors(), x))
    network = loaded.network if fused else unfused(loaded)
    sizes = {o["name"]: 4 * len(x) * math.prod(o["output_shape"]) for o in operations}
    compute = core_results(network, x, sizes, chunk_bytes)
    return Trace(operations, network.layer_names, x, compute)


def unfused(loaded: Loaded) -> Network:
    """Load a network's weights again, with every operation as a step of its own.

    Raises:
        WeightsError: the weights' files have changed since the network was loaded.
    """
    network = loaded.network
    return Network.from_tensors(
        loaded.tensors(),
        json.dumps(network.config),
        origin=loaded.options.origin,
        isa=network.isa,
        threads=network.threads,
        winograd=loaded.options.winograd,
        fused=False,
        precision=loaded.precision,
        strict=True,
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def core_results(network: Network, x: Array, sizes: Mapping[str, int], chunk_bytes: int) -> Compute:
    """Take results from the compiled core.

    Args:
        network: fused or not; every layer of it has a result.
        x: its input.
        sizes: the bytes of each layer's result.
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
    """Take results from the NumPy reference, in float64; a walk over them is a single run."""

    def compute(names: Sequence[str]) -> Iterator[Array]:
        wanted = iter(names)
        name = next(wanted, None)
        for done, result in walk.run(operations, tensors, x):
            if done == name:
                yield result
                name = next(wanted, None)
                if name is None:
                    return

    return compute


def _chunks(names: Sequence[str], sizes: Mapping[str, int], limit: int) -> Iterator[list[str]]:
    """Cut names into runs whose sizes add up to `limit` at most, with at least one name each."""
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

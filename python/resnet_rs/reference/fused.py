"""Operations put together into layers, as networks of fewer bits compute them.

A layer is what is rounded once: a convolution with its batch norm, the addition after it and ReLU,
or a pool. A shortcut's convolution is a second source of its block's last layer: its products go
into the same sum. An operation that follows no convolution is a layer of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from .walk import Operation

IMAGE = "image"
"""The name of the network's input."""

LAST_POOL = "avgpool"
"""The pool before fc."""


@dataclass(frozen=True)
class Source:
    """One convolution of a layer, or fc.

    Attributes:
        operation: the convolution.
        input: the layer that it reads, or `image`.
        norm: the batch norm after it, which is folded into its weights; None if there is none.
    """

    operation: Operation
    input: str
    norm: Operation | None = None

    @property
    def name(self) -> str:
        """The convolution's name, with which its tensors begin."""
        name: str = self.operation["name"]
        return name


@dataclass(frozen=True)
class Layer:
    """A layer.

    Attributes:
        name: that of the last operation in it.
        sources: its convolutions: one, or a block's last one and its shortcut's; none for others.
        skip: the layer whose output is added to its convolutions'; None if there is none.
        relu: whether a ReLU follows its convolutions.
        pool: the operation of a layer that is a pool, or channels of zeros.
        elementwise: the operations of a layer without a convolution: a batch norm, an addition,
            a ReLU, or an addition and its ReLU.
    """

    name: str
    sources: tuple[Source, ...] = ()
    skip: str | None = None
    relu: bool = False
    pool: Operation | None = None
    elementwise: tuple[Operation, ...] = ()

    @property
    def is_last(self) -> bool:
        """True for fc, whose results are logits."""
        return bool(self.sources) and self.sources[0].operation["kind"] == "linear"

    @property
    def has_scale(self) -> bool:
        """True if its output has a scale of its own in int8; others hand on their input's."""
        if self.pool is None:
            return not self.is_last
        return self.name == LAST_POOL and self.pool["kind"] in ("avg_pool", "global_avg_pool")

    @property
    def inputs(self) -> tuple[str, ...]:
        """The layers that it reads."""
        if self.pool is not None:
            return tuple(self.pool["inputs"])
        if self.elementwise:
            return tuple(self.elementwise[0]["inputs"])
        skip = () if self.skip is None else (self.skip,)
        return (*(source.input for source in self.sources), *skip)


def fused_layers(operations: Sequence[Operation]) -> list[Layer]:
    """Put a network's operations together into layers, in order.

    Args:
        operations: the result of `operations` or `Network.operations`.
    """
    grouping = _Grouping()
    for operation in operations:
        grouping.take(operation)
    grouping.layer_of(operations[-1]["name"])  # no operation reads fc
    return grouping.layers


@dataclass
class _Grouping:
    """The layers so far, and the sums that are not yet a layer, by their last operation."""

    layers: list[Layer] = field(default_factory=list)
    sums: dict[str, Layer] = field(default_factory=dict)

    def take(self, operation: Operation) -> None:
        name, first = operation["name"], operation["inputs"][0]
        whole = None if operation["kind"] in ("conv", "linear") else self.sums.pop(first, None)
        match operation["kind"]:
            case "conv" | "linear":
                source = Source(operation, self.layer_of(first))
                self.sums[name] = Layer(name, (source,))
            case "batch_norm" if whole:
                (source,) = whole.sources
                self.sums[name] = Layer(name, (replace(source, norm=operation),))
            case "add" if whole:
                other = operation["inputs"][1]
                if shortcut := self.sums.pop(other, None):
                    self.sums[name] = Layer(name, whole.sources + shortcut.sources)
                else:
                    self.sums[name] = Layer(name, whole.sources, skip=other)
            case "relu" if whole:
                self.layers.append(replace(whole, name=name, relu=True))
            case "relu" if self._follows_addition(first):
                (addition,) = self.layers.pop().elementwise
                self.layers.append(Layer(name, elementwise=(addition, operation)))
            case "batch_norm" | "add" | "relu":
                for other in operation["inputs"]:
                    self.layer_of(other)
                self.layers.append(Layer(name, elementwise=(operation,)))
            case _:
                if whole:
                    self.layers.append(whole)
                self.layers.append(Layer(name, pool=operation))

    def layer_of(self, name: str) -> str:
        """Make the operation's sum a layer, if it is none yet."""
        if name in self.sums:
            self.layers.append(self.sums.pop(name))
        return name

    def _follows_addition(self, name: str) -> bool:
        """Tell whether the last layer is the addition of that name."""
        last = self.layers[-1] if self.layers else None
        return (
            last is not None
            and last.name == name
            and [operation["kind"] for operation in last.elementwise] == ["add"]
        )

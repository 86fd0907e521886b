"""Segments: the few operations that contain a mistake, computed again under each hypothesis."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...reference.walk import Operation, evaluate, parameters
from .formulas import Formula
from .sides import ModelSource, Source

Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True)
class Hypothesis:
    """A mistake at one place, or at several.

    Attributes:
        layer: the operation with the mistake, the first of several, or `image`.
        mistake: the class of mistakes.
        text: a clause that says what was done.
        formulas: the wrong formula of each operation that has one.
        image: the wrong input of the network; None if the input is right.
    """

    layer: str
    mistake: str
    text: str
    formulas: Mapping[str, Formula] = field(default_factory=dict)
    image: Array | None = None


@dataclass
class Segment:
    """The operations between known results and a wrong one, with their right results.

    Attributes:
        operations: in network order; the last one has the wrong result.
        tensors: the tensors of each operation, by part.
        values: the results by operation: known ones (the other side's own) and computed ones.
        network: all operations of the network.
        checkpoint: all tensors of the network.
        given_image: True if the other side states its input, which is right then.
    """

    operations: list[Operation]
    tensors: dict[str, dict[str, Array]]
    values: dict[str, Array]
    network: Sequence[Operation]
    checkpoint: Mapping[str, Array]
    given_image: bool

    @classmethod
    def between(
        cls, expert: ModelSource, other: Source, wrong: str, right: Mapping[str, str]
    ) -> Segment:
        """Find the operations that lead from results that agree to the first wrong one.

        Args:
            expert: the model that is taken to be right.
            other: the other side.
            wrong: the first operation whose result differs.
            right: the operations whose results agree, mapped to their names at the other side.
        """
        by_name = {operation["name"]: operation for operation in expert.operations}
        needed: set[str] = set()
        known: set[str] = set()
        waiting = [wrong]
        while waiting:
            name = waiting.pop()
            if name != wrong and (name in right or name == "image"):
                known.add(name)
            elif name not in needed:
                needed.add(name)
                waiting.extend(by_name[name]["inputs"])
        operations = [o for o in expert.operations if o["name"] in needed]
        tensors = {o["name"]: parameters(o, expert.tensors) for o in operations}
        given_image = "image" in right and other.image is not None
        values: dict[str, Array] = {}
        for name in known:
            if name == "image":
                array = other.image if given_image else expert.image
            else:
                array = next(iter(other.results([right[name]])))
            values[name] = np.asarray(array, np.float64)
        for operation in operations:
            name = operation["name"]
            inputs = [values[i] for i in operation["inputs"]]
            values[name] = evaluate(operation, inputs, tensors[name])
        return cls(operations, tensors, values, expert.operations, expert.tensors, given_image)

    def outcomes(
        self, hypotheses: Iterator[Hypothesis], budget: int
    ) -> Iterator[tuple[Hypothesis, Array]]:
        """Yield each hypothesis with the last operation's result, until the budget is spent.

        Args:
            hypotheses: likely ones first.
            budget: multiply-accumulates.
        """
        for hypothesis in hypotheses:
            changed: dict[str, Array] = {}
            if hypothesis.image is not None:
                changed["image"] = hypothesis.image
            try:
                for operation in self.operations:
                    name = operation["name"]
                    formula = hypothesis.formulas.get(name)
                    if formula is None and not any(i in changed for i in operation["inputs"]):
                        continue
                    inputs = [changed.get(i, self.values[i]) for i in operation["inputs"]]
                    with np.errstate(all="ignore"):
                        changed[name] = (formula or evaluate)(operation, inputs, self.tensors[name])
                    budget -= cost(operation, changed[name])
            except ValueError:
                continue  # the shapes do not fit: no program can have computed this
            if self.operations[-1]["name"] in changed:
                yield hypothesis, changed[self.operations[-1]["name"]]
            if budget < 0:
                return


def cost(operation: Operation, result: Array) -> int:
    """Count multiply-accumulates; an operation without any costs one for each value."""
    if operation["kind"] != "conv":
        return int(result.size)
    window = operation["kernel"] ** 2 * operation["in_channels"] // operation["groups"]
    return int(result.size * window)

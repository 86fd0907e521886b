"""The few operations among which a mistake must be, and what comes of them under a hypothesis."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...reference.walk import Operation, evaluate, parameters
from .mistakes import Formula
from .sides import ModelSource, Source

Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True)
class Hypothesis:
    """A mistake at its place, or at several.

    Attributes:
        layer: the operation where it is, the first of several, or `image`.
        mistake: the class of mistakes.
        text: what was done, as a clause.
        formulas: the wrong formula of each operation that has one.
        image: the wrong input of the network; None where it is the right one.
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
        operations: in network order; the last one is the wrong one.
        tensors: each one's tensors by part.
        values: results by operation: those known (the other side's own) and those computed.
        network: all operations of the network, with tensors to look up for them.
        checkpoint: the network's tensors.
        given_image: whether the other side told its input; else it may have been a wrong one.
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
        """The operations that lead from what the other side has right to what it has wrong.

        Args:
            expert: the model that is taken to be right.
            other: the other side.
            wrong: the operation whose result differs first.
            right: the operations whose results agree, with their names at the other side.
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
        """Each hypothesis with the last operation's result under it, as far as the budget goes."""
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
                continue  # the shapes do not fit: nobody can have computed this
            if self.operations[-1]["name"] in changed:
                yield hypothesis, changed[self.operations[-1]["name"]]
            if budget < 0:
                return


def cost(operation: Operation, result: Array) -> int:
    """Multiply-accumulates, one for each value of an operation that has none."""
    if operation["kind"] != "conv":
        return int(result.size)
    window = operation["kernel"] ** 2 * operation["in_channels"] // operation["groups"]
    return int(result.size * window)

"""The way back through a network, walked again with some gradients computed wrongly."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...reference import losses
from ...reference.walk import Operation, parameters
from ...reference.walk_back import Backward, pull_back
from .backward_formulas import Formula, Outcome
from .segment import cost
from .step_values import StepTask

Array: TypeAlias = NDArray[Any]


class WayBack:
    """A step's gradients, from which a mistake is followed down to one name.

    Args:
        task: the step.
        tensors: the network's tensors.
        right: the step without mistakes.
    """

    def __init__(self, task: StepTask, tensors: Mapping[str, Array], right: Backward) -> None:
        self.task = task
        self.right = right
        self.tensors = {o["name"]: parameters(o, tensors) for o in task.operations}
        self.operations: dict[str, Operation] = {o["name"]: o for o in task.operations}
        self._consumers: dict[str, list[tuple[str, int]]] = {}
        for operation in task.operations:
            for place, name in enumerate(operation["inputs"]):
                self._consumers.setdefault(name, []).append((operation["name"], place))
        self._outcomes: dict[str, Outcome] = {}

    def owner(self, name: str) -> str:
        """The operation whose result or tensor has a name; `image` for the input's."""
        for operation in self.task.operations:
            if name == operation["name"] or name in _learned(operation):
                return str(operation["name"])
        return "image"

    def suspects(self, wrong: str, right: Collection[str]) -> list[str]:
        """The operations whose gradient may be wrong, if the first wrong name is `wrong`.

        The way leads from the owner of `wrong` towards the loss, up to the next operations with
        gradients that agree, and includes those: the gradient by their inputs may be wrong.

        Args:
            wrong: a name of a tensor or a result.
            right: the names that agree.

        Returns:
            In the order of the way back.
        """
        owner = self.owner(wrong)
        found: set[str] = set() if wrong == owner else {owner}
        waiting = [name for name, _ in self._consumers.get(owner, [])]
        while waiting:
            name = waiting.pop()
            if name in found:
                continue
            found.add(name)
            agree = [n for n in (name, *_learned(self.operations[name])) if n in right]
            if not agree:
                waiting.extend(consumer for consumer, _ in self._consumers.get(name, []))
        return [o["name"] for o in reversed(self.task.operations) if o["name"] in found]

    def follow(self, formulas: Mapping[str, Formula], wrong: str) -> tuple[Array | None, int]:
        """Walk back with wrong formulas of some operations, down to a name.

        Args:
            formulas: by the operation's name.
            wrong: a name of a tensor or a result.

        Returns:
            The gradient by `wrong`, None if no mistake reaches it; and the multiply-accumulates
            that the walk took.
        """
        last = self.owner(wrong)
        changed: dict[tuple[str, int], Array] = {}  # an operation and the place of its input
        spent = 0
        for operation in reversed(self.task.operations):
            name = operation["name"]
            users = self._consumers.get(name, [])
            is_dirty = any(user in changed for user in users)
            if name == last and wrong == last:
                return (self._sum(name, changed) if is_dirty else None), spent
            formula = formulas.get(name)
            if is_dirty or formula is not None:
                dy = self._sum(name, changed) if is_dirty else self.right.result_gradients[name]
                to_inputs, to_tensors = self._pull(operation, dy, formula)
                spent += 2 * cost(operation, dy)
                changed.update({(name, i): dx for i, dx in enumerate(to_inputs)})
                if name == last:
                    return self._part(operation, to_tensors, wrong), spent
            elif name == last:
                return None, spent
        return self._sum("image", changed), spent

    def of_loss(self, dlogits: Array, wrong: str) -> Array | None:
        """The gradient by a name of the last operation under another gradient by the logits.

        Args:
            dlogits: `[batch, classes]`.
            wrong: a name of the last operation, or of one of its tensors.
        """
        operation = self.task.operations[-1]
        dy = dlogits[:, None, None]
        if wrong == operation["name"]:
            return dy
        return self._part(operation, self._pull(operation, dy, None)[1], wrong)

    def of_forward(self, results: Mapping[str, Array], wrong: str) -> Array | None:
        """The gradient by a name of the last operation after another forward.

        Args:
            results: each operation's result.
            wrong: a name of the last operation, or of one of its tensors.
        """
        operation = self.task.operations[-1]
        name = operation["name"]
        dy = losses.cross_entropy_gradient(results[name][:, 0, 0], self.task.targets)[:, None, None]
        if wrong == name:
            return dy
        inputs = [results[i] for i in operation["inputs"]]
        outcome = pull_back(operation, dy, inputs, results[name], self.tensors[name])
        return self._part(operation, outcome[1], wrong)

    @property
    def logits(self) -> Array:
        """The right logits, `[batch, classes]`."""
        logits: Array = self.right.results[self.task.operations[-1]["name"]][:, 0, 0]
        return logits

    @property
    def dlogits(self) -> Array:
        """The right gradient by the logits, `[batch, classes]`."""
        return losses.cross_entropy_gradient(self.logits, self.task.targets)

    def _pull(self, operation: Operation, dy: Array, formula: Formula | None) -> Outcome:
        name = operation["name"]
        inputs = [self.right.results[i] for i in operation["inputs"]]
        result, own = self.right.results[name], self.tensors[name]
        if formula is not None:
            with np.errstate(all="ignore"):
                return formula(operation, dy, inputs, result, own)
        batch_statistics = operation["kind"] == "batch_norm" and name not in self.task.frozen
        return pull_back(operation, dy, inputs, result, own, batch_statistics=batch_statistics)

    def _right(self, name: str) -> Outcome:
        if name not in self._outcomes:
            operation = self.operations[name]
            self._outcomes[name] = self._pull(operation, self.right.result_gradients[name], None)
        return self._outcomes[name]

    def _sum(self, name: str, changed: Mapping[tuple[str, int], Array]) -> Array:
        """The gradient by a result: what its users hand back, added up."""
        total: Array = np.zeros(())
        for user, place in self._consumers.get(name, []):
            part = changed.get((user, place))
            total = total + (self._right(user)[0][place] if part is None else part)
        return total

    @staticmethod
    def _part(operation: Operation, to_tensors: Mapping[str, Array], wrong: str) -> Array | None:
        for part, (name, _) in operation["parameters"].items():
            if name == wrong:
                return to_tensors.get(part)
        return None


def _learned(operation: Operation) -> list[str]:
    """The names of an operation's tensors that learn."""
    parts = operation["parameters"].items()
    return [name for part, (name, _) in parts if part in ("weight", "bias")]

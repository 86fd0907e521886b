"""Diagnosis of a training step: the mistake that explains its first wrong value."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...reference.walk_back import Backward
from .backward_formulas import Formula, backward_mistakes
from .diagnose import MAC_BUDGET, Diagnosis, best_of
from .numbers import relative_l2
from .segment import Hypothesis
from .step_files import Sgd
from .step_mistakes import (
    fitted_smoothing,
    other_forwards,
    other_losses,
    other_statistics,
    stored_gradients,
)
from .step_values import StepTask, StepValues
from .way_back import WayBack

Array: TypeAlias = NDArray[Any]
# A hypothesis, and the values under it.
Outcomes: TypeAlias = Iterator[tuple[Hypothesis, Array]]


@dataclass
class StepDiagnosis:
    """Finds the mistake in a step.

    Attributes:
        task: the step.
        tensors: the network's tensors.
        given: the other side's values.
        sgd: the step of SGD that the other side's weights come from; None for gradients.
        tolerance: the largest relative L2 difference that counts as equal.
    """

    task: StepTask
    tensors: Mapping[str, Array]
    given: StepValues
    sgd: Sgd | None
    tolerance: float

    @cached_property
    def right(self) -> Backward:
        """The step without mistakes, in float64."""
        return self.task.reference(self.tensors)

    @cached_property
    def way(self) -> WayBack:
        """The way back."""
        return WayBack(self.task, self.tensors, self.right)

    def find(self, wrong: Sequence[str], agree: Sequence[str]) -> Diagnosis | None:
        """Find the mistake.

        Args:
            wrong: the names that differ, in the order of the step, `loss` first if it does.
            agree: the names that agree.

        Returns:
            The diagnosis; None if no known mistake gives these values.
        """
        first = next((name for name in wrong if name != "loss"), None)
        if first is None:
            return self._loss()
        values = self._values(first)
        bad = int(np.size(values) - np.isfinite(values).sum())
        if bad:
            text = f"{bad} of {np.size(values)} values are NaN or infinite"
            return Diagnosis(first, "not finite", text, float("nan"))
        if first in self.given.statistics:
            before = np.asarray(self.tensors[first], np.float64)
            mistakes = other_statistics(first, self.task, before, self.right.statistics[first])
            return self._best(_at(first, mistakes), first, near=True)
        return (
            self._factor(wrong)
            or self._decay(wrong)
            or self._best(self._stored(first), first)
            or self._best(self._last_layer(first), first)
            or self._best(self._formulas(first, agree), first)
            or self._own_factor(first)
        )

    def _values(self, name: str) -> Array:
        for place in (self.given.statistics, self.given.tensors, self.given.results):
            if name in place:
                return np.asarray(place[name], np.float64)
        raise KeyError(name)

    def _right(self, name: str) -> Array:
        gradients = self.right.gradients
        return gradients[name] if name in gradients else self.right.result_gradients[name]

    def _best(
        self, outcomes: Iterable[tuple[Hypothesis, Array]], name: str, *, near: bool = False
    ) -> Diagnosis | None:
        """Find the hypothesis that comes closest.

        Args:
            outcomes: likely ones first.
            name: of the wrong value.
            near: the value is of the forward, and compared more strictly.
        """
        given = self._values(name)
        right = self.right.statistics[name] if name in self.right.statistics else self._right(name)
        before = relative_l2(given, right) if given.shape == right.shape else float("inf")
        allowed = min(self.tolerance, before / 2) if near else self.tolerance
        return best_of(outcomes, given, before, allowed + self.given.rounding.get(name, 0.0))

    def _loss(self) -> Diagnosis | None:
        """Explain a loss that is wrong while all else agrees."""
        assert self.given.loss is not None
        factor = self.given.loss / self.right.loss if self.right.loss else float("nan")
        batch = len(self.task.image)
        if batch > 1 and abs(factor / batch - 1) <= self.tolerance:
            text = f"the loss is the sum over {batch} images, the gradients are those of the mean"
            return Diagnosis("loss", "sum instead of mean", text, abs(factor / batch - 1))
        return None

    def _pairs(self, wrong: Sequence[str]) -> list[tuple[str, Array, Array]]:
        """The wrong gradients of tensors beside the right ones, those of one shape."""
        pairs = [
            (name, self._values(name), self._right(name))
            for name in wrong
            if name in self.given.tensors and name in self.right.gradients
        ]
        return [(n, given, right) for n, given, right in pairs if given.shape == right.shape]

    def _factor(self, wrong: Sequence[str]) -> Diagnosis | None:
        """Explain all gradients by one factor."""
        pairs = self._pairs(wrong)
        if len(pairs) < len(self.given.tensors) or not pairs:
            return None
        factor = _slope([(given, right) for _, given, right in pairs])
        if not factor:
            return None
        errors = [
            relative_l2(given, factor * right) - self.given.rounding.get(name, 0.0)
            for name, given, right in pairs
        ]
        if max(errors) > self.tolerance:
            return None
        return Diagnosis("loss", *self._factor_text(factor), max(0.0, *errors))

    def _factor_text(self, factor: float) -> tuple[str, str]:
        batch = len(self.task.image)
        known = {
            float(batch): (
                "sum instead of mean",
                f"the loss is the sum over {batch} images, not their mean",
            ),
            1 / batch: ("mean taken twice", f"the loss is divided by {batch} images twice"),
            -1.0: (
                "wrong sign",
                "the gradients point uphill: they are those of the negative loss",
            ),
            2.0: (
                "gradients added up",
                "the gradients are twice the right ones: those of an earlier batch were not set to "
                "0, or backward ran twice",
            ),
            1 / self.task.targets.shape[1]: (
                "mean over the classes",
                "the loss is divided by the number of classes too",
            ),
        }
        for value, explanation in known.items():
            if value != 1 and abs(factor / value - 1) <= self.tolerance:
                return explanation
        if self.sgd is not None:
            rate = factor * self.sgd.lr
            return "learning rate", f"the learning rate was {rate:.4g}, not {self.sgd.lr:g}"
        return "wrong scale", f"every gradient is {factor:.6g} times the right one"

    def _decay(self, wrong: Sequence[str]) -> Diagnosis | None:
        """Explain the wrong gradients by a part of the weights in them."""
        pairs = self._pairs(wrong)
        weights = {name: np.asarray(self.tensors[name], np.float64) for name, _, _ in pairs}
        part = _slope([(given - right, weights[name]) for name, given, right in pairs])
        if not part:
            return None
        errors = [
            relative_l2(given, right + part * weights[name]) - self.given.rounding.get(name, 0.0)
            for name, given, right in pairs
        ]
        before = min(relative_l2(given, right) for _, given, right in pairs)
        if max(errors) > self.tolerance or max(errors) * 2 > before:
            return None
        stated = self.sgd.weight_decay if self.sgd else 0.0
        found = stated + part
        kind = "weight decay"
        if abs(found) <= 0.01 * abs(part):
            text = f"the step has no weight decay; {stated:g} was expected"
        else:
            text = f"{found:.3g} times the weights is in the gradients; {stated:g} was expected"
        return Diagnosis(pairs[0][0], kind, text, max(0.0, *errors))

    def _stored(self, name: str) -> Outcomes:
        if name not in self.right.gradients:
            return
        for one in stored_gradients(name, self.right.gradients):
            yield Hypothesis(name, one.mistake, one.text), one.result

    def _last_layer(self, name: str) -> Outcomes:
        """Mistakes in the loss, or in the forward; both show in the last layer first."""
        if self.way.owner(name) != self.task.operations[-1]["name"]:
            return
        found = [*other_losses(self.way)]
        for mistake, text, dlogits in found:
            values = self.way.of_loss(dlogits, name)
            if values is not None:
                yield Hypothesis("loss", mistake, text), values
        for mistake, text, values in fitted_smoothing(self.way, name, self._values(name)):
            yield Hypothesis("loss", mistake, text), values
        norm = next((o["name"] for o in self.task.operations if o["kind"] == "batch_norm"), "")
        for mistake, text, results in other_forwards(self.task, self.tensors):
            values = self.way.of_forward(results, name)
            if values is not None:
                yield Hypothesis(norm, mistake, text), values

    def _formulas(self, wrong: str, agree: Sequence[str]) -> Outcomes:
        """Wrong gradients of operations, at all places at once and at each alone."""
        budget = MAC_BUDGET
        places: dict[tuple[str, str], dict[str, Formula]] = {}
        for name in self.way.suspects(wrong, agree):
            for mistake in backward_mistakes(self.way.operations[name]):
                places.setdefault((mistake.mistake, mistake.text), {})[name] = mistake.formula
        for (kind, text), formulas in places.items():
            for name, formula in formulas.items():
                try:
                    values, spent = self.way.follow({name: formula}, wrong)
                except ValueError:
                    continue  # the shapes do not fit: no program can have computed this
                budget -= spent
                if values is not None:
                    yield Hypothesis(name, kind, text), values
                if budget < 0:
                    return

    def _own_factor(self, name: str) -> Diagnosis | None:
        given, right = self._values(name), self._right(name)
        if given.shape != right.shape:
            return None
        if not given.any():
            text = "every value is 0: no gradient has arrived, or it was set to 0"
            return Diagnosis(name, "no gradient", text, 0.0)
        factor = _slope([(given, right)])
        error = relative_l2(given, factor * right) if factor else float("inf")
        if error > self.tolerance:
            return None
        text = f"every value is {factor:.6g} times the right one"
        return Diagnosis(name, "wrong scale", text, error)


def _at(layer: str, mistakes: Iterable[tuple[str, str, Array]]) -> Outcomes:
    return ((Hypothesis(layer, mistake, text), values) for mistake, text, values in mistakes)


def _slope(pairs: Sequence[tuple[Array, Array]]) -> float:
    """The factor that takes the second arrays closest to the first; 0 if there is none.

    Each pair counts as much as the others, whatever the size of its values.
    """
    upper = lower = 0.0
    for one, other in pairs:
        square = float(np.square(other).sum())
        if square:
            upper += float((one * other).sum()) / square
            lower += 1
    return upper / lower if lower else 0.0

"""Diagnosis: the mistake that explains the first wrong result.

The operations between the last results that agree and the first one that does not are computed
again in float64, from the other side's own inputs, so that only the mistake made there shows. They
are then computed once more under each hypothesis of what went wrong. The hypothesis that gives the
other side's numbers is the diagnosis.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .arrangements import Arrangement, arrangements, scaled
from .hypotheses import hypotheses
from .inputs import InputMistake, input_mistakes
from .numbers import relative_l2
from .segment import Hypothesis, Segment
from .sides import ModelSource, Source

Array: TypeAlias = NDArray[Any]

MAC_BUDGET = 50_000_000_000
"""The multiply-accumulates that a diagnosis may cost: some 20 seconds on one core."""

_BETTER = 5
"""The factor by which an accepted mistake must reduce the difference."""

_CERTAIN = 1000
"""The factor from which no other mistake needs to be tried."""


@dataclass(frozen=True)
class Diagnosis:
    """The mistake that explains the first wrong result.

    Attributes:
        layer: the operation with the mistake, or `image`.
        mistake: the class of mistakes, such as `transposed weights`.
        text: a clause that says what was done.
        error: the relative L2 distance between the other side's numbers and those that this
            mistake gives; NaN if nothing was computed.
    """

    layer: str
    mistake: str
    text: str
    error: float

    def __str__(self) -> str:
        return f"{self.layer}: {self.mistake}: {self.text}"


def diagnose(
    expert: ModelSource,
    other: Source,
    wrong: str,
    given: Array,
    right: Mapping[str, str],
    *,
    tolerance: float,
    photo: Any = None,
) -> Diagnosis | None:
    """Find the mistake that explains the first wrong result.

    Args:
        expert: the model that is taken to be right.
        other: the other side.
        wrong: the first operation whose result differs, or `image`.
        given: the other side's result of that operation, NHWC.
        right: the operations whose results agree, mapped to their names at the other side.
        tolerance: the largest relative L2 difference that counts as equal.
        photo: the image that both sides started from, if it can be decoded again.

    Returns:
        The diagnosis; None if no known mistake gives these numbers.
    """
    bad = int(np.size(given) - np.isfinite(given).sum())
    if bad:
        text = f"{bad} of {np.size(given)} values are NaN or infinite"
        return Diagnosis(wrong, "not finite", text, float("nan"))
    assert expert.image is not None
    spec, choices = expert.loaded.config.preprocessing, expert.loaded.options
    if wrong == "image":
        image = np.asarray(expert.image, np.float64)
        inputs = ((m, m.image) for m in input_mistakes(image, spec, photo, choices))
        return best_of(_at("image", inputs), given, _distance(image, given), tolerance)
    segment = Segment.between(expert, other, wrong, right)
    base = segment.values[wrong]
    before = _distance(base, given)
    if before <= tolerance:
        text = "right for the inputs that it got: small differences before it have grown"
        return Diagnosis(wrong, "accumulated differences", text, before)
    stored = ((a, a.result) for a in arrangements(base))
    factor = ((a, a.result) for a in scaled(base, given))
    computed = segment.outcomes(hypotheses(segment, given, spec, photo, choices), MAC_BUDGET)
    return (
        best_of(_at(wrong, stored), given, before, tolerance)
        or best_of(computed, given, before, tolerance)
        or best_of(_at(wrong, factor), given, before, tolerance)
        or _other_weights(segment, other)
    )


def _at(
    layer: str, mistakes: Iterable[tuple[InputMistake | Arrangement, Array]]
) -> Iterable[tuple[Hypothesis, Array]]:
    """Turn mistakes that are all at one place into hypotheses."""
    return ((Hypothesis(layer, m.mistake, m.text), result) for m, result in mistakes)


def _distance(actual: Array, expected: Array) -> float:
    """Compute the relative L2 distance; infinite if the shapes differ."""
    return relative_l2(actual, expected) if actual.shape == expected.shape else float("inf")


def best_of(
    outcomes: Iterable[tuple[Hypothesis, Array]],
    given: Array,
    before: float,
    tolerance: float,
) -> Diagnosis | None:
    """Find the hypothesis that comes closest, if it explains the difference.

    Likely hypotheses come first, so the first of several that come equally close is taken.
    """
    best: Diagnosis | None = None
    for hypothesis, result in outcomes:
        if result.shape != given.shape:
            continue
        error = relative_l2(result, given)
        if not (error <= tolerance and error * _BETTER <= before):
            continue
        if best is None or error * 2 < best.error:
            best = Diagnosis(hypothesis.layer, hypothesis.mistake, hypothesis.text, error)
        if error * _CERTAIN <= before:
            break
    return best


def _other_weights(segment: Segment, other: Source) -> Diagnosis | None:
    """Find a tensor that the other side has and that differs from the model's."""
    for operation in segment.operations:
        for part, (name, _) in operation["parameters"].items():
            theirs = other.tensor(name)
            if theirs is None:
                continue
            error = _distance(theirs, segment.tensors[operation["name"]][part])
            if error > 1e-6:  # more than f32 rounds
                text = f"{name} is another tensor (relative L2 {error:.2g})"
                return Diagnosis(operation["name"], "other weights", text, error)
    return None

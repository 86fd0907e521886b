"""What mistake the first wrong result looks like.

The operations between the last results that agree and the first that does not are computed again,
in float64, from the other side's own inputs: so only the mistake made there shows. Then once more
under each hypothesis of what went wrong. The one that gives the other side's numbers is the
diagnosis.
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
"""How many multiply-accumulates a diagnosis may cost: some 20 seconds on one core."""

_BETTER = 5
"""How many times smaller than without it a mistake must make the difference."""

_CERTAIN = 1000
"""How many times smaller it is where no other mistake need be tried."""


@dataclass(frozen=True)
class Diagnosis:
    """What the first wrong result looks like.

    Attributes:
        layer: the operation where the mistake is, or `image`.
        mistake: the class of mistakes, such as `transposed weights`.
        text: what was done, as a clause.
        error: the relative L2 distance between the other side's numbers and what this mistake
            gives; NaN where nothing was computed.
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
        wrong: the operation whose result differs first, or `image`.
        given: the other side's result there, NHWC.
        right: the operations whose results the other side has, and which agree, with their names
            there.
        tolerance: the largest relative L2 difference that is no mistake.
        photo: the image that both started from, if it is one that can be decoded.

    Returns:
        The diagnosis; None if no mistake that is known gives these numbers.
    """
    bad = int(np.size(given) - np.isfinite(given).sum())
    if bad:
        text = f"{bad} of {np.size(given)} values are NaN or infinite"
        return Diagnosis(wrong, "not finite", text, float("nan"))
    assert expert.image is not None
    spec = expert.model.config.preprocessing
    if wrong == "image":
        image = np.asarray(expert.image, np.float64)
        inputs = ((m, m.image) for m in input_mistakes(image, spec, photo))
        return _best(_at("image", inputs), given, _distance(image, given), tolerance)
    segment = Segment.between(expert, other, wrong, right)
    base = segment.values[wrong]
    before = _distance(base, given)
    if before <= tolerance:
        text = "right for the inputs that it got: small differences before it have grown"
        return Diagnosis(wrong, "accumulated differences", text, before)
    stored = ((a, a.result) for a in arrangements(base))
    factor = ((a, a.result) for a in scaled(base, given))
    computed = segment.outcomes(hypotheses(segment, given, spec, photo), MAC_BUDGET)
    return (
        _best(_at(wrong, stored), given, before, tolerance)
        or _best(computed, given, before, tolerance)
        or _best(_at(wrong, factor), given, before, tolerance)
        or _other_weights(segment, other)
    )


def _at(
    layer: str, mistakes: Iterable[tuple[InputMistake | Arrangement, Array]]
) -> Iterable[tuple[Hypothesis, Array]]:
    """Mistakes that are all at one place, as hypotheses."""
    return ((Hypothesis(layer, m.mistake, m.text), result) for m, result in mistakes)


def _distance(actual: Array, expected: Array) -> float:
    """The relative L2 distance; infinite where the shapes differ."""
    return relative_l2(actual, expected) if actual.shape == expected.shape else float("inf")


def _best(
    outcomes: Iterable[tuple[Hypothesis, Array]],
    given: Array,
    before: float,
    tolerance: float,
) -> Diagnosis | None:
    """The hypothesis that comes closest, if it explains the difference.

    Of several that come equally close the first is taken: likely ones come first.
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
    """Whether the other side says that it has other tensors."""
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

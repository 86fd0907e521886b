"""Hypotheses about a segment, likely ones first.

A mistake may be in one operation, in all operations of a kind, or in how several work together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...images.options import Decoding
from ...images.spec import Preprocessing
from ...reference.walk import Operation, evaluate, parameters
from .formulas import Formula
from .inputs import input_mistakes
from .mistakes import mistakes
from .segment import Hypothesis, Segment

Array: TypeAlias = NDArray[Any]


def hypotheses(
    segment: Segment, given: Array, spec: Preprocessing, photo: Any, choices: Decoding
) -> Iterator[Hypothesis]:
    """List what may have gone wrong.

    Args:
        segment: the operations among which the mistake is.
        given: the wrong result, NHWC.
        spec: how images are prepared.
        photo: the image that both sides started from, if it can be decoded again.
        choices: how pictures are decoded.

    Yields:
        Likely hypotheses first. A mistake made everywhere comes before the same mistake in one
        place.
    """
    if "image" in segment.values and not segment.given_image:
        for m in input_mistakes(segment.values["image"], spec, photo, choices):
            yield Hypothesis("image", m.mistake, m.text, image=m.image)
    yield from _strides(segment)
    everywhere: dict[tuple[str, str], dict[str, Formula]] = {}
    for operation in segment.operations:
        for mistake in mistakes(operation):
            places = everywhere.setdefault((mistake.mistake, mistake.text), {})
            places[operation["name"]] = mistake.formula
    for (kind, text), formulas in everywhere.items():
        if len(formulas) > 1:
            where = f"{text}; so in all {len(formulas)} places up to here"
            yield Hypothesis(next(iter(formulas)), kind, where, formulas)
    for (kind, text), formulas in everywhere.items():
        for name, formula in formulas.items():
            yield Hypothesis(name, kind, text, {name: formula})
    yield from _late_relus(segment)
    yield from _fitted_epsilon(segment, given)
    yield from _other_tensors(segment)


def _strides(segment: Segment) -> Iterator[Hypothesis]:
    """Put the stride on the other one of a block's first two convolutions, block by block."""
    strides = {o["name"]: o["stride"] for o in segment.network if o["kind"] == "conv"}
    names = {operation["name"] for operation in segment.operations}
    swapped: dict[str, Formula] = {}
    text = ""
    for operation in segment.operations:
        name: str = operation["name"]
        block, _, part = name.rpartition(".")
        partner = f"{block}.{_PARTNERS.get(part)}"
        if strides.get(partner, 0) in (0, strides.get(name)):
            continue
        if part == "conv2" and partner not in names:
            continue  # conv1 agrees, so its stride is right
        swapped[name] = _with_stride(strides[partner])
        if not text:
            here, there = (
                ("conv1", "conv2") if strides[f"{block}.conv1"] > 1 else ("conv2", "conv1")
            )
            version = f" ({_VERSIONS[there]})" if f"{block}.conv3" in strides else ""
            text = f"the stride is on {there}{version}, not on {here}"
        yield Hypothesis(
            next(iter(swapped)), "stride on the other convolution", text, dict(swapped)
        )


_PARTNERS = {"conv1": "conv2", "conv2": "conv1"}
_VERSIONS = {"conv1": "v1: the paper, Keras, detectron2", "conv2": "v1.5: torchvision"}


def _with_stride(stride: int) -> Formula:
    return lambda o, i, t: evaluate({**o, "stride": stride}, i, t)


def _late_relus(segment: Segment) -> Iterator[Hypothesis]:
    """Move a block's last ReLU from after the addition to before it."""
    for operation in segment.operations:
        if operation["kind"] == "add":
            block = operation["name"].removesuffix(".add")
            formulas: dict[str, Formula] = {
                operation["name"]: lambda o, i, t: np.maximum(i[0], 0) + i[1],
                block: lambda o, i, t: i[0],
            }
            text = "a ReLU comes before the addition, and none after it"
            yield Hypothesis(operation["name"], "ReLU in the wrong place", text, formulas)


def _fitted_epsilon(segment: Segment, given: Array) -> Iterator[Hypothesis]:
    """Fit an epsilon to a batch norm's result, for an epsilon that is not a usual one."""
    operation = segment.operations[-1]
    if operation["kind"] != "batch_norm" or given.shape != segment.values[operation["name"]].shape:
        return
    x = segment.values[operation["inputs"][0]]
    t = segment.tensors[operation["name"]]
    with np.errstate(all="ignore"):
        deviation = (x - t["running_mean"]) * t["weight"] / (given - t["bias"])
        epsilon = float(np.nanmedian(np.square(deviation) - t["running_var"]))
    if np.isfinite(epsilon) and epsilon > 0:
        formulas: dict[str, Formula] = {
            operation["name"]: lambda o, i, t: evaluate({**o, "epsilon": epsilon}, i, t)
        }
        text = f"epsilon is about {epsilon:.3g}, not {operation['epsilon']:g}"
        yield Hypothesis(operation["name"], "wrong epsilon", text, formulas)


def _other_tensors(segment: Segment) -> Iterator[Hypothesis]:
    """Use the tensors of another operation that has the same shapes."""
    for operation in segment.operations:
        for twin in segment.network:
            if twin["name"] == operation["name"] or _shapes(twin) != _shapes(operation):
                continue
            if not twin["parameters"]:
                continue
            text = f"it uses the tensors of {twin['name']}"
            formulas = {operation["name"]: _with_tensors(twin, segment.checkpoint)}
            yield Hypothesis(operation["name"], "another layer's tensors", text, formulas)


def _with_tensors(twin: Operation, checkpoint: Mapping[str, Array]) -> Formula:
    return lambda o, i, t: evaluate(o, i, parameters(twin, checkpoint))


def _shapes(operation: Operation) -> dict[str, tuple[int, ...]]:
    return {part: tuple(shape) for part, (_, shape) in operation["parameters"].items()}

"""Shortcuts without weights in an ONNX graph: every second pixel, and channels of zeros."""

from __future__ import annotations

import numpy as np

from .onnx_constants import as_floats, is_float
from .onnx_proto import Node
from .onnx_steps import MAX_SIZE, NCHW, NotResNetError, Step, integer
from .onnx_values import Value, Values, axes_of

_NO_END = (1 << 31) - 1
"""From here on, the end of a slice means the end of the axis."""


def subsample(values: Values, node: Node) -> None:
    """A Slice that takes every n-th row, column or both; others are refused."""
    value = values.value(node, node.inputs[0])
    starts = values.numbers(node, 1, "starts") or []
    ends = values.numbers(node, 2, "ends") or []
    axes = values.numbers(node, 3, "axes", list(range(len(starts)))) or []
    steps = values.numbers(node, 4, "", [1] * len(starts)) or []
    if not len(starts) == len(ends) == len(axes) == len(steps):
        raise NotResNetError(node, "as many starts, ends and steps as axes")
    strides = [1, 1]
    size = values.sizes[value.source]
    for start, end, axis, step in zip(
        starts, ends, axes_of(node, axes, value.order), steps, strict=True
    ):
        length = size[axis - 2] if size is not None and axis > 1 else _NO_END
        whole = start == 0 and end >= length
        if not whole or not 1 <= step <= MAX_SIZE or (step > 1 and axis < 2):
            raise NotResNetError(
                node,
                "every n-th row and column of the whole map",
                f"starts {starts}, ends {ends}, axes {axes}, steps {steps}",
            )
        if axis > 1:
            strides[axis - 2] = step
    take_every(values, node, value, strides)


def take_every(values: Values, node: Node, value: Value, strides: list[int]) -> None:
    """Add a step that takes every n-th row and column, or make it part of one before it."""
    if strides == [1, 1]:
        values.rename(node)
        return
    size = values.sizes[value.source]
    smaller = None if size is None else (-(-size[0] // strides[0]), -(-size[1] // strides[1]))
    former = values.producer(value.source)
    if former is not None and former.kind == "slice" and not values.consumers(value.source):
        values.extend_step(former, node, value.order)
        former.attributes["rows"] *= strides[0]
        former.attributes["columns"] *= strides[1]
        values.sizes[former.output] = smaller
        return
    step = values.add_same_shape("slice", node, [value])
    step.attributes = {"rows": strides[0], "columns": strides[1]}
    values.sizes[step.output] = smaller


def pad_channels(values: Values, node: Node, value: Value, before: int, after: int) -> None:
    """Add a step that puts channels of zeros before and after those that are there."""
    step = values.add_same_shape("pad_channels", node, [value])
    step.attributes = {"before": before, "after": after}
    channels = values.channels[value.source]
    values.channels[step.output] = None if channels is None else channels + before + after


def concatenate(values: Values, node: Node) -> None:
    """A Concat of one value with zeros, along the channels."""
    real: list[Value] = []
    zeros = [0, 0]
    for name in node.inputs:
        channels = _zero_channels(values, node, name)
        if channels is None:
            real.append(values.value(node, name))
        else:
            zeros[len(real) > 0] += channels
    if len(real) != 1:
        raise NotResNetError(
            node, "an operation of a ResNet, or one value and zeros", f"{len(real)} values"
        )
    if axes_of(node, [integer(node, "axis", 1)], real[0].order) != [1]:
        raise NotResNetError(node, "zeros beside the channels")
    pad_channels(values, node, real[0], *zeros)


def _zero_channels(values: Values, node: Node, name: str) -> int | None:
    """Give the channels of an input that is zeros everywhere; None for any other."""
    if name in values.zeros:
        return values.zeros[name]
    constant = values.constants.get(name)
    if constant is None:
        return None
    if constant.ndim != len(NCHW) or not is_float(constant):
        raise NotResNetError(node, "zeros of four dimensions", str(list(constant.shape)))
    repeated = constant.size > 1 and not any(constant.strides)
    if np.any(as_floats(constant.flat[:1] if repeated else constant)):
        raise NotResNetError(node, "zeros beside the channels", "other constants")
    (axis,) = axes_of(node, [integer(node, "axis", 1)], NCHW)
    return int(constant.shape[axis])


def reduction(steps: list[Step]) -> str | None:
    """Tell how a shortcut without weights makes its map smaller.

    Args:
        steps: the shortcut's, in order.

    Returns:
        `slice` or `average`; None if it does not.

    Raises:
        NotResNetError: it does so in another way.
    """
    found = None
    for step in steps:
        if step.kind == "pad_channels":
            continue
        attributes = step.attributes
        if step.kind == "slice" and attributes == {"rows": 2, "columns": 2} and found is None:
            found = "slice"
        elif (
            step.kind == "avg_pool"
            and (attributes["kernel"], attributes["stride"], attributes["padding"]) == (2, 2, 0)
            and found is None
        ):
            found = "average"
        else:
            raise NotResNetError(
                step.node, "every second pixel or a 2x2 average in a shortcut", str(attributes)
            )
    return found


def places_of_zeros(step: Step) -> set[str]:
    """Tell whether zero channels lie around the others or at their end; both if that is the same.

    Raises:
        NotResNetError: they lie elsewhere.
    """
    before, after = step.attributes["before"], step.attributes["after"]
    places = set()
    if before == (before + after) // 2:
        places.add("around")
    if before == 0:
        places.add("end")
    if not places or before + after == 0:
        raise NotResNetError(
            step.node,
            "channels of zeros around the others or at their end",
            f"{before} before and {after} after",
        )
    return places

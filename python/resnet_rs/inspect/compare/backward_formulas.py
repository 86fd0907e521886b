"""Wrong gradients of single operations.

Each formula is called as `reference.pull_back` is, and gives gradients by the inputs and by the
tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...reference import pool_gradients, training_norm
from ...reference.training_norm import CHANNELWISE
from ...reference.walk import Operation
from ...reference.walk_back import pull_back

Array: TypeAlias = NDArray[np.float64]
Outcome: TypeAlias = tuple[list[Array], dict[str, Array]]
# Takes an operation, the gradient by its result, its inputs, its result and its tensors by part.
Formula: TypeAlias = Callable[
    [Operation, Array, Sequence[Array], Array, Mapping[str, Array]], Outcome
]


@dataclass(frozen=True)
class BackwardMistake:
    """One way to get an operation's gradient wrong.

    Attributes:
        mistake: the class of mistakes that it belongs to.
        text: a clause that says what was done.
        formula: the wrong formula.
    """

    mistake: str
    text: str
    formula: Formula


def backward_mistakes(operation: Operation) -> Iterator[BackwardMistake]:
    """Yield the known mistakes in the gradient of an operation, likely ones first."""
    match operation["kind"]:
        case "batch_norm":
            yield from _NORM
        case "relu":
            yield from _RELU
        case "add":
            yield from _ADD
        case "conv":
            yield from _CONV
        case "max_pool":
            yield BackwardMistake(
                "pool", "the gradient goes to all pixels of a window, as for a mean", _max_as_mean
            )
        case "global_avg_pool":
            yield BackwardMistake(
                "pool", "the gradient is not divided by the number of pixels", _undivided
            )


def _norm(change: Callable[[Array, Array, Array, Array], Array]) -> Formula:
    """A batch norm with another gradient by its input.

    Args:
        change: takes dy, the normalised values n, scale / s and m times the means of dy and dy * n
            as arrays `[2, channels]`; gives dx.
    """

    def formula(
        o: Operation, dy: Array, inputs: Sequence[Array], result: Array, t: Mapping[str, Array]
    ) -> Outcome:
        x = inputs[0]
        s = np.sqrt(x.var(axis=CHANNELWISE) + o["epsilon"])
        n = (x - x.mean(axis=CHANNELWISE)) / s
        sums = np.stack([dy.sum(axis=CHANNELWISE), (dy * n).sum(axis=CHANNELWISE)])
        dx = change(dy, n, t["weight"] / s, sums * x.shape[3] / x.size)
        return [dx], {"weight": sums[1], "bias": sums[0]}

    return formula


def _running(
    o: Operation, dy: Array, inputs: Sequence[Array], result: Array, t: Mapping[str, Array]
) -> Outcome:
    dx, dscale, dshift = training_norm.batch_norm_gradients(
        dy, inputs[0], t["running_mean"], t["running_var"], t["weight"], o["epsilon"]
    )
    return [dx], {"weight": dscale, "bias": dshift}


def _scale_by_input(
    o: Operation, dy: Array, inputs: Sequence[Array], result: Array, t: Mapping[str, Array]
) -> Outcome:
    to_inputs, to_tensors = pull_back(o, dy, inputs, result, t)
    return to_inputs, {**to_tensors, "weight": (dy * inputs[0]).sum(axis=CHANNELWISE)}


_NORM = (
    BackwardMistake(
        "batch norm's statistics as constants",
        "the gradient does not go through the mean and the variance of the batch",
        _norm(lambda dy, n, k, means: k * dy),
    ),
    BackwardMistake(
        "batch norm's statistics as constants",
        "the gradient does not go through the variance of the batch",
        _norm(lambda dy, n, k, means: k * (dy - means[0])),
    ),
    BackwardMistake(
        "batch norm's statistics as constants",
        "the gradient does not go through the mean of the batch",
        _norm(lambda dy, n, k, means: k * (dy - n * means[1])),
    ),
    BackwardMistake(
        "batch norm in eval mode",
        "the gradient is that of the running statistics, and the result that of the batch's",
        _running,
    ),
    BackwardMistake(
        "batch norm's gradient by its weight",
        "dy is multiplied with the input, not with the normalised input",
        _scale_by_input,
    ),
)


def _through(
    o: Operation, dy: Array, inputs: Sequence[Array], result: Array, t: Mapping[str, Array]
) -> Outcome:
    return [dy for _ in inputs], {}


def _by_gradient(
    o: Operation, dy: Array, inputs: Sequence[Array], result: Array, t: Mapping[str, Array]
) -> Outcome:
    return [np.maximum(dy, 0)], {}


_RELU = (
    BackwardMistake("ReLU's gradient", "the gradient goes through where the result is 0", _through),
    BackwardMistake(
        "ReLU's gradient", "the sign of the gradient decides, not that of the result", _by_gradient
    ),
)


def _only(place: int) -> Formula:
    def formula(
        o: Operation, dy: Array, inputs: Sequence[Array], result: Array, t: Mapping[str, Array]
    ) -> Outcome:
        return [dy if i == place else np.zeros_like(dy) for i in range(2)], {}

    return formula


def _half(
    o: Operation, dy: Array, inputs: Sequence[Array], result: Array, t: Mapping[str, Array]
) -> Outcome:
    return [dy / 2, dy / 2], {}


_ADD = (
    BackwardMistake("shortcut", "no gradient goes into the shortcut", _only(0)),
    BackwardMistake("shortcut", "no gradient goes into the branch of convolutions", _only(1)),
    BackwardMistake("shortcut", "the gradient is halved between shortcut and branch", _half),
)


def _with_kernels(change: Callable[[Array], Array]) -> Formula:
    """A convolution whose gradient by its input takes other weights."""

    def formula(
        o: Operation, dy: Array, inputs: Sequence[Array], result: Array, t: Mapping[str, Array]
    ) -> Outcome:
        dx, _ = pull_back(o, dy, inputs, result, {**t, "weight": change(t["weight"])})
        return dx, pull_back(o, dy, inputs, result, t)[1]

    return formula


_CONV = (
    BackwardMistake(
        "mirrored kernels",
        "the gradient by the input takes the kernels mirrored once too often",
        _with_kernels(lambda w: w[:, :, ::-1, ::-1]),
    ),
    BackwardMistake(
        "transposed weights",
        "the gradient by the input takes the kernels with height and width swapped",
        _with_kernels(lambda w: w.swapaxes(2, 3)),
    ),
    BackwardMistake(
        "transposed weights",
        "the gradient by the input takes the weights with in and out swapped",
        _with_kernels(lambda w: w.swapaxes(0, 1)),
    ),
)


def _max_as_mean(
    o: Operation, dy: Array, inputs: Sequence[Array], result: Array, t: Mapping[str, Array]
) -> Outcome:
    height, width = inputs[0].shape[1:3]
    window = o["kernel"], o["stride"], o["padding"]
    dx = pool_gradients.avg_pool_gradient(dy, height, width, *window)
    return [dx], {}


def _undivided(
    o: Operation, dy: Array, inputs: Sequence[Array], result: Array, t: Mapping[str, Array]
) -> Outcome:
    return [np.broadcast_to(dy, inputs[0].shape)], {}

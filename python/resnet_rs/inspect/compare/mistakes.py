"""Mistakes in single operations, each as a wrong formula.

A `Mistake` replaces one operation's formula by a wrong one. `mistakes(operation)` yields those that
apply to an operation; `segment.py` computes each, and `diagnose.py` finds the one that gives the
other side's numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ...reference import layers
from ...reference.walk import Operation, evaluate
from . import pool_mistakes
from .formulas import Array, Formula, Mistake, skip, with_fields, with_swapped, with_tensor


def mistakes(operation: Operation) -> Iterator[Mistake]:
    """Yield the mistakes that apply to an operation, likely ones first."""
    by_kind: dict[str, Callable[[Operation], Iterator[Mistake]]] = {
        "conv": _conv,
        "batch_norm": _batch_norm,
        "relu": _relu,
        "add": _add,
        "max_pool": pool_mistakes.max_pool,
        "avg_pool": pool_mistakes.avg_pool,
        "global_avg_pool": pool_mistakes.global_avg_pool,
        "global_max_pool": pool_mistakes.global_max_pool,
        "pad": pool_mistakes.pad,
        "linear": _linear,
    }
    return by_kind[operation["kind"]](operation)


def _conv(operation: Operation) -> Iterator[Mistake]:
    kernel, stride, padding = (operation[key] for key in ("kernel", "stride", "padding"))
    kind = "transposed weights"
    if kernel > 1:
        yield Mistake(
            kind,
            "height and width of the kernels are swapped",
            with_tensor("weight", lambda w: w.transpose(0, 1, 3, 2)),
        )
    yield Mistake(
        kind,
        "input and output channels of the weights are swapped",
        with_tensor("weight", lambda w: w.transpose(1, 0, 2, 3)),
    )
    # The numbers in memory are the same, and are read in another order.
    if kernel > 1:
        yield Mistake(
            kind,
            "the weights are OIHW, and were read as OHWI without a transpose",
            with_tensor("weight", lambda w: w.reshape(_ohwi_shape(w)).transpose(0, 3, 1, 2)),
        )
        yield Mistake(
            kind,
            "the weights are OHWI, and were read as OIHW without a transpose",
            with_tensor("weight", lambda w: w.transpose(0, 2, 3, 1).reshape(w.shape)),
        )
    yield Mistake(
        kind,
        "the weights are HWIO (Keras), and were read as OIHW without a transpose",
        with_tensor("weight", lambda w: w.transpose(2, 3, 1, 0).reshape(w.shape)),
    )
    yield Mistake(
        kind,
        "the weights are OIHW, and were read as HWIO (Keras) without a transpose",
        with_tensor("weight", lambda w: w.reshape(_hwio_shape(w)).transpose(3, 2, 0, 1)),
    )
    if kernel > 1:
        yield Mistake(
            "mirrored kernels",
            "the kernels are mirrored: networks correlate, they do not convolve",
            with_tensor("weight", lambda w: w[:, :, ::-1, ::-1]),
        )
        for other in range(kernel):
            if other != padding:
                yield Mistake(
                    "wrong padding",
                    f"the padding is {other}, not {padding}",
                    with_fields(padding=other),
                )
        yield Mistake(
            "wrong padding",
            'the zeros lie as TensorFlow\'s "same" lays them: the odd one at the bottom and right',
            _tensorflow_same,
        )
        for mode, words in (("edge", "repeats the border"), ("reflect", "mirrors the picture")):
            yield Mistake(
                "wrong padding", f"the padding {words} instead of being 0", _padded_by(mode)
            )
        yield from _dilations(operation)
    for other in (1, 2):
        if other != stride:
            yield Mistake(
                "wrong stride", f"the stride is {other}, not {stride}", with_fields(stride=other)
            )
    if operation["bias"]:
        yield Mistake("missing bias", "the bias is not added", with_tensor("bias", np.zeros_like))


def _dilations(operation: Operation) -> Iterator[Mistake]:
    """Move the taps of a 3x3 window apart or together, the padding with them."""
    dilation = operation["dilation"]
    if operation["kernel"] != 3:
        return
    for other in (1, 2, 4):
        if other != dilation:
            yield Mistake(
                "wrong dilation",
                f"the dilation is {other}, not {dilation}",
                with_fields(dilation=other, padding=other),
            )


def _batch_norm(operation: Operation) -> Iterator[Mistake]:
    yield Mistake(
        "batch norm in training mode",
        "it normalises by this batch's mean and variance, not by the running ones "
        "(model.eval() is missing)",
        _by_batch_statistics,
    )
    for epsilon in (1e-3, 1e-5, 1.001e-5, 1e-4, 1e-6, 1e-2, 2e-5, 0.0):
        if epsilon != operation["epsilon"]:
            yield Mistake(
                "wrong epsilon",
                f"epsilon is {epsilon:g}, not {operation['epsilon']:g}",
                with_fields(epsilon=epsilon),
            )
    yield Mistake(
        "wrong epsilon",
        "epsilon is added to the standard deviation, not to the variance",
        lambda o, i, t: (
            (i[0] - t["running_mean"]) / (np.sqrt(t["running_var"]) + o["epsilon"]) * t["weight"]
            + t["bias"]
        ),
    )
    kind = "batch norm's tensors mixed up"
    for one, other in (
        ("weight", "bias"),
        ("running_mean", "running_var"),
        ("weight", "running_var"),
        ("bias", "running_mean"),
    ):
        yield Mistake(kind, f"{one} and {other} are swapped", with_swapped(one, other))
    yield Mistake(
        kind,
        "running_var is taken for a standard deviation: the root is missing",
        with_tensor("running_var", np.square),
    )
    kind = "batch norm incomplete"
    yield Mistake(kind, "the mean is not subtracted", with_tensor("running_mean", np.zeros_like))
    yield Mistake(
        kind, "it does not divide by the deviation", with_tensor("running_var", np.ones_like)
    )
    yield Mistake(kind, "the scale (weight) is missing", with_tensor("weight", np.ones_like))
    yield Mistake(kind, "the shift (bias) is missing", with_tensor("bias", np.zeros_like))
    yield Mistake("missing batch norm", "the batch norm is missing", skip)
    yield Mistake(
        "hook without a copy",
        "these are the values after an in-place ReLU: the hook must copy the tensor",
        lambda o, i, t: layers.relu(evaluate(o, i, t)),
    )


def _relu(operation: Operation) -> Iterator[Mistake]:
    yield Mistake("missing ReLU", "the ReLU is missing", skip)
    yield Mistake("another activation", "it is ReLU6", lambda o, i, t: np.clip(i[0], 0, 6))
    for slope in (0.01, 0.1, 0.2):
        yield Mistake(
            "another activation",
            f"it is a leaky ReLU with slope {slope}",
            lambda o, i, t, slope=slope: np.where(i[0] < 0, slope * i[0], i[0]),  # type: ignore[misc]
        )


def _add(operation: Operation) -> Iterator[Mistake]:
    yield Mistake("missing residual", "the shortcut is not added", skip)
    yield Mistake(
        "missing residual", "only the shortcut is there, not the block", lambda o, i, t: i[1]
    )
    yield Mistake(
        "ReLU in the wrong place",
        "a ReLU comes before the addition",
        lambda o, i, t: layers.relu(i[0]) + i[1],
    )
    yield Mistake(
        "wrong shortcut",
        "the block's result is added to itself, not to the shortcut",
        lambda o, i, t: 2 * i[0],
    )


def _linear(operation: Operation) -> Iterator[Mistake]:
    yield Mistake("missing bias", "the bias is not added", with_tensor("bias", np.zeros_like))
    yield Mistake(
        "flatten order",
        "the features are flattened pixel by pixel (NHWC); the weights want them channel by "
        "channel (NCHW)",
        lambda o, i, t: _logits(i[0].reshape(len(i[0]), -1), t["weight"], t["bias"]),
    )
    yield Mistake(
        "transposed weights",
        "the weights are [in, out], and were read as [out, in] without a transpose",
        with_tensor("weight", lambda w: w.T.reshape(w.shape)),
    )
    yield Mistake(
        "transposed weights",
        "the weights are [out, in], and were read as [in, out] without a transpose",
        with_tensor("weight", lambda w: w.reshape(w.shape[::-1]).T),
    )
    yield Mistake(
        "softmax",
        "these are probabilities: softmax was applied to the logits",
        lambda o, i, t: layers.softmax(evaluate(o, i, t)),
    )


def _by_batch_statistics(
    operation: Operation, inputs: Sequence[Array], tensors: Mapping[str, Array]
) -> Array:
    x = inputs[0]
    statistics = {"running_mean": x.mean(axis=(0, 1, 2)), "running_var": x.var(axis=(0, 1, 2))}
    return evaluate(operation, inputs, {**tensors, **statistics})


def _tensorflow_same(
    operation: Operation, inputs: Sequence[Array], tensors: Mapping[str, Array]
) -> Array:
    """Pad for an output of `ceil(in / stride)`; an odd padding has its larger half at the end."""
    span = (operation["kernel"] - 1) * operation["dilation"] + 1
    stride = operation["stride"]
    sides = []
    for size in inputs[0].shape[1:3]:
        total = max((-(-size // stride) - 1) * stride + span - size, 0)
        sides.append((total // 2, total - total // 2))
    padded = np.pad(inputs[0], ((0, 0), *sides, (0, 0)))
    return evaluate({**operation, "padding": 0}, [padded], tensors)


def _padded_by(mode: Any) -> Formula:
    def formula(
        operation: Operation, inputs: Sequence[Array], tensors: Mapping[str, Array]
    ) -> Array:
        sides = (operation["padding"],) * 2
        padded = np.pad(inputs[0], ((0, 0), sides, sides, (0, 0)), mode=mode)
        return evaluate({**operation, "padding": 0}, [padded], tensors)

    return formula


def _logits(features: Array, weights: Array, bias: Array) -> Array:
    return layers.fully_connected(features, weights, bias)[:, None, None, :]


def _ohwi_shape(weights: Array) -> tuple[int, int, int, int]:
    out, group_in, kernel_h, kernel_w = weights.shape
    return out, kernel_h, kernel_w, group_in


def _hwio_shape(weights: Array) -> tuple[int, int, int, int]:
    out, group_in, kernel_h, kernel_w = weights.shape
    return kernel_h, kernel_w, group_in, out

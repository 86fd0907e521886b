"""Mistakes in pools and in shortcuts without weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ...reference import layers
from ...reference.walk import Operation, evaluate
from .formulas import Array, Mistake, with_fields


def max_pool(operation: Operation) -> Iterator[Mistake]:
    """Yield the mistakes of a max pool."""
    kernel, stride, padding = (operation[key] for key in ("kernel", "stride", "padding"))
    kind = "max pool's padding"
    for other in range(kernel // 2 + 1):
        if other != padding:
            yield Mistake(
                kind, f"the padding is {other}, not {padding}", with_fields(padding=other)
            )
    if operation["ceil_mode"]:
        yield Mistake(kind, "the size is rounded down, not up", with_fields(ceil_mode=False))
        yield Mistake(
            kind,
            "the padding is 1, not 0, and the size is rounded down",
            with_fields(padding=1, ceil_mode=False),
        )
    else:
        yield Mistake(
            kind,
            f"the padding is 0, not {padding}, and the size is rounded up",
            with_fields(padding=0, ceil_mode=True),
        )
    for other in (2, 3):
        if other != kernel:
            yield Mistake(
                "wrong pool",
                f"the window is {other} x {other}, not {kernel} x {kernel}",
                lambda o, i, t, k=other: layers.max_pool(i[0], k, o["stride"], 0),  # type: ignore[misc]
            )
    yield Mistake(
        "wrong pool",
        "it takes the mean, not the largest value",
        lambda o, i, t: layers.avg_pool(i[0], kernel, stride, padding),
    )
    yield Mistake("wrong stride", f"the stride is 1, not {stride}", with_fields(stride=1))


def avg_pool(operation: Operation) -> Iterator[Mistake]:
    """Yield the mistakes of an average pool."""
    if operation["padding"] or operation["ceil_mode"]:
        counted = operation["count_include_pad"]
        yield Mistake(
            "average pool's divisor",
            f"values outside the picture are {'not ' if counted else ''}counted",
            with_fields(count_include_pad=not counted),
        )
    yield Mistake(
        "wrong pool",
        "it takes the largest value, not the mean",
        lambda o, i, t: layers.max_pool(i[0], o["kernel"], o["stride"], o["padding"]),
    )
    yield Mistake("wrong pool", "it takes the mean of everything", _global_mean)


def global_avg_pool(operation: Operation) -> Iterator[Mistake]:
    """Yield the mistakes of the mean over the picture."""
    yield Mistake(
        "wrong pool",
        "it takes the largest value, not the mean",
        lambda o, i, t: i[0].max(axis=(1, 2), keepdims=True),
    )
    yield Mistake(
        "wrong pool",
        "it takes the sum, not the mean",
        lambda o, i, t: i[0].sum(axis=(1, 2), keepdims=True),
    )


def global_max_pool(operation: Operation) -> Iterator[Mistake]:
    """Yield the mistakes of the maximum over the picture."""
    yield Mistake("wrong pool", "it takes the mean, not the largest value", _global_mean)


def pad(operation: Operation) -> Iterator[Mistake]:
    """Yield the mistakes of a shortcut without weights."""
    before, after = operation["before"], operation["after"]
    zeros = before + after
    kind = "wrong shortcut"
    for first, place in ((zeros // 2, "around the input's"), (0, "after them"), (zeros, "before")):
        if first != before:
            yield Mistake(
                kind,
                f"the channels of zeros lie {place}",
                with_fields(before=first, after=zeros - first),
            )
    if operation["stride"] > 1:
        by_kernel = {1: "it takes every second pixel, not a mean", 2: "it takes the mean of 2 x 2"}
        for kernel, words in by_kernel.items():
            if kernel != operation["kernel"]:
                yield Mistake(kind, words, with_fields(kernel=kernel))
        yield Mistake(
            kind,
            "it takes every second pixel, from the second one on",
            lambda o, i, t: evaluate({**o, "kernel": 1}, [_moved(i[0])], t),
        )


def _moved(x: Array) -> Array:
    """Move a picture by a pixel to the top left; its last row and column are repeated."""
    return np.pad(x[:, 1:, 1:], ((0, 0), (0, 1), (0, 1), (0, 0)), mode="edge")


def _global_mean(
    operation: Operation, inputs: Sequence[Array], tensors: Mapping[str, Array]
) -> Array:
    return layers.global_avg_pool(inputs[0])

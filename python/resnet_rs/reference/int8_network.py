"""A whole quantised network: its layers, and a walk over them with the arithmetic of `int8.py`.

The tensors are those of a quantised file:

- `<convolution>.weight`, int8, OIHW, and `<convolution>.weight_scale`, float32 `[out]`;
- `<convolution>.bias`, float32 `[out]`, in real units, under the layer's first convolution;
- `<layer>.output_scale`, float32 `[1]`, for convolutions but fc, and for the pool before fc.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import int8, layers
from .fused import IMAGE, Layer, Source, fused_layers
from .int8 import Floats, Integers
from .walk import Operation
from .windows import Array


def int8_layers(operations: Sequence[Operation]) -> list[Layer]:
    """Put a network's operations together into layers, in order.

    Args:
        operations: the result of `operations` or `Network.operations`.

    Raises:
        ValueError: an operation has no form in int8: an addition after a ReLU of its own.
    """
    every = fused_layers(operations)
    for layer in every:
        if layer.elementwise:
            name = layer.elementwise[0]["name"]
            raise ValueError(
                f"{name}: int8 computes additions, batch norms and ReLUs together with the "
                "convolution before them, and there is none (a network with "
                "variant.relu_before_add stays in f32)"
            )
    return every


def run_int8(
    operations: Sequence[Operation],
    tensors: Mapping[str, NDArray[Any]],
    image: NDArray[Any],
    mean: ArrayLike,
    std: ArrayLike,
) -> Iterator[tuple[str, NDArray[Any], np.float32]]:
    """Compute a quantised network, layer by layer.

    Args:
        operations: the result of `operations` or `Network.operations`.
        tensors: those of a quantised file.
        image: `[batch, height, width, channels]`, uint8 pixels or float32, normalised.
        mean: of each channel, as in config.json.
        std: of each channel.

    Yields:
        Each layer's name, integers `[batch, h, w, channels]` and scale; the real values are
        `int8.dequantized(integers, scale)`. For fc the logits, float32 `[batch, 1, 1, classes]`,
        with the scale 1.

    Raises:
        KeyError: a tensor is missing.
        ValueError: an image of another shape or dtype, or an operation that int8 does not have.
    """
    if image.ndim != 4 or image.dtype not in (np.uint8, np.float32):
        raise ValueError(
            "expected images [batch, height, width, channels], uint8 or float32; got "
            f"{list(image.shape)}, {image.dtype}"
        )
    # The core holds them in float32.
    mean, std = (_wide(np.asarray(values, np.float32)) for values in (mean, std))
    one = np.float32(1)  # pixels stand for themselves
    values = {IMAGE: (int8.quantized_pixels(image, mean, std), one)}
    every = int8_layers(operations)
    uses = Counter(name for layer in every for name in layer.inputs)
    for layer in every:
        inputs = [values[name] for name in layer.inputs]
        result = _pooled(layer, inputs[0], tensors) if layer.pool else None
        values[layer.name] = result or _convolved(layer, inputs, tensors, mean)
        for name in layer.inputs:
            uses[name] -= 1
            if not uses[name]:
                values.pop(name, None)
        yield layer.name, *values[layer.name]


def _convolved(
    layer: Layer,
    inputs: Sequence[tuple[Integers, np.float32]],
    tensors: Mapping[str, NDArray[Any]],
    mean: ArrayLike,
) -> tuple[NDArray[Any], np.float32]:
    """A layer of convolutions, or fc: its integers and their scale."""
    first = layer.sources[0]
    bias = _tensor(tensors, f"{first.name}.bias")
    # One scale for all sources: quantising makes input scale * weight_scale the same for both.
    scale = _wide(inputs[0][1]) * _wide(_tensor(tensors, f"{first.name}.weight_scale"))
    if first.input == IMAGE:
        weights = layers.ohwi(_tensor(tensors, f"{first.name}.weight"))
        total = int8.first_sums(
            inputs[0][0], weights, mean, first.operation["stride"], first.operation["padding"]
        ) + int8.first_bias(bias, scale, weights, mean)
    else:
        total = np.rint(_wide(bias) / scale)
        for source, (q, _) in zip(layer.sources, inputs, strict=False):  # the skip comes after them
            total = total + _sums(source, q, _tensor(tensors, f"{source.name}.weight"))
    if layer.is_last:
        return total.astype(np.float32) * scale.astype(np.float32), np.float32(1)
    output_scale = _output_scale(layer, tensors)
    multiplier: Floats = (scale / _wide(output_scale)).astype(np.float32)
    if layer.skip is None:
        return int8.requantized(total, multiplier), output_scale
    skip, skip_scale = inputs[-1]
    ratio = np.float32(_wide(skip_scale) / _wide(output_scale))
    return int8.requantized(total, multiplier, skip, ratio), output_scale


def _sums(source: Source, q: Integers, weights: Integers) -> Array:
    operation = source.operation
    if operation["kind"] == "linear":
        rows = layers.flatten(q)[:, None, None, :]
        return int8.sums(rows, weights[:, None, None, :])
    return int8.sums(
        q,
        layers.ohwi(weights),
        stride=operation["stride"],
        padding=operation["padding"],
        groups=operation["groups"],
        dilation=operation["dilation"],
    )


def _pooled(
    layer: Layer, value: tuple[Integers, np.float32], tensors: Mapping[str, NDArray[Any]]
) -> tuple[Integers, np.float32]:
    """A layer without weights: its integers and their scale."""
    (q, scale), operation = value, layer.pool
    assert operation is not None
    out, ratio, most = scale, 1.0, int8.MOST
    if layer.has_scale:
        out, most = _output_scale(layer, tensors), int8.MOST_POOLED
        ratio = float(_wide(scale) / _wide(out))
    match operation["kind"]:
        case "max_pool":
            pooled = int8.max_pool(
                q,
                operation["kernel"],
                operation["stride"],
                operation["padding"],
                operation["ceil_mode"],
            )
        case "global_max_pool":
            pooled = q.max(axis=(1, 2), keepdims=True)
        case "global_avg_pool":
            pooled = int8.global_avg_pool(q, ratio, most)
        case "avg_pool":
            pooled = int8.avg_pool(
                q,
                operation["kernel"],
                operation["stride"],
                operation["padding"],
                ceil_mode=operation["ceil_mode"],
                count_include_pad=operation["count_include_pad"],
                extra=operation["extra"],
                ratio=ratio,
                most=most,
            )
        case "pad":
            pooled = int8.pad_shortcut(
                q,
                operation["kernel"],
                operation["stride"],
                operation["before"],
                operation["after"],
            )
        case kind:
            raise ValueError(f"{layer.name}: int8 has no operation of kind {kind!r}")
    return pooled, out


def _output_scale(layer: Layer, tensors: Mapping[str, NDArray[Any]]) -> np.float32:
    return np.float32(_tensor(tensors, f"{layer.name}.output_scale")[0])


def _tensor(tensors: Mapping[str, NDArray[Any]], name: str) -> NDArray[Any]:
    if name not in tensors:
        raise KeyError(f"the weights have no tensor {name!r}")
    return tensors[name]


def _wide(value: Any) -> Array:
    """Widen float32 to float64: scales are multiplied and divided there, then rounded once."""
    return np.asarray(value, np.float64)

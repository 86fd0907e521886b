"""A whole quantised network: its layers, and a walk over them with the arithmetic of `int8.py`.

The tensors are those of a quantised file:

- `<convolution>.weight`, int8, OIHW, and `<convolution>.weight_scale`, float32 `[out]`;
- `<convolution>.bias`, float32 `[out]`, in real units, under the layer's first convolution;
- `<layer>.output_scale`, float32 `[1]`, for convolutions but fc, and for the pool before fc.

A layer whose convolutions have no `weight_scale` computes in bf16, and so do the pools behind it.
Its weights are float32 or float16, with the batch norm folded in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import bf16, int8, layers
from .bf16_network import bf16_layer, bf16_pooled
from .fused import IMAGE, LAST_POOL, Layer, Source, fused_layers
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
        `int8.dequantized(integers, scale)`. For a layer in bf16 its values in float32, and for fc
        the logits, float32 `[batch, 1, 1, classes]`, with the scale 1.

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
    mean, std = (np.asarray(values, np.float32) for values in (mean, std))
    every = int8_layers(operations)
    # Pixels stand for themselves.
    values = {IMAGE: _Value(_image(image, mean, std, _is_whole(every[0], tensors)), np.float32(1))}
    uses = Counter(name for layer in every for name in layer.inputs)
    for layer in every:
        inputs = [values[name] for name in layer.inputs]
        whole = _is_whole(layer, tensors) if layer.sources else inputs[0].is_whole
        if layer.name == LAST_POOL and every[-1].is_last:
            whole = _is_whole(every[-1], tensors)
        inputs = [value.whole() if whole else value.bf16() for value in inputs]
        if layer.pool is not None:
            result = _pooled(layer, inputs[0], tensors)
        elif whole:
            result = _convolved(layer, inputs, tensors, _wide(mean))
        else:
            result = _in_bf16(layer, inputs, tensors)
        values[layer.name] = result
        for name in layer.inputs:
            uses[name] -= 1
            if not uses[name]:
                values.pop(name, None)
        yield layer.name, result.values, result.scale if result.is_whole else np.float32(1)


@dataclass(frozen=True)
class _Value:
    """A layer's output: integers and their scale; or bf16 values, with the scale of integers."""

    values: NDArray[Any]
    scale: np.float32

    @property
    def is_whole(self) -> bool:
        return self.values.dtype != np.float32

    def whole(self) -> _Value:
        if self.is_whole:
            return self
        return _Value(int8.from_bf16(self.values, self.scale), self.scale)

    def bf16(self) -> _Value:
        return _Value(int8.to_bf16(self.values, self.scale), self.scale) if self.is_whole else self


def _is_whole(layer: Layer, tensors: Mapping[str, NDArray[Any]]) -> bool:
    """Tell whether a layer of convolutions computes in int8."""
    return f"{layer.sources[0].name}.weight_scale" in tensors


def _image(image: NDArray[Any], mean: Floats, std: Floats, whole: bool) -> NDArray[Any]:
    """The first convolution's input: pixels, or normalised values in bf16."""
    if whole:
        return int8.quantized_pixels(image, _wide(mean), _wide(std))
    if image.dtype == np.uint8:
        image = (image.astype(np.float32) / np.float32(255) - mean) / std
    return bf16.rounded(image)


def _in_bf16(layer: Layer, inputs: Sequence[_Value], tensors: Mapping[str, NDArray[Any]]) -> _Value:
    """A layer of convolutions in bf16, or fc."""
    weights = []
    for source in layer.sources:
        weight = bf16.rounded(_tensor(tensors, f"{source.name}.weight").astype(np.float32))
        weights.append(weight[:, None, None, :] if weight.ndim == 2 else _ohwi(weight))
    bias = _tensor(tensors, f"{layer.sources[0].name}.bias")
    skip = None if layer.skip is None else inputs[-1].values
    result = bf16_layer(layer, [value.values for value in inputs], weights, bias, skip)
    return _Value(result, np.float32(1) if layer.is_last else _output_scale(layer, tensors))


def _ohwi(weight: Floats) -> Floats:
    return weight.transpose(0, 2, 3, 1)


def _convolved(
    layer: Layer,
    values: Sequence[_Value],
    tensors: Mapping[str, NDArray[Any]],
    mean: ArrayLike,
) -> _Value:
    """A layer of convolutions, or fc: its integers and their scale."""
    inputs = [(value.values, value.scale) for value in values]
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
        return _Value(total.astype(np.float32) * scale.astype(np.float32), np.float32(1))
    output_scale = _output_scale(layer, tensors)
    multiplier: Floats = (scale / _wide(output_scale)).astype(np.float32)
    if layer.skip is None:
        return _Value(int8.requantized(total, multiplier), output_scale)
    skip, skip_scale = inputs[-1]
    ratio = np.float32(_wide(skip_scale) / _wide(output_scale))
    return _Value(int8.requantized(total, multiplier, skip, ratio), output_scale)


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


def _pooled(layer: Layer, value: _Value, tensors: Mapping[str, NDArray[Any]]) -> _Value:
    """A layer without weights."""
    q, scale, operation = value.values, value.scale, layer.pool
    assert operation is not None
    if not value.is_whole:
        return _Value(bf16_pooled(operation, q), scale)
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
    return _Value(pooled, out)


def _output_scale(layer: Layer, tensors: Mapping[str, NDArray[Any]]) -> np.float32:
    return np.float32(_tensor(tensors, f"{layer.name}.output_scale")[0])


def _tensor(tensors: Mapping[str, NDArray[Any]], name: str) -> NDArray[Any]:
    if name not in tensors:
        raise KeyError(f"the weights have no tensor {name!r}")
    return tensors[name]


def _wide(value: Any) -> Array:
    """Widen float32 to float64: scales are multiplied and divided there, then rounded once."""
    return np.asarray(value, np.float64)

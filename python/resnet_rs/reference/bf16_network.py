"""A whole network in bf16: a walk over its layers with the arithmetic of `bf16.py`.

The tensors are those of an f32 network. Batch norm is folded into the weights and biases in
float64, as the compiled core does it; the weights are rounded to float32 and then to bf16, the
biases to float32. fc's results are float32.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import bf16, layers
from .bf16 import Floats
from .fused import IMAGE, Layer, Source, fused_layers
from .walk import Operation, parameters
from .windows import Array


def run_bf16(
    operations: Sequence[Operation], tensors: Mapping[str, NDArray[Any]], image: NDArray[Any]
) -> Iterator[tuple[str, Floats]]:
    """Compute a network in bf16, layer by layer.

    Args:
        operations: the result of `operations` or `Network.operations`.
        tensors: torchvision's names to arrays, convolutions OIHW.
        image: float32 `[batch, height, width, channels]`, normalised.

    Yields:
        Each layer's name and output, float32 `[batch, h, w, channels]` that holds bf16 values; fc's
        logits are `[batch, 1, 1, classes]`.

    Raises:
        KeyError: a tensor is missing.
        ValueError: an image or tensor of another shape.
    """
    if image.ndim != 4:
        raise ValueError(
            f"expected images [batch, height, width, channels]; got {list(image.shape)}"
        )
    values = {IMAGE: bf16.rounded(image)}
    every = fused_layers(operations)
    uses = Counter(name for layer in every for name in layer.inputs)
    for layer in every:
        inputs = [values[name] for name in layer.inputs]
        if layer.pool is not None:
            result = bf16_pooled(layer.pool, inputs[0])
        elif layer.elementwise:
            result = _elementwise(layer, inputs, tensors)
        else:
            result = _convolved(layer, inputs, tensors)
        values[layer.name] = result
        for name in layer.inputs:
            uses[name] -= 1
            if not uses[name]:
                values.pop(name, None)
        yield layer.name, result


def folded(
    source: Source, tensors: Mapping[str, NDArray[Any]]
) -> tuple[Floats, NDArray[np.float64]]:
    """A convolution's weights with the batch norm folded in, and its bias.

    Returns:
        The weights, float32 OHWI (fc's are `[out, 1, 1, in]`), and the bias `[out]` in float64,
        which is added to that of a shortcut before it is rounded.
    """
    found = parameters(source.operation, tensors)
    weights = found["weight"]
    bias = found.get("bias", np.zeros(len(weights)))
    weights = weights[:, None, None, :] if weights.ndim == 2 else layers.ohwi(weights)
    if source.norm is not None:
        scale, shift = _scale_and_shift(source.norm, tensors)
        weights = weights * scale[:, None, None, None]
        bias = bias * scale + shift
    return weights.astype(np.float32), bias


def _scale_and_shift(norm: Operation, tensors: Mapping[str, NDArray[Any]]) -> tuple[Array, Array]:
    """Batch norm's factor and summand for each channel."""
    found = parameters(norm, tensors)
    scale = found["weight"] / np.sqrt(found["running_var"] + norm["epsilon"])
    return scale, found["bias"] - found["running_mean"] * scale


def _convolved(
    layer: Layer, inputs: Sequence[Floats], tensors: Mapping[str, NDArray[Any]]
) -> Floats:
    """A layer of convolutions, or fc, of the tensors of an f32 network."""
    parts = [folded(source, tensors) for source in layer.sources]
    bias = np.sum([bias for _, bias in parts], axis=0).astype(np.float32)
    weights = [bf16.rounded(weight) for weight, _ in parts]
    return bf16_layer(layer, inputs, weights, bias, None if layer.skip is None else inputs[-1])


def bf16_layer(
    layer: Layer,
    inputs: Sequence[Floats],
    weights: Sequence[Floats],
    bias: Floats,
    skip: Floats | None,
) -> Floats:
    """Compute a layer of convolutions, or fc.

    Args:
        layer: one of `fused_layers`.
        inputs: of each convolution, bf16 values.
        weights: of each convolution, OHWI (fc's are `[out, 1, 1, in]`), bf16 values.
        bias: `[out]`, of all convolutions together.
        skip: what is added, bf16 values; None if nothing is.

    Returns:
        bf16 values, `[batch, h, w, out]`; fc's are float32.
    """
    sums: Floats | None = None
    for source, x, weight in zip(layer.sources, inputs, weights, strict=False):
        operation = source.operation
        window = {}
        if operation["kind"] == "linear":
            # In torch's order, as `layers.flatten`.
            x = x.transpose(0, 3, 1, 2).reshape(len(x), 1, 1, -1)
        else:
            names = ("stride", "padding", "groups", "dilation")
            window = {name: operation[name] for name in names}
        if sums is None:
            height, width = operation["output_shape"][:2]
            sums = np.broadcast_to(bias, (len(x), height, width, len(bias)))
        sums = bf16.add_products(sums, x, weight, **window)
    assert sums is not None
    return sums if layer.is_last else bf16.finished(sums, skip, layer.relu)


def _elementwise(
    layer: Layer, inputs: Sequence[Floats], tensors: Mapping[str, NDArray[Any]]
) -> Floats:
    """A batch norm, an addition or a ReLU of a layer's own: in float32, rounded once."""
    value, skip, relu = inputs[0], None, False
    for operation in layer.elementwise:
        match operation["kind"]:
            case "batch_norm":
                scale, shift = _scale_and_shift(operation, tensors)
                value = value * scale.astype(np.float32) + shift.astype(np.float32)
            case "add":
                skip = inputs[1]
            case _:
                relu = True
    return bf16.finished(value, skip, relu)


def bf16_pooled(operation: Operation, x: Floats) -> Floats:
    """Compute a layer without weights, from bf16 values to bf16 values."""
    match operation["kind"]:
        case "max_pool":
            pooled = layers.max_pool(
                x.astype(np.float64),
                operation["kernel"],
                operation["stride"],
                operation["padding"],
                operation["ceil_mode"],
            )
            return pooled.astype(np.float32)
        case "global_max_pool":
            most: Floats = x.max(axis=(1, 2), keepdims=True)
            return most
        case "global_avg_pool":
            return bf16.global_avg_pool(x)
        case "avg_pool":
            return bf16.avg_pool(
                x,
                operation["kernel"],
                operation["stride"],
                operation["padding"],
                ceil_mode=operation["ceil_mode"],
                count_include_pad=operation["count_include_pad"],
                extra=operation["extra"],
            )
        case "pad":
            return bf16.pad_shortcut(
                x,
                operation["kernel"],
                operation["stride"],
                operation["before"],
                operation["after"],
            )
        case kind:
            raise ValueError(f"bf16 has no operation of kind {kind!r}")

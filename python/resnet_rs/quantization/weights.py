"""Quantised tensors: batch norm folded in, one scale for each channel of sums, biases corrected."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._core import WeightsError
from ..reference import bf16
from ..reference.fused import IMAGE, LAST_POOL, Layer, Source
from ..reference.int8 import MOST, MOST_POOLED, MOST_WEIGHT
from .statistics import LayerStatistics

Array = NDArray[np.float64]

LEAST_FC_SCALE = 2.0**-8
"""The scale of fc's sums for a class whose weights and bias are all zero."""

POOL_MARGIN = 1.25
"""How far the 12 bits of the last pool reach beyond the largest value seen: nothing is clipped."""

# bias_q, the bias in steps of the sums, stays below 2^29, and |weights| times the largest
# activations below 2^30, so that every sum fits into 32 bits.
_MOST_BIAS = 2.0**29
_MOST_PRODUCTS = 2.0**30
# The largest weight of a channel that float16 is precise enough for.
_LEAST_HALF = 2.0**-8
_MOST_HALF = 2.0**15
# Smaller scales are not normal numbers of float32.
_LEAST_SCALE = 2.0**-120


def quantized_tensors(
    layers: Sequence[Layer],
    tensors: Mapping[str, NDArray[Any]],
    statistics: Mapping[str, LayerStatistics],
    clips: Mapping[str, float],
    mean: Sequence[float],
    std: Sequence[float],
    *,
    correct_bias: bool = True,
) -> dict[str, NDArray[Any]]:
    """Quantise every layer.

    Args:
        layers: those of the network (`reference.int8_layers`).
        tensors: of the f32 network.
        statistics: of its layers, `image` among them.
        clips: the largest value of each layer's 8 bits; the last pool's is not used.
        mean: of each channel of the image.
        std: of each channel of the image.
        correct_bias: add to each bias the mean of what rounding the weights changes.

    Returns:
        The tensors of a quantised file.

    Raises:
        WeightsError: weights are too large for a scale in float32.
    """
    (found,) = tensors_by_clips(
        layers, tensors, statistics, [clips], std, correct_bias=correct_bias
    )
    return found


def tensors_by_clips(
    layers: Sequence[Layer],
    tensors: Mapping[str, NDArray[Any]],
    statistics: Mapping[str, LayerStatistics],
    clips: Sequence[Mapping[str, float]],
    std: Sequence[float],
    *,
    correct_bias: bool = True,
    keep: Collection[str] = (),
    threads: int = 1,
) -> list[dict[str, NDArray[Any]]]:
    """Quantise every layer for several choices of clips, in little more time than for one.

    The scale of a convolution's weights does not depend on clips, unless two convolutions share
    their sums. So most weights are rounded once.

    Args:
        layers: as for `quantized_tensors`, like the others.
        tensors: see `layers`.
        statistics: see `layers`.
        clips: several of them.
        std: see `layers`.
        correct_bias: see `layers`.
        keep: the layers that stay in bf16.
        threads: the layers that are quantised at the same time.

    Returns:
        For each of `clips` the tensors of a quantised file, which may share arrays.

    Raises:
        WeightsError: as `quantized_tensors` does.
    """
    scales = [_scales(layers, statistics, one, keep) for one in clips]
    work = partial(_layer_tensors, tensors, statistics, scales, std, correct_bias, keep)
    with ThreadPoolExecutor(threads) as pool:
        by_layer = list(pool.map(work, layers))
    found: list[dict[str, NDArray[Any]]] = []
    for place in range(len(clips)):
        found.append({name: one for layer in by_layer for name, one in layer[place].items()})
        _require_finite(found[-1])
    return found


@dataclass(frozen=True)
class _Scales:
    """The real value of 1 in the tensors between layers.

    Attributes:
        inner: of every layer's output, `image` among them.
        stored: of the outputs that have a scale of their own.
    """

    inner: Mapping[str, float]
    stored: Mapping[str, np.float32]


def _scales(
    layers: Sequence[Layer],
    statistics: Mapping[str, LayerStatistics],
    clips: Mapping[str, float],
    keep: Collection[str],
) -> _Scales:
    inner = {IMAGE: 1.0}
    stored: dict[str, np.float32] = {}
    for layer in layers:
        output = _output_scale(layer, statistics, clips)
        if layer.name == LAST_POOL and layers[-1].name in keep:
            output = None  # fc reads bf16
        if output is not None:
            stored[layer.name] = output
        inner[layer.name] = inner[layer.inputs[0]] if output is None else float(output)
    return _Scales(inner, stored)


def _layer_tensors(
    tensors: Mapping[str, NDArray[Any]],
    statistics: Mapping[str, LayerStatistics],
    all_scales: Sequence[_Scales],
    std: Sequence[float],
    correct_bias: bool,
    keep: Collection[str],
    layer: Layer,
) -> list[dict[str, NDArray[Any]]]:
    """One layer's tensors for each choice of scales."""
    if layer.name in keep:
        return [_kept(layer, tensors, scales.stored.get(layer.name)) for scales in all_scales]
    folded = [folded_weights(source, tensors) for source in layer.sources]
    sources = [
        _SourceWeights(source, weight, statistics, std, correct_bias)
        for source, (weight, _) in zip(layer.sources, folded, strict=True)
    ]
    found = []
    for scales in all_scales:
        mine: dict[str, NDArray[Any]] = {}
        output = scales.stored.get(layer.name)
        if output is not None:
            mine[f"{layer.name}.output_scale"] = np.array([output], np.float32)
        if sources:
            bias = np.sum([one for _, one in folded], axis=0)
            inputs = [scales.inner[source.input] for source in layer.sources]
            most = [MOST_POOLED if source.input == LAST_POOL else MOST for source in layer.sources]
            extents = [source.extent for source in sources]
            total = _sum_scales(extents, bias, inputs, most, output)
            for source, scale in zip(sources, inputs, strict=True):
                integers, stored, shift = source.rounded(total / scale)
                mine[f"{source.name}.weight"] = integers
                mine[f"{source.name}.weight_scale"] = stored
                bias = bias - shift
            with np.errstate(over="ignore"):
                mine[f"{sources[0].name}.bias"] = bias.astype(np.float32)
        found.append(mine)
    return found


def _kept(
    layer: Layer, tensors: Mapping[str, NDArray[Any]], output: np.float32 | None
) -> dict[str, NDArray[Any]]:
    """The tensors of a layer in bf16, with the scale for those that read it in int8."""
    mine: dict[str, NDArray[Any]] = {}
    if output is not None:
        mine[f"{layer.name}.output_scale"] = np.array([output], np.float32)
    folded = [folded_weights(source, tensors) for source in layer.sources]
    for source, (weight, _) in zip(layer.sources, folded, strict=True):
        with np.errstate(over="ignore"):
            values = bf16.rounded(weight.astype(np.float32))
        mine[f"{source.name}.weight"] = _as_half(values)
    bias = np.sum([one for _, one in folded], axis=0)
    with np.errstate(over="ignore"):
        mine[f"{layer.sources[0].name}.bias"] = bias.astype(np.float32)
    return mine


def _as_half(values: NDArray[np.float32]) -> NDArray[np.float32] | NDArray[np.float16]:
    """bf16 values in float16, which has more digits and less range; in float32 if it is too narrow.

    The steps of float16 near zero, 2^-24, are then less than 2^-16 of a channel's largest weight.
    """
    largest = np.abs(values).reshape(len(values), -1).max(axis=1)
    fits = (largest == 0) | ((largest >= _LEAST_HALF) & (largest <= _MOST_HALF))
    return values.astype(np.float16) if fits.all() else values


@dataclass(frozen=True)
class _Extent:
    """Each output channel's largest weight, and its sum of weights, both without signs."""

    largest: Array
    sums: Array

    @classmethod
    def of(cls, weight: Array) -> _Extent:
        rows = np.abs(weight).reshape(len(weight), -1)
        return cls(rows.max(axis=1), rows.sum(axis=1))


class _SourceWeights:
    """A convolution's weights, rounded once for each scale that is asked for."""

    def __init__(
        self,
        source: Source,
        weight: Array,
        statistics: Mapping[str, LayerStatistics],
        std: Sequence[float],
        correct_bias: bool,
    ) -> None:
        self.name = source.name
        self._means: Array | None = None
        if source.input == IMAGE:
            weight = weight / (255 * _along_inputs(std, weight))
        if correct_bias:
            image = source.input == IMAGE
            given = statistics[source.input]
            self._means = _mean_pixel(given, std) if image else given.means
        self._weight = weight
        self.extent = _Extent.of(weight)
        self._rounded: list[tuple[NDArray[np.int8], NDArray[np.float32], Array]] = []

    def rounded(self, scale: Array) -> tuple[NDArray[np.int8], NDArray[np.float32], Array]:
        """Integers, the scale as it is stored, and the shift by rounding."""
        with np.errstate(over="ignore"):
            wanted = scale.astype(np.float32)
        for known in self._rounded:
            if np.array_equal(known[1], wanted):
                return known
        integers, stored = rounded(self._weight, scale)
        shift: Array = np.zeros(len(scale))
        if self._means is not None:
            shift = shift_by_rounding(self._weight, integers, stored, self._means)
        self._rounded.append((integers, stored, shift))
        return self._rounded[-1]


def folded_weights(source: Source, tensors: Mapping[str, NDArray[Any]]) -> tuple[Array, Array]:
    """A convolution's weights and bias with the batch norm after it folded in, in float64.

        weight = weight * scale / sqrt(variance + epsilon), channel by channel of the output

    Returns:
        Weights in torch's layout (OIHW, or `[classes, features]`) and bias `[out]`.
    """
    parameters = source.operation["parameters"]
    weight = np.asarray(tensors[parameters["weight"][0]], np.float64)
    bias = np.zeros(len(weight))
    if "bias" in parameters:
        bias = np.asarray(tensors[parameters["bias"][0]], np.float64)
    if source.norm is None:
        return weight, bias
    part = {
        name: np.asarray(tensors[tensor], np.float64)
        for name, (tensor, _) in source.norm["parameters"].items()
    }
    factor = part["weight"] / np.sqrt(part["running_var"] + source.norm["epsilon"])
    weight = weight * factor.reshape(-1, *[1] * (weight.ndim - 1))
    return weight, (bias - part["running_mean"]) * factor + part["bias"]


def sum_scales(
    weights: Sequence[Array],
    bias: Array,
    inputs: Sequence[float],
    most: Sequence[int],
    output: np.float32 | None,
) -> Array:
    """The scale T of each channel's sums: the real value of 1 in them.

    Both sources of a layer have the same, or their products could not be added as integers. It is
    that of the source whose largest weight, times its input's scale, is the larger. So the rounding
    noise of the other one is at most as large.

    Args:
        weights: of each source, folded.
        bias: of the layer, `[out]`.
        inputs: the scale of each source's input.
        most: the largest integer of each source's input.
        output: the scale of the layer's output; None for fc.

    Returns:
        `[out]`, above 0.
    """
    return _sum_scales([_Extent.of(weight) for weight in weights], bias, inputs, most, output)


def _sum_scales(
    extents: Sequence[_Extent],
    bias: Array,
    inputs: Sequence[float],
    most: Sequence[int],
    output: np.float32 | None,
) -> Array:
    pairs = list(zip(extents, inputs, strict=True))
    total: Array = np.max([one.largest * scale / MOST_WEIGHT for one, scale in pairs], axis=0)
    products = sum(
        one.sums * scale * largest for (one, scale), largest in zip(pairs, most, strict=True)
    )
    total = np.maximum(total, products / _MOST_PRODUCTS)
    total = np.maximum(total, np.abs(bias) / _MOST_BIAS)
    unused = LEAST_FC_SCALE if output is None else float(output) / 256
    total = np.where(total > 0, total, unused)
    least: Array = np.maximum(total, _LEAST_SCALE * max(inputs))
    return least


def rounded(weight: Array, scale: Array) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round weights to integers times a scale for each output channel.

    Args:
        weight: `[out, ...]`.
        scale: `[out]`.

    Returns:
        The integers, int8 in -127..127, and the scale in float32.
    """
    with np.errstate(over="ignore"):
        stored = scale.astype(np.float32)
    wide = stored.astype(np.float64).reshape(-1, *[1] * (weight.ndim - 1))
    integers = weight / wide
    np.rint(integers, out=integers)
    np.clip(integers, -MOST_WEIGHT, MOST_WEIGHT, out=integers)
    return integers.astype(np.int8), stored


def shift_by_rounding(
    weight: Array, integers: NDArray[np.int8], scale: NDArray[np.float32], means: Array
) -> Array:
    """The mean of what the rounding of weights adds to each output channel.

        sum over taps and channels of (integer * scale - weight) * the input channel's mean

    Args:
        weight: `[out, in / groups, ...]`, or `[classes, features]`.
        integers: of the same shape.
        scale: `[out]`.
        means: of the input's channels. The features of a map of several pixels are that many to a
            channel, one channel after the other.

    Returns:
        `[out]`.
    """
    wide = scale.astype(np.float64).reshape(-1, *[1] * (weight.ndim - 1))
    change = integers * wide
    change -= weight
    difference = change.reshape(*weight.shape[:2], -1).sum(axis=2)
    out, inside = difference.shape
    if inside > len(means):
        means = np.repeat(means, inside // len(means))
    groups = len(means) // inside
    by_group = difference.reshape(groups, out // groups, inside)
    shift: Array = np.einsum("goi,gi->go", by_group, means.reshape(groups, inside)).ravel()
    return shift


def _mean_pixel(image: LayerStatistics, std: Sequence[float]) -> Array:
    """The mean of each channel of the images, as pixels 0..255 less the network's mean."""
    pixel: Array = image.means * np.asarray(std) * 255
    return pixel


def _along_inputs(values: Sequence[float], weight: Array) -> Array:
    return np.asarray(values, np.float64).reshape(1, -1, *[1] * (weight.ndim - 2))


def _output_scale(
    layer: Layer, statistics: Mapping[str, LayerStatistics], clips: Mapping[str, float]
) -> np.float32 | None:
    """A layer's own output scale; None if it has none."""
    if not layer.has_scale:
        return None
    if layer.pool is None:
        scale = clips[layer.name] / MOST
    else:
        scale = (statistics[layer.name].largest or 1.0) * POOL_MARGIN / MOST_POOLED
    return np.float32(max(scale, _LEAST_SCALE))


def _require_finite(tensors: Mapping[str, NDArray[Any]]) -> None:
    for name, tensor in tensors.items():
        if tensor.dtype != np.int8 and not np.isfinite(tensor).all():
            raise WeightsError(
                f"{name}: expected values that float32 holds; got {tensor[~np.isfinite(tensor)][0]}"
            )

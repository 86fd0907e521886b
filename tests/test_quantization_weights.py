"""Quantised tensors: folding, the scales of sums, rounding, corrected biases."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from resnet_rs import WeightsError, reference
from resnet_rs.quantization.statistics import LayerStatistics
from resnet_rs.quantization.weights import (
    folded_weights,
    quantized_tensors,
    rounded,
    shift_by_rounding,
    sum_scales,
)
from resnet_rs.reference.fused import Layer
from resnet_rs.reference.int8_network import int8_layers

RNG = np.random.default_rng(5)
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)


def network(architecture: str, **variant: Any) -> tuple[list[Layer], dict[str, NDArray[Any]]]:
    """A narrow network's layers and random tensors."""
    variant = {"widths": [4, 6, 8, 8], **variant}
    listed = reference.operations(architecture, 32, 32, num_classes=5, variant=variant)
    tensors = {
        name: _values(part, shape)
        for operation in listed
        for part, (name, shape) in operation["parameters"].items()
    }
    return int8_layers(listed), tensors


def _values(part: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    values = RNG.standard_normal(shape)
    return (np.abs(values) + 0.5 if part == "running_var" else values).astype(np.float32)


def statistics(layers: list[Layer]) -> dict[str, LayerStatistics]:
    """Made-up ones: what is asked of them here is only the largest values and the means."""
    found = {"image": _statistics(3)}
    for layer in layers:
        if layer.sources:
            channels = len_of(layer)
        else:
            assert layer.pool is not None
            channels = layer.pool["output_shape"][2]
        found[layer.name] = _statistics(channels)
    return found


def len_of(layer: Layer) -> int:
    out: int = layer.sources[0].operation["parameters"]["weight"][1][0]
    return out


def _statistics(channels: int) -> LayerStatistics:
    counts = np.zeros(1 << 15, np.uint64)
    counts[16256] = 100 * channels
    return LayerStatistics(RNG.uniform(1, 9), counts, RNG.random(channels) * 100)


def quantized(
    layers: list[Layer], tensors: dict[str, NDArray[Any]], **options: Any
) -> dict[str, NDArray[Any]]:
    found = statistics(layers)
    clips = {name: one.largest for name, one in found.items()}
    return quantized_tensors(layers, tensors, found, clips, MEAN, STD, **options)


@pytest.mark.parametrize("bias", [False, True])
def test_folded_weights_do_the_work_of_convolution_and_norm(bias: bool) -> None:
    layers, tensors = network("resnet18", conv_bias=bias)
    source = next(layer for layer in layers if layer.name == "layer2.0.relu1").sources[0]
    weight, shift = folded_weights(source, tensors)
    x = RNG.standard_normal((1, 6, 5, 4))
    operations = [source.operation, source.norm]
    y = x
    for operation in operations:
        assert operation is not None
        parts = {
            part: tensors[name].astype(np.float64)
            for part, (name, _) in operation["parameters"].items()
        }
        y = reference.evaluate(operation, [y], parts)
    folded = reference.conv2d(x, reference.ohwi(weight), stride=2, padding=1, bias=shift)
    assert folded == pytest.approx(y, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("architecture", ["resnet18", "resnet50d", "resnext50_32x4d"])
def test_a_file_has_the_tensors_of_its_layers(architecture: str) -> None:
    variant = {"groups": 2, "width_per_group": 64} if architecture == "resnext50_32x4d" else {}
    layers, tensors = network(architecture, **variant)
    found = quantized(layers, tensors)
    expected = set()
    for layer in layers:
        for source in layer.sources:
            expected |= {f"{source.name}.weight", f"{source.name}.weight_scale"}
        if layer.sources:
            expected.add(f"{layer.sources[0].name}.bias")
        if layer.has_scale:
            expected.add(f"{layer.name}.output_scale")
    assert found.keys() == expected
    for name, tensor in found.items():
        assert tensor.dtype == (np.int8 if name.endswith(".weight") else np.float32), name
        if name.endswith("scale"):
            assert (tensor > 0).all()
        if name.endswith(".weight"):
            assert tensor.shape == tensors[name].shape
            rows = np.abs(tensor.astype(int)).reshape(len(tensor), -1).max(axis=1)
            assert rows.max() == 127
            assert tensor.min() >= -127


def test_real_weights_come_back_within_half_a_step() -> None:
    layers, tensors = network("resnet18")
    found = quantized(layers, tensors)
    for layer in layers:
        for source in layer.sources:
            weight, _ = folded_weights(source, tensors)
            if source.input == "image":
                weight = weight / (255 * np.array(STD).reshape(1, 3, 1, 1))
            scale = found[f"{source.name}.weight_scale"].astype(np.float64)
            scale = scale.reshape(-1, *[1] * (weight.ndim - 1))
            back = found[f"{source.name}.weight"] * scale
            assert (np.abs(back - weight) <= 0.5001 * scale).all(), source.name


def test_both_sources_of_a_sum_have_one_scale() -> None:
    layers, tensors = network("resnet50")
    found = quantized(layers, tensors)
    scales = {"image": 1.0}
    both = 0
    for layer in layers:
        own = found.get(f"{layer.name}.output_scale")
        scales[layer.name] = float(own[0]) if own is not None else scales[layer.inputs[0]]
        if len(layer.sources) == 2:
            both += 1
            first, second = (
                scales[source.input] * found[f"{source.name}.weight_scale"].astype(np.float64)
                for source in layer.sources
            )
            assert first == pytest.approx(second, rel=2**-10)
    assert both == 4


def test_sums_stay_within_32_bits() -> None:
    bias = np.array([1e6, 0.0, 0.0])
    weight = np.zeros((3, 100_352))
    weight[1] = 1.0
    (total,) = {tuple(sum_scales([weight], bias, [0.01], [4095], None))}
    assert abs(bias[0]) / total[0] <= 2**29
    assert np.abs(rounded(weight, np.array(total) / 0.01)[0]).sum(axis=1).max() * 4095 < 2**31
    assert total[2] == 2**-8  # neither weights nor bias: any scale will do
    assert sum_scales([weight], bias, [1.0], [255], np.float32(0.5))[2] == 0.5 / 256


@pytest.mark.parametrize("groups", [1, 2])
def test_the_shift_by_rounding_is_the_mean_of_what_changes(groups: int) -> None:
    weight = RNG.standard_normal((6, 4 // groups, 3, 3))
    integers, scale = rounded(weight, np.full(6, 0.05))
    x = RNG.random((1, 40, 40, 4))
    back = integers * scale.astype(np.float64).reshape(-1, 1, 1, 1)
    change = [
        reference.conv2d(x, reference.ohwi(w), groups=groups).mean(axis=(0, 1, 2))
        for w in (weight, back)
    ]
    shift = shift_by_rounding(weight, integers, scale, x.mean(axis=(0, 1, 2)))
    assert np.abs(shift).max() > 0.01
    assert shift == pytest.approx(change[1] - change[0], abs=0.003)


def test_features_of_several_pixels_share_the_mean_of_their_channel() -> None:
    weight = RNG.standard_normal((3, 2 * 4))
    integers, scale = rounded(weight, np.full(3, 0.05))
    means = np.array([0.3, 2.0])
    shift = shift_by_rounding(weight, integers, scale, means)
    difference = integers * scale.astype(np.float64)[:, None] - weight
    assert shift == pytest.approx(difference @ np.repeat(means, 4), rel=1e-12)


def test_the_first_bias_is_corrected_for_normalised_pixels() -> None:
    layers, tensors = network("resnet18")
    counts = np.zeros(1 << 15, np.uint64)
    counts[0] = 3
    found = statistics(layers)
    clips = {name: one.largest for name, one in found.items()}
    # A mean of zero after normalisation is a mean pixel of `MEAN`: rounding shifts nothing then.
    found["image"] = LayerStatistics(1.0, counts, np.zeros(3))
    tensors_by = [
        quantized_tensors(layers, tensors, found, clips, MEAN, STD, correct_bias=correct)
        for correct in (False, True)
    ]
    assert np.array_equal(*[one["conv1.bias"] for one in tensors_by])
    assert not np.array_equal(*[one["layer1.0.conv1.bias"] for one in tensors_by])


def test_weights_beyond_float32_are_refused() -> None:
    layers, tensors = network("resnet18")
    tensors["bn1.weight"][2] = 3e38
    tensors["bn1.running_var"][2] = 0
    with pytest.raises(WeightsError, match=r"expected values that float32 holds; got -?inf"):
        quantized(layers, tensors)

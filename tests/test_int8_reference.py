"""The NumPy definition of int8: sums against plain loops, roundings one by one, layers by name."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from resnet_rs.reference import int8, layers, operations
from resnet_rs.reference.fused import Layer
from resnet_rs.reference.int8_network import int8_layers, run_int8

RNG = np.random.default_rng(3)


def integers(*shape: int, least: int = 0, most: int = 255) -> NDArray[np.int64]:
    return RNG.integers(least, most + 1, shape)


def naive_sums(
    q: NDArray[Any], w: NDArray[Any], stride: int, padding: int, groups: int, dilation: int
) -> NDArray[np.int64]:
    """The sum of the definition, in Python's own integers."""
    batch, height, width, channels = q.shape
    out, kernel, _, inside = w.shape
    span = (kernel - 1) * dilation + 1
    out_h, out_w = ((side + 2 * padding - span) // stride + 1 for side in (height, width))
    y = np.zeros((batch, out_h, out_w, out), np.int64)
    for n, i, j, o in product(*map(range, y.shape)):
        first = o // (out // groups) * inside
        for ky, kx, c in product(range(kernel), range(kernel), range(inside)):
            row = i * stride + ky * dilation - padding
            column = j * stride + kx * dilation - padding
            if 0 <= row < height and 0 <= column < width:
                y[n, i, j, o] += int(q[n, row, column, first + c]) * int(w[o, ky, kx, c])
    assert inside * groups == channels
    return y


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "groups", "dilation"),
    [(1, 1, 0, 1, 1), (3, 1, 1, 1, 1), (3, 2, 1, 2, 1), (3, 1, 2, 4, 2), (5, 3, 2, 1, 1)],
)
def test_sums_are_those_of_the_definition(
    kernel: int, stride: int, padding: int, groups: int, dilation: int
) -> None:
    q = integers(2, 7, 5, 4).astype(np.uint8)
    w = integers(8, kernel, kernel, 4 // groups, least=-127, most=127).astype(np.int8)
    expected = naive_sums(q, w, stride, padding, groups, dilation)
    assert np.abs(expected).max() > 10_000
    found = int8.sums(q, w, stride, padding, groups, dilation)
    assert np.array_equal(found, expected)


def test_requantized_rounds_each_step_in_float32_and_ties_to_even() -> None:
    total = np.array([[[[1, 3, -5, 2**24 + 1, 1000]]]], np.float64)
    multiplier = np.array([0.5, 0.5, 0.5, 2.0**-24, 0.5], np.float32)
    q = int8.requantized(total, multiplier)
    assert q.dtype == np.uint8
    # 0.5 -> 0, 1.5 -> 2, below 0 -> 0, (f32(2^24 + 1) = 2^24) -> 1, above 255 -> 255.
    assert q.ravel().tolist() == [0, 2, 0, 1, 255]
    skip = np.array([[[[1, 1, 200, 0, 0]]]], np.uint8)
    q = int8.requantized(total, multiplier, skip, np.float32(0.5))
    assert q.ravel().tolist() == [1, 2, 98, 1, 255]


def test_requantized_rounds_product_and_sum_apart() -> None:
    multiplier, ratio = np.float32(1 / 6), np.float32(1 / 3)
    total, skip = (side.ravel() for side in np.mgrid[0:1500, 0:256])
    expected = [
        min(max(int(np.rint(np.float32(t) * multiplier + np.float32(s) * ratio)), 0), 255)
        for t, s in zip(total[::7], skip[::7], strict=True)
    ]
    found = int8.requantized(
        total.astype(np.float64)[:, None], np.array([multiplier]), skip[:, None], ratio
    )
    assert found[::7, 0].tolist() == expected
    assert len(set(expected)) > 200
    # Without the roundings between, some sums fall on another side of a tie.
    exact = total * np.float64(multiplier) + skip * np.float64(ratio)
    assert (found[:, 0] != np.rint(np.minimum(exact, 255))).any()


def test_pixels_are_themselves_and_normalised_values_come_back_to_them() -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    pixels = integers(2, 5, 3, 3).astype(np.uint8)
    assert int8.quantized_pixels(pixels, mean, std) is pixels
    normalised = ((pixels / 255 - mean) / std).astype(np.float32)
    assert np.array_equal(int8.quantized_pixels(normalised, mean, std), pixels)
    odd = np.array([np.nan, np.inf, -np.inf, 3e38], np.float32).reshape(1, 1, 4, 1)
    assert int8.quantized_pixels(odd, (0.5,), (0.5,)).ravel().tolist() == [0, 255, 0, 255]


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_border_is_a_pixel_of_the_mean(channels: int) -> None:
    # A whole number of 255ths has no remainder for the marker, so the sums agree exactly.
    mean = np.array([77, 0, 255, 130][:channels]) / 255
    pixels = integers(1, 6, 5, channels).astype(np.uint8)
    w = integers(4, 3, 3, channels, least=-127, most=127).astype(np.int8)
    around = layers.conv2d(pixels - 255 * mean, w.astype(float), stride=2, padding=1)
    bias = np.zeros(4, np.float32)
    total = int8.first_sums(pixels, w, mean, 2, 1) + int8.first_bias(bias, np.ones(4), w, mean)
    assert np.array_equal(total, around.round())


@pytest.mark.parametrize("channels", [1, 2, 3, 7])
def test_the_marker_adds_what_the_border_pixel_lacks(channels: int) -> None:
    mean = RNG.random(channels)
    w = integers(16, 3, 3, channels, least=-127, most=127).astype(np.int8)
    pixel, mark = int8.border_pixel(mean)
    marked = int8.marker_weights(w, mean)
    assert np.abs(marked).max() <= 127
    border = (w * pixel.astype(float)).sum(axis=3) + mark * marked[..., 0]
    exact = (w * (255 * mean)).sum(axis=3)
    assert np.abs(border - exact).max() <= mark / 2 + 1e-9
    assert mark == max(2, (channels + 1) // 2)


def test_a_mean_outside_the_pixels_is_refused() -> None:
    w = np.full((1, 1, 1, 1), 100, np.int8)
    with pytest.raises(ValueError, match=r"mean: expected values within 0\.\.1"):
        int8.marker_weights(w, (2.0,))


def test_average_pools_divide_by_the_places_that_count() -> None:
    q = integers(1, 5, 4, 2).astype(np.uint8)
    pooled = int8.avg_pool(q, 2, 2, ceil_mode=True)
    assert pooled.dtype == np.uint8
    assert pooled.shape == (1, 3, 2, 2)
    # The last row of windows holds one row of pixels.
    for j, c in product(range(2), range(2)):
        total = int(q[0, 4, 2 * j : 2 * j + 2, c].sum())
        assert pooled[0, 2, j, c] == np.rint(np.float32(total) * np.float32(1 / 2))
    whole = int8.global_avg_pool(q, ratio=16.0)
    assert whole.dtype == np.uint16
    total = q.sum(axis=(1, 2), dtype=np.float32)
    assert np.array_equal(whole[:, 0, 0], np.rint(total * np.float32(16 / 20)))
    assert int8.global_avg_pool(q, ratio=1000.0).max() == 4095


def test_max_pools_and_pads_keep_integers() -> None:
    q = integers(1, 5, 5, 2).astype(np.uint8)
    pooled = int8.max_pool(q, 3, 2, 1)
    assert pooled.dtype == np.uint8
    assert pooled[0, 0, 0].tolist() == q[0, :2, :2].max(axis=(0, 1)).tolist()
    padded = int8.pad_shortcut(q, 1, 2, 1, 3)
    assert padded.shape == (1, 3, 3, 6)
    assert np.array_equal(padded[..., 1:3], q[:, ::2, ::2])
    assert not padded[..., [0, 3, 4, 5]].any()


def named(architecture: str, **variant: Any) -> dict[str, Layer]:
    listed = operations(architecture, 64, 64, num_classes=7, variant=variant)
    return {layer.name: layer for layer in int8_layers(listed)}


def test_layers_are_those_of_the_fused_network_with_shortcuts_inside() -> None:
    found = named("resnet18")
    names = list(found)
    assert names[:4] == ["relu", "maxpool", "layer1.0.relu1", "layer1.0"]
    assert names[-2:] == ["avgpool", "fc"]
    assert len(names) == 2 + 16 + 2
    last = found["layer2.0"]
    assert [source.name for source in last.sources] == [
        "layer2.0.conv2",
        "layer2.0.downsample.0",
    ]
    assert last.inputs == ("layer2.0.relu1", "layer1.1")
    assert last.skip is None
    assert [source.norm["name"] for source in last.sources if source.norm] == [
        "layer2.0.bn2",
        "layer2.0.downsample.1",
    ]
    assert found["layer1.0"].skip == "maxpool"
    assert found["fc"].is_last
    assert [name for name, layer in found.items() if not layer.has_scale] == ["maxpool", "fc"]


def test_layers_of_the_variants() -> None:
    deep = named("resnet50d")
    assert list(deep)[:4] == ["conv1.2", "conv1.5", "relu", "maxpool"]
    assert deep["layer2.0"].inputs == ("layer2.0.relu2", "layer2.0.downsample.0")
    assert not deep["layer2.0.downsample.0"].has_scale
    small = named("cifar_resnet20")
    assert small["layer2.0"].skip == "layer2.0.downsample"
    assert not small["layer2.0.downsample"].has_scale
    assert not named("resnet18", head="global_max_pool")["avgpool"].has_scale
    plain = named("resnet18", shortcut="none", batch_norm=False)
    assert plain["layer1.0"].skip is None
    assert plain["layer1.0"].sources[0].norm is None
    assert len(named("resnet18", shortcut="conv_always")["layer1.0"].sources) == 2


def test_a_relu_before_the_addition_is_refused() -> None:
    with pytest.raises(ValueError, match=r"layer1\.0\.add: .*relu_before_add stays in f32"):
        named("resnet50", relu_before_add=True)


def constant_network() -> tuple[list[dict[str, Any]], dict[str, NDArray[Any]]]:
    """A resnet18 whose tensors make every layer's numbers easy to tell."""
    listed = operations("resnet18", 32, 32, num_classes=3, variant={"widths": [2, 2, 2, 2]})
    tensors: dict[str, NDArray[Any]] = {}
    for layer in int8_layers(listed):
        for source in layer.sources:
            shape = source.operation["parameters"]["weight"][1]
            tensors[f"{source.name}.weight"] = RNG.integers(-127, 128, shape).astype(np.int8)
            out = shape[0]
            tensors[f"{source.name}.weight_scale"] = np.full(out, 2.0**-9, np.float32)
        if layer.sources:
            tensors[f"{layer.sources[0].name}.bias"] = RNG.random(out).astype(np.float32)
        if layer.has_scale:
            tensors[f"{layer.name}.output_scale"] = np.array([2.0**-7], np.float32)
    return listed, tensors


def test_a_walk_gives_integers_with_scales_and_logits_at_the_end() -> None:
    listed, tensors = constant_network()
    pixels = integers(2, 32, 32, 3).astype(np.uint8)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
    found = {name: (q, s) for name, q, s in run_int8(listed, tensors, pixels, mean, std)}
    assert list(found) == [layer.name for layer in int8_layers(listed)]
    assert {q.dtype for name, (q, _) in found.items() if name not in ("avgpool", "fc")} == {
        np.dtype(np.uint8)
    }
    assert found["avgpool"][0].dtype == np.uint16
    assert found["maxpool"][1] == found["relu"][1] == np.float32(2.0**-7)
    logits, one = found["fc"]
    assert (logits.shape, logits.dtype, one) == ((2, 1, 1, 3), np.float32, 1)
    # The last layer by hand.
    q = found["avgpool"][0].reshape(2, -1).astype(np.int64)
    t = float(found["avgpool"][1]) * tensors["fc.weight_scale"].astype(float)
    bias = np.rint(tensors["fc.bias"] / t).astype(np.int64)
    total = q @ tensors["fc.weight"].astype(np.int64).T + bias
    assert np.array_equal(logits[:, 0, 0], total.astype(np.float32) * t.astype(np.float32))
    # A batch is its images one by one.
    alone = [list(run_int8(listed, tensors, pixels[i : i + 1], mean, std))[-1][1] for i in (0, 1)]
    assert np.array_equal(np.concatenate(alone), logits)


def test_images_of_another_kind_are_refused() -> None:
    listed, tensors = constant_network()
    for image in (np.zeros((1, 32, 32, 3)), np.zeros((32, 32, 3), np.uint8)):
        with pytest.raises(ValueError, match="uint8 or float32; got"):
            next(run_int8(listed, tensors, image, (0.5,) * 3, (0.5,) * 3))

"""The compiled int8 network against its definition in NumPy: every layer, to the bit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import layer_statistics
import numpy as np
import pytest
from conftest import DEMO
from numpy.typing import NDArray
from telling_rows import assert_telling
from tiny_model import write_tiny_model

import resnet_rs
from resnet_rs import ResNet, ResNet50, WeightsError, _core
from resnet_rs.reference import int8_layers, run_int8
from resnet_rs.reference.int8 import dequantized

IMAGES = np.random.default_rng(7).integers(0, 256, (5, 32, 32, 3), np.uint8)

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("resnet18", {}),
    ("resnet50", {}),
    ("resnet50d", {}),
    ("resnet50", {"groups": 2, "width_per_group": 64}),
    ("resnet50", {"groups": 8, "width_per_group": 64, "widths": [8, 8, 16, 16]}),
    ("cifar_resnet20", {"blocks": [1, 1, 1], "widths": [16, 24, 32]}),
    ("resnet18", {"shortcut": "none"}),
    ("resnet18", {"shortcut": "conv_always", "conv_bias": True}),
    ("resnet18", {"batch_norm": False}),
    ("resnet18", {"head": "global_max_pool"}),
    ("resnet18", {"last_stride": 1, "dilation": [1, 1, 1, 2]}),
    ("resnet50d", {"last_stride": 1, "dilation": [1, 1, 2, 4], "widths": [5, 9, 17, 33]}),
]


def quantized(directory: Path, architecture: str, variant: Mapping[str, Any]) -> ResNet:
    model = resnet_rs.load(write_tiny_model(directory, architecture=architecture, **variant))
    return model.quantize(IMAGES, method="mse", progress=False)


def network_of(model: ResNet, **options: Any) -> _core.Network:
    loaded = model.loaded
    return _core.Network.from_tensors(
        loaded.tensors(), json.dumps(loaded.config.as_dict()), origin="a test", **options
    )


def defined(model: ResNet, x: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
    """Every layer's output by the definition."""
    spec = model.config.preprocessing
    operations = model.loaded.network.operations(*x.shape[1:3])
    walk = run_int8(operations, model.loaded.tensors(), x, spec.mean, spec.std)
    return {name: dequantized(q, scale) for name, q, scale in walk}


@pytest.mark.parametrize(("architecture", "variant"), VARIANTS)
def test_every_layer_is_that_of_the_definition(
    isa: str, architecture: str, variant: dict[str, Any], tmp_path: Path
) -> None:
    model = quantized(tmp_path / "weights", architecture, variant)
    network = network_of(model, isa=isa, threads=2)
    assert network.precision == "int8"
    for x in (IMAGES, model.preprocess(IMAGES), IMAGES[:2, :21, 3:, :]):
        x = np.ascontiguousarray(x)
        expected = defined(model, x)
        found = dict(network.activations(x))
        assert list(found) == list(expected) == network.layer_names
        for name, values in expected.items():
            assert np.array_equal(found[name], values), name
        rows = network.logits(x)
        assert_telling(rows)
        assert np.array_equal(rows, expected["fc"].reshape(len(x), -1))
        pooled = expected["avgpool"].transpose(0, 3, 1, 2).reshape(len(x), -1)
        assert np.array_equal(network.embed(x), pooled)


@pytest.mark.parametrize("channels", [1, 2, 4, 7])
def test_images_of_other_channels(isa: str, channels: int, tmp_path: Path) -> None:
    random = np.random.default_rng(channels)
    preprocessing = {
        "mean": random.uniform(0, 1, channels).tolist(),
        "std": random.uniform(0.1, 0.5, channels).tolist(),
    }
    directory = write_tiny_model(
        tmp_path / "weights",
        architecture="resnet18",
        preprocessing=preprocessing,
        in_channels=channels,
    )
    model = resnet_rs.load(directory)
    x = random.standard_normal((3, 32, 32, channels), np.float32)
    small = model.quantize(x, method="minmax")
    found = dict(network_of(small, isa=isa).activations(x))
    for name, values in defined(small, x).items():
        assert np.array_equal(found[name], values), name


def test_odd_input_values_are_those_of_the_definition(isa: str, tmp_path: Path) -> None:
    model = quantized(tmp_path / "weights", "resnet18", {})
    x = model.preprocess(IMAGES[:2])
    x[0, 3, 4:8, 1] = [np.nan, np.inf, -np.inf, 1e38]
    found = dict(network_of(model, isa=isa).activations(x))
    for name, values in defined(model, x).items():
        assert np.array_equal(found[name], values), name


def test_results_are_the_same_for_any_batch_tier_and_number_of_threads(tmp_path: Path) -> None:
    model = quantized(tmp_path / "weights", "resnet50", {})
    expected = model.logits(IMAGES)
    assert_telling(expected)
    for tier in _core.available_isas():
        for threads in (1, 2, 3):
            network = network_of(model, isa=tier, threads=threads)
            assert np.array_equal(network.logits(IMAGES), expected)
            alone = [network.logits(IMAGES[i : i + 1]) for i in range(len(IMAGES))]
            assert np.array_equal(np.concatenate(alone), expected)


def test_the_demo_model_at_its_own_size() -> None:
    photos = sorted((DEMO / "photos").iterdir())[:3]
    model = ResNet50(DEMO)
    small = model.quantize(photos, method="minmax", progress=False)
    x = model.preprocess(photos)
    assert np.array_equal(small.logits(photos), defined(small, x)["fc"].reshape(3, -1))


@pytest.mark.parametrize("architecture", ["resnet18", "resnet50d"])
def test_statistics_are_those_of_the_activations(
    isa: str, architecture: str, tmp_path: Path
) -> None:
    directory = write_tiny_model(tmp_path / "weights", architecture=architecture)
    for threads in (1, 2):
        network = _core.Network(str(directory), isa=isa, threads=threads)
        for x in (IMAGES, network.normalize(IMAGES)):
            found = network.statistics(x)
            expected = layer_statistics.statistics(network, x)
            assert [name for name, *_ in found] == [name for name, *_ in expected]
            for one, other in zip(found, expected, strict=True):
                assert one[1] == other[1], one[0]
                assert one[2].dtype == np.uint64
                assert np.array_equal(one[2], other[2]), one[0]
                assert one[3] == pytest.approx(other[3], rel=1e-5, abs=1e-4), one[0]


def test_statistics_do_not_depend_on_threads(tmp_path: Path) -> None:
    directory = write_tiny_model(tmp_path / "weights")
    first, second = (
        _core.Network(str(directory), threads=threads).statistics(IMAGES) for threads in (1, 3)
    )
    for one, other in zip(first, second, strict=True):
        assert one[1] == other[1]
        assert np.array_equal(one[2], other[2])
        assert np.array_equal(one[3], other[3])


def test_layers_are_those_that_python_makes(tmp_path: Path) -> None:
    for architecture, variant in VARIANTS:
        model = quantized(tmp_path / "weights", architecture, variant)
        operations = model.loaded.network.operations(32, 32)
        names = [layer.name for layer in int8_layers(operations)]
        assert names == model.loaded.network.layer_names
        assert {operation["fused_into"] for operation in operations} == set(names)
        assert {step["name"] for step in model.loaded.network.plan(1, 32, 32)} >= set(names)


class TestRefused:
    @pytest.fixture
    def model(self, tmp_path: Path) -> ResNet:
        return quantized(tmp_path / "weights", "resnet18", {})

    def test_unfused(self, model: ResNet) -> None:
        with pytest.raises(ValueError, match="fused"):
            network_of(model, fused=False)

    def test_another_precision(self, model: ResNet, tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match="int8"):
            network_of(model, precision="f32")
        with pytest.raises(WeightsError, match="f32"):
            _core.Network(str(tmp_path / "weights"), precision="int8")

    def test_statistics(self, model: ResNet) -> None:
        with pytest.raises(ValueError, match="f32"):
            network_of(model).statistics(IMAGES)

    @pytest.mark.parametrize(
        ("name", "change"),
        [
            ("conv1.weight_scale", lambda a: a * np.float32(np.nan)),
            ("conv1.weight_scale", lambda a: -a),
            ("conv1.weight_scale", lambda a: a[:-1].copy()),
            ("layer1.0.output_scale", lambda a: a * np.float32(np.inf)),
            ("layer1.0.output_scale", lambda a: a * 0),
            ("avgpool.output_scale", lambda a: np.repeat(a, 2)),
            ("layer1.0.conv2.bias", lambda a: a * np.float32(np.nan)),
            ("fc.weight", lambda a: a.astype(np.float32)),
            ("fc.bias", lambda a: a + np.float32(1e30)),
            ("layer2.0.downsample.0.weight_scale", lambda a: a * np.float32(1.01)),
            ("layer1.0.conv1.weight", None),
            ("layer1.0.output_scale", None),
        ],
    )
    def test_damaged_tensors(self, model: ResNet, name: str, change: Any) -> None:
        tensors = dict(model.loaded.tensors())
        if change is None:
            del tensors[name]
        else:
            tensors[name] = change(tensors[name])
        config = json.dumps(model.config.as_dict())
        with pytest.raises(WeightsError) as caught:
            _core.Network.from_tensors(tensors, config, origin="a test")
        assert name.split(".weight")[0].split(".bias")[0] in str(caught.value)

    def test_a_surplus_tensor(self, model: ResNet) -> None:
        tensors = {**model.loaded.tensors(), "maxpool.output_scale": np.ones(1, np.float32)}
        with pytest.raises(WeightsError, match=r"maxpool\.output_scale"):
            _core.Network.from_tensors(tensors, json.dumps(model.config.as_dict()), origin="a test")

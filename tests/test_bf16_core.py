"""The compiled bf16 network against its definition in NumPy: every layer."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import DEMO
from numpy.typing import NDArray
from telling_rows import assert_telling
from test_int8_core import IMAGES, VARIANTS
from tiny_model import write_tiny_model

import resnet_rs
from resnet_rs import ResNet50, _core
from resnet_rs.reference import fused_layers, run_bf16

BOTH = [*VARIANTS, ("resnet18", {"relu_before_add": True})]

WIDENED = tuple(isa for isa in _core.available_isas() if isa != "avx512")
"""The tiers that widen pairs. The processor's own instruction may add in another order."""

NEAR = 1e-3
"""Of that instruction: sums that differ in float32's last place round to another bf16 value."""


def bf16(directory: Path, **options: Any) -> _core.Network:
    return _core.Network(str(directory), precision="bf16", strict=True, **options)


def assert_defined(
    network: _core.Network, x: NDArray[Any], expected: dict[str, NDArray[np.float32]]
) -> None:
    found = dict(network.activations(x))
    assert list(found) == list(expected) == network.layer_names
    for name, values in expected.items():
        if network.isa in WIDENED:
            assert np.array_equal(found[name], values, equal_nan=True), name
        else:
            error = np.linalg.norm(found[name] - values)
            assert error <= NEAR * np.linalg.norm(values), name


@pytest.mark.parametrize(("architecture", "variant"), BOTH)
def test_every_layer_is_that_of_the_definition(
    isa: str, architecture: str, variant: dict[str, Any], tmp_path: Path
) -> None:
    directory = write_tiny_model(tmp_path / "weights", architecture=architecture, **variant)
    model = resnet_rs.load(directory)
    network = bf16(directory, isa=isa, threads=2)
    assert network.precision == "bf16"
    assert network.remark is None
    for pixels in (IMAGES[:3], IMAGES[:2, :21, 3:, :]):
        x = network.normalize(np.ascontiguousarray(pixels))
        operations = network.operations(*x.shape[1:3])
        expected = dict(run_bf16(operations, model.loaded.tensors(), x))
        assert_defined(network, x, expected)
        rows = network.logits(x)
        assert_telling(rows)
        assert np.array_equal(network.logits(np.ascontiguousarray(pixels)), rows)
        assert np.array_equal(rows, dict(network.activations(x))["fc"].reshape(len(x), -1))


@pytest.mark.parametrize("channels", [1, 2, 4, 7])
def test_images_of_other_channels(isa: str, channels: int, tmp_path: Path) -> None:
    directory = write_tiny_model(
        tmp_path / "weights",
        architecture="resnet18",
        preprocessing={"mean": [0.0] * channels, "std": [1.0] * channels},
        in_channels=channels,
    )
    x = np.random.default_rng(channels).standard_normal((3, 32, 32, channels), np.float32)
    network = bf16(directory, isa=isa)
    tensors = resnet_rs.load(directory).loaded.tensors()
    assert_defined(network, x, dict(run_bf16(network.operations(32, 32), tensors, x)))


def test_nan_and_infinite_pixels_stay_what_they_are(isa: str, tmp_path: Path) -> None:
    directory = write_tiny_model(tmp_path / "weights", architecture="resnet18")
    network = bf16(directory, isa=isa)
    x = network.normalize(IMAGES[:2])
    expected = network.logits(x[1:])
    x[0, 3, 4:8, 1] = [np.nan, np.inf, -np.inf, 1e38]
    assert np.isnan(network.logits(x)[0]).all()
    assert np.array_equal(network.logits(x)[1:], expected)


def test_results_are_the_same_for_any_batch_tier_and_number_of_threads(tmp_path: Path) -> None:
    directory = write_tiny_model(tmp_path / "weights")
    expected = bf16(directory, isa="portable", threads=1).logits(IMAGES)
    assert_telling(expected)
    for tier in WIDENED:
        for threads in (1, 2, 3):
            network = bf16(directory, isa=tier, threads=threads)
            assert np.array_equal(network.logits(IMAGES), expected)
            alone = [network.logits(IMAGES[i : i + 1]) for i in range(len(IMAGES))]
            assert np.array_equal(np.concatenate(alone), expected)


def test_the_demo_model_names_its_photos_and_loses_little() -> None:
    photos = sorted((DEMO / "photos").iterdir())
    exact = ResNet50(DEMO)
    model = ResNet50(DEMO, precision="bf16", strict=True)
    assert [p[0].label for p in model.predict(photos)] == [
        p[0].label for p in exact.predict(photos)
    ]
    expected, found = exact.logits(photos), model.logits(photos)
    error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    assert 1e-4 < error < 1e-2
    pooled = exact.embed(photos)
    assert np.linalg.norm(model.embed(photos) - pooled) / np.linalg.norm(pooled) < 2e-2


def test_layers_are_those_that_python_makes(tmp_path: Path) -> None:
    for architecture, variant in BOTH:
        directory = write_tiny_model(tmp_path / "weights", architecture=architecture, **variant)
        network = bf16(directory)
        operations = network.operations(32, 32)
        names = [layer.name for layer in fused_layers(operations)]
        assert names == network.layer_names
        assert {operation["fused_into"] for operation in operations} == set(names)
        steps = network.plan(1, 32, 32)
        assert {step["name"] for step in steps} >= set(names)
        kernels = {step["kernel"] for step in steps if step["macs"]}
        assert all(kernel.startswith("bf16_conv_") for kernel in kernels)
        assert all(step["precision"] == "bf16" for step in steps)


class TestFallback:
    def test_a_slow_bf16_runs_in_f32_and_says_so(self, tmp_path: Path) -> None:
        directory = write_tiny_model(tmp_path / "weights")
        for isa in _core.available_isas():
            network = _core.Network(str(directory), precision="bf16", isa=isa)
            if network.precision == "bf16":
                assert network.remark is None
                continue
            assert network.precision == "f32"
            with pytest.warns(UserWarning, match=r"runs in f32; strict=True"):
                model = resnet_rs.load(directory, precision="bf16", isa=isa)
            assert model.precision == "f32"
            expected = resnet_rs.load(directory, isa=isa).logits(IMAGES)
            assert np.array_equal(model.logits(IMAGES), expected)

    def test_strict_warns_of_nothing(self, tmp_path: Path) -> None:
        directory = write_tiny_model(tmp_path / "weights")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model = resnet_rs.load(directory, precision="bf16", strict=True)
        assert model.precision == "bf16"
        assert "bf16" in repr(model)


class TestReference:
    def test_the_backend_computes_the_same_bits(self, tmp_path: Path) -> None:
        directory = write_tiny_model(tmp_path / "weights")
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # it is as slow in any precision
            model = resnet_rs.load(directory, precision="bf16", backend="reference")
        assert model.precision == "bf16"
        network = bf16(directory, isa="portable")
        assert np.array_equal(model.logits(IMAGES[:2]), network.logits(IMAGES[:2]))
        assert np.array_equal(model.embed(IMAGES[:2]), network.embed(IMAGES[:2]))
        assert list(model.trace(IMAGES[0], fused=True)) == network.layer_names


class TestEverythingElse:
    def test_a_trace_of_single_operations_is_in_bf16(self, tmp_path: Path) -> None:
        directory = write_tiny_model(tmp_path / "weights", architecture="resnet18")
        model = resnet_rs.load(directory, precision="bf16", strict=True)
        for fused in (False, True):
            trace = dict(model.trace(IMAGES[0], fused=fused))
            for name, values in trace.items():
                bits = values.view(np.uint32)
                assert name == "fc" or not (bits & 0xFFFF).any(), name

    def test_what_needs_f32_says_how_to_load_it(self, tmp_path: Path) -> None:
        directory = write_tiny_model(tmp_path / "weights", architecture="resnet18")
        model = resnet_rs.load(directory, precision="bf16", strict=True)
        with pytest.raises(ValueError, match=r"runs in bf16: load it without precision"):
            model.quantize(IMAGES, progress=False)

    def test_it_is_saved_as_the_f32_weights_that_it_was_made_of(self, tmp_path: Path) -> None:
        directory = write_tiny_model(tmp_path / "weights", architecture="resnet18")
        resnet_rs.load(directory, precision="bf16", strict=True).save(tmp_path / "again")
        again = resnet_rs.load(tmp_path / "again")
        assert again.precision == "f32"
        assert np.array_equal(again.logits(IMAGES), resnet_rs.load(directory).logits(IMAGES))

    def test_int8_weights_are_refused(self, tmp_path: Path) -> None:
        directory = write_tiny_model(tmp_path / "weights", architecture="resnet18")
        model = resnet_rs.load(directory).quantize(IMAGES, method="minmax", progress=False)
        model.save(tmp_path / "int8")
        with pytest.raises(resnet_rs.WeightsError, match="precision bf16: expected f32 weights"):
            resnet_rs.load(tmp_path / "int8", precision="bf16")

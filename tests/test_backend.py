"""`backend="reference"`: the same network in plain NumPy, through the same methods."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_model import write_tiny_model

import resnet_rs
from resnet_rs import ResNet

# f32 sums of some hundred terms against the same in f64: a few times sqrt(500) * 2^-24.
F32_RTOL = 1e-5

PHOTO = np.random.default_rng(5).integers(0, 256, (40, 52, 3), np.uint8)


def relative_error(ours: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(ours - expected) / np.linalg.norm(expected))


@pytest.fixture(scope="module")
def tiny_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def tiny(tiny_dir: Path) -> ResNet:
    return resnet_rs.load(tiny_dir)


@pytest.fixture(scope="module")
def reference(tiny_dir: Path) -> ResNet:
    return resnet_rs.load(tiny_dir, backend="reference")


class TestReferenceBackend:
    def test_is_named(self, reference: ResNet, tiny: ResNet) -> None:
        assert (reference.backend, tiny.backend) == ("reference", "fast")
        assert (reference.isa, reference.threads, reference.winograd) == ("reference", 1, False)
        assert "reference" in repr(reference)

    @pytest.mark.parametrize("method", ["logits", "embed", "probabilities"])
    def test_same_numbers(self, method: str, reference: ResNet, tiny: ResNet) -> None:
        for images in (PHOTO, [PHOTO, PHOTO[::-1]], []):
            ours, expected = getattr(reference, method)(images), getattr(tiny, method)(images)
            assert (ours.shape, ours.dtype) == (expected.shape, np.float32)
            if expected.size:
                assert relative_error(ours, expected) < F32_RTOL

    def test_same_maps_and_predictions(self, reference: ResNet, tiny: ResNet) -> None:
        maps = tiny.features(PHOTO)
        for name, values in reference.features(PHOTO).items():
            assert relative_error(values, maps[name]) < F32_RTOL
        labels = [prediction.label for prediction in tiny.predict(PHOTO)]
        assert [prediction.label for prediction in reference.predict(PHOTO)] == labels
        x = tiny.preprocess(PHOTO)
        assert relative_error(reference.forward(x), tiny.forward(x)) < F32_RTOL

    def test_same_layers_of_the_network(self, reference: ResNet, tiny: ResNet) -> None:
        x = np.stack([PHOTO[:32, :32], PHOTO[8:40, :32]])
        ours = reference.loaded.network.activations(x)
        expected = tiny.loaded.network.activations(x)
        assert [name for name, _ in ours] == [name for name, _ in expected]
        for (name, found), (_, values) in zip(ours, expected, strict=True):
            assert found.reshape(values.shape).dtype == np.float32
            assert relative_error(found.reshape(values.shape), values) < F32_RTOL, name

    def test_logits_of_a_network_without_classes_are_its_embedding(self, tmp_path: Path) -> None:
        write_tiny_model(tmp_path, num_classes=0)
        reference = resnet_rs.load(tmp_path, backend="reference")
        found = reference.logits(PHOTO)
        assert found.shape == (64,)
        np.testing.assert_array_equal(found, reference.embed(PHOTO))
        assert relative_error(found, resnet_rs.load(tmp_path).logits(PHOTO)) < F32_RTOL

    def test_no_profile_of_other_kernels(
        self, tiny_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("RESNET_RS_PROFILE", "1")
        reference = resnet_rs.load(tiny_dir, backend="reference")
        reference.predict(PHOTO)  # is not stopped by the variable
        with pytest.raises(ValueError, match='load the model with backend="fast"'):
            reference.profile(PHOTO)

    @pytest.mark.parametrize("size", [(2, 2), (64, 96)])
    def test_naive_loops_refuse_an_image_that_does_not_fit_the_head(
        self, size: tuple[int, int], tmp_path: Path
    ) -> None:
        head = {"avg_pool": {"kernel": 2, "stride": 1, "padding": 0}}
        network = resnet_rs.load(write_tiny_model(tmp_path, crop=64, head=head)).loaded.network
        with pytest.raises(ValueError, match="64 x 64 pixels"):
            network.reference_logits(np.zeros((1, *size, 3), np.float32))

    def test_a_head_that_flattens(self, tmp_path: Path) -> None:
        head = {"avg_pool": {"kernel": 2, "stride": 2, "padding": 1}}
        write_tiny_model(tmp_path, crop=64, head=head)
        reference = resnet_rs.load(tmp_path, backend="reference")
        fast = resnet_rs.load(tmp_path)
        assert reference.embed(PHOTO).shape == (4 * 64,)
        assert relative_error(reference.embed(PHOTO), fast.embed(PHOTO)) < F32_RTOL
        assert relative_error(reference.logits(PHOTO), fast.logits(PHOTO)) < F32_RTOL

"""Embeddings: pools, unit length, and the same bits in any batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from telling_rows import assert_telling
from timm.layers import SelectAdaptivePool2d
from tiny_model import write_tiny_model

import resnet_rs
from resnet_rs import ResNet
from resnet_rs.stream.pooling import POOLS, unit_length

# Means over the places of a map in f32, summed in another order; some units in the last place.
F32_RTOL = 1e-6

IMAGES = np.random.default_rng(2).integers(0, 256, (5, 75, 97, 3), np.uint8)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ResNet:
    """A network whose last map has 3 x 3 places."""
    return resnet_rs.load(write_tiny_model(tmp_path_factory.mktemp("tiny"), crop=70))


class TestPools:
    @pytest.mark.parametrize("pool", [pool for pool in POOLS if pool != "none"])
    def test_same_as_timm_s(self, pool: str, tiny: ResNet) -> None:
        maps = tiny.embed(IMAGES, pool="none")
        assert maps.shape == (5, 3, 3, 64)
        assert_telling(maps)
        pooled = SelectAdaptivePool2d(pool_type=pool, flatten=True)(
            torch.from_numpy(maps).permute(0, 3, 1, 2)
        )
        np.testing.assert_allclose(
            tiny.embed(IMAGES, pool=pool), pooled.numpy(), rtol=F32_RTOL, atol=0
        )

    def test_average_is_the_default_and_feeds_the_last_layer(self, tiny: ResNet) -> None:
        assert_telling(tiny.embed(IMAGES))
        np.testing.assert_array_equal(tiny.embed(IMAGES), tiny.embed(IMAGES, pool="avg"))
        tensors = tiny.loaded.tensors()
        logits = tiny.embed(IMAGES).astype(np.float64) @ tensors["fc.weight"].T + tensors["fc.bias"]
        # A dot product of 64 terms in f32.
        np.testing.assert_allclose(tiny.logits(IMAGES), logits, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize(
        ("pool", "shape"),
        [
            ("avg", (64,)),
            ("max", (64,)),
            ("avgmax", (64,)),
            ("catavgmax", (128,)),
            ("none", (3, 3, 64)),
        ],
    )
    def test_shapes_of_one_several_and_none(
        self, pool: str, shape: tuple[int, ...], tiny: ResNet
    ) -> None:
        one, several = tiny.embed(IMAGES[0], pool=pool), tiny.embed(IMAGES, pool=pool)
        assert (one.shape, one.dtype) == (shape, np.float32)
        assert (several.shape, several.dtype) == ((5, *shape), np.float32)
        assert_telling(several)
        np.testing.assert_array_equal(several[0], one)
        if pool == "none":
            with pytest.raises(ValueError, match="at least one image"):
                tiny.embed([], pool=pool)
        else:
            assert tiny.embed([], pool=pool).shape == (0, *shape)

    def test_head_of_windows_pools_the_same_map(self, tmp_path: Path) -> None:
        """A head that flattens has more features than channels, and other pools do not see it."""
        head = {"avg_pool": {"kernel": 2, "stride": 2, "padding": 1}}
        write_tiny_model(tmp_path, crop=64, head=head)
        model = resnet_rs.load(tmp_path)
        assert model.embed(IMAGES).shape == (5, 4 * 64)
        largest = model.embed(IMAGES, pool="max")
        assert_telling(largest)
        maps = model.embed(IMAGES, pool="none")
        np.testing.assert_array_equal(largest, maps.max(axis=(1, 2)))
        assert model.embed([], pool="catavgmax").shape == (0, 128)

    @pytest.mark.parametrize("labels", [5, 0])
    def test_a_large_map_is_pooled_for_every_image_of_a_batch(
        self, labels: int, tmp_path: Path
    ) -> None:
        """Layers with many pixels run image by image; the last one's result is that of all."""
        head = {"avg_pool": {"kernel": 2, "stride": 1}}
        write_tiny_model(tmp_path, crop=320, head=head, num_classes=labels)
        network = resnet_rs.load(tmp_path, threads=2).loaded.network
        images = np.random.default_rng(0).standard_normal((3, 320, 320, 3), np.float32)
        together = network.embed(images)
        assert together.shape == (3, 9 * 9 * 64)
        assert_telling(together)
        alone = np.concatenate([network.embed(images[i : i + 1]) for i in range(3)])
        np.testing.assert_array_equal(together, alone)


class TestUnitLength:
    @pytest.mark.parametrize("pool", [pool for pool in POOLS if pool != "none"])
    def test_vectors_have_length_one(self, pool: str, tiny: ResNet) -> None:
        plain = tiny.embed(IMAGES, pool=pool).astype(np.float64)
        unit = tiny.embed(IMAGES, pool=pool, normalize=True)
        assert_telling(plain)
        expected = plain / np.linalg.norm(plain, axis=1, keepdims=True)
        np.testing.assert_allclose(unit, expected, rtol=F32_RTOL, atol=0)
        np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, rtol=F32_RTOL)
        one = tiny.embed(IMAGES[2], pool=pool, normalize=True)
        np.testing.assert_array_equal(one, unit[2])

    def test_zero_vector_stays_zero(self) -> None:
        vectors = np.array([[0, 0], [3, 4], [1e-30, 0], [1e30, 0]], np.float32)
        expected = np.array([[0, 0], [0.6, 0.8], [1, 0], [1, 0]], np.float32)
        np.testing.assert_array_equal(unit_length(vectors), expected)

    def test_no_images_give_no_vectors(self, tiny: ResNet) -> None:
        assert tiny.embed([], normalize=True).shape == (0, 64)


class TestSameBits:
    @pytest.mark.parametrize("normalize", [False, True])
    @pytest.mark.parametrize("pool", [pool for pool in POOLS if pool != "none"])
    @pytest.mark.parametrize("images_a_batch", [1, 2, 5])
    def test_in_any_batch(
        self,
        images_a_batch: int,
        pool: str,
        normalize: bool,
        tiny: ResNet,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        expected = [tiny.embed(image, pool=pool, normalize=normalize) for image in IMAGES]
        assert_telling(expected)
        monkeypatch.setattr("resnet_rs.images.batches.MAX_BATCH_PIXELS", images_a_batch * 70 * 70)
        np.testing.assert_array_equal(
            tiny.embed(IMAGES, pool=pool, normalize=normalize), np.stack(expected)
        )


class TestErrors:
    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"pool": "gem"}, ValueError, "'avg', 'max', 'avgmax', 'catavgmax', 'none'"),
            ({"pool": None}, TypeError, "pool must be one of"),
            ({"normalize": 1}, TypeError, "normalize must be True or False"),
            ({"pool": "none", "normalize": True}, ValueError, "pool='none' gives a map"),
        ],
        ids=str,
    )
    def test_bad_option_is_named(
        self, options: dict[str, object], error: type[Exception], message: str, tiny: ResNet
    ) -> None:
        with pytest.raises(error, match=message):
            tiny.embed(IMAGES[0], **options)  # type: ignore[arg-type]

"""Test-time augmentation: torchvision's crops, the paper's scales, the mean of probabilities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from telling_rows import assert_telling
from tiny_model import write_tiny_model
from torchvision.transforms import TenCrop
from torchvision.transforms import functional as F

import resnet_rs
from resnet_rs import ImageError, Preprocessing, ResNet
from resnet_rs.images.decode import open_rgb
from resnet_rs.images.preprocess import load_pixels, resize
from resnet_rs.images.views import SCALES, VIEWS, views
from resnet_rs.stream.scores import probabilities_of

# A mean of up to ten f32 probabilities, each within one unit in the last place.
F32_RTOL = 1e-6

SPEC = Preprocessing(40, 32, "bilinear", (0.5,) * 3, (0.5,) * 3)
SIZES = [(40, 40), (41, 40), (53, 80), (97, 75), (300, 41), (32, 32)]


def picture(width: int, height: int) -> Image.Image:
    rng = np.random.default_rng(width * 1000 + height)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ResNet:
    directory = write_tiny_model(tmp_path_factory.mktemp("tiny"))
    return resnet_rs.load(directory, preprocessing=SPEC)


class TestViews:
    @pytest.mark.parametrize("size", SIZES, ids="{0[0]}x{0[1]}".format)
    @pytest.mark.parametrize("crop", [32, 31, (25, 40)], ids=str)
    def test_ten_crops_are_torchvision_s(
        self, crop: int | tuple[int, int], size: tuple[int, int]
    ) -> None:
        spec = Preprocessing(40, crop, "bilinear", SPEC.mean, SPEC.std)
        image = picture(*size)
        expected = TenCrop(crop)(resize(open_rgb(image), spec))
        ours = list(views(image, spec, 3, "10crop"))
        assert len(ours) == VIEWS["10crop"]
        for place, (pixels, crop_of_torch) in enumerate(zip(ours, expected, strict=True)):
            np.testing.assert_array_equal(pixels, np.asarray(crop_of_torch), err_msg=f"{place}")

    def test_mirror_image_is_that_of_the_crop(self) -> None:
        image = picture(53, 80)
        plain, mirrored = views(image, SPEC, 3, "hflip")
        np.testing.assert_array_equal(plain, load_pixels(image, SPEC))
        np.testing.assert_array_equal(mirrored, np.asarray(F.hflip(Image.fromarray(plain))))

    @pytest.mark.parametrize("size", [(500, 375), (375, 500), (50, 50)])
    def test_scales_are_the_paper_s_and_nothing_is_cut(self, size: tuple[int, int]) -> None:
        assert SCALES == (224, 256, 384, 480, 640)
        image = picture(*size)
        for side, pixels in zip(SCALES, views(image, SPEC, 3, "multiscale"), strict=True):
            np.testing.assert_array_equal(pixels, np.asarray(F.resize(image, side)))

    @pytest.mark.parametrize("tta", VIEWS)
    @pytest.mark.parametrize("channels", [1, 2, 3])
    def test_any_number_of_channels(self, channels: int, tta: str) -> None:
        planes = np.random.default_rng(0).integers(0, 256, (50, 45, channels), np.uint8)
        found = list(views(planes, SPEC, channels, tta))
        assert len(found) == VIEWS[tta]
        alone = [list(views(planes[..., channel], SPEC, 1, tta)) for channel in range(channels)]
        for place, pixels in enumerate(found):
            expected = np.concatenate([plane[place] for plane in alone], axis=-1)
            np.testing.assert_array_equal(pixels, expected)


class TestProbabilities:
    def test_plain_ones_are_the_softmax(self, tiny: ResNet) -> None:
        images = [picture(53, 80), picture(40, 40)]
        logits = tiny.logits(images).astype(np.float64)
        assert_telling(logits)
        softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        found = tiny.probabilities(images)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, softmax, rtol=1e-5)
        np.testing.assert_array_equal(tiny.probabilities(images[0]), found[0])
        for row, predictions in zip(found, tiny.predict(images), strict=True):
            assert [row[p.index] for p in predictions] == [p.score for p in predictions]

    @pytest.mark.parametrize("tta", VIEWS)
    def test_are_the_mean_over_the_views(self, tta: str, tiny: ResNet) -> None:
        images = [picture(53, 80), picture(97, 75)]
        expected = [
            np.mean(
                [
                    probabilities_of(tiny.loaded.network.logits(x[None]), "softmax")[0]
                    for x in views(image, SPEC, 3, tta)
                ],
                axis=0,
            )
            for image in images
        ]
        found = tiny.probabilities(images, tta)
        assert (found.shape, found.dtype) == ((2, 5), np.float32)
        assert_telling(found)
        np.testing.assert_allclose(found.sum(axis=1), 1, rtol=F32_RTOL)
        np.testing.assert_allclose(found, expected, rtol=F32_RTOL)

    @pytest.mark.parametrize("tta", VIEWS)
    def test_same_bits_in_any_batch(
        self, tta: str, tiny: ResNet, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        images = [picture(53, 80), picture(97, 75), picture(41, 60), picture(53, 81)]
        alone = np.stack([tiny.probabilities(image, tta) for image in images])
        assert_telling(alone)
        for images_a_batch in (1, 7, 64):
            monkeypatch.setattr(
                "resnet_rs.images.batches.MAX_BATCH_PIXELS", images_a_batch * 32 * 32
            )
            np.testing.assert_array_equal(tiny.probabilities(images, tta), alone)

    def test_mirrored_image_has_the_same_probabilities(self, tiny: ResNet) -> None:
        image = picture(40, 40)
        assert_telling([tiny.probabilities(image, tta) for tta in (None, "hflip", "10crop")])
        mirrored = Image.fromarray(np.asarray(image)[:, ::-1].copy())
        for tta in ("hflip", "10crop"):
            # The same views in another order, so the mean may differ in its last bit.
            np.testing.assert_allclose(
                tiny.probabilities(mirrored, tta), tiny.probabilities(image, tta), rtol=F32_RTOL
            )


class TestPredict:
    @pytest.mark.parametrize("tta", VIEWS)
    def test_predictions_are_the_best_probabilities(self, tta: str, tiny: ResNet) -> None:
        images = [picture(53, 80), picture(97, 75)]
        rows = tiny.probabilities(images, tta)
        assert_telling(rows)
        for row, predictions in zip(rows, tiny.predict(images, 3, tta), strict=True):
            assert [p.index for p in predictions] == np.argsort(-row, kind="stable")[:3].tolist()
            assert [p.score for p in predictions] == [row[p.index] for p in predictions]
            assert [p.label for p in predictions] == [f"class {p.index}" for p in predictions]
        assert tiny.predict(images[0], 3, tta) == tiny.predict(images, 3, tta)[0]
        assert tiny.predict([], tta=tta) == []
        assert tiny.probabilities([], tta).shape == (0, 5)

    def test_demo_photos_are_read_by_every_protocol(
        self, model: ResNet, demo_photos: list[Path]
    ) -> None:
        larger = resnet_rs.load(model.loaded.options.weights, preprocessing={"resize": 72})
        for tta in ("hflip", "10crop"):
            best = [predictions[0].label for predictions in larger.predict(demo_photos, 1, tta)]
            right = sum(
                label == path.name[0] for label, path in zip(best, demo_photos, strict=True)
            )
            assert right >= 19


class TestErrors:
    @pytest.mark.parametrize(
        ("tta", "error"), [("5crop", ValueError), ("", ValueError), (10, TypeError)]
    )
    def test_unknown_protocol_lists_those_there_are(
        self, tta: object, error: type[Exception], tiny: ResNet
    ) -> None:
        for call in (tiny.predict, tiny.probabilities):
            with pytest.raises(error, match="'hflip', '10crop', 'multiscale'"):
                call(picture(40, 40), tta=tta)  # type: ignore[operator]

    def test_ten_crops_need_a_crop(self, tiny: ResNet) -> None:
        whole = resnet_rs.load(tiny.loaded.options.weights, preprocessing={"crop": None})
        with pytest.raises(ValueError, match="preprocessing="):
            whole.predict(picture(40, 40), tta="10crop")

    def test_ten_crops_need_an_image_that_holds_them(self, tiny: ResNet) -> None:
        tall = resnet_rs.load(
            tiny.loaded.options.weights, preprocessing={"resize": None, "crop": 64}
        )
        with pytest.raises(ImageError, match="has 40 x 70: use"):
            tall.predict(picture(40, 70), tta="10crop")
        with pytest.raises(ImageError, match="image 1 of the list"):
            tall.predict([picture(90, 70), picture(40, 70)], tta="10crop")

    def test_several_scales_need_a_head_for_any_size(self, tmp_path: Path) -> None:
        head = {"avg_pool": {"kernel": 2, "stride": 2, "padding": 1}}
        fixed = resnet_rs.load(write_tiny_model(tmp_path, crop=64, head=head))
        with pytest.raises(ValueError, match="head takes a single size"):
            fixed.predict(picture(64, 64), tta="multiscale")
        assert fixed.probabilities(picture(64, 64), "hflip").shape == (5,)

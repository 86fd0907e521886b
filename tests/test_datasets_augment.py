"""Random changes of photos: for given parameters torchvision's pixels, drawn by counters."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, RandomErasing, RandomResizedCrop, v2
from torchvision.transforms.v2 import functional

from resnet_rs.datasets import augment as ours
from resnet_rs.datasets import mixing
from resnet_rs.datasets.augment import Augment, image_draws
from resnet_rs.datasets.draws import Purpose, permutation, uniforms

PINNED = [0.8945405279866397, 0.26352845770975974]
PINNED_ORDER = [5, 2, 3, 4, 1, 0]
RANDOM = np.random.default_rng(5)
PHOTO = RANDOM.integers(0, 256, (47, 61, 3), dtype=np.uint8)
GREY = PHOTO[..., :1]
FIVE = RANDOM.integers(0, 256, (20, 31, 5), dtype=np.uint8)
JITTERS = [
    [("brightness", 1.3), ("contrast", 0.6), ("saturation", 0.2)],
    [("saturation", 1.9), ("brightness", 0.4)],
    [("contrast", 1.0)],
    [],
]


def pillow(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def array(image: Image.Image) -> np.ndarray:
    return np.asarray(image).reshape(image.height, image.width, -1)


class TestDraws:
    def test_numbers_are_those_of_philox(self) -> None:
        # The same for every version and machine: these were printed once.
        assert uniforms(7, Purpose.IMAGE, 3, 11, 2).tolist() == PINNED
        assert permutation(7, Purpose.ORDER, 3, 0, 6).tolist() == PINNED_ORDER

    def test_each_seed_purpose_epoch_and_index_has_its_own(self) -> None:
        keys = [
            (0, Purpose.IMAGE, 0, 0),
            (1, Purpose.IMAGE, 0, 0),
            (0, Purpose.MIX, 0, 0),
            (0, Purpose.IMAGE, 1, 0),
            (0, Purpose.IMAGE, 0, 1),
            ((1 << 64) - 1, Purpose.IMAGE, 0, 0),
        ]
        drawn = np.concatenate([uniforms(*key, 50) for key in keys])
        assert len(np.unique(drawn)) == 50 * len(keys)
        assert 0 <= drawn.min() < 0.02
        assert 0.98 < drawn.max() < 1
        assert abs(drawn.mean() - 0.5) < 0.05

    def test_a_photo_has_enough_numbers_for_every_purpose(self) -> None:
        places = (ours._ROTATION, ours._CROP, ours._FLIP, ours._JITTER, ours._ERASING)
        used = [number for place in places for number in range(place.start, place.stop)]
        assert used == list(range(len(image_draws(0, 0, 0))))


class TestParity:
    @pytest.mark.parametrize(
        "box", [(0, 0, 47, 61), (3, 5, 20, 31), (10, 2, 7, 50), (8, 9, 32, 32)]
    )
    @pytest.mark.parametrize("pixels", [PHOTO, GREY])
    def test_crop(self, pixels: np.ndarray, box: tuple[int, int, int, int]) -> None:
        expected = functional.resized_crop(
            pillow(pixels), *box, [32, 32], InterpolationMode.BILINEAR, antialias=True
        )
        assert np.array_equal(ours.cropped(pixels, box, 32), array(expected))

    def test_crop_of_many_channels_is_that_of_each(self) -> None:
        found = ours.cropped(FIVE, (1, 2, 15, 20), 12)
        each = [ours.cropped(FIVE[..., [i]], (1, 2, 15, 20), 12) for i in range(5)]
        assert np.array_equal(found, np.concatenate(each, axis=2))

    @pytest.mark.parametrize("steps", JITTERS)
    @pytest.mark.parametrize("pixels", [PHOTO, GREY])
    def test_jitter(self, pixels: np.ndarray, steps: list[tuple[str, float]]) -> None:
        image = pillow(pixels)
        for name, factor in steps:
            image = getattr(functional, f"adjust_{name}")(image, factor)
        assert np.array_equal(ours.jittered(pixels, steps), array(image))

    @pytest.mark.parametrize("angle", [-37.5, 0.0, 4.0, 180.0])
    @pytest.mark.parametrize(("pixels", "fill"), [(PHOTO, [9, 8, 7]), (GREY, [9])])
    def test_rotation(self, pixels: np.ndarray, fill: list[int], angle: float) -> None:
        expected = functional.rotate(
            pillow(pixels), angle, InterpolationMode.BILINEAR, fill=fill if len(fill) > 1 else 9
        )
        assert np.array_equal(ours.rotated(pixels, angle, fill), array(expected))

    def test_rotation_of_many_channels(self) -> None:
        found = ours.rotated(FIVE, 30.0, [1, 2, 3, 4, 5])
        assert found.shape == FIVE.shape
        assert found[0, 0].tolist() == [1, 2, 3, 4, 5]

    def test_flip(self) -> None:
        draws = [0.0] * len(image_draws(0, 0, 0))
        expected = array(functional.horizontal_flip(pillow(PHOTO)))
        assert np.array_equal(ours.finished(PHOTO, Augment(flip=True), draws), expected)
        assert np.array_equal(ours.finished(PHOTO, Augment(flip=False), draws), PHOTO)
        draws[ours._FLIP.start] = 0.5
        assert np.array_equal(ours.finished(PHOTO, Augment(flip=True), draws), PHOTO)

    def test_crops_are_distributed_as_in_torchvision(self) -> None:
        scale, ratio = (0.2, 1.0), (3 / 4, 4 / 3)
        boxes = np.array(
            [
                ours.crop_box(image_draws(0, 0, i)[ours._CROP], 47, 61, scale, ratio)
                for i in range(4000)
            ]
        )
        torch.manual_seed(0)
        theirs = np.array(
            [
                RandomResizedCrop.get_params(torch.empty(3, 47, 61), list(scale), list(ratio))
                for _ in range(4000)
            ]
        )
        top, left, height, width = boxes.T
        assert (top >= 0).all()
        assert (left >= 0).all()
        assert (top + height <= 47).all()
        assert (left + width <= 61).all()
        error = boxes.std(axis=0) / math.sqrt(2000)
        assert (abs(boxes.mean(axis=0) - theirs.mean(axis=0)) < 4 * error).all()
        assert (abs(boxes.std(axis=0) / theirs.std(axis=0) - 1) < 0.08).all()

    @pytest.mark.parametrize(("height", "width"), [(5, 500), (500, 5), (1, 100), (100, 1)])
    def test_crop_of_long_photos_is_the_largest_in_the_centre(
        self, height: int, width: int
    ) -> None:
        found = ours.crop_box([0.999] * 40, height, width, (0.9, 1.0), (0.75, 4 / 3))
        expected = RandomResizedCrop.get_params(
            torch.empty(3, height, width), [0.9, 1.0], [0.75, 4 / 3]
        )
        assert found == tuple(expected)

    def test_erased_rectangles_are_distributed_as_in_torchvision(self) -> None:
        augment = Augment(erasing=0.5)
        found = [ours.erased_rectangle(augment, image_draws(0, 1, i), 40, 50) for i in range(4000)]
        boxes = np.array([box for box in found if box is not None])
        assert abs(len(boxes) / 4000 - 0.5) < 0.03
        torch.manual_seed(0)
        theirs = np.array(
            [
                RandomErasing.get_params(torch.empty(3, 40, 50), (0.02, 0.33), (0.3, 3.3), [0.0])[
                    :4
                ]
                for _ in range(2000)
            ]
        )
        error = boxes.std(axis=0) / math.sqrt(1000)
        assert (abs(boxes.mean(axis=0) - theirs.mean(axis=0)) < 4 * error).all()

    def test_jitter_steps_come_in_every_order(self) -> None:
        augment = Augment(brightness=0.4, contrast=0.3, saturation=1.0)
        orders = set()
        for index in range(100):
            steps = ours.jitter_steps(image_draws(0, 0, index)[ours._JITTER], augment)
            orders.add(tuple(name for name, _ in steps))
            for name, factor in steps:
                strength = getattr(augment, name)
                assert 1 - strength <= factor <= 1 + strength
        assert len(orders) == 6
        assert ours.jitter_steps([0.5] * 6, Augment(contrast=0.2)) == [("contrast", 1.0)]


class TestMixing:
    X = RANDOM.normal(size=(5, 8, 9, 3)).astype(np.float32)
    Y = np.array([0, 2, 1, 1, 3])

    def theirs(self, transform: Any, params: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        x = torch.from_numpy(self.X.transpose(0, 3, 1, 2).copy())
        labels = torch.from_numpy(self.Y)
        params = {"labels": labels, "batch_size": 5, **params}
        mixed = transform.transform(x, params).numpy().transpose(0, 2, 3, 1)
        return mixed, transform.transform(labels, params).numpy()

    def test_mixup(self) -> None:
        x = self.X.copy()
        mixing.mix_in(x, 0.3)
        expected, targets = self.theirs(v2.MixUp(num_classes=4), {"lam": 0.3})
        assert np.allclose(x, expected, rtol=0, atol=1e-6)
        assert np.allclose(mixing.soft_targets(self.Y, 4, 0.3), targets, rtol=0, atol=1e-6)

    @pytest.mark.parametrize(
        ("share", "down", "right"),
        [(0.4, 0.5, 0.5), (0.4, 0.99, 0.0), (1.0, 0.2, 0.2), (0.0, 0.5, 0.5)],
    )
    def test_cutmix(self, share: float, down: float, right: float) -> None:
        box, left = mixing.cutmix_box(share, down, right, 8, 9)
        half = 0.5 * math.sqrt(1 - share)
        x1 = max(int(right * 9) - int(half * 9), 0)
        x2 = min(int(right * 9) + int(half * 9), 9)
        y1 = max(int(down * 8) - int(half * 8), 0)
        y2 = min(int(down * 8) + int(half * 8), 8)
        assert box == (y1, x1, y2 - y1, x2 - x1)
        assert left == 1 - (x2 - x1) * (y2 - y1) / 72
        x = self.X.copy()
        mixing.cut_in(x, box)
        expected, targets = self.theirs(
            v2.CutMix(num_classes=4), {"box": (x1, y1, x2, y2), "lam_adjusted": left}
        )
        assert np.array_equal(x, expected)
        assert np.allclose(mixing.soft_targets(self.Y, 4, left), targets, rtol=0, atol=1e-6)

    def test_batches_have_either(self) -> None:
        cut = 0
        for batch in range(40):
            x, y = mixing.mixed(
                self.X.copy(), self.Y, 4, Augment(mixup=0.2, cutmix=1.0), 0, 0, batch
            )
            assert y.dtype == np.float32
            assert np.allclose(y.sum(axis=1), 1, rtol=0, atol=1e-6)
            cut += bool(np.isin(x, self.X).all())
        assert 8 < cut < 32

    def test_same_numbers_give_the_same_bits(self) -> None:
        augment = Augment(mixup=0.4)
        first, again, other = (
            mixing.mixed(self.X.copy(), self.Y, 4, augment, 3, epoch, 2)[0] for epoch in (1, 1, 2)
        )
        assert np.array_equal(first, again)
        assert not np.array_equal(first, other)


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "error", "words"),
        [
            ({"scale": 0.5}, TypeError, "scale must be two numbers"),
            ({"scale": (0.5, 1.5)}, ValueError, "scale must be from 0 to 1; got 1.5"),
            ({"scale": (0.0, 1.0)}, ValueError, "0 < least <= most"),
            ({"scale": (0.8, 0.2)}, ValueError, "least <= most"),
            ({"ratio": ("a", 1)}, TypeError, "ratio must be a number"),
            ({"flip": 0.5}, TypeError, "flip must be True or False"),
            ({"rotation": 200}, ValueError, "rotation must be from 0 to 180; got 200"),
            ({"brightness": -0.1}, ValueError, "brightness must be from 0 to 1"),
            ({"erasing": 1.5}, ValueError, "erasing must be from 0 to 1"),
            ({"mixup": math.inf}, ValueError, "mixup must be 0 or more"),
            ({"cutmix": math.nan}, ValueError, "cutmix must be 0 or more"),
            ({"mixup": True}, TypeError, "mixup must be a number"),
        ],
    )
    def test_bad_options_are_refused(
        self, options: dict[str, Any], error: type[Exception], words: str
    ) -> None:
        with pytest.raises(error, match=words):
            Augment(**options)

    def test_good_options_are_kept(self) -> None:
        augment = Augment(scale=[0.2, 1], ratio=(1, 2), mixup=np.float32(0.5))
        assert augment == Augment(scale=(0.2, 1.0), ratio=(1.0, 2.0), mixup=0.5)
        assert augment.scale == (0.2, 1.0)
        assert augment.mixes
        assert not Augment(scale=None).mixes

    def test_colours_need_one_or_three_channels(self) -> None:
        Augment(brightness=0.5).check_channels(1)
        Augment(flip=True).check_channels(5)
        with pytest.raises(ValueError, match="1 or 3 channels; these have 5"):
            Augment(saturation=0.5).check_channels(5)

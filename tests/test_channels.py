"""Networks for images of one channel, and of numbers that no picture has."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file
from telling_rows import assert_telling
from tiny_model import write_tiny_model

import resnet_rs
from resnet_rs import _core

PHOTO = np.random.default_rng(5).integers(0, 256, (40, 52, 3), np.uint8)


def write_planes_model(directory: Path, channels: int) -> Path:
    """A tiny model for images of so many channels."""
    write_tiny_model(directory)
    path = directory / "model.safetensors"
    tensors = load_file(path)
    shape = (64, channels, 7, 7)
    tensors["conv1.weight"] = np.random.default_rng(3).standard_normal(shape, np.float32) * 0.1
    _core.write_safetensors(str(path), tensors, {})
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    config["variant"]["in_channels"] = channels
    config["preprocessing"] |= {"mean": [0.5] * channels, "std": [0.25] * channels}
    (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return directory


class TestChannels:
    def test_grey_network_sees_pillow_s_grey(self, tmp_path: Path) -> None:
        model = resnet_rs.load(write_planes_model(tmp_path / "w", 1))
        assert model.config.in_channels == 1
        photo = Image.fromarray(PHOTO)
        photo.save(tmp_path / "photo.png")
        grey = np.asarray(photo.convert("L"))
        expected = model.logits(grey)
        assert_telling([expected])
        for source in (photo, tmp_path / "photo.png", photo.convert("L"), grey[..., None]):
            np.testing.assert_array_equal(model.logits(source), expected)
        np.testing.assert_array_equal(model.logits(grey[None, ..., None]), expected[None])
        resized = np.asarray(photo.convert("L").resize((41, 32), Image.Resampling.BILINEAR))
        crop = resized[:, 4:36]  # torchvision's centre: (41 - 32) / 2, rounded half to even
        x = model.preprocess(photo)
        assert x.shape == (1, 32, 32, 1)
        # Values are near 1, in f32.
        np.testing.assert_allclose(x[0, ..., 0], (crop / 255 - 0.5) / 0.25, atol=1e-6)

    def test_sixteen_bits_of_grey_keep_the_upper_eight(self, tmp_path: Path) -> None:
        model = resnet_rs.load(write_planes_model(tmp_path, 1))
        deep = Image.fromarray((PHOTO[..., 0].astype(np.uint16) << 8) + 77)
        expected = model.logits(PHOTO[..., 0])
        assert_telling([expected])
        np.testing.assert_array_equal(model.logits(deep), expected)

    @pytest.mark.parametrize("channels", [2, 4, 6])
    def test_other_counts_take_arrays(self, channels: int, tmp_path: Path) -> None:
        model = resnet_rs.load(write_planes_model(tmp_path, channels))
        planes = np.random.default_rng(1).integers(0, 256, (50, 41, channels), np.uint8)
        x = model.preprocess(planes)
        assert x.shape == (1, 32, 32, channels)
        # Each channel is resized and cropped as a picture of its own.
        alone = resnet_rs.load(write_planes_model(tmp_path / "grey", 1))
        for channel in range(channels):
            np.testing.assert_array_equal(
                x[..., channel], alone.preprocess(planes[..., channel])[..., 0]
            )
        assert_telling(model.logits([planes, planes[::-1]]))
        np.testing.assert_array_equal(model.logits(planes[None]), model.logits([planes]))
        with pytest.raises(TypeError, match=f"{channels} channels"):
            model.logits(Image.fromarray(PHOTO))

    @pytest.mark.parametrize(
        ("channels", "shape", "message"),
        [
            (1, (20, 20, 3), r"\[height, width, 1\].*PIL.Image.fromarray"),
            (2, (20, 20, 3), r"\[height, width, 2\]"),
            (2, (20, 20), r"\[height, width, 2\]"),
            (4, (4, 20, 20), r"transpose\(1, 2, 0\)"),
        ],
    )
    def test_wrong_shape_is_refused(
        self, channels: int, shape: tuple[int, ...], message: str, tmp_path: Path
    ) -> None:
        model = resnet_rs.load(write_planes_model(tmp_path, channels))
        with pytest.raises(ValueError, match=message):
            model.predict(np.zeros(shape, np.uint8))
        with pytest.raises(ValueError, match=rf"\[batch, height, width, {channels}\]"):
            model.forward(np.zeros((1, 8, 8, 3), np.float32))

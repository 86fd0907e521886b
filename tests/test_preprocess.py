"""① Images of every kind become the pixels that torchvision's presets make of them."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from torchvision.models import ResNet50_Weights
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from resnet_rs import ImageError, Preprocessing, ResNet50
from resnet_rs.images.decode import open_rgb
from resnet_rs.images.preprocess import load_pixels, resized_size

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

PRESETS = {
    "V1": ResNet50_Weights.IMAGENET1K_V1.transforms(),
    "V2": ResNet50_Weights.IMAGENET1K_V2.transforms(),
}

# (width, height): single pixels and lines, sides around the crop's, odd and prime sides, strips.
SIZES = [
    *[(1, 1), (2, 1), (1, 40), (500, 1), (1, 500), (3, 640), (640, 3)],
    *[(31, 47), (47, 31), (223, 225), (225, 223), (224, 224), (232, 232), (256, 256)],
    *[(343, 343), (350, 227), (501, 499), (1024, 333), (333, 1024)],
]
MODES = ["L", "P", "1", "LA", "RGBA", "CMYK", "YCbCr", "HSV"]


def spec(
    resize: int | tuple[int, int] | None = None,
    crop: int | tuple[int, int] | None = None,
    interpolation: str = "bilinear",
) -> Preprocessing:
    return Preprocessing(resize, crop, interpolation, MEAN, STD)


def preset_spec(name: str) -> Preprocessing:
    preset = PRESETS[name]
    return spec(preset.resize_size[0], preset.crop_size[0], preset.interpolation.value)


def torchvision_pixels(image: Image.Image, preset: Preprocessing) -> np.ndarray:
    """Prepare an RGB image by torchvision's own functions: `[height, width, 3]`."""
    if preset.resize is not None:
        size = [preset.resize] if isinstance(preset.resize, int) else list(preset.resize)
        image = F.resize(image, size, InterpolationMode(preset.interpolation), antialias=True)
    if preset.crop is not None:
        image = F.center_crop(image, preset.crop)
    return np.asarray(image)


def picture(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Smooth colours under noise, so that a shift by one pixel or a wrong filter shows."""
    rng = np.random.default_rng(width * 10_007 + height)
    y, x = np.mgrid[:height, :width]
    waves = np.stack([x * 3 + y, y * 2 - x, x + y * 5], axis=-1) % 200
    noise = rng.integers(0, 56, (height, width, 3))
    return Image.fromarray((waves + noise).astype(np.uint8)).convert(mode)


def saved(image: Image.Image, suffix: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, suffix, **options)
    return file.getvalue()


class TestTorchvisionPresets:
    @pytest.mark.parametrize("preset", PRESETS)
    @pytest.mark.parametrize("size", SIZES, ids="{0[0]}x{0[1]}".format)
    def test_pixels_are_identical_at_size(self, preset: str, size: tuple[int, int]) -> None:
        image = picture(*size)
        expected = torchvision_pixels(image, preset_spec(preset))
        assert expected.shape == (224, 224, 3)
        np.testing.assert_array_equal(load_pixels(image, preset_spec(preset)), expected)

    @pytest.mark.parametrize("preset", PRESETS)
    @pytest.mark.parametrize("size", [(1, 1), (31, 47), (300, 225)], ids="{0[0]}x{0[1]}".format)
    @pytest.mark.parametrize("mode", MODES)
    def test_pixels_are_identical_in_mode(
        self, preset: str, size: tuple[int, int], mode: str
    ) -> None:
        image = picture(*size, mode)
        expected = torchvision_pixels(image.convert("RGB"), preset_spec(preset))
        np.testing.assert_array_equal(load_pixels(image, preset_spec(preset)), expected)

    @pytest.mark.parametrize("preset", PRESETS)
    def test_pixels_are_identical_on_real_photos(
        self, preset: str, demo_photos: list[Path]
    ) -> None:
        for path in demo_photos:
            with Image.open(path) as image:
                expected = torchvision_pixels(
                    ImageOps.exif_transpose(image).convert("RGB"), preset_spec(preset)
                )
            np.testing.assert_array_equal(
                load_pixels(path, preset_spec(preset)), expected, err_msg=path.name
            )

    @pytest.mark.parametrize("crop", [65, 224, (7, 224), (224, 7)])
    def test_crop_alone_rounds_and_pads_alike(self, crop: int | tuple[int, int]) -> None:
        for side in range(218, 236):
            for size in [(side, 70), (61, side), (side, 343)]:
                image = picture(*size)
                np.testing.assert_array_equal(
                    load_pixels(image, spec(crop=crop)),
                    torchvision_pixels(image, spec(crop=crop)),
                    err_msg=f"{size}",
                )

    @pytest.mark.parametrize(
        "interpolation", ["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
    )
    @pytest.mark.parametrize("resize", [40, 97, (33, 90), None])
    def test_every_filter_and_kind_of_resize(
        self, interpolation: str, resize: int | tuple[int, int] | None
    ) -> None:
        preset = spec(resize, None, interpolation)
        image = picture(83, 59)
        np.testing.assert_array_equal(load_pixels(image, preset), torchvision_pixels(image, preset))

    @pytest.mark.parametrize("preset", PRESETS)
    def test_normalised_values_are_within_one_ulp(self, preset: str, model: ResNet50) -> None:
        assert model.config.preprocessing.mean == tuple(PRESETS[preset].mean)
        assert model.config.preprocessing.std == tuple(PRESETS[preset].std)
        image = picture(400, 300)
        expected = PRESETS[preset](image).permute(1, 2, 0).numpy()
        pixels = load_pixels(image, preset_spec(preset))
        ours = model.loaded.network.normalize(pixels[None])[0]
        assert_within_one_ulp(ours, expected)

    def test_every_pixel_value_normalises_within_one_ulp(self, model: ResNet50) -> None:
        pixels = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(1, 256, 1, 3)
        tensor = F.to_tensor(Image.fromarray(pixels[0]))
        expected = F.normalize(tensor, list(MEAN), list(STD)).permute(1, 2, 0).numpy()
        assert_within_one_ulp(model.loaded.network.normalize(pixels)[0], expected)


def assert_within_one_ulp(ours: np.ndarray, expected: np.ndarray) -> None:
    assert ours.dtype == expected.dtype == np.float32
    assert ours.shape == expected.shape
    # `spacing` is the distance to the next float away from zero: one ulp.
    np.testing.assert_array_less(
        np.abs(ours.astype(np.float64) - expected), 1.5 * np.spacing(np.abs(expected))
    )


class TestGeometry:
    @pytest.mark.parametrize(
        ("size", "resize", "expected"),
        [
            ((100, 100), 232, (232, 232)),
            ((500, 375), 256, (341, 256)),  # 341.33 is cut
            ((375, 500), 256, (256, 341)),
            ((1, 1000), 232, (232, 232_000)),
            ((1000, 1), 1, (1000, 1)),  # a side never becomes 0
            ((640, 480), (33, 90), (90, 33)),  # (height, width) in, (width, height) out
            ((640, 480), None, (640, 480)),
        ],
    )
    def test_resized_size(
        self,
        size: tuple[int, int],
        resize: int | tuple[int, int] | None,
        expected: tuple[int, int],
    ) -> None:
        assert resized_size(size, spec(resize)) == expected

    def test_padding_puts_the_odd_pixel_last(self) -> None:
        white = np.full((2, 3, 3), 255, np.uint8)
        pixels = load_pixels(white, spec(crop=(5, 8)))
        # 3 rows to add: 1 above, 2 below; 5 columns: 2 left, 3 right.
        expected = np.zeros((5, 8, 3), np.uint8)
        expected[1:3, 2:5] = 255
        np.testing.assert_array_equal(pixels, expected)

    def test_neither_resize_nor_crop_keeps_the_pixels(self) -> None:
        image = picture(17, 5)
        pixels = load_pixels(image, spec())
        np.testing.assert_array_equal(pixels, np.asarray(image))
        pixels[:] = 0  # a copy: the caller's picture is not touched
        assert np.asarray(image).any()

    def test_a_strip_that_would_grow_enormous_is_refused(self) -> None:
        with pytest.raises(ImageError, match="too long and narrow"):
            load_pixels(np.zeros((1, 100_000, 3), np.uint8), spec(232, 224))


# A viewer's correction of each orientation, on [height, width, channels].
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


def oriented(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


class TestExif:
    @pytest.mark.parametrize("suffix", ["jpeg", "png", "tiff", "webp"])
    @pytest.mark.parametrize("orientation", UPRIGHT)
    def test_orientation_is_applied_to_files(self, orientation: int, suffix: str) -> None:
        image = picture(7, 4)
        plain = np.asarray(Image.open(io.BytesIO(saved(image, suffix))).convert("RGB"))
        data = saved(image, suffix, exif=oriented(orientation))
        expected = UPRIGHT[orientation](plain)
        np.testing.assert_array_equal(np.asarray(open_rgb(data)), expected)
        np.testing.assert_array_equal(np.asarray(open_rgb(io.BytesIO(data))), expected)

    @pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
    def test_orientation_survives_the_change_of_mode(self, mode: str, tmp_path: Path) -> None:
        path = tmp_path / "photo.jpg"
        picture(7, 4, mode).save(path, exif=oriented(6))
        assert open_rgb(path).size == (4, 7)

    def test_pil_image_is_turned_only_while_the_tag_is_there(self) -> None:
        data = saved(picture(7, 4), "png", exif=oriented(6))
        image = Image.open(io.BytesIO(data))
        turned = ImageOps.exif_transpose(image)
        assert image.getexif()[0x0112] == 6
        np.testing.assert_array_equal(np.asarray(open_rgb(image)), np.asarray(turned))
        np.testing.assert_array_equal(np.asarray(open_rgb(turned)), np.asarray(turned))

    @pytest.mark.parametrize("orientation", [0, 9, 65_535])
    def test_unknown_orientation_means_upright(self, orientation: int) -> None:
        image = picture(7, 4)
        data = saved(image, "png", exif=oriented(orientation))
        np.testing.assert_array_equal(np.asarray(open_rgb(data)), np.asarray(image))

    def test_unreadable_exif_means_upright(self) -> None:
        image = picture(7, 4)
        data = saved(image, "png", exif=b"Exif\0\0this is no TIFF header")
        np.testing.assert_array_equal(np.asarray(open_rgb(data)), np.asarray(image))


class TestModes:
    @pytest.mark.parametrize("mode", [*MODES, "PA", "RGBX", "LAB"])
    def test_mode_converts_as_pillow_does(self, mode: str) -> None:
        image = picture(13, 9, "P" if mode == "PA" else "RGB")
        image = Image.new(mode, (13, 9), (150, 140, 90)) if mode == "LAB" else image.convert(mode)
        expected = np.asarray(image.convert("RGB"))
        np.testing.assert_array_equal(np.asarray(open_rgb(image)), expected)

    @pytest.mark.parametrize("mode", ["La", "RGBa"])
    def test_premultiplied_alpha_is_divided_out(self, mode: str) -> None:
        opaque = picture(13, 9, mode[0:-1]).convert(mode[:-1] + "A")
        image = opaque.convert(mode)
        np.testing.assert_array_equal(np.asarray(open_rgb(image)), np.asarray(open_rgb(opaque)))

    def test_alpha_is_dropped_and_hidden_colours_kept(self) -> None:
        colours = np.asarray(picture(6, 5))
        hidden = np.dstack([colours, np.zeros((5, 6), np.uint8)])
        data = saved(Image.fromarray(hidden), "png")
        np.testing.assert_array_equal(np.asarray(open_rgb(data)), colours)

    def test_palette_with_transparency_gives_its_colours(self) -> None:
        image = picture(6, 5).quantize(16)
        data = saved(image, "png", transparency=bytes(range(0, 256, 16)))
        assert isinstance(Image.open(io.BytesIO(data)).info["transparency"], bytes)
        np.testing.assert_array_equal(np.asarray(open_rgb(data)), np.asarray(image.convert("RGB")))

    @pytest.mark.parametrize("suffix", ["png", "tiff"])
    @pytest.mark.parametrize("byte_order", ["<u2", ">u2"])
    def test_16_bit_grey_keeps_its_upper_byte(self, suffix: str, byte_order: str) -> None:
        values = np.arange(0, 65_536, 257 * 3, dtype=np.uint16).reshape(2, 43)
        image = Image.fromarray(values.astype(byte_order))
        assert image.mode.startswith("I;16")
        expected = np.repeat((values >> 8).astype(np.uint8)[..., None], 3, axis=2)
        assert len(np.unique(expected)) > 50  # neither whitened nor blackened
        np.testing.assert_array_equal(np.asarray(open_rgb(image)), expected)
        np.testing.assert_array_equal(np.asarray(open_rgb(saved(image, suffix))), expected)

    def test_mode_i_is_taken_as_16_bit_from_files_that_say_so(self) -> None:
        values = np.array([[0, 255, 256, 40_000, 65_535]], ">u2")
        data = b"P5 5 1 65535\n" + values.tobytes()
        assert Image.open(io.BytesIO(data)).mode == "I"
        np.testing.assert_array_equal(np.asarray(open_rgb(data))[0, :, 0], [0, 0, 1, 156, 255])

    def test_mode_i_in_memory_has_no_agreed_range(self) -> None:
        image = Image.fromarray(np.array([[0, 255]], np.int32))
        assert image.mode == "I"
        with pytest.raises(ImageError, match=r'32-bit integers.*image\.convert\("L"\) takes 0 to'):
            open_rgb(image)
        pixels = np.asarray(open_rgb(image.convert("L")))
        np.testing.assert_array_equal(pixels[0, :, 0], [0, 255])

    def test_first_frame_of_an_animation_is_taken(self) -> None:
        frames = [picture(6, 5).quantize(8), picture(6, 5).rotate(180).quantize(8)]
        data = saved(frames[0], "gif", save_all=True, append_images=frames[1:])
        expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        np.testing.assert_array_equal(np.asarray(open_rgb(data)), expected)


class TestArrays:
    PIXELS = np.asarray(picture(11, 6))

    @pytest.mark.parametrize(
        ("array", "expected"),
        [
            pytest.param(PIXELS, PIXELS, id="read-only"),
            pytest.param(PIXELS[:, ::-1], PIXELS[:, ::-1], id="mirrored"),
            pytest.param(PIXELS[..., ::-1], PIXELS[..., ::-1], id="bgr-view"),
            pytest.param(PIXELS[1::3, 2::2], PIXELS[1::3, 2::2], id="strided"),
            pytest.param(np.asfortranarray(PIXELS), PIXELS, id="fortran"),
            pytest.param(np.dstack([PIXELS, PIXELS[..., 0]]), PIXELS, id="rgba"),
            pytest.param(PIXELS[..., 1], PIXELS[..., [1, 1, 1]], id="grey"),
            pytest.param(PIXELS[..., 1:2], PIXELS[..., [1, 1, 1]], id="grey-channel"),
            pytest.param(PIXELS[:1], PIXELS[:1], id="one-row"),
            pytest.param(PIXELS[:4], PIXELS[:4], id="four-rows"),
        ],
    )
    def test_array_gives_its_pixels(self, array: np.ndarray, expected: np.ndarray) -> None:
        before = array.copy()
        np.testing.assert_array_equal(load_pixels(array, spec()), expected)
        np.testing.assert_array_equal(array, before)

    def test_array_and_its_pil_image_agree(self) -> None:
        image = picture(90, 70)
        np.testing.assert_array_equal(
            load_pixels(np.asarray(image), preset_spec("V2")), load_pixels(image, preset_spec("V2"))
        )


class TestSources:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        path = tmp_path / "picture.png"
        picture(20, 10).save(path)
        return path

    def test_every_kind_of_source_gives_the_same_pixels(self, path: Path) -> None:
        expected = np.asarray(picture(20, 10))
        data = path.read_bytes()
        for source in [str(path), path, data, bytearray(data), memoryview(data)]:
            np.testing.assert_array_equal(np.asarray(open_rgb(source)), expected)

    @pytest.mark.parametrize("position", [0, 5, None])
    def test_file_object_stays_open_where_it_stood(self, path: Path, position: int | None) -> None:
        with open(path, "rb") as file:
            file.seek(*((0, io.SEEK_END) if position is None else (position,)))
            before = file.tell()
            np.testing.assert_array_equal(np.asarray(open_rgb(file)), np.asarray(picture(20, 10)))
            assert not file.closed
            assert file.tell() == before

    def test_pipe_is_read_to_its_end(self, path: Path) -> None:
        reader, writer = os.pipe()
        with os.fdopen(writer, "wb") as file:
            file.write(path.read_bytes())
        with os.fdopen(reader, "rb") as file:
            np.testing.assert_array_equal(np.asarray(open_rgb(file)), np.asarray(picture(20, 10)))
            assert not file.closed

    def test_object_that_only_reads_is_enough(self, path: Path) -> None:
        class Response:
            def read(self) -> bytes:
                return path.read_bytes()

        np.testing.assert_array_equal(np.asarray(open_rgb(Response())), np.asarray(picture(20, 10)))

    @pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
    def test_pil_image_is_left_as_it_was(self, mode: str) -> None:
        image = picture(20, 10, mode)
        image.info["comment"] = "kept"
        before = (image.mode, image.size, image.tobytes(), dict(image.info))
        load_pixels(image, preset_spec("V2"))
        assert (image.mode, image.size, image.tobytes(), dict(image.info)) == before

    def test_files_are_closed_again(self, path: Path, tmp_path: Path) -> None:
        broken = tmp_path / "broken.png"
        broken.write_bytes(path.read_bytes()[:60])
        open_rgb(path)
        before = os.listdir("/proc/self/fd")
        for _ in range(3):
            open_rgb(path)
            with pytest.raises(ImageError):
                open_rgb(broken)
        assert len(os.listdir("/proc/self/fd")) == len(before)

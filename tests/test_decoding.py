"""The choices of `Decoding`, and warnings that name their picture."""

from __future__ import annotations

import io
import re
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps, TiffImagePlugin

import resnet_rs
from resnet_rs import ImageError, ResNet50
from resnet_rs.cli import main
from resnet_rs.images import Decoding, open_rgb, pillow_notes
from resnet_rs.images.preprocess import load_pixels
from resnet_rs.images.spec import Preprocessing, preset

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
SPEC = Preprocessing.from_dict(preset("IMAGENET1K_V1"))


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def turned(orientation: int = 6, kind: str = "PNG") -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(Image.fromarray(PIXELS), kind, exif=exif)


def damaged_exif() -> bytes:
    """A JPEG with a directory of EXIF data that promises more entries than there are."""
    entry = b"\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00"
    exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x05" + entry + b"\x01\x1a\0\x05"
    data = saved(Image.fromarray(PIXELS), "JPEG")
    return data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:]


class TestOrientation:
    def test_it_can_be_left_alone(self) -> None:
        np.testing.assert_array_equal(np.asarray(open_rgb(turned(), exif=False)), PIXELS)
        assert open_rgb(turned()).size == (5, 7)

    def test_image_in_memory_that_still_has_the_tag_is_warned_of(self) -> None:
        photo = Image.open(io.BytesIO(turned()))
        by_hand = photo.rotate(-90, expand=True)
        with pytest.warns(UserWarning, match=r"orientation 6.*PIL\.ImageOps\.exif_transpose"):
            twice = open_rgb(by_hand)
        assert twice.size == (7, 5)

    @pytest.mark.parametrize(
        "make",
        [
            lambda photo: photo,
            ImageOps.exif_transpose,
            lambda photo: open_rgb(photo).rotate(-90, expand=True),
            lambda photo: Image.fromarray(np.asarray(photo)),
        ],
        ids=["file", "exif_transpose", "open_rgb", "pixels"],
    )
    def test_others_are_not(self, make: Any) -> None:
        open_rgb(make(Image.open(io.BytesIO(turned()))))  # warnings are errors

    def test_nor_is_one_whose_tag_is_not_applied(self) -> None:
        photo = Image.open(io.BytesIO(turned())).rotate(-90, expand=True)
        upright = np.rot90(PIXELS, -1)
        np.testing.assert_array_equal(np.asarray(open_rgb(photo, exif=False)), upright)

    def test_it_is_shown_once(self, demo_dir: Path) -> None:
        model = resnet_rs.load(demo_dir)
        photo = Image.open(io.BytesIO(turned())).copy()
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("default")
            model.predict([photo, photo])
            model.predict(photo)
        assert len(seen) == 1

    def test_what_is_upright_is_not_turned_again(self) -> None:
        once = open_rgb(turned())
        np.testing.assert_array_equal(np.asarray(open_rgb(once)), np.asarray(once))

    def test_models_follow(self, demo_dir: Path) -> None:
        model = resnet_rs.load(demo_dir, exif=False)
        plain = resnet_rs.load(demo_dir).logits(PIXELS)
        np.testing.assert_array_equal(model.logits(turned()), plain)
        (result,) = model.stream([turned()], what="logits")
        np.testing.assert_array_equal(result.vector, plain)
        np.testing.assert_array_equal(model.preprocess(turned()), model.preprocess(PIXELS))
        views = model.probabilities(turned(), tta="hflip")
        np.testing.assert_array_equal(views, model.probabilities(PIXELS, tta="hflip"))


def see_through() -> Image.Image:
    """The colours of `PIXELS`, more transparent from left to right."""
    alpha = np.tile(np.linspace(255, 0, 7).astype(np.uint8), (5, 1))
    return Image.fromarray(np.dstack([PIXELS, alpha]))


def composed(color: tuple[int, int, int]) -> np.ndarray[Any, Any]:
    """Each pixel as a mean of its colour and the background, by its alpha."""
    alpha = np.asarray(see_through())[..., 3:] / 255
    return PIXELS * alpha + np.array(color) * (1 - alpha)


class TestBackground:
    @pytest.mark.parametrize(
        ("background", "color"),
        [
            ("white", (255, 255, 255)),
            ("#102030", (16, 32, 48)),
            ((1, 2, 3), (1, 2, 3)),
            ([np.uint8(9), 0, 255], (9, 0, 255)),
        ],
    )
    @pytest.mark.parametrize(
        "make",
        [
            lambda image: image,
            np.asarray,
            lambda image: saved(image, "PNG"),
            lambda image: saved(image, "WEBP", lossless=True, exact=True),
            lambda image: image.convert("RGBa"),
        ],
        ids=["image", "array", "png", "webp", "premultiplied"],
    )
    def test_it_shows_through(self, make: Any, background: Any, color: Any) -> None:
        pixels = np.asarray(open_rgb(make(see_through()), background=background))
        np.testing.assert_allclose(pixels, composed(color), atol=2)

    def test_it_shows_through_grey(self) -> None:
        grey = see_through().convert("LA")
        expected = np.asarray(open_rgb(grey, background="red")).astype(int)
        found = np.asarray(open_rgb(grey.convert("La"), background="red"))
        np.testing.assert_allclose(found, expected, atol=2)

    def test_by_default_transparency_is_dropped(self) -> None:
        np.testing.assert_array_equal(np.asarray(open_rgb(saved(see_through(), "PNG"))), PIXELS)

    @pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "I;16"])
    def test_one_value_may_be_transparent(self, mode: str) -> None:
        """The tRNS chunk of PNG, and the same in GIF."""
        if mode == "I;16":
            image = Image.fromarray(np.array([[0, 40_000, 65_535]], np.uint16))
            key: Any = 40_000
        else:
            image = Image.fromarray(np.array([[[0] * 3, [90] * 3, [255] * 3]], np.uint8))
            image = image.convert(mode, dither=Image.Dither.NONE)
            key = image.getpixel((1, 0))
            key = 1 if mode == "1" else key
        data = saved(image, "PNG", transparency=key)
        dropped = np.asarray(open_rgb(data)).astype(int)
        shown = np.asarray(open_rgb(data, background="red")).astype(int)
        hidden = np.asarray(image) == key if mode != "RGB" else np.array([[False, True, False]])
        assert hidden.any()
        assert (shown[hidden] == (255, 0, 0)).all()
        np.testing.assert_array_equal(shown[~hidden], dropped[~hidden])

    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP"])
    def test_opaque_pictures_stay(self, kind: str) -> None:
        data = saved(Image.fromarray(PIXELS), kind)
        pixels = np.asarray(open_rgb(data))
        np.testing.assert_array_equal(np.asarray(open_rgb(data, background="red")), pixels)

    @pytest.mark.parametrize(
        ("value", "error"),
        [
            ("snowish", ValueError),
            ("#12345678", ValueError),
            ((0, 0), ValueError),
            ((0, 0, 256), ValueError),
            ((0, 0, 0, 0), ValueError),
            (5, TypeError),
            ((0.5, 0.5, 0.5), TypeError),
        ],
    )
    def test_what_is_no_colour_is_refused(self, value: Any, error: type[Exception]) -> None:
        with pytest.raises(error, match='background must be a colour, such as "white"'):
            Decoding(background=value)

    def test_models_and_commands_follow(
        self, demo_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "a.png").write_bytes(saved(see_through(), "PNG"))
        white = resnet_rs.load(demo_dir, background="white")
        below = np.asarray(open_rgb(see_through(), background="white"))
        np.testing.assert_array_equal(white.logits(tmp_path / "a.png"), white.logits(below))
        words = f"predict {tmp_path / 'a.png'} --weights {demo_dir} --format csv --top-k 1"
        assert main([*words.split(), "--background", "white"]) == 0
        row = capsys.readouterr().out.splitlines()[1].split(",")
        assert float(row[3]) == pytest.approx(white.predict(below)[0].score, abs=1e-6)
        assert main([*words.split(), "--background", "snowish"]) == 2
        assert "background must be a colour" in capsys.readouterr().err


class TestRange:
    """A 16-bit PPM is an image of 32-bit integers, which a caller may change."""

    @pytest.mark.parametrize("value", [0, 65_535])
    def test_the_ends_are_in_it(self, value: int) -> None:
        assert open_rgb(self.changed(value)).getpixel((0, 0)) == (value >> 8,) * 3

    @pytest.mark.parametrize(("value", "span"), [(-1, "-1 to 40000"), (65_536, "30000 to 65536")])
    def test_what_is_outside_is_refused(self, value: int, span: str) -> None:
        with pytest.raises(ImageError) as caught:
            open_rgb(self.changed(value))
        assert str(caught.value).endswith(
            f"mode I is taken as 16-bit grey (0..65535), but the values go from {span}: scale it "
            "to 0..255 and convert it to mode L first"
        )

    @staticmethod
    def changed(value: int) -> Image.Image:
        numbers = np.array([30_000, 40_000], ">u2").tobytes()
        image = Image.open(io.BytesIO(b"P5 3 1 65535\n" + numbers[:2] + numbers))
        assert image.mode == "I"
        image.putpixel((0, 0), value)
        return image


class TestNarrowRange:
    SMALL = np.arange(35, dtype=np.uint16).reshape(5, 7) * 100

    @pytest.mark.parametrize("offset", [0, 30_000])
    def test_grey(self, offset: int, tmp_path: Path) -> None:
        path = tmp_path / "camera.png"
        Image.fromarray(self.SMALL + np.uint16(offset)).save(path)
        expected = rf"camera\.png': .* {offset} to {offset + 3400}, .*multiply 12-bit values by 16"
        with pytest.warns(UserWarning, match=expected):
            open_rgb(path)

    @pytest.mark.parametrize("photometric", ["rgb", "minisblack"])
    def test_colour(self, photometric: str) -> None:
        file = io.BytesIO()
        array = np.stack([self.SMALL] * 3, axis=-1) if photometric == "rgb" else self.SMALL
        tifffile.imwrite(file, array, photometric=photometric)
        with pytest.warns(UserWarning, match="16-bit values .* sixteenth"):
            open_rgb(file.getvalue())

    @pytest.mark.parametrize("scale", [16, 0])
    def test_what_fills_the_range_or_is_black_is_not(self, scale: int) -> None:
        open_rgb(Image.fromarray(self.SMALL * np.uint16(scale)))  # warnings are errors

    def test_dark_pictures_of_8_bits_are_not(self) -> None:
        open_rgb(saved(Image.fromarray(PIXELS // 100), "PNG"))


class TestWarnings:
    """Pillow's own, which name no file."""

    def test_they_name_the_picture(self, tmp_path: Path) -> None:
        (tmp_path / "broken.jpg").write_bytes(damaged_exif())
        expected = r"broken\.jpg': decoded, but Pillow warns: Corrupt EXIF data"
        with pytest.warns(UserWarning, match=expected) as seen:
            pixels = open_rgb(tmp_path / "broken.jpg")
        assert len(seen) == 1
        assert pixels.size == (5, 7)  # the one tag that can be read is applied

    def test_a_large_picture(self, monkeypatch: pytest.MonkeyPatch) -> None:
        data = saved(Image.fromarray(PIXELS), "PNG")
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30)
        with pytest.warns(Image.DecompressionBombWarning, match=r"image of \d+ bytes: .*limit"):
            open_rgb(data)

    def test_other_users_of_pillow_see_theirs(self) -> None:
        open_rgb(PIXELS)
        open_rgb(saved(Image.fromarray(PIXELS), "PNG"))
        with pytest.warns(UserWarning, match=r"^Corrupt EXIF data") as seen:
            Image.open(io.BytesIO(damaged_exif())).getexif()
        assert seen[0].filename.endswith(("TiffImagePlugin.py", "JpegImagePlugin.py"))

    def test_every_thread_has_its_own(self) -> None:
        """Eight threads decode sound and broken files by turns: only the broken are named."""
        found: list[str] = []

        def decode(number: int) -> None:
            for _ in range(20):
                data = damaged_exif() + bytes(number)
                open_rgb(data)
                open_rgb(saved(Image.fromarray(PIXELS), "JPEG") + bytes(100 + number))

        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            threads = [threading.Thread(target=decode, args=(number,)) for number in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            found = [str(one.message) for one in seen]
        size = len(damaged_exif())
        names = [int(re.match(r"image of (\d+) bytes: decoded", text)[1]) for text in found]
        assert sorted(names) == sorted(size + number for number in range(8) for _ in range(20))

    def test_the_rest_of_the_module_is_pythons(self) -> None:
        open_rgb(PIXELS)
        stand_in = TiffImagePlugin.warnings
        assert stand_in is not warnings
        assert stand_in.catch_warnings is warnings.catch_warnings
        assert pillow_notes._imported("PIL.NoSuchPlugin") is None
        assert pillow_notes._imported("PIL.TiffImagePlugin") is TiffImagePlugin

    def test_as_errors_they_are_raised_by_name(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(UserWarning, match=r"image of \d+ bytes: .*Corrupt EXIF"):
                open_rgb(damaged_exif())

    def test_in_a_stream_such_an_error_is_that_of_its_picture(self, model: ResNet50) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            results = list(model.stream([PIXELS, damaged_exif(), PIXELS]))
        assert [result.error is None for result in results] == [True, False, True]
        assert "Corrupt EXIF" in str(results[1].reason)

    def test_a_folder_has_a_line_for_each_file(
        self, demo_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for name in ("a.jpg", "b.jpg"):
            (tmp_path / name).write_bytes(damaged_exif())
        words = f"predict {tmp_path} --weights {demo_dir} --format csv"
        assert main(words.split()) == 0
        lines = [line for line in capsys.readouterr().err.splitlines() if "Corrupt" in line]
        assert sorted(line.split("'")[1] for line in lines) == [
            str(tmp_path / name) for name in ("a.jpg", "b.jpg")
        ]


class TestDraft:
    def test_large_jpeg_files_are_decoded_smaller(self) -> None:
        smooth = Image.fromarray(PIXELS).resize((1700, 1300), Image.Resampling.BICUBIC)
        data = saved(smooth, "JPEG", quality=95)
        whole = load_pixels(data, SPEC).astype(int)
        draft = load_pixels(data, SPEC, 3, Decoding(draft=True)).astype(int)
        assert whole.shape == draft.shape == (224, 224, 3)
        difference = np.abs(whole - draft)
        assert 0 < difference.max() < 8  # other pixels, and the same picture

    @pytest.mark.parametrize("kind", ["JPEG", "PNG"])
    def test_others_are_decoded_as_they_are(self, kind: str) -> None:
        data = saved(Image.fromarray(PIXELS).resize((700, 500)), kind)
        whole = load_pixels(data, SPEC)
        np.testing.assert_array_equal(load_pixels(data, SPEC, 3, Decoding(draft=True)), whole)

    def test_a_draft_counts_with_its_own_size(self) -> None:
        data = saved(Image.new("RGB", (4096, 4096)), "JPEG")
        draft = Decoding(draft=True, max_pixels=2_000_000)
        assert load_pixels(data, SPEC, 3, draft).shape == (224, 224, 3)
        with pytest.raises(ImageError, match="more than the bound of 2000000"):
            load_pixels(data, SPEC, 3, Decoding(max_pixels=2_000_000))

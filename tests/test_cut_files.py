"""Picture files that are cut off, in every format and whatever Pillow's switch says."""

from __future__ import annotations

import errno
import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

import resnet_rs
from resnet_rs import ImageError
from resnet_rs.images import open_rgb

NOISE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
SMOOTH = np.asarray(Image.fromarray(NOISE).resize((160, 120), Image.Resampling.BICUBIC))

FORMATS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "jpeg": ("JPEG", "RGB", {}),
    "jpeg-progressive": ("JPEG", "RGB", {"progressive": True}),
    "jpeg-cmyk": ("JPEG", "CMYK", {}),
    "png": ("PNG", "RGB", {}),
    "png-palette": ("PNG", "P", {}),
    "gif": ("GIF", "P", {}),
    "bmp": ("BMP", "RGB", {}),
    "tiff": ("TIFF", "RGB", {}),
    "tiff-lzw": ("TIFF", "RGB", {"compression": "tiff_lzw"}),
    "tiff-jpeg": ("TIFF", "RGB", {"compression": "jpeg"}),
    "ppm": ("PPM", "RGB", {}),
    "pgm": ("PPM", "L", {}),
    "tga": ("TGA", "RGB", {}),
    "tga-rle": ("TGA", "RGB", {"compression": "tga_rle"}),
    "webp": ("WEBP", "RGB", {}),
    "webp-lossless": ("WEBP", "RGB", {"lossless": True}),
    "jpeg2000": ("JPEG2000", "RGB", {}),
    "ico": ("ICO", "RGB", {}),
    "pcx": ("PCX", "RGB", {}),
    "sgi": ("SGI", "RGB", {}),
}
PLAIN_PPM = b"P3 160 120 255\n" + b" ".join(b"%d" % value for value in SMOOTH.ravel())


def encoded(name: str) -> bytes:
    if name == "ppm-plain":
        return PLAIN_PPM
    kind, mode, options = FORMATS[name]
    file = io.BytesIO()
    Image.fromarray(SMOOTH).convert(mode).save(file, kind, **options)
    return file.getvalue()


@pytest.fixture(params=[False, True], ids=["off", "on"])
def switch(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Pillow's switch, which any library in the process may set."""
    before = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = request.param
    yield request.param
    ImageFile.LOAD_TRUNCATED_IMAGES = before


@pytest.mark.parametrize("name", [*FORMATS, "ppm-plain"])
class TestEveryFormat:
    def test_whole_files_are_read(self, name: str, switch: bool) -> None:
        data = encoded(name)
        expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        np.testing.assert_array_equal(np.asarray(open_rgb(data)), expected)

    @pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
    def test_cut_files_are_refused(self, name: str, share: float, switch: bool) -> None:
        data = encoded(name)
        with pytest.raises(
            ImageError, match=r"image of \d+ bytes: .*(cut off|truncated|cannot|no image)"
        ):
            open_rgb(data[: int(len(data) * share)])


@pytest.mark.parametrize("name", ["jpeg", "jpeg-progressive", "png", "gif", "bmp", "tiff"])
def test_pictures_that_the_caller_has_opened(name: str, switch: bool, tmp_path: Path) -> None:
    data = encoded(name)
    expected = np.asarray(open_rgb(data))
    np.testing.assert_array_equal(np.asarray(open_rgb(Image.open(io.BytesIO(data)))), expected)
    path = tmp_path / "picture"
    path.write_bytes(data)
    with Image.open(path) as image:
        np.testing.assert_array_equal(np.asarray(open_rgb(image)), expected)
        np.testing.assert_array_equal(np.asarray(open_rgb(image)), expected)
    half = data[: len(data) // 2]
    with pytest.raises(ImageError, match=r"cut off|truncated"):
        open_rgb(Image.open(io.BytesIO(half)))
    assert open_rgb(Image.open(io.BytesIO(half)), truncated=True).size == (160, 120)


class Failing(io.BytesIO):
    """A file on a disk that fails for a while."""

    fails = False

    def read(self, size: int | None = -1) -> bytes:
        if self.fails:
            raise OSError(errno.EIO, "Input/output error")
        return super().read(size)


@pytest.mark.parametrize("name", ["jpeg", "png"])
def test_a_file_that_fails_stays_the_callers(name: str, switch: bool) -> None:
    file = Failing(encoded(name))
    image = Image.open(file)
    file.fails = True
    with pytest.raises(OSError, match="Input/output error"):
        open_rgb(image)
    assert image.fp is file
    assert getattr(image, "png", image).fp is file


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "PNG"])
def test_another_frame_can_be_read_afterwards(kind: str, switch: bool) -> None:
    frames = [Image.fromarray(SMOOTH), Image.fromarray(SMOOTH[::-1].copy())]
    file = io.BytesIO()
    frames[0].save(file, kind, save_all=True, append_images=frames[1:])
    image = Image.open(file)
    first = np.asarray(open_rgb(image))
    image.seek(1)
    assert not np.array_equal(np.asarray(open_rgb(image)), first)


@pytest.mark.parametrize("name", ["jpeg", "png", "gif", "bmp", "tga"])
def test_cut_files_are_accepted_if_asked(name: str, switch: bool) -> None:
    data = encoded(name)
    whole = np.asarray(open_rgb(data)).astype(int)
    half = np.asarray(open_rgb(data[: len(data) // 2], truncated=True)).astype(int)
    assert half.shape == whole.shape
    rows = np.abs(half - whole).max(axis=(1, 2)) < 2
    assert 30 < rows.sum() < 100
    assert ImageFile.LOAD_TRUNCATED_IMAGES is switch


def test_the_error_names_the_remedy(switch: bool, tmp_path: Path) -> None:
    path = tmp_path / "half.jpg"
    path.write_bytes(encoded("jpeg")[:4000])
    with pytest.raises(ImageError, match=r"half\.jpg'") as caught:
        open_rgb(path)
    assert not switch or "pass truncated=True (--truncated)" in str(caught.value)


def test_one_thread_that_accepts_them_does_not_speak_for_others() -> None:
    """Half the threads ask for cut files, and the others are refused them all the same."""
    data = encoded("jpeg")[:4000]
    wrong: list[str] = []

    def ask(truncated: bool) -> None:
        for _ in range(60):
            try:
                open_rgb(data, truncated=truncated)
                if not truncated:
                    wrong.append("a cut file was accepted")
            except ImageError:
                if truncated:
                    wrong.append("a cut file was refused")

    threads = [threading.Thread(target=ask, args=(number % 2 == 0,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


def test_models_take_the_choice(demo_dir: Path) -> None:
    data = encoded("jpeg")[:4000]
    with pytest.raises(ImageError):
        resnet_rs.load(demo_dir).predict(data)
    assert len(resnet_rs.load(demo_dir, truncated=True).predict(data, top_k=1)) == 1

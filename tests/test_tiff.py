"""TIFF files, as scientific programs write them: the right pixels, or a refusal.

`tifffile` writes them. It has nothing in common with Pillow or libtiff, so the arrays that it is
given are the truth.
"""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from resnet_rs import ImageError
from resnet_rs.images import open_rgb

# No two axes and no two channels are alike.
GREY = np.add.outer(np.arange(40) * 3, np.arange(56) * 2).astype(np.uint8)
RGB = np.stack([GREY, 255 - GREY, GREY // 2], axis=-1)

Array = np.ndarray[Any, Any]


def tiff(array: Array, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, array, **options)
    return file.getvalue()


def deep(pixels: Array) -> Array:
    """The same values in 16 bits; their lower byte is the complement of the upper."""
    wide = pixels.astype(np.uint16)
    return wide << 8 | (255 - wide)


def with_bands(pixels: Array, count: int, planes: bool) -> Array:
    more = [np.full((*pixels.shape[:2], count - pixels.shape[2]), 7, pixels.dtype)]
    bands = np.concatenate([pixels, *more], axis=-1)
    return np.ascontiguousarray(bands.transpose(2, 0, 1)) if planes else bands


def assert_right(data: bytes, expected: Array) -> None:
    np.testing.assert_array_equal(np.asarray(open_rgb(data)), expected)


@pytest.fixture(params=["<", ">"], ids=["little", "big"])
def order(request: pytest.FixtureRequest) -> str:
    value: str = request.param
    return value


class TestGrey:
    @pytest.mark.parametrize("compression", [None, "zlib"])
    @pytest.mark.parametrize("bits", [8, 16])
    def test_white_may_be_zero(self, bits: int, compression: str | None, order: str) -> None:
        array = GREY if bits == 8 else deep(GREY)
        options = {"byteorder": order, "compression": compression}
        expected = np.stack([GREY] * 3, axis=-1)
        assert_right(tiff(array, photometric="minisblack", **options), expected)
        inverted = tiff(array, photometric="miniswhite", **options)
        if (bits, order) == (16, ">"):  # Pillow has no mode for it
            with pytest.raises(ImageError, match="a TIFF of a kind that Pillow does not read"):
                open_rgb(inverted)
        else:
            assert_right(inverted, 255 - expected)

    @pytest.mark.parametrize("compression", [None, "zlib"])
    @pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32])
    def test_signed_numbers_are_refused(
        self, dtype: type, compression: str | None, order: str
    ) -> None:
        array = (GREY // 2).astype(dtype)
        data = tiff(array, photometric="minisblack", byteorder=order, compression=compression)
        with pytest.raises(ImageError, match=r"signed numbers of .* bits have no agreed range"):
            open_rgb(data)

    @pytest.mark.parametrize("dtype", [np.uint32, np.float32, np.float16, np.float64])
    def test_numbers_without_a_range_are_refused(self, dtype: type, order: str) -> None:
        with pytest.raises(ImageError, match=r"no agreed range|a TIFF of a kind"):
            open_rgb(tiff(GREY.astype(dtype), photometric="minisblack", byteorder=order))


class TestColour:
    @pytest.mark.parametrize("tile", [None, (16, 32)], ids=["strips", "tiles"])
    @pytest.mark.parametrize("compression", [None, "zlib"])
    @pytest.mark.parametrize("planes", [False, True], ids=["pixels", "planes"])
    @pytest.mark.parametrize("bits", [8, 16])
    def test_every_layout_has_the_same_pixels(
        self, bits: int, planes: bool, compression: str | None, tile: Any, order: str
    ) -> None:
        array = with_bands(RGB if bits == 8 else deep(RGB), 3, planes)
        data = tiff(
            array,
            photometric="rgb",
            planarconfig="separate" if planes else "contig",
            compression=compression,
            tile=tile,
            byteorder=order,
        )
        assert_right(data, RGB)

    @pytest.mark.parametrize("dtype", [np.int8, np.int16, np.uint32, np.float32])
    def test_other_numbers_are_refused(self, dtype: type, order: str) -> None:
        with pytest.raises(ImageError, match=r"a TIFF of a kind that Pillow does not read"):
            open_rgb(tiff((RGB // 2).astype(dtype), photometric="rgb", byteorder=order))

    @pytest.mark.parametrize("compression", [None, "zlib"])
    @pytest.mark.parametrize("planes", [False, True], ids=["pixels", "planes"])
    @pytest.mark.parametrize("bits", [8, 16])
    @pytest.mark.parametrize("bands", [4, 5, 6, 7])
    def test_more_bands_are_right_or_refused(
        self, bands: int, bits: int, planes: bool, compression: str | None, order: str
    ) -> None:
        data = tiff(
            with_bands(RGB if bits == 8 else deep(RGB), bands, planes),
            photometric="rgb",
            planarconfig="separate" if planes else "contig",
            extrasamples=["unspecified"] * (bands - 3),
            compression=compression,
            byteorder=order,
        )
        try:
            image = open_rgb(data)
        except ImageError:
            return
        np.testing.assert_array_equal(np.asarray(image), RGB)

    @pytest.mark.parametrize("planes", [False, True], ids=["pixels", "planes"])
    @pytest.mark.parametrize("bits", [8, 16])
    def test_ink_of_any_layout(self, bits: int, planes: bool, order: str) -> None:
        ink = np.concatenate([255 - RGB, np.zeros_like(RGB[..., :1])], axis=-1)
        array = with_bands(ink if bits == 8 else deep(ink), 4, planes)
        config = "separate" if planes else "contig"
        data = tiff(array, photometric="separated", planarconfig=config, byteorder=order)
        if planes and bits == 16:
            with pytest.raises(ImageError, match="a layout of pixels that Pillow does not decode"):
                open_rgb(data)
        else:
            assert_right(data, RGB)


def test_a_thumbnail_in_the_place_of_a_raw_photo_is_warned_of() -> None:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(RGB, photometric="rgb", subifds=1, subfiletype=1)
        writer.write(np.tile(RGB, (4, 4, 1)), photometric="rgb")
    with pytest.warns(UserWarning, match=r"image of \d+ bytes: the first picture .* 56 x 40"):
        assert_right(file.getvalue(), RGB)


def test_pages_after_the_first_are_left_out() -> None:
    pages = np.stack([RGB, 255 - RGB])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_right(tiff(pages, photometric="rgb"), RGB)


def test_a_file_without_its_directory_is_said_to_be_cut_off() -> None:
    file = io.BytesIO()
    Image.fromarray(RGB).save(file, "TIFF", compression="tiff_lzw")
    with pytest.raises(ImageError, match="a TIFF that is cut off: its directory is missing"):
        open_rgb(file.getvalue()[:900])

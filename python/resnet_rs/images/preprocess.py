"""① A picture, resized and cropped as the weights were trained to see it.

The pixels are the same, bit for bit, as those of torchvision's presets: Pillow's antialiased
resize, with the long side cut to a whole number, then a centre crop whose offset is rounded half
to even; a side that is smaller than the crop is padded with zeros, the odd pixel at its end.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .decode import ImageError, open_planes
from .spec import Preprocessing

if TYPE_CHECKING:
    from PIL import Image

    from .decode import ImageLike

# A strip of 1 x 100000 pixels would grow to 232 x 23 million. Pillow refuses to decode twice its
# `MAX_IMAGE_PIXELS`, 179 million pixels, and this is the same order: half a gigabyte of RGB.
_MAX_RESIZED_PIXELS = 1 << 27


def load_pixels(source: ImageLike, spec: Preprocessing, channels: int = 3) -> NDArray[np.uint8]:
    """Decode, resize and crop one image.

    Args:
        source: any kind of image that `resnet_rs.images.decode` lists.
        spec: resize, crop and filter; its mean and std are not used here.
        channels: how many the network takes.

    Returns:
        Pixels `[height, width, channels]` (RGB for three), of the crop's size where there is a
        crop.

    Raises:
        ImageError, OSError, TypeError, ValueError: as `open_rgb` does; ImageError also when the
            resized picture would be enormous.
    """
    return stacked(
        center_crop(resize(plane, spec), spec) for plane in open_planes(source, channels)
    )


def stacked(planes: Iterable[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """The channels of one image, side by side: `[height, width, channels]`.

    A network's pictures are one RGB image or several grey ones (see `open_planes`).
    """
    arrays = list(planes)
    return arrays[0] if arrays[0].ndim == 3 else np.stack(arrays, axis=-1)


def resized_size(size: tuple[int, int], spec: Preprocessing) -> tuple[int, int]:
    """The `(width, height)` that an image of `(width, height)` is resized to.

    A whole number in `spec.resize` is the short side's length; the long side is
    `int(resize * long / short)`, as in torchvision.
    """
    if spec.resize is None:
        return size
    if isinstance(spec.resize, tuple):
        height, width = spec.resize
        return width, height
    width, height = size
    short, long = min(size), max(size)
    new_long = int(spec.resize * long / short)
    return (spec.resize, new_long) if width <= height else (new_long, spec.resize)


def resize(image: Image.Image, spec: Preprocessing) -> Image.Image:
    """Resize an RGB or grey image as `spec` says; returned as is where it has that size already.

    Raises:
        ImageError: the resized picture would be enormous.
    """
    from PIL.Image import Resampling

    size = resized_size(image.size, spec)
    if size == image.size:
        return image
    if size[0] * size[1] > _MAX_RESIZED_PIXELS:
        raise ImageError(
            f"an image of {image.width} x {image.height} pixels would be resized to "
            f"{size[0]} x {size[1]}: it is too long and narrow, crop it first"
        )
    return image.resize(size, Resampling[spec.interpolation.upper()])


def crop_size(spec: Preprocessing) -> tuple[int, int] | None:
    """The `(height, width)` of the crop; None where nothing is cropped."""
    return (spec.crop, spec.crop) if isinstance(spec.crop, int) else spec.crop


def center_crop(image: Image.Image, spec: Preprocessing) -> NDArray[np.uint8]:
    """Cut the middle out of an image, with zeros around it where it is too small.

    Returns:
        The pixels, `[height, width, 3]` of an RGB image and `[height, width]` of a grey one,
        always a fresh array.
    """
    size = crop_size(spec)
    if size is None:
        return np.array(image)
    height, width = size
    left, right, into_x = _crop_span(image.width, width)
    top, bottom, into_y = _crop_span(image.height, height)
    cut = np.asarray(image.crop((left, top, right, bottom)))
    pixels = np.zeros((height, width, *cut.shape[2:]), np.uint8)
    pixels[into_y : into_y + bottom - top, into_x : into_x + right - left] = cut
    return pixels


def _crop_span(size: int, crop: int) -> tuple[int, int, int]:
    """Where a crop lies along one side: from, to in the image, and where that goes in the crop."""
    if size < crop:
        return 0, size, (crop - size) // 2
    start = round((size - crop) / 2)
    return start, start + crop, 0

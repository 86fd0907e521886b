"""① Resize and crop an image as the weights expect it.

The pixels equal those of torchvision's presets, bit for bit. Pillow's antialiased resize comes
first; the long side is rounded down. A centre crop follows; its offset is rounded half to even. A
side that is smaller than the crop is padded with zeros, with the odd pixel at the end.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .budget import Share
from .decode import open_planes
from .errors import ImageError
from .options import DEFAULT, Decoding
from .spec import Preprocessing

if TYPE_CHECKING:
    from PIL import Image

    from .decode import ImageLike

# A strip of 1 x 100000 pixels would grow to 232 x 23 million. This bound is of the same order as
# Pillow's for decoding (twice `MAX_IMAGE_PIXELS`, 179 million pixels): 400 MB of RGB.
_MAX_RESIZED_PIXELS = 1 << 27


def load_pixels(
    source: ImageLike, spec: Preprocessing, channels: int = 3, choices: Decoding = DEFAULT
) -> NDArray[np.uint8]:
    """Decode, resize and crop one image.

    Args:
        source: an image of any kind that `resnet_rs.images.decode` lists.
        spec: resize, crop and filter; its mean and std are not used here.
        channels: the number that the network takes.
        choices: how pictures are decoded.

    Returns:
        Pixels `[height, width, channels]` (RGB for three), uint8. The size is that of the crop,
        if there is one.

    Raises:
        ImageError, OSError, TypeError, ValueError: as `open_rgb` does; ImageError also if the
            resized image would be enormous.
    """
    with Share() as share:
        planes = open_planes(source, channels, choices, share=share, least=_least_draft(spec))
        return stacked(center_crop(resize(plane, spec), spec) for plane in planes)


def _least_draft(spec: Preprocessing) -> int | None:
    """The short side that a JPEG may be decoded at: twice that of the resize."""
    if spec.resize is None:
        return None
    return 2 * (max(spec.resize) if isinstance(spec.resize, tuple) else spec.resize)


def stacked(planes: Iterable[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Stack the planes of one image: `[height, width, channels]`.

    The planes are one RGB array or several grey ones (see `open_planes`).
    """
    arrays = list(planes)
    return arrays[0] if arrays[0].ndim == 3 else np.stack(arrays, axis=-1)


def resized_size(size: tuple[int, int], spec: Preprocessing) -> tuple[int, int]:
    """Return the `(width, height)` that an image of `(width, height)` is resized to.

    An int in `spec.resize` is the length of the short side; the long side is
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
    """Resize an RGB or grey image as `spec` says; an image of that size is returned as it is.

    Raises:
        ImageError: the resized image would be enormous.
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
    """Return the `(height, width)` of the crop; None if there is no crop."""
    return (spec.crop, spec.crop) if isinstance(spec.crop, int) else spec.crop


def center_crop(image: Image.Image, spec: Preprocessing) -> NDArray[np.uint8]:
    """Crop the centre of an image, padded with zeros if the image is too small.

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
    """Place a crop along one side: start and end in the image, and the start in the crop."""
    if size < crop:
        return 0, size, (crop - size) // 2
    start = round((size - crop) / 2)
    return start, start + crop, 0

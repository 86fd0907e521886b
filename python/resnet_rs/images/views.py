"""Test-time augmentation: several views of an image.

He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition" (2015), section 3.4, tests in
two ways: ten crops of each image, "and for best results" the fully convolutional network at
several scales, "averaging the scores". Here the scores are the classes' probabilities, which
`resnet_rs.stream.scores` averages.

| name | views of an image | forwards |
|---|---|---|
| `hflip` | the usual crop and its mirror image | 2 |
| `10crop` | the resized image's corners and centre, and those of its mirror image | 10 |
| `multiscale` | the whole image, short side 224, 256, 384, 480 and 640 | 5 larger ones |
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .budget import Share
from .decode import open_planes
from .errors import ImageError
from .options import DEFAULT, Decoding
from .preprocess import center_crop, crop_size, resize, stacked
from .spec import Preprocessing

if TYPE_CHECKING:
    from PIL import Image

    from .decode import ImageLike

Pixels = NDArray[np.uint8]

VIEWS = {"hflip": 2, "10crop": 10, "multiscale": 5}
"""The protocols, and the number of views that each makes of an image."""

SCALES = (224, 256, 384, 480, 640)
"""The short sides of `multiscale`, in pixels: the paper's."""


def views(
    source: ImageLike,
    spec: Preprocessing,
    channels: int,
    tta: str,
    choices: Decoding = DEFAULT,
) -> tuple[Pixels, ...]:
    """Make a protocol's views of one image.

    Args:
        source: any kind of image that `resnet_rs.images.decode` lists.
        spec: resize, crop and filter. `10crop` needs a crop that the resized image contains;
            `multiscale` uses the filter alone.
        channels: the number of channels that the network takes.
        tta: one of `VIEWS`.
        choices: how pictures are decoded.

    Returns:
        `[height, width, channels]`, `VIEWS[tta]` times.

    Raises:
        ImageError, OSError, TypeError, ValueError: as `load_pixels` does; also ImageError for an
            image that is smaller than the crop, and ValueError if `spec` has no crop.
    """
    with Share() as share:
        planes = open_planes(source, channels, choices, share=share)
        return tuple(_views_of(planes, spec, tta))


def _views_of(planes: list[Image.Image], spec: Preprocessing, tta: str) -> Iterator[Pixels]:
    if tta == "multiscale":
        for side in SCALES:
            scaled = replace(spec, resize=side, crop=None)
            yield stacked(center_crop(resize(plane, scaled), scaled) for plane in planes)
        return
    resized = [resize(plane, spec) for plane in planes]
    if tta == "hflip":
        pixels = stacked(center_crop(plane, spec) for plane in resized)
        yield pixels
        yield np.ascontiguousarray(pixels[:, ::-1])
        return
    assert tta == "10crop"
    for crops in zip(*(_ten_crops(plane, spec) for plane in resized), strict=True):
        yield stacked(crops)


def _ten_crops(image: Image.Image, spec: Preprocessing) -> Iterator[Pixels]:
    """As torchvision's `TenCrop`: four corners and the centre, then those of the mirror image."""
    from PIL.Image import Transpose

    yield from _five_crops(image, spec)
    yield from _five_crops(image.transpose(Transpose.FLIP_LEFT_RIGHT), spec)


def _five_crops(image: Image.Image, spec: Preprocessing) -> Iterator[Pixels]:
    """Top left, top right, bottom left, bottom right, centre."""
    size = crop_size(spec)
    if size is None:
        raise ValueError(
            "tta='10crop' needs a crop, and this model's preprocessing has none: load it with "
            "preprocessing={'resize': 256, 'crop': 224}"
        )
    height, width = size
    if image.height < height or image.width < width:
        raise ImageError(
            f"tta='10crop' cuts {width} x {height} pixels out of the resized image, which has "
            f"{image.width} x {image.height}: use tta='hflip'"
        )
    for top in (0, image.height - height):
        for left in (0, image.width - width):
            yield np.array(image.crop((left, top, left + width, top + height)))
    yield center_crop(image, spec)

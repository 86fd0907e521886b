"""Random changes of photos to learn from: the operations and the draws of torchvision.

| option | operation of torchvision | acts on |
|---|---|---|
| `rotation` | `RandomRotation`, bilinear | the photo |
| `scale`, `ratio` | `RandomResizedCrop`, bilinear with antialiasing | the photo |
| `flip` | `RandomHorizontalFlip` | the crop |
| `brightness`, `contrast`, `saturation` | `ColorJitter` | the crop |
| `erasing` | `RandomErasing` with value 0 | the normalised crop |
| `mixup`, `cutmix` | `MixUp`, `CutMix` | the batch (`resnet_rs.datasets.mixing`) |

They come in this order. For given parameters pixels are those of torchvision, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .. import arguments
from ..images.preprocess import stacked
from .draws import Purpose, uniforms

if TYPE_CHECKING:
    from PIL import Image

Pixels: TypeAlias = NDArray[np.uint8]
Draws: TypeAlias = Sequence[float]
Rectangle: TypeAlias = "tuple[int, int, int, int]"
"""Top, left, height, width."""

_TRIES = 10
_ERASED_SHARE = (0.02, 0.33)
_ERASED_RATIO = (0.3, 3.3)

# The places of each purpose among the draws of one photo.
_ROTATION = slice(0, 1)
_CROP = slice(1, 1 + 4 * _TRIES)
_FLIP = slice(_CROP.stop, _CROP.stop + 1)
_JITTER = slice(_FLIP.stop, _FLIP.stop + 6)
_ERASING = slice(_JITTER.stop, _JITTER.stop + 1 + 4 * _TRIES)
_COUNT = _ERASING.stop


@dataclass(frozen=True, kw_only=True)
class Augment:
    """The random changes of photos to learn from: checked, never changed.

    Attributes:
        scale: the part of a photo's area that a crop takes, from the least to the most; None for
            no random crop: the photo is resized, and its centre is taken, as for measuring.
        ratio: the width of a crop divided by its height, from the least to the most.
        flip: True to turn every other photo left to right. Hands and text have sides.
        rotation: the largest angle in degrees, in both directions; 0 for none.
        brightness: a factor is drawn from 1 - brightness to 1 + brightness; 0 for none.
        contrast: likewise.
        saturation: likewise; grey photos have none.
        erasing: the probability that a rectangle of a photo is erased.
        mixup: the parameter alpha of the Beta distribution, by which two photos of a batch are
            mixed; 0 for none.
        cutmix: the alpha by which a rectangle of one photo is laid over another one; 0 for none. If
            both are on, each batch has either.

    Raises:
        TypeError, ValueError: a value of the wrong type or out of range; the message begins with
            its name.
    """

    scale: tuple[float, float] | None = (0.35, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: bool = False
    rotation: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        if self.scale is not None:
            self._set("scale", _pair("scale", self.scale, 1.0))
        self._set("ratio", _pair("ratio", self.ratio, 1000.0))
        self._set("flip", arguments.flag("flip", self.flip))
        most = {"rotation": 180.0, "mixup": math.inf, "cutmix": math.inf}
        for name in (
            "rotation",
            "brightness",
            "contrast",
            "saturation",
            "erasing",
            "mixup",
            "cutmix",
        ):
            self._set(name, _number(name, getattr(self, name), most.get(name, 1.0)))

    @property
    def mixes(self) -> bool:
        """True if photos of a batch are mixed, so that targets are soft."""
        return self.mixup > 0 or self.cutmix > 0

    def check_channels(self, channels: int) -> None:
        """Check that photos with this number of channels can be changed so.

        Raises:
            ValueError: they have no colours that brightness, contrast and saturation are of.
        """
        if channels not in (1, 3) and (self.brightness or self.contrast or self.saturation):
            raise ValueError(
                "brightness, contrast and saturation are of photos with 1 or 3 channels; these "
                f"have {channels}: pass 0 for all three"
            )

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)


def image_draws(seed: int, epoch: int, index: int) -> list[float]:
    """The random numbers for one photo in one epoch, from 0 up to 1."""
    drawn: list[float] = uniforms(seed, Purpose.IMAGE, epoch, index, _COUNT).tolist()
    return drawn


def changed(
    pixels: Pixels,
    size: int,
    augment: Augment,
    draws: Draws,
    fill: Sequence[int],
    centre: Callable[[Pixels], Pixels],
) -> Pixels:
    """Rotate, crop, flip and jitter one photo.

    Args:
        pixels: the photo, `[height, width, channels]`.
        size: the side of the result, in pixels.
        augment: the changes.
        draws: the photo's random numbers, of `image_draws`.
        fill: the value of each channel in corners that a rotation leaves empty.
        centre: resizes a photo and crops its centre, in place of a random crop if `scale` is None.

    Returns:
        `[size, size, channels]`, uint8.
    """
    if augment.rotation:
        angle = _between(draws[_ROTATION][0], -augment.rotation, augment.rotation)
        pixels = rotated(pixels, angle, fill)
    if augment.scale is None:
        pixels = centre(pixels)
    else:
        box = crop_box(draws[_CROP], pixels.shape[0], pixels.shape[1], augment.scale, augment.ratio)
        pixels = cropped(pixels, box, size)
    return finished(pixels, augment, draws)


def finished(pixels: Pixels, augment: Augment, draws: Draws) -> Pixels:
    """Flip and jitter one crop, uint8 `[height, width, channels]`."""
    if augment.flip and draws[_FLIP][0] < 0.5:
        pixels = pixels[:, ::-1]
    if augment.brightness or augment.contrast or augment.saturation:
        pixels = jittered(pixels, jitter_steps(draws[_JITTER], augment))
    return np.ascontiguousarray(pixels)


def rotated(pixels: Pixels, angle: float, fill: Sequence[int]) -> Pixels:
    """Rotate a photo about its centre by an angle in degrees, counter-clockwise."""
    from PIL.Image import Resampling

    planes = planes_of_pixels(pixels)
    fills: Sequence[Any] = [tuple(fill)] if len(planes) < len(fill) else list(fill)
    return _joined(
        plane.rotate(angle, Resampling.BILINEAR, fillcolor=color)
        for plane, color in zip(planes, fills, strict=True)
    )


def crop_box(
    draws: Draws,
    height: int,
    width: int,
    scale: tuple[float, float],
    ratio: tuple[float, float],
) -> Rectangle:
    """The crop of torchvision's `RandomResizedCrop`, by 40 random numbers."""
    for attempt in range(_TRIES):
        area, aspect, down, right = draws[4 * attempt : 4 * attempt + 4]
        target = height * width * _between(area, *scale)
        shape = _log_between(aspect, *ratio)
        w, h = round(math.sqrt(target * shape)), round(math.sqrt(target / shape))
        if 0 < w <= width and 0 < h <= height:
            return int(down * (height - h + 1)), int(right * (width - w + 1)), h, w
    # The photo is too long and narrow: the largest crop at its centre.
    w = min(width, max(1, round(height * ratio[1])))
    h = min(height, max(1, round(width / ratio[0])))
    return (height - h) // 2, (width - w) // 2, h, w


def cropped(pixels: Pixels, box: Rectangle, size: int) -> Pixels:
    """Crop a photo, and resize the crop to `[size, size, channels]`."""
    from PIL.Image import Resampling

    top, left, height, width = box
    crop = pixels[top : top + height, left : left + width]
    if (height, width) == (size, size):
        return crop
    return _joined(
        plane.resize((size, size), Resampling.BILINEAR) for plane in planes_of_pixels(crop)
    )


def jitter_steps(draws: Draws, augment: Augment) -> list[tuple[str, float]]:
    """The steps of torchvision's `ColorJitter` with their factors, in a drawn order."""
    names = ("brightness", "contrast", "saturation")
    order = sorted(range(3), key=lambda place: draws[3 + place])
    steps = []
    for place in order:
        strength: float = getattr(augment, names[place])
        if strength:
            factor = _between(draws[place], max(0.0, 1 - strength), 1 + strength)
            steps.append((names[place], factor))
    return steps


def jittered(pixels: Pixels, steps: Sequence[tuple[str, float]]) -> Pixels:
    """Change brightness, contrast and saturation, by factors, one after the other."""
    from PIL import ImageEnhance

    kinds: dict[str, Any] = {
        "brightness": ImageEnhance.Brightness,
        "contrast": ImageEnhance.Contrast,
        "saturation": ImageEnhance.Color,
    }
    (image,) = planes_of_pixels(pixels)
    for name, factor in steps:
        if name != "saturation" or image.mode == "RGB":
            image = kinds[name](image).enhance(factor)
    return _joined([image])


def erased_rectangle(augment: Augment, draws: Draws, height: int, width: int) -> Rectangle | None:
    """The rectangle of torchvision's `RandomErasing`; None if nothing is erased."""
    happens, *tries = draws[_ERASING]
    if happens >= augment.erasing:
        return None
    for attempt in range(_TRIES):
        area, aspect, down, right = tries[4 * attempt : 4 * attempt + 4]
        target = height * width * _between(area, *_ERASED_SHARE)
        shape = _log_between(aspect, *_ERASED_RATIO)
        h, w = round(math.sqrt(target * shape)), round(math.sqrt(target / shape))
        if h < height and w < width:
            return int(down * (height - h + 1)), int(right * (width - w + 1)), h, w
    return None


def planes_of_pixels(pixels: Pixels) -> list[Image.Image]:
    """One RGB image for three channels, otherwise a grey one for each channel."""
    from PIL import Image as pillow

    if pixels.shape[2] == 3:
        return [pillow.fromarray(np.ascontiguousarray(pixels))]
    return [
        pillow.fromarray(np.ascontiguousarray(pixels[..., channel]))
        for channel in range(pixels.shape[2])
    ]


def _joined(planes: Any) -> Pixels:
    pixels = stacked(np.asarray(plane) for plane in planes)
    return pixels if pixels.ndim == 3 else pixels[..., None]


def _between(draw: float, least: float, most: float) -> float:
    return least + draw * (most - least)


def _log_between(draw: float, least: float, most: float) -> float:
    return math.exp(_between(draw, math.log(least), math.log(most)))


def _number(name: str, value: Any, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.floating, np.integer)):
        raise TypeError(f"{name} must be a number; got {value!r} ({type(value).__name__})")
    if not 0.0 <= value <= most or math.isinf(value):
        bound = "0 or more" if most == math.inf else f"from 0 to {most:g}"
        raise ValueError(f"{name} must be {bound}; got {value!r}")
    return float(value)


def _pair(name: str, value: Any, most: float) -> tuple[float, float]:
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError(f"{name} must be two numbers, (least, most); got {value!r}")
    low, high = (_number(name, number, most) for number in value)
    if not 0.0 < low <= high:
        raise ValueError(f"{name} must be (least, most) with 0 < least <= most; got {value!r}")
    return low, high

"""Mistakes before the network: wrong ways to prepare an image."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...images.options import DEFAULT, Decoding
from ...images.preprocess import load_pixels
from ...images.spec import Preprocessing

Array: TypeAlias = NDArray[np.float64]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CAFFE_MEAN = (123.68, 116.779, 103.939)
"""The mean that Caffe's and Keras's ResNets subtract: R, G, B on the scale of 0 to 255."""


@dataclass(frozen=True)
class InputMistake:
    """One way to get the network's input wrong.

    Attributes:
        mistake: the class of mistakes: `RGB/BGR`, `wrong normalisation`, ...
        text: a clause that says what was done.
        image: the resulting input, `[batch, height, width, channels]`.
    """

    mistake: str
    text: str
    image: Array


def input_mistakes(
    x: Array, spec: Preprocessing, source: Any = None, choices: Decoding = DEFAULT
) -> Iterator[InputMistake]:
    """Yield the input that each mistake gives, likely mistakes first.

    Args:
        x: the right input, NHWC, normalised as `spec` says.
        spec: how images are prepared.
        source: the image itself (a path, a PIL image, ...). With it, other ways to resize and crop
            are tried too.
        choices: how pictures are decoded.
    """
    mean, std = np.array(spec.mean), np.array(spec.std)
    pixels = x * std + mean  # 0 to 1
    if x.shape[3] == 3:
        yield InputMistake(
            "RGB/BGR", "the channels are B, G, R: the image was read as by OpenCV", x[..., ::-1]
        )
        yield InputMistake(
            "RGB/BGR",
            "the channels are B, G, R, normalised by the numbers of R, G, B",
            (pixels[..., ::-1] - mean) / std,
        )
        yield InputMistake(
            "wrong normalisation",
            "it is Caffe's and Keras's: channels B, G, R, 0 to 255 less 103.939, 116.779, 123.68",
            (255 * pixels - CAFFE_MEAN)[..., ::-1],
        )
    for text, normalise in _normalisations(mean, std):
        yield InputMistake("wrong normalisation", text, normalise(pixels))
        if x.shape[3] == 3:
            yield InputMistake(
                "RGB/BGR and wrong normalisation",
                f"the channels are B, G, R, and {text}",
                normalise(pixels[..., ::-1]),
            )
    yield from _layouts(x)
    if source is not None:
        yield from _geometry(spec, source, choices)


def _normalisations(mean: Array, std: Array) -> Iterator[tuple[str, Callable[[Array], Array]]]:
    """Yield wrong ways to normalise pixels that are 0 to 1."""
    yield "mean and std are not applied: the pixels are 0 to 1", lambda p: p
    yield "nothing is applied: the pixels are 0 to 255", lambda p: 255 * p
    yield "the division by 255 is missing", lambda p: (255 * p - mean) / std
    yield "the division by std is missing", lambda p: p - mean
    yield "the mean is not subtracted", lambda p: p / std
    yield "mean and std are applied twice", lambda p: ((p - mean) / std - mean) / std
    if (mean != 0.5).any() or (std != 0.5).any():
        yield "the pixels are scaled to -1 to 1", lambda p: 2 * p - 1
    yield "the pixels are multiplied by std", lambda p: (p - mean) * std
    if len(mean) == 3:
        yield "the pixels are 0 to 255 less Caffe's mean", lambda p: 255 * p - CAFFE_MEAN
        if tuple(mean) != IMAGENET_MEAN or tuple(std) != IMAGENET_STD:
            yield "mean and std are ImageNet's", lambda p: (p - IMAGENET_MEAN) / IMAGENET_STD


def _layouts(x: Array) -> Iterator[InputMistake]:
    """Yield the picture with its numbers in a wrong order."""
    batch, height, width, channels = x.shape
    kind = "transposed input"
    yield InputMistake(kind, "height and width are swapped (NWHC)", x.transpose(0, 2, 1, 3))
    kind = "reshape for a transpose"
    yield InputMistake(
        kind,
        "NHWC became NCHW by reshape, which moves nothing: transpose(0, 3, 1, 2) is needed",
        x.reshape(batch, channels, height, width).transpose(0, 2, 3, 1),
    )
    yield InputMistake(
        kind,
        "NCHW became NHWC by reshape, which moves nothing: transpose(0, 2, 3, 1) is needed",
        x.transpose(0, 3, 1, 2).reshape(x.shape),
    )
    kind = "flipped picture"
    yield InputMistake(kind, "left and right are swapped", x[:, :, ::-1])
    yield InputMistake(kind, "the picture is upside down", x[:, ::-1])


def _geometry(spec: Preprocessing, source: Any, choices: Decoding) -> Iterator[InputMistake]:
    """Yield the picture resized or cropped in other ways."""
    for text, other in _other_geometries(spec):
        yield InputMistake("another resize or crop", text, _prepare(source, other, choices))


def _other_geometries(spec: Preprocessing) -> Iterator[tuple[str, Preprocessing]]:
    """Yield other usual ways to resize, each with a clause that describes it."""
    for name in ("bilinear", "bicubic", "nearest", "lanczos", "box"):
        if name != spec.interpolation:
            yield (
                f"it was resized with {name}, not {spec.interpolation}",
                replace(spec, interpolation=name),
            )
    if isinstance(spec.crop, int):
        sides: Sequence[int] = sorted({256, 232, 224, spec.crop, spec.crop * 8 // 7})
        for side in sides:
            if side != spec.resize and side >= spec.crop:
                yield (
                    f"the short side was resized to {side}, not {spec.resize}",
                    replace(spec, resize=side),
                )
        yield (
            f"it was squashed to {spec.crop} x {spec.crop}, without keeping its proportions",
            replace(spec, resize=(spec.crop, spec.crop)),
        )


def _prepare(source: Any, spec: Preprocessing, choices: Decoding) -> Array:
    """Load and normalise an image as `spec` says: `[1, height, width, channels]`."""
    pixels = load_pixels(source, spec, len(spec.mean), choices)[None].astype(np.float64)
    image: Array = (pixels / 255 - np.array(spec.mean)) / np.array(spec.std)
    return image

"""Images for low precision: some calibrate, others that no runtime has seen measure the error."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import resnet_rs
from resnet_rs.quantization.images import spread

SEED = 0

DEFAULT_SIDE = 224
"""Height and width where the preprocessing has no crop."""

IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
"""The normalisation of a network whose config.json has none."""


@dataclass(frozen=True)
class Images:
    """Normalised images, f32 `[n, height, width, 3]`: pixels from 0 to 255 before that.

    Attributes:
        calibration: what every runtime calibrates with.
        held_out: what its error is measured on.
        origin: where they are from, for the reader of a table.
    """

    calibration: NDArray[np.float32]
    held_out: NDArray[np.float32]
    origin: str


def smooth_noise(
    weights: Path, calibration: int, held_out: int, size: tuple[int, int] | None = None
) -> Images:
    """Draw coloured noise with an amplitude of 1/frequency, as photos have it.

    White noise would not do: its values leave the range of pixels, and convolutions average most
    of it away.

    Args:
        weights: the network's directory, for its normalisation and the size of its input.
        calibration: how many images calibrate.
        held_out: how many others measure.
        size: height and width, in place of the network's own.
    """
    spec = json.loads((weights / "config.json").read_text(encoding="utf-8")).get("preprocessing")
    spec = {**IMAGENET, **(spec or {})}
    height, width = size or _sides(spec.get("crop") or DEFAULT_SIDE)
    random = np.random.default_rng(SEED)
    pixels = [_smooth_pixels(random, height, width) for _ in range(calibration + held_out)]
    mean, std = (np.array(spec[name], np.float32) for name in ("mean", "std"))
    normalised = (np.stack(pixels).astype(np.float32) / np.float32(255) - mean) / std
    return Images(normalised[:calibration], normalised[calibration:], "smooth noise")


def photos(
    weights: Path, calibration: int, held_out: int, folder: Path, held_out_folder: Path | None
) -> Images:
    """Take photos through the network's own preprocessing.

    Args:
        weights: the network's directory.
        calibration: how many photos calibrate.
        held_out: how many others measure.
        folder: has those that calibrate, chosen evenly from its sorted files.
        held_out_folder: has the others; None takes them from `folder` too.

    Raises:
        ValueError: a folder has too few photos.
        OSError: a folder cannot be read.
    """
    if held_out_folder is None:
        chosen = _spread(folder, calibration + held_out)
        places = {i * len(chosen) // held_out for i in range(held_out)}
        others = [path for i, path in enumerate(chosen) if i in places]
        chosen = [path for i, path in enumerate(chosen) if i not in places]
    else:
        chosen = _spread(folder, calibration)
        others = _spread(held_out_folder, held_out)
    model = resnet_rs.load(weights)
    return Images(model.preprocess(chosen), model.preprocess(others), "photos")


def _smooth_pixels(random: np.random.Generator, height: int, width: int) -> NDArray[np.float64]:
    """One image, `[height, width, 3]`, whole numbers from 0 to 255."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    amplitude = 1 / np.maximum(frequency, 1 / max(height, width))
    amplitude[0, 0] = 0

    def field() -> NDArray[np.float64]:
        white = random.standard_normal((height, width))
        smooth: NDArray[np.float64] = np.fft.irfft2(np.fft.rfft2(white) * amplitude, white.shape)
        return smooth / float(smooth.std())

    light = field()
    colours = np.stack([light + 0.3 * field() for _ in range(3)], axis=-1)
    return np.clip(np.rint(random.uniform(80, 170) + random.uniform(30, 70) * colours), 0, 255)


def _spread(folder: Path, count: int) -> list[str]:
    paths = spread(folder, count)
    if len(paths) < count:
        raise ValueError(f"{folder}: expected at least {count} photos; got {len(paths)}")
    return paths


def _sides(crop: int | list[int]) -> tuple[int, int]:
    height, width = crop if isinstance(crop, list) else (crop, crop)
    return height, width

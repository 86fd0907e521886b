"""The measurement: networks in turns, then their logits of the same photos."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..._core import Network, __version__
from ...options import Options
from ...quantization.images import CalibrationImages
from ...terminal.progress import Meter, Progress
from ...weights.loaded import Loaded
from ..run import NOISE_SEED, Pixels, main_kernel
from ..system import cpu_model
from ..turns import time_in_turns
from .networks import load_precisions
from .result import PrecisionComparison, PrecisionRow

PHOTOS = 100
"""How many photos of a folder are used."""


def compare_precisions(
    options: Options,
    *,
    int8: str | os.PathLike[str] | None = None,
    images: Any = None,
    count: int = PHOTOS,
    batch: int = 1,
    size: tuple[int, int] | None = None,
    seconds: float = 5.0,
    progress: Progress,
) -> PrecisionComparison:
    """Measure a network in f32 and in each other precision that it can have here.

    The networks are in memory together and take turns, so that a slow phase of the machine slows
    all of them. They get pixels, as `predict` gives them; the time does not depend on the values.

    Args:
        options: the f32 weights, and how to load them; `precision` is not looked at.
        int8: a directory with the same network in int8, as `resnet-rs quantize` writes it. Without
            it, int8 is made of `images` by `quantization.quantize`.
        images: photos to compare labels on: a folder, or what `quantization.quantize` takes. None
            compares no labels, and leaves int8 out if `int8` is None.
        count: how many of a folder's photos to use.
        batch: the images in a timed call.
        size: the height and width of the timed input; by default the size that the weights'
            preprocessing makes.
        seconds: how long to time each precision.
        progress: where to show what is being done.

    Raises:
        FileNotFoundError, WeightsError, UnsupportedIsaError, ValueError: as `load_precisions` does.
        ImageError, OSError: no image can be read.
        TypeError: something is not an image.
        MemoryError: the networks or their activations do not fit in memory.
    """
    with tempfile.TemporaryDirectory(prefix="resnet_rs-precisions-") as scratch:
        precisions = load_precisions(
            options, int8=int8, images=images, count=count, scratch=scratch, progress=progress
        )
        f32 = precisions.found["f32"].loaded
        networks = {name: one.loaded.network for name, one in precisions.found.items()}
        x = _pixels(batch, size or f32.input_size, f32.config.in_channels)
        calls = time_in_turns(list(networks.values()), x, seconds, progress)
        labels = None if images is None else _Labels(f32, networks, images, count, progress)
    ms = [float(np.median(timed)) * 1e3 for timed in calls]
    rows = []
    for place, (name, one) in enumerate(precisions.found.items()):
        compared = None if labels is None else labels.of.get(name)
        rows.append(
            PrecisionRow(
                precision=name,
                kernel=main_kernel(networks[name], x),
                median_ms=ms[place],
                calls=len(calls[place]),
                speedup=ms[0] / ms[place],
                memory_mb=one.memory_mb,
                disk_bytes=one.disk_bytes,
                agreement=compared and compared[0],
                relative_error=compared and compared[1],
            )
        )
    return PrecisionComparison(
        version=__version__,
        cpu=cpu_model(),
        isa=networks["f32"].isa,
        threads=networks["f32"].threads,
        batch=batch,
        height=x.shape[1],
        width=x.shape[2],
        photos=0 if labels is None else labels.photos,
        skipped=0 if labels is None else labels.skipped,
        calibrated_here=int8 is None and "int8" in networks,
        rows=tuple(rows),
        left_out=precisions.left_out,
    )


def _pixels(batch: int, size: tuple[int, int], channels: int) -> Pixels:
    generator = np.random.default_rng(NOISE_SEED)
    return generator.integers(0, 256, (batch, *size, channels), np.uint8)


class _Labels:
    """The logits of photos in each precision, beside those in f32.

    Attributes:
        photos: how many were compared.
        skipped: how many could not be read.
        of: by precision, `f32` left out: the part of the photos whose largest logit is that of f32
            (None without classes), and the length of all differences by that of the f32 logits.
    """

    def __init__(
        self,
        f32: Loaded,
        networks: Mapping[str, Network],
        images: Any,
        count: int,
        progress: Progress,
    ) -> None:
        others = {name: network for name, network in networks.items() if name != "f32"}
        self.photos = 0
        same = dict.fromkeys(others, 0)
        noise = dict.fromkeys(others, 0.0)
        signal = 0.0
        meter = Meter(progress)
        source = CalibrationImages(f32, images, count)
        meter.total = source.count
        for x in source.batches():
            expected = f32.network.logits(x).astype(np.float64)
            signal += float(np.square(expected).sum())
            for name, network in others.items():
                found = network.logits(x)
                noise[name] += float(np.square(found - expected).sum())
                same[name] += int((found.argmax(axis=1) == expected.argmax(axis=1)).sum())
            self.photos += len(x)
            meter.show(self.photos)
        self.skipped = len(source.skipped)
        self.of: dict[str, tuple[float | None, float]] = {
            name: (
                same[name] / self.photos if f32.network.num_classes else None,
                float(np.sqrt(noise[name] / signal)) if signal else float(noise[name] > 0),
            )
            for name in others
        }

"""Calibration images: from whatever the caller has to batches of the network's input."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import arguments
from ..evaluation.figures import Skipped
from ..images.batches import MAX_BATCH_PIXELS, Views, as_list, grouped, load_in_order, stack_batch
from ..images.errors import ImageError
from ..images.preprocess import load_pixels
from ..results import Result
from ..stream.folder.paths import Sources
from ..weights.loaded import Loaded

Batch = NDArray[np.uint8] | NDArray[np.float32]

COUNT = 300
"""How many images of a folder calibrate."""

ON_ERROR = ("skip", "raise")
"""The ways to go on after an image that cannot be read."""

SAMPLE = 32
"""How many of the images are kept, to compare networks with."""


def spread(
    folder: str | os.PathLike[str],
    count: int = COUNT,
    failed: Callable[[str, OSError], None] = lambda path, error: None,
) -> list[str]:
    """Choose images of a folder, evenly over its sorted files.

    A folder with a folder of photos for each class so gives some of every class.

    Args:
        folder: the folder; subfolders are searched too.
        count: how many; all, if there are fewer.
        failed: called with the path of a subfolder that cannot be read, and the error.

    Raises:
        ValueError: there is no image, or `count` is below 1.
        OSError: the folder cannot be read.
    """
    count = arguments.count("count", count)
    os.listdir(folder)  # the search below passes over folders that cannot be read
    paths = list(Sources([os.fspath(folder)], on_error=failed))
    if not paths:
        raise ValueError(f"{os.fspath(folder)}: expected images to calibrate with; there is none")
    return [paths[place] for place in evenly(len(paths), count)]


class CalibrationImages:
    """The images of a calibration, loaded as they are needed.

    Args:
        loaded: the f32 network, whose preprocessing applies.
        images: a folder; one image or several, as `ResNet` describes; or float32
            `[n, height, width, channels]`, normalised, as `ResNet.forward` takes.
        count: how many of a folder's images to use.
        on_error: `skip` to leave out an image or a subfolder that cannot be read, and note it in
            `skipped`; `raise` to raise its error.

    Attributes:
        count: the number of images that are to be read.
        used: the number of images that were read so far.
        skipped: those that could not be read.
        sample: after `batches` has ended, up to `SAMPLE` of the images, `[1, h, w, c]` each.

    Raises:
        OSError: the folder cannot be read; also for subfolders if `on_error` is `raise`.
        ValueError: no such `on_error`; there is no image, or a normalised array has another shape
            or size, or values that are not finite.
        TypeError: an array of another dtype.
    """

    def __init__(
        self, loaded: Loaded, images: Any, count: int = COUNT, *, on_error: str = "skip"
    ) -> None:
        self._loaded = loaded
        self._raises = arguments.choice("on_error", on_error, ON_ERROR) == "raise"
        self.skipped: list[Skipped] = []
        self.used = 0
        self._first: ImageError | OSError | None = None
        if isinstance(images, (str, os.PathLike)) and os.path.isdir(images):
            images = spread(images, count, self._skip)
        self._array: NDArray[np.float32] | None = None
        self._sources: Sequence[Any] = ()
        if isinstance(images, np.ndarray) and images.dtype == np.float32:
            self._array = _checked(loaded, images)
            self.count = len(self._array)
        else:
            self._sources = as_list(images)[0]
            self.count = len(self._sources)
        if not self.count:
            raise ValueError("calibration: expected at least one image; got none")
        self.sample: list[Batch] = []

    def batches(self) -> Iterator[Batch]:
        """Yield all images in order, in batches of one size.

        Raises:
            ImageError, OSError: an image cannot be read, and `on_error` is `raise`, or no image
                can be read; the message names it.
            TypeError, ValueError: something is not an image, or has other channels than the
                network; at the end, if every image is of a single colour.
        """
        self.used = 0
        self._first = None
        chosen = set(evenly(self.count, SAMPLE))
        sample: list[Batch] = []
        varied = False
        for batch in self._loaded_batches():
            for image in batch:
                if self.used in chosen:
                    sample.append(image[None])
                varied = varied or bool((image != image[:1, :1]).any())
                self.used += 1
            yield batch
        if not self.used and self._first is not None:
            raise self._first
        if not varied:
            raise ValueError(
                f"calibration: each of the {self.used} image(s) is of a single colour, which "
                "calibrates nothing: expected photos like those that the network will see"
            )
        self.sample = sample

    def _loaded_batches(self) -> Iterator[Batch]:
        if self._array is not None:
            height, width = self._array.shape[1:3]
            step = max(1, MAX_BATCH_PIXELS // (height * width))
            for start in range(0, self.count, step):
                yield self._array[start : start + step]
            return
        config, options = self._loaded.config, self._loaded.options

        def load(source: Any) -> Views:
            return (load_pixels(source, config.preprocessing, config.in_channels, options),)

        if self._raises:
            views = load_in_order(self._sources, load, single=self.count == 1)
        else:
            views = self._readable(load)
        for group in grouped(views):
            yield stack_batch(group)

    def _readable(self, load: Callable[[Any], Views]) -> Iterator[Views]:
        """Load the images that can be read, and note the others."""
        for source in self._sources:
            try:
                views = load(source)
            except (ImageError, OSError) as error:
                self._skip(source, error)
            else:
                yield views

    def _skip(self, source: Any, error: ImageError | OSError) -> None:
        if self._raises:
            raise error
        self._first = self._first or error
        reason = Result(len(self.skipped), source, error=error).reason
        self.skipped.append(Skipped(source, reason or ""))


def evenly(total: int, count: int) -> list[int]:
    """Up to `count` places of `total`, evenly spaced."""
    if total <= count:
        return list(range(total))
    return [place * total // count for place in range(count)]


def _checked(loaded: Loaded, images: NDArray[np.float32]) -> NDArray[np.float32]:
    x = arguments.network_input(images, loaded.config.in_channels)
    if x.ndim != 4:
        raise ValueError(
            "calibration: expected normalised images [n, height, width, "
            f"{loaded.config.in_channels}]; got shape {list(x.shape)}"
        )
    if loaded.config.preprocessing.has_one_size and x.shape[1:3] != loaded.input_size:
        raise ValueError(
            f"calibration: expected images of {' x '.join(map(str, loaded.input_size))}, as the "
            f"model's preprocessing makes them; got {x.shape[1]} x {x.shape[2]}"
        )
    for place, image in enumerate(x):
        if not np.isfinite(image).all():
            raise ValueError(
                f"calibration: image {place} holds {image[~np.isfinite(image)][0]}; expected "
                "finite values"
            )
    return x

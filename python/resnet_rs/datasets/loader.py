"""`Loader`: batches for training or for measuring, made beside the computing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import arguments
from .._core import default_threads
from ..images.options import DEFAULT, Decoding
from ..images.spec import Preprocessing
from ..stream.pipeline import Pipeline
from .augment import Augment, changed, erased_rectangle, image_draws
from .draws import Purpose, checked_seed, permutation
from .errors import DataError
from .labelled import Labelled
from .mixing import mixed
from .photos import (
    MEAN,
    STD,
    PhotoCache,
    Pixels,
    Prepared,
    Reader,
    Reduced,
    channels_of,
    read_pixels,
)

_RESIZE = 232 / 224
_MOST_WORKERS = 256


@dataclass(frozen=True, eq=False)
class Batch:
    """Photos as a network takes them.

    Attributes:
        x: normalised, float32 `[n, height, width, channels]`, C-contiguous.
        y: labels, int64 `[n]`; or, if photos were mixed, the weight of each class, float32
            `[n, classes]`.
        indices: the photos' places in the set, int64 `[n]`.
    """

    x: NDArray[np.float32]
    y: NDArray[np.int64] | NDArray[np.float32]
    indices: NDArray[np.int64]


def measuring(
    size: int,
    *,
    resize: int | None = None,
    channels: int = 3,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
) -> Preprocessing:
    """The preprocessing by which a network that was trained at `size` is measured and used.

    Args:
        size: the side of the centre crop, in pixels.
        resize: the short side before; None for `size` x 232 / 224, as torchvision's IMAGENET1K_V2.
        channels: the number of channels.
        mean: subtracted from each channel, in units of the full range 0 to 1; None for ImageNet's
            if there are three channels, else 0.5.
        std: the divisor of each channel after that; None likewise.

    Raises:
        TypeError, ValueError: an argument of another kind or out of range.
    """
    size = arguments.count("size", size)
    resize = round(size * _RESIZE) if resize is None else arguments.count("resize", resize)
    mean = _values("mean", mean, MEAN, channels)
    std = _values("std", std, STD, channels)
    if min(std) <= 0:
        raise ValueError(f"std must be above 0; got {std!r}")
    return Preprocessing(resize, size, "bilinear", mean, std)


class Loader:
    """Makes batches of labelled photos.

    With `augment` it makes batches to learn from: photos in a drawn order, changed at random.
    Without, it makes batches to measure on: photos in their order, prepared as the network does
    when it predicts.

    A batch is a function of the seed, the epoch and the photos: it is the same to the bit for any
    number of workers, with a cache or without, and after a resumption.

    Args:
        photos: the photos.
        batch_size: the number of photos in a batch; the last one of an epoch has the rest.
        size: the side of the network's input, in pixels.
        resize: for measuring, the short side before the centre crop, as `measuring` takes it.
        mean: subtracted from each channel, as `measuring` takes it.
        std: the divisor of each channel after that, likewise.
        preprocessing: for measuring, that of a network, in place of `resize`, `mean` and `std`; it
            makes images of `size`.
        augment: the random changes; None to measure.
        seed: the seed, from 0 to 2^64 - 1.
        workers: the number of threads that read; by default the CPUs that a model would use.
        cache: keeps photos in memory; None for a new one.
        drop_last: True to leave out the last batch if it is not full. To learn from, a last batch
            of one photo is left out in any case, since batch norm cannot learn from it.
        channels: the number of channels of files, 3 or 1; that of pixels in memory is theirs.
        choices: how pictures are decoded.

    Attributes:
        photos: the photos.
        reader: reads a photo; a check with the same one fills the cache.
        cache: the cache.
        preprocessing: the one that was given, or that of `measuring`, for the network's
            config.json.
        remarks: sentences about photos that are left out.
        waited_s: the seconds that all iterators have waited for photos.

    Raises:
        DataError: there are too few photos for a batch.
        TypeError, ValueError: an argument of another kind or out of range.
    """

    def __init__(
        self,
        photos: Labelled,
        *,
        batch_size: int,
        size: int,
        resize: int | None = None,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        preprocessing: Preprocessing | None = None,
        augment: Augment | None = None,
        seed: int = 0,
        workers: int | None = None,
        cache: PhotoCache | None = None,
        drop_last: bool = False,
        channels: int | None = None,
        choices: Decoding = DEFAULT,
    ) -> None:
        self.photos = photos
        channels = channels_of(photos, channels)
        spec = measuring(size, resize=resize, channels=channels, mean=mean, std=std)
        if preprocessing is not None:
            _check_fits(preprocessing, spec, resize, mean, std, augment)
            spec = preprocessing
        self.preprocessing = spec
        self.cache = PhotoCache() if cache is None else cache
        self.waited_s = 0.0
        self._batch_size = arguments.count("batch_size", batch_size)
        self._size = size
        self._augment = augment
        self._seed = checked_seed(seed)
        self._workers = (
            default_threads()
            if workers is None
            else arguments.count("workers", workers, most=_MOST_WORKERS)
        )
        self._normal = _Normal(size, spec.mean, spec.std)
        self._fill = [round(255 * value) for value in spec.mean]
        self.reader: Reader
        if augment is None:
            self.reader = Prepared(self.preprocessing, channels, choices)
        else:
            augment.check_channels(channels)
            self.reader = Reduced.for_crops(size, channels, choices)
        whole = arguments.flag("drop_last", drop_last)
        self._used, self.remarks = _used(len(photos), self._batch_size, whole, augment is not None)

    def __len__(self) -> int:
        """The number of batches of an epoch."""
        return -(-self._used // self._batch_size)

    def epoch(self, number: int = 0, *, skip: int = 0) -> Batches:
        """Begin an epoch: threads read its first photos at once.

        Args:
            number: the epoch's number, from 0.
            skip: the number of batches at the beginning that are left out, to go on in the middle.

        Returns:
            An iterator of `Batch`es. `close()` stops its threads, as do the last batch, leaving a
            `with` block, an error, and dropping it.
        """
        number = arguments.count("number", number, least=0)
        skip = arguments.count("skip", skip, least=0)
        count = len(self.photos)
        if self._augment is None:
            order = np.arange(count, dtype=np.int64)
        else:
            order = permutation(self._seed, Purpose.ORDER, number, 0, count)
        return Batches(self, number, order[: self._used], skip)

    def _load(self, index: int, epoch: int) -> tuple[NDArray[Any], ...]:
        """The pixels of one photo, uint8, and the rectangle to erase, if any."""
        augment = self._augment
        pixels = read_pixels(self.photos, index, self.reader, self.cache)
        if augment is None:
            return pixels, _NOTHING
        draws = image_draws(self._seed, epoch, index)
        centre = Prepared(self.preprocessing, pixels.shape[2])
        pixels = changed(pixels, self._size, augment, draws, self._fill, centre)
        rectangle = erased_rectangle(augment, draws, self._size, self._size)
        return pixels, _NOTHING if rectangle is None else np.array(rectangle, np.int64)

    def _batch(
        self, epoch: int, number: int, indices: NDArray[np.int64], loaded: list[Any]
    ) -> Batch:
        x = self._normal.batch([pixels for pixels, _ in loaded])
        for image, (_, rectangle) in zip(x, loaded, strict=True):
            top, left, height, width = rectangle.tolist()
            image[top : top + height, left : left + width] = 0.0
        y = self.photos.labels[indices]
        if self._augment is None or not self._augment.mixes:
            return Batch(x, y, indices)
        classes = len(self.photos.classes)
        return Batch(*mixed(x, y, classes, self._augment, self._seed, epoch, number), indices)


_NOTHING = np.zeros(4, np.int64)


class Batches(Iterator[Batch]):
    """The batches of one epoch, made by `Loader.epoch`.

    Attributes:
        waited_s: the seconds that the caller has waited for photos up to now.
    """

    def __init__(self, loader: Loader, epoch: int, order: NDArray[np.int64], skip: int) -> None:
        self.waited_s = 0.0
        self._loader = loader
        self._epoch = epoch
        self._order = order
        self._next = skip
        size = loader._batch_size
        self._pipeline = Pipeline(
            order[skip * size :].tolist(),
            lambda index: loader._load(index, epoch),
            lambda items, _: items,
            batch_size=size,
            computers=1,
            workers=loader._workers,
        )
        self._pipeline.start()

    def __len__(self) -> int:
        """The number of batches that are left."""
        return max(0, len(self._loader) - self._next)

    def __next__(self) -> Batch:
        size = self._loader._batch_size
        indices = self._order[self._next * size : (self._next + 1) * size]
        before = time.perf_counter()
        try:
            loaded = [self._take() for _ in indices]
        except BaseException:
            self.close()
            raise
        finally:
            waited = time.perf_counter() - before
            self.waited_s += waited
            self._loader.waited_s += waited
        if not loaded:
            self.close()
            raise StopIteration
        number = self._next
        self._next += 1
        return self._loader._batch(self._epoch, number, indices, loaded)

    def _take(self) -> Any:
        outcome = next(self._pipeline)
        if outcome.error is not None:
            raise outcome.error
        return outcome.value

    def close(self) -> None:
        """Stop the threads: it takes as long as the photo that each of them is at."""
        self._pipeline.close()

    def __enter__(self) -> Batches:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Normal:
    """Normalises photos: `(value / 255 - mean) / std`, rounded as the core does.

    Rows are taken as a whole: NumPy is slow on an inner axis of three.
    """

    def __init__(self, size: int, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        self._shape = (size, size * len(mean))
        self._mean = np.tile(np.array(mean, np.float32), size)
        self._std = np.tile(np.array(std, np.float32), size)

    def batch(self, images: list[Pixels]) -> NDArray[np.float32]:
        """Normalise photos of `size`, and stack them."""
        x = np.empty((len(images), *images[0].shape), np.float32)
        # One after the other: a photo fits the nearest cache.
        for out, pixels in zip(x, images, strict=True):
            rows = out.reshape(self._shape)
            rows[:] = pixels.reshape(self._shape)
            rows /= np.float32(255)
            rows -= self._mean
            rows /= self._std
        return x


def _values(name: str, values: Any, default: tuple[float, ...], channels: int) -> tuple[float, ...]:
    if values is None:
        return default if channels == len(default) else (0.5,) * channels
    found = np.asarray(values, np.float64)
    if found.shape != (channels,) or not np.isfinite(found).all():
        raise ValueError(f"{name} must be {channels} numbers, one for each channel; got {values!r}")
    return tuple(found.tolist())


def _check_fits(own: Preprocessing, spec: Preprocessing, *others: Any) -> None:
    """Check that a network's own preprocessing can take the place of that of `measuring`."""
    if any(other is not None for other in others):
        raise ValueError(
            "preprocessing is for measuring, in place of resize, mean and std, and without augment"
        )
    expected, found = (spec.input_size, len(spec.mean)), (own.input_size, len(own.mean))
    if not own.has_one_size or found != expected:
        (height, width), channels = expected
        raise ValueError(
            f"preprocessing must make images of {height} x {width} pixels and {channels} channels, "
            f"by size and photos; got {own}"
        )


def _used(count: int, batch_size: int, whole: bool, learns: bool) -> tuple[int, tuple[str, ...]]:
    """The number of photos of an epoch that are used, and a remark on the others."""
    rest = count % batch_size
    if rest and whole:
        used = count - rest
    elif learns and rest == 1 and batch_size > 1:
        used = count - 1
    else:
        return count, ()
    if not used:
        raise DataError(
            f"expected photos for a batch of {batch_size if whole else 2} or more; found {count}: "
            "add photos" + (", or pass a smaller batch_size" if whole else "")
        )
    cause = (
        "a last batch that is not full is left out"
        if whole
        else "batch norm cannot learn from a last batch of one photo"
    )
    each = ", others each time" if learns else ""
    return used, (f"{count - used} of {count} photos left out of each epoch{each}: {cause}",)

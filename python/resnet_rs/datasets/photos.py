"""From a photo to pixels, for training and for measuring, and a cache of them in memory."""

from __future__ import annotations

import math
import os
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .. import arguments
from ..images.budget import Share
from ..images.decode import open_planes
from ..images.options import DEFAULT, Decoding
from ..images.preprocess import load_pixels, resize, stacked
from ..images.spec import Preprocessing, preset
from .labelled import Labelled
from .memory import available_bytes

Pixels: TypeAlias = NDArray[np.uint8]

_PRESET = preset("IMAGENET1K_V2")
MEAN: tuple[float, ...] = _PRESET["mean"]
STD: tuple[float, ...] = _PRESET["std"]
"""ImageNet's mean and deviation of each channel, in units of the full range 0 to 1."""

CACHE_SHARE = 0.25
"""The share of the available memory that a cache takes by default, at most."""

_RANDOM_CROP_MARGIN = 1.5


@dataclass(frozen=True)
class Reduced:
    """Reads photos for training: whole, upright, and no larger than crops need.

    Attributes:
        short_side: a photo whose shorter side is longer is resized to it, in pixels.
        channels: the number that the network takes.
        choices: how pictures are decoded. Large JPEG files are decoded at a reduced size in any
            case, at least twice the size that they are resized to.
    """

    short_side: int
    channels: int = 3
    choices: Decoding = DEFAULT

    @classmethod
    def for_crops(cls, size: int, channels: int = 3, choices: Decoding = DEFAULT) -> Reduced:
        """The reader for random crops that are resized to `size`: 1.5 times that."""
        return cls(math.ceil(size * _RANDOM_CROP_MARGIN), channels, choices)

    def __call__(self, source: Any) -> Pixels:
        """Read one photo.

        Returns:
            Pixels `[height, width, channels]`, uint8.

        Raises:
            ImageError, OSError, TypeError, ValueError: as `open_rgb` does.
        """
        choices = _with_draft(self.choices)
        spec = Preprocessing(self.short_side, None, "bilinear", MEAN, STD)
        with Share() as share:
            planes = open_planes(
                source, self.channels, choices, share=share, least=2 * self.short_side
            )
            if min(planes[0].size) > self.short_side:
                planes = [resize(plane, spec) for plane in planes]
            pixels = stacked(np.array(plane) for plane in planes)
        return pixels if pixels.ndim == 3 else pixels[..., None]


@dataclass(frozen=True)
class Prepared:
    """Reads photos as a network with this preprocessing does when it predicts, to the bit.

    Attributes:
        spec: resize, crop and filter.
        channels: the number that the network takes.
        choices: how pictures are decoded.
    """

    spec: Preprocessing
    channels: int = 3
    choices: Decoding = DEFAULT

    def __call__(self, source: Any) -> Pixels:
        """Read one photo.

        Returns:
            Pixels `[height, width, channels]`, uint8.

        Raises:
            ImageError, OSError, TypeError, ValueError: as `load_pixels` does.
        """
        pixels = load_pixels(source, self.spec, self.channels, self.choices)
        return pixels if pixels.ndim == 3 else pixels[..., None]


Reader: TypeAlias = "Callable[[Any], Pixels]"
"""Reads one photo; two readers that are equal give the same pixels."""


class PhotoCache:
    """Photos in memory, as their readers have read them.

    It keeps what a reader gives, so results with it and without it are the same to the bit. Once
    it is full, further photos are read anew each time. Several threads may use it.

    Args:
        limit: the bytes to keep at most; None for a quarter of the memory that the process may
            still take when the cache is made.

    Attributes:
        limit: the bytes to keep at most.
        is_full: True once a photo found no room.
    """

    def __init__(self, limit: int | None = None) -> None:
        if limit is None:
            limit = int(available_bytes() * CACHE_SHARE)
        self.limit = arguments.count("limit", limit, least=0, most=None)
        self._kept: dict[tuple[Reader, Path], Pixels] = {}
        self.is_full = False
        self._bytes = 0
        self._lock = threading.Lock()
        _caches.add(self)

    def __len__(self) -> int:
        """The number of photos that are kept."""
        return len(self._kept)

    @property
    def nbytes(self) -> int:
        """The memory that they take, in bytes."""
        return self._bytes

    def get(self, reader: Reader, path: Path) -> Pixels:
        """The pixels of a photo: those that are kept, or read now, and kept if there is room.

        Raises:
            ImageError, OSError: as the reader does.
        """
        pixels = self._kept.get((reader, path))
        if pixels is not None:
            return pixels
        pixels = reader(path)
        pixels.setflags(write=False)
        with self._lock:
            if self._bytes + pixels.nbytes > self.limit:
                self.is_full = True
            elif self._kept.setdefault((reader, path), pixels) is pixels:
                self._bytes += pixels.nbytes
        return pixels

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()


def read_pixels(photos: Labelled, index: int, reader: Reader, cache: PhotoCache) -> Pixels:
    """The pixels of one photo of a set, by a reader.

    Pixels that are in memory already are not kept a second time. `Reduced` leaves them as they
    are.

    Raises:
        ImageError, OSError: as the reader does.
    """
    image = photos.images[index]
    if not isinstance(image, np.ndarray):
        return cache.get(reader, image)
    return image if isinstance(reader, Reduced) else reader(image)


def channels_of(photos: Labelled, channels: int | None) -> int:
    """The number of channels: that of pixels in memory, else the one given, else 3.

    Raises:
        TypeError, ValueError: it is no such number, or pixels have another one.
    """
    images = photos.images
    if channels is not None:
        channels = arguments.count("channels", channels)
    if not isinstance(images, np.ndarray):
        return 3 if channels is None else channels
    found: int = images.shape[-1]
    if channels not in (None, found):
        raise ValueError(f"channels must be {found}, as the photos have; got {channels}")
    return found


def _with_draft(choices: Decoding) -> Decoding:
    return choices if choices.draft else replace(choices, draft=True)


_caches: weakref.WeakSet[PhotoCache] = weakref.WeakSet()


def _after_fork() -> None:
    """Renew the locks in a forked child: a thread of the parent may have held one."""
    for cache in list(_caches):
        cache._renew_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

"""Images as arrays, gathered into batches of one shape, a few at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .errors import ImageError
from .options import DEFAULT, Decoding
from .preprocess import load_pixels
from .spec import Preprocessing

if TYPE_CHECKING:
    from .decode import ImageLike

Views: TypeAlias = "tuple[NDArray[np.uint8], ...]"
"""One image as it is loaded: uint8 `[height, width, channels]`, one array as a rule, several for
test-time augmentation."""

MAX_BATCH_PIXELS = 32 * 224 * 224
"""The pixels of a batch, at most: 32 images of 224 x 224.

It is enough to keep many cores busy, and few enough that the activations of a long list do not pile
up. An image that is larger is a batch of its own.
"""

SIZES_DIFFER = (
    "these images differ in size after preprocessing, so their results make no single array: "
    "pass them one by one"
)


def as_list(images: Any) -> tuple[Sequence[ImageLike], bool]:
    """Tell one image from several.

    Several are a list, a tuple, a `[n, height, width, channels]` array or a one-dimensional
    array of objects (as Ray and pandas make them of images that differ in size).

    Returns:
        The images in order, and whether the caller gave a single one.
    """
    if isinstance(images, (list, tuple)):
        return images, False
    if isinstance(images, np.ndarray) and (
        images.ndim == 4 or (images.ndim == 1 and images.dtype == object)
    ):
        return list(images), False
    return [images], True


def load_in_order(
    images: Sequence[ImageLike], load: Callable[[Any], Views], *, single: bool
) -> Iterator[Views]:
    """Load images one after another.

    Args:
        images: the images in order.
        load: loads one.
        single: True if the caller gave one image, so that errors need not say which.

    Raises:
        ImageError, OSError, TypeError, ValueError: as `load` does; for several images the message
            says which one it was, counted from 0.
    """
    for index, image in enumerate(images):
        try:
            views = load(image)
        except (OSError, TypeError, ValueError) as error:
            if single:
                raise
            raise _with_place(index, error) from error
        yield views


def grouped(images: Iterable[Views]) -> Iterator[list[Views]]:
    """Group neighbours whose views have the same shapes.

    Yields:
        All images in order, in groups of one image or of `MAX_BATCH_PIXELS` at most.
    """
    group: list[Views] = []
    for views in images:
        area = sum(view.shape[0] * view.shape[1] for view in views)
        if group and (
            shapes_of(views) != shapes_of(group[0]) or (len(group) + 1) * area > MAX_BATCH_PIXELS
        ):
            yield group
            group = []
        group.append(views)
    if group:
        yield group


def single_batch(
    images: Any, spec: Preprocessing, *, channels: int = 3, choices: Decoding = DEFAULT
) -> NDArray[np.uint8]:
    """Load images, resize and crop them, and stack all of them.

    Args:
        images: one image or several, as `as_list` tells them apart.
        spec: how to resize and crop them.
        channels: the number of channels that the network takes.
        choices: how pictures are decoded.

    Returns:
        Pixels `[n, height, width, channels]`; n is 1 for one image.

    Raises:
        ImageError, OSError, TypeError: as `load_in_order` does.
        ValueError: as `load_in_order` does; also for an empty list, and if the images differ in
            size after preprocessing.
    """
    sources, single = as_list(images)
    if not sources:
        raise ValueError("preprocess needs at least one image; got an empty list")

    def load(source: ImageLike) -> Views:
        return (load_pixels(source, spec, channels, choices),)

    loaded = list(load_in_order(sources, load, single=single))
    if len(set(map(shapes_of, loaded))) > 1:
        raise ValueError(SIZES_DIFFER)
    return stack_batch(loaded)


def stack_batch(batch: Sequence[Views]) -> NDArray[np.uint8]:
    """The network's input `[n, height, width, channels]` from n images of one view each."""
    return np.stack([view for (view,) in batch])


def shapes_of(views: Views) -> tuple[tuple[int, ...], ...]:
    """The shapes of an image's views, which the images of a batch have in common."""
    return tuple(view.shape for view in views)


def bytes_of(views: Views) -> int:
    """The memory that an image's views take, in bytes."""
    return sum(view.nbytes for view in views)


def _with_place(index: int, error: Exception) -> Exception:
    """The same error, with the image's place in the list."""
    if isinstance(error, OSError):
        # The constructor picks the subclass (FileNotFoundError, ...) by errno.
        return OSError(error.errno, f"{error.strerror} (image {index} of the list)", error.filename)
    kind = next(k for k in (ImageError, TypeError, ValueError) if isinstance(error, k))
    return kind(f"image {index} of the list: {error}")

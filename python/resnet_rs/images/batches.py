"""① Images gathered into batches of one size, a few at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .decode import ImageError
from .preprocess import load_pixels
from .spec import Preprocessing

if TYPE_CHECKING:
    from .decode import ImageLike

# 32 images of 224 x 224: enough to keep many cores busy, few enough that the activations of a
# long list do not pile up. One image that is larger than this is a batch of its own.
MAX_BATCH_PIXELS = 32 * 224 * 224

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


def batches(
    images: Sequence[ImageLike], spec: Preprocessing, *, single: bool = False, channels: int = 3
) -> Iterator[NDArray[np.uint8]]:
    """Load images, resize and crop them, and stack neighbours of one size.

    Args:
        images: the images in order.
        spec: how to resize and crop them.
        single: the caller gave one image, so errors need not say which.
        channels: how many the network takes.

    Yields:
        Pixels `[n, height, width, channels]`, C-contiguous, all images in order; n is 1 or
        `n * height * width` at most `MAX_BATCH_PIXELS`.

    Raises:
        ImageError, OSError, TypeError, ValueError: as `load_pixels` does, and for several images
            the message says which one it was, counted from 0.
    """
    return batches_of_views(
        images, lambda image: [load_pixels(image, spec, channels)], single=single
    )


def single_batch(images: Any, spec: Preprocessing, *, channels: int = 3) -> NDArray[np.uint8]:
    """Load images, resize and crop them, and stack all of them.

    Args:
        images: one image or several, as `as_list` tells them apart.
        spec: how to resize and crop them.
        channels: how many the network takes.

    Returns:
        Pixels `[n, height, width, channels]`; n is 1 for one image.

    Raises:
        ImageError, OSError, TypeError: as `batches` does.
        ValueError: as `batches` does; also for an empty list, and if the images differ in size
            after preprocessing.
    """
    sources, single = as_list(images)
    if not sources:
        raise ValueError("preprocess needs at least one image; got an empty list")
    groups = list(batches(sources, spec, single=single, channels=channels))
    if len({group.shape[1:3] for group in groups}) > 1:
        raise ValueError(SIZES_DIFFER)
    return np.concatenate(groups)


def batches_of_views(
    images: Sequence[ImageLike],
    views: Callable[[ImageLike], Iterable[NDArray[np.uint8]]],
    *,
    single: bool = False,
) -> Iterator[NDArray[np.uint8]]:
    """Like `batches`, with as many arrays for each image as `views` makes of it, in order."""
    batch: list[NDArray[np.uint8]] = []
    for index, image in enumerate(images):
        try:
            arrays = list(views(image))
        except (OSError, TypeError, ValueError) as error:
            if single:
                raise
            raise _naming(index, error) from error
        for pixels in arrays:
            if batch and not _fits(batch, pixels):
                yield np.stack(batch)
                batch = []
            batch.append(pixels)
    if batch:
        yield np.stack(batch)


def _fits(batch: list[NDArray[np.uint8]], pixels: NDArray[np.uint8]) -> bool:
    area = pixels.shape[0] * pixels.shape[1]
    return pixels.shape == batch[0].shape and (len(batch) + 1) * area <= MAX_BATCH_PIXELS


def _naming(index: int, error: Exception) -> Exception:
    """The same error, with the image's place in the list."""
    if isinstance(error, OSError):
        # The constructor picks the subclass (FileNotFoundError, ...) by errno.
        return OSError(error.errno, f"{error.strerror} (image {index} of the list)", error.filename)
    kind = next(k for k in (ImageError, TypeError, ValueError) if isinstance(error, k))
    return kind(f"image {index} of the list: {error}")

"""① Checks on arrays that are images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .errors import ImageError


def check_array(array: NDArray[np.uint8]) -> None:
    """Check that an array is an image for three channels: RGB, grey or RGBA.

    Raises:
        ImageError: it is empty.
        TypeError: another dtype than uint8.
        ValueError: it does not have the shape of an image.
    """
    shape = _checked_shape(array, 3)
    if array.ndim == 2:
        return
    if shape[0] == 3 and shape[2] == 3:
        raise ValueError(
            f"shape {shape} may be [height, width, 3] or [3, height, width]: pass "
            "PIL.Image.fromarray(array) with the channels last to say which"
        )
    if shape[2] not in (1, 3, 4):
        if shape[0] in (1, 3, 4):
            raise ValueError(
                f"an image array must be [height, width, 3]; shape {shape} has its channels "
                "first: pass array.transpose(1, 2, 0)"
            )
        raise ValueError(f"an image array must be [height, width, 3]; got shape {shape}")


def check_planes(array: NDArray[np.uint8], channels: int) -> None:
    """Check that an array is an image for a number of channels other than three.

    Raises:
        ImageError, TypeError, ValueError: as `check_array` does.
    """
    shape = _checked_shape(array, channels)
    if shape[2:] == [channels] or (channels == 1 and array.ndim == 2):
        return
    expected = f"this network takes image arrays [height, width, {channels}]"
    if array.ndim == 3 and shape[0] == channels:
        raise ValueError(
            f"{expected}; shape {shape} has its channels first: pass array.transpose(1, 2, 0)"
        )
    hint = ". Pass PIL.Image.fromarray(array), which is made grey" if channels == 1 else ""
    raise ValueError(f"{expected}; got shape {shape}{hint}")


def _checked_shape(array: NDArray[np.uint8], channels: int) -> list[int]:
    """Return the shape of a uint8 array with two or three axes, none of them empty."""
    shape = list(array.shape)
    if array.dtype != np.uint8:
        pixels = "RGB pixels" if channels == 3 else "pixels"
        raise TypeError(
            f"an image array must be uint8 {pixels} (0..255); got {array.dtype} {shape}. "
            "Values that are normalised already go to forward()"
        )
    if array.ndim not in (2, 3):
        raise ValueError(f"an image array must be [height, width, {channels}]; got shape {shape}")
    if 0 in shape:
        raise ImageError(f"an image array must hold at least one pixel; got shape {shape}")
    return shape

"""The images of a step, checked."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def checked_images(x: ArrayLike, channels: int) -> NDArray[np.float32]:
    """Check normalised images, float32 `[batch, height, width, channels]`.

    Raises:
        TypeError: pixels, uint8.
        ValueError: another shape.
    """
    images = np.asarray(x)
    if images.dtype == np.uint8:
        raise TypeError(
            "x: expected normalised float32, found uint8: pixels become such by "
            "(x / 255 - mean) / std"
        )
    if images.ndim != 4:
        raise ValueError(
            f"x: expected shape [batch, height, width, channels]; found {list(images.shape)}"
        )
    if images.shape[3] != channels:
        hint = ": NCHW? use x.transpose(0, 2, 3, 1)" if images.shape[1] == channels else ""
        raise ValueError(
            f"x: expected shape [batch, height, width, {channels}]; found "
            f"{list(images.shape)}{hint}"
        )
    return np.ascontiguousarray(images, np.float32)

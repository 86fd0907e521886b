"""Preprocessing that a network does itself, as the mean and std of a config."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..._core import WeightsError

Numbers = NDArray[np.float64]

_PIXEL_RANGE = 255.0


def preprocessing_of(
    where: str, factor: Numbers, summand: Numbers, channels: int
) -> tuple[dict[str, Any], str]:
    """Express arithmetic on the image as the mean and std of a config.

    Args:
        where: the node or layer that does it, for messages.
        factor: what the image is multiplied by: one number, or one for each channel.
        summand: what is added then, likewise.
        channels: of the image.

    Returns:
        The fields `mean` and `std`, which are of images in 0 to 1, and a remark.

    Raises:
        WeightsError: it is no subtraction of a mean and division by a std, or it does not show
            whether the image is in 0 to 1 or in 0 to 255.
    """
    if not {factor.size, summand.size} <= {1, channels}:
        raise WeightsError(f"{where}: expected one number, or one for each channel of the image")
    factor, summand = (np.broadcast_to(numbers, (channels,)) for numbers in (factor, summand))
    finite = bool(np.isfinite(factor).all() and np.isfinite(summand).all())
    if not finite or not (factor > 0).all():
        raise WeightsError(
            f"{where}: expected a subtraction of a mean and a division by a std for the image: "
            "save the network without its preprocessing"
        )
    mean, std = -summand / factor, 1 / factor
    # A mean lies in the range of the pixels, and what is divided by more than 2 has more than 1.
    if (mean.max() > 1 and mean.min() >= 0) or std.min() > 2:
        largest = _PIXEL_RANGE
    elif mean.min() > 0 and mean.max() < 1:
        largest = 1.0
    else:
        raise WeightsError(
            f"{where}: the network prepares the image itself (mean {_rounded(mean)}, std "
            f"{_rounded(std)}), which does not show whether the image is in 0 to 1 or in 0 to 255: "
            "save the network without its preprocessing"
        )
    remark = (
        f"the network prepares images in 0 to {largest:g} itself (mean {_rounded(mean)}, std "
        f"{_rounded(std)}): that became the mean and std of the preprocessing here, and a mean or "
        "std that you state replaces it"
    )
    return {"mean": (mean / largest).tolist(), "std": (std / largest).tolist()}, remark


def _rounded(numbers: Numbers) -> str:
    return str([float(f"{number:.4g}") for number in numbers])

"""The input of the network that is looked at, made of whatever the caller has."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import arguments
from ..images.batches import single_batch
from ..weights.loaded import Loaded


def network_input(loaded: Loaded, images: Any) -> NDArray[np.float32]:
    """Preprocess images; an array that is a network's input already is only checked.

    Args:
        loaded: the network.
        images: one image or several, as `ResNet` describes, or what `ResNet.forward` takes.

    Returns:
        `[n, height, width, channels]`, normalised, C-contiguous.

    Raises:
        ImageError, OSError, TypeError, ValueError: as `ResNet.preprocess` or `ResNet.forward`.
    """
    config = loaded.config
    if isinstance(images, np.ndarray) and images.dtype == np.float32:
        return arguments.network_input(images, config.in_channels)
    pixels = single_batch(
        images, config.preprocessing, channels=config.in_channels, choices=loaded.options
    )
    return loaded.network.normalize(pixels)

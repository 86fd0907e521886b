"""⑥ The names of the classes."""

from __future__ import annotations

import os
from functools import cache

from .config import Config


def class_labels(config: Config) -> tuple[str, ...]:
    """Return the label of every class, by index.

    A config without labels stands for ImageNet's names if there are 1000 classes, otherwise for
    the indices as text.
    """
    if config.labels is not None:
        return config.labels
    if config.num_classes == 1000:
        return imagenet_labels()
    return tuple(str(index) for index in range(config.num_classes))


@cache
def imagenet_labels() -> tuple[str, ...]:
    """ImageNet-1k's 1000 class names in torchvision's wording and order.

    `data/imagenet_1k.txt` holds them, one a line, as given by
    `torchvision.models.ResNet50_Weights.IMAGENET1K_V2.meta["categories"]`.
    """
    # os.path, because pathlib would cost every import of the package some milliseconds.
    path = os.path.join(os.path.dirname(__file__), "data", "imagenet_1k.txt")
    with open(path, encoding="utf-8") as file:
        return tuple(file.read().splitlines())

"""⑥ The names of the classes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache

from .config import Config
from .small_files import read_text


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


def read_labels(path: str | os.PathLike[str]) -> list[str]:
    """Read class names from a file of UTF-8 text, one a line; it may be a pipe.

    Raises:
        OSError: the file cannot be read.
        WeightsError: it is in another encoding, or too large for a list of names.
    """
    text = read_text(path, regular=False).replace("\r\n", "\n").replace("\r", "\n")
    return text.removesuffix("\n").split("\n")


def order_remark(labels: Sequence[str]) -> str | None:
    """A doubt about the order of class names that are numbers; None if there is no reason for one.

    torchvision's `ImageFolder` and Keras number classes in the order of their names as text: 0, 1,
    10, 2. A list in the order of the numbers is then another one.
    """
    if not all(label.isdecimal() and label.isascii() for label in labels):
        return None
    in_order = sorted(labels, key=int)
    if list(labels) != in_order or in_order == sorted(labels):
        return None
    text = ", ".join(sorted(labels)[:4])
    return (
        f"the names are numbers in their own order. If torchvision's ImageFolder or Keras read "
        f"the classes from folders of these names, their order is that of text: {text}, ... "
        "List the names in the order of the training's class_to_idx or class_indices"
    )

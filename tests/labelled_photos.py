"""Folders of small photos with labels, and a photo of each class that can be told from others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image


def write_photo(path: Path, number: int, *, size: tuple[int, int] = (24, 18)) -> Path:
    """Write a photo of `(width, height)` whose pixels are drawn by its number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(number)
    pixels = random.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def write_classes(
    folder: Path, counts: Mapping[str, int], *, start: int = 0, suffix: str = ".png"
) -> Path:
    """Write a folder for each class, with that number of photos; no two photos are the same."""
    number = start
    for name, count in counts.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for place in range(count):
            write_photo(folder / name / f"{place:03}{suffix}", number)
            number += 1
    return folder

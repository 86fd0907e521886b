"""A folder of small pictures, some of them broken, and the command line on it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

PHOTOS = 40
BROKEN = ("07.png", "23.png")


def write_photo_folder(folder: Path) -> Path:
    """Write `PHOTOS` pictures into the folder and below it; those of `BROKEN` are cut short."""
    random = np.random.default_rng(1)
    for i in range(PHOTOS):
        path = folder / ("sub/deep" if i % 3 else ".") / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (32, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        if path.name in BROKEN:
            path.write_bytes(path.read_bytes()[:200])
    return folder


def photos_in(folder: Path) -> list[Path]:
    """The folder's pictures in the order that they are found."""
    return sorted(folder.glob("*.png")) + sorted(folder.glob("sub/deep/*.png"))


def command(*arguments: object) -> list[str]:
    """`resnet-rs` in a process of its own."""
    return [sys.executable, "-m", "resnet_rs", *map(str, arguments)]


def start(*arguments: object, **options: Any) -> subprocess.Popen[bytes]:
    """Start `resnet-rs`; its stdin and stderr are pipes."""
    return subprocess.Popen(
        command(*arguments), stdin=subprocess.PIPE, stderr=subprocess.PIPE, **options
    )

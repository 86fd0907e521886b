"""Photos for an experiment: drawn shapes of ten classes."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

CLASSES = (
    "disc",
    "ring",
    "square",
    "frame",
    "triangle",
    "diamond",
    "plus",
    "cross",
    "rows",
    "columns",
)


def drawn_shapes(count: int, size: int, seed: int) -> tuple[np.ndarray, list[str]]:
    """Draw shapes of random place, size and colours, with noise.

    Args:
        count: the number of photos; the classes take turns.
        size: their side in pixels.
        seed: of all that is random.

    Returns:
        uint8 `[count, size, size, 3]`, and the name of each photo's class.
    """
    random = np.random.default_rng(seed)
    names = [CLASSES[index % len(CLASSES)] for index in range(count)]
    photos = np.stack([_photo(name, size, random) for name in names])
    return photos, names


def _photo(name: str, size: int, random: np.random.Generator) -> np.ndarray:
    ground = random.integers(0, 256, 3)
    # A colour that differs from the ground, in a random direction.
    colour = (ground + random.choice([-1, 1]) * random.integers(60, 128, 3)) % 256
    picture = Image.new("RGB", (size, size), tuple(int(part) for part in ground))
    radius = random.uniform(0.2, 0.42) * size
    x, y = random.uniform(radius, size - radius, 2)
    _shape(ImageDraw.Draw(picture), name, x, y, radius, tuple(int(part) for part in colour))
    noisy = np.asarray(picture) + random.normal(0, 12, (size, size, 3))
    return noisy.clip(0, 255).astype(np.uint8)


def _shape(
    draw: ImageDraw.ImageDraw, name: str, x: float, y: float, r: float, colour: tuple[int, ...]
) -> None:
    box = (x - r, y - r, x + r, y + r)
    bar = r / 4
    thick = round(2 * bar)
    if name == "disc":
        draw.ellipse(box, fill=colour)
    elif name == "ring":
        draw.ellipse(box, outline=colour, width=thick)
    elif name == "square":
        draw.rectangle(box, fill=colour)
    elif name == "frame":
        draw.rectangle(box, outline=colour, width=thick)
    elif name == "triangle":
        draw.polygon([(x - r, y + r), (x + r, y + r), (x, y - r)], fill=colour)
    elif name == "diamond":
        draw.polygon([(x - r, y), (x, y - r), (x + r, y), (x, y + r)], fill=colour)
    elif name == "plus":
        draw.rectangle((x - r, y - bar, x + r, y + bar), fill=colour)
        draw.rectangle((x - bar, y - r, x + bar, y + r), fill=colour)
    elif name == "cross":
        draw.line((x - r, y - r, x + r, y + r), fill=colour, width=thick)
        draw.line((x - r, y + r, x + r, y - r), fill=colour, width=thick)
    else:
        for place in (-r + bar, 0.0, r - bar):
            if name == "rows":
                draw.rectangle((x - r, y + place - bar, x + r, y + place + bar), fill=colour)
            else:
                draw.rectangle((x + place - bar, y - r, x + place + bar, y + r), fill=colour)

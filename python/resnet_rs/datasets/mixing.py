"""Mixup and cutmix: photos of a batch mixed with each other, as torchvision does.

Each photo is mixed with the one before it in the batch, and the first with the last. Targets are
mixed in the same proportion.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from .augment import Augment, Rectangle
from .draws import Purpose, bits

Floats: TypeAlias = NDArray[np.float32]


def mixed(
    x: Floats,
    y: NDArray[np.int64],
    classes: int,
    augment: Augment,
    seed: int,
    epoch: int,
    batch: int,
) -> tuple[Floats, Floats]:
    """Mix the photos of a batch, in place.

    Args:
        x: the photos, `[n, height, width, channels]`; they are changed.
        y: their labels, `[n]`.
        classes: the number of classes.
        augment: `mixup` or `cutmix` or both are on.
        seed: the seed.
        epoch: the epoch.
        batch: the batch's number in the epoch.

    Returns:
        `x`, and the targets, `[n, classes]`; each row adds up to 1.
    """
    random = np.random.Generator(bits(seed, Purpose.MIX, epoch, batch))
    # All are drawn in any case, so that none depends on which of them is used.
    choice, down, right = random.random(3).tolist()
    alpha = augment.mixup if augment.mixup > 0 else augment.cutmix
    cuts = augment.cutmix > 0 and (augment.mixup == 0 or choice < 0.5)
    if cuts:
        alpha = augment.cutmix
    share = float(random.beta(alpha, alpha))
    if cuts:
        box, share = cutmix_box(share, down, right, *x.shape[1:3])
        cut_in(x, box)
    else:
        mix_in(x, share)
    return x, soft_targets(y, classes, share)


def mix_in(x: Floats, share: float) -> None:
    """Keep a share of each photo, and add the rest of the one before it."""
    before = np.roll(x, 1, axis=0)
    before *= np.float32(1.0 - share)
    x *= np.float32(share)
    x += before


def cutmix_box(
    share: float, down: float, right: float, height: int, width: int
) -> tuple[Rectangle, float]:
    """The rectangle that is taken from another photo, and the share that is left of the first."""
    half = 0.5 * math.sqrt(1.0 - share)
    half_height, half_width = int(half * height), int(half * width)
    y, x = int(down * height), int(right * width)
    top, bottom = max(0, y - half_height), min(height, y + half_height)
    left, right_end = max(0, x - half_width), min(width, x + half_width)
    area = (bottom - top) * (right_end - left)
    return (top, left, bottom - top, right_end - left), 1.0 - area / (height * width)


def cut_in(x: Floats, box: Rectangle) -> None:
    """Lay a rectangle of the photo before over each photo."""
    top, left, height, width = box
    place = np.s_[:, top : top + height, left : left + width]
    x[place] = np.roll(x[place], 1, axis=0)


def soft_targets(y: NDArray[np.int64], classes: int, share: float) -> Floats:
    """The targets of mixed photos, float32 `[n, classes]`."""
    targets = np.zeros((len(y), classes), np.float32)
    rows = np.arange(len(y))
    targets[rows, y] += np.float32(share)
    targets[rows, np.roll(y, 1)] += np.float32(1.0 - share)
    return targets

"""Random numbers by counter: each is a function of the seed and of its purpose, and of no order.

A generator that is asked in turn gives other numbers as soon as threads or batches come in another
order. Here each purpose has a stream of its own: Philox, whose key is the seed and the purpose, and
whose counter is the epoch and the image. The raw 64-bit numbers are the same in every version of
NumPy.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from .. import arguments

MAX_SEED = (1 << 64) - 1


class Purpose(IntEnum):
    """The uses of random numbers; each has numbers that no other shares."""

    SPLIT = 1
    ORDER = 2
    IMAGE = 3
    MIX = 4


def checked_seed(seed: int) -> int:
    """Check a seed, from 0 to 2^64 - 1.

    Raises:
        TypeError, ValueError: as `arguments.count` does.
    """
    return arguments.count("seed", seed, least=0, most=MAX_SEED)


def bits(seed: int, purpose: Purpose, epoch: int, index: int) -> np.random.Philox:
    """The stream of numbers for one image, batch or class in one epoch."""
    key = np.array([seed, purpose], np.uint64)
    # The lowest word counts the numbers that are drawn.
    return np.random.Philox(key=key, counter=np.array([0, epoch, index, 0], np.uint64))


def uniforms(
    seed: int, purpose: Purpose, epoch: int, index: int, count: int
) -> NDArray[np.float64]:
    """Draw numbers from 0 up to 1, 1 excluded, float64 `[count]`."""
    raw = bits(seed, purpose, epoch, index).random_raw(count)
    return np.asarray((raw >> np.uint64(11)) * 2.0**-53, np.float64)


def permutation(
    seed: int, purpose: Purpose, epoch: int, index: int, count: int
) -> NDArray[np.int64]:
    """Draw an order of `count` things, int64 `[count]`."""
    raw = bits(seed, purpose, epoch, index).random_raw(count)
    return np.argsort(raw, kind="stable").astype(np.int64)

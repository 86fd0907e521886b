"""The stratified split: a part of each class for validation, drawn by a seed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .draws import Purpose, permutation
from .labelled import Labelled


def stratified(
    photos: Labelled, fraction: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw the photos for validation from each class.

    Each class gives its share of `fraction`. The shares are rounded so that all together come as
    close to `fraction` as possible. Each class keeps at least one photo for training.

    Args:
        photos: all photos.
        fraction: the part for validation, from 0 up to 1, 1 excluded.
        seed: the seed, from 0 to 2^64 - 1.

    Returns:
        The indices for training and those for validation, each rising.
    """
    counts = photos.counts()
    wanted = _shares(counts, fraction, seed)
    chosen: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
    for label, (count, take) in enumerate(zip(counts.tolist(), wanted.tolist(), strict=True)):
        places = np.flatnonzero(photos.labels == label)
        order = permutation(seed, Purpose.SPLIT, 0, label, count)
        chosen.append(places[order[:take]])
    val = np.sort(np.concatenate(chosen))
    train = np.setdiff1d(np.arange(len(photos), dtype=np.int64), val)
    return train, val


def _shares(counts: NDArray[np.int64], fraction: float, seed: int) -> NDArray[np.int64]:
    """The number of photos that each class gives, by the largest remainders."""
    most: NDArray[np.int64] = np.maximum(counts - 1, 0)
    exact = counts * fraction
    # A product that is whole up to rounding is whole: 0.1 * 30 is 3.
    whole: NDArray[np.int64] = np.minimum(np.floor(exact + 1e-9).astype(np.int64), most)
    total = min(round(float(counts.sum()) * fraction), int(most.sum()))
    # Classes with the same remainder come in a drawn order.
    drawn = permutation(seed, Purpose.SPLIT, 0, len(counts), len(counts))
    order = drawn[np.argsort(-(exact - whole)[drawn].round(9), kind="stable")]
    while (missing := total - int(whole.sum())) > 0:
        able = order[whole[order] < most[order]][:missing]
        whole[able] += 1
    return whole

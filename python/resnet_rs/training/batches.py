"""Photos in batches: to learn from, and to measure on."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..datasets.labelled import Labelled
from ..datasets.loader import Loader
from ..datasets.photos import PhotoCache
from ..evaluation import Evaluation, measure
from ..images.spec import Preprocessing
from .recipe import Recipe
from .show import Show

Compute: TypeAlias = "Callable[[NDArray[np.float32]], NDArray[np.float32]]"

_LEAST_TO_MEASURE = 32
"""Measuring needs no memory for gradients, and larger batches are faster."""


def loader_of(
    photos: Labelled,
    recipe: Recipe,
    spec: Preprocessing,
    *,
    learns: bool,
    cache: PhotoCache,
    workers: int | None,
) -> Loader:
    """Make the loader of photos, which draws and changes them if the network `learns` from them.

    Args:
        photos: the photos.
        recipe: all choices, completed.
        spec: the network's preprocessing.
        learns: True for batches to learn from, False to measure on.
        cache: as for `Loader`, like `workers`.
        workers: see `cache`.

    Raises:
        DataError, TypeError, ValueError: as for `Loader`.
    """
    assert recipe.size is not None
    loader = partial(
        Loader,
        photos,
        size=recipe.size,
        seed=recipe.seed,
        workers=workers,
        cache=cache,
        channels=len(spec.mean),
    )
    if not learns:
        # Photos are measured on as everyone sees them who loads the network.
        batch_size = max(recipe.batch_size, _LEAST_TO_MEASURE)
        return loader(batch_size=batch_size, preprocessing=spec)
    return loader(
        batch_size=recipe.batch_size,
        resize=spec.resize if isinstance(spec.resize, int) else None,
        mean=spec.mean,
        std=spec.std,
        augment=recipe.augment,
    )


def balanced_weights(photos: Labelled) -> NDArray[np.float64]:
    """The weight of each class by the inverse of its photos, 1 for a photo on average."""
    counts = np.maximum(photos.counts(), 1)
    weights: NDArray[np.float64] = counts.mean() / counts
    return weights


def outputs(loader: Loader, run: Compute, show: Show) -> NDArray[np.float32]:
    """Compute the outputs of all photos, and show the progress.

    Args:
        loader: batches to measure on.
        run: from `[batch, height, width, channels]` to outputs `[batch, ...]`.
        show: the progress.

    Raises:
        OSError, ValueError: a photo cannot be read.
    """
    show.begin_photos(len(loader.photos))
    parts: list[NDArray[np.float32]] = []
    done = 0
    with loader.epoch() as batches:
        for batch in batches:
            parts.append(run(batch.x))
            done += len(batch.x)
            show.photos(done, 0)
    show.end()
    return np.concatenate(parts)


def measured(loader: Loader, run: Compute, show: Show) -> Evaluation:
    """Compare the logits that `run` computes with the labels of all photos.

    Args:
        loader: as for `outputs`, like the other arguments.
        run: see `loader`; its outputs are logits `[batch, classes]`.
        show: see `loader`.

    Raises:
        OSError, ValueError: a photo cannot be read.
    """
    return compared(outputs(loader, run, show), loader.photos)


def compared(logits: NDArray[Any], photos: Labelled) -> Evaluation:
    """Compare logits `[photos, classes]` with the labels of photos, in memory or not.

    Raises:
        ValueError: a logit is not finite.
    """
    return measure(logits, photos.labels, photos.classes, images=tuple(photos.images))

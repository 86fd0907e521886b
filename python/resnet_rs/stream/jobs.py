"""What a stream does with an image: how it is loaded, and how a batch is computed.

The results are those of the model's own methods, bit for bit: an image's numbers depend neither on
the batch that it is in nor on how many threads run it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .._core import softmax_top_k
from ..images.preprocess import load_pixels
from .pipeline import Compute, Load
from .schedule import Loaded

if TYPE_CHECKING:
    from ..model import Prediction, ResNet

Vector = NDArray[np.float32]


@dataclass(frozen=True)
class Job:
    """How images become results.

    Attributes:
        load: makes uint8 arrays of an image.
        compute: makes results of a batch of such.
        computers: how many batches may be computed at the same time.
    """

    load: Load
    compute: Compute
    computers: int


def prediction_job(model: ResNet, top_k: int, tta: str | None) -> Job:
    """`model.predict(image, top_k, tta)`.

    Raises:
        ValueError: the model has no classes, or `tta` does not go with it.
    """
    if tta is not None:
        return _augmented_job(model, top_k, tta)
    model.predict([])  # says what is wrong with the model
    network, labels = model.loaded.network, model.labels

    def compute(batch: Sequence[Loaded], threads: int) -> list[list[Prediction]]:
        logits = network.logits(_stack(batch), threads=threads)
        return _named(labels, *softmax_top_k(logits, top_k))

    return Job(_load(model), compute, model.threads)


def logits_job(model: ResNet) -> Job:
    """`model.logits(image)`."""
    network = model.loaded.network

    def compute(batch: Sequence[Loaded], threads: int) -> list[Vector]:
        return _rows(network.logits(_stack(batch), threads=threads))

    return Job(_load(model), compute, model.threads)


def embedding_job(model: ResNet, *, pool: str, normalize: bool) -> Job:
    """`model.embed(image, pool=pool, normalize=normalize)`.

    Raises:
        ValueError: no such pool, or one without vectors to normalise.
    """
    from .pooling import pool_map, unit_length

    if pool != "none" or normalize:
        model.embed([], pool=pool, normalize=normalize)  # says what is wrong with the arguments
    network, last = model.loaded.network, model.loaded.last_map

    def pooled(batch: Sequence[Loaded], threads: int) -> list[Vector]:
        if pool == "avg":
            return _rows(network.embed(_stack(batch), threads=threads))
        (maps,) = network.features(_stack(batch), (last,), threads=threads)
        return _rows(maps) if pool == "none" else [pool_map(values, pool) for values in maps]

    def compute(batch: Sequence[Loaded], threads: int) -> list[Vector]:
        vectors = pooled(batch, threads)
        return _rows(unit_length(np.stack(vectors))) if normalize else vectors

    return Job(_load(model), compute, model.threads)


def _augmented_job(model: ResNet, top_k: int, tta: str) -> Job:
    """`model.predict(image, top_k, tta)` with test-time augmentation."""
    from ..images import views as augmentation

    model.probabilities([], tta)  # says what is wrong with the model or with `tta`
    network, labels, config = model.loaded.network, model.labels, model.config

    def load(source: Any) -> Loaded:
        return tuple(augmentation.views(source, config.preprocessing, config.in_channels, tta))

    def compute(batch: Sequence[Loaded], threads: int) -> list[list[Prediction]]:
        # View by view, because the views of an image may differ in size.
        mean = augmentation.MeanProbabilities(len(batch), network.num_classes, tta)
        for views in zip(*batch, strict=True):
            mean.add(network.logits(np.stack(views), threads=threads), np.arange(len(batch)))
        return _named(labels, *augmentation.top_k(mean.result(), top_k))

    return Job(load, compute, model.threads)


def _load(model: ResNet) -> Load:
    spec, channels = model.config.preprocessing, model.config.in_channels

    def load(source: Any) -> Loaded:
        return (load_pixels(source, spec, channels),)

    return load


def _stack(batch: Sequence[Loaded]) -> NDArray[np.uint8]:
    return np.stack([pixels for (pixels,) in batch])


def _rows(values: Vector) -> list[Vector]:
    """Copies, so that one row that is kept does not keep the whole batch."""
    return [row.copy() for row in values]


def _named(
    labels: Sequence[str], scores: NDArray[np.float32], indices: NDArray[np.int64]
) -> list[list[Prediction]]:
    from ..model import Prediction

    return [
        [Prediction(labels[i], s, i) for s, i in zip(*row, strict=True)]
        for row in zip(scores.tolist(), indices.tolist(), strict=True)
    ]

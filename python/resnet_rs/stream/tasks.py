"""Tasks: how an image is loaded, and how a batch of images becomes results.

Each task exists once, for one image, for a list and for a stream; `engine` runs them. An image's
numbers depend neither on the batch that it is in nor on how many threads run it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from .. import arguments
from ..images.batches import Views, grouped, stack_batch
from ..images.preprocess import load_pixels
from ..images.views import VIEWS, views
from ..results import Prediction, predictions_of
from ..weights.loaded import Loaded
from .pooling import POOLS, pool_map, unit_length
from .scores import MeanProbabilities, best_of, class_scores, probabilities_of

One = TypeVar("One")
Many = TypeVar("Many")

Arrays: TypeAlias = "tuple[NDArray[Any], ...]"
Vector: TypeAlias = NDArray[np.float32]

_NO_MAPS = "features needs at least one image; got an empty list"


class Task(ABC, Generic[One, Many]):
    """A question to a network about each image.

    Args:
        loaded: the network, and what is known of it.

    Attributes:
        one_size: True if the results of several images make an array only if the images have one
            size after preprocessing.
    """

    one_size = False

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded

    def load(self, source: Any) -> Views:
        """Decode, resize and crop one image.

        Raises:
            ImageError, OSError, TypeError, ValueError: as `load_pixels` does.
        """
        config = self.loaded.config
        pixels = load_pixels(source, config.preprocessing, config.in_channels, self.loaded.options)
        return (pixels,)

    @abstractmethod
    def compute(self, batch: Sequence[Views], threads: int | None = None) -> Arrays:
        """Compute a batch.

        Args:
            batch: images whose views have the same shapes.
            threads: the number of threads to use; None for all of the network's.

        Returns:
            Arrays whose first axis counts the images.

        Raises:
            ValueError, MemoryError: the network cannot run on these images.
        """

    @abstractmethod
    def empty(self) -> Arrays:
        """The arrays that `compute` would return for no image.

        Raises:
            ValueError: their shape depends on the images.
        """

    @abstractmethod
    def one(self, row: Arrays) -> One:
        """One image's result, from the arrays that `compute` returns without their first axis."""

    @abstractmethod
    def many(self, arrays: Arrays) -> Many:
        """Several images' result, from the arrays that `compute` returns."""

    def each(self, batch: Sequence[Views], threads: int | None = None) -> list[One]:
        """Compute a batch, and give each image a result of its own.

        A result that is kept does not keep the whole batch.

        Raises:
            ValueError, MemoryError: as `compute` does.
        """
        arrays = self.compute(batch, threads)
        return [self.one(tuple(row.copy() for row in rows)) for rows in zip(*arrays, strict=True)]


class _ArrayTask(Task[Vector, Vector]):
    """A task whose result is one array."""

    def one(self, row: Arrays) -> Vector:
        return row[0]

    def many(self, arrays: Arrays) -> Vector:
        return arrays[0]


class Logits(_ArrayTask):
    """The network's raw outputs; of a network without classes the pooled features."""

    def compute(self, batch: Sequence[Views], threads: int | None = None) -> Arrays:
        """`[n, classes]`."""
        return (self.loaded.network.logits(stack_batch(batch), threads=threads),)

    def empty(self) -> Arrays:
        """`[0, classes]`."""
        network = self.loaded.network
        return (np.empty((0, network.num_classes or network.embedding_size), np.float32),)


class Probabilities(_ArrayTask):
    """The score of every class, or its mean over several views of each image.

    Args:
        loaded: the network.
        tta: the views, one of `images.views.VIEWS`; None for the image as it is.

    Raises:
        TypeError, ValueError: no such `tta`, or a network that it does not suit or that has no
            classes.
    """

    def __init__(self, loaded: Loaded, tta: str | None = None) -> None:
        super().__init__(loaded)
        _require_classes(loaded)
        self._tta: str | None = arguments.choice("tta", tta, (None, *VIEWS))
        if tta == "multiscale" and isinstance(loaded.config.variant.get("head"), Mapping):
            raise ValueError(
                "tta='multiscale' runs the network at several sizes, and this one's head takes "
                "a single size: use tta='hflip' or tta='10crop'"
            )

    def load(self, source: Any) -> Views:
        """Make one image's views."""
        if self._tta is None:
            return super().load(source)
        config = self.loaded.config
        return views(
            source, config.preprocessing, config.in_channels, self._tta, self.loaded.options
        )

    def compute(self, batch: Sequence[Views], threads: int | None = None) -> Arrays:
        """`[n, classes]`."""
        network, activation = self.loaded.network, self.loaded.config.activation
        if self._tta is None:
            logits = network.logits(stack_batch(batch), threads=threads)
            return (probabilities_of(logits, activation),)
        mean = MeanProbabilities(len(batch), network.num_classes, self._tta, activation)
        done = 0
        # The views of an image may differ in size.
        for group in grouped((view,) for image in batch for view in image):
            places = np.arange(done, done + len(group)) // VIEWS[self._tta]
            mean.add(network.logits(stack_batch(group), threads=threads), places)
            done += len(group)
        return (mean.result(),)

    def empty(self) -> Arrays:
        """`[0, classes]`."""
        return (np.empty((0, self.loaded.network.num_classes), np.float32),)


class Predictions(Task[list[Prediction], list[list[Prediction]]]):
    """The best classes of each image.

    Args:
        loaded: the network.
        top_k: the number of classes; all of them if there are fewer.
        tta: as `Probabilities` takes it.

    Raises:
        TypeError, ValueError: as `Probabilities` does, or `top_k` is no whole number from 1 up.
    """

    def __init__(self, loaded: Loaded, top_k: int, tta: str | None = None) -> None:
        super().__init__(loaded)
        # A count of more digits than the core's integers have is cut here.
        self._top_k = min(arguments.count("top_k", top_k, most=None), loaded.network.num_classes)
        self._mean = Probabilities(loaded, tta)
        self._tta = tta

    def load(self, source: Any) -> Views:
        """Make one image's views."""
        return self._mean.load(source)

    def compute(self, batch: Sequence[Views], threads: int | None = None) -> Arrays:
        """Scores and indices, each `[n, top_k]`."""
        if self._tta is None:
            logits = self.loaded.network.logits(stack_batch(batch), threads=threads)
            return class_scores(logits, self.loaded.config.activation, self._top_k)
        (probabilities,) = self._mean.compute(batch, threads)
        return best_of(probabilities, self._top_k)

    def empty(self) -> Arrays:
        """Scores and indices of no image."""
        return np.empty((0, 0), np.float32), np.empty((0, 0), np.int64)

    def one(self, row: Arrays) -> list[Prediction]:
        """The best classes, best first."""
        scores, indices = row
        return predictions_of(self.loaded.labels, scores, indices)

    def many(self, arrays: Arrays) -> list[list[Prediction]]:
        """Each image's best classes."""
        return [self.one(row) for row in zip(*arrays, strict=True)]


class Embeddings(_ArrayTask):
    """The features before the last layer.

    Args:
        loaded: the network.
        pool: how the last feature map becomes a vector, one of `POOLS`; `none` leaves it a map.
        normalize: True to scale each vector to length 1.

    Raises:
        TypeError, ValueError: no such pool, or one without vectors to scale.
    """

    def __init__(self, loaded: Loaded, *, pool: str = "avg", normalize: bool = False) -> None:
        super().__init__(loaded)
        self._normalize = arguments.flag("normalize", normalize)
        self._pool: str = arguments.choice("pool", pool, POOLS)
        self._last_map = loaded.last_map
        self.one_size = self._pool == "none"
        if self._pool == "none" and self._normalize:
            raise ValueError("normalize=True needs a vector, and pool='none' gives a map")

    def compute(self, batch: Sequence[Views], threads: int | None = None) -> Arrays:
        """`[n, features]`, or `[n, height, width, features]` without a pool."""
        network, pixels = self.loaded.network, stack_batch(batch)
        if self._pool == "avg":
            vectors = network.embed(pixels, threads=threads)
        else:
            (maps,) = network.features(pixels, (self._last_map,), threads=threads)
            if self._pool == "none":
                return (maps,)
            vectors = np.stack([pool_map(values, self._pool) for values in maps])
        return (unit_length(vectors) if self._normalize else vectors,)

    def empty(self) -> Arrays:
        """`[0, features]`; maps have the size that the images give them."""
        if self._pool == "none":
            raise ValueError(_NO_MAPS)
        if self._pool == "avg":
            columns = self.loaded.network.embedding_size
        else:
            columns = self.loaded.last_channels * (2 if self._pool == "catavgmax" else 1)
        return (np.empty((0, columns), np.float32),)


class Features(Task[dict[str, Vector], dict[str, Vector]]):
    """Feature maps inside the network.

    Args:
        loaded: the network.
        stages: the names of stages or layers; None for every stage.

    Raises:
        TypeError, ValueError: `stages` is not a list of such names.
    """

    one_size = True

    def __init__(self, loaded: Loaded, stages: Sequence[str] | None = None) -> None:
        super().__init__(loaded)
        self._names = loaded.stages if stages is None else arguments.texts("stages", stages)
        known = (*loaded.stages, *loaded.network.layer_names)
        for name in self._names:
            if name not in known:
                raise ValueError(
                    f"stages: {name!r} is no layer of this network; expected some of "
                    f"{', '.join(known)}. For the steps that are fused into these, use trace()"
                )

    def compute(self, batch: Sequence[Views], threads: int | None = None) -> Arrays:
        """`[n, height, width, channels]` for each name."""
        pixels = stack_batch(batch)
        return tuple(self.loaded.network.features(pixels, self._names, threads=threads))

    def empty(self) -> Arrays:
        """Maps have the size that the images give them."""
        raise ValueError(_NO_MAPS)

    def one(self, row: Arrays) -> dict[str, Vector]:
        """The maps by name."""
        return dict(zip(self._names, row, strict=True))

    def many(self, arrays: Arrays) -> dict[str, Vector]:
        """The maps by name."""
        return self.one(arrays)


def _require_classes(loaded: Loaded) -> None:
    if loaded.network.num_classes == 0:
        raise ValueError(
            "this model has no classes (num_classes=0), so it names nothing: use embed() or "
            "features(), or load it with its last layer"
        )

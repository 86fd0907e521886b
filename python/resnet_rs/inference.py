"""Images in; labels, logits, embeddings and feature maps out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from . import arguments
from ._core import softmax_top_k
from .images.batches import SIZES_DIFFER, as_list, batches, batches_of_views, single_batch

if TYPE_CHECKING:
    from .images.decode import ImageLike
    from .inspect.shape_profiler import ShapeProfiler
    from .weights.loaded import Loaded


@dataclass(frozen=True, slots=True)
class Prediction:
    """One class that an image may belong to.

    Attributes:
        label: the class's name.
        score: its softmax probability, 0 to 1.
        index: its place among the logits, from 0.
    """

    label: str
    score: float
    index: int


class Inference:
    """The part of `ResNet` that runs the network on images; not for use by itself."""

    loaded: Loaded
    _profile_shape: ShapeProfiler

    @overload
    def predict(
        self, images: list[Any] | tuple[Any, ...], top_k: int = 5, tta: str | None = None
    ) -> list[list[Prediction]]: ...
    @overload
    def predict(
        self, images: ImageLike, top_k: int = 5, tta: str | None = None
    ) -> list[Prediction]: ...
    def predict(
        self,
        images: ImageLike | list[Any] | tuple[Any, ...],
        top_k: int = 5,
        tta: str | None = None,
    ) -> list[Prediction] | list[list[Prediction]]:
        """Name what is in an image.

        Args:
            images: one image or several, as the class describes.
            top_k: how many classes to return; all of them where there are fewer.
            tta: look at each image several times and average, as `probabilities` does.

        Returns:
            For one image its best classes, best first; equal scores are ordered by index. For
            several images a list of such lists, in the images' order.

        Raises:
            ImageError: an image is damaged, empty or no image; the message names it.
            OSError: an image file cannot be opened.
            TypeError: something that is no image, or `top_k` is no int.
            ValueError: an array of another shape, `top_k` is below 1, no such `tta`, or a model
                without classes.
        """
        top_k = arguments.count("top_k", top_k)
        self._require_classes()
        sources, single = as_list(images)
        if tta is None:
            scores, indices = softmax_top_k(self._logits_of(sources, single), top_k)
        else:
            from .images import views as augmentation

            rows = np.atleast_2d(self.probabilities(images, tta))
            scores, indices = augmentation.top_k(rows, top_k)
        labels = self.loaded.labels
        predictions = [
            [Prediction(labels[i], s, i) for s, i in zip(*row, strict=True)]
            for row in zip(scores.tolist(), indices.tolist(), strict=True)
        ]
        return predictions[0] if single else predictions

    def probabilities(
        self, images: ImageLike | list[Any] | tuple[Any, ...], tta: str | None = None
    ) -> NDArray[np.float32]:
        """The softmax probability of every class.

        Args:
            images: one image or several, as the class describes.
            tta: test-time augmentation. `hflip` looks at the image and its mirror image, `10crop`
                at the corners and the centre of both, `multiscale` at the whole image with its
                short side at 224, 256, 384, 480 and 640 pixels. The result is the mean of the
                views' probabilities. See `resnet_rs.images.views`.

        Returns:
            `[num_classes]` for one image, `[n, num_classes]` for several; each row's sum is 1.

        Raises:
            ImageError, OSError, TypeError, ValueError: as `predict` does; also where the
                augmentation does not go with the model's preprocessing or its last layers.
        """
        from .images.views import VIEWS, MeanProbabilities, softmax, views

        self._require_classes()
        tta = arguments.choice("tta", tta, (None, *VIEWS))
        sources, single = as_list(images)
        if tta is None:
            rows = softmax(self._logits_of(sources, single))
            return rows[0] if single else rows
        if tta == "multiscale" and isinstance(self.loaded.config.variant.get("head"), Mapping):
            raise ValueError(
                "tta='multiscale' runs the network at several sizes, and this one's head takes "
                "a single size: use tta='hflip' or tta='10crop'"
            )
        config = self.loaded.config

        def views_of(source: ImageLike) -> Iterator[NDArray[np.uint8]]:
            return views(source, config.preprocessing, config.in_channels, tta)

        mean = MeanProbabilities(len(sources), self.loaded.network.num_classes, tta)
        done = 0
        for pixels in batches_of_views(sources, views_of, single=single):
            mean.add(
                self.loaded.network.logits(pixels),
                np.arange(done, done + len(pixels)) // VIEWS[tta],
            )
            done += len(pixels)
        return mean.result()[0] if single else mean.result()

    def logits(self, images: ImageLike | list[Any] | tuple[Any, ...]) -> NDArray[np.float32]:
        """The network's raw outputs, before softmax.

        Args:
            images: one image or several, as the class describes.

        Returns:
            `[num_classes]` for one image, `[n, num_classes]` for several. A model without classes
            gives the pooled features, as `embed` does.

        Raises:
            ImageError, OSError, TypeError, ValueError: as `predict` does.
        """
        sources, single = as_list(images)
        rows = self._logits_of(sources, single)
        return rows[0] if single else rows

    def embed(
        self,
        images: ImageLike | list[Any] | tuple[Any, ...],
        *,
        normalize: bool = False,
        pool: str = "avg",
    ) -> NDArray[np.float32]:
        """The features before the last layer: for similarity search or a classifier of one's own.

        Args:
            images: one image or several, as the class describes.
            normalize: scale each vector to length 1, so that a dot product is the cosine.
            pool: how the last feature map becomes a vector: `avg` (what the network itself does),
                `max`, `avgmax` (the mean of both), `catavgmax` (one behind the other, twice as
                long), or `none` for the map.

        Returns:
            `[features]` for one image, `[n, features]` for several; 2048 features where blocks
            are bottlenecks, 512 where they are basic. Every value is at least 0. With `none`,
            `[height, width, features]` or `[n, height, width, features]`.

        Raises:
            ImageError, OSError, TypeError, ValueError: as `predict` does; with `none` also as
                `features` does.
        """
        from .stream.pooling import POOLS, pool_map, unit_length

        normalize = arguments.flag("normalize", normalize)
        pool = arguments.choice("pool", pool, POOLS)
        last = self.loaded.last_map
        if pool == "none":
            if normalize:
                raise ValueError("normalize=True needs a vector, and pool='none' gives a map")
            return self.features(images, (last,))[last]
        sources, single = as_list(images)
        if pool == "avg":
            rows = self._run(
                sources, single, self.loaded.network.embed, self.loaded.network.embedding_size
            )
        else:

            def run(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
                (maps,) = self.loaded.network.features(pixels, (last,))
                return np.stack([pool_map(values, pool) for values in maps])

            columns = self.loaded.last_channels * (2 if pool == "catavgmax" else 1)
            rows = self._run(sources, single, run, columns)
        if normalize:
            rows = unit_length(rows)
        return rows[0] if single else rows

    def features(
        self,
        images: ImageLike | list[Any] | tuple[Any, ...],
        stages: Sequence[str] | None = None,
    ) -> dict[str, NDArray[np.float32]]:
        """Feature maps inside the network.

        A side of `layer1`'s map is a fourth of the image's, rounded up, of `layer2`'s an eighth,
        and so on to `layer4`'s thirty-second. Torch gives the same maps with the channels second:
        `maps["layer3"].transpose(0, 3, 1, 2)`.

        Args:
            images: one image or several, as the class describes.
            stages: which maps; by default every stage's: `layer1` to `layer4`. Any layer of
                `layer_names` is one, too. The network runs up to the last of them.

        Returns:
            For each name, in that order, `[height, width, channels]` for one image and
            `[n, height, width, channels]` for several. All of it is in memory at once.

        Raises:
            ImageError, OSError, TypeError: as `predict` does.
            ValueError: as `predict` does; also for no image at all, for a name that is none, and
                where nothing is cropped and the images differ in size.
        """
        names = self.loaded.stages if stages is None else arguments.texts("stages", stages)
        self._check_layers(names)
        sources, single = as_list(images)
        if not sources:
            raise ValueError("features needs at least one image; got an empty list")
        maps: dict[str, NDArray[np.float32]] = {}
        done = 0
        size: tuple[int, ...] = ()
        for pixels in self._batches(sources, single):
            if done and pixels.shape[1:3] != size:
                raise ValueError(SIZES_DIFFER)
            size = pixels.shape[1:3]
            results = self.loaded.network.features(pixels, names)
            for name, result in zip(names, results, strict=True):
                if not done:
                    maps[name] = np.empty((len(sources), *result.shape[1:]), np.float32)
                maps[name][done : done + len(result)] = result
            done += len(pixels)
            self._profile_shape(pixels)
        return {name: values[0] if single else values for name, values in maps.items()}

    def preprocess(self, images: ImageLike | list[Any] | tuple[Any, ...]) -> NDArray[np.float32]:
        """What `forward` takes: images resized, cropped and normalised.

        Args:
            images: one image or several, as the class describes.

        Returns:
            `[n, height, width, 3]`; n is 1 for one image. All of it is in memory at once.

        Raises:
            ImageError, OSError, TypeError: as `predict` does.
            ValueError: as `predict` does; also for no image at all, and where nothing is cropped
                and the images differ in size.
        """
        config = self.loaded.config
        pixels = single_batch(images, config.preprocessing, channels=config.in_channels)
        return self.loaded.network.normalize(pixels)

    def forward(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the network on input that is normalised already.

        Args:
            x: float32 `[batch, height, width, 3]` in RGB, of any batch, height and width from 1
                up; `preprocess` makes it from images. An array that is not C-contiguous is
                copied.

        Returns:
            Logits `[batch, num_classes]`; of a model without classes the pooled features.

        Raises:
            TypeError: no array, or another dtype.
            ValueError: another shape.
        """
        x = arguments.network_input(x, self.loaded.config.in_channels)
        logits = self.loaded.network.logits(x)
        self._profile_shape(x)
        return logits

    def _logits_of(self, sources: Sequence[ImageLike], single: bool) -> NDArray[np.float32]:
        """`[n, num_classes]`, also for one image."""
        columns = self.loaded.network.num_classes or self.loaded.network.embedding_size
        return self._run(sources, single, self.loaded.network.logits, columns)

    def _run(
        self,
        sources: Sequence[ImageLike],
        single: bool,
        network: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
        columns: int,
    ) -> NDArray[np.float32]:
        """Load images and run them batch by batch: `[n, columns]`."""
        rows = np.empty((len(sources), columns), np.float32)
        done = 0
        for pixels in self._batches(sources, single):
            rows[done : done + len(pixels)] = network(pixels)
            done += len(pixels)
            self._profile_shape(pixels)
        return rows

    def _batches(self, sources: Sequence[ImageLike], single: bool) -> Iterator[NDArray[np.uint8]]:
        config = self.loaded.config
        return batches(sources, config.preprocessing, single=single, channels=config.in_channels)

    def _require_classes(self) -> None:
        if self.loaded.network.num_classes == 0:
            raise ValueError(
                "this model has no classes (num_classes=0), so it names nothing: use embed() or "
                "features(), or load it with its last layer"
            )

    def _check_layers(self, names: Sequence[str]) -> None:
        known = (*self.loaded.stages, *self.loaded.network.layer_names)
        for name in names:
            if name not in known:
                raise ValueError(
                    f"stages: {name!r} is no layer of this network; expected some of "
                    f"{', '.join(known)}. For the steps that are fused into these, use trace()"
                )

"""`ResNet50`: images in, labels, logits or embeddings out."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from . import arguments
from ._core import Network, softmax_top_k
from .batches import as_list, batches
from .config import Config
from .labels import class_labels

if TYPE_CHECKING:
    from .images import ImageLike
    from .profile import Profile

_PROFILE_ROUNDS = 10


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


class ResNet50:
    """A ResNet-50 with trained weights, ready to run on the CPU.

    `predict`, `logits`, `embed` and `preprocess` take one image or several. One image is a path,
    the bytes of an image file, a binary file object, a PIL image or a uint8 array
    `[height, width, 3]`; several are a list or tuple of those, in any mix, or a uint8 array
    `[n, height, width, 3]`. Several images are worked through in batches, so that a long list
    needs little memory, and a result is the same, bit for bit, in a list and alone.

    A model may be used from many threads at once and in child processes after a fork. Pickling
    it stores the path and the arguments, not the weights; copies share the weights.

    Args:
        weights: a directory with `model.safetensors` and `config.json`, or a `.safetensors` file.
        isa: which kernels to use, `portable`, `avx2` or `avx512`; by default `RESNET_RS_ISA`
            where it is set, else the best that this machine has.
        threads: how many threads a forward uses; by default `RESNET_RS_NUM_THREADS`,
            `RAYON_NUM_THREADS` or `OMP_NUM_THREADS`, the first that is set, else the CPUs that
            this process may use.
        winograd: whether 3x3 convolutions may run with Winograd's algorithm, which multiplies
            less: faster, with weights that take more memory, and other rounding.

    Raises:
        FileNotFoundError: there is no such file or directory.
        WeightsError: the weights or the config are malformed.
        UnsupportedIsaError: this machine lacks `isa`.
        TypeError, ValueError: an argument of the wrong kind or out of range.

    Example:
        ```python
        from resnet_rs import ResNet50

        model = ResNet50("weights")
        for prediction in model.predict("photo.jpg", top_k=3):
            print(f"{prediction.score:6.2%}  {prediction.label}")
        ```
    """

    def __init__(
        self,
        weights: str | os.PathLike[str],
        *,
        isa: str | None = None,
        threads: int | None = None,
        winograd: bool = True,
    ) -> None:
        self._path = arguments.path("weights", weights)
        self._requested_isa = isa
        self._requested_threads = None if threads is None else arguments.count("threads", threads)
        self._requested_winograd = arguments.flag("winograd", winograd)
        self._profiled_shapes: set[tuple[int, ...]] | None = set() if _wants_profiles() else None
        self._network = Network(
            self._path,
            isa=isa,
            threads=self._requested_threads,
            winograd=self._requested_winograd,
        )
        self._config = Config.from_json(self._network.config_json)
        self._labels = class_labels(self._config)
        if not self._network.has_config:
            warnings.warn(_no_config_message(self._path, self._config), UserWarning, stacklevel=2)

    @overload
    def predict(
        self, images: list[Any] | tuple[Any, ...], top_k: int = 5
    ) -> list[list[Prediction]]: ...
    @overload
    def predict(self, images: ImageLike, top_k: int = 5) -> list[Prediction]: ...
    def predict(
        self, images: ImageLike | list[Any] | tuple[Any, ...], top_k: int = 5
    ) -> list[Prediction] | list[list[Prediction]]:
        """Name what is in an image.

        Args:
            images: one image or several, as the class describes.
            top_k: how many classes to return; all of them where there are fewer.

        Returns:
            For one image its best classes, best first; equal scores are ordered by index. For
            several images a list of such lists, in the images' order.

        Raises:
            ImageError: an image is damaged, empty or no image; the message names it.
            OSError: an image file cannot be opened.
            TypeError: something that is no image, or `top_k` is no int.
            ValueError: an array of another shape, or `top_k` is below 1.
        """
        top_k = arguments.count("top_k", top_k)
        sources, single = as_list(images)
        if not sources:
            return []
        logits = self.logits(images)
        scores, indices = softmax_top_k(logits.reshape(len(sources), -1), top_k)
        predictions = [
            [Prediction(self._labels[i], s, i) for s, i in zip(*row, strict=True)]
            for row in zip(scores.tolist(), indices.tolist(), strict=True)
        ]
        return predictions[0] if single else predictions

    def logits(self, images: ImageLike | list[Any] | tuple[Any, ...]) -> NDArray[np.float32]:
        """The network's raw outputs, before softmax.

        Args:
            images: one image or several, as the class describes.

        Returns:
            `[num_classes]` for one image, `[n, num_classes]` for several.

        Raises:
            ImageError, OSError, TypeError, ValueError: as `predict` does.
        """
        return self._run(images, self._network.logits, self._network.num_classes)

    def embed(self, images: ImageLike | list[Any] | tuple[Any, ...]) -> NDArray[np.float32]:
        """The features before the last layer: for similarity search or a classifier of one's own.

        They are not scaled to unit length.

        Args:
            images: one image or several, as the class describes.

        Returns:
            `[2048]` for one image, `[n, 2048]` for several; every value is at least 0.

        Raises:
            ImageError, OSError, TypeError, ValueError: as `predict` does.
        """
        return self._run(images, self._network.embed, self._network.embedding_size)

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
        sources, single = as_list(images)
        if not sources:
            raise ValueError("preprocess needs at least one image; got an empty list")
        groups = list(batches(sources, self._config.preprocessing, single=single))
        sizes = {group.shape[1:3] for group in groups}
        if len(sizes) > 1:
            raise ValueError(
                f"these images differ in size ({len(sizes)} sizes), so they make no single array: "
                "preprocess them one by one"
            )
        return self._network.normalize(np.concatenate(groups))

    def forward(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the network on input that is normalised already.

        Args:
            x: float32 `[batch, height, width, 3]` in RGB, of any batch, height and width from 1
                up; `preprocess` makes it from images. An array that is not C-contiguous is
                copied.

        Returns:
            Logits `[batch, num_classes]`.

        Raises:
            TypeError: no array, or another dtype.
            ValueError: another shape.
        """
        _check_input(x)
        x = np.ascontiguousarray(x)
        logits = self._network.logits(x)
        self._profile_new_shape(x)
        return logits

    def profile(
        self,
        images: ImageLike | list[Any] | tuple[Any, ...] | NDArray[np.float32],
        rounds: int = _PROFILE_ROUNDS,
        *,
        detail: bool = False,
    ) -> Profile:
        """Measure where the time of a forward goes: a table of every layer.

        The environment variable `RESNET_RS_PROFILE=1`, set when a model is made, prints the same
        table to stderr after the model's first call at each input shape.

        Args:
            images: one image or several, as the class describes, or what `forward` takes. They
                run as one batch, so they must have one size after preprocessing.
            rounds: how often to run them, after a run that is not counted; times are medians over
                the faster half.
            detail: give a row to every step of the plan. Otherwise a Winograd layer's steps (the
                input's transform, the products, the output's transform) are one row.

        Returns:
            A `resnet_rs.profile.Profile`: print it, or read its `rows`.

        Raises:
            ImageError, OSError, TypeError, ValueError: as `preprocess` or `forward` does; also
                for `rounds` below 1.

        Example:
            ```python
            from resnet_rs import ResNet50

            print(ResNet50("weights").profile("photo.jpg"))
            ```
        """
        from .profile import measure_profile

        rounds = arguments.count("rounds", rounds)
        detail = arguments.flag("detail", detail)
        x = self._input_of(images)
        return measure_profile(self._network, x, rounds=rounds, detail=detail)

    def release(self) -> None:
        """Give back the memory that past calls reserved for activations; the weights stay."""
        self._network.release()

    @property
    def config(self) -> Config:
        """What the weights' `config.json` says, defaults filled in."""
        return self._config

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes' names by index."""
        return self._labels

    @property
    def isa(self) -> str:
        """The kernels in use: `portable`, `avx2` or `avx512`."""
        return self._network.isa

    @property
    def threads(self) -> int:
        """The number of threads that a forward uses."""
        return self._network.threads

    @property
    def winograd(self) -> bool:
        """Whether any layer runs with Winograd's algorithm."""
        return self._network.winograd

    def _run(
        self,
        images: ImageLike | list[Any] | tuple[Any, ...],
        network: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
        columns: int,
    ) -> NDArray[np.float32]:
        """Load images and run them batch by batch: `[columns]` for one, `[n, columns]` for n."""
        sources, single = as_list(images)
        rows = np.empty((len(sources), columns), np.float32)
        done = 0
        for pixels in batches(sources, self._config.preprocessing, single=single):
            rows[done : done + len(pixels)] = network(pixels)
            done += len(pixels)
            self._profile_new_shape(pixels)
        return rows[0] if single else rows

    def _input_of(self, images: Any) -> NDArray[np.float32]:
        """What `forward` takes: made of images, or `images` itself where it is such an array."""
        if isinstance(images, np.ndarray) and images.dtype == np.float32:
            _check_input(images)
            return np.ascontiguousarray(images)
        return self.preprocess(images)

    def _profile_new_shape(self, x: NDArray[np.float32] | NDArray[np.uint8]) -> None:
        """Print `x`'s profile where `RESNET_RS_PROFILE` asks for it and its shape is new."""
        if self._profiled_shapes is None or x.shape in self._profiled_shapes:
            return
        from .profile import measure_profile

        self._profiled_shapes.add(x.shape)
        print(measure_profile(self._network, x, rounds=_PROFILE_ROUNDS), file=sys.stderr)

    def __repr__(self) -> str:
        spec = self._config.preprocessing
        size = spec.crop or spec.resize
        if size is None:
            size_text = "any size"
        elif isinstance(size, int):
            size_text = f"{size}x{size}" if spec.crop else f"short side {size}"
        else:
            size_text = f"{size[0]}x{size[1]}"
        return (
            f"ResNet50({self._path!r}, classes={self._network.num_classes}, "
            f"input={size_text!r}, parameters={self._network.num_parameters / 1e6:.1f}M, "
            f"isa={self.isa!r}, threads={self.threads}"
            f"{'' if self._requested_winograd else ', winograd=False'})"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _load, (
            type(self),
            self._path,
            self._requested_isa,
            self._requested_threads,
            self._requested_winograd,
        )

    def __copy__(self) -> ResNet50:
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin

    def __deepcopy__(self, memo: dict[int, Any]) -> ResNet50:
        return self.__copy__()


def _load(
    cls: type[ResNet50], path: str, isa: str | None, threads: int | None, winograd: bool
) -> ResNet50:
    """Unpickle a model: with the arguments that it was made with, on the machine that this is."""
    return cls(path, isa=isa, threads=threads, winograd=winograd)


def _wants_profiles() -> bool:
    """Whether `RESNET_RS_PROFILE` asks for profiles.

    Raises:
        ValueError: it is neither empty, 0 nor 1.
    """
    wish = os.environ.get("RESNET_RS_PROFILE", "")
    if wish not in ("", "0", "1"):
        raise ValueError(
            f"RESNET_RS_PROFILE must be 1 (print each input shape's profile) or 0; got {wish!r}"
        )
    return wish == "1"


def _check_input(x: Any) -> None:
    expected = "forward takes a normalised float32 array [batch, height, width, 3]"
    if not isinstance(x, np.ndarray):
        raise TypeError(
            f"{expected}; got {type(x).__name__}. For images call logits() or predict(); for a "
            "tensor pass tensor.numpy()"
        )
    shape = list(x.shape)
    if x.dtype == np.uint8:
        raise TypeError(f"{expected}; got uint8 {shape}. For pixels call logits() or predict()")
    if x.dtype != np.float32:
        raise TypeError(f"{expected}; got {x.dtype} {shape}. Pass x.astype(numpy.float32)")
    if x.ndim == 3 and shape[2] == 3:
        raise ValueError(f"{expected}; got shape {shape}. Add the batch axis: x[None]")
    if x.ndim == 4 and shape[3] != 3 and shape[1] == 3:
        raise ValueError(
            f"{expected}; shape {shape} has its channels second. Pass x.transpose(0, 2, 3, 1)"
        )


def _no_config_message(path: str, config: Config) -> str:
    spec = config.preprocessing
    labels = "ImageNet's labels" if config.num_classes == 1000 else "the class indices as labels"
    return (
        f"there is no config.json beside {path}: assuming torchvision's IMAGENET1K_V2 "
        f"preprocessing (resize {spec.resize}, crop {spec.crop}, {spec.interpolation}) and "
        f'{labels}. To state your own, write a config.json with "preprocessing" and "labels", '
        "and pass the directory"
    )

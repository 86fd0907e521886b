"""`ResNet`: a trained network, from a file to a model."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, overload

from numpy.typing import NDArray

from . import arguments
from .inspect.shape_profiler import shape_profiler
from .options import Options, described, option_method
from .weights.config import Config
from .weights.load import load
from .weights.loaded import Loaded

if TYPE_CHECKING:
    import numpy as np

    from .images.decode import ImageLike
    from .inspect.gradients import GradientTrace
    from .inspect.profile import Profile
    from .inspect.summary import Summary
    from .inspect.trace import Trace
    from .results import Prediction
    from .stream import Stream
    from .weights.pickling import Recipe

_Self = TypeVar("_Self", bound="ResNet")


@described
class ResNet:
    """A residual network with trained weights, ready to run on the CPU.

    `predict`, `logits`, `embed`, `features` and `preprocess` take one image or several. One image
    is a path, the bytes of an image file, a binary file object, a PIL image or a uint8 array
    `[height, width, 3]`. Several images are a list or tuple of those, in any mix, or a uint8 array
    `[n, height, width, 3]`. They run in batches, so a long list needs little memory. A result is
    the same, bit for bit, in a list and alone.

    You can use a model from many threads at once and in child processes after a fork. A pickle
    holds the path, the SHA-256 of the files and the arguments, not the weights. Copies share the
    weights.

    A class such as `ResNet50` accepts the weights of its own architecture only, also from files
    that do not state one. `resnet_rs.load` accepts any and returns the class that fits.

    Args:
        <options>

    Raises:
        FileNotFoundError: there is no such file or directory.
        WeightsError: the weights or the config are malformed, or of another architecture.
        UnsupportedIsaError: this machine lacks `isa`.
        ImportError: the format needs an optional extra that is not installed.
        TypeError, ValueError: an argument of the wrong kind or out of range.

    Example:
        ```python
        from resnet_rs import ResNet50

        model = ResNet50("weights")
        for prediction in model.predict("photo.jpg", top_k=3):
            print(f"{prediction.score:6.2%}  {prediction.label}")
        ```
    """

    architecture: ClassVar[str | None] = None
    """The only one whose weights the class takes; None for any."""

    @option_method(Options)
    def __init__(self, options: Options) -> None:
        self._adopt(load(options, self.architecture))
        self.loaded.warn(stacklevel=4)  # past this method and its wrapper

    @classmethod
    def from_pretrained(
        cls: type[_Self],
        name: str,
        *,
        cache_dir: str | os.PathLike[str] | None = None,
        offline: bool | None = None,
        progress: bool = True,
        **options: Any,
    ) -> _Self:
        """Load weights that others have published, downloading them the first time.

        Args:
            name: a name of torchvision (`IMAGENET1K_V2`) or timm (`resnet50.a1_in1k`), or a
                repository of Hugging Face (`microsoft/resnet-50`); `resnet-rs pretrained` lists
                them.
            cache_dir: the directory for the files; by default `RESNET_RS_CACHE`, else the user's
                cache.
            offline: use only the cache; by default as `RESNET_RS_OFFLINE` says.
            progress: show a progress bar on a terminal.
            options: the class's own arguments, without `weights`.

        Raises:
            OSError: the download failed, or the file is not in the cache and `offline` is set.
            WeightsError: the file has another hash than expected.
            ValueError: there is no such name.
            ImportError: the download needs the extra `pretrained`, which is not installed.
        """
        from .weights.pretrained import fetch

        architecture = cls.architecture or options.get("architecture")
        file = fetch(
            name,
            architecture=architecture,
            cache_dir=cache_dir,
            offline=offline,
            progress=arguments.flag("progress", progress),
        )
        config = {**file.config, **(options.pop("config", None) or {})}
        loaded = load(Options(file.path, config=config, **options), cls.architecture)
        loaded.pretrained = (name, architecture)
        loaded.warn(stacklevel=3)
        return cls.of(loaded)

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
            top_k: the number of classes to return; all of them if there are fewer.
            tta: look at each image several times and average, as `probabilities` does.

        Returns:
            For one image its best classes, best first; equal logits are ordered by index. For
            several images a list of such lists, in the images' order. A score is what the model's
            activation (`config.activation`) makes of the logit: with `softmax` the scores of all
            classes add up to 1, with `sigmoid` each stands by itself, and with `none` it is the
            logit, the largest first (`logits` gives the values of a regression in their order).

        Raises:
            ImageError: an image is damaged, empty or not an image; the message names it.
            OSError: an image file cannot be opened.
            TypeError: something that is not an image, or `top_k` is not an int.
            ValueError: an array of another shape, `top_k` is below 1, no such `tta`, or a model
                without classes.
        """
        from .stream.engine import run_now
        from .stream.tasks import Predictions

        return run_now(Predictions(self.loaded, top_k, tta), images, self._watch)

    def probabilities(
        self, images: ImageLike | list[Any] | tuple[Any, ...], tta: str | None = None
    ) -> NDArray[np.float32]:
        """The score of every class, by softmax or as the model's activation says.

        Args:
            images: one image or several, as the class describes.
            tta: test-time augmentation. `hflip` looks at the image and its mirror image, `10crop`
                at the corners and the centre of both, `multiscale` at the whole image with its
                short side at 224, 256, 384, 480 and 640 pixels. The result is the mean of the
                views' scores. See `resnet_rs.images.views`.

        Returns:
            `[num_classes]` for one image, `[n, num_classes]` for several. With the activation
            `softmax` each row's sum is 1, with `sigmoid` each score is a probability by itself, and
            with `none` scores are the logits.

        Raises:
            ImageError, OSError, TypeError, ValueError: as `predict` does; also if the augmentation
                does not go with the model's preprocessing or its last layers.
        """
        from .stream.engine import run_now
        from .stream.tasks import Probabilities

        return run_now(Probabilities(self.loaded, tta), images)

    def logits(self, images: ImageLike | list[Any] | tuple[Any, ...]) -> NDArray[np.float32]:
        """The network's raw outputs, before softmax or sigmoid.

        Args:
            images: one image or several, as the class describes.

        Returns:
            `[num_classes]` for one image, `[n, num_classes]` for several. A model without classes
            gives the pooled features, as `embed` does.

        Raises:
            ImageError, OSError, TypeError, ValueError: as `predict` does.
        """
        from .stream.engine import run_now
        from .stream.tasks import Logits

        return run_now(Logits(self.loaded), images, self._watch)

    def embed(
        self,
        images: ImageLike | list[Any] | tuple[Any, ...],
        *,
        normalize: bool = False,
        pool: str = "avg",
    ) -> NDArray[np.float32]:
        """The features before the last layer: for similarity search or a classifier of your own.

        Args:
            images: one image or several, as the class describes.
            normalize: scale each vector to length 1, so that a dot product is the cosine.
            pool: how the last feature map becomes a vector: `avg` (what the network itself does),
                `max`, `avgmax` (the mean of both), `catavgmax` (one behind the other, twice as
                long), or `none` for the map.

        Returns:
            `[features]` for one image, `[n, features]` for several; 2048 features if blocks are
            bottlenecks, 512 if they are basic. Every value is at least 0. With `none`,
            `[height, width, features]` or `[n, height, width, features]`.

        Raises:
            ImageError, OSError, TypeError, ValueError: as `predict` does; with `none` also as
                `features` does.
        """
        from .stream.engine import run_now
        from .stream.tasks import Embeddings

        task = Embeddings(self.loaded, pool=pool, normalize=normalize)
        return run_now(task, images, self._watch)

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
                `layer_names` may be named too. The network runs up to the last of them.

        Returns:
            For each name, in that order, `[height, width, channels]` for one image and
            `[n, height, width, channels]` for several. All of it is in memory at once.

        Raises:
            ImageError, OSError, TypeError: as `predict` does.
            ValueError: as `predict` does; also for no image at all, for an unknown name, and for
                images that differ in size if nothing is cropped.
        """
        from .stream.engine import run_now
        from .stream.tasks import Features

        return run_now(Features(self.loaded, stages), images, self._watch)

    def preprocess(self, images: ImageLike | list[Any] | tuple[Any, ...]) -> NDArray[np.float32]:
        """Make the input of `forward`: images resized, cropped and normalised.

        Args:
            images: one image or several, as the class describes.

        Returns:
            `[n, height, width, 3]`; n is 1 for one image. All of it is in memory at once.

        Raises:
            ImageError, OSError, TypeError: as `predict` does.
            ValueError: as `predict` does; also for no image at all, and for images that differ in
                size if nothing is cropped.
        """
        from .images.batches import single_batch

        config = self.loaded.config
        pixels = single_batch(
            images,
            config.preprocessing,
            channels=config.in_channels,
            choices=self.loaded.options,
        )
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
            TypeError: not an array, or another dtype.
            ValueError: another shape.
        """
        from .stream.engine import run_forward

        return run_forward(self.loaded, x, self._watch)

    def stream(self, paths: Any, **options: Any) -> Stream:
        """Work through any number of image files, decoding some while others are computed.

        Args:
            paths: an iterable of paths; it is read as far as needed, so it may be endless.
            options: `batch_size`, `what` (`predict`, `embed` or `logits`) and more:
                `resnet_rs.stream.stream` has them all.

        Returns:
            A generator of `resnet_rs.stream.Result`, in the order of the paths. A bad file is a
            result with an error, and the others go on.
        """
        from .stream import stream

        return stream(self, paths, **options)

    def trace(self, image: ImageLike | NDArray[np.float32], *, fused: bool = False) -> Trace:
        """Every operation's result for one image, under torchvision's names.

        Args:
            image: one image, as the class describes, or what `forward` takes.
            fused: show the layers that production runs, batch norm, ReLU and addition folded
                into the convolutions; otherwise each of those is a step of its own, and the
                network is walked without fusing them.

        Returns:
            A `resnet_rs.inspect.trace.Trace`: a mapping of names to NHWC arrays, computed on first
            access, with shapes and statistics; print it to see them all.

        Raises:
            ImageError, OSError, TypeError, ValueError: as `preprocess` or `forward` does.
        """
        from .inspect.trace import trace

        return trace(self.loaded, image, fused=fused)

    def trace_gradients(
        self,
        images: ImageLike | list[Any] | tuple[Any, ...] | NDArray[np.float32],
        labels: int | str | Sequence[int | str] | NDArray[Any],
        *,
        label_smoothing: float = 0.0,
        frozen: Collection[str] = (),
    ) -> GradientTrace:
        """The gradient of the loss by every operation's result and by every tensor, in float64.

        The network is in training mode: batch norm takes the statistics of the batch. The
        gradients are computed by `resnet_rs.reference`, in NumPy, which takes seconds for small
        images and minutes for large ones.

        Args:
            images: one image or several, as the class describes, or what `forward` takes.
            labels: a class for each image, by index or name; or soft targets `[batch, classes]`.
            label_smoothing: the part of each label that is shared among all classes.
            frozen: names of operations that do not learn, such as `bn1`, or `norms` for all batch
                norms; frozen ones take their running statistics.

        Returns:
            A `resnet_rs.inspect.gradients.GradientTrace`: a mapping of names to arrays in the order
            of the way back, with the loss; print it to see them all.

        Raises:
            ImageError, OSError, TypeError: as `preprocess` or `forward` does.
            ValueError: as they do; a label out of range; or a batch norm that has a single value of
                a channel, which happens with one small image.
        """
        from .inspect.gradients import trace_gradients

        return trace_gradients(
            self.loaded, images, labels, label_smoothing=label_smoothing, frozen=frozen
        )

    def profile(
        self,
        images: ImageLike | list[Any] | tuple[Any, ...] | NDArray[np.float32],
        rounds: int = 10,
        *,
        detail: bool = False,
    ) -> Profile:
        """Measure the time that each layer of a forward takes.

        The environment variable `RESNET_RS_PROFILE=1`, set when a model is made, prints the same
        table to stderr after the model's first call at each input shape.

        Args:
            images: one image or several, as the class describes, or an input of `forward`. They
                run as one batch, so they must have one size after preprocessing.
            rounds: the number of runs, after one that is not counted; times are medians over the
                faster half.
            detail: give a row to every step of the plan. Otherwise a Winograd layer's steps (the
                input's transform, the products, the output's transform) are one row.

        Returns:
            A `resnet_rs.inspect.profile.Profile`: print it, or read its `rows`.

        Raises:
            ImageError, OSError, TypeError, ValueError: as `preprocess` or `forward` does; also
                for `rounds` below 1.

        Example:
            ```python
            from resnet_rs import ResNet50

            print(ResNet50("weights").profile("photo.jpg"))
            ```
        """
        from .inspect.profile import profile

        return profile(self.loaded, images, rounds, detail=detail)

    def summary(self, size: int | tuple[int, int] | None = None) -> Summary:
        """List the layers with their costs: shapes, parameters, multiply-accumulates.

        Args:
            size: the input's side in pixels, or `(height, width)`; by default the size of a
                preprocessed image.

        Returns:
            A `resnet_rs.inspect.summary.Summary`: print it, or read its rows and totals.

        Raises:
            TypeError, ValueError: `size` is not a size.
        """
        from .inspect.summary import summarize

        return summarize(self, size)

    def save(
        self, directory: str | os.PathLike[str], *, dtype: str = "f32", force: bool = False
    ) -> None:
        """Write the model as a resnet_rs weights directory.

        Args:
            directory: the directory for `model.safetensors` and `config.json`.
            dtype: `f32`, or `f16` for half the size and about 3 digits of precision. A quantised
                model is written as it is.
            force: replace the model that the directory holds.

        Raises:
            FileExistsError: the directory holds a model, and `force` is not given.
            OSError: the original files are gone, or the new ones cannot be written.
            WeightsError: the original files have changed since the model was loaded.
            ValueError: no such `dtype`, or one for a quantised model.
        """
        from .weights.save import save

        save(self.loaded, directory, dtype=dtype, force=force)

    def export_onnx(
        self, path: str | os.PathLike[str], *, fold_norms: bool = True, force: bool = False
    ) -> None:
        """Write the model as an ONNX file, for other runtimes.

        The graph takes `image`, float32 `[batch, channels, height, width]`, normalised, in RGB and
        of any batch and size; it gives `logits` `[batch, classes]`, before the activation, or
        `embedding` `[batch, features]` if the model has no last layer. The metadata
        `resnet_rs.config` are the text of a config.json, with labels and preprocessing, and
        `resnet_rs.load` reads the file with them.

        Args:
            path: the file to write.
            fold_norms: fold batch norms into the convolutions before them. Otherwise they are nodes
                of their own, and the tensors have torchvision's names and values.
            force: replace a file that is there.

        Raises:
            ImportError: the onnx package is not installed.
            FileExistsError: there is such a file, and `force` is not given.
            OSError: it cannot be written, or the original weights are gone.
            WeightsError: the original weights have changed since the model was loaded.
        """
        from .weights.onnx_export import export_onnx

        export_onnx(self.loaded, path, fold_norms=fold_norms, force=force)

    def quantize(
        self: _Self,
        images: Any,
        *,
        method: str = "auto",
        percentile: float = 99.999,
        bf16: Sequence[str] = (),
        max_error: float | None = None,
        count: int = 300,
        on_error: str = "skip",
        progress: bool = True,
    ) -> _Self:
        """Make a copy of the model with int8 weights: a quarter of the size.

        It is faster where the processor has VNNI.

        The f32 network runs over the images, which tell the range of each layer's 8 bits. A few
        hundred photos like those that the model will see are enough; labels are not needed.
        `resnet_rs.quantization.report` tells what the result costs in precision.

        Args:
            images: a folder; one image or several, as the class describes; or float32
                `[n, height, width, 3]`, normalised, as `forward` takes.
            method: how the ranges are chosen: `minmax`, `percentile`, `mse` or `kl`
                (`resnet_rs.quantization.clipping`). `auto` compares `minmax` and `mse` on a few of
                the images, and takes `mse` if its logits are clearly nearer to those of f32
                (`resnet_rs.quantization.trial`).
            percentile: the percentage of values that the method `percentile` keeps.
            bf16: layers or stages that stay in bf16, such as `["layer4", "fc"]`.
            max_error: the relative error of the logits that is allowed, on a few of the images. As
                few layers stay in bf16 as it takes, those with the most noise first
                (`resnet_rs.quantization.mixing`). None allows any error.
            count: how many images of a folder to use, evenly over its sorted files.
            on_error: `skip` to leave out an image that cannot be read, with a warning, or `raise`
                to raise its error.
            progress: show a progress bar on a terminal.

        Returns:
            A model of the same class. `config.quantization` says how it was made, `save` writes
            it, and a pickle holds its weights.

        Raises:
            ImageError, OSError: an image cannot be read, and `on_error` is `raise`; or none can.
            TypeError: something is not an image.
            ValueError: no image, or images that calibrate nothing; no such method or layer; an
                error that bf16 exceeds; a model that is quantised already, or a network that int8
                does not have.
            WeightsError: the original files have changed since the model was loaded.

        Example:
            ```python
            from resnet_rs import ResNet50

            model = ResNet50("weights").quantize("photos")
            model.save("weights-int8")
            ```
        """
        from .quantization import quantize
        from .terminal.progress import Progress

        line = Progress()
        if not arguments.flag("progress", progress):
            line.turn_off()
        result = quantize(
            self,
            images,
            method,
            percentile=percentile,
            bf16=bf16,
            max_error=max_error,
            count=count,
            on_error=on_error,
            architecture=self.architecture,
            progress=line,
        )
        result.warn(stacklevel=3)
        return self.of(result.loaded)

    def release(self) -> None:
        """Free the memory that past calls reserved for activations; the weights stay."""
        self.loaded.network.release()

    @property
    def config(self) -> Config:
        """The description of the weights, defaults filled in."""
        return self.loaded.config

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes' names by index."""
        return self.loaded.labels

    @property
    def remarks(self) -> tuple[str, ...]:
        """Everything that was found out or assumed while the weights were read, in sentences.

        Assumptions, choices and omissions were shown as warnings at load. Harmless facts, such as a
        prefix that was stripped, are only here.
        """
        return self.loaded.remarks

    @property
    def layer_names(self) -> tuple[str, ...]:
        """The layers whose maps `features` gives, in network order."""
        return tuple(self.loaded.network.layer_names)

    @property
    def backend(self) -> str:
        """The implementation that computes: `fast` or `reference`."""
        return self.loaded.options.backend

    @property
    def precision(self) -> str:
        """The arithmetic: `f32`, `bf16` or `int8`; see the argument of that name."""
        return self.loaded.precision

    @property
    def isa(self) -> str:
        """The kernels in use: `portable`, `avx2` or `avx512`; `reference` for that backend."""
        return self.loaded.network.isa

    @property
    def threads(self) -> int:
        """The number of threads that a forward uses."""
        return self.loaded.network.threads

    @property
    def winograd(self) -> bool:
        """True if any layer runs with Winograd's algorithm."""
        return self.loaded.network.winograd

    def _adopt(self, loaded: Loaded) -> None:
        self.loaded = loaded
        self._watch = shape_profiler(loaded)

    @classmethod
    def of(cls: type[_Self], loaded: Loaded) -> _Self:
        """Make a model of a network that is in memory already."""
        model = object.__new__(cls)
        model._adopt(loaded)
        return model

    def __repr__(self) -> str:
        spec = self.config.preprocessing
        size = spec.crop or spec.resize
        if size is None:
            size_text = "any size"
        elif isinstance(size, int):
            size_text = f"{size}x{size}" if spec.crop else f"short side {size}"
        else:
            size_text = f"{size[0]}x{size[1]}"
        options = self.loaded.options
        trained = self.loaded.network.num_parameters
        usual = self.config.activation == "softmax" or not self.loaded.network.num_classes
        activation = "" if usual else f"activation={self.config.activation!r}, "
        named = "" if self.architecture else f"architecture={self.config.architecture!r}, "
        return (
            f"{type(self).__name__}({options.origin!r}, {named}"
            f"classes={self.loaded.network.num_classes}, "
            f"{activation}"
            f"input={size_text!r}, "
            f"precision={self.precision!r}, "
            f"parameters={f'{trained / 1e6:.1f}M' if trained >= 100_000 else trained}, "
            f"isa={self.isa!r}, threads={self.threads}"
            f"{'' if options.winograd else ', winograd=False'})"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        from .weights.pickling import recipe_of

        return _restore, (type(self), recipe_of(self.loaded))

    def __copy__(self: _Self) -> _Self:
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin

    def __deepcopy__(self: _Self, memo: dict[int, Any]) -> _Self:
        return self.__copy__()


def _restore(cls: type[_Self], recipe: Recipe) -> _Self:
    """Unpickle a model."""
    from .weights.pickling import restore

    return cls.of(restore(recipe, cls.architecture))

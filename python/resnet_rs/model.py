"""`ResNet`: a trained network, from a file to a model."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from numpy.typing import NDArray

from . import arguments
from .inference import Inference, Prediction
from .inspect.shape_profiler import ShapeProfiler
from .options import Options, described, option_method
from .weights.config import Config
from .weights.load import load
from .weights.loaded import Loaded

if TYPE_CHECKING:
    import numpy as np

    from .images.decode import ImageLike
    from .inspect.profile import Profile
    from .inspect.summary import Summary
    from .inspect.trace import Trace
    from .stream import Stream
    from .weights.pickling import Recipe

__all__ = ["Prediction", "ResNet"]

_Self = TypeVar("_Self", bound="ResNet")


@described
class ResNet(Inference):
    """A residual network with trained weights, ready to run on the CPU.

    `predict`, `logits`, `embed`, `features` and `preprocess` take one image or several. One image
    is a path, the bytes of an image file, a binary file object, a PIL image or a uint8 array
    `[height, width, 3]`; several are a list or tuple of those, in any mix, or a uint8 array
    `[n, height, width, 3]`. Several images are worked through in batches, so that a long list
    needs little memory, and a result is the same, bit for bit, in a list and alone.

    A model may be used from many threads at once and in child processes after a fork. Pickling
    it stores the path, the files' SHA-256 and the arguments, not the weights; copies share the
    weights.

    A class such as `ResNet50` takes the weights of its own architecture only, also from files
    that do not state one. `resnet_rs.load` takes any and returns the class that fits.

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
            name: a name of torchvision's (`IMAGENET1K_V2`), timm's (`resnet50.a1_in1k`) or a
                repository of Hugging Face's (`microsoft/resnet-50`); `resnet-rs pretrained`
                lists them.
            cache_dir: where files are kept; by default `RESNET_RS_CACHE`, else the user's cache.
            offline: whether to use the cache alone; by default as `RESNET_RS_OFFLINE` says.
            progress: whether to show a progress bar on a terminal.
            options: the class's own arguments, without `weights`.

        Raises:
            OSError: the file cannot be had, or not without a network.
            WeightsError: it has another hash than it should.
            ValueError: no such name.
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

    def profile(
        self,
        images: ImageLike | list[Any] | tuple[Any, ...] | NDArray[np.float32],
        rounds: int = 10,
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
        """What each layer is, and what it costs: shapes, parameters, multiply-accumulates.

        Args:
            size: the input's side in pixels, or `(height, width)`; by default what the weights'
                preprocessing makes.

        Returns:
            A `resnet_rs.inspect.summary.Summary`: print it, or read its rows and totals.

        Raises:
            TypeError, ValueError: no size.
        """
        from .inspect.summary import summarize

        return summarize(self, size)

    def save(
        self, directory: str | os.PathLike[str], *, dtype: str = "f32", force: bool = False
    ) -> None:
        """Write the model as a directory of ours, whatever format it came from.

        Args:
            directory: where `model.safetensors` and `config.json` go.
            dtype: `f32`, or `f16` for half the size and some 3 digits of precision.
            force: replace a model that is there already.

        Raises:
            FileExistsError: there is one, and `force` is not given.
            OSError: the files that the model came from are gone, or it cannot be written.
        """
        from .weights.formats.checkpoint import Checkpoint
        from .weights.formats.convert import write_directory

        origin = self.loaded.options.origin
        checkpoint = Checkpoint(self.loaded.tensors(), self.config.as_dict(), origin)
        write_directory(checkpoint, directory, dtype=dtype, force=force)

    def release(self) -> None:
        """Give back the memory that past calls reserved for activations; the weights stay."""
        self.loaded.network.release()

    @property
    def config(self) -> Config:
        """What is known of the weights, defaults filled in."""
        return self.loaded.config

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes' names by index."""
        return self.loaded.labels

    @property
    def layer_names(self) -> tuple[str, ...]:
        """The layers whose maps `features` gives, in network order."""
        return tuple(self.loaded.network.layer_names)

    @property
    def backend(self) -> str:
        """What computes: `fast` or `reference`."""
        return self.loaded.options.backend

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
        """Whether any layer runs with Winograd's algorithm."""
        return self.loaded.network.winograd

    def _adopt(self, loaded: Loaded) -> None:
        self.loaded = loaded
        self._profile_shape = ShapeProfiler(loaded)

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
        named = "" if self.architecture else f"architecture={self.config.architecture!r}, "
        return (
            f"{type(self).__name__}({options.origin!r}, {named}"
            f"classes={self.loaded.network.num_classes}, "
            f"input={size_text!r}, "
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

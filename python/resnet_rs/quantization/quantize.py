"""`quantize`: an f32 network and images become a network with int8 weights."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from .._core import Network, __version__
from ..evaluation.figures import Skipped
from ..evaluation.report import image_name
from ..reference.int8_network import Layer, int8_layers
from ..terminal.progress import Meter, Progress
from ..weights.formats.safetensors_writer import bytes_of
from ..weights.load import load
from ..weights.loaded import HasLoaded, Loaded
from . import core_calls
from .clipping import METHODS, PERCENTILE, clip_of
from .images import COUNT, Batch, CalibrationImages
from .options import options_of_quantized
from .statistics import LayerStatistics, gather
from .trial import TRIED, Trial, best_of
from .weights import tensors_by_clips

AUTO = "auto"
"""The method that tries several, as `trial.py` describes."""

Tensors = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Quantized:
    """A quantised network, and how it came about.

    Attributes:
        loaded: the network.
        method: the method that chose the scales.
        errors: of each method that `auto` tried, the relative error of its logits, as the
            geometric mean over some images; else empty.
        images: the number of calibration images.
        skipped: the images that could not be read, and so were left out.
        sample: up to 32 of them, `[1, height, width, channels]` each.
    """

    loaded: Loaded
    method: str
    errors: Mapping[str, float]
    images: int
    skipped: Sequence[Skipped]
    sample: Sequence[Batch]

    def warn(self, stacklevel: int) -> None:
        """Warn of images that were left out.

        Args:
            stacklevel: as `warnings.warn` takes it, counted from this method.
        """
        if self.skipped:
            left_out, first = len(self.skipped), self.skipped[0]
            warnings.warn(
                f"calibration: {left_out} of {left_out + self.images} images could not be read and "
                f"were left out; the first: {image_name(first.image) or 'an image'}: "
                f"{first.reason}",
                UserWarning,
                stacklevel=stacklevel,
            )


def quantize(
    model: HasLoaded,
    images: Any,
    method: str = AUTO,
    *,
    percentile: float = PERCENTILE,
    count: int = COUNT,
    on_error: str = "skip",
    architecture: str | None = None,
    progress: Progress | None = None,
) -> Quantized:
    """Quantise a model, as `ResNet.quantize` describes.

    Args:
        model: the f32 model.
        images: what to calibrate with, as for `CalibrationImages`.
        method: `auto`, `minmax`, `percentile`, `mse` or `kl` (`clipping.py`).
        percentile: of the method `percentile`, above 0 and at most 100.
        count: how many of a folder's images to use.
        on_error: `skip` to leave out an image that cannot be read and note it in
            `Quantized.skipped`, or `raise` to raise its error.
        architecture: the only one that the model's class accepts; None for any.
        progress: where to show how far it is.

    Raises:
        ImageError, OSError: an image cannot be read, and `on_error` is `raise`; or none can.
        TypeError: something is not an image.
        ValueError: no such method; images that calibrate nothing; a network that int8 does not
            have; or one that is quantised already.
        WeightsError: the original files have changed; or the weights are too large for int8.
    """
    _check(method, percentile)
    loaded = model.loaded
    loaded.require_f32("quantising")
    calibration = CalibrationImages(loaded, images, count, on_error=on_error)
    # Operations of another size differ in their shapes only.
    layers = int8_layers(loaded.network.operations(*loaded.input_size))
    with progress or Progress() as line:
        meter = Meter(line)
        meter.total = calibration.count
        statistics = gather(
            loaded.network,
            calibration.batches(),
            lambda images: meter.show(images, len(calibration.skipped)),
        )
        line.say("quantising ...")
        network = _Quantizing(loaded, layers, statistics, percentile)
        errors: dict[str, float] = {}
        if method == AUTO:
            trial = Trial(loaded.network, calibration.sample)
            network.prepare(TRIED)
            for tried in TRIED:
                line.say(f"trying {tried} ...")
                errors[tried] = trial.error(network.of(tried))
            method = best_of(errors)
        config = network.config(method, calibration.used, errors, len(calibration.skipped))
        result = _in_memory(loaded, network.tensors(method), config, architecture)
    return Quantized(
        result, method, errors, calibration.used, calibration.skipped, calibration.sample
    )


class _Quantizing:
    """A network's tensors by method, from one set of statistics."""

    def __init__(
        self,
        loaded: Loaded,
        layers: Sequence[Layer],
        statistics: Mapping[str, LayerStatistics],
        percentile: float,
    ) -> None:
        self._loaded = loaded
        self._layers = layers
        self._statistics = statistics
        self._percentile = percentile
        self._made: dict[str, Tensors] = {}

    def tensors(self, method: str) -> Tensors:
        """The quantised tensors."""
        if method not in self._made:
            self.prepare([method])
        return self._made[method]

    def prepare(self, methods: Sequence[str]) -> None:
        """Make the tensors of several methods, which share most of the work."""
        threads = self._loaded.network.threads
        clips = [self._clips(method, threads) for method in methods]
        found = tensors_by_clips(
            self._layers,
            self._loaded.tensors(),
            self._statistics,
            clips,
            self._loaded.config.preprocessing.std,
            threads=threads,
        )
        self._made.update(zip(methods, found, strict=True))

    def _clips(self, method: str, threads: int) -> dict[str, float]:
        names = [layer.name for layer in self._layers if layer.has_scale]

        def clip(name: str) -> float:
            return clip_of(method, self._statistics[name], percentile=self._percentile)

        with ThreadPoolExecutor(threads) as pool:
            return dict(zip(names, pool.map(clip, names), strict=True))

    def of(self, method: str) -> Network:
        """The quantised network, to try."""
        options = self._loaded.options
        return core_calls.int8_network(
            self.tensors(method),
            self.config(method, 0, {}),
            isa=options.isa,
            threads=options.threads,
        )

    def config(
        self, method: str, images: int, errors: Mapping[str, float], skipped: int = 0
    ) -> dict[str, Any]:
        """The config.json of the quantised network."""
        record: dict[str, Any] = {
            "precision": "int8",
            "method": method,
            "images": images,
            "version": __version__,
        }
        if skipped:
            record["skipped"] = skipped
        if method == "percentile":
            record["percentile"] = self._percentile
        if errors:
            # Four digits; an infinite number has no form in JSON.
            record["relative_errors"] = {
                name: float(f"{error:.4g}") if math.isfinite(error) else None
                for name, error in errors.items()
            }
        config = self._loaded.config
        source = dict(config.source or {})
        origin = self._loaded.options.origin
        source.setdefault("file", os.path.basename(os.path.abspath(origin)))
        return replace(config, source=source, quantization=record).as_dict()


def _in_memory(
    loaded: Loaded, tensors: Tensors, config: Mapping[str, Any], architecture: str | None
) -> Loaded:
    """Load the quantised network from the bytes of its file, which a pickle of it holds."""
    options = options_of_quantized(loaded.options, bytes_of(tensors), config)
    return load(options, architecture)


def _check(method: str, percentile: float) -> None:
    names = (AUTO, *METHODS)
    if method not in names:
        raise ValueError(f"method: expected one of {', '.join(names)}; got {method!r}")
    if isinstance(percentile, bool) or not isinstance(percentile, (int, float)):
        raise TypeError(f"percentile: expected a number; got {percentile!r}")
    if not 0 < percentile <= 100:
        raise ValueError(f"percentile: expected more than 0, at most 100; got {percentile!r}")

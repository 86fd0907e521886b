"""`quantize`: an f32 network and images become a network with int8 weights."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from .. import arguments
from .._core import Network, __version__
from ..evaluation.figures import Skipped
from ..evaluation.report import image_name
from ..reference.fused import LAST_POOL, Layer
from ..reference.int8_network import int8_layers
from ..terminal.progress import Meter, Progress
from ..weights.formats.safetensors_writer import bytes_of
from ..weights.load import load
from ..weights.loaded import HasLoaded, Loaded
from . import core_calls, mixing
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
        bf16: the layers that stay in bf16, in network order.
    """

    loaded: Loaded
    method: str
    errors: Mapping[str, float]
    images: int
    skipped: Sequence[Skipped]
    sample: Sequence[Batch]
    bf16: Sequence[str] = ()

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
    bf16: Sequence[str] = (),
    max_error: float | None = None,
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
        bf16: the layers that stay in bf16, as `mixing.named` takes them.
        max_error: the relative error of the logits that is allowed: so many layers stay in bf16.
            None for any.
        count: how many of a folder's images to use.
        on_error: `skip` to leave out an image that cannot be read and note it in
            `Quantized.skipped`, or `raise` to raise its error.
        architecture: the only one that the model's class accepts; None for any.
        progress: where to show how far it is.

    Raises:
        ImageError, OSError: an image cannot be read, and `on_error` is `raise`; or none can.
        TypeError: something is not an image.
        ValueError: no such method; images that calibrate nothing; a network that int8 does not
            have; or one that is quantised already; no such layer; or an error that bf16 exceeds.
        WeightsError: the original files have changed; or the weights are too large for int8.
    """
    _check(method, percentile, max_error)
    loaded = model.loaded
    loaded.require_f32("quantising")
    calibration = CalibrationImages(loaded, images, count, on_error=on_error)
    # Operations of another size differ in their shapes only.
    layers = int8_layers(loaded.network.operations(*loaded.input_size))
    keep = mixing.named(layers, arguments.texts("bf16", bf16))
    mixing.require_some_in_int8(layers, keep)
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
        if max_error is not None:
            keep = mixing.fewest(
                layers,
                lambda kept: network.of(method, kept),
                loaded.network,
                calibration.sample,
                most=max_error,
                keep=keep,
                line=line,
            )
        kept = [layer.name for layer in layers if layer.name in keep]
        record: dict[str, Any] = {
            "precision": "int8",
            "method": method,
            "images": calibration.used,
            "version": __version__,
        }
        if calibration.skipped:
            record["skipped"] = len(calibration.skipped)
        if method == "percentile":
            record["percentile"] = percentile
        kept = [layer.name for layer in layers if layer.name in keep]
        if kept:
            record["bf16"] = kept
        if max_error is not None:
            record["max_error"] = max_error
        if errors:
            # Four digits; an infinite number has no form in JSON.
            record["relative_errors"] = {
                name: float(f"{error:.4g}") if math.isfinite(error) else None
                for name, error in errors.items()
            }
        config = network.config(record)
        result = _in_memory(loaded, network.tensors(method, keep), config, architecture)
    return Quantized(
        result, method, errors, calibration.used, calibration.skipped, calibration.sample, kept
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
        self._bf16: Tensors | None = None

    def tensors(self, method: str, keep: Collection[str] = ()) -> Tensors:
        """The quantised tensors, those of the layers of `keep` in bf16."""
        if method not in self._made:
            self.prepare([method])
        if not keep:
            return self._made[method]
        return self._mixed(method, keep)

    def _mixed(self, method: str, keep: Collection[str]) -> Tensors:
        """Take each layer's tensors from the network in int8 or from the one in bf16."""
        whole = self._made[method]
        if self._bf16 is None:
            threads = self._loaded.network.threads
            (self._bf16,) = self._by_clips(
                [method], threads, [one.name for one in self._layers if one.sources]
            )
        found: Tensors = {}
        for layer in self._layers:
            origin = self._bf16 if layer.name in keep else whole
            for source in layer.sources:
                names = [f"{source.name}.{part}" for part in ("weight", "weight_scale", "bias")]
                found.update((name, origin[name]) for name in names if name in origin)
            is_read_in_bf16 = layer.name == LAST_POOL and self._layers[-1].name in keep
            scale = f"{layer.name}.output_scale"
            if scale in whole and not is_read_in_bf16:
                found[scale] = whole[scale]
        return found

    def prepare(self, methods: Sequence[str]) -> None:
        """Make the tensors of several methods, which share most of the work."""
        found = self._by_clips(methods, self._loaded.network.threads)
        self._made.update(zip(methods, found, strict=True))

    def _by_clips(
        self, methods: Sequence[str], threads: int, keep: Collection[str] = ()
    ) -> list[Tensors]:
        clips = [self._clips(method, threads) for method in methods]
        return tensors_by_clips(
            self._layers,
            self._loaded.tensors(),
            self._statistics,
            clips,
            self._loaded.config.preprocessing.std,
            keep=keep,
            threads=threads,
        )

    def _clips(self, method: str, threads: int) -> dict[str, float]:
        names = [layer.name for layer in self._layers if layer.has_scale]

        def clip(name: str) -> float:
            return clip_of(method, self._statistics[name], percentile=self._percentile)

        with ThreadPoolExecutor(threads) as pool:
            return dict(zip(names, pool.map(clip, names), strict=True))

    def of(self, method: str, keep: Collection[str] = ()) -> Network:
        """The quantised network, to try."""
        options = self._loaded.options
        return core_calls.int8_network(
            self.tensors(method, keep),
            self.config({}),
            isa=options.isa,
            threads=options.threads,
        )

    def config(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """The config.json of the quantised network, with a record of how it was made."""
        config = self._loaded.config
        source = dict(config.source or {})
        origin = self._loaded.options.origin
        source.setdefault("file", os.path.basename(os.path.abspath(origin)))
        return replace(config, source=source, quantization=dict(record)).as_dict()


def _in_memory(
    loaded: Loaded, tensors: Tensors, config: Mapping[str, Any], architecture: str | None
) -> Loaded:
    """Load the quantised network from the bytes of its file, which a pickle of it holds."""
    options = options_of_quantized(loaded.options, bytes_of(tensors), config)
    return load(options, architecture)


def _check(method: str, percentile: float, max_error: float | None) -> None:
    names = (AUTO, *METHODS)
    if method not in names:
        raise ValueError(f"method: expected one of {', '.join(names)}; got {method!r}")
    if isinstance(percentile, bool) or not isinstance(percentile, (int, float)):
        raise TypeError(f"percentile: expected a number; got {percentile!r}")
    if not 0 < percentile <= 100:
        raise ValueError(f"percentile: expected more than 0, at most 100; got {percentile!r}")
    if max_error is not None:
        if isinstance(max_error, bool) or not isinstance(max_error, (int, float)):
            raise TypeError(f"max_error: expected a number or None; got {max_error!r}")
        if not 0 < max_error < 1:
            raise ValueError(f"max_error: expected more than 0, less than 1; got {max_error!r}")

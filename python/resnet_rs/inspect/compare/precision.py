"""`compare_precision`: a network of few bits beside its f32 network, layer by layer.

Both compute the same layers, so no row is right or wrong. Each tells how much noise there is, and
how much of it came with this layer.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...reference.fused import LAST_POOL
from ...reference.int8 import MOST, MOST_POOLED
from ...terminal.tables import plural, text_table
from ...weights.loaded import HasLoaded, Loaded
from ..same_network import require_same_network
from ..trace import trace
from .numbers import decibels, finite, max_absolute, relative_l2

_HEADER = ("layer", "kernel", "shape", "signal to noise", "lost here", "rel L2", "clipped")
_LAST = "fc"


@dataclass(frozen=True, slots=True)
class PrecisionLayer:
    """One layer's outputs in both networks, over all images.

    Attributes:
        name: the layer's.
        kernel: the routine of the network of few bits; None with the backend `reference`.
        shape: `[batch, height, width, channels]`.
        snr_db: the signal-to-noise ratio in decibels, `10 * log10(sum of f32^2 / sum of
            differences^2)`; None if there is no noise, or no signal.
        lost_db: how many decibels less that is than at its noisiest input; None where one of both
            has no ratio, as at the first layer.
        relative_l2: the length of the differences, divided by that of the f32 values.
        max_abs: the largest absolute difference.
        scale: the real value of one step of the integers; None for a layer without a scale of its
            own.
        clipped: the part of the f32 values that are larger than the largest integer stands for;
            None without a scale.
    """

    name: str
    kernel: str | None
    shape: tuple[int, ...]
    snr_db: float | None
    lost_db: float | None
    relative_l2: float
    max_abs: float
    scale: float | None
    clipped: float | None


@dataclass(frozen=True, slots=True)
class PrecisionLosses:
    """A network of few bits beside its f32 network; `print` it for a table.

    Attributes:
        architecture: the network's name.
        precision: of the network of few bits: `int8`, ...
        low: where it was loaded from.
        f32: where the f32 network was loaded from.
        images: how many images both got.
        layers: the layers that both networks have, in network order.
        without_partner: layers of the f32 network alone, each with the layer that computes it in
            the other network.
        agreement: the part of the images whose best class is the same; None without classes.
    """

    architecture: str
    precision: str
    low: str
    f32: str
    images: int
    layers: tuple[PrecisionLayer, ...]
    without_partner: Mapping[str, str]
    agreement: float | None

    @property
    def relative_error(self) -> float:
        """The relative L2 difference of the logits, or of the features if there is no fc."""
        return self.layers[-1].relative_l2

    @property
    def same_classes(self) -> bool:
        """True if the best class of every image is the same; also without classes."""
        return self.agreement is None or self.agreement == 1

    def worst(self, count: int = 5) -> list[PrecisionLayer]:
        """The layers with the least signal-to-noise ratio, the worst first."""
        noisy = [layer for layer in self.layers if layer.snr_db is not None]
        return sorted(noisy, key=lambda layer: layer.snr_db or 0.0)[:count]

    def lossiest(self, count: int = 5) -> list[PrecisionLayer]:
        """The layers that lose most decibels from their input to their output, the worst first."""
        losing = [layer for layer in self.layers if layer.lost_db is not None]
        return sorted(losing, key=lambda layer: -(layer.lost_db or 0.0))[:count]

    def as_dict(self) -> dict[str, Any]:
        """Return all fields by name, in types that JSON has; NaN and infinity become None."""
        values: dict[str, Any] = finite({**asdict(self), "relative_error": self.relative_error})
        return values

    def __str__(self) -> str:
        marked = {"worst": self.worst(1), "loses most": self.lossiest(1)}
        table = text_table([_HEADER, *map(_cells, self.layers)], left=3).split("\n")
        notes = ["", *(_marks(layer, marked) for layer in self.layers)]
        lines = [line + note for line, note in zip(table, notes, strict=True)]
        return "\n".join(
            [
                f"{self.architecture} in {self.precision}: {self.low}",
                f"beside f32: {self.f32}",
                f"{plural(self.images, 'image')}; the integers times their scales",
                "",
                *lines,
                "",
                *self._verdict(),
            ]
        )

    def _verdict(self) -> list[str]:
        lines = []
        if self.agreement is not None:
            same = round(self.agreement * self.images)
            lines.append(f"same class for {same} of {plural(self.images, 'image')}")
        what = "logits" if self.layers[-1].name == _LAST else "features"
        lines.append(f"relative error of the {what}: {self.relative_error:.2%}")
        if worst := self.worst(3):
            told = ", ".join(f"{one.name} {_db(one.snr_db)}" for one in worst)
            lines.append(f"most noise: {told}")
        if losing := [one for one in self.lossiest(3) if (one.lost_db or 0) > 0]:
            told = ", ".join(f"{one.name} {_db(one.lost_db)}" for one in losing)
            lines.append(f"most lost from input to output: {told}")
        by_layer = ", ".join(f"{name} (in {layer})" for name, layer in self.without_partner.items())
        if by_layer:
            lines.append(f"no layers of their own in {self.precision}: {by_layer}")
        return lines


def compare_precision(low: HasLoaded, f32: HasLoaded, images: Any) -> PrecisionLosses:
    """Show where a network of few bits loses most against the f32 network that it was made of.

    Args:
        low: the quantised model.
        f32: the f32 model.
        images: one image or several, as `ResNet` describes, or what `ResNet.forward` takes. They
            run as one batch, so they must have one size after preprocessing.

    Returns:
        For each layer of the quantised network the signal-to-noise ratio against f32, and what of
        it was lost in this layer.

    Raises:
        ValueError: `f32` is not in f32, `low` is, they are different networks, or as
            `ResNet.preprocess` or `ResNet.forward` for the images.
        ImageError, OSError, TypeError: as `ResNet.preprocess` or `ResNet.forward` does.

    Example:
        ```python
        import resnet_rs

        model = resnet_rs.ResNet50("weights")
        small = model.quantize(["photo.jpg", "cat.jpg"], progress=False)
        print(resnet_rs.compare_precision(small, model, "photo.jpg"))
        ```
    """
    less, more = low.loaded, f32.loaded
    more.require_f32("the other side of compare_precision")
    if less.precision == "f32":
        raise ValueError(
            f"{less.options.origin}: compare_precision expects a quantised model first; this one "
            "is f32. Two f32 models are compared by resnet_rs.compare"
        )
    require_same_network(more, less)
    # One input for both: a trace in f32 makes it of images.
    before = trace(more, images, fused=True)
    after = trace(less, before.image, fused=True)
    names = [name for name in after if name in before]
    scales = _scales(less)
    kernels = _kernels(less, *before.image.shape[:3])
    inputs = _inputs(after.operations)
    layers: list[PrecisionLayer] = []
    ratios: dict[str, float | None] = {}
    logits: tuple[NDArray[Any], NDArray[Any]] | None = None
    pairs = zip(names, before.select(names), after.select(names), strict=True)
    for name, expected, found in pairs:
        ratios[name] = decibels(found, expected)
        layers.append(
            _layer(name, expected, found, ratios, inputs[name], scales.get(name), kernels.get(name))
        )
        if name == _LAST:
            logits = expected, found
    computed = {operation["name"]: operation["fused_into"] for operation in after.operations}
    return PrecisionLosses(
        architecture=less.config.architecture,
        precision=less.precision,
        low=os.path.basename(less.options.origin),
        f32=os.path.basename(more.options.origin),
        images=len(before.image),
        layers=tuple(layers),
        without_partner={name: computed[name] for name in before if name not in after},
        agreement=None if logits is None else _agreement(*logits),
    )


def _layer(
    name: str,
    expected: NDArray[Any],
    found: NDArray[Any],
    ratios: Mapping[str, float | None],
    inputs: Sequence[str],
    scale: float | None,
    kernel: str | None,
) -> PrecisionLayer:
    own = ratios[name]
    given = [ratio for ratio in map(ratios.get, inputs) if ratio is not None]
    most = MOST_POOLED if name == LAST_POOL else MOST
    return PrecisionLayer(
        name=name,
        kernel=kernel,
        shape=expected.shape,
        snr_db=own,
        lost_db=None if own is None or not given else min(given) - own,
        relative_l2=relative_l2(found, expected),
        max_abs=max_absolute(found, expected),
        scale=scale,
        clipped=None if scale is None else float(np.mean(expected > most * scale)),
    )


def _scales(loaded: Loaded) -> dict[str, float]:
    """The scale of each layer's output that has one."""
    suffix = ".output_scale"
    return {
        name.removesuffix(suffix): float(tensor[0])
        for name, tensor in loaded.tensors().items()
        if name.endswith(suffix)
    }


def _kernels(loaded: Loaded, batch: int, height: int, width: int) -> dict[str, str]:
    """The routine of each layer; that of the products if there are several."""
    if loaded.options.backend == "reference":
        return {}
    found: dict[str, str] = {}
    for step in loaded.network.plan(batch, height, width):
        if step["macs"] or step["name"] not in found:
            found[step["name"]] = step["kernel"]
    return found


def _inputs(operations: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """The layers whose outputs each layer reads."""
    layer = {operation["name"]: operation["fused_into"] for operation in operations}
    found: dict[str, list[str]] = {name: [] for name in layer.values()}
    for operation in operations:
        own = operation["fused_into"]
        for source in operation["inputs"]:
            if source in layer and layer[source] != own:
                found[own].append(layer[source])
    return found


def _agreement(expected: NDArray[Any], found: NDArray[Any]) -> float:
    """The part of the images with the same best class."""
    return float(np.mean(expected.argmax(axis=-1) == found.argmax(axis=-1)))


def _marks(layer: PrecisionLayer, marked: Mapping[str, Sequence[PrecisionLayer]]) -> str:
    words = ", ".join(word for word, layers in marked.items() if layer in layers)
    return f"  <- {words}" if words else ""


def _cells(layer: PrecisionLayer) -> tuple[str, ...]:
    return (
        layer.name,
        layer.kernel or "-",
        " x ".join(map(str, layer.shape)),
        _db(layer.snr_db),
        _db(layer.lost_db),
        f"{layer.relative_l2:.1e}",
        "-" if layer.clipped is None else f"{layer.clipped:.3%}",
    )


def _db(value: float | None) -> str:
    # Adding 0 makes 0 of -0, which rounding gives.
    return "-" if value is None else f"{round(value, 1) + 0.0:.1f} dB"

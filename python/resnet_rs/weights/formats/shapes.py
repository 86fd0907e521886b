"""Reads a network's structure off its tensors' shapes, and finds the networks that they fit.

Depth, block type, widths, groups, the stem and the shortcut show in the shapes. Which convolution
of a block has the stride does not, nor does anything without weights: a blur before a stride,
another pooling, the preprocessing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from ... import _core
from ..._core import WeightsError
from . import shortcuts

Shape = tuple[int, ...]

# Any size is right unless a head has a fixed size: shapes of weights do not depend on it.
_DEFAULT_SIDE = 224

_MAX_BLOCKS = 1000
"""The deepest ResNet that was published has 600 blocks of two layers."""
_MAX_CHANNELS = 1 << 16

BODY = re.compile(r"(conv1|bn1|layer\d+)\..*")
"""The names of everything before the head."""


class NotResNetError(ValueError):
    """The tensors are not those of any ResNet; the message says why."""


@dataclass(frozen=True)
class Structure:
    """The structure of a ResNet, as its shapes show it.

    Attributes:
        block: `basic` or `bottleneck`.
        blocks: the number of blocks of each stage.
        inner: for each stage the channels of its blocks' first convolution.
        channels: for each stage the channels of its output.
        groups: of the 3x3 convolutions.
        in_channels: of the image.
        stem: `conv7x7`, `deep` or `conv3x3`.
        stem_widths: the channels of the stem's convolutions, in order.
        shortcut: as in a config's `variant`. Shapes show shortcuts without tensors, but not
            their way to fewer pixels and the place of the zeros: these are the paper's.
        batch_norm: whether there are batch norms; without, they have been folded away.
        conv_bias: whether a convolution has a bias beside a batch norm.
    """

    block: str
    blocks: tuple[int, ...]
    inner: tuple[int, ...]
    channels: tuple[int, ...]
    groups: int
    in_channels: int
    stem: str
    stem_widths: tuple[int, ...]
    shortcut: str | dict[str, Any]
    batch_norm: bool
    conv_bias: bool

    @property
    def variant(self) -> dict[str, Any]:
        """The structure in the fields of a config's `variant`."""
        planes, expansion, width_per_group = self._widths()
        return {
            "block": self.block,
            "blocks": list(self.blocks),
            "widths": list(planes),
            "expansion": expansion,
            "groups": self.groups,
            "width_per_group": width_per_group,
            "in_channels": self.in_channels,
            "stem": self.stem,
            "stem_widths": list(self.stem_widths),
            "shortcut": self.shortcut,
            "batch_norm": self.batch_norm,
            "conv_bias": self.conv_bias,
        }

    def _widths(self) -> tuple[tuple[int, ...], int, int]:
        """Planes of each stage, expansion and width per group, as torchvision counts them."""
        if self.block == "basic":
            return self.channels, 1, 64
        # With the usual expansion of 4 a wider inside is a matter of width_per_group.
        planes = tuple(channels // 4 for channels in self.channels)
        widths = {
            64 * inner // (self.groups * width)
            for inner, width in zip(self.inner, planes, strict=True)
            if width
        }
        if all(channels % 4 == 0 for channels in self.channels) and len(widths) == 1:
            return planes, 4, widths.pop()
        return self.inner, max(1, self.channels[0] // self.inner[0]), 64


def structure(shapes: Mapping[str, Shape]) -> Structure:
    """Read a network's structure off its tensors' shapes.

    Args:
        shapes: torchvision's names to shapes.

    Raises:
        NotResNetError: a tensor that every ResNet has is missing or of another rank.
    """
    deep = "conv1.0.weight" in shapes
    stem = [_conv(shapes, f"conv1.{i}") for i in (0, 3, 6)] if deep else [_conv(shapes, "conv1")]
    kernel = stem[0][2]
    if not deep and kernel not in (3, 7):
        raise NotResNetError(f"tensor conv1.weight: expected a window of 7x7 or 3x3, not {kernel}")
    blocks = _blocks(shapes)
    bottleneck = "layer1.0.conv3.weight" in shapes
    last = "conv3" if bottleneck else "conv2"
    stages = range(1, len(blocks) + 1)
    inner = tuple(_conv(shapes, f"layer{stage}.0.conv1")[0] for stage in stages)
    middle = _conv(shapes, "layer1.0.conv2")
    channels = tuple(_conv(shapes, f"layer{stage}.0.{last}")[0] for stage in stages)
    batch_norm = any(name.endswith(("bn1.weight", "bn1.running_mean")) for name in shapes)
    return Structure(
        block="bottleneck" if bottleneck else "basic",
        blocks=blocks,
        inner=inner,
        channels=channels,
        groups=max(1, inner[0] // max(1, middle[1])),
        in_channels=stem[0][1],
        stem="deep" if deep else f"conv{kernel}x{kernel}",
        stem_widths=tuple(conv[0] for conv in stem),
        shortcut=shortcuts.shortcut(shapes, stem[-1][0], channels),
        batch_norm=batch_norm,
        conv_bias=batch_norm and any(map(_CONV_BIAS.fullmatch, shapes)),
    )


_CONV_BIAS = re.compile(r"(layer\d+\.\d+\.)?conv\d\.bias")


def _blocks(shapes: Mapping[str, Shape]) -> tuple[int, ...]:
    """The number of blocks of each stage."""
    found: dict[int, int] = {}
    for name in shapes:
        if match := re.fullmatch(r"layer(\d{1,3})\.(\d{1,4})\.conv1\.weight", name):
            stage, block = map(int, match.groups())
            found[stage] = max(found.get(stage, 0), block + 1)
    missing = next((stage for stage in range(1, len(found) + 1) if stage not in found), None)
    if missing or not found:
        raise NotResNetError(
            f"tensor layer{missing or 1}.0.conv1.weight: expected in the file, not found"
        )
    return tuple(found[stage] for stage in sorted(found))


def _conv(shapes: Mapping[str, Shape], name: str) -> Shape:
    shape = shapes.get(f"{name}.weight")
    if shape is None:
        raise NotResNetError(f"tensor {name}.weight: expected in the file, not found")
    if len(shape) != 4 or 0 in shape:
        raise NotResNetError(
            f"tensor {name}.weight: expected the four axes of a convolution, found {list(shape)}"
        )
    return shape


@dataclass(frozen=True)
class Parameters:
    """The tensors that a network has.

    Attributes:
        shapes: their names to shapes, in network order.
        optional: those that a file may lack: biases where batch norms follow.
    """

    shapes: dict[str, Shape]
    optional: frozenset[str]


def parameters(config: Mapping[str, Any], size: tuple[int, int] | None = None) -> Parameters:
    """The tensors of the network that a config describes.

    Args:
        config: the fields `architecture`, `variant` and `num_classes` of a config.json.
        size: height and width of the input, for a head that depends on it.

    Raises:
        WeightsError: the config is malformed, or describes no network.
    """
    shapes = {}
    optional = set()
    found = operations(config, size)
    normed = any(operation["kind"] == "batch_norm" for operation in found)
    for operation in found:
        for role, (name, shape) in operation["parameters"].items():
            shapes[name] = tuple(shape)
            if normed and operation["kind"] == "conv" and role == "bias":
                optional.add(name)
    return Parameters(shapes, frozenset(optional))


def operations(
    config: Mapping[str, Any], size: tuple[int, int] | None = None
) -> list[dict[str, Any]]:
    """Give the core's operations of the network that a config describes.

    Args:
        config: as for `parameters`.
        size: see there.

    Raises:
        WeightsError: the config is malformed, or describes no network.
    """
    side = (_DEFAULT_SIDE, _DEFAULT_SIDE) if size is None else size
    variant = config.get("variant") or {}
    if isinstance(variant, Mapping):
        channels = _bounded_channels(variant)
        # Any mean and deviation do, if none is stated: one for each channel.
        neutral = {"mean": [0.0] * channels, "std": [1.0] * channels}
        config = {"preprocessing": neutral, **config}
    return _core.operations(json.dumps({"format_version": 1, **config}), *side)


def _bounded_channels(variant: Mapping[str, Any]) -> int:
    """The image's channels; refuses sizes before anything is made of such a size."""
    blocks = variant.get("blocks", [])
    total = sum(n for n in blocks if isinstance(n, int)) if isinstance(blocks, list) else 0
    if total > _MAX_BLOCKS:
        raise WeightsError(f"variant.blocks: expected {_MAX_BLOCKS} at most, found {total}")
    channels = variant.get("in_channels", 3)
    if not isinstance(channels, int) or not 1 <= channels <= _MAX_CHANNELS:
        raise WeightsError(
            f"variant.in_channels: expected a number from 1 to {_MAX_CHANNELS}, found {channels!r}"
        )
    return channels


def first_difference(expected: Parameters, shapes: Mapping[str, Shape]) -> str | None:
    """The first tensor, in network order, that a file lacks or has in another shape.

    Returns:
        `tensor <name>: expected ..., found ...`; None where everything fits. Surplus tensors are
        not looked at.
    """
    for name, shape in expected.shapes.items():
        found = shapes.get(name)
        if found is None and name not in expected.optional:
            return f"tensor {name}: expected shape {list(shape)}, not found"
        if found is not None and found != shape:
            return f"tensor {name}: expected shape {list(shape)}, found {list(found)}"
    return None


@dataclass(frozen=True)
class Candidate:
    """A network that some shapes fit.

    Attributes:
        architecture: a name of `_core.architectures()`.
        variant: what differs from that architecture, in the fields of a config's `variant`.
    """

    architecture: str
    variant: dict[str, Any]

    def __str__(self) -> str:
        variant = f", variant={json.dumps(self.variant)}" if self.variant else ""
        small = self.variant.get("stem") == "conv3x3"
        words = " (conv3x3: a stem with stride 1 and no max pool)" if small else ""
        return f'architecture="{self.architecture}"{variant}{words}'


def candidates(shapes: Mapping[str, Shape]) -> list[Candidate]:
    """The networks that these shapes fit.

    Those are the named architectures; or, where none fits, one with the fewest changes. Heads may
    be any. `in_channels`, `conv_bias` and `batch_norm` do not count as changes: readers take them
    from the shapes.

    Raises:
        NotResNetError: the tensors are not those of any ResNet.
    """
    closest = _closest(shapes)
    implied = implied_variant(shapes)
    fitting = [c for c in closest if _misfit(c, implied, shapes) is None]
    return fitting[:1] if fitting and fitting[0].variant else fitting


def _closest(shapes: Mapping[str, Shape]) -> list[Candidate]:
    """The networks that need the fewest changes to have this structure."""
    found = structure(shapes).variant
    implied = implied_variant(shapes)
    changes = []
    for name in _core.architectures():
        own = _structure_of(name).variant
        changed = {k: v for k, v in found.items() if v != own[k] and k not in implied}
        changes.append(Candidate(name, changed))
    fewest = min(len(candidate.variant) for candidate in changes)
    return [candidate for candidate in changes if len(candidate.variant) == fewest]


def implied_variant(shapes: Mapping[str, Shape]) -> dict[str, Any]:
    """The fields of `variant` that shapes decide whatever the architecture.

    Returns:
        Those of `in_channels`, `conv_bias` and `batch_norm` that are not the usual ones.

    Raises:
        NotResNetError: the tensors are not those of any ResNet.
    """
    found = structure(shapes)
    usual = {"in_channels": 3, "conv_bias": False, "batch_norm": True}
    return {k: getattr(found, k) for k, v in usual.items() if getattr(found, k) != v}


def shortcut_of(architecture: str) -> str | dict[str, Any]:
    """The shortcut of a named architecture, as in a config's `variant`."""
    return _structure_of(architecture).shortcut


def implied_shortcut(architecture: str, shapes: Mapping[str, Shape]) -> dict[str, Any]:
    """The field `shortcut` if the shapes show another than the architecture's own.

    The shortcuts with an average pool are left alone: they are another network's.

    Raises:
        NotResNetError: the tensors are not those of any ResNet.
    """
    shown, own = structure(shapes).shortcut, shortcut_of(architecture)
    if shown == own or "avg_pool_conv" in (shown, own):
        return {}
    if shown == "conv" and not shortcuts.has_projections(shapes):
        return {}
    return {"shortcut": shown}


# The fields that shapes do not show, with the family's defaults.
_UNSEEN = {
    "stride_on": "conv2",
    "norm_epsilon": 1e-5,
    "relu_before_add": False,
    "head": "global_avg_pool",
}


def differing(architecture: str, variant: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a `variant` that differ from the architecture itself."""
    own = {**_structure_of(architecture).variant, **_UNSEEN}
    small = variant.get("stem", own["stem"]) == "conv3x3"
    own |= (
        {"stem_stride": 1, "stem_pool": "none"} if small else {"stem_stride": 2, "stem_pool": "max"}
    )
    own["dilation"] = [1] * len(variant.get("blocks", own["blocks"]))
    if "dilation" not in variant:
        own["last_stride"] = 2
    return {k: v for k, v in variant.items() if k not in own or own[k] != v}


def fitting_config(shapes: Mapping[str, Shape], unseen: Mapping[str, Any]) -> dict[str, Any]:
    """Make the config of the first network that these shapes fit.

    Args:
        shapes: torchvision's names to shapes.
        unseen: the fields of `variant` that shapes do not show.

    Returns:
        `architecture`, `variant` and `num_classes`.

    Raises:
        NotResNetError: they fit none.
    """
    fitting = candidates(shapes)
    if not fitting:
        raise NotResNetError(f"the tensors' shapes fit no ResNet: {misfit(shapes)}")
    architecture = fitting[0].architecture
    variant = {**fitting[0].variant, **implied_variant(shapes), **unseen}
    return {
        "architecture": architecture,
        "variant": differing(architecture, variant),
        "num_classes": shapes.get("fc.weight", (0,))[0],
    }


def misfit(shapes: Mapping[str, Shape]) -> str:
    """Explain why `candidates` finds no network: compare the tensors with the most similar one."""
    closest = _closest(shapes)[0]
    return f"most like {closest}, but {_misfit(closest, implied_variant(shapes), shapes)}"


def _misfit(
    candidate: Candidate, implied: Mapping[str, Any], shapes: Mapping[str, Shape]
) -> str | None:
    """The first tensor, heads aside, in which a candidate's network differs from these."""
    variant = {**candidate.variant, **implied}
    config = {"architecture": candidate.architecture, "variant": variant, "num_classes": 0}
    try:
        expected = parameters(config)
    except ValueError as error:
        return str(error)
    surplus = (name for name in shapes if BODY.fullmatch(name) and name not in expected.shapes)
    if difference := first_difference(expected, shapes):
        return difference
    return next((f"tensor {name}: not part of it" for name in surplus), None)


@cache
def _structure_of(architecture: str) -> Structure:
    """The structure of a named architecture."""
    return structure(parameters({"architecture": architecture, "num_classes": 0}).shapes)

"""What a weights directory's `config.json` says, as typed and frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)

# torchvision's name of a preset, and the short side that it resizes to.
_PRESETS = {"IMAGENET1K_V1": 256, "IMAGENET1K_V2": 232}
# These weights are called V1 but were trained by the V2 recipe, and resize as V2 does.
_V1_THAT_RESIZES_AS_V2 = frozenset({"resnext101_64x4d"})


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the network's input.

    Attributes:
        resize: the short side's length in pixels, or exactly `(height, width)`; None leaves the
            size as it is.
        crop: the side of a square centre crop, or `(height, width)`; None crops nothing.
        interpolation: Pillow's filter: `nearest`, `box`, `bilinear`, `hamming`, `bicubic` or
            `lanczos`.
        mean: subtracted from each channel (R, G, B, or as many as the network takes), after
            division by 255.
        std: what each channel is then divided by.
    """

    resize: int | tuple[int, int] | None
    crop: int | tuple[int, int] | None
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def as_dict(self) -> dict[str, Any]:
        """The fields as config.json has them."""
        return {
            "resize": self.resize,
            "crop": self.crop,
            "interpolation": self.interpolation,
            "mean": self.mean,
            "std": self.std,
        }


@dataclass(frozen=True)
class Config:
    """The description that lies beside the weights.

    Attributes:
        architecture: the network's name: `resnet50`, `resnext50_32x4d`, ...
        num_classes: the number of logits; 0 where the network ends with its pooled features.
        labels: the classes' names by index, or None where the file gives none.
        preprocessing: how images are prepared for these weights.
        source: where the weights came from, in free form; None where it is not told.
        variant: what differs from the architecture's own definition, field by field
            (docs/weights.md lists them); empty where nothing does.
    """

    architecture: str
    num_classes: int
    labels: tuple[str, ...] | None
    preprocessing: Preprocessing
    source: Mapping[str, Any] | None = field(hash=False)
    variant: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Config:
        """Take the fields that the core has validated and filled in."""
        preprocessing = fields["preprocessing"]
        labels = fields["labels"]
        return cls(
            architecture=fields["architecture"],
            num_classes=fields["num_classes"],
            labels=None if labels is None else tuple(labels),
            preprocessing=Preprocessing(
                resize=_size(preprocessing["resize"]),
                crop=_size(preprocessing["crop"]),
                interpolation=preprocessing["interpolation"],
                mean=tuple(preprocessing["mean"]),
                std=tuple(preprocessing["std"]),
            ),
            source=fields["source"],
            variant=fields.get("variant") or {},
        )

    @property
    def in_channels(self) -> int:
        """The channels of an image: 3, unless the variant says otherwise."""
        return len(self.preprocessing.mean)

    def as_dict(self) -> dict[str, Any]:
        """The fields as config.json has them."""
        return {
            "format_version": 1,
            "architecture": self.architecture,
            "variant": dict(self.variant),
            "num_classes": self.num_classes,
            "labels": self.labels,
            "preprocessing": self.preprocessing.as_dict(),
            "source": None if self.source is None else dict(self.source),
        }

    def __repr__(self) -> str:
        variant = f", variant={dict(self.variant)!r}" if self.variant else ""
        return (
            f"Config(architecture={self.architecture!r}, num_classes={self.num_classes}, "
            f"labels={_abbreviated(self.labels)}, preprocessing={self.preprocessing!r}, "
            f"source={self.source!r}{variant})"
        )


def preset(name: str, architecture: str | None = None) -> dict[str, Any]:
    """A preprocessing by torchvision's name for it.

    Args:
        name: `IMAGENET1K_V1` (resize 256) or `IMAGENET1K_V2` (resize 232); both crop 224.
        architecture: whose weights it is for. resnext101_64x4d's V1 resizes to 232.

    Returns:
        All fields of config.json's `preprocessing`.

    Raises:
        ValueError: no such preset.
    """
    if name not in _PRESETS:
        raise ValueError(
            f"preprocessing: expected {' or '.join(_PRESETS)}, a Preprocessing or a dict of its "
            f"fields; got {name!r}"
        )
    if architecture in _V1_THAT_RESIZES_AS_V2:
        name = "IMAGENET1K_V2"
    return Preprocessing(_PRESETS[name], 224, "bilinear", _IMAGENET_MEAN, _IMAGENET_STD).as_dict()


def merged(config: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """A config.json's fields with others laid over them.

    `variant` and `preprocessing` are merged field by field, everything else is replaced. Labels
    go where the number of classes is overridden and no longer theirs.
    """
    result = dict(config)
    for name, value in overrides.items():
        old = result.get(name)
        if isinstance(old, Mapping) and isinstance(value, Mapping) and name != "source":
            value = {**old, **value}
        result[name] = value
    classes, labels = overrides.get("num_classes"), result.get("labels")
    if classes is not None and "labels" not in overrides and labels and len(labels) != classes:
        del result["labels"]
    return result


def _size(value: Any) -> int | tuple[int, int] | None:
    """A JSON list `[height, width]` as a tuple; an int or None as it is."""
    if isinstance(value, list):
        height, width = value
        return height, width
    assert value is None or isinstance(value, int)
    return value


def _abbreviated(labels: tuple[str, ...] | None) -> str:
    if labels is None or len(labels) <= 10:
        return repr(labels)
    return f"({', '.join(map(repr, labels[:3]))}, ... {len(labels)} in all)"

"""`Config`: the contents of a `config.json`, and the overrides that a caller lays over it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..images.spec import Preprocessing
from .remarks import Assumption

if TYPE_CHECKING:
    from ..options import Options

CONFIG_OPTIONS = (
    "architecture",
    "variant",
    "num_classes",
    "labels",
    "activation",
    "preprocessing",
)
"""The options that stand for a field of config.json of the same name."""


@dataclass(frozen=True)
class Config:
    """The description of the weights.

    Attributes:
        architecture: the network's name: `resnet50`, `resnext50_32x4d`, ...
        num_classes: the number of logits; 0 if the network ends with its pooled features.
        labels: the classes' names by index, or None if the file has none.
        preprocessing: the preparation of images for these weights.
        source: the origin of the weights, in free form, or None.
        variant: the differences from the architecture's own definition, field by field
            (docs/weights.md lists them); usually empty.
        activation: the function that makes scores of the logits: `softmax`, `sigmoid` or `none`.
        quantization: how the weights were quantised (`precision`, `method`, `images`, ...), in free
            form; None for f32.
    """

    architecture: str
    num_classes: int
    labels: tuple[str, ...] | None
    preprocessing: Preprocessing
    source: Mapping[str, Any] | None = field(hash=False)
    variant: Mapping[str, Any] = field(default_factory=dict, hash=False)
    activation: str = "softmax"
    quantization: Mapping[str, Any] | None = field(default=None, hash=False)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Config:
        """Take the fields that the core has validated and filled in."""
        labels = values["labels"]
        return cls(
            architecture=values["architecture"],
            num_classes=values["num_classes"],
            labels=None if labels is None else tuple(labels),
            preprocessing=Preprocessing.from_dict(values["preprocessing"]),
            source=values["source"],
            variant=values.get("variant") or {},
            activation=values["activation"],
            quantization=values.get("quantization"),
        )

    @property
    def in_channels(self) -> int:
        """The channels of an image: 3, unless the variant says otherwise."""
        return len(self.preprocessing.mean)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields of config.json: version 2 of them for quantised weights."""
        quantized = self.quantization is not None
        record = {"quantization": dict(self.quantization or {})} if quantized else {}
        return {
            "format_version": 2 if quantized else 1,
            "architecture": self.architecture,
            "variant": dict(self.variant),
            "num_classes": self.num_classes,
            "labels": self.labels,
            "activation": self.activation,
            "preprocessing": self.preprocessing.as_dict(),
            "source": None if self.source is None else dict(self.source),
            **record,
        }

    def __repr__(self) -> str:
        variant = f", variant={dict(self.variant)!r}" if self.variant else ""
        if self.quantization is not None:
            variant += f", quantization={dict(self.quantization)!r}"
        return (
            f"Config(architecture={self.architecture!r}, num_classes={self.num_classes}, "
            f"labels={_abbreviated(self.labels)}, activation={self.activation!r}, "
            f"preprocessing={self.preprocessing!r}, "
            f"source={self.source!r}{variant})"
        )


def usual_activation(num_classes: int) -> tuple[str, tuple[Assumption, ...]]:
    """The activation of a network whose weights state none, and a remark if it may be wrong.

    Several outputs are scored by a softmax, as nearly every classifier is. One output never is,
    because its softmax is 1 for every image.
    """
    if num_classes == 0:
        return "none", ()
    if num_classes > 1:
        return "softmax", ()
    remark = Assumption(
        "there is one output, and nothing states its activation: assuming a sigmoid, as for yes or "
        'no. To state it, pass activation="sigmoid", or activation="none" for the plain value of a '
        "regression",
        about="activation",
    )
    return "sigmoid", (remark,)


def overrides_of(options: Options) -> dict[str, Any]:
    """The fields of config.json that a caller states: `config=` under the single arguments."""
    stated = {name: getattr(options, name) for name in CONFIG_OPTIONS}
    given = {name: value for name, value in stated.items() if value is not None}
    return merged(options.config or {}, given)


def merged(config: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Lay fields of config.json over a config's own.

    `variant` and `preprocessing` are merged field by field; any other field is replaced. An
    override of the number of classes drops labels of another number.
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


def _abbreviated(labels: tuple[str, ...] | None) -> str:
    if labels is None or len(labels) <= 10:
        return repr(labels)
    return f"({', '.join(map(repr, labels[:3]))}, ... {len(labels)} in all)"

"""What a weights directory's `config.json` says, as typed and frozen values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the network's input.

    Attributes:
        resize: the short side's length in pixels, or exactly `(height, width)`; None leaves the
            size as it is.
        crop: the side of a square centre crop, or `(height, width)`; None crops nothing.
        interpolation: Pillow's filter: `nearest`, `box`, `bilinear`, `hamming`, `bicubic` or
            `lanczos`.
        mean: subtracted from each channel (R, G, B), after division by 255.
        std: what each channel is then divided by.
    """

    resize: int | tuple[int, int] | None
    crop: int | tuple[int, int] | None
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True)
class Config:
    """The description that lies beside the weights.

    Attributes:
        architecture: the network's name, `resnet50`.
        num_classes: the number of logits.
        labels: the classes' names by index, or None where the file gives none.
        preprocessing: how images are prepared for these weights.
        source: where the weights came from, in free form; None where it is not told.
    """

    architecture: str
    num_classes: int
    labels: tuple[str, ...] | None
    preprocessing: Preprocessing
    source: Mapping[str, Any] | None = field(hash=False)

    @classmethod
    def from_json(cls, text: str) -> Config:
        """Read the config that the core has validated and filled in."""
        values = json.loads(text)
        preprocessing = values["preprocessing"]
        labels = values["labels"]
        return cls(
            architecture=values["architecture"],
            num_classes=values["num_classes"],
            labels=None if labels is None else tuple(labels),
            preprocessing=Preprocessing(
                resize=_size(preprocessing["resize"]),
                crop=_size(preprocessing["crop"]),
                interpolation=preprocessing["interpolation"],
                mean=tuple(preprocessing["mean"]),
                std=tuple(preprocessing["std"]),
            ),
            source=values["source"],
        )

    def __repr__(self) -> str:
        return (
            f"Config(architecture={self.architecture!r}, num_classes={self.num_classes}, "
            f"labels={_abbreviated(self.labels)}, preprocessing={self.preprocessing!r}, "
            f"source={self.source!r})"
        )


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

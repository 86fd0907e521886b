"""`Preprocessing`: the preparation of images for a network, and torchvision's presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)

_CIFAR_MEAN = (0.4914, 0.4822, 0.4465)
_CIFAR_STD = (0.2023, 0.1994, 0.2010)
_CIFAR_SIDE = 32
_CIFAR = "CIFAR10"

# torchvision's presets by name, with the short side that each resizes to.
_PRESETS = {"IMAGENET1K_V1": 256, "IMAGENET1K_V2": 232}
PRESETS = (*_PRESETS, _CIFAR)
"""The names of all presets."""

# These weights are called V1 but were trained by the V2 recipe, and resize as V2 does.
_V1_THAT_RESIZES_AS_V2 = frozenset({"resnext101_64x4d"})


@dataclass(frozen=True)
class Preprocessing:
    """The preparation of images for a network.

    Attributes:
        resize: the short side's length in pixels, or exactly `(height, width)`; None leaves the
            size as it is.
        crop: the side of a square centre crop, or `(height, width)`; None crops nothing.
        interpolation: Pillow's filter: `nearest`, `box`, `bilinear`, `hamming`, `bicubic` or
            `lanczos`.
        mean: subtracted from each channel (R, G, B, or as many as the network takes), after
            division by 255.
        std: the divisor of each channel after that.
    """

    resize: int | tuple[int, int] | None
    crop: int | tuple[int, int] | None
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Preprocessing:
        """Read the fields of config.json's `preprocessing`, which must be complete."""
        return cls(
            resize=_size(fields["resize"]),
            crop=_size(fields["crop"]),
            interpolation=fields["interpolation"],
            mean=tuple(fields["mean"]),
            std=tuple(fields["std"]),
        )

    @property
    def input_size(self) -> tuple[int, int]:
        """The `(height, width)` that a network is prepared for.

        It is the size of the crop, else of the resize, else 224 x 224. The core chooses algorithms
        for this size. An image may have another one after preprocessing, if nothing is cropped.
        """
        size = self.crop or self.resize or 224
        return (size, size) if isinstance(size, int) else size

    @property
    def has_one_size(self) -> bool:
        """True if all images have one size afterwards."""
        return self.crop is not None or isinstance(self.resize, tuple)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields of config.json's `preprocessing`."""
        return {
            "resize": self.resize,
            "crop": self.crop,
            "interpolation": self.interpolation,
            "mean": self.mean,
            "std": self.std,
        }


def usual_preset(architecture: str) -> str:
    """The name of the preset that the core takes if the weights do not state one."""
    return _CIFAR if architecture.startswith("cifar_") else "IMAGENET1K_V2"


def preset(name: str, architecture: str | None = None) -> dict[str, Any]:
    """Look up a preset by name.

    Args:
        name: torchvision's `IMAGENET1K_V1` (resize 256) or `IMAGENET1K_V2` (resize 232), which
            both crop 224; or `CIFAR10` (resize and crop 32, with the mean and deviation that
            most networks for CIFAR-10 were trained with).
        architecture: the network of the weights. V1 of resnext101_64x4d resizes to 232.

    Returns:
        All fields of config.json's `preprocessing`.

    Raises:
        ValueError: there is no such preset.
    """
    if name == _CIFAR:
        # An image of 32 x 32 pixels stays as it is.
        spec = Preprocessing(_CIFAR_SIDE, _CIFAR_SIDE, "bilinear", _CIFAR_MEAN, _CIFAR_STD)
        return spec.as_dict()
    if name not in _PRESETS:
        raise ValueError(
            f"preprocessing: expected {', '.join(PRESETS)}, a Preprocessing or a dict of its "
            f"fields; got {name!r}"
        )
    if architecture in _V1_THAT_RESIZES_AS_V2:
        name = "IMAGENET1K_V2"
    return Preprocessing(_PRESETS[name], 224, "bilinear", _IMAGENET_MEAN, _IMAGENET_STD).as_dict()


def _size(value: Any) -> int | tuple[int, int] | None:
    """Read a size: a JSON list `[height, width]` as a tuple, an int or None as it is."""
    if isinstance(value, list):
        height, width = value
        return height, width
    assert value is None or isinstance(value, int)
    return value

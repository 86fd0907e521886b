"""All ResNet weights that torchvision publishes: file, hash, accuracy and preset.

A row agrees with torchvision's enum, and a test compares the two. The file's name ends with the
first eight hex digits of its sha256, which is how a download is checked.

The preset belongs to the weights and not to the architecture: V2 weights want a short side of 232
pixels, V1 weights 256, except those of resnext101_64x4d, which are named V1 and want 232.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

CROP = 224
INTERPOLATION = "bilinear"
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
NUM_CLASSES = 1000


@dataclass(frozen=True)
class TorchvisionWeights:
    """One of torchvision's trained networks.

    Attributes:
        architecture: the network's name, as in `config.json`.
        name: the weights' name, such as `IMAGENET1K_V2`.
        sha256_prefix: the first eight hex digits of the file's sha256.
        mebibytes: the file's size in units of 2^20 bytes, as torchvision states it.
        parameters: the number of trained numbers.
        top_1: accuracy on ImageNet's validation photos, in percent.
        top_5: the share of photos whose class is among the best five, in percent.
        resize: the short side's length before the crop, in pixels.
    """

    architecture: str
    name: str
    sha256_prefix: str
    mebibytes: float
    parameters: int
    top_1: float
    top_5: float
    resize: int

    @property
    def full_name(self) -> str:
        """The name with its architecture, such as `resnet50.IMAGENET1K_V2`."""
        return f"{self.architecture}.{self.name}"

    @property
    def file(self) -> str:
        """The file's name on the server, which contains the hash."""
        return f"{self.architecture}-{self.sha256_prefix}.pth"

    @property
    def is_default(self) -> bool:
        """True for the newest weights of an architecture, torchvision's `DEFAULT`."""
        return weights_of(self.architecture)[-1] is self

    def preprocessing(self) -> dict[str, Any]:
        """The preset, as `config.json` writes it."""
        return {
            "resize": self.resize,
            "crop": CROP,
            "interpolation": INTERPOLATION,
            "mean": list(MEAN),
            "std": list(STD),
        }


# Within an architecture the default comes last.
_ROWS = (
    # architecture, name, sha256, MiB, parameters, top-1, top-5, resize
    ("resnet18", "IMAGENET1K_V1", "f37072fd", 44.661, 11_689_512, 69.758, 89.078, 256),
    ("resnet34", "IMAGENET1K_V1", "b627a593", 83.275, 21_797_672, 73.314, 91.42, 256),
    ("resnet50", "IMAGENET1K_V1", "0676ba61", 97.781, 25_557_032, 76.13, 92.862, 256),
    ("resnet50", "IMAGENET1K_V2", "11ad3fa6", 97.79, 25_557_032, 80.858, 95.434, 232),
    ("resnet101", "IMAGENET1K_V1", "63fe2227", 170.511, 44_549_160, 77.374, 93.546, 256),
    ("resnet101", "IMAGENET1K_V2", "cd907fc2", 170.53, 44_549_160, 81.886, 95.78, 232),
    ("resnet152", "IMAGENET1K_V1", "394f9c45", 230.434, 60_192_808, 78.312, 94.046, 256),
    ("resnet152", "IMAGENET1K_V2", "f82ba261", 230.474, 60_192_808, 82.284, 96.002, 232),
    ("resnext50_32x4d", "IMAGENET1K_V1", "7cdf4587", 95.789, 25_028_904, 77.618, 93.698, 256),
    ("resnext50_32x4d", "IMAGENET1K_V2", "1a0047aa", 95.833, 25_028_904, 81.198, 95.34, 232),
    ("resnext101_32x8d", "IMAGENET1K_V1", "8ba56ff5", 339.586, 88_791_336, 79.312, 94.526, 256),
    ("resnext101_32x8d", "IMAGENET1K_V2", "110c445d", 339.673, 88_791_336, 82.834, 96.228, 232),
    ("resnext101_64x4d", "IMAGENET1K_V1", "173b62eb", 319.318, 83_455_272, 83.246, 96.454, 232),
    ("wide_resnet50_2", "IMAGENET1K_V1", "95faca4d", 131.82, 68_883_240, 78.468, 94.086, 256),
    ("wide_resnet50_2", "IMAGENET1K_V2", "9ba9bcbe", 263.124, 68_883_240, 81.602, 95.758, 232),
    ("wide_resnet101_2", "IMAGENET1K_V1", "32ee1156", 242.896, 126_886_696, 78.848, 94.284, 256),
    ("wide_resnet101_2", "IMAGENET1K_V2", "d733dc28", 484.747, 126_886_696, 82.51, 96.02, 232),
)

TORCHVISION_WEIGHTS = tuple(TorchvisionWeights(*row) for row in _ROWS)


def weights_of(architecture: str) -> tuple[TorchvisionWeights, ...]:
    """The rows of one architecture, its default last; empty if torchvision has no weights."""
    return tuple(row for row in TORCHVISION_WEIGHTS if row.architecture == architecture)

"""timm's trained ResNets of our architectures: the tags, and the preprocessing of each.

A timm name is `<architecture>.<tag>`; the tag says how the weights were trained, and the preset
follows the tag. A preset has two sizes: the one that the network was trained with, which is timm's
own default, and for many tags a larger one to test with, which is slower and more accurate. timm
resizes the short side to `floor(size / crop_share)` and cuts a square of `size` from the centre.

The table agrees with timm's own configurations; a test compares the two.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from ..torchvision_weights import MEAN, STD

_HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class TimmPreset:
    """The preprocessing of a group of tags.

    Attributes:
        size: the crop's side in pixels that the network was trained with.
        crop_share: the crop's share of the resized short side.
        test_size: the crop's side to test with; None if timm states none.
        test_crop_share: the crop's share at that size.
        interpolation: Pillow's filter.
        mean: subtracted from R, G and B after division by 255.
        std: the divisor of each, after that.
    """

    size: int
    crop_share: float
    test_size: int | None
    test_crop_share: float | None
    interpolation: str
    mean: tuple[float, float, float] = MEAN
    std: tuple[float, float, float] = STD

    def preprocessing(self, size: Literal["train", "test"] = "train") -> dict[str, Any]:
        """The preset, as `config.json` writes it.

        Args:
            size: `train`, as timm does by itself, or `test`, the larger size. Tags without a test
                size have the same preset for both.
        """
        side, share = self.size, self.crop_share
        if size == "test" and self.test_size is not None:
            side, share = self.test_size, self.test_crop_share or self.crop_share
        return {
            "resize": math.floor(side / share),
            "crop": side,
            "interpolation": self.interpolation,
            "mean": list(self.mean),
            "std": list(self.std),
        }


# The recipes of "ResNet strikes back" (a1, a2, b, c, d), which test at 288 pixels uncropped.
_STRIKES_BACK = TimmPreset(224, 0.95, 288, 1.0, "bicubic")
_A3 = TimmPreset(160, 0.95, 224, 0.95, "bicubic")
_A1H_SMALL = TimmPreset(176, 0.9, 224, 1.0, "bicubic")
# RandAugment and its relatives.
_RAND = TimmPreset(224, 0.875, 288, 0.95, "bicubic")
_RAND_LARGE = TimmPreset(256, 0.95, 320, 1.0, "bicubic")
_CUBIC = TimmPreset(224, 0.875, None, None, "bicubic")
_LINEAR = TimmPreset(224, 0.875, None, None, "bilinear")
_TV2 = TimmPreset(176, 0.875, 224, 0.965, "bilinear")
_RA4 = TimmPreset(224, 0.9, 288, 1.0, "bicubic", _HALF, _HALF)
_RA4_WIDE = TimmPreset(224, 0.95, 288, 1.0, "bicubic", _HALF, _HALF)
_WHOLE = TimmPreset(224, 1.0, None, None, "bicubic")

# The preset of each tag, except in the networks that follow.
_PRESETS = {
    "a1_in1k": _STRIKES_BACK,
    "a1h_in1k": _STRIKES_BACK,
    "a2_in1k": _STRIKES_BACK,
    "a3_in1k": _A3,
    "am_in1k": _CUBIC,
    "b1k_in1k": _STRIKES_BACK,
    "b2k_in1k": _STRIKES_BACK,
    "bamboo": _WHOLE,
    "bt_in1k": _RAND,
    "c1_in1k": _STRIKES_BACK,
    "c2_in1k": _STRIKES_BACK,
    "d_in1k": _STRIKES_BACK,
    "fb_ssl_yfcc100m_ft_in1k": _LINEAR,
    "fb_swsl_ig1b_ft_in1k": _LINEAR,
    "fb_wsl_ig1b_ft_in1k": _LINEAR,
    "gluon_in1k": _CUBIC,
    "ra2_in1k": _RAND,
    "ra4_e3600_r224_in1k": _RA4,
    "ra_in1k": _RAND,
    "racm_in1k": _RAND,
    "ram_in1k": _RAND,
    "tv2_in1k": _TV2,
    "tv_in1k": _LINEAR,
}
_EXCEPTIONS = {
    "resnet101d.ra2_in1k": _RAND_LARGE,
    "resnet152d.ra2_in1k": _RAND_LARGE,
    "resnet200d.ra2_in1k": _RAND_LARGE,
    "resnet50.a1h_in1k": _A1H_SMALL,
    "resnet50d.ra4_e3600_r224_in1k": _RA4_WIDE,
}

# Within an architecture timm's default tag comes first.
_TAGS = {
    "resnet18": (
        "a1_in1k a2_in1k a3_in1k fb_ssl_yfcc100m_ft_in1k fb_swsl_ig1b_ft_in1k gluon_in1k tv_in1k"
    ),
    "resnet34": "a1_in1k a2_in1k a3_in1k bt_in1k gluon_in1k ra4_e3600_r224_in1k tv_in1k",
    "resnet26": "bt_in1k",
    "resnet50": (
        "a1_in1k a1h_in1k a2_in1k a3_in1k am_in1k b1k_in1k b2k_in1k bamboo bt_in1k c1_in1k "
        "c2_in1k d_in1k fb_ssl_yfcc100m_ft_in1k fb_swsl_ig1b_ft_in1k gluon_in1k ra_in1k "
        "ram_in1k tv2_in1k tv_in1k"
    ),
    "resnet101": "a1h_in1k a1_in1k a2_in1k a3_in1k gluon_in1k tv2_in1k tv_in1k",
    "resnet152": "a1h_in1k a1_in1k a2_in1k a3_in1k gluon_in1k tv2_in1k tv_in1k",
    "resnet18d": "ra2_in1k ra4_e3600_r224_in1k",
    "resnet26d": "bt_in1k",
    "resnet34d": "ra2_in1k",
    "resnet50d": "ra2_in1k a1_in1k a2_in1k a3_in1k gluon_in1k ra4_e3600_r224_in1k",
    "resnet101d": "ra2_in1k gluon_in1k",
    "resnet152d": "ra2_in1k gluon_in1k",
    "resnet200d": "ra2_in1k",
    "resnext50_32x4d": (
        "a1h_in1k a1_in1k a2_in1k a3_in1k fb_ssl_yfcc100m_ft_in1k fb_swsl_ig1b_ft_in1k "
        "gluon_in1k ra_in1k tv2_in1k tv_in1k"
    ),
    "resnext50d_32x4d": "bt_in1k",
    "resnext101_32x4d": "fb_ssl_yfcc100m_ft_in1k fb_swsl_ig1b_ft_in1k gluon_in1k",
    "resnext101_32x8d": (
        "tv_in1k fb_ssl_yfcc100m_ft_in1k fb_swsl_ig1b_ft_in1k fb_wsl_ig1b_ft_in1k tv2_in1k"
    ),
    "resnext101_64x4d": "c1_in1k gluon_in1k tv_in1k",
    "wide_resnet50_2": "racm_in1k tv2_in1k tv_in1k",
    "wide_resnet101_2": "tv_in1k tv2_in1k",
}

TIMM_WEIGHTS: dict[str, dict[str, TimmPreset]] = {
    architecture: {
        tag: _EXCEPTIONS.get(f"{architecture}.{tag}", _PRESETS[tag]) for tag in tags.split()
    }
    for architecture, tags in _TAGS.items()
}
"""The tags of each architecture, with their presets; timm's default tag comes first."""


def timm_preset(name: str) -> TimmPreset | None:
    """The preset of a name such as `resnet50.a1_in1k`; None if the table lacks it."""
    architecture, _, tag = name.partition(".")
    return TIMM_WEIGHTS.get(architecture, {}).get(tag)


def timm_names() -> list[str]:
    """All names, `resnet18.a1_in1k` and so on."""
    return [f"{architecture}.{tag}" for architecture, tags in TIMM_WEIGHTS.items() for tag in tags]

"""The networks that config.json's `variant` can describe, as small torch modules.

Every module is called what the operation is called, so that hooks name the steps. Written from the
contract of config.json and from nothing in the package.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import nn
from torch.nn import functional

DEFAULTS: dict[str, Any] = {
    "block": "bottleneck",
    "blocks": [1, 1, 1, 1],
    "widths": [8, 16, 24, 32],
    "groups": 1,
    "width_per_group": 64,
    "in_channels": 3,
    "stem": "conv7x7",
    "stem_widths": [8],
    "stride_on": "conv2",
    "shortcut": "conv",
    "conv_bias": False,
    "batch_norm": True,
    "norm_epsilon": 1e-5,
    "relu_before_add": False,
    "head": "global_avg_pool",
}
OPTIONAL = {"expansion", "dilation", "last_stride", "stem_stride", "stem_pool"}
"""A network that is small enough to run in a moment; a variant's fields replace these."""


class VariantResNet(nn.Module):
    """A ResNet of any variant.

    Args:
        variant: fields of config.json's `variant`, over `DEFAULTS`.
        num_classes: rows of fc; 0 for none.
        side: height and width of the input, which a head without global pooling needs to know.
    """

    def __init__(self, variant: dict[str, Any], num_classes: int = 10, side: int = 64) -> None:
        super().__init__()
        unknown = set(variant) - {*DEFAULTS, *OPTIONAL}
        assert not unknown, unknown
        v = {**DEFAULTS, **variant}
        v.setdefault("expansion", 4 if v["block"] == "bottleneck" else 1)
        v.setdefault("stem_stride", 1 if v["stem"] == "conv3x3" else 2)
        v.setdefault("stem_pool", "none" if v["stem"] == "conv3x3" else "max")
        v.setdefault("dilation", [1] * len(v["blocks"]))
        v.setdefault("last_stride", 1 if v["dilation"][-1] > ([1] + v["dilation"])[-2] else 2)
        self.variant = v
        channels = self._stem(v)
        stages = zip(v["blocks"], v["widths"], strict=True)
        self.stages = []
        for stage, (count, planes) in enumerate(stages, start=1):
            blocks = []
            for index in range(count):
                dilation = v["dilation"][stage - 1]
                before = v["dilation"][stage - 2] if stage > 1 else 1
                stride = 2 if stage > 1 and index == 0 and dilation == before else 1
                if stage == len(v["blocks"]) > 1 and index == 0:
                    stride = v["last_stride"]
                first = before if index == 0 else dilation
                blocks.append(Block(v, channels, planes, stride, (first, dilation)))
                channels = planes * v["expansion"]
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
            self.stages.append(f"layer{stage}")
        self.channels = channels
        self.avgpool = self._head(v["head"])
        self.eval()
        if num_classes:
            with torch.no_grad():
                shape = self.pooled(torch.zeros(1, v["in_channels"], side, side)).shape
            self.fc = nn.Linear(shape[1], num_classes)

    def _stem(self, v: dict[str, Any]) -> int:
        widths = v["stem_widths"]
        if v["stem"] == "deep":
            first, second, third = widths
            self.conv1: nn.Module = nn.Sequential(
                conv(v, v["in_channels"], first, 3, v["stem_stride"]),
                norm(v, first),
                nn.ReLU(),
                conv(v, first, second, 3, 1),
                norm(v, second),
                nn.ReLU(),
                conv(v, second, third, 3, 1),
            )
        elif v["stem"] == "conv7x7":
            self.conv1 = conv(v, v["in_channels"], widths[0], 7, v["stem_stride"])
        else:
            self.conv1 = conv(v, v["in_channels"], widths[0], 3, v["stem_stride"])
        self.bn1 = norm(v, widths[-1])
        self.relu = nn.ReLU()
        self.maxpool = {
            "none": nn.Identity(),
            "max": nn.MaxPool2d(3, 2, 1),
            "max_ceil": nn.MaxPool2d(3, 2, 0, ceil_mode=True),
        }[v["stem_pool"]]
        return int(widths[-1])

    def _head(self, head: str | dict[str, Any]) -> nn.Module:
        if isinstance(head, str):
            return nn.AdaptiveMaxPool2d(1) if "max" in head else nn.AdaptiveAvgPool2d(1)
        pool = head["avg_pool"]
        return nn.AvgPool2d(pool["kernel"], pool["stride"], pool["padding"])

    def pooled(self, x: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for stage in self.stages:
            x = self.get_submodule(stage)(x)
        return torch.flatten(self.avgpool(x), 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pooled(x)
        return self.fc(x) if hasattr(self, "fc") else x


class Block(nn.Module):
    """A basic block or a bottleneck with its shortcut."""

    def __init__(
        self,
        v: dict[str, Any],
        channels: int,
        planes: int,
        stride: int,
        dilations: tuple[int, int] = (1, 1),
    ) -> None:
        super().__init__()
        out = planes * v["expansion"]
        first, second = dilations
        if v["block"] == "basic":
            sizes = [(channels, planes, 3, stride, 1, first), (planes, out, 3, 1, 1, second)]
        else:
            width = int(planes * v["width_per_group"] / 64) * v["groups"]
            on_first = v["stride_on"] == "conv1"
            sizes = [
                (channels, width, 1, stride if on_first else 1, 1, 1),
                (width, width, 3, 1 if on_first else stride, v["groups"], first),
                (width, out, 1, 1, 1, 1),
            ]
        self.count = len(sizes)
        for i, (c_in, c_out, kernel, step, groups, dilation) in enumerate(sizes, start=1):
            self.add_module(f"conv{i}", conv(v, c_in, c_out, kernel, step, groups, dilation))
            self.add_module(f"bn{i}", norm(v, c_out))
            if i < self.count or v["relu_before_add"]:
                self.add_module(f"relu{i}", nn.ReLU())
        changes = stride != 1 or channels != out
        if isinstance(v["shortcut"], dict):
            if changes:
                self.downsample: nn.Module = OptionA(out - channels, stride, **v["shortcut"]["pad"])
        elif v["shortcut"] != "none" and (changes or v["shortcut"] == "conv_always"):
            self.downsample = nn.Sequential(*shortcut(v, channels, out, stride, second))
        if v["shortcut"] != "none":
            self.add = Add()
        self.output = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x
        for i, kind in itertools.product(range(1, self.count + 1), ("conv", "bn", "relu")):
            if hasattr(self, f"{kind}{i}"):
                y = self.get_submodule(f"{kind}{i}")(y)
        if not hasattr(self, "add"):  # a plain network
            return self.output(y)
        return self.output(self.add(y, self.downsample(x) if hasattr(self, "downsample") else x))


class Add(nn.Module):
    """The addition, as a module that a hook can be on."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a + b


class OptionA(nn.Module):
    """The paper's shortcut without weights, as its ports for CIFAR write it."""

    def __init__(self, channels: int, stride: int, reduce: str, zeros: str) -> None:
        super().__init__()
        before = channels // 2 if zeros == "around" else 0
        self.zeros = (before, channels - before)
        self.stride = stride
        self.average = reduce == "average" and stride > 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.average:
            # Ports have even sides; at the end of an odd one only the pixels there are count.
            x = functional.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False)
        else:
            x = x[:, :, :: self.stride, :: self.stride]
        return functional.pad(x, (0, 0, 0, 0, *self.zeros))


def shortcut(
    v: dict[str, Any], channels: int, out: int, stride: int, dilation: int
) -> list[nn.Module]:
    if v["shortcut"] in ("conv", "conv_always"):
        return [conv(v, channels, out, 1, stride), norm(v, out)]
    pool: nn.Module = nn.AvgPool2d(2, stride, ceil_mode=True, count_include_pad=False)
    if stride == 1:
        pool = SameAverage() if dilation > 1 else nn.Identity()
    return [pool, conv(v, channels, out, 1, 1), norm(v, out)]


class SameAverage(nn.Module):
    """timm's pool in the shortcuts of dilated "d" variants."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.avg_pool2d(functional.pad(x, (0, 1, 0, 1)), 2, 1)


def conv(
    v: dict[str, Any],
    channels: int,
    out: int,
    kernel: int,
    stride: int,
    groups: int = 1,
    dilation: int = 1,
) -> nn.Conv2d:
    bias = v["conv_bias"] or not v["batch_norm"]
    padding = kernel // 2 * dilation
    return nn.Conv2d(channels, out, kernel, stride, padding, dilation, groups, bias)


def norm(v: dict[str, Any], channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels, eps=v["norm_epsilon"]) if v["batch_norm"] else nn.Identity()

"""The networks that config.json's `variant` can describe, as small torch modules.

Every module is called what the operation is called, so that hooks name the steps. Written from the
contract of config.json and from nothing in the package.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import nn

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
        unknown = set(variant) - {*DEFAULTS, "expansion"}
        assert not unknown, unknown
        v = {**DEFAULTS, **variant}
        v.setdefault("expansion", 4 if v["block"] == "bottleneck" else 1)
        self.variant = v
        channels = self._stem(v)
        stages = zip(v["blocks"], v["widths"], strict=True)
        self.stages = []
        for stage, (count, planes) in enumerate(stages, start=1):
            blocks = []
            for index in range(count):
                stride = 2 if stage > 1 and index == 0 else 1
                blocks.append(Block(v, channels, planes, stride))
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
                conv(v, v["in_channels"], first, 3, 2),
                norm(v, first),
                nn.ReLU(),
                conv(v, first, second, 3, 1),
                norm(v, second),
                nn.ReLU(),
                conv(v, second, third, 3, 1),
            )
        elif v["stem"] == "conv7x7":
            self.conv1 = conv(v, v["in_channels"], widths[0], 7, 2)
        else:
            self.conv1 = conv(v, v["in_channels"], widths[0], 3, 1)
        self.bn1 = norm(v, widths[-1])
        self.relu = nn.ReLU()
        self.maxpool = nn.Identity() if v["stem"] == "conv3x3" else nn.MaxPool2d(3, 2, 1)
        return int(widths[-1])

    def _head(self, head: str | dict[str, Any]) -> nn.Module:
        if isinstance(head, str):
            return nn.AdaptiveAvgPool2d(1)
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

    def __init__(self, v: dict[str, Any], channels: int, planes: int, stride: int) -> None:
        super().__init__()
        out = planes * v["expansion"]
        if v["block"] == "basic":
            sizes = [(channels, planes, 3, stride, 1), (planes, out, 3, 1, 1)]
        else:
            width = int(planes * v["width_per_group"] / 64) * v["groups"]
            on_first = v["stride_on"] == "conv1"
            sizes = [
                (channels, width, 1, stride if on_first else 1, 1),
                (width, width, 3, 1 if on_first else stride, v["groups"]),
                (width, out, 1, 1, 1),
            ]
        self.count = len(sizes)
        for i, (c_in, c_out, kernel, step, groups) in enumerate(sizes, start=1):
            self.add_module(f"conv{i}", conv(v, c_in, c_out, kernel, step, groups))
            self.add_module(f"bn{i}", norm(v, c_out))
            if i < self.count or v["relu_before_add"]:
                self.add_module(f"relu{i}", nn.ReLU())
        if stride != 1 or channels != out:
            self.downsample = nn.Sequential(*shortcut(v, channels, out, stride))
        self.add = Add()
        self.output = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x
        for i, kind in itertools.product(range(1, self.count + 1), ("conv", "bn", "relu")):
            if hasattr(self, f"{kind}{i}"):
                y = self.get_submodule(f"{kind}{i}")(y)
        return self.output(self.add(y, self.downsample(x) if hasattr(self, "downsample") else x))


class Add(nn.Module):
    """The addition, as a module that a hook can be on."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a + b


def shortcut(v: dict[str, Any], channels: int, out: int, stride: int) -> list[nn.Module]:
    if v["shortcut"] == "conv":
        return [conv(v, channels, out, 1, stride), norm(v, out)]
    pool = nn.AvgPool2d(2, stride, ceil_mode=True, count_include_pad=False)
    return [pool if stride > 1 else nn.Identity(), conv(v, channels, out, 1, 1), norm(v, out)]


def conv(
    v: dict[str, Any], channels: int, out: int, kernel: int, stride: int, groups: int = 1
) -> nn.Conv2d:
    bias = v["conv_bias"] or not v["batch_norm"]
    return nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=bias)


def norm(v: dict[str, Any], channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels, eps=v["norm_epsilon"]) if v["batch_norm"] else nn.Identity()

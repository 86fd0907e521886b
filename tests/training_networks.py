"""Small networks as torch modules and as the package takes them, for tests of gradients.

They are the modules of `torch_variants`, one for each way in which gradients flow.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from network_pairs import Array
from torch import nn
from torch_variants import DEFAULTS, VariantResNet

from resnet_rs import reference

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))

from random_resnet import random_tensors
from torch_reference import fill

CLASSES = 5


def option_a(reduce: str, zeros: str) -> dict[str, Any]:
    return {"shortcut": {"pad": {"reduce": reduce, "zeros": zeros}}}


CIFAR = {"block": "basic", "stem": "conv3x3", "stem_widths": [4], "blocks": [1, 2, 1]}
CIFAR |= {"widths": [4, 8, 12]}
NARROW = {"widths": [4, 8, 8, 12], "stem_widths": [4]}
DEEP = {"stem": "deep", "stem_widths": [3, 4, 6], "shortcut": "avg_pool_conv"}

NETWORKS: dict[str, dict[str, Any]] = {
    "basic": {"block": "basic", "blocks": [1, 2, 1, 1]},
    "bottleneck": {"blocks": [1, 2, 1, 1]},
    "v1": {"stride_on": "conv1", "norm_epsilon": 1e-3},
    "grouped": {"groups": 4, "width_per_group": 32},
    "wide": {"width_per_group": 128},
    "d": DEEP,
    "d-basic": {**DEEP, "block": "basic"},
    "option-a": {**CIFAR, **option_a("slice", "around")},
    "option-a-end": {**CIFAR, **option_a("slice", "end")},
    "option-a-average": {**CIFAR, **option_a("average", "around")},
    "option-b": CIFAR,
    "option-c": {**CIFAR, "shortcut": "conv_always"},
    "without-batch-norm": {"batch_norm": False},
    "dilated": {"dilation": [1, 1, 2, 4]},
    "dilated-d": {**DEEP, "dilation": [1, 1, 2, 4]},
    "caffe-pool": {"stem_pool": "max_ceil"},
    "max-head": {"head": "global_max_pool"},
    "relu-before-add": {"relu_before_add": True, "in_channels": 1},
    "avg-pool-head": {"head": {"avg_pool": {"kernel": 2, "stride": 2, "padding": 1}}},
}


class Pair:
    """A small network as a torch module, and as the reference takes it."""

    def __init__(self, variant: dict[str, Any], size: tuple[int, int] = (64, 64)) -> None:
        narrow = {} if variant.get("stem") == "conv3x3" else NARROW
        self.variant = {**DEFAULTS, **narrow, **variant}
        model = VariantResNet(self.variant, CLASSES, size[0])
        counters = {k: v for k, v in model.state_dict().items() if k.endswith("_tracked")}
        shapes = {k: v.shape for k, v in model.state_dict().items() if k not in counters}
        self.model = fill(model, random_tensors(shapes, seed=3) | counters)
        self.operations = reference.operations(
            "resnet50", *size, num_classes=CLASSES, variant=self.variant
        )
        self.tensors = self.state()

    def state(self) -> dict[str, Array]:
        """The module's tensors, copied: torch changes its own in place."""
        return {
            name: tensor.numpy().copy()
            for name, tensor in self.model.state_dict().items()
            if not name.endswith("_tracked")
        }

    def batch(self, count: int, size: tuple[int, int], seed: int = 0) -> tuple[Array, Array]:
        """Random images and labels."""
        random = np.random.default_rng(seed)
        x = random.standard_normal((count, *size, self.variant["in_channels"]))
        return x, random.integers(0, CLASSES, count)

    def named(self) -> dict[str, list[torch.Tensor]]:
        """Let forward hooks fill a dict: each module's name to its results, which keep `grad`."""
        seen: dict[str, list[torch.Tensor]] = {}

        def keep(name: str, output: torch.Tensor) -> None:
            output.retain_grad()
            seen.setdefault(name, []).append(output)

        for name, module in self.model.named_modules():
            if name and not isinstance(module, nn.Identity):
                module.register_forward_hook(lambda _m, _i, output, name=name: keep(name, output))
        return seen

"""Whole networks, put together from `blocks`: image in, logits out.

The stem reduces the side to a quarter: 224 -> 112 (conv1) -> 56 (max pool). Four stages of blocks
follow; the first block of stages 2, 3 and 4 halves the side and doubles the channels. The mean of
each channel then goes through the classifier.

| after | side | channels of ResNet-18, 34 | of ResNet-50, 101, 152 |
|---|---|---|---|
| stem | 56 | 64 | 64 |
| layer1 | 56 | 64 | 256 |
| layer2 | 28 | 128 | 512 |
| layer3 | 14 | 256 | 1024 |
| layer4 | 7 | 512 | 2048 |
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from .blocks import Weights, basic_block, bottleneck, conv, norm, tensor
from .layers import flatten, fully_connected, global_avg_pool, max_pool, relu
from .windows import Array

Block = Callable[[Array, Weights, str, int], Array]


def resnet(image: ArrayLike, weights: Weights, block: Block, blocks: Sequence[int]) -> Array:
    """Compute a residual network of the paper's form.

    Args:
        image: `[batch, height, width, 3]`, RGB, normalised as the weights want it
            (`model.preprocess` does that).
        weights: torchvision's names to arrays, convolutions OIHW.
        block: `basic_block` or `bottleneck`.
        blocks: the number of blocks in each stage.

    Returns:
        Logits, `[batch, classes]`.

    Raises:
        KeyError: a tensor is missing.
    """
    x = np.asarray(image, np.float64)  # [batch, 224, 224, 3]
    x = conv(x, weights, "conv1", stride=2, padding=3)  # 7x7: [batch, 112, 112, 64]
    x = relu(norm(x, weights, "bn1"))
    x = max_pool(x, kernel=3, stride=2, padding=1)  # [batch, 56, 56, 64]

    for stage, count in enumerate(blocks, start=1):
        for index in range(count):
            # Only the first block of a stage changes the size, and the first stage's does not.
            stride = 2 if stage > 1 and index == 0 else 1
            x = block(x, weights, f"layer{stage}.{index}", stride)

    features = flatten(global_avg_pool(x))  # [batch, 7, 7, 2048] -> [batch, 2048]
    return fully_connected(features, tensor(weights, "fc.weight"), tensor(weights, "fc.bias"))


def resnet18(image: ArrayLike, weights: Weights) -> Array:
    """ResNet-18: see `resnet`."""
    return resnet(image, weights, basic_block, (2, 2, 2, 2))


def resnet34(image: ArrayLike, weights: Weights) -> Array:
    """ResNet-34: see `resnet`."""
    return resnet(image, weights, basic_block, (3, 4, 6, 3))


def resnet50(image: ArrayLike, weights: Weights) -> Array:
    """ResNet-50: see `resnet`."""
    return resnet(image, weights, bottleneck, (3, 4, 6, 3))


def resnet101(image: ArrayLike, weights: Weights) -> Array:
    """ResNet-101: see `resnet`."""
    return resnet(image, weights, bottleneck, (3, 4, 23, 3))


def resnet152(image: ArrayLike, weights: Weights) -> Array:
    """ResNet-152: see `resnet`."""
    return resnet(image, weights, bottleneck, (3, 8, 36, 3))

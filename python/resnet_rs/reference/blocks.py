"""The two residual blocks of the paper, put together from `layers`.

Both compute `relu(F(x) + shortcut(x))`: the convolutions learn a correction to the block's input.
The shortcut is x itself. If the block changes the size or the channels, the shortcut is a 1x1
convolution with a batch norm (the paper's option B), named `downsample` in torchvision.

`weights` maps torchvision's names (`layer1.0.conv1.weight`, `layer1.0.bn1.running_mean`, ...) to
arrays as a checkpoint holds them, convolutions OIHW.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .layers import add, batch_norm, conv2d, ohwi, relu
from .windows import Array

Weights = Mapping[str, NDArray[Any]]


def basic_block(x: Array, weights: Weights, name: str, stride: int) -> Array:
    """Two 3x3 convolutions: the block of ResNet-18 and 34.

    Args:
        x: `[batch, h, w, in]`.
        weights: the network's tensors.
        name: the block's name, such as `layer2.0`.
        stride: the stride of the first convolution and of the shortcut; 2 halves height and width.

    Returns:
        `[batch, h / stride, w / stride, out]`.
    """
    y = conv(x, weights, f"{name}.conv1", stride=stride, padding=1)  # 3x3: [h / stride, .., out]
    y = relu(norm(y, weights, f"{name}.bn1"))
    y = conv(y, weights, f"{name}.conv2", padding=1)  # 3x3: [h / stride, w / stride, out]
    y = norm(y, weights, f"{name}.bn2")
    return relu(add(y, shortcut(x, weights, name, stride)))


def bottleneck(x: Array, weights: Weights, name: str, stride: int) -> Array:
    """A 1x1 convolution to fewer channels, a 3x3, a 1x1 to more: the block of ResNet-50 and up.

    The stride is on the 3x3 convolution, as in torchvision ("v1.5"); the paper has it on the
    first 1x1 ("v1"), which drops three of four pixels before a larger kernel has seen them.

    Args:
        x: `[batch, h, w, in]`.
        weights: the network's tensors.
        name: the block's name, such as `layer2.0`.
        stride: the stride of the 3x3 convolution and of the shortcut; 2 halves height and width.

    Returns:
        `[batch, h / stride, w / stride, out]`, out = 4 * mid.
    """
    y = conv(x, weights, f"{name}.conv1")  # 1x1: [batch, h, w, mid]
    y = relu(norm(y, weights, f"{name}.bn1"))
    y = conv(y, weights, f"{name}.conv2", stride=stride, padding=1)  # 3x3: [h / stride, .., mid]
    y = relu(norm(y, weights, f"{name}.bn2"))
    y = conv(y, weights, f"{name}.conv3")  # 1x1: [batch, h / stride, w / stride, 4 * mid]
    y = norm(y, weights, f"{name}.bn3")
    return relu(add(y, shortcut(x, weights, name, stride)))


def shortcut(x: Array, weights: Weights, name: str, stride: int) -> Array:
    """Compute what a block adds: x, or a 1x1 convolution of x if the shape changes."""
    if f"{name}.downsample.0.weight" not in weights:
        return x
    x = conv(x, weights, f"{name}.downsample.0", stride=stride)  # 1x1: [h / stride, .., out]
    return norm(x, weights, f"{name}.downsample.1")


def conv(x: Array, weights: Weights, name: str, stride: int = 1, padding: int = 0) -> Array:
    """Apply the convolution of that name."""
    return conv2d(x, ohwi(tensor(weights, f"{name}.weight")), stride, padding)


def norm(x: Array, weights: Weights, name: str) -> Array:
    """Apply the batch norm of that name."""
    return batch_norm(
        x,
        mean=tensor(weights, f"{name}.running_mean"),
        variance=tensor(weights, f"{name}.running_var"),
        scale=tensor(weights, f"{name}.weight"),
        shift=tensor(weights, f"{name}.bias"),
    )


def tensor(weights: Weights, name: str) -> Array:
    """Return one tensor in float64.

    Raises:
        KeyError: there is no tensor of that name.
    """
    if name not in weights:
        raise KeyError(f"the weights have no tensor {name!r}")
    return np.asarray(weights[name], np.float64)

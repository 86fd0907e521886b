"""The `param` files of a text directory: strides, paddings and epsilons, checked and used."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..._core import WeightsError

_MAX_BYTES = 4096
_MAX_CHANNELS = 1 << 16
"""Far above any layer's, and small enough for products of sizes."""

_BLOCK = re.compile(r"layer(\d+)\.(\d+)\.(.+)")


@dataclass(frozen=True)
class ConvParam:
    """A convolution's `param` file.

    Attributes:
        path: the file.
        in_channels: of its input.
        out_channels: of its output.
        kernel: the window's side.
        stride: 1 or 2.
        padding: zeros on each side.
    """

    path: Path
    in_channels: int
    out_channels: int
    kernel: int
    stride: int
    padding: int


@dataclass(frozen=True)
class NormParam:
    """A batch norm's `param` file.

    Attributes:
        path: the file.
        epsilon: added to the variance.
    """

    path: Path
    epsilon: float


def read_conv_param(path: Path) -> ConvParam:
    """Read five whole numbers: channels in, channels out, kernel, stride, padding.

    Raises:
        WeightsError: the file holds something else, or a layer that no ResNet has.
    """
    meaning = "five whole numbers (channels in, channels out, kernel, stride, padding)"
    values = _numbers(path, 5, meaning)
    if any(value != int(value) or not 0 <= value <= _MAX_CHANNELS for value in values):
        raise WeightsError(f"{path}: expected {meaning}, found {values}")
    param = ConvParam(path, *map(int, values))
    if param.in_channels == 0 or param.out_channels == 0:
        raise WeightsError(f"{path}: expected channels from 1 up, found {values}")
    if param.kernel not in (1, 3, 7) or param.padding != param.kernel // 2:
        raise WeightsError(
            f"{path}: expected a kernel of 1, 3 or 7 with a padding of 0, 1 or 3, found kernel "
            f"{param.kernel} and padding {param.padding}"
        )
    return param


def read_norm_param(path: Path) -> NormParam:
    """Read two numbers, epsilon and momentum; momentum is for training only.

    Raises:
        WeightsError: the file holds something else.
    """
    epsilon, _momentum = _numbers(path, 2, "two numbers (epsilon, momentum)")
    if not 0 < epsilon < 1:
        raise WeightsError(f"{path}: expected an epsilon between 0 and 1, found {epsilon}")
    return NormParam(path, epsilon)


def _numbers(path: Path, count: int, meaning: str) -> list[float]:
    size = path.stat().st_size
    if size > _MAX_BYTES:
        raise WeightsError(f"{path}: expected {meaning}, found {size} bytes")
    try:
        values = [float(word) for word in path.read_bytes().split()]
    except ValueError as error:
        raise WeightsError(f"{path}: expected {meaning}: {error}") from error
    if len(values) != count or not all(map(math.isfinite, values)):
        raise WeightsError(f"{path}: expected {meaning}, found {len(values)} values: {values}")
    return values


def variant_of(convs: Mapping[str, ConvParam], norms: Mapping[str, NormParam]) -> dict[str, Any]:
    """Derive the fields of a config's `variant` that `param` files state and tensors do not.

    Args:
        convs: of every convolution, by torchvision's name.
        norms: of every batch norm, likewise.

    Returns:
        `stride_on`, for bottlenecks, and `norm_epsilon`.

    Raises:
        WeightsError: a stride that no ResNet has, or epsilons that differ.
    """
    variant: dict[str, Any] = {}
    bottleneck = "layer1.0.conv3" in convs
    second = convs.get("layer2.0.conv1")
    stride_on = "conv1" if not bottleneck or (second and second.stride == 2) else "conv2"
    for name, param in convs.items():
        expected = _stride(name, param, stride_on)
        if param.stride != expected:
            raise WeightsError(
                f"{param.path}: expected stride {expected} on {name}, where a stage's first block "
                f"has its stride on {stride_on}, found {param.stride}"
            )
    if bottleneck:
        variant["stride_on"] = stride_on
    for norm in norms.values():
        epsilon = variant.setdefault("norm_epsilon", norm.epsilon)
        if norm.epsilon != epsilon:
            raise WeightsError(
                f"{norm.path}: expected the epsilon of the other batch norms, {epsilon}, found "
                f"{norm.epsilon}"
            )
    return variant


def _stride(name: str, param: ConvParam, stride_on: str) -> int:
    """The stride that a ResNet has at a convolution."""
    match = _BLOCK.fullmatch(name)
    if match is None:
        # The stem: 7x7 with a stride for photographs, 3x3 without one for tiny images.
        return 2 if param.kernel == 7 else 1
    stage, block, what = match.groups()
    first = int(block) == 0 and int(stage) > 1
    return 2 if first and what in (stride_on, "downsample.0") else 1

"""Reads the kind of shortcuts off a network's tensors: options A, B and C of the paper."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Any

OPTION_A = {"pad": {"reduce": "slice", "zeros": "around"}}
"""The shortcut without tensors, as the paper has it."""

_PROJECTION = re.compile(r"layer\d+\.(\d+)\.downsample\.(\d)\.weight")


def shortcut(
    shapes: Mapping[str, tuple[int, ...]], stem: int, channels: tuple[int, ...]
) -> str | dict[str, Any]:
    """The kind of shortcut, as in a config's `variant`.

    Args:
        shapes: torchvision's names to shapes.
        stem: the channels of the stem's output.
        channels: the channels of each stage's output.
    """
    projections = [
        (int(match[1]), match[2])
        for name, shape in shapes.items()
        if (match := _PROJECTION.fullmatch(name)) and len(shape) == 4
    ]
    if any(index == "1" for _, index in projections):
        return "avg_pool_conv"
    if projections:
        # Only option C has a convolution although the shapes agree.
        always = channels[0] == stem and "layer1.0.downsample.0.weight" in shapes
        return "conv_always" if always or any(block for block, _ in projections) else "conv"
    doubled = all(after == 2 * before for before, after in itertools.pairwise(channels))
    if len(channels) > 1 and channels[0] == stem and doubled:
        return OPTION_A
    return "conv"


def has_projections(shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Tell whether a shortcut has tensors."""
    return any(map(_PROJECTION.fullmatch, shapes))

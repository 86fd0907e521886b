"""The stem and the blocks of an ONNX graph, and the fields of a config's `variant` that they show.

A field is left out if it has the family's usual value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from .onnx_shortcuts import places_of_zeros, reduction
from .onnx_steps import NotResNetError, Step


@dataclass(frozen=True)
class Block:
    """The convolutions of a residual block's two branches, and its result.

    Attributes:
        convs: two or three.
        shortcut: the steps of the shortcut.
        relu_before_add: whether a ReLU ends the main branch.
        output: the value after the addition and its ReLU.
    """

    convs: list[Step]
    shortcut: list[Step]
    relu_before_add: bool
    output: str

    @property
    def projection(self) -> list[Step]:
        """The shortcut's convolution, if it has one."""
        return convs_of(self.shortcut)

    @property
    def pooled(self) -> bool:
        """True if an average precedes the shortcut's convolution."""
        return any(step.kind == "avg_pool" for step in self.shortcut)

    @property
    def stride(self) -> int:
        """The stride of the main branch."""
        return math.prod(conv.attributes["stride"] for conv in self.convs)

    @property
    def changes_shape(self) -> bool:
        """True if the result has other channels or another size than the block's input."""
        first, last = self.convs[0].constants[0], self.convs[-1].constants[0]
        assert first is not None
        assert last is not None
        return first.shape[1] != last.shape[0] or self.stride != 1


def convs_of(path: list[Step]) -> list[Step]:
    """The convolutions among some steps."""
    return [step for step in path if step.kind == "conv"]


def stages_of(blocks: list[Block]) -> list[list[Block]]:
    """Group blocks into stages, which begin with a shortcut that is more than the identity.

    If every block has such a shortcut, a stage begins where the shape changes.
    """
    always = all(block.projection for block in blocks)
    stages: list[list[Block]] = []
    for block in blocks:
        own = any(step.kind in ("conv", "slice", "pad_channels") for step in block.shortcut)
        if not stages or (block.changes_shape if always else own):
            stages.append([])
        stages[-1].append(block)
    return stages


_MOST_DILATION = 32
"""The core's border of zeros around a map is not wider."""

_POOLS = {(3, 2, 1, False): "max", (3, 2, 0, True): "max_ceil"}
"""The stem's pools by kernel, stride, padding and ceil_mode."""


def stem_variant(stem: list[Step]) -> dict[str, Any]:
    """Give the stem's stride and pool, if they are unusual.

    Raises:
        NotResNetError: the stride or the pool is another one.
    """
    convs = convs_of(stem)
    small = len(convs) == 1 and convs[0].attributes["kernel"] == 3
    variant: dict[str, Any] = {}
    stride = convs[0].attributes["stride"]
    if stride not in (1, 2):
        raise NotResNetError(convs[0].node, "a stem of stride 1 or 2", str(stride))
    if stride != (1 if small else 2):
        variant["stem_stride"] = stride
    pools = [step for step in stem if step.kind == "max_pool"]
    pool = "none"
    if pools:
        window = pools[0].attributes
        numbers = (window["kernel"], window["stride"], window["padding"], window["ceil_mode"])
        if numbers not in _POOLS:
            raise NotResNetError(
                pools[0].node,
                "a maximum of 3x3 with stride 2, and with padding 1 or with ceil_mode",
                f"kernel {numbers[0]}, stride {numbers[1]}, padding {numbers[2]}"
                + (", ceil_mode" if numbers[3] else ""),
            )
        pool = _POOLS[numbers]
    if pool != ("none" if small else "max"):
        variant["stem_pool"] = pool
    return variant


def stages_variant(stages: list[list[Block]]) -> dict[str, Any]:
    """Give the place of the stride, and unusual strides and dilations of the stages.

    Raises:
        NotResNetError: a stage has a dilation that no network here has.
    """
    variant: dict[str, Any] = {}
    blocks = [block for stage in stages for block in stage]
    if len(blocks[0].convs) == 3:
        strides = [[conv.attributes["stride"] for conv in block.convs] for block in blocks]
        strided = [each for each in strides if each != [1, 1, 1]]
        variant["stride_on"] = "conv1" if strided and strided[0][0] > 1 else "conv2"
    dilations = [_dilation(stages, index) for index in range(len(stages))]
    for index, stage in enumerate(stages):
        fits = dilations[index] <= _MOST_DILATION
        if not fits or dilations[index] < dilations[max(0, index - 1)] or dilations[0] > 1:
            raise NotResNetError(
                stage[0].convs[1].node,
                f"dilations up to {_MOST_DILATION} that grow from 1",
                f"dilation {dilations[index]}",
            )
    if max(dilations) > 1:
        variant["dilation"] = dilations
    if len(stages) > 1:
        usual = 1 if dilations[-1] > dilations[-2] else 2
        # Others than 1 and 2 are found where the convolutions are compared, one by one.
        if stages[-1][0].stride in (1, 2) and stages[-1][0].stride != usual:
            variant["last_stride"] = stages[-1][0].stride
    return variant


def _dilation(stages: list[list[Block]], index: int) -> int:
    """The dilation of a stage, which its first block does not have yet."""
    first, *others = stages[index]
    if others:
        return others[0].convs[1].attributes["dilation"]
    if len(first.convs) == 2:
        return first.convs[1].attributes["dilation"]
    # Of a single bottleneck the next stage begins with it, and else it is not seen.
    following = stages[min(index + 1, len(stages) - 1)]
    return following[0].convs[1].attributes["dilation"]


def shortcut_variant(blocks: list[Block]) -> dict[str, Any]:
    """Give the kind of shortcuts, if they are without weights or in every block.

    Raises:
        NotResNetError: they differ from each other, or are of no known kind.
    """
    bare = [block for block in blocks if _is_bare(block)]
    if not bare:
        everywhere = all(block.projection for block in blocks)
        some_needless = not all(block.changes_shape for block in blocks)
        return {"shortcut": "conv_always"} if everywhere and some_needless else {}
    reductions: set[str] = set()
    places = {"around", "end"}
    for block in bare:
        pads = [step for step in block.shortcut if step.kind == "pad_channels"]
        for pad in pads:
            places &= places_of_zeros(pad)
        if found := reduction(block.shortcut):
            reductions.add(found)
        if not places or len(reductions) > 1 or len(pads) > 1:
            raise NotResNetError(block.shortcut[-1].node, "a shortcut like those before it")
    reduce = reductions.pop() if reductions else "slice"
    return {"shortcut": {"pad": {"reduce": reduce, "zeros": min(places)}}}


def _is_bare(block: Block) -> bool:
    """Report whether a block's shortcut has steps, but no weights."""
    kinds = {step.kind for step in block.shortcut}
    return bool(kinds & {"slice", "pad_channels"}) and "conv" not in kinds

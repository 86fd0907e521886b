"""Finds the convolutions of a ResNet in an ONNX graph, and names them as torchvision does.

The branches between one addition and the next are a residual block. Nothing else is checked here:
`onnx_match` compares the graph with the network that the names and the shapes stand for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..._core import WeightsError
from .onnx_blocks import (
    Block,
    convs_of,
    shortcut_variant,
    stages_of,
    stages_variant,
    stem_variant,
)
from .onnx_graph import Flow
from .onnx_steps import NotResNetError, Step

_EPSILON = 1e-5
"""The epsilon of a graph without batch norms."""


@dataclass(frozen=True)
class Unit:
    """A convolution, and the batch norm after it if there is one, with torchvision's names."""

    conv_name: str
    norm_name: str
    conv: Step
    norm: Step | None


@dataclass(frozen=True)
class Network:
    """The parts of a ResNet that have parameters.

    Attributes:
        units: the convolutions.
        fc: the linear layer; None for a network without classes.
        variant: the fields of a config's `variant` that shapes do not show, except the head.
    """

    units: list[Unit]
    fc: Step | None
    variant: dict[str, Any]


def find_network(flow: Flow) -> Network:
    """Find the network of a graph.

    Raises:
        WeightsError: the graph does not consist of a stem and residual blocks; the first node that
            is out of place is named.
    """
    stem = _path(flow, flow.only_consumer(flow.input))
    blocks: list[Block] = []
    value = stem[-1].output if stem else flow.input
    while len(flow.consumers(value)) == 2:
        block = _block(flow, value)
        blocks.append(block)
        value = block.output
        if len(block.convs) != len(blocks[0].convs):
            raise NotResNetError(block.convs[0].node, "a block like those before it")
    if not stem:
        raise WeightsError("the graph has no stem before its residual blocks: it is no ResNet")
    if not blocks:
        raise NotResNetError(stem[-1].node, "a residual block before it, whose input is used twice")
    convs = convs_of(stem)
    if len(convs) not in (1, 3):
        raise NotResNetError(stem[0].node, "a stem of one or three convolutions", str(len(convs)))
    stages = stages_of(blocks)
    units = [
        Unit(conv_name, norm_name, conv, _norm(flow, conv))
        for conv_name, norm_name, conv in _named(convs, stages)
    ]
    tail = _path(flow, flow.only_consumer(value))
    fc = next((step for step in tail if step.kind == "linear"), None)
    epsilons = [unit.norm.epsilon for unit in units if unit.norm is not None and unit.norm.epsilon]
    variant = {
        "norm_epsilon": epsilons[-1] if epsilons else _EPSILON,
        "relu_before_add": blocks[0].relu_before_add,
        **stem_variant(stem),
        **stages_variant(stages),
        **shortcut_variant(blocks),
    }
    return Network(units, fc, variant)


def _path(flow: Flow, step: Step | None) -> list[Step]:
    """The steps from one to the next branch, addition or end."""
    path = []
    while step is not None and step.kind != "add":
        path.append(step)
        step = flow.only_consumer(step.output)
    return path


def _block(flow: Flow, value: str) -> Block:
    """The block that starts at a value."""
    branches = flow.consumers(value)
    paths = [_path(flow, step) for step in branches]
    shortcut, main = sorted(paths, key=lambda path: len(convs_of(path)))
    convs, projection = convs_of(main), convs_of(shortcut)
    add = flow.only_consumer(main[-1].output) if main else None
    if add is None or len(convs) not in (2, 3) or len(projection) > 1:
        raise NotResNetError(
            branches[1].node,
            "the sum of two or three convolutions and of a shortcut with one at most",
        )
    relu = flow.only_consumer(add.output)
    return Block(
        convs,
        shortcut,
        relu_before_add=main[-1].kind == "relu",
        output=relu.output if relu is not None and relu.kind == "relu" else add.output,
    )


def _norm(flow: Flow, conv: Step) -> Step | None:
    step = flow.only_consumer(conv.output)
    return step if step is not None and step.kind == "batch_norm" else None


def _named(stem: list[Step], stages: list[list[Block]]) -> Iterator[tuple[str, str, Step]]:
    """Yield torchvision's names of each convolution and of its batch norm, and the convolution."""
    first, *others = stem
    if not others:
        yield "conv1", "bn1", first
    else:
        yield "conv1.0", "conv1.1", first
        yield "conv1.3", "conv1.4", others[0]
        yield "conv1.6", "bn1", others[1]
    # A pooling has no parameters but a place in the names, even if the stride is 1.
    pooled = any(block.pooled and block.projection for stage in stages for block in stage)
    for stage, blocks in enumerate(stages, 1):
        for index, block in enumerate(blocks):
            name = f"layer{stage}.{index}"
            for number, conv in enumerate(block.convs, 1):
                yield f"{name}.conv{number}", f"{name}.bn{number}", conv
            for conv in block.projection:
                yield f"{name}.downsample.{pooled:d}", f"{name}.downsample.{pooled + 1}", conv

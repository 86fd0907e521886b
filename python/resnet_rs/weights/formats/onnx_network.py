"""Finds the convolutions of a ResNet in an ONNX graph, and names them as torchvision does.

The branches between one addition and the next are a residual block. Nothing else is checked here:
`onnx_match` compares the graph with the network that the names and the shapes stand for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..._core import WeightsError
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


@dataclass(frozen=True)
class _Block:
    """The convolutions of a residual block's two branches, and its result.

    Attributes:
        convs: two or three.
        projection: the shortcut's, one at most.
        pooled: whether an average precedes that.
        relu_before_add: whether a ReLU ends the main branch.
        output: the value after the addition and its ReLU.
    """

    convs: list[Step]
    projection: list[Step]
    pooled: bool
    relu_before_add: bool
    output: str


def find_network(flow: Flow) -> Network:
    """Find the network of a graph.

    Raises:
        WeightsError: the graph does not consist of a stem and residual blocks; the first node that
            is out of place is named.
    """
    stem = _path(flow, flow.only_consumer(flow.input))
    blocks: list[_Block] = []
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
    convs = _convs(stem)
    if len(convs) not in (1, 3):
        raise NotResNetError(stem[0].node, "a stem of one or three convolutions", str(len(convs)))
    units = [
        Unit(conv_name, norm_name, conv, _norm(flow, conv))
        for conv_name, norm_name, conv in _named(convs, blocks)
    ]
    tail = _path(flow, flow.only_consumer(value))
    fc = next((step for step in tail if step.kind == "linear"), None)
    return Network(units, fc, _variant(units, blocks))


def _path(flow: Flow, step: Step | None) -> list[Step]:
    """The steps from one to the next branch, addition or end."""
    path = []
    while step is not None and step.kind != "add":
        path.append(step)
        step = flow.only_consumer(step.output)
    return path


def _block(flow: Flow, value: str) -> _Block:
    """The block that starts at a value."""
    branches = flow.consumers(value)
    paths = [_path(flow, step) for step in branches]
    shortcut, main = sorted(paths, key=lambda path: len(_convs(path)))
    convs, projection = _convs(main), _convs(shortcut)
    add = flow.only_consumer(main[-1].output) if main else None
    if add is None or len(convs) not in (2, 3) or len(projection) > 1:
        raise NotResNetError(
            branches[1].node,
            "the sum of two or three convolutions and of a shortcut with one at most",
        )
    relu = flow.only_consumer(add.output)
    return _Block(
        convs,
        projection,
        pooled=any(step.kind == "avg_pool" for step in shortcut),
        relu_before_add=main[-1].kind == "relu",
        output=relu.output if relu is not None and relu.kind == "relu" else add.output,
    )


def _convs(path: list[Step]) -> list[Step]:
    return [step for step in path if step.kind == "conv"]


def _norm(flow: Flow, conv: Step) -> Step | None:
    step = flow.only_consumer(conv.output)
    return step if step is not None and step.kind == "batch_norm" else None


def _named(stem: list[Step], blocks: list[_Block]) -> Iterator[tuple[str, str, Step]]:
    """Yield torchvision's names of each convolution and of its batch norm, and the convolution."""
    first, *others = stem
    if not others:
        yield "conv1", "bn1", first
    else:
        yield "conv1.0", "conv1.1", first
        yield "conv1.3", "conv1.4", others[0]
        yield "conv1.6", "bn1", others[1]
    # A pooling has no parameters but a place in the names, even if the stride is 1.
    pooled = any(block.pooled for block in blocks)
    stage = index = 0
    for block in blocks:
        starts_stage = block.projection or stage == 0
        stage, index = (stage + 1, 0) if starts_stage else (stage, index + 1)
        name = f"layer{stage}.{index}"
        for number, conv in enumerate(block.convs, 1):
            yield f"{name}.conv{number}", f"{name}.bn{number}", conv
        for conv in block.projection:
            yield f"{name}.downsample.{pooled:d}", f"{name}.downsample.{pooled + 1}", conv


def _variant(units: list[Unit], blocks: list[_Block]) -> dict[str, Any]:
    epsilons = [unit.norm.epsilon for unit in units if unit.norm is not None and unit.norm.epsilon]
    variant: dict[str, Any] = {
        "norm_epsilon": epsilons[-1] if epsilons else _EPSILON,
        "relu_before_add": blocks[0].relu_before_add,
    }
    strides = [[conv.attributes["stride"] for conv in block.convs] for block in blocks]
    if len(strides[0]) == 3:
        strided = [each for each in strides if each != [1, 1, 1]]
        variant["stride_on"] = "conv1" if strided and strided[0][0] > 1 else "conv2"
    return variant

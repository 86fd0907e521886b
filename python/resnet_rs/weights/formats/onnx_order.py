"""The order in which the nodes of an ONNX graph can be computed."""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from ..._core import WeightsError
from .onnx_proto import Node


def in_order(nodes: list[Node], given: Iterable[str]) -> list[Node]:
    """Sort nodes so that each comes after those whose results it takes.

    ONNX demands this order of a file, and not every tool that edits graphs keeps to it. Nodes that
    are in order stay where they are. A value that nothing gives is left to the reader of the node
    that takes it.

    Args:
        nodes: the nodes of a graph.
        given: the names of its inputs and initializers.

    Raises:
        WeightsError: a value is given twice, or some nodes wait for each other.
    """
    known = set(given)
    producers: dict[str, int] = {}
    for index, node in enumerate(nodes):
        if not node.outputs or not node.outputs[0]:
            raise WeightsError(f"{node}: expected a node with an output")
        for name in filter(None, node.outputs):
            if name in known or name in producers:
                raise WeightsError(f"{node}: the value {name} is given twice")
            producers[name] = index
    followers: list[list[int]] = [[] for _ in nodes]
    missing = [0] * len(nodes)
    for index, node in enumerate(nodes):
        for source in {producers[name] for name in node.inputs if name in producers}:
            followers[source].append(index)
            missing[index] += 1
    ready = [index for index, count in enumerate(missing) if count == 0]
    result = []
    while ready:
        index = heapq.heappop(ready)
        result.append(nodes[index])
        for follower in followers[index]:
            missing[follower] -= 1
            if missing[follower] == 0:
                heapq.heappush(ready, follower)
    if len(result) < len(nodes):
        stuck = next(node for node, count in zip(nodes, missing, strict=True) if count > 0)
        raise WeightsError(f"{stuck}: it waits for its own result: the graph has a cycle")
    return result

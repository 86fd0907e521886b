"""Compares an ONNX graph, operation by operation, with the network that it should be."""

from __future__ import annotations

from typing import Any

from ..._core import WeightsError
from .onnx_graph import Flow
from .onnx_network import Network
from .onnx_shortcuts import reduction
from .onnx_steps import MAX_SIZE, NotResNetError, Step


def image_size(flow: Flow) -> tuple[int, int] | None:
    """Give the height and width of the graph's input; None if it leaves them open."""
    sides = (flow.input_shape or [None] * 4)[2:]
    height, width = (side if side and 0 < side <= MAX_SIZE else None for side in sides)
    return None if height is None or width is None else (height, width)


class Match:
    """The comparison of a graph with the operations of a network.

    Args:
        flow: the graph.
        network: its convolutions by name.
        operations: those of the core, for the graph's image size.

    Attributes:
        head: the config's `head`: `global_avg_pool`, `global_max_pool`, or a window's average.
        activation: the output function, `softmax` or `sigmoid`; None if the graph gives logits.
        remarks: what the user should know.

    Raises:
        WeightsError: an operation is missing, differs or is left over; the first is named.
    """

    def __init__(self, flow: Flow, network: Network, operations: list[dict[str, Any]]) -> None:
        self.head: str | dict[str, Any] = "global_avg_pool"
        self.activation: str | None = None
        self.remarks: list[str] = []
        self._flow = flow
        self._units = {unit.conv_name: unit for unit in network.units}
        self._seen: set[int] = set()
        self._values = {"image": flow.input}
        self._maps: dict[str, tuple[int, ...]] = {"image": image_size(flow) or ()}
        folded = all(operation["kind"] != "batch_norm" for operation in operations)
        value = "image"
        for operation in operations:
            if operation["kind"] == "global_avg_pool":
                break
            if operation["kind"] == "pad":
                self._bare_shortcut(operation)
            else:
                self._body(operation, folded)
            value = operation["name"]
        self._head(self._values[value], self._maps[value])
        for step in flow.steps:
            if id(step) not in self._seen:
                raise NotResNetError(step.node, "no operation beside those of a ResNet")

    # -- Body ----------------------------------------------------------------------------------

    def _body(self, operation: dict[str, Any], folded: bool) -> None:
        """Match the next operation before the head.

        Args:
            operation: the core's.
            folded: pass over the batch norm after a convolution.
        """
        name = operation["name"]
        unit = self._units.get(name)
        # A block's input may go to two convolutions, which only their names tell apart.
        choice = None if unit is None else [unit.conv]
        inputs = [self._values[each] for each in operation["inputs"]]
        step = self._take(operation["kind"], inputs, choice)
        before = self._maps[operation["inputs"][0]]
        self._check_attributes(step, operation, before)
        if folded and unit is not None and unit.norm is not None:
            step = unit.norm
            self._seen.add(id(step))
        self._values[name] = step.output
        # Without the image's size those of the maps are unknown too.
        self._maps[name] = operation["output_shape"][:2] if before else ()

    def _bare_shortcut(self, operation: dict[str, Any]) -> None:
        """Match a shortcut without weights: fewer pixels and zero channels, in either order."""
        (before,) = operation["inputs"]
        value = self._values[before]
        steps: list[Step] = []
        while step := self._next_of_shortcut(value):
            steps.append(step)
            self._seen.add(id(step))
            value = step.output
        pads = [step.attributes for step in steps if step.kind == "pad_channels"]
        got = {
            "pixels": reduction(steps),
            "zeros": pads[0] if pads else {"before": 0, "after": 0},
        }
        reduced = "slice" if operation["kernel"] == 1 else "average"
        expected = {
            "pixels": reduced if operation["stride"] > 1 else None,
            "zeros": {"before": operation["before"], "after": operation["after"]},
        }
        if not steps or got != expected or len(pads) > 1:
            where = steps[-1].node if steps else self._flow.consumers(value)[0].node
            raise NotResNetError(where, f"a shortcut with {expected}", str(got))
        name = operation["name"]
        self._values[name] = value
        self._maps[name] = operation["output_shape"][:2] if self._maps[before] else ()

    def _next_of_shortcut(self, value: str) -> Step | None:
        steps = self._flow.consumers(value)
        kinds = ("slice", "avg_pool", "pad_channels")
        return next((step for step in steps if step.kind in kinds), None)

    def _check_attributes(
        self, step: Step, operation: dict[str, Any], before: tuple[int, ...]
    ) -> None:
        got = dict(step.attributes)
        expected = {name: operation.get(name, name == "dilation") for name in got}
        if step.kind == "avg_pool" and before and all(side % 2 == 0 for side in before):
            # An even map has no half windows, which these two are about.
            for name in ("ceil_mode", "count_include_pad"):
                expected[name] = got[name]
        differing = [name for name in got if got[name] != expected[name]]
        if differing:
            raise NotResNetError(
                step.node,
                f"{_WORDS[step.kind]} with "
                + " and ".join(f"{name} {expected[name]}" for name in differing),
                " and ".join(f"{name} {got[name]}" for name in differing),
            )

    # -- Head ----------------------------------------------------------------------------------

    def _head(self, value: str, size: tuple[int, ...]) -> None:
        """Match a pooling, then perhaps a flatten, a linear layer and an output function."""
        if self._follows(value, "avg_pool"):
            pool = self._take("avg_pool", [value])
            value = pool.output
            self._pooled_head(pool, size)
        elif self._follows(value, "global_max_pool"):
            value = self._take("global_max_pool", [value]).output
            self.head = "global_max_pool"
        elif self._flow.consumers(value):
            value = self._take("global_avg_pool", [value]).output
        while self._follows(value, "flatten"):
            value = self._take("flatten", [value]).output
        if self._follows(value, "linear"):
            value = self._take("linear", [value]).output
            for kind in ("softmax", "sigmoid"):
                if self.activation is None and self._follows(value, kind):
                    value = self._take(kind, [value]).output
                    self.activation = kind
        if not self._flow.consumers(value) and value not in self._flow.outputs:
            raise WeightsError("expected the last operation's result as the graph's output")

    def _pooled_head(self, pool: Step, size: tuple[int, ...]) -> None:
        """Take an average over a window, which is global if it covers the whole map."""
        window = {name: pool.attributes[name] for name in ("kernel", "stride", "padding")}
        kernel, padding = window["kernel"], window["padding"]
        if padding == 0 and size == (kernel, kernel):
            self.remarks.append(
                f"the {kernel}x{kernel} average covers the whole map at the graph's "
                "input size: taken as an average over the map of any size"
            )
            return
        counted = pool.attributes["count_include_pad"] or padding == 0
        if pool.attributes["ceil_mode"] or not counted:
            raise NotResNetError(pool.node, "an average that counts its padding and rounds down")
        self.head = {"avg_pool": window}
        if sides := image_size(self._flow):
            self.remarks.append(f"the graph's input is {sides[0]} x {sides[1]} pixels")

    # -- Steps ---------------------------------------------------------------------------------

    def _follows(self, value: str, kind: str) -> bool:
        return any(step.kind == kind for step in self._flow.consumers(value))

    def _take(self, kind: str, inputs: list[str], choice: list[Step] | None = None) -> Step:
        """Take the operation of a kind that has these inputs."""
        followers = self._flow.consumers(inputs[0])
        for step in followers if choice is None else choice:
            if step.kind == kind and sorted(step.inputs) == sorted(inputs):
                self._seen.add(id(step))
                return step
        for step in followers:
            if id(step) not in self._seen:
                raise NotResNetError(step.node, _WORDS[kind])
        producer = self._flow.producer(inputs[0])
        where = f"after {producer.node}" if producer is not None else "after the image"
        raise WeightsError(f"the graph ends {where}: expected {_WORDS[kind]} there")


_WORDS = {
    "add": "an addition of a block's branches",
    "avg_pool": "an average",
    "batch_norm": "a batch norm",
    "conv": "a convolution",
    "flatten": "a flatten",
    "global_avg_pool": "an average over height and width",
    "global_max_pool": "a maximum over height and width",
    "linear": "a linear layer",
    "max_pool": "a maximum",
    "relu": "a ReLU",
    "sigmoid": "a sigmoid",
    "softmax": "a softmax",
}

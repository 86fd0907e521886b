"""Walks from the image to the logits, and checks that the operations are those of a ResNet."""

from __future__ import annotations

from ..._core import WeightsError
from .onnx_graph import Flow
from .onnx_network import Block, Network, Unit
from .onnx_steps import NotResNetError, Step, Window


class Walk:
    """Follows a graph's operations; `network` is the result.

    Raises:
        WeightsError: an operation is out of place; the first such operation is named.
    """

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self._seen: set[int] = set()
        self.network = Network(remarks=list(flow.remarks))
        sides = (flow.input_shape or [None] * 4)[2:]
        self._size = [side if isinstance(side, int) and side > 0 else None for side in sides]
        value = self._stem(flow.input)
        value = self._stages(value)
        self._head(value)
        for step in flow.steps:
            if id(step) not in self._seen:
                raise NotResNetError(step.node, "no operation beside those of a ResNet")

    # -- The three parts -----------------------------------------------------------------------

    def _stem(self, value: str) -> str:
        """One convolution with batch norm and ReLU, or three; then perhaps the pooling."""
        stem = self.network.stem
        while True:
            unit = self._unit(self._next(value, "conv"))
            value = self._next(unit.output, "relu").output
            stem.append(unit)
            self._shrink(unit.window)
            followers = self._flow.consumers(value)
            if len(followers) != 1 or followers[0].kind != "conv":
                break
        shape = [(unit.window.kernel, unit.window.stride) for unit in stem]
        pooled = len(followers) == 1 and followers[0].kind == "max_pool"
        known = [[(7, 2)], [(3, 2), (3, 1), (3, 1)]] if pooled else [[(3, 1)]]
        if shape not in known:
            raise NotResNetError(
                stem[0].conv.node,
                "a stem of one 7x7 convolution with stride 2 or of three 3x3, and a maximum, "
                "or of one 3x3 with stride 1",
                f"kernels and strides {shape}{' and a maximum' if pooled else ''}",
            )
        if pooled:
            pool = self._next(value, "max_pool")
            if pool.window != Window(3, 2, 1):
                raise NotResNetError(pool.node, "a 3x3 maximum with stride 2", str(pool.window))
            value = pool.output
            self._shrink(pool.window)
        return value

    def _stages(self, value: str) -> str:
        """Blocks, as long as two operations take the same value."""
        stages = self.network.stages
        while len(self._flow.consumers(value)) == 2:
            start = value
            block, value = self._block(value)
            if block.shortcut is not None or not stages:
                stages.append([])
            stages[-1].append(block)
            stride = 2 if len(stages) > 1 and len(stages[-1]) == 1 else 1
            self._check_block(block, stride, self._flow.consumers(start)[0])
            for unit in block.units:
                self._shrink(unit.window)
        if not stages:
            step = self._flow.consumers(value)
            if not step:
                raise WeightsError("the graph has no residual blocks: it is no ResNet")
            raise NotResNetError(step[0].node, "a residual block, whose input is taken twice")
        return value

    def _head(self, value: str) -> None:
        """Pooling, perhaps a flatten, perhaps a linear layer, perhaps a softmax."""
        followers = self._flow.consumers(value)
        if followers and followers[0].kind == "avg_pool":
            pool = self._next(value, "avg_pool")
            value = pool.output
            self._pooled_head(pool)
        elif followers:
            value = self._next(value, "global_avg_pool").output
        while self._follows(value, "flatten"):
            value = self._next(value, "flatten").output
        if self._follows(value, "linear"):
            self.network.fc = self._next(value, "linear")
            value = self.network.fc.output
        if self._follows(value, "softmax"):
            value = self._next(value, "softmax").output
        for step in self._flow.consumers(value):
            raise NotResNetError(step.node, "the graph's end")
        if value not in self._flow.outputs:
            raise WeightsError("expected the last operation's result as the graph's output")

    def _pooled_head(self, pool: Step) -> None:
        """Take an average over a window, which is global if it covers the whole map."""
        window = pool.window
        assert window is not None
        if window.padding == 0 and self._size == [window.kernel, window.kernel]:
            self.network.remarks.append(
                f"the {window.kernel}x{window.kernel} average covers the whole map at the graph's "
                "input size: taken as an average over the map of any size"
            )
            return
        counted = pool.count_padding or window.padding == 0
        if window.ceil_mode or not counted:
            raise NotResNetError(pool.node, "an average that counts its padding and rounds down")
        self.network.head = {
            "avg_pool": {
                "kernel": window.kernel,
                "stride": window.stride,
                "padding": window.padding,
            }
        }
        if self._flow.input_shape is not None and None not in self._flow.input_shape[2:]:
            sides = self._flow.input_shape[2:]
            self.network.remarks.append(f"the graph's input is {sides[0]} x {sides[1]} pixels")

    # -- Blocks --------------------------------------------------------------------------------

    def _block(self, value: str) -> tuple[Block, str]:
        """The block that starts at a value, and its result."""
        branches = self._flow.consumers(value)
        others = [step for step in branches if not self._is_shortcut(step)]
        if len(others) != 1:
            raise NotResNetError(
                branches[1].node, "a shortcut, or convolutions, beside the other branch"
            )
        main = others[0]
        shortcut, pooled, end = None, False, value
        (step,) = (step for step in branches if step is not main)
        if step.kind == "avg_pool":
            self._check_shortcut_pool(step)
            pooled, end = True, step.output
            self._seen.add(id(step))
            step = self._next(end, "conv")
        if step.kind != "add":
            shortcut = self._unit(step)
            end = shortcut.output

        units: list[Unit] = []
        inside = value
        relu = False
        while not units or not self._follows(inside, "add"):
            unit = self._unit(self._next(inside, "conv") if units else main)
            units.append(unit)
            inside = unit.output
            relu = self._follows(inside, "relu")
            if relu:
                inside = self._next(inside, "relu").output
            elif not self._follows(inside, "add"):
                self._next(inside, "relu")  # raises, and names the other operation
        add = self._next(inside, "add")
        if sorted(add.inputs) != sorted([inside, end]) or len(units) not in (2, 3):
            raise NotResNetError(
                add.node, "the sum of two or three convolutions and their block's input"
            )
        result = self._next(add.output, "relu").output
        return Block(units, shortcut, pooled, relu), result

    def _is_shortcut(self, step: Step) -> bool:
        """Report whether a branch leads to an addition with at most a pooling and one unit."""
        if step.kind == "avg_pool":
            return True
        if step.kind == "conv":
            followers = self._flow.consumers(step.output)
            if len(followers) == 1 and followers[0].kind == "batch_norm":
                followers = self._flow.consumers(followers[0].output)
            return len(followers) == 1 and followers[0].kind == "add"
        return step.kind == "add"

    def _check_shortcut_pool(self, step: Step) -> None:
        """Check for a 2x2 average; at the edge it is over the pixels that exist."""
        window = step.window
        assert window is not None
        # An even map has no half windows, and then ceil_mode says nothing.
        even = all(side is not None and side % 2 == 0 for side in self._size)
        if (window.kernel, window.stride, window.padding) != (2, 2, 0) or not (
            even or (window.ceil_mode and not step.count_padding)
        ):
            raise NotResNetError(
                step.node,
                "a 2x2 average with stride 2, ceil_mode and without counting padding",
                f"{window}, counting padding: {step.count_padding}",
            )

    def _check_block(self, block: Block, stride: int, start: Step) -> None:
        """Check windows and strides of a block, and that it is like the others."""
        windows = [unit.window for unit in block.units]
        kernels = [window.kernel for window in windows]
        if kernels not in ([3, 3], [1, 3, 1]):
            raise NotResNetError(
                start.node, "kernels of 3 and 3, or of 1, 3 and 1", f"kernels {kernels}"
            )
        strides = [window.stride for window in windows]
        allowed = [[stride, 1]] if len(strides) == 2 else [[1, stride, 1], [stride, 1, 1]]
        first = self.network.stages[0][0]
        strided = [b for stage in self.network.stages for b in stage if b.stride > 1]
        if len(strides) == 3 and stride > 1 and strided[:1] != [block]:
            # All blocks have their stride on the same convolution.
            allowed = [[unit.window.stride for unit in b.units] for b in strided[:1]]
        if strides not in allowed or stride not in (1, 2):
            raise NotResNetError(
                start.node, f"the strides {' or '.join(map(str, allowed))}", str(strides)
            )
        if block.shortcut is not None:
            window = block.shortcut.window
            expected = 1 if block.pooled else stride
            if window != Window(1, expected, 0) or (block.pooled and stride == 1):
                raise NotResNetError(
                    block.shortcut.conv.node, f"a 1x1 shortcut of stride {stride}", str(window)
                )
        elif stride > 1:
            raise NotResNetError(start.node, "a shortcut with a convolution")
        pooled = {b.pooled for b in strided if b.shortcut is not None}
        same = len(block.units) == len(first.units)
        if not same or block.relu_before_add != first.relu_before_add or len(pooled) > 1:
            raise NotResNetError(start.node, "a block like those before it")
        for unit in block.units:
            groups = unit.conv.groups
            is_middle = len(block.units) == 3 and unit is block.units[1]
            if groups != (first.units[1].conv.groups if is_middle else 1):
                raise NotResNetError(unit.conv.node, "the groups of the blocks before", str(groups))

    # -- Steps ---------------------------------------------------------------------------------

    def _follows(self, value: str, kind: str) -> bool:
        followers = self._flow.consumers(value)
        return len(followers) == 1 and followers[0].kind == kind

    def _next(self, value: str, kind: str) -> Step:
        """The one operation that takes a value, which must be of a kind."""
        followers = self._flow.consumers(value)
        producer = self._flow.producer(value)
        if not followers:
            where = f"after {producer.node}" if producer is not None else "after the image"
            raise WeightsError(f"the graph ends {where}: expected {_WORDS[kind]} there")
        if followers[0].kind != kind:
            raise NotResNetError(followers[0].node, _WORDS[kind])
        if len(followers) > 1:
            raise NotResNetError(followers[1].node, "another input: that one is taken already")
        self._seen.add(id(followers[0]))
        return followers[0]

    def _unit(self, conv: Step) -> Unit:
        """A convolution and its batch norm."""
        if conv.kind != "conv":
            raise NotResNetError(conv.node, _WORDS["conv"])
        self._seen.add(id(conv))
        window = conv.window
        assert window is not None
        if window.kernel % 2 == 0 or window.padding != window.kernel // 2:
            raise NotResNetError(conv.node, "an odd kernel, half of it as padding", str(window))
        if not self._follows(conv.output, "batch_norm"):
            return Unit(conv, None, conv.output)
        norm = self._next(conv.output, "batch_norm")
        return Unit(conv, norm, norm.output)

    def _shrink(self, window: Window) -> None:
        """Follow the map's size through a window."""
        self._size = [
            None
            if side is None
            else (side + 2 * window.padding - window.kernel) // window.stride + 1
            for side in self._size
        ]


_WORDS = {
    "add": "an addition",
    "avg_pool": "an average",
    "batch_norm": "a batch norm",
    "conv": "a convolution",
    "flatten": "a flatten",
    "global_avg_pool": "an average over height and width",
    "linear": "a linear layer",
    "max_pool": "a maximum",
    "relu": "a ReLU",
    "softmax": "a softmax",
}

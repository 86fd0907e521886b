"""The windows of convolutions and pools in an ONNX graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .onnx_proto import Node
from .onnx_steps import MAX_SIZE, NotResNetError, Padding, Size, integer, integers

AUTOMATIC = ("SAME_UPPER", "SAME_LOWER")
"""Values of auto_pad with which a node pads as the size of its input demands."""


@dataclass(frozen=True)
class Window:
    """The window of a convolution or pool: square, but perhaps with uneven padding.

    Attributes:
        kernel: rows and columns.
        stride: from one window to the next.
        pads: rows above, columns to the left, rows below, columns to the right.
        dilation: from one element of the window to the next.
        ceil_mode: a last window may reach beyond the padding.
    """

    kernel: int
    stride: int
    pads: tuple[int, int, int, int]
    dilation: int
    ceil_mode: bool

    @property
    def even_padding(self) -> int | None:
        """The padding, if it is the same on all sides."""
        return self.pads[0] if len(set(self.pads)) == 1 else None

    def size_of(self, size: Size | None) -> Size | None:
        """Give height and width of the result; None if they are unknown or there is none."""
        if size is None:
            return None
        sides = []
        for axis in (0, 1):
            before, after = self.pads[axis], self.pads[axis + 2]
            room = size[axis] + before + after - self.dilation * (self.kernel - 1) - 1
            if room < 0:
                return None
            windows = (-(-room // self.stride) if self.ceil_mode else room // self.stride) + 1
            # The last window must begin inside the map or its padding before.
            if self.ceil_mode and (windows - 1) * self.stride >= size[axis] + before:
                windows -= 1
            sides.append(windows)
        return sides[0], sides[1]


def window(
    node: Node, pad: Padding | None, size: Size | None, shape: Sequence[int] | None = None
) -> Window:
    """Read the window of a convolution or pooling.

    Args:
        node: the operation.
        pad: the Pad node before it.
        size: height and width of its input, without `pad`; None if they are unknown.
        shape: height and width of a convolution's weight.

    Raises:
        NotResNetError: it is not square, or its padding cannot be known.
    """
    kernel = integers(node, "kernel_shape", list(shape or ()))
    strides = integers(node, "strides", [1, 1])
    dilations = integers(node, "dilations", [1, 1])
    pads = integers(node, "pads", [0, 0, 0, 0])
    if shape is not None and kernel != list(shape):
        raise NotResNetError(node, f"a kernel of {list(shape)}", str(kernel))
    if (len(kernel), len(strides), len(dilations), len(pads)) != (2, 2, 2, 4):
        raise NotResNetError(node, "a window of height and width")
    numbers = [*kernel, *strides, *dilations, *pads]
    if not all(0 <= number <= MAX_SIZE for number in numbers) or 0 in numbers[:6]:
        raise NotResNetError(node, "kernel, strides and pads of a sane size", str(numbers))
    if any(len(set(pair)) > 1 for pair in (kernel, strides, dilations)):
        raise NotResNetError(
            node,
            "the same kernel, stride and dilation in both directions",
            f"kernel {kernel}, strides {strides}, dilations {dilations}",
        )
    extent = dilations[0] * (kernel[0] - 1) + 1
    automatic = node.attributes.get("auto_pad", "NOTSET")
    if automatic in AUTOMATIC:
        whole = None if size is None else padded_size(size, pad)
        pads = _same(node, automatic, whole, extent, strides[0])
    elif automatic == "VALID":
        pads = [0, 0, 0, 0]
    elif automatic not in ("NOTSET", ""):
        raise NotResNetError(node, "padding in numbers", f"auto_pad {automatic}")
    if pad is not None:
        more = (*pad.before, *pad.after)
        pads = [own + extra for own, extra in zip(pads, more, strict=True)]
    top, left, bottom, right = pads
    ceil_mode = bool(integer(node, "ceil_mode", 0))
    dilation = dilations[0] if kernel[0] > 1 else 1
    return Window(kernel[0], strides[0], (top, left, bottom, right), dilation, ceil_mode)


def padded_size(size: Size, pad: Padding | None) -> Size:
    """Give the size of a map after the Pad node that follows it."""
    if pad is None:
        return size
    height, width = (sum(sides) for sides in zip(size, pad.before, pad.after, strict=True))
    return height, width


def _same(node: Node, automatic: str, size: Size | None, extent: int, stride: int) -> list[int]:
    """Give the pads that make the result as large as the input divided by the stride."""
    if extent == 1:
        return [0, 0, 0, 0]
    if stride == 1:
        totals = [extent - 1, extent - 1]
    elif size is None:
        raise NotResNetError(
            node,
            "padding in numbers, or a graph for images of one size",
            f"auto_pad {automatic} with stride {stride}, which pads as the image's size demands",
        )
    else:
        totals = [max(0, (-(-side // stride) - 1) * stride + extent - side) for side in size]
    smaller, larger = [total // 2 for total in totals], [-(-total // 2) for total in totals]
    return [*smaller, *larger] if automatic == "SAME_UPPER" else [*larger, *smaller]

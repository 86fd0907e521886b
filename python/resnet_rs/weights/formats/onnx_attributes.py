"""The attributes that a graph's nodes may have.

An attribute that nobody reads could change a node's result unnoticed. So each one is listed here:
either the reader of its operator takes it, or it has no effect on a forward pass.
"""

from __future__ import annotations

from .onnx_proto import Node
from .onnx_steps import NotResNetError

_WINDOW = frozenset({"auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "strides"})
_REDUCTION = frozenset({"axes", "keepdims", "noop_with_empty_axes"})

_READ: dict[str, frozenset[str]] = {
    "AveragePool": _WINDOW | {"count_include_pad"},
    "BatchNormalization": frozenset({"epsilon", "spatial", "training_mode"}),
    "Cast": frozenset({"to"}),
    "Concat": frozenset({"axis"}),
    "Conv": (_WINDOW - {"ceil_mode"}) | {"group"},
    "Flatten": frozenset({"axis"}),
    "Gemm": frozenset({"alpha", "beta", "transA", "transB"}),
    "LogSoftmax": frozenset({"axis"}),
    "MaxPool": _WINDOW,
    "Pad": frozenset({"mode", "pads", "value"}),
    "ReduceMax": _REDUCTION,
    "ReduceMean": _REDUCTION,
    "Slice": frozenset({"axes", "ends", "starts"}),
    "Softmax": frozenset({"axis"}),
    "Squeeze": frozenset({"axes"}),
    "Transpose": frozenset({"perm"}),
}
"""The attributes that the reader of an operator takes into account."""

_WITHOUT_EFFECT: dict[str, frozenset[str]] = {
    "BatchNormalization": frozenset({"momentum"}),  # of training
    "Cast": frozenset({"round_mode", "saturate"}),  # of floats of 8 bits
    "Dropout": frozenset({"ratio", "seed"}),  # of training
    "MaxPool": frozenset({"storage_order"}),  # of its second output
    "Reshape": frozenset({"allowzero"}),  # of tensors without elements
}


def check_attributes(node: Node) -> None:
    """Refuse a node with an attribute that its reader does not know.

    Raises:
        NotResNetError: naming the attribute.
    """
    read = _READ.get(node.operator, frozenset())
    for name, value in node.attributes.items():
        if name in read:
            if value is None:
                raise NotResNetError(node, f"a number, text or list of integers as {name}")
        elif name not in _WITHOUT_EFFECT.get(node.operator, ()):
            raise NotResNetError(node, f"no attribute {name}", repr(value)[:40])

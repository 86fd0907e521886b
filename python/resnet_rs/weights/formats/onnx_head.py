"""The nodes of an ONNX graph behind its last block: pooling, flattening and classes."""

from __future__ import annotations

from .onnx_affine import affine_of
from .onnx_proto import Array, Node
from .onnx_steps import NCHW, NHWC, ROWS, NotResNetError, Order, Step, integer
from .onnx_values import Value, Values, axes_of

_GLOBAL_POOLS = ("global_avg_pool", "global_max_pool")


def global_pool(values: Values, node: Node) -> None:
    """GlobalAveragePool, GlobalMaxPool, ReduceMean or ReduceMax."""
    value = values.value(node, node.inputs[0])
    order = value.order
    if node.operator.startswith("Reduce"):
        axes = values.numbers(node, 1, "axes") or []
        require_sides(node, axes, order)
        if integer(node, "keepdims", 1) == 0:
            order = ROWS
    elif order != NCHW:
        values.channels_first(node)
    kind = "global_max_pool" if "Max" in node.operator else "global_avg_pool"
    channels = values.channels[value.source]
    values.add_step(kind, node, [value.source], order=order, channels=channels, size=(1, 1))


def flatten(values: Values, node: Node) -> None:
    """Flatten, Reshape or Squeeze to one row for each image."""
    value = values.value(node, node.inputs[0])
    if node.operator == "Flatten" and integer(node, "axis", 1) not in (1, 1 - len(value.order)):
        raise NotResNetError(node, "one row for each image")
    if node.operator == "Reshape" and _reshape(values, node, value):
        return
    if node.operator == "Squeeze":
        sides = [index for index, axis in enumerate(value.order) if axis > 1]
        require_sides(node, values.numbers(node, 1, "axes", sides) or [], value.order)
    producer = values.producer(value.source)
    pooled = producer is not None and producer.kind in _GLOBAL_POOLS
    if value.order not in (NCHW, ROWS) and not pooled:
        raise NotResNetError(node, "features in the order C, H, W", "channels last")
    channels = values.channels[value.source]
    values.add_step("flatten", node, [value.source], order=ROWS, channels=channels)


def _reshape(values: Values, node: Node, value: Value) -> bool:
    """Check the shape of a Reshape; True if it only gives axes of one element other places."""
    shape = node.inputs[1] if len(node.inputs) > 1 else ""
    if values.constants.is_size(shape):
        return False
    target = values.numbers(node, 1, "") or []
    moved = _moved_axes(values, value, target)
    if moved is not None:
        values.rename(node, moved)
        return True
    batch = (values.input_shape or [None])[0]
    if len(target) != 2 or target[0] not in {-1, 0, 1, batch}:
        raise NotResNetError(node, "one row for each image", str(target))
    return False


def _moved_axes(values: Values, value: Value, target: list[int]) -> Order | None:
    """Give the axes after a Reshape to four dimensions that moves no number; else None."""
    if len(target) != 4:
        return None
    producer = values.producer(value.source)
    if producer is not None and producer.kind in _GLOBAL_POOLS:
        if target[2:] == [1, 1]:
            return NCHW
        return NHWC if target[1:3] == [1, 1] else None
    if values.channels[value.source] == 1:
        height, width = values.sizes[value.source] or (None, None)
        if target[1:] == [1, height, width]:
            return NCHW
        if target[1:] == [height, width, 1]:
            return NHWC
    return None


def linear(values: Values, node: Node) -> None:
    """Gemm or MatMul with constant weights."""
    gemm = node.operator == "Gemm"
    plain = integer(node, "transA", 0) == 0 and all(
        node.attributes.get(name, 1.0) == 1.0 for name in ("alpha", "beta")
    )
    if not plain:
        raise NotResNetError(node, "a plain product with the weights")
    value = values.value(node, node.inputs[0])
    if len(value.order) != 2:
        raise NotResNetError(node, "one row for each image", f"{len(value.order)} axes")
    weight = values.weight(node, 1, 2)
    bias = None
    if gemm and len(node.inputs) > 2 and node.inputs[2]:
        bias = values.weight(node, 2, 1)
    transposed = not (gemm and integer(node, "transB", 0) == 1)
    values.add_step(
        "linear",
        node,
        [value.source],
        order=ROWS,
        channels=weight.shape[1 if transposed else 0],
        constants=[weight, bias],
        transposed=transposed,
    )


def linear_bias(values: Values, node: Node, step: Step, constant: Array, *, first: bool) -> None:
    """An Add or Sub after a linear layer is its bias."""
    channels = values.channels[step.output]
    affine = affine_of(node, constant, ROWS, channels, constant_first=first)
    if step.constants[1] is not None or (affine.factor != 1).any():
        raise NotResNetError(node, "one bias after a linear layer")
    step.constants[1] = affine.summand
    values.extend_step(step, node, ROWS)


def require_sides(node: Node, axes: list[int], order: Order) -> None:
    """Check that a node's axes are height and width, and nothing else."""
    if sorted(axes_of(node, axes, order)) != [2, 3]:
        raise NotResNetError(node, "the axes of height and width", f"axes {axes}")

"""The constants of an ONNX graph, and the nodes that compute only with constants or sizes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .onnx_proto import INTEGERS, Graph, Node, Tensor
from .onnx_steps import Array, Constant, NotResNetError, integer, integers

MAX_FOLDED = 1 << 14
"""Numbers of a constant that is computed here: sizes, axes and biases of zeros are far below."""

MAX_FILLED = 1 << 22
"""Numbers of a constant that is one number everywhere; ResNet-152 has up to 2,359,296."""


class Constants:
    """The values that are known without an image.

    Args:
        graph: the graph; its initializers are the first constants.
    """

    def __init__(self, graph: Graph) -> None:
        self._known = {name: Constant(tensor) for name, tensor in graph.constants.items()}
        self._sizes: set[str] = set()
        # One buffer for all constants of the same number: they take no bytes in the file, and
        # should take few in memory.
        self._filled: dict[bytes, memoryview] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._known

    def get(self, name: str) -> Constant | None:
        """The constant of a name."""
        return self._known.get(name)

    def is_size(self, name: str) -> bool:
        """Report whether a value was computed from the sizes of others, which are unknown here."""
        return name in self._sizes

    def take(self, node: Node) -> bool:
        """Add a node's result if it depends only on constants or sizes.

        Returns:
            Whether it does; other nodes are ignored.

        Raises:
            WeightsError: it is computed wrongly.
        """
        result = node.outputs[0]
        if node.operator == "Constant":
            self._known[result] = Constant(_value(node))
        elif node.operator in _SAME and node.inputs and node.inputs[0] in self._known:
            self._known[result] = self._known[node.inputs[0]]
        elif node.operator == "Transpose" and node.inputs and node.inputs[0] in self._known:
            self._known[result] = _transposed(node, self._known[node.inputs[0]])
        elif node.operator == "ConstantOfShape" and node.inputs and self._all_known(node):
            self._known[result] = self._fill(node)
        elif node.inputs and node.operator in _FOLDED and self._all_known(node):
            self._known[result] = self._folded(node)
        elif node.operator == "Shape" or self._is_about_sizes(node):
            self._sizes.add(result)
        else:
            return False
        return True

    def _all_known(self, node: Node) -> bool:
        return all(name in self._known for name in node.inputs)

    def _is_about_sizes(self, node: Node) -> bool:
        return any(name in self._sizes for name in node.inputs) and all(
            name in self._sizes or name in self._known or not name for name in node.inputs
        )

    def _folded(self, node: Node) -> Constant:
        """Compute a small constant from others."""
        constants = [self._known[name] for name in node.inputs]
        if node.operator == "Shape":
            shape = constants[0].shape
            end = integer(node, "end", len(shape))
            sizes = shape[integer(node, "start", 0) : end]
            return Constant(_tensor(node, np.array(sizes, np.int64)))
        if sum(constant.tensor.count for constant in constants) > MAX_FOLDED:
            raise NotResNetError(node, "a computation with a few numbers")
        try:
            result = _FOLDED[node.operator](node, [_array(constant) for constant in constants])
        except (ValueError, IndexError, TypeError, OverflowError, RuntimeError) as error:
            raise NotResNetError(node, "a computation that is possible", str(error)) from None
        return Constant(_tensor(node, result))

    def _fill(self, node: Node) -> Constant:
        """A constant that is one number everywhere."""
        shape = tuple(self._known[node.inputs[0]].tensor.integers())
        value = node.attributes.get("value")
        tensor = Tensor(node.outputs[0], 1, shape, memoryview(b""))
        number = np.zeros(1) if not isinstance(value, Tensor) else _array(Constant(value))
        sane = len(shape) <= 8 and all(0 <= length <= MAX_FILLED for length in shape)
        if not sane or number.size != 1 or tensor.count > MAX_FILLED:
            raise NotResNetError(node, f"at most {MAX_FILLED} times one number", str(list(shape)))
        if number.dtype.kind == "i" and tensor.count <= MAX_FOLDED:
            return Constant(_tensor(node, np.full(shape, number)))
        key = number.astype(np.float32).tobytes()
        buffer = self._filled.get(key, memoryview(b""))
        if len(buffer) < 4 * tensor.count:
            # Twice as large each time, and few different ones, so that all of them stay small.
            count = 1 << (tensor.count - 1).bit_length()
            buffer = memoryview(np.full(count, number, np.float32).tobytes())
            self._filled[key] = buffer
            if sum(map(len, self._filled.values())) > 2 * 4 * MAX_FILLED:
                raise NotResNetError(node, "constants of a few numbers")
        return Constant(Tensor(node.outputs[0], 1, shape, buffer[: 4 * tensor.count]))


# The type of number makes no difference: weights become float32 in any case.
_SAME = ("Identity", "Cast", "CastLike")


def _value(node: Node) -> Tensor:
    """Give the value of a Constant node."""
    attributes = node.attributes
    if isinstance(attributes.get("value"), Tensor):
        tensor: Tensor = attributes["value"]
        return tensor
    for name, dtype in (("value_int", "<i8"), ("value_ints", "<i8"), ("value_float", "<f4")):
        if attributes.get(name) is not None:
            return _tensor(node, np.array(attributes[name], dtype))
    raise NotResNetError(node, "a tensor or a number")


def _tensor(node: Node, values: Array) -> Tensor:
    integers = values.dtype.kind == "i"
    data = values.astype("<i8" if integers else "<f4").tobytes()
    return Tensor(node.outputs[0], 7 if integers else 1, values.shape, memoryview(data))


def _array(constant: Constant) -> Array:
    """A small constant's numbers, integers or floats."""
    if constant.tensor.kind not in INTEGERS:
        return constant.array()
    numbers = np.array(constant.tensor.integers(), np.int64).reshape(constant.tensor.shape)
    return numbers if constant.order is None else numbers.transpose(constant.order)


def _transposed(node: Node, constant: Constant) -> Constant:
    rank = len(constant.shape)
    order = integers(node, "perm", list(range(rank))[::-1])
    if sorted(order) != list(range(rank)):
        raise NotResNetError(node, "an order of axes", str(order))
    inner = constant.order or tuple(range(rank))
    return Constant(constant.tensor, tuple(inner[axis] for axis in order))


# -- Operations that exporters leave in the graph if they fold nothing --------------------------


def _axes(node: Node, arrays: list[Array]) -> tuple[int, ...]:
    """Axes, an attribute in old versions and an input in new ones."""
    return (
        tuple(int(n) for n in arrays[1].ravel())
        if len(arrays) > 1
        else tuple(integers(node, "axes", []))
    )


def _concat(node: Node, arrays: list[Array]) -> Array:
    return np.concatenate(arrays, axis=integer(node, "axis", 0))


def _expand(node: Node, arrays: list[Array]) -> Array:
    shape = np.broadcast_shapes(arrays[0].shape, tuple(int(n) for n in arrays[1].ravel()))
    count = 1
    for length in shape:
        count *= length
    if count > MAX_FOLDED:
        raise ValueError(f"{count} numbers are too many")
    return np.broadcast_to(arrays[0], shape)


def _gather(node: Node, arrays: list[Array]) -> Array:
    return np.take(arrays[0], arrays[1].astype(np.int64), axis=integer(node, "axis", 0))


def _reshape(node: Node, arrays: list[Array]) -> Array:
    return arrays[0].reshape(tuple(int(n) for n in arrays[1].ravel()))


def _squeeze(node: Node, arrays: list[Array]) -> Array:
    return np.squeeze(arrays[0], _axes(node, arrays) or None)


def _unsqueeze(node: Node, arrays: list[Array]) -> Array:
    return np.expand_dims(arrays[0], _axes(node, arrays))


_FOLDED: dict[str, Callable[[Node, list[Array]], Array]] = {
    "Concat": _concat,
    "Expand": _expand,
    "Gather": _gather,
    "Reshape": _reshape,
    "Shape": _concat,  # needs the shape alone, and is done before the numbers are read
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
}

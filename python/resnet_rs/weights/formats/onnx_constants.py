"""The constants of an ONNX graph, and the nodes that compute only with constants or sizes."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from .onnx_proto import BFLOAT16, DTYPES, Array, Graph, Node
from .onnx_steps import NotResNetError, integer, integers, numbers_of
from .safetensors_file import widen_bfloat16

MAX_FOLDED = 1 << 14
"""Numbers of a constant that is computed here: sizes, axes and biases of zeros are far below."""

MAX_FILLED = 1 << 22
"""Numbers of a constant that is one number everywhere; ResNet-152 has up to 2,359,296."""


class Constants:
    """The values that are known without an image.

    Args:
        graph: the graph; its initializers are the first constants.
        shape_of: gives the dimensions of a value that is no constant, None for an unknown one.
    """

    def __init__(self, graph: Graph, shape_of: Callable[[str], list[int | None]]) -> None:
        self._known = dict(graph.constants)
        self._shape_of = shape_of
        self._sizes: dict[str, list[int | None]] = {}

    def get(self, name: str) -> Array | None:
        """The constant of a name."""
        return self._known.get(name)

    def is_size(self, name: str) -> bool:
        """Report whether a value was computed from the sizes of others, some of them unknown."""
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
            self._known[result] = _value(node)
        elif node.operator in _SAME and node.inputs and node.inputs[0] in self._known:
            self._known[result] = self._cast(node, self._known[node.inputs[0]])
        elif node.operator == "Transpose" and node.inputs and node.inputs[0] in self._known:
            self._known[result] = _transposed(node, self._known[node.inputs[0]])
        elif node.operator == "ConstantOfShape" and node.inputs and self._all_known(node):
            self._known[result] = self._fill(node)
        elif node.inputs and node.operator in _FOLDED and self._all_known(node):
            self._known[result] = self._folded(node)
        elif node.operator == "Shape" or self._is_about_sizes(node):
            self._add_sizes(node)
        else:
            return False
        return True

    def _all_known(self, node: Node) -> bool:
        return all(name in self._known for name in node.inputs)

    def _is_about_sizes(self, node: Node) -> bool:
        return any(name in self._sizes for name in node.inputs) and all(
            name in self._sizes or name in self._known or not name for name in node.inputs
        )

    def _add_sizes(self, node: Node) -> None:
        """Add the sizes of a value, some of them, or something computed from sizes."""
        (first, *others), result = node.inputs or [""], node.outputs[0]
        sizes: list[int | None] = []
        if node.operator == "Shape":
            sizes = self._shape_of(first)
            end = integer(node, "end", len(sizes))
            sizes = sizes[integer(node, "start", 0) : end]
        elif node.operator in ("Gather", "Slice") and self._sizes.get(first):
            # The places of the sizes that are taken, by the same operation on all places.
            places = np.arange(len(self._sizes[first]))
            taken = self._try(node, [places, *(self._known[name] for name in others)])
            sizes = [self._sizes[first][place] for place in taken.ravel()]
            if sizes and None not in sizes:
                self._known[result] = np.array(sizes, np.int64).reshape(taken.shape)
                return
        elif node.operator in ("Cast", "Identity"):
            sizes = self._sizes.get(first, [])
        self._sizes[result] = sizes

    def _cast(self, node: Node, constant: Array) -> Array:
        """Turn a few integers into floats or the reverse; other types make no difference here.

        Weights become float32 in any case.
        """
        dtype = DTYPES.get(integer(node, "to", 0))
        if node.operator == "CastLike" and len(node.inputs) > 1 and node.inputs[1] in self._known:
            dtype = self._known[node.inputs[1]].dtype
        if dtype is None or constant.size > MAX_FOLDED:
            return constant
        to_float = dtype.kind == "f" or dtype == BFLOAT16
        if to_float == is_float(constant):
            return constant
        numbers = as_floats(constant) if is_float(constant) else constant
        with np.errstate(all="ignore"):
            return numbers.astype(np.float32 if to_float else dtype)

    def _folded(self, node: Node) -> Array:
        """Compute a small constant from others."""
        constants = [self._known[name] for name in node.inputs]
        if node.operator == "Shape":
            shape = constants[0].shape
            end = integer(node, "end", len(shape))
            return np.array(shape[integer(node, "start", 0) : end], np.int64)
        return self._try(node, constants)

    def _try(self, node: Node, constants: list[Array]) -> Array:
        """Compute with a few numbers, which may turn out to be impossible."""
        if sum(constant.size for constant in constants) > MAX_FOLDED:
            raise NotResNetError(node, "a computation with a few numbers")
        try:
            with np.errstate(all="ignore"):  # the core refuses weights that are not finite
                return _FOLDED[node.operator](node, constants)
        except (ValueError, IndexError, TypeError, OverflowError, RuntimeError) as error:
            raise NotResNetError(node, "a computation that is possible", str(error)) from None

    def _fill(self, node: Node) -> Array:
        """Make a constant that is one number everywhere: a view of that number."""
        shape = numbers_of(node, self._known[node.inputs[0]])
        number = node.attributes.get("value")
        if not isinstance(number, np.ndarray):
            number = np.zeros(1, np.float32)
        sane = len(shape) <= 8 and all(0 <= length <= MAX_FILLED for length in shape)
        if not sane or number.size != 1 or math.prod(shape) > MAX_FILLED:
            raise NotResNetError(node, f"at most {MAX_FILLED} times one number", str(shape))
        return np.broadcast_to(number.reshape(()), shape)


_SAME = ("Identity", "Cast", "CastLike")


def is_float(constant: Array) -> bool:
    """Report whether a constant's numbers are floats, bfloat16 among them."""
    return constant.dtype.kind == "f" or constant.dtype == BFLOAT16


def as_floats(constant: Array) -> Array:
    """Give floats, C-contiguous, as float32 or as the float16 that they are: the same if possible.

    Numbers beyond float32's range become infinite, which the core refuses with the tensor's name.
    """
    if constant.dtype == BFLOAT16:
        stored = np.ascontiguousarray(constant).reshape(-1).view(np.uint8)
        return widen_bfloat16(stored).reshape(constant.shape)
    dtype = np.float16 if constant.dtype == np.float16 else np.float32
    with np.errstate(over="ignore", invalid="ignore"):
        # In a file beside the model the bytes may start anywhere.
        return np.require(constant, dtype, ["C", "A"])


def _value(node: Node) -> Array:
    """Give the value of a Constant node."""
    for name, dtype in (("value_int", "<i8"), ("value_ints", "<i8"), ("value_float", "<f4")):
        if node.attributes.get(name) is not None:
            return np.array(node.attributes[name], dtype)
    value = node.attributes.get("value")
    if not isinstance(value, np.ndarray):
        raise NotResNetError(node, "a tensor or a number")
    return value


def _transposed(node: Node, constant: Array) -> Array:
    order = integers(node, "perm", list(range(constant.ndim))[::-1])
    if sorted(order) != list(range(constant.ndim)):
        raise NotResNetError(node, "an order of axes", str(order))
    return constant.transpose(order)


# -- Operations that exporters leave in the graph if they fold nothing --------------------------


def _axes(node: Node, arrays: list[Array]) -> tuple[int, ...]:
    """Give axes, an attribute in old versions and an input in new ones."""
    return tuple(numbers_of(node, arrays[1]) if len(arrays) > 1 else integers(node, "axes", []))


def _concat(node: Node, arrays: list[Array]) -> Array:
    return np.concatenate(arrays, axis=integer(node, "axis", 0))


def _expand(node: Node, arrays: list[Array]) -> Array:
    shape = np.broadcast_shapes(arrays[0].shape, tuple(numbers_of(node, arrays[1])))
    if math.prod(shape) > MAX_FOLDED:
        raise ValueError(f"{math.prod(shape)} numbers are too many")
    return np.broadcast_to(arrays[0], shape)


def _gather(node: Node, arrays: list[Array]) -> Array:
    if arrays[0].size * arrays[1].size > MAX_FOLDED:
        raise ValueError(f"{arrays[1].size} places of {arrays[0].size} numbers are too many")
    return np.take(arrays[0], arrays[1].astype(np.int64), axis=integer(node, "axis", 0))


def _reshape(node: Node, arrays: list[Array]) -> Array:
    shape = numbers_of(node, arrays[1])
    if not integer(node, "allowzero", 0):
        shape = [length or arrays[0].shape[axis] for axis, length in enumerate(shape)]
    return arrays[0].reshape(tuple(shape))


def _slice(node: Node, arrays: list[Array]) -> Array:
    starts, ends, axes, steps = (
        numbers_of(node, arrays[index]) if index < len(arrays) else integers(node, name, default)
        for index, name, default in (
            (1, "starts", []),
            (2, "ends", []),
            (3, "axes", list(range(arrays[0].ndim))),
            (4, "steps", [1] * arrays[0].ndim),
        )
    )
    places = [slice(None)] * arrays[0].ndim
    # NumPy's ends beyond the first and last element mean the same as ONNX's.
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=False):
        places[axis] = slice(start, end, step)
    return arrays[0][tuple(places)]


def _arithmetic(compute: Callable[..., Array]) -> Callable[[Node, list[Array]], Array]:
    """Make a function that computes with numbers, whose result is as small as its operands."""

    def apply(node: Node, arrays: list[Array]) -> Array:
        shape = np.broadcast_shapes(*(array.shape for array in arrays))
        if math.prod(shape) > MAX_FOLDED:
            raise ValueError(f"{math.prod(shape)} numbers are too many")
        return compute(*(as_floats(array) if is_float(array) else array for array in arrays))

    return apply


def _divide(numerator: Array, denominator: Array) -> Array:
    if is_float(numerator) or is_float(denominator):
        return numerator / denominator
    # ONNX rounds integers towards zero, NumPy down.
    inexact = (numerator % denominator != 0) & ((numerator < 0) != (denominator < 0))
    quotient: Array = numerator // denominator + inexact
    return quotient


def _squeeze(node: Node, arrays: list[Array]) -> Array:
    return np.squeeze(arrays[0], _axes(node, arrays) or None)


def _unsqueeze(node: Node, arrays: list[Array]) -> Array:
    return np.expand_dims(arrays[0], _axes(node, arrays))


_FOLDED: dict[str, Callable[[Node, list[Array]], Array]] = {
    "Add": _arithmetic(np.add),
    "Concat": _concat,
    "Div": _arithmetic(_divide),
    "Expand": _expand,
    "Gather": _gather,
    "Mul": _arithmetic(np.multiply),
    "Neg": _arithmetic(np.negative),
    "Reciprocal": _arithmetic(np.reciprocal),
    "Reshape": _reshape,
    "Shape": _concat,  # needs the shape alone, and is done before the numbers are read
    "Slice": _slice,
    "Sqrt": _arithmetic(np.sqrt),
    "Squeeze": _squeeze,
    "Sub": _arithmetic(np.subtract),
    "Unsqueeze": _unsqueeze,
}

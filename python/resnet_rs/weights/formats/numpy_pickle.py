"""NumPy arrays inside a pickle: the calls that rebuild them, and tensors of their numbers.

`detectron2`'s own files and dicts of `state_dict()` with `.numpy()` hold such arrays. An array is
pickled as a call without numbers, then a state with its shape, dtype and numbers; since protocol 5
as one call. Python 3 writes the numbers as bytes, by protocol 2 as a text with a character for each
byte, and Python 2 wrote them as its strings, which are bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .pickle_machine import Call, Inert
from .pickle_stream import LongValue
from .torch_tensor import MOST_DIMENSIONS, Content, InlineStorage, TensorRef

KINDS = {
    "f4": "Float",
    "f2": "Half",
    "f8": "Double",
    "i8": "Long",
    "i4": "Int",
    "i2": "Short",
    "i1": "Char",
    "u1": "Byte",
    "b1": "Bool",
}
"""The kind of storage for each of NumPy's types that is read."""


class PickledDtype(Inert):
    """A `numpy.dtype`: its code, and its state with the byte order."""

    __slots__ = ("code",)

    def __init__(self, code: str) -> None:
        super().__init__("numpy.dtype")
        self.code = code

    @property
    def little_endian(self) -> bool:
        """The byte order; types of one byte have none, and the pickle says so."""
        return not (isinstance(self.state, tuple) and len(self.state) > 1 and self.state[1] == ">")


class PickledArray(Inert):
    """A `numpy.ndarray`, whose state is `(version, shape, dtype, is_fortran, numbers)`."""

    __slots__ = ()

    def __init__(self, *state: Any) -> None:
        super().__init__("numpy.ndarray")
        self.state = state or None

    def tensor(self) -> TensorRef | None:
        """The array as a tensor; None if its elements are no numbers that are read."""
        match self.state:
            case (_, (tuple() | list()) as shape, PickledDtype() as dtype, is_fortran, content):
                kind = KINDS.get(dtype.code)
                sizes = tuple(shape)
                if (
                    kind is None
                    or not isinstance(content, Content)
                    or len(sizes) > MOST_DIMENSIONS
                    or not all(type(n) is int and n >= 0 for n in sizes)
                ):
                    return None
                storage = InlineStorage(
                    "", kind, math.prod(sizes), content=content, little_endian=dtype.little_endian
                )
                return TensorRef(storage, 0, sizes, _strides(sizes, bool(is_fortran)))
        return None


def _strides(shape: tuple[int, ...], is_fortran: bool) -> tuple[int, ...]:
    """The steps in a run of numbers, whose last axis changes fastest, or whose first does."""
    strides = []
    step = 1
    for size in shape if is_fortran else reversed(shape):
        strides.append(step)
        step *= size
    return tuple(strides if is_fortran else reversed(strides))


def _reconstruct(arguments: Sequence[Any]) -> Any:
    """`_reconstruct(ndarray, (0,), b"b")`: an array whose state comes later."""
    return PickledArray()


def _from_buffer(arguments: Sequence[Any]) -> Any:
    """`_frombuffer(numbers, dtype, shape, order)`, and an order of axes in newer versions."""
    match arguments:
        case (content, PickledDtype() as dtype, shape, str(order)):
            return PickledArray(1, shape, dtype, order == "F", content)
        case (content, PickledDtype() as dtype, shape, str(order), None):
            return PickledArray(1, shape, dtype, order == "F", content)
    return PickledArray()


def _scalar(arguments: Sequence[Any]) -> Any:
    """`scalar(dtype, numbers)`: a number with a dtype, such as `num_batches_tracked`."""
    match arguments:
        case (PickledDtype() as dtype, content):
            return PickledArray(1, (), dtype, False, content)
    return PickledArray()


def _dtype(arguments: Sequence[Any]) -> Any:
    """`dtype("f4", False, True)`."""
    code = arguments[0] if arguments else ""
    return PickledDtype(code if isinstance(code, str) else "")


def _encode(arguments: Sequence[Any]) -> Any:
    """`_codecs.encode(text, "latin1")`: bytes, of which nothing is made until they are needed."""
    match arguments:
        case ((str() | LongValue()) as text, "latin1" | "latin-1"):
            return text
    return Inert("_codecs.encode")


def _no_bytes(arguments: Sequence[Any]) -> Any:
    """`bytes()`: protocols below 3 write no bytes at all as a call."""
    return Inert("builtins.bytes") if arguments else b""


NUMPY_CALLS: dict[tuple[str, str], Call] = {
    ("numpy", "dtype"): _dtype,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _no_bytes,
    ("builtins", "bytes"): _no_bytes,
    **{
        (f"numpy.{core}.multiarray", name): call
        for core in ("core", "_core")
        for name, call in (("_reconstruct", _reconstruct), ("scalar", _scalar))
    },
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
}
"""The calls that rebuild arrays, for a `PickleMachine`. NumPy 2 renamed `numpy.core`."""

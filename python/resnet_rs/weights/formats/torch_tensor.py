"""Tensors of a torch file: references to their numbers, and NumPy arrays of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..._core import WeightsError
from .pickle_machine import Global
from .pickle_stream import LongValue
from .torch_budget import Budget

ITEM_BYTES = {
    "Float": 4,
    "Half": 2,
    "BFloat16": 2,
    "Double": 8,
    "Long": 8,
    "Int": 4,
    "Short": 2,
    "Char": 1,
    "Byte": 1,
    "Bool": 1,
    "Untyped": 1,
    "QInt8": 1,
    "QUInt8": 1,
    "QInt32": 4,
    "ComplexFloat": 8,
    "ComplexDouble": 16,
}
"""The kinds of storage, as `torch.FloatStorage` and its like call them."""

INTEGERS = frozenset(("Long", "Int", "Short", "Char", "Byte", "Bool"))
FLOATS = {"Float": "f4", "Half": "f2", "BFloat16": "u2", "Double": "f8"}
"""NumPy's type for each kind of float; it has none for bfloat16."""

STORAGE_MODULES = frozenset(("torch", "torch.storage", "torch.cuda"))
MOST_DIMENSIONS = 32


@dataclass(frozen=True, slots=True)
class StorageRef:
    """A flat run of numbers outside the pickle.

    Attributes:
        key: the storage's name in the file.
        kind: a key of `ITEM_BYTES`.
        size: numbers in the storage, as the pickle says.
        view_offset: the first number of a storage that is a view of another.
    """

    key: str
    kind: str
    size: int
    view_offset: int = 0


Content = str | bytes | bytearray | LongValue


@dataclass(frozen=True, slots=True)
class InlineStorage(StorageRef):
    """Numbers inside the pickle.

    Attributes:
        content: the bytes, or a text with a character for each.
        little_endian: their byte order.
    """

    content: Content = b""
    little_endian: bool = True

    def numbers(self, budget: Budget) -> memoryview:
        """The bytes, as many as the kind and size ask for.

        Raises:
            WeightsError: there are more or fewer.
        """
        size = self.size * ITEM_BYTES[self.kind]
        content = self.content
        try:
            if isinstance(content, LongValue):
                given = content.latin1(size, budget)
            elif isinstance(content, str):
                budget.spend(len(content))
                given = memoryview(content.encode("latin-1"))
            else:
                given = memoryview(content)
        except ValueError as error:
            raise WeightsError(f"a damaged array: {error}") from None
        if len(given) != size:
            raise WeightsError(f"a damaged array: expected {size} bytes, got {len(given)}")
        return given


@dataclass(frozen=True, slots=True)
class TensorRef:
    """A tensor: a strided view of a storage. Nothing of it is checked against the storage yet.

    Attributes:
        storage: the storage of the numbers.
        offset: the first number, counted from the storage's start.
        shape: the sizes.
        strides: the steps, counted in numbers.
        dtype: a dtype beside the storage's kind, as torch calls it; empty for the usual ones.
        negated: the numbers are stored with the opposite sign, as those of a lazy negation are.
    """

    storage: StorageRef
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str = ""
    negated: bool = False

    @property
    def is_integer(self) -> bool:
        """True for a tensor of integers, such as `num_batches_tracked`."""
        return not self.dtype and self.storage.kind in INTEGERS

    @property
    def count(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)


class Storages(Protocol):
    """The storages of a file, in either format."""

    little_endian: bool

    def content(self, storage: StorageRef) -> memoryview:
        """The bytes of a storage, exactly as many as its kind and size ask for.

        Raises:
            WeightsError: there is no such storage, or it has another size.
        """
        ...

    def drop(self, storage: StorageRef) -> None:
        """Forget the bytes of a storage that is not asked for again."""
        ...


def storage_ref(identity: Any) -> StorageRef | Global:
    """Interpret a persistent id of `torch.save`.

    Raises:
        WeightsError: it is not such an id.
    """
    match identity:
        case ("module", Global() as name, *_):
            # A whole pickled model: the class, beside its source code.
            return name
        case ("storage", Global() as kind, str(key), _, int(size)):
            return StorageRef(key, _kind(kind), size)
        case ("storage", Global() as kind, str(key), _, int(size), None):
            return StorageRef(key, _kind(kind), size)
        case ("storage", Global() as kind, str(key), _, int(size), (_, int(offset), int(_))):
            return StorageRef(key, _kind(kind), size, view_offset=offset)
    raise WeightsError("a reference to something outside that is no storage")


def _kind(name: Global) -> str:
    kind = name.name.removesuffix("Storage")
    if name.module not in STORAGE_MODULES or kind not in ITEM_BYTES:
        raise WeightsError(f"{name.module}.{name.name} is no kind of storage")
    return kind


def rebuild_tensor(arguments: Sequence[Any]) -> TensorRef:
    """`torch._utils._rebuild_tensor_v2(storage, offset, size, stride, ...)`, and its first version.

    Raises:
        WeightsError: the arguments do not fit.
    """
    match arguments:
        case (StorageRef() as storage, int(offset), (tuple() | list()) as shape, strides, *_):
            if (
                isinstance(strides, (tuple, list))
                and len(shape) == len(strides) <= MOST_DIMENSIONS
                and all(type(n) is int for n in (*shape, *strides))
            ):
                offset += storage.view_offset
                negated = _is_negated(arguments[6:])
                return TensorRef(storage, offset, tuple(shape), tuple(strides), negated=negated)
    raise WeightsError("a tensor without a storage, offset, shape and strides")


def rebuild_tensor_of_dtype(arguments: Sequence[Any]) -> TensorRef:
    """`torch._utils._rebuild_tensor_v3(storage, ..., dtype)`: dtypes without storages of their own.

    Raises:
        WeightsError: the arguments do not fit.
    """
    tensor = rebuild_tensor(arguments)
    dtype = arguments[6] if len(arguments) > 6 else None
    if not isinstance(dtype, Global):
        raise WeightsError("a tensor without a dtype")
    return replace(tensor, dtype=dtype.name)


def _is_negated(further: Sequence[Any]) -> bool:
    """Find the sign in the arguments after a tensor's hooks, whose last is a dict of metadata.

    torch negates and conjugates lazily, by a bit beside the numbers. Complex numbers are refused
    by their kind, so the conjugate's bit is not looked at.
    """
    return any(isinstance(metadata, dict) and bool(metadata.get("neg")) for metadata in further)


def first_argument(arguments: Sequence[Any]) -> Any:
    """`torch._utils._rebuild_parameter(data, ...)`: the parameter's tensor.

    Raises:
        WeightsError: there is no argument.
    """
    if not arguments:
        raise WeightsError("a parameter without a tensor")
    return arguments[0]


class ArrayMaker:
    """Makes arrays of tensors, checking that each lies inside its storage.

    Args:
        storages: the file's storages.
        budget: the budget of memory for copies.
    """

    def __init__(self, storages: Storages, budget: Budget) -> None:
        self._storages = storages
        self._budget = budget

    def arrays(self, tensors: Mapping[str, TensorRef]) -> dict[str, NDArray[Any]]:
        """Make the array of every tensor; a storage's bytes are dropped after the last of its own.

        Raises:
            WeightsError: as `array` raises it, with the tensor's name.
        """
        uses = Counter(tensor.storage.key for tensor in tensors.values())
        arrays = {}
        for name, tensor in tensors.items():
            arrays[name] = self.array(name[:80], tensor)
            uses[tensor.storage.key] -= 1
            if not uses[tensor.storage.key] and not isinstance(tensor.storage, InlineStorage):
                self._storages.drop(tensor.storage)
        return arrays

    def array(self, name: str, tensor: TensorRef) -> NDArray[Any]:
        """The numbers of a float tensor, C-contiguous, float16 or float32.

        float32 and float16 that lie in order are views of their storage and read-only;
        bfloat16 and float64 become float32.

        Raises:
            WeightsError: the tensor reaches outside its storage, or is of another dtype.
        """
        kind = tensor.storage.kind
        if tensor.dtype or kind not in FLOATS:
            raise WeightsError(
                f"{name}: expected float32, float16, bfloat16 or float64, "
                f"got {tensor.dtype or kind}: convert the state dict with .float() before saving"
            )
        _check_inside(name, tensor)
        if not tensor.count:
            return _empty(name, tensor.shape)
        item_bytes = ITEM_BYTES[kind]
        content, little_endian = self._content(name, tensor.storage)
        order = "<" if little_endian else ">"
        numbers = np.frombuffer(
            content, np.dtype(order + FLOATS[kind]), offset=tensor.offset * item_bytes
        )
        view = np.lib.stride_tricks.as_strided(
            numbers,
            tensor.shape,
            [stride * item_bytes if n > 1 else 0 for n, stride in _axes(tensor)],
            writeable=False,
        )
        plain = self._plain(view, kind)
        if tensor.negated:
            if not plain.flags.writeable:
                self._budget.spend(plain.nbytes)
                plain = plain.copy()
            np.negative(plain, out=plain)
        return plain

    def _content(self, name: str, storage: StorageRef) -> tuple[memoryview, bool]:
        """The bytes of a storage, and whether they are little-endian."""
        if isinstance(storage, InlineStorage):
            try:
                return storage.numbers(self._budget), storage.little_endian
            except WeightsError as error:
                raise WeightsError(f"{name}: {error}") from None
        return self._storages.content(storage), self._storages.little_endian

    def _plain(self, view: NDArray[Any], kind: str) -> NDArray[Any]:
        """Give native float16 or float32 in C order, copied only if necessary."""
        native = view.dtype.newbyteorder("=")
        if kind in ("Float", "Half"):
            if view.dtype == native and view.flags.c_contiguous and view.flags.aligned:
                return view
            self._budget.spend(view.size * view.itemsize)
            return np.array(view, native, order="C")
        self._budget.spend(view.size * 4)
        if kind == "BFloat16":
            # The upper half of a float32.
            bits = view.astype(np.uint32, order="C")
            bits <<= 16
            return bits.view(np.float32)
        with np.errstate(all="ignore"):
            # A number beyond float32 becomes infinite, which the network refuses by name.
            return view.astype(np.float32, order="C")


def _check_inside(name: str, tensor: TensorRef) -> None:
    """Check that every number lies in the storage; Python's integers cannot overflow."""
    shape, strides, first = tensor.shape, tensor.strides, tensor.offset
    if min((*shape, *strides, first, tensor.storage.size), default=0) < 0:
        raise WeightsError(f"{name}: a negative size, stride or offset")
    if tensor.count:
        last = first + sum((n - 1) * stride for n, stride in _axes(tensor))
        if last >= tensor.storage.size:
            raise WeightsError(
                f"{name}: reaches number {last} of a storage of {tensor.storage.size}"
            )


def _empty(name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    try:
        return np.empty(shape, np.float32)
    except (ValueError, OverflowError):
        raise WeightsError(f"{name}: no numbers, and sizes that no array has") from None


def _axes(tensor: TensorRef) -> list[tuple[int, int]]:
    return list(zip(tensor.shape, tensor.strides, strict=True))

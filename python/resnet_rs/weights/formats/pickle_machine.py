"""Runs pickles without `pickle`: builds plain values, and never calls a function of the file's.

A pickle is a program: it may name any function of any module and have it called. This machine
knows the opcodes but not the modules. A name becomes a `Global`, which is two strings. A call
becomes what the caller's table makes of it, or an `Inert` stand-in. So a training checkpoint loads
with the optimizer's state and its script's arguments as stand-ins, and a hostile file can run
nothing.

`pickle.Unpickler` with an allow-list in `find_class` stops calls, but it does not bound memory or
time. A pickle of 9 bytes that puts a value into memo slot 2**28 makes it allocate 4 GiB, and one
of 85 bytes with a nested tuple as a dict's key keeps it hashing for hours. No method of the class
can refuse these, so the opcodes are run here.
"""

from __future__ import annotations

import pickletools
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..._core import WeightsError
from .input_file import Source
from .pickle_stream import PickleStream
from .torch_budget import Budget

OPERATION_BYTES = 160
"""Memory that each opcode is charged for; none takes more by itself."""
LARGEST_INT_KEY = 1 << 31


class Global:
    """The name of a class or function, which is never looked up."""

    __slots__ = ("module", "name")

    def __init__(self, module: str, name: str) -> None:
        self.module = module
        self.name = name

    @property
    def path(self) -> tuple[str, str]:
        """Module and name, as tables of calls are keyed."""
        return self.module, self.name


class Inert:
    """A stand-in for an object of a class that is not on the list.

    Attributes:
        name: of the class or function, with its module; empty if the pickle does not name it.
        state: the value that the object's attributes would have been set from.
        items: the items that would have been set on it as on a dict.
    """

    __slots__ = ("items", "name", "state")

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.state: Any = None
        self.items: dict[str | int, Any] = {}


Call = Callable[[Sequence[Any]], Any]


def ordered_dict(arguments: Sequence[Any]) -> dict[str | int, Any]:
    """`collections.OrderedDict` as it is pickled: empty, and filled by opcodes afterwards."""
    if arguments and len(arguments[0]):
        # Copying what memory holds once, as often as a file says, would have no bound.
        raise WeightsError("an OrderedDict with its items as an argument, which no version writes")
    return {}


SAFE_CALLS: Mapping[tuple[str, str], Call] = {("collections", "OrderedDict"): ordered_dict}


class PickleMachine:
    """Runs one pickle after the other out of one buffer.

    Dicts keep the items whose key is a string or a small integer: a state dict has no others, and
    hashing nested keys of a hostile file could take forever. Sets become lists for the same reason.

    Args:
        calls: functions for calls, by the pickle's module and name; in addition to
            `SAFE_CALLS`. They receive the arguments, and must check them.
        persistent: a function for references to values outside the pickle.
        budget: the budget of memory for values.
    """

    def __init__(
        self,
        calls: Mapping[tuple[str, str], Call],
        persistent: Callable[[Any], Any],
        budget: Budget,
    ) -> None:
        self._calls = {**SAFE_CALLS, **calls}
        self._persistent = persistent
        self._budget = budget
        self._memo: dict[int, Any] = {}
        self._stack: list[Any] = []
        self._outer: list[list[Any]] = []

    def run(self, data: Source, begin: int, end: int) -> tuple[Any, int]:
        """Run the pickle that starts at `begin`.

        Args:
            data: the file, or what was unpacked of it. Nothing outside `begin` to `end` is read.
            begin: the pickle's first byte.
            end: the place by which it must have stopped.

        Returns:
            The value: None, bool, int, float, str, bytes, `LongValue`, list, tuple, dict, `Global`,
            `Inert`, or a result of the calls; and the place after the pickle.

        Raises:
            WeightsError: it is not a pickle, or damaged, or exceeds the budget.
        """
        self._memo, self._stack, self._outer = {}, [], []
        stream = PickleStream(data, begin, end)
        place = begin
        try:
            self._take_long_values(stream)
            for opcode, argument, position in pickletools.genops(stream):  # type: ignore[arg-type]
                place = begin if position is None else position
                self._budget.spend(OPERATION_BYTES + sys.getsizeof(argument))
                if opcode.name == "STOP":
                    return self._stack.pop(), stream.tell()
                OPERATIONS[opcode.name](self, argument)
                self._take_long_values(stream)
        except WeightsError as error:
            raise WeightsError(f"{error} (pickle, byte {place})") from None
        except (LookupError, TypeError, ValueError, OverflowError, Warning) as error:
            # Too short a stack, an opcode on a value that it does not fit, or pickletools' own;
            # it warns of escapes in the strings of protocol 0 where warnings are errors.
            raise WeightsError(f"a damaged pickle at byte {place}: {_short(error)}") from None
        raise WeightsError(f"a pickle without an end, from byte {begin}")

    def _take_long_values(self, stream: PickleStream) -> None:
        """Push the long values that come next, without a copy of any."""
        while (value := stream.long_value()) is not None:
            self._budget.spend(OPERATION_BYTES)
            self._stack.append(value)

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _mark(self, _: Any) -> None:
        self._outer.append(self._stack)
        self._stack = []

    def _to_mark(self) -> list[Any]:
        """Take everything above the last mark, and the mark."""
        values, self._stack = self._stack, self._outer.pop()
        return values

    def _drop_to_mark(self, _: Any) -> None:
        self._to_mark()

    def _pop(self, _: Any) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._to_mark()

    def _tuple(self, count: int) -> None:
        if len(self._stack) < count:
            raise IndexError("the stack is too short for a tuple")
        self._stack[-count:] = [tuple(self._stack[-count:])]

    def _dict(self, _: Any) -> None:
        items = self._to_mark()
        self._stack.append({})
        self._set_items(items)

    def _extend(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, list):
            target.extend(values)
        elif not isinstance(target, Inert):
            raise TypeError(f"a {type(target).__name__} takes no elements")

    def _set_item(self, _: Any) -> None:
        value = self._stack.pop()
        key = self._stack.pop()
        self._set_items([key, value])

    def _set_items(self, items: list[Any]) -> None:
        target = self._stack[-1]
        target = target.items if isinstance(target, Inert) else target
        if not isinstance(target, dict):
            raise TypeError(f"a {type(target).__name__} takes no items")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if isinstance(key, str) or (isinstance(key, int) and abs(key) < LARGEST_INT_KEY):
                target[key] = value

    def _put(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    def _get(self, index: int) -> None:
        self._stack.append(self._memo[index])

    def _stack_global(self, _: Any) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if not (isinstance(name, str) and isinstance(module, str)):
            raise TypeError("a global's module and name must be strings")
        self._stack.append(Global(module, name))

    def _reduce(self, _: Any) -> None:
        arguments = self._stack.pop()
        self._stack.append(self._call(self._stack.pop(), arguments))

    def _new_with_keywords(self, _: Any) -> None:
        self._stack.pop()
        self._reduce(None)

    def _obj(self, _: Any) -> None:
        target, *arguments = self._to_mark()
        self._stack.append(self._call(target, arguments))

    def _call(self, target: Any, arguments: Any) -> Any:
        """Give the result of a call, or a stand-in for it; the named function is not called."""
        if not isinstance(target, Global):
            return Inert()
        call = self._calls.get(target.path)
        if call is None:
            return Inert(f"{target.module}.{target.name}")
        if not isinstance(arguments, (tuple, list)):
            raise TypeError(f"{target.name} needs a tuple of arguments")
        return call(arguments)

    def _build(self, _: Any) -> None:
        state = self._stack.pop()
        target = self._stack[-1]
        if isinstance(target, Inert):
            target.state = state


Operation = Callable[[PickleMachine, Any], None]

_LITERALS = (
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING "
    "UNICODE BINUNICODE BINUNICODE8 SHORT_BINUNICODE BINBYTES BINBYTES8 SHORT_BINBYTES BYTEARRAY8"
)

OPERATIONS: Mapping[str, Operation] = {
    **dict.fromkeys(_LITERALS.split(), PickleMachine._push),
    **dict.fromkeys(("PROTO", "FRAME"), lambda m, _: None),
    "NONE": lambda m, _: m._push(None),
    "NEWTRUE": lambda m, _: m._push(True),
    "NEWFALSE": lambda m, _: m._push(False),
    "EMPTY_TUPLE": lambda m, _: m._push(()),
    "EMPTY_LIST": lambda m, _: m._push([]),
    "EMPTY_SET": lambda m, _: m._push([]),
    "EMPTY_DICT": lambda m, _: m._push({}),
    "MARK": PickleMachine._mark,
    "POP": PickleMachine._pop,
    "POP_MARK": PickleMachine._drop_to_mark,
    "DUP": lambda m, _: m._push(m._stack[-1]),
    "TUPLE": lambda m, _: m._push(tuple(m._to_mark())),
    "TUPLE1": lambda m, _: m._tuple(1),
    "TUPLE2": lambda m, _: m._tuple(2),
    "TUPLE3": lambda m, _: m._tuple(3),
    "LIST": lambda m, _: m._push(m._to_mark()),
    "FROZENSET": lambda m, _: m._push(m._to_mark()),
    "DICT": PickleMachine._dict,
    "APPEND": lambda m, _: m._extend([m._stack.pop()]),
    "APPENDS": lambda m, _: m._extend(m._to_mark()),
    "ADDITEMS": lambda m, _: m._extend(m._to_mark()),
    "SETITEM": PickleMachine._set_item,
    "SETITEMS": lambda m, _: m._set_items(m._to_mark()),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), PickleMachine._put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), PickleMachine._get),
    "MEMOIZE": lambda m, _: m._put(len(m._memo)),
    "GLOBAL": lambda m, path: m._push(_global(path)),
    "STACK_GLOBAL": PickleMachine._stack_global,
    **dict.fromkeys(("EXT1", "EXT2", "EXT4"), lambda m, _: m._push(Inert())),
    **dict.fromkeys(("REDUCE", "NEWOBJ"), PickleMachine._reduce),
    "NEWOBJ_EX": PickleMachine._new_with_keywords,
    "OBJ": PickleMachine._obj,
    "INST": lambda m, path: m._push(m._call(_global(path), m._to_mark())),
    "BUILD": PickleMachine._build,
    "PERSID": lambda m, identity: m._push(m._persistent(identity)),
    "BINPERSID": lambda m, _: m._push(m._persistent(m._stack.pop())),
}
"""The action of each opcode, by its name in pickletools; out-of-band buffers are missing."""


def _global(path: str) -> Global:
    """A global from the two lines that pickletools joins by a space."""
    module, _, name = path.partition(" ")
    return Global(module, name)


def _short(error: Exception) -> str:
    """An exception's first words: messages of pickletools may quote what the file holds."""
    return f"{error}"[:100] or type(error).__name__

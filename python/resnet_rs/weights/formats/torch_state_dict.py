"""Finds the state dict in a saved object: under a key, or inside a whole model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..._core import WeightsError
from ..remarks import Note
from .favourites import favourite, keys_to_pass
from .files import listed
from .numpy_pickle import PickledArray
from .pickle_machine import Inert
from .torch_budget import Budget
from .torch_modules import Module, flattened, is_module
from .torch_tensor import TensorRef

Items = dict[str | int, Any]
Find = Callable[[Any], TensorRef | None]

WRAPPERS = (
    "model",
    "state_dict",
    "model_state_dict",
    "model_state",
    "net",
    "network",
    "module",
    "weights",
    "params",
    "model_ema",
    "state_dict_ema",
    "model_ema_state_dict",
    "ema",
    "student",
    "teacher",
)
"""Keys under which training scripts keep a state dict, in order of preference."""

_REBUILT = "torch._utils._rebuild_"
"""Functions that make tensors; those of plain numbers are no stand-ins, and those of others are."""

DEEPEST_WRAPPER = 4
MOST_PARTS = 100_000


def find_state_dict(
    content: Any, key: str | None, budget: Budget
) -> tuple[dict[str, TensorRef], dict[str, Module], list[str]]:
    """Find the tensors of one network.

    Args:
        content: the value of the file's pickle.
        key: the key of the state dict, nested keys joined by `/`; by default the usual keys are
            searched.
        budget: the budget of memory for a flattened model.

    Returns:
        The tensors under the names that they have in the file; the modules of a whole model,
        else none; and remarks on what was unwrapped and left out.

    Raises:
        WeightsError: there is no such key, or no state dict.
    """
    remarks: list[str] = []
    modules: dict[str, Module] = {}
    start = content if key is None else _follow(content, key)
    node = _unwrap(start, key or "", remarks, _torch_tensor)
    if not _holds(node, _torch_tensor):
        # A training script may keep arrays beside its state dict, so tensors of torch come first.
        remarks.clear()
        node = _unwrap(start, key or "", remarks, _any_tensor)
    if is_module(node):
        remarks.append(
            Note(f"took the parameters and buffers of a whole saved model ({node.name[:80]})")
        )
        items, modules = flattened(node, budget)
    else:
        items = _items(node) or {}
    tensors = {}
    for name, value in items.items():
        tensor = _any_tensor(value)
        if isinstance(name, str) and tensor is not None:
            tensors[name] = tensor
    others = [name for name in items if name not in tensors]
    _refuse_unreadable({name: items[name] for name in others})
    if not tensors:
        found = f"other things: {listed(others)}" if others else _kind(node)
        raise WeightsError(
            f"expected a dict of tensors, itself or under one of {list(WRAPPERS)}, got {found}"
        )
    if others:
        remarks.append(Note(f"left out what is no tensor: {listed(others)}"))
    return tensors, modules, remarks


def _refuse_unreadable(others: Items) -> None:
    """Refuse a network one of whose tensors is sparse, quantized, without numbers or the like."""
    for name, value in others.items():
        if isinstance(value, Inert) and value.name.startswith(_REBUILT):
            raise WeightsError(
                f"tensor {name} is none of plain numbers, but of {value.name[:80]}: convert it "
                "before saving, such as by .to_dense() or .dequantize()"
            )


def _follow(content: Any, key: str) -> Any:
    node = content
    for step in key.split("/"):
        items = _items(node)
        if items is None or step not in items:
            there = f"the keys there are {listed(items)}" if items else "there are no keys there"
            raise WeightsError(f"no {step!r} in it (of key={key!r}): {there}")
        node = items[step]
    return node


def holds_arrays(content: Any) -> bool:
    """Report whether NumPy arrays are in a dict, or in dicts inside it."""
    inside = (_items(content) or {}).values()
    return any(_leads(node, DEEPEST_WRAPPER, _any_tensor) for node in (content, *inside))


def _unwrap(node: Any, path: str, remarks: list[str], find: Find) -> Any:
    """Go down the usual keys as long as there are any, and remark on each."""
    for _ in range(DEEPEST_WRAPPER):
        items = _items(node)
        if items is None or is_module(node):
            break
        keys = [k for k in WRAPPERS if k in items and _leads(items[k], DEEPEST_WRAPPER, find)]
        if not keys and not _has_tensors(node, find):
            keys = [k for k, value in items.items() if isinstance(k, str) and _holds(value, find)]
        keys = _networks(items, keys, find)
        if not keys:
            break
        key = _choose(keys, path, remarks)
        if not key:
            break
        path = f"{path}/{key}" if path else key
        node = items[key]
    return node


def _networks(items: Items, keys: list[str], find: Find) -> list[str]:
    """The keys of all networks in a dict; "" stands for tensors in the dict itself.

    Args:
        items: the dict.
        keys: the keys that lead to a state dict, the usual ones if there are any. Those of a loss
            or of class weights do not count beside a network, which has convolutions.
        find: gives a value as a tensor, if it is one.
    """
    search = _Search(find)
    own = [""] if search.finds(items, 0) else []
    every = dict.fromkeys([*keys, *(key for key in items if isinstance(key, str))])
    with_convolutions = [key for key in every if search.finds(items[key], DEEPEST_WRAPPER)]
    # Without any, this may be a network that names its parts in a way of its own.
    return [*own, *with_convolutions] or keys


def _choose(keys: list[str], path: str, remarks: list[str]) -> str:
    """Choose among networks by their keys, and remark on it.

    Raises:
        WeightsError: none of them is the favourite.
    """
    chosen = favourite(keys)
    others = [f"{path}/{key}" if path else key for key in keys if key and key != chosen]
    if chosen is None:
        beside = ", beside tensors of a network" if "" in keys else ""
        raise WeightsError(
            f"several state dicts, under {listed(others)}{beside}: choose one with "
            f"{keys_to_pass(others)}"
        )
    if not others:
        if chosen:
            remarks.append(Note(f"took the state dict under {chosen!r}"))
    else:
        taken = f"the state dict under {chosen!r}" if chosen else "the tensors of the dict itself"
        remarks.append(f"took {taken}, not {listed(others)} ({keys_to_pass(others)} chooses)")
    return chosen


class _Search:
    """A search for convolutions, which every network has; it ends, however a file is made."""

    def __init__(self, find: Find) -> None:
        self._find = find
        self._known: dict[tuple[int, int], bool] = {}
        self._parts = 0

    def finds(self, node: Any, depth: int) -> bool:
        """Report whether a tensor of four axes is in a state dict or module, or below usual keys.

        Raises:
            WeightsError: there are more modules than any network has.
        """
        place = id(node), depth
        if place not in self._known:
            self._known[place] = self._looks(node, depth)
        return self._known[place]

    def _looks(self, node: Any, depth: int) -> bool:
        if is_module(node):
            return self._in_module(node)
        items = _items(node) or {}
        tensors = filter(None, map(self._find, items.values()))
        if any(len(tensor.shape) == 4 for tensor in tensors):
            return True
        if depth == 0:
            return False
        below = [(items[key], depth - 1 if key in WRAPPERS else 0) for key in items]
        return any(self.finds(value, further) for value, further in below)

    def _in_module(self, module: Inert) -> bool:
        waiting: list[Any] = [module]
        seen: set[int] = set()
        while waiting:
            part = waiting.pop()
            if id(part) in seen or not is_module(part):
                continue
            seen.add(id(part))
            self._parts += 1
            if self._parts > MOST_PARTS:
                raise WeightsError(f"more than {MOST_PARTS} modules, more than any network has")
            if self._looks(part.state["_parameters"], 0):
                return True
            waiting += part.state["_modules"].values()
        return False


def _leads(node: Any, depth: int, find: Find) -> bool:
    """Report whether a state dict is here, or below: usual keys, then a key of any name."""
    if _holds(node, find):
        return True
    items = _items(node)
    if items is None or depth == 0:
        return False
    if any(_leads(items[key], depth - 1, find) for key in WRAPPERS if key in items):
        return True
    return any(isinstance(key, str) and _holds(value, find) for key, value in items.items())


def _holds(node: Any, find: Find) -> bool:
    return is_module(node) or _has_tensors(node, find)


def _has_tensors(node: Any, find: Find) -> bool:
    """Report whether it is a dict of tensors, at least one of which is not a single number."""
    for name, value in (_items(node) or {}).items():
        if isinstance(name, str) and (tensor := find(value)) is not None and tensor.shape:
            return True
    return False


def _torch_tensor(value: Any) -> TensorRef | None:
    return value if isinstance(value, TensorRef) else None


def _any_tensor(value: Any) -> TensorRef | None:
    """A tensor of torch, or a NumPy array as one."""
    return value.tensor() if isinstance(value, PickledArray) else _torch_tensor(value)


def _items(node: Any) -> Items | None:
    """The items of a dict, or of a stand-in for an object that was filled like one."""
    if isinstance(node, Inert):
        return node.items
    return node if isinstance(node, dict) else None


def _kind(node: Any) -> str:
    """Describe a value in words that a message can show."""
    if isinstance(node, Inert):
        return f"an object of {node.name[:80] or 'no name'}"
    if isinstance(node, TensorRef):
        return "a single tensor"
    return "an empty dict" if isinstance(node, dict) else f"a {type(node).__name__}"

"""The layers of a whole pickled model: their classes and attributes, beside their tensors.

`torch.save(model)` writes every module with its attributes: strides, paddings, epsilons, pools and
activations. They are values in the pickle, and no class of the file is looked up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..._core import WeightsError
from .pickle_machine import Global, Inert
from .torch_budget import Budget

Items = dict[str | int, Any]
Number = bool | int | float
Value = Number | str | None | tuple[Number, ...]

DEEPEST_MODULE = 64
LONGEST_NAME = 1000
LONGEST_TEXT = 80
MOST_NUMBERS = 8
ENTRY_BYTES = 200
"""Memory that an entry of a flattened model is charged for, beside its name."""


@dataclass(frozen=True, slots=True)
class Module:
    """A module of a whole model.

    Attributes:
        name: its class with its module, such as `torch.nn.modules.conv.Conv2d`.
        values: its attributes that are numbers, texts, or tuples of numbers.
        children: the names of its own modules.
        has_tensors: it has parameters or buffers of its own.
        has_forward: a forward was put into the object, over that of its class.
        hook: the name of the first function that runs before or after its forward, and may change
            it; None if there is none.
        settings: the attributes of its `config`, as a model of transformers has one, or the
            `pretrained_cfg` of one of timm.
    """

    name: str
    values: Mapping[str, Value] = field(repr=False)
    children: tuple[str, ...] = ()
    has_tensors: bool = False
    has_forward: bool = False
    hook: str | None = None
    settings: Mapping[str | int, Any] = field(default_factory=dict, repr=False)

    @property
    def kind(self) -> str:
        """The class without its module, cut to a readable length."""
        return self.name.rpartition(".")[2][:80]


Modules = Mapping[str, Module]
"""Modules by their place in the model, such as `layer1.0.conv1`; "" is the model itself."""


def is_module(node: Any) -> bool:
    """Report whether a pickled object is a `torch.nn.Module`."""
    return (
        isinstance(node, Inert)
        and isinstance(node.state, dict)
        and all(isinstance(node.state.get(k), dict) for k in ("_parameters", "_modules"))
    )


def flattened(module: Inert, budget: Budget) -> tuple[Items, dict[str, Module]]:
    """Flatten a pickled module.

    Args:
        module: an object for which `is_module` holds.
        budget: the budget of memory for the names.

    Returns:
        What its `state_dict()` would give, buffers that it would leave out among it; and the
        modules.

    Raises:
        WeightsError: modules lie inside modules without an end.
    """
    items: Items = {}
    modules: dict[str, Module] = {}
    waiting: list[tuple[str, Any, int]] = [("", module, 0)]
    while waiting:
        prefix, part, depth = waiting.pop()
        if not is_module(part):
            continue
        own = {**part.state["_parameters"], **_dict(part.state.get("_buffers"))}
        own = {name: value for name, value in own.items() if value is not None}
        children = part.state["_modules"]
        budget.spend(ENTRY_BYTES)
        for name in (*own, *children):
            budget.spend(ENTRY_BYTES + len(prefix) + len(str(name)))
        if depth > DEEPEST_MODULE or len(prefix) > LONGEST_NAME:
            raise WeightsError("modules inside modules without an end")
        names = tuple(str(name) for name, child in children.items() if child is not None)
        modules[prefix.removesuffix(".")] = Module(
            part.name,
            _values(part.state),
            names,
            bool(own),
            "forward" in part.state,
            _hook(part.state),
            _settings(part.state),
        )
        items.update({f"{prefix}{name}": value for name, value in own.items()})
        waiting += [(f"{prefix}{k}.", child, depth + 1) for k, child in children.items()][::-1]
    return items, modules


def _hook(state: Items) -> str | None:
    """The first hook around the forward, but none that computes a weight: its tensors are seen."""
    for kind in ("_forward_pre_hooks", "_forward_hooks"):
        for hook in _dict(state.get(kind)).values():
            known = isinstance(hook, Global)
            name = f"{hook.module}.{hook.name}" if known else getattr(hook, "name", "")
            if not name.startswith("torch.nn.utils."):
                return name[:LONGEST_TEXT]
    return None


def _settings(state: Items) -> Items:
    config = state.get("config")
    return _dict(config.state if isinstance(config, Inert) else state.get("pretrained_cfg"))


def _values(state: Items) -> dict[str, Value]:
    """The attributes that are plain values; others do not change a forward that is known."""
    values: dict[str, Value] = {}
    for name, value in state.items():
        if not isinstance(name, str) or name.startswith("_"):
            continue
        if value is None or isinstance(value, (bool, int, float)):
            values[name] = value
        elif isinstance(value, str):
            values[name] = value[:LONGEST_TEXT]
        elif isinstance(value, (tuple, list)) and len(value) <= MOST_NUMBERS:
            numbers = tuple(n for n in value if isinstance(n, (bool, int, float)))
            if len(numbers) == len(value):
                values[name] = numbers
    return values


def _dict(value: Any) -> Items:
    return value if isinstance(value, dict) else {}

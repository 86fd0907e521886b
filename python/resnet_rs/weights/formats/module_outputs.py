"""The surroundings of a whole model's network: the output function, and layers that refuse it."""

from __future__ import annotations

from collections.abc import Iterator

from ..remarks import Assumption
from .module_places import Position, is_harmless, position
from .torch_modules import Module
from .whole_model import KNOWN_FORWARDS, POOLS, Found, WholeModel

_FUNCTIONS = {"Sigmoid": "sigmoid", "Softmax": "softmax", "LogSoftmax": "softmax"}
_CONTAINERS = frozenset({"Sequential", "DataParallel", "DistributedDataParallel"})


def output_function(model: WholeModel, stated: str | None) -> tuple[str | None, list[str]]:
    """Read the function behind the last layer.

    Args:
        model: the model.
        stated: the caller's `activation`, which settles what the file leaves open.

    Returns:
        The `activation` of config.json, None if no module is one; and remarks.

    Raises:
        WeightsError: a module before or behind the network changes its input or its result.
    """
    remarks = _remarks_on_wrappers(model)
    functions: list[Found] = []
    for place, module, where in _around(model):
        if module.kind not in _FUNCTIONS or where is Position.BEFORE:
            _check_harmless(model, place, module, where)
        elif where is Position.BEHIND:
            functions.append((place, module))
        elif stated is None:
            taken = where is Position.PERHAPS_BEHIND
            functions += [(place, module)] if taken else []
            remarks.append(_uncertain(place, module, taken=taken))
    if not functions:
        return None, remarks
    if len(functions) > 1:
        raise model.error(*functions[1], f"a second output function, beside {functions[0][0]}")
    place, module = functions[0]
    if "fc" not in model.layers:
        words = "an output function without a last layer; for plain embeddings pass num_classes=0"
        raise model.error(place, module, words)
    dim = module.values.get("dim")
    if dim not in (None, 1, -1):
        raise model.error(place, module, f"dim is {dim}; expected 1, that of the classes")
    if module.kind == "LogSoftmax":
        words = "the model ends in LogSoftmax: scores are the probabilities (activation: softmax)"
        remarks.append(Assumption(words, about="activation"))
    return _FUNCTIONS[module.kind], remarks


def _around(model: WholeModel) -> Iterator[tuple[str, Module, Position]]:
    """The modules before and behind the network that have neither tensors nor modules."""
    for place, module in model.modules.items():
        if place.startswith(model.top) and not module.has_tensors and not module.children:
            where = position(model, place)
            if where not in (Position.INSIDE, Position.APART):
                yield place, module, where


def _check_harmless(model: WholeModel, place: str, module: Module, where: Position) -> None:
    """Refuse a module that is certainly called, and changes the input or the result."""
    if where not in (Position.BEFORE, Position.BEHIND):
        return
    pools = where is Position.BEHIND and "fc" not in model.layers and module.kind in POOLS
    if not pools and (module.kind == "ReLU" or not is_harmless(module)):
        raise model.error(place, module, f"it is {where.value}, where no ResNet has such a layer")


def _uncertain(place: str, module: Module, *, taken: bool) -> Assumption:
    """The remark on a function in a class whose forward does not, or may not, call it."""
    if taken:
        words = (
            "is taken for the output function, because the forward that may call it is not in the "
            'file; if it does not, pass activation="softmax" or "none"'
        )
    else:
        words = (
            "is left out, because the forward of its class does not call it; if yours does, pass "
            f'activation="{_FUNCTIONS[module.kind]}"'
        )
    return Assumption(f"module {place} ({module.kind}) {words}", about="activation")


def _remarks_on_wrappers(model: WholeModel) -> list[str]:
    """A remark for each class around a network of a known class, whose forward is not known."""
    if not model.around or model.around[-1][1].name not in KNOWN_FORWARDS:
        return []
    *above, (root, _) = model.around
    return [
        f"the forward of {module.name} around the network is not in the file: it is "
        f'taken to give what the network gives; key="{root}" reads the network alone'
        for _, module in above
        if module.kind not in _CONTAINERS and module.name not in KNOWN_FORWARDS
    ]

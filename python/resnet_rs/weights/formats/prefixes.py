"""Selects a network's tensors in a file: by wrappers' prefixes, and among several networks."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from numpy.typing import NDArray

from ..._core import WeightsError
from ..remarks import Note
from .favourites import favourite, keys_to_pass
from .files import listed
from .heads import head_among, several_layers
from .names import ANCHORS, TORCHVISION, TRANSFORMERS
from .shapes import BODY

Tensors = dict[str, NDArray[Any]]

WRAPPERS = (
    "module.",
    "_orig_mod.",
    "model.",
    "backbone.",
    "base.",
    "net.",
    "network.",
    "encoder.",
)
"""Prefixes that DataParallel, torch.compile and training frameworks add to every name."""


def shared_wrappers(names: Iterable[str]) -> list[str]:
    """The wrappers' prefixes that all names share, the outermost first."""
    rest, found = list(names), []
    while rest:
        prefix = next((p for p in WRAPPERS if all(name.startswith(p) for name in rest)), None)
        if prefix is None:
            break
        found.append(prefix)
        rest = [name.removeprefix(prefix) for name in rest]
    return found


def network_prefixes(tensors: Tensors) -> list[str]:
    """Find the prefix of each network in the file; "" for one without a prefix."""
    prefixes = []
    for scheme, anchor in ANCHORS.items():
        for name in tensors:
            if name == anchor or name.endswith(f".{anchor}"):
                prefix = name.removesuffix(anchor)
                if scheme == TRANSFORMERS:
                    # Their head is beside the network, under the prefix before "resnet.".
                    prefix = prefix.removesuffix("resnet.")
                prefixes.append(prefix)
    return prefixes


def select(
    tensors: Tensors, *, key: str | None, drop_heads: bool, origin: str
) -> tuple[Tensors, list[str]]:
    """Pick the tensors of one network and strip its prefix.

    Args:
        tensors: all tensors of the file, in one of the known naming schemes.
        key: the prefix to take, with or without its last dot; None chooses.
        drop_heads: leave out tensors that belong to no network; otherwise they are an error.
        origin: the file, for messages.

    Returns:
        The tensors without the prefix, and remarks.

    Raises:
        WeightsError: there is no network in the file, or there are several to choose from, or
            there are tensors beside the network.
    """
    prefixes = network_prefixes(tensors)
    if key is not None and not (key == "" and "" in prefixes):
        prefix = key if key.endswith(".") else f"{key}."
        if not any(name.startswith(prefix) for name in tensors):
            known = f"; there are {listed([_key(p) for p in prefixes])}" if prefixes else ""
            raise WeightsError(f"{origin}: key: no tensor's name starts with {prefix!r}{known}")
        return _under(tensors, prefix), [Note(f'took the tensors under "{prefix}", as asked for')]
    if not prefixes:
        raise WeightsError(
            f"{origin}: no ResNet that is known by its tensors' names: expected "
            f"{', '.join(f'{anchor} ({scheme})' for scheme, anchor in ANCHORS.items())}, found "
            f"{listed(list(tensors)) or 'no tensors at all'}. For a ResNet with names of its own "
            "pass names={theirs: torchvision's}"
        )
    prefix = "" if key == "" else _chosen(prefixes, origin)
    if prefix == "":
        return _without(tensors, [p for p in prefixes if p])
    remarks: list[str] = [Note(f'stripped "{prefix}" from the network\'s names')]
    others = [p for p in prefixes if p != prefix]
    if others:
        remarks[0] = (
            f"took the network under {_key(prefix)!r}, not {listed([_key(p) for p in others])} "
            f"({keys_to_pass([_key(p) for p in others])} chooses)"
        )
    network = _under(tensors, prefix)
    beside = [name for name in tensors if not name.startswith((prefix, *others))]
    head = _head_beside(network, {name: tensors[name] for name in beside})
    if head:
        remarks.append(Note(f'took the layer "{head}", beside the network, for fc'))
        for what in ("weight", "bias"):
            if f"{head}.{what}" in tensors:
                network[f"fc.{what}"] = tensors[f"{head}.{what}"]
    elif beside and not drop_heads:
        raise WeightsError(
            f"{origin}: tensors beside the network under {_key(prefix)!r}: {listed(beside)}. "
            f"{_advice_on_beside(tensors, beside, _key(prefix))}"
        )
    elif beside:
        remarks.append(f"left out, beside the network: {listed(beside)}")
    return network, remarks


def _head_beside(network: Tensors, beside: Tensors) -> str:
    """The last layer under a usual name beside a network that has none; empty if there is none."""
    if ANCHORS[TORCHVISION] not in network or not all(map(BODY.fullmatch, network)):
        return ""
    return head_among({name: tensor.shape for name, tensor in beside.items()})


def _advice_on_beside(tensors: Tensors, beside: list[str], key: str) -> str:
    """Advise on tensors beside the network; nobody is told to leave a linear layer out."""
    embeddings = "num_classes=0 for embeddings alone"
    shapes = {name: tensors[name].shape for name in beside}
    if head := several_layers(shapes, beside):
        return f"It is {head}. A ResNet has one linear layer behind the pool: pass {embeddings}"
    linear = [name for name, shape in shapes.items() if len(shape) == 2]
    if len(linear) == 1 and linear[0].endswith(".weight"):
        layer = linear[0].removesuffix(".weight")
        rules = {rf"{re.escape(key)}\.(.*)": r"\1", rf"{re.escape(layer)}\.(.*)": r"fc.\1"}
        return f"If {layer} is the last layer, pass names={json.dumps(rules)}; else {embeddings}"
    if linear:
        return f"Pass {embeddings}"
    return f'To leave them out pass key="{key}", or {embeddings}'


def _chosen(prefixes: list[str], origin: str) -> str:
    chosen = favourite([_last(prefix) for prefix in prefixes])
    if chosen is not None:
        return next(prefix for prefix in prefixes if _last(prefix) == chosen)
    keys = [_key(prefix) for prefix in prefixes]
    named = [key or "the names without a prefix" for key in keys]
    raise WeightsError(
        f"{origin}: {len(prefixes)} networks: {listed(named)}. Pass one as {keys_to_pass(keys)}"
    )


def _without(tensors: Tensors, others: list[str]) -> tuple[Tensors, list[str]]:
    """The tensors of a network without a prefix, and a remark if others share its file."""
    if not others:
        return tensors, []
    keys = [_key(prefix) for prefix in others]
    remark = f"took the network without a prefix, not {listed(keys)} ({keys_to_pass(keys)} chooses)"
    return {n: t for n, t in tensors.items() if not n.startswith(tuple(others))}, [remark]


def _under(tensors: Tensors, prefix: str) -> Tensors:
    return {n.removeprefix(prefix): tensor for n, tensor in tensors.items() if n.startswith(prefix)}


def _key(prefix: str) -> str:
    return prefix.removesuffix(".")


def _last(prefix: str) -> str:
    return _key(prefix).rpartition(".")[2]

"""Selects a network's tensors in a file: by wrappers' prefixes, and among several networks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from numpy.typing import NDArray

from ..._core import WeightsError
from .files import listed
from .names import ANCHORS, TRANSFORMERS

Tensors = dict[str, NDArray[Any]]

WRAPPERS = ("module.", "_orig_mod.", "model.", "backbone.", "net.", "network.", "encoder.")
"""Prefixes that DataParallel, torch.compile and training frameworks add to every name."""

FAVOURED = (
    ("encoder_q", ("encoder_k",)),
    ("model", ("model_ema", "ema_model", "ema")),
)
"""Networks that often share a file: the first is the trained one."""


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
        remarks = [f'took the tensors under "{prefix}", as asked for']
        return _under(tensors, prefix), remarks
    if not prefixes:
        raise WeightsError(
            f"{origin}: no ResNet that is known by its tensors' names: expected "
            f"{', '.join(f'{anchor} ({scheme})' for scheme, anchor in ANCHORS.items())}, found "
            f"{listed(list(tensors)) or 'no tensors at all'}. For a ResNet with names of its own "
            "pass names={theirs: torchvision's}"
        )
    if "" in prefixes:
        return tensors, []
    prefix = _chosen(prefixes, origin)
    remarks = [f'stripped "{prefix}" from the network\'s names']
    others = [p for p in prefixes if p != prefix]
    if others:
        remarks[0] = (
            f'took the network under "{_key(prefix)}"; the file has also '
            f"{listed([_key(p) for p in others])}: to choose, pass key="
        )
    beside = [name for name in tensors if not name.startswith((prefix, *others))]
    if beside and not drop_heads:
        raise WeightsError(
            f"{origin}: tensors beside the network under {_key(prefix)!r}: {listed(beside)}. To "
            f'leave them out pass key="{_key(prefix)}", or num_classes=0 for embeddings alone'
        )
    if beside:
        remarks.append(f"left out, beside the network: {listed(beside)}")
    return _under(tensors, prefix), remarks


def _chosen(prefixes: list[str], origin: str) -> str:
    if len(prefixes) == 1:
        return prefixes[0]
    for favourite, rivals in FAVOURED:
        first = [p for p in prefixes if _last(p) == favourite]
        if len(first) == 1 and all(_last(p) in rivals for p in prefixes if p != first[0]):
            return first[0]
    raise WeightsError(
        f"{origin}: {len(prefixes)} networks: {listed([_key(p) for p in prefixes])}. Pass one as "
        "key="
    )


def _under(tensors: Tensors, prefix: str) -> Tensors:
    return {n.removeprefix(prefix): tensor for n, tensor in tensors.items() if n.startswith(prefix)}


def _key(prefix: str) -> str:
    return prefix.removesuffix(".")


def _last(prefix: str) -> str:
    return _key(prefix).rpartition(".")[2]

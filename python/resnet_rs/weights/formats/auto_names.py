"""Proposes a `names` map for a file whose names are unknown, from the network that is stated."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ... import _core
from ..._core import WeightsError
from . import dialects, prefixes, shapes
from .checkpoint import RawCheckpoint
from .files import listed
from .proposals import Layer, Proposal, file_orders, layers_of, network_orders, propose, rules_of

_COUNTER = "num_batches_tracked"


def proposed_rules(
    path: Path,
    *,
    key: str | None = None,
    architecture: str | None = None,
    variant: Mapping[str, Any] | None = None,
    num_classes: int | None = None,
) -> tuple[dict[str, str | None], tuple[tuple[str, str], ...]]:
    """Propose a map from a file's names to torchvision's, by the layers' order and shapes.

    Args:
        path: the file or directory.
        key: which of several networks, as for `formats.read`.
        architecture: the network's name.
        variant: how it differs from that architecture.
        num_classes: 0 for a network without a last layer.

    Returns:
        Rules for `names=`, empty if the names are known without; and pairs of layers of the same
        shape, of which either could be the other.

    Raises:
        FileNotFoundError: there is no such file or directory.
        WeightsError: it cannot be read, the network is not stated, or the layers' shapes are not
            those of the network in any usual order.
    """
    from .detect import read_raw

    raw, key_used = read_raw(path, key, variant)
    start = "" if key is None or key_used else f"{key.removesuffix('.')}."
    theirs = {name: shape for name, shape in _shapes_of(raw).items() if name.startswith(start)}
    if prefixes.network_prefixes(dialects.translated(raw.tensors)[0]):
        return {}, ()
    architecture = architecture or raw.config.get("architecture")
    stated = {**raw.config.get("variant", {}), **(variant or {})}
    if architecture is None:
        raise WeightsError(f"{path}: {_question(theirs, stated, num_classes)}")
    proposal = _proposal(theirs, architecture, stated, num_classes)
    if proposal is None:
        raise WeightsError(
            f"{path}: no names can be proposed: {_difference(theirs, architecture, stated)}"
        )
    layers = [name for name in proposal.left_over if len(theirs[name]) > 1]
    if layers:
        raise WeightsError(
            f"{path}: no names can be proposed: {architecture} has no place for {listed(layers)}. "
            "To leave layers out that do not belong to the network, write the rules by hand, with "
            "null for these"
        )
    rules: dict[str, str | None] = {**rules_of(proposal.names, theirs)}
    return {**rules, **dict.fromkeys(proposal.left_over)}, proposal.doubtful


def _shapes_of(raw: RawCheckpoint) -> dict[str, shapes.Shape]:
    return {name: t.shape for name, t in raw.tensors.items() if not name.endswith(_COUNTER)}


def _proposal(
    theirs: Mapping[str, shapes.Shape],
    architecture: str,
    variant: Mapping[str, Any],
    num_classes: int | None,
) -> Proposal | None:
    """The first proposal without left-over tensors, else the first one."""
    found = []
    for config in _configs(theirs, architecture, variant, num_classes):
        try:
            expected = shapes.parameters(config)
        except ValueError:
            continue
        proposal = propose(theirs, expected.shapes, expected.optional)
        if proposal is not None:
            found.append(proposal)
    return min(found, key=lambda proposal: len(proposal.left_over), default=None)


def _configs(
    theirs: Mapping[str, shapes.Shape],
    architecture: str,
    variant: Mapping[str, Any],
    num_classes: int | None,
) -> Iterator[dict[str, Any]]:
    """The configs that the statements allow: what only the shapes tell is tried."""
    layers = layers_of(theirs)
    convs = [layer.shape for layer in layers if layer.kind == 4]
    rows = [layer.shape[0] for layer in layers if layer.kind == 2]
    classes = num_classes if num_classes is not None else (rows[-1] if rows else 0)
    channels = {"in_channels": convs[0][1]} if convs else {}
    for bias, norm in itertools.product((False, True), (True, False)):
        guessed = {**channels, "conv_bias": bias and norm, "batch_norm": norm}
        yield {
            "architecture": architecture,
            "variant": {**guessed, **variant},
            "num_classes": classes,
        }


def _question(
    theirs: Mapping[str, shapes.Shape], variant: Mapping[str, Any], num_classes: int | None
) -> str:
    """Ask for the network, with those whose layers have these shapes in order."""
    fitting = [
        name
        for name in _core.architectures()
        if _proposal(theirs, name, variant, num_classes) is not None
    ]
    choice = " or ".join(f'architecture="{name}"' for name in fitting)
    fits = f" Their order and shapes fit {choice}: if it is that, pass it" if fitting else ""
    return f"the file does not say which network its tensors are of: pass architecture.{fits}"


def _difference(
    theirs: Mapping[str, shapes.Shape], architecture: str, variant: Mapping[str, Any]
) -> str:
    """Name the first convolution that the network has otherwise, in the order that fits longest."""
    config = {"architecture": architecture, "variant": dict(variant), "num_classes": 0}
    try:
        ours = shapes.parameters(config).shapes
    except ValueError as error:
        return str(error)
    given, wanted = (_convolutions(layers_of(names)) for names in (theirs, ours))
    longest = 0
    words = ""
    for found, expected in itertools.product(file_orders(given), network_orders(wanted)):
        number, have, want = _first_difference(found, expected)
        if number == 0:
            return "the batch norms' or the last layer's shapes differ. Write the rules by hand"
        if number > longest:
            order = "in the file's order" if found is given else "in the order of the names"
            words = f"convolution {number} {order} is {have}, and in {architecture} {want}"
            longest = number
    return f"{words}. State the differences in variant, or write the rules by hand"


def _first_difference(found: list[Layer], expected: list[Layer]) -> tuple[int, str, str]:
    """The number, from 1, of the first layers of different shapes, and words for both; else 0."""
    for number, pair in enumerate(itertools.zip_longest(found, expected), start=1):
        first, second = (None if layer is None else layer.shape for layer in pair)
        if first != second:
            have, want = (
                "no more" if layer is None else f"{layer.path} {list(layer.shape)}"
                for layer in pair
            )
            return number, have, want
    return 0, "", ""


def _convolutions(layers: list[Layer]) -> list[Layer]:
    return [layer for layer in layers if layer.kind == 4]

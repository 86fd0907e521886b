"""Compares a file's tensors with the network that a config describes, and says what would fit."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..._core import WeightsError
from . import input_size, shapes
from .files import listed
from .heads import several_layers
from .proposals import propose, rules_of

_MOST_RULES_SHOWN = 8


def check(found: Mapping[str, shapes.Shape], config: Mapping[str, Any], origin: str) -> None:
    """Compare names and shapes with the network that the config describes.

    Args:
        found: torchvision's names to shapes, in the file's order.
        config: the fields of config.json.
        origin: the file, for messages.

    Raises:
        WeightsError: naming the first missing or mis-shaped tensor, or the surplus ones.
    """
    expected = expected_of(config, origin)
    surplus = [name for name in found if name not in expected.shapes]
    if difference := shapes.first_difference(expected, found):
        missing = difference.endswith("not found")
        left_over = _left_over(found, surplus, expected) if missing and surplus else ""
        raise WeightsError(f"{origin}: {difference}{left_over or _hint(found, config, expected)}")
    if surplus:
        raise WeightsError(
            f"{origin}: not part of {config['architecture']}: {listed(surplus)}. "
            f"{_advice_on_surplus(surplus, found)}"
        )


def expected_of(config: Mapping[str, Any], origin: str) -> shapes.Parameters:
    """The tensors of the network that a config describes.

    Raises:
        WeightsError: the config describes no network.
    """
    try:
        return shapes.parameters(*_network(config))
    except ValueError as error:
        raise WeightsError(f"{origin}: {error}") from error


def operations_of(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The core's operations of the network that a config describes.

    Raises:
        WeightsError: the config describes no network.
    """
    return shapes.operations(*_network(config))


def _network(config: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[int, int] | None]:
    """The fields that decide the operations, and the size of the images."""
    size = input_size.sides(config.get("preprocessing", {}).get("crop"))
    names = ("architecture", "variant", "num_classes", "activation", "preprocessing")
    return {name: config[name] for name in names if name in config}, size


def left_over_of(found: Mapping[str, shapes.Shape], stated: Mapping[str, Any]) -> str:
    """List the tensors without a place, for a file that lacks a layer that every ResNet has.

    Args:
        found: see `check`.
        stated: `architecture` and `variant`, as the file or the caller states them.

    Returns:
        A sentence that follows another, with rules if they can be found; empty if the network is
        not stated, or no tensor is left over.
    """
    if not isinstance(stated.get("architecture"), str):
        return ""
    rows = found.get("fc.weight", (0,))[0]
    try:
        expected = expected_of({**stated, "num_classes": rows}, "")
    except ValueError:
        return ""
    surplus = [name for name in found if name not in expected.shapes]
    return _left_over(found, surplus, expected) if surplus else ""


def _left_over(
    found: Mapping[str, shapes.Shape], surplus: Sequence[str], expected: shapes.Parameters
) -> str:
    """List the tensors without a place beside a missing one, and the rules that may give places."""
    missing = {
        name: shape
        for name, shape in expected.shapes.items()
        if name not in found and name not in expected.optional
    }
    text = f". The file's tensors without a place are {listed(surplus)}"
    proposal = propose({name: found[name] for name in surplus}, missing)
    if proposal is None:
        return text
    rules = rules_of(proposal.names, found)
    if len(rules) > _MOST_RULES_SHOWN:
        return (
            f"{text}. Their shapes agree with the missing ones: see resnet-rs convert --names auto"
        )
    return (
        f"{text}. Their shapes agree with the missing ones: if they are those, pass "
        f"names={json.dumps(rules)}"
    )


def _advice_on_surplus(surplus: Sequence[str], found: Mapping[str, shapes.Shape]) -> str:
    """Advise on tensors that the network has no place for; never to leave a linear layer out."""
    if any(".se." in name for name in surplus):
        return "Squeeze-and-excitation (se) is not supported"
    if any(name.startswith(("conv1", "bn1", "layer")) for name in surplus):
        # Leaving these out would give a network that runs, and is another one.
        return "They belong to blocks that are not supported"
    linear = [name for name in surplus if len(found[name]) == 2]
    if head := several_layers(found, [n for n in found if not shapes.BODY.fullmatch(n)]):
        return (
            f"It is {head}. A ResNet has one linear layer behind the pool: pass num_classes=0 for "
            "embeddings alone"
        )
    features = shapes.structure(found).channels[-1]
    if len(linear) == 1 and found[linear[0]][1] == features and "fc.weight" not in found:
        layer = linear[0].removesuffix("weight")
        rules = {
            name: f"fc.{what}" for what in ("weight", "bias") if (name := layer + what) in found
        }
        return f"If that is the last layer, pass names={json.dumps(rules)}"
    if linear:
        return "For embeddings alone, without these layers, pass num_classes=0"
    nothing = json.dumps(dict.fromkeys(surplus[:3])).replace("null", "None")
    more = ", with every other name" if len(surplus) > 3 else ""
    return f"To leave tensors out, name them: names={nothing}{more}"


def _hint(
    found: Mapping[str, shapes.Shape], config: Mapping[str, Any], expected: shapes.Parameters
) -> str:
    """Suggest what else the caller may have meant."""
    head = found.get("fc.weight", ())
    features = shapes.structure(found).channels[-1]
    if "head" in config.get("variant", {}):
        wanted = expected.shapes.get("fc.weight", head)
        if len(head) == 2 and head != wanted:
            crop = config.get("preprocessing", {}).get("crop")
            return (
                f". fc takes {head[1]} features, and the head that is stated gives {wanted[1]} "
                f"from images of {crop or '224, as no crop is stated'}: state the size of the "
                "images as preprocessing's crop, or another head"
            )
    elif len(head) == 2 and head[1] > features and head[1] % features == 0:
        return (
            f". fc takes {head[1] // features} values of each of the {features} channels: if the "
            "head pools to a map and flattens it, state it, as in "
            'variant={"head": {"avg_pool": {"kernel": 2, "stride": 2, "padding": 1}}}, and the '
            "image size as preprocessing's crop"
        )
    fitting = [c for c in shapes.candidates(found) if c.architecture != config["architecture"]]
    return f". The shapes fit {' or '.join(map(str, fitting))}" if fitting else ""

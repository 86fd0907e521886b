"""Translates other projects' tensor names to torchvision's."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ..._core import WeightsError
from .files import Fields, read_json

Tensors = dict[str, NDArray[Any]]

TORCHVISION = "torchvision"
TRANSFORMERS = "Hugging Face transformers"
DETECTRON2 = "detectron2"

ANCHORS = {
    TORCHVISION: "layer1.0.conv1.weight",
    TRANSFORMERS: "encoder.stages.0.layers.0.layer.0.convolution.weight",
    DETECTRON2: "res2.0.conv1.weight",
}
"""A tensor that every network of the project has; anything before its name is a prefix."""

_TRANSFORMERS_BLOCK = re.compile(
    r"(?:resnet\.)?encoder\.stages\.(\d+)\.layers\.(\d+)\."
    r"(?:layer\.(\d+)|shortcut)\.(convolution|normalization)\.(\w+)"
)
_TRANSFORMERS_STEM = re.compile(
    r"(?:resnet\.)?embedder\.embedder\.(convolution|normalization)\.(\w+)"
)
_DETECTRON2_STEM = re.compile(r"stem\.conv1\.(norm\.)?(\w+)")
_DETECTRON2_BLOCK = re.compile(r"res(\d+)\.(\d+)\.(?:conv(\d)|shortcut)\.(norm\.)?(\w+)")

NameRules = Mapping[str, str | None]
"""The file's names, or patterns of them, to torchvision's; None drops a tensor."""


def scheme_of(names: Iterable[str]) -> str | None:
    """Find the project whose names these are; None if it is unknown."""
    present = set(names)
    for scheme, anchor in ANCHORS.items():
        if anchor in present or (scheme == TRANSFORMERS and f"resnet.{anchor}" in present):
            return scheme
    return None


def to_torchvision(name: str, scheme: str) -> str:
    """Translate a tensor's name; one that `scheme` does not know is unchanged."""
    if scheme == TRANSFORMERS:
        return _from_transformers(name)
    if scheme == DETECTRON2:
        return _from_detectron2(name)
    return name


def _from_transformers(name: str) -> str:
    if match := _TRANSFORMERS_BLOCK.fullmatch(name):
        stage, block, layer, kind, what = match.groups()
        where = f"layer{int(stage) + 1}.{block}"
        if layer is None:
            return f"{where}.downsample.{0 if kind == 'convolution' else 1}.{what}"
        return f"{where}.{'conv' if kind == 'convolution' else 'bn'}{int(layer) + 1}.{what}"
    if match := _TRANSFORMERS_STEM.fullmatch(name):
        kind, what = match.groups()
        return f"{'conv1' if kind == 'convolution' else 'bn1'}.{what}"
    if name in ("classifier.1.weight", "classifier.1.bias"):
        return name.replace("classifier.1", "fc")
    return name


def _from_detectron2(name: str) -> str:
    if match := _DETECTRON2_BLOCK.fullmatch(name):
        stage, block, conv, norm, what = match.groups()
        where = f"layer{int(stage) - 1}.{block}"
        if conv is None:
            return f"{where}.downsample.{1 if norm else 0}.{what}"
        return f"{where}.{'bn' if norm else 'conv'}{conv}.{what}"
    if match := _DETECTRON2_STEM.fullmatch(name):
        norm, what = match.groups()
        return f"{'bn1' if norm else 'conv1'}.{what}"
    if name in ("linear.weight", "linear.bias"):
        return name.replace("linear", "fc")
    return name


def read_rules(names: NameRules | str | os.PathLike[str]) -> dict[str, str | None]:
    """A user's name map, given as it is or as the path of a JSON file.

    Raises:
        FileNotFoundError: there is no such file.
        WeightsError: the file is not a JSON object of names.
        TypeError: neither a mapping nor a path; or something else than names in the mapping.
    """
    if isinstance(names, (str, os.PathLike)):
        path = Path(names)
        rules = Fields(str(path), read_json(path))
        for name, value in rules.values.items():
            if not isinstance(value, (str, type(None))):
                raise rules.error(name, "a tensor's name, or null to leave the tensor out")
        return dict(rules.values)
    if not isinstance(names, Mapping):
        raise TypeError(
            "names must be a dict from the file's tensor names to torchvision's, or the path of "
            f"a JSON file with one; got {type(names).__name__}"
        )
    for name, value in names.items():
        if not isinstance(name, str) or not isinstance(value, (str, type(None))):
            raise TypeError(f"names must map names to names or None; got {name!r}: {value!r}")
    return dict(names)


def apply_rules(
    tensors: Tensors, rules: Mapping[str, str | None], origin: str, wrappers: Sequence[str] = ()
) -> tuple[Tensors, list[str]]:
    r"""Rename tensors by a user's map.

    A rule whose left side is a tensor's name renames that tensor. Any other left side is a
    regular expression: the first one that matches a whole name renames it, and its right side
    may hold `\1`, `\2`, ... A right side of None leaves the tensor out. Names that no rule
    matches stay.

    A rule may be written for a name as it is in the file, or for the name without `wrappers`; a
    new name that still starts with them loses them.

    Args:
        tensors: all by the names that the file has.
        rules: the map.
        origin: the file, for messages.
        wrappers: prefixes that all names start with, the outermost first.

    Returns:
        The tensors by their new names, and the left sides that matched no tensor.

    Raises:
        WeightsError: a rule is not a regular expression, or two tensors get one name.
    """
    patterns = _compiled(rules, origin)
    renamed: dict[str, str] = {}
    result: Tensors = {}
    used: set[str | None] = set()
    for name, tensor in tensors.items():
        left, target = _renamed(_without_each(name, wrappers), rules, patterns, origin)
        used.add(left)
        if target is None:
            continue
        target = _without_each(target, wrappers)[-1]
        if target in result:
            raise WeightsError(
                f"{origin}: names: tensors {renamed[target]} and {name} would both be {target}"
            )
        renamed[target] = name
        result[target] = tensor
    return result, [left for left in rules if left not in used]


def _without_each(name: str, wrappers: Sequence[str]) -> list[str]:
    """A name, and the rest of it after each prefix."""
    forms = [name]
    for prefix in wrappers:
        forms.append(forms[-1].removeprefix(prefix))
    return forms


def _compiled(
    rules: Mapping[str, str | None], origin: str
) -> list[tuple[re.Pattern[str], str | None]]:
    patterns = []
    for left, right in rules.items():
        try:
            patterns.append((re.compile(left), right))
        except (re.error, RecursionError, OverflowError) as error:
            raise WeightsError(f"{origin}: names: {left!r} is no pattern: {error}") from error
    return patterns


def _renamed(
    forms: Sequence[str],
    rules: Mapping[str, str | None],
    patterns: list[tuple[re.Pattern[str], str | None]],
    origin: str,
) -> tuple[str | None, str | None]:
    """The left side that applies to one of a name's forms, if any, and the new name."""
    for form in forms:
        if form in rules:
            return form, rules[form]
    for pattern, replacement in patterns:
        for match in filter(None, map(pattern.fullmatch, forms)):
            try:
                target = None if replacement is None else match.expand(replacement)
            except (re.error, IndexError) as error:
                raise WeightsError(
                    f"{origin}: names: {pattern.pattern!r}: {replacement!r}: {error}"
                ) from error
            return pattern.pattern, target
    return None, forms[0]

"""Layouts of names that many public networks have, translated behind any prefix.

Each is torchvision's network under other names. It is known by a tensor that all networks of the
layout have, and whatever comes before that tensor's name is a prefix, which stays.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..remarks import Note

Tensors = Mapping[str, NDArray[Any]]
Translate = Callable[[re.Match[str]], str]
Rule = tuple[re.Pattern[str], str | Translate]

WRAPPED = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
"""Parts of names that torch's wrappers of single layers add, anywhere in a name."""


@dataclass(frozen=True)
class Dialect:
    """A layout of names.

    Attributes:
        known_as: the layout, in words for a remark.
        anchors: tensors that a network of this layout has, all of them.
        absent: tensors that it does not have.
        rules: patterns for whole names, and what they become.
    """

    known_as: str
    anchors: tuple[str, ...]
    absent: tuple[str, ...]
    rules: tuple[Rule, ...]


def _rule(pattern: str, target: str | Translate) -> Rule:
    return re.compile(pattern), target


def _residual_function(match: re.Match[str]) -> str:
    """`conv2_x.0.residual_function.3.weight`: convolution, batch norm and ReLU in turns."""
    stage, block, place, what = match.groups()
    number, kind = divmod(int(place), 3)
    layer = ("conv", "bn", "relu")[kind]
    return f"layer{int(stage) - 1}.{block}.{layer}{number + 1}.{what}"


def _lettered(match: re.Match[str]) -> str:
    """`stage_1.0.conv_a.weight`."""
    stage, block, layer, letter, what = match.groups()
    return f"layer{stage}.{block}.{layer}{ord(letter) - ord('a') + 1}.{what}"


def _branch(match: re.Match[str]) -> str:
    """`res2_0_branch2a_bn_s`, and `res2_0_branch1_w` of the shortcut, in detectron2's names."""
    stage, block, branch, norm, what = match.groups()
    layer = "shortcut" if branch == "1" else f"conv{ord(branch[1]) - ord('a') + 1}"
    return f"res{stage}.{block}.{layer}.{'norm.' if norm else ''}{_CAFFE2_ROLES[what]}"


def _blob(layer: str) -> Translate:
    return lambda match: f"{layer}.{_CAFFE2_ROLES[match.group(1)]}"


_CAFFE2_ROLES = {
    "w": "weight",
    "s": "weight",
    "b": "bias",
    "rm": "running_mean",
    "riv": "running_var",
}

EPSILON = 1e-5
"""Of batch norms, unless a file or the caller states another."""

_FIRST_BLOCK = "layer1.0.conv1.weight"

CAFFE2 = Dialect(
    "Caffe2",
    ("res2_0_branch2a_w",),
    (),
    (
        _rule(r"conv1_(w)", _blob("stem.conv1")),
        _rule(r"res_conv1_bn_(s|b|rm|riv)", _blob("stem.conv1.norm")),
        _rule(r"res(\d)_(\d+)_branch(1|2[abc])_(bn_)?(w|s|b|rm|riv)", _branch),
        _rule(r"(?:pred|fc1000)_(w|b)", _blob("linear")),
    ),
)

DIALECTS = (
    Dialect(
        "residual_function and conv2_x",
        ("conv2_x.0.residual_function.0.weight",),
        (),
        (
            _rule(r"conv1\.0\.(\w+)", r"conv1.\1"),
            _rule(r"conv1\.1\.(\w+)", r"bn1.\1"),
            _rule(r"conv(\d)_x\.(\d+)\.residual_function\.(\d)\.(\w+)", _residual_function),
            _rule(
                r"conv(\d)_x\.(\d+)\.shortcut\.(.+)",
                lambda m: f"layer{int(m[1]) - 1}.{m[2]}.downsample.{m[3]}",
            ),
        ),
    ),
    Dialect(
        "stage_1 and conv_a",
        ("stage_1.0.conv_a.weight",),
        (),
        (
            _rule(r"conv_1_3x3\.(\w+)", r"conv1.\1"),
            _rule(r"bn_1\.(\w+)", r"bn1.\1"),
            _rule(r"stage_(\d)\.(\d+)\.(conv|bn)_([abc])\.(\w+)", _lettered),
            _rule(r"stage_(\d)\.(\d+)\.downsample\.(.+)", r"layer\1.\2.downsample.\3"),
        ),
    ),
    CAFFE2,
    Dialect(
        "a stem called layer0",
        (_FIRST_BLOCK, "layer0.0.weight"),
        ("conv1.weight", "layer0.3.weight"),
        (_rule(r"layer0\.0\.(\w+)", r"conv1.\1"), _rule(r"layer0\.1\.(\w+)", r"bn1.\1")),
    ),
    Dialect(
        "a stem called layer0",
        (_FIRST_BLOCK, "layer0.conv1.weight"),
        ("conv1.weight", "layer0.conv2.weight"),
        (_rule(r"layer0\.(conv1|bn1)\.(\w+)", r"\1.\2"),),
    ),
    Dialect(
        "a stem of conv and bn",
        (_FIRST_BLOCK, "conv.weight"),
        ("conv1.weight",),
        (_rule(r"conv\.(\w+)", r"conv1.\1"), _rule(r"bn\.(\w+)", r"bn1.\1")),
    ),
    Dialect(
        "a deep stem of conv1, conv2 and conv3",
        (_FIRST_BLOCK, "conv1.weight", "conv2.weight", "conv3.weight"),
        (),
        (
            _rule(r"conv([123])\.(\w+)", lambda m: f"conv1.{3 * int(m[1]) - 3}.{m[2]}"),
            _rule(r"bn([12])\.(\w+)", lambda m: f"conv1.{3 * int(m[1]) - 2}.{m[2]}"),
            _rule(r"bn3\.(\w+)", r"bn1.\1"),
        ),
    ),
    Dialect(
        "a deep stem called stem",
        (_FIRST_BLOCK, "stem.0.weight", "stem.3.weight", "stem.6.weight", "stem.7.weight"),
        ("conv1.weight",),
        (_rule(r"stem\.([01346])\.(\w+)", r"conv1.\1.\2"), _rule(r"stem\.7\.(\w+)", r"bn1.\1")),
    ),
)
"""The layouts, beside those of whole projects in `names`."""


def translated(tensors: Tensors) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """Give the networks of a known layout torchvision's names; prefixes stay.

    Returns:
        The tensors, in the same order, and remarks.
    """
    remarks: list[str] = []
    tensors, unwrapped = _renamed(tensors, _unwrapped(tensors))
    if unwrapped:
        remarks.append(Note("left torch's wrappers out of names, such as _orig_mod"))
    for dialect in DIALECTS:
        for prefix in _prefixes(tensors, dialect):
            tensors, changed = _renamed(tensors, _by_rules(tensors, prefix, dialect.rules))
            if changed:
                remarks.append(Note(f"the tensors have names that are known: {dialect.known_as}"))
            if changed and dialect is CAFFE2:
                tensors = _with_frozen_statistics(tensors, prefix)
    for prefix in _numbered(tensors):
        names, remark = _children(tensors, prefix)
        tensors, changed = _renamed(tensors, names)
        if changed:
            remarks.append(Note(remark))
    return dict(tensors), remarks


def _with_frozen_statistics(tensors: Tensors, prefix: str) -> Tensors:
    """Add statistics that change nothing where Caffe2's norms are scales and shifts alone."""
    result = dict(tensors)
    for name, tensor in tensors.items():
        layer = name.removesuffix("weight")
        if not name.startswith(prefix) or not layer.endswith(".norm."):
            continue
        result.setdefault(f"{layer}running_mean", np.zeros(tensor.shape, np.float32))
        result.setdefault(f"{layer}running_var", np.full(tensor.shape, 1 - EPSILON, np.float32))
    return result


def _renamed(tensors: Tensors, names: Mapping[str, str]) -> tuple[Tensors, bool]:
    """Rename by a map, unless two tensors would get one name."""
    targets = [names.get(name, name) for name in tensors]
    if not names or len(set(targets)) != len(targets):
        return tensors, False
    return dict(zip(targets, tensors.values(), strict=True)), True


def _unwrapped(tensors: Tensors) -> dict[str, str]:
    names = {}
    for name in tensors:
        inner = name
        for part in WRAPPED:
            inner = inner.replace(part, "")
        if inner != name and inner:
            names[name] = inner
    return names


def _prefixes(tensors: Tensors, dialect: Dialect) -> list[str]:
    """The prefixes under which there are networks of this layout."""
    first, *others = dialect.anchors
    found = [name.removesuffix(first) for name in tensors if name.endswith(first)]
    return [
        prefix
        for prefix in found
        if (not prefix or prefix.endswith((".", "/")))
        and all(f"{prefix}{name}" in tensors for name in others)
        and not any(f"{prefix}{name}" in tensors for name in dialect.absent)
    ]


def _by_rules(tensors: Tensors, prefix: str, rules: tuple[Rule, ...]) -> dict[str, str]:
    names = {}
    for name in tensors:
        if not name.startswith(prefix):
            continue
        for pattern, target in rules:
            if match := pattern.fullmatch(name.removeprefix(prefix)):
                new = match.expand(target) if isinstance(target, str) else target(match)
                names[name] = f"{prefix.removesuffix('/')}{'.' * prefix.endswith('/')}{new}"
                break
    return names


_CHILD = re.compile(r"((?:.*\.)?)(\d{1,4})\.0\.conv1\.weight")


def _numbered(tensors: Tensors) -> list[str]:
    """The prefixes before the numbers of a Sequential's children, some of which are stages."""
    return list(dict.fromkeys(m[1] for name in tensors if (m := _CHILD.fullmatch(name))))


def _children(tensors: Tensors, prefix: str) -> tuple[dict[str, str], str]:
    """Names for the numbers of `nn.Sequential(*network.children())`, by the shapes of each child.

    Returns:
        A map, empty if these are no children of a ResNet; and a remark.
    """
    stages = sorted(
        int(match[2])
        for name, tensor in tensors.items()
        if (match := _CHILD.fullmatch(name)) and match[1] == prefix and tensor.ndim == 4
    )
    first, count = (stages[0], len(stages)) if stages else (0, 0)
    if count < 2 or stages != list(range(first, first + count)):
        return {}, ""
    layers = {f"{prefix}{number}.": f"layer{i}." for i, number in enumerate(stages, start=1)}
    stem = _stem(tensors, prefix, first)
    if stem is None:
        return {}, ""
    layers |= stem
    heads = [n for n in range(first + count, first + count + 8) if _rank(tensors, prefix, n) == 2]
    if len(heads) == 1:
        layers[f"{prefix}{heads[0]}."] = "fc."
    # The longest first: a child's own children go before it.
    starts = sorted(layers, key=len, reverse=True)
    names = {}
    for name in tensors:
        start = next((start for start in starts if name.startswith(start)), None)
        if start is not None:
            names[name] = f"{prefix}{layers[start]}{name.removeprefix(start)}"
    shown = ", ".join(
        f"{old.removeprefix(prefix)[:-1]} is {new[:-1]}" for old, new in layers.items()
    )
    return names, f"the names are the numbers of children: {shown}"


def _stem(tensors: Tensors, prefix: str, end: int) -> dict[str, str] | None:
    """The children before the stages: a convolution and a batch norm, alone or in one child."""
    convs = [n for n in range(end) if _rank(tensors, prefix, n) == 4]
    norms = [n for n in range(end) if _rank(tensors, prefix, n) == 1]
    inner = [n for n in range(end) if _rank(tensors, f"{prefix}{n}.", 0) == 4]
    if len(convs) == 1 and len(norms) <= 1 and not inner:
        names = {f"{prefix}{convs[0]}.": "conv1."}
        return names | {f"{prefix}{n}.": "bn1." for n in norms}
    if len(inner) == 1 and not convs:
        own = f"{prefix}{inner[0]}."
        ranks = {i: rank for i in range(8) if (rank := _rank(tensors, own, i))}
        if ranks == {0: 4, 1: 1} and not norms:
            return {f"{own}0.": "conv1.", f"{own}1.": "bn1."}
        if ranks == {0: 4, 1: 1, 3: 4, 4: 1, 6: 4} and len(norms) == 1:
            return {own: "conv1.", f"{prefix}{norms[0]}.": "bn1."}
    return None


def _rank(tensors: Tensors, prefix: str, number: int) -> int:
    """The number of axes of a child's weight; 0 if it has none."""
    tensor = tensors.get(f"{prefix}{number}.weight")
    return 0 if tensor is None else tensor.ndim

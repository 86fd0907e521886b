"""Proposes torchvision's names for tensors that have others, by their order and shapes.

Networks that were written by hand have names of their own, and layers in the usual order:
convolutions and batch norms as the forward meets them, the shortcut of a block before or after its
other layers. A proposal pairs the layers one after the other and is made only if every shape
agrees. The same shapes in the same order do not prove that two layers are the same: only a
comparison of results does.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]

_ROLES = {
    "weight": "weight",
    "kernel": "weight",
    "gamma": "weight",
    "scale": "weight",
    "bias": "bias",
    "beta": "bias",
    "running_mean": "running_mean",
    "moving_mean": "running_mean",
    "mean": "running_mean",
    "running_var": "running_var",
    "running_variance": "running_var",
    "moving_var": "running_var",
    "moving_variance": "running_var",
    "variance": "running_var",
    "var": "running_var",
}
_NAME = re.compile(rf"(.*?)[._/]?({'|'.join(sorted(_ROLES, key=len, reverse=True))})")
_SHORTCUT = re.compile(
    r"short|skip|down|proj|ident|resid|side|match|adapt|branch1|(^|[._])ds([._]|$)"
)

FEWEST_FOR_A_PATTERN = 3
"""Names that a pattern must cover; fewer are spelled out."""


@dataclass(frozen=True)
class Layer:
    """The tensors of one layer.

    Attributes:
        path: the part of their names that they share.
        names: their names by role: `weight`, `bias`, `running_mean`, `running_var`.
        shape: of the weight.
    """

    path: str
    names: dict[str, str]
    shape: Shape

    @property
    def kind(self) -> int:
        """The weight's axes: 4 for a convolution, 2 for a linear layer, 1 for a batch norm."""
        return len(self.shape)


@dataclass(frozen=True)
class Proposal:
    """A proposed renaming.

    Attributes:
        names: a file's names to torchvision's.
        left_over: tensors of the file that got no name.
        doubtful: pairs of the file's layers that have the same shapes, so that either could be
            the other one.
    """

    names: dict[str, str]
    left_over: tuple[str, ...]
    doubtful: tuple[tuple[str, str], ...] = ()


def layers_of(shapes: Shapes) -> list[Layer]:
    """Group tensors to layers, in the order of their first tensors."""
    grouped: dict[str, dict[str, str]] = {}
    for name in shapes:
        match = _NAME.fullmatch(name)
        path, role = (match[1], _ROLES[match[2]]) if match else (name, "weight")
        grouped.setdefault(path, {})[role] = name
    return [
        Layer(path, names, shapes[names["weight"]])
        for path, names in grouped.items()
        if "weight" in names
    ]


def propose(theirs: Shapes, ours: Shapes, optional: Iterable[str] = ()) -> Proposal | None:
    """Pair the layers of a file with a network's.

    Args:
        theirs: the file's names to shapes, in the file's order.
        ours: torchvision's names to shapes, in network order.
        optional: those of `ours` that a file may lack.

    Returns:
        The proposal; None if the layers' shapes do not agree in any of the usual orders.
    """
    needed = set(ours) - set(optional)
    wanted = layers_of(ours)
    known = {layer.shape for layer in wanted}
    given = [layer for layer in layers_of(theirs) if layer.shape in known]
    for found, expected in itertools.product(file_orders(given), network_orders(wanted)):
        pairs = _paired(found, expected)
        if pairs is None:
            continue
        pairs, doubtful = _by_words(pairs)
        names = _names_of(pairs, theirs, ours)
        if names is not None and needed <= set(names.values()):
            left_over = tuple(name for name in theirs if name not in names)
            return Proposal(names, left_over, doubtful)
    return None


Pairs = list[tuple[Layer, Layer]]


def file_orders(layers: list[Layer]) -> list[list[Layer]]:
    """The layers as the file has them, and sorted by name with numbers as numbers."""
    return [layers, sorted(layers, key=lambda layer: _natural(layer.path))]


def _natural(path: str) -> list[tuple[int, str]]:
    parts = re.findall(r"\d+|\D+", path)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def network_orders(layers: list[Layer]) -> list[list[Layer]]:
    """A network's layers with each block's shortcut behind its other layers, and before them."""
    last: list[Layer] = []
    first: list[Layer] = []
    for _, block in itertools.groupby(layers, key=_block_of):
        inside = list(block)
        shortcut = [layer for layer in inside if ".downsample" in layer.path]
        others = [layer for layer in inside if ".downsample" not in layer.path]
        last += others + shortcut
        first += shortcut + others
    return [last, first]


def _block_of(layer: Layer) -> str:
    match = re.match(r"layer\d+\.\d+", layer.path)
    return match[0] if match else layer.path


def _paired(found: Sequence[Layer], expected: Sequence[Layer]) -> Pairs | None:
    """Pair layers of a kind one after the other; None if a shape differs or a layer is missing."""
    pairs: Pairs = []
    for kind in (4, 1, 2):
        theirs = [layer for layer in found if layer.kind == kind]
        ours = [layer for layer in expected if layer.kind == kind]
        if [layer.shape for layer in theirs] != [layer.shape for layer in ours]:
            return None
        pairs += zip(theirs, ours, strict=True)
    return pairs


def _by_words(pairs: Pairs) -> tuple[Pairs, tuple[tuple[str, str], ...]]:
    """Swap a block's last layer and its shortcut, of the same shape, if their names say so."""
    by_path = {ours.path: theirs for theirs, ours in pairs}
    words = _words_of_shortcuts(by_path)
    doubtful = []
    for ours, theirs in list(by_path.items()):
        last = _rival(by_path, ours)
        if last is None or by_path[last].shape != theirs.shape:
            continue
        rest = _common_start(theirs.path, by_path[last].path)
        is_shortcut, other = (
            bool(words & _words(layer.path) or _SHORTCUT.search(layer.path[rest:].lower()))
            for layer in (theirs, by_path[last])
        )
        if other and not is_shortcut:
            by_path[ours], by_path[last] = by_path[last], theirs
        elif is_shortcut == other:
            doubtful.append((by_path[last].path, theirs.path))
    return [(by_path[ours.path], ours) for _, ours in pairs], tuple(doubtful)


def _words_of_shortcuts(by_path: Mapping[str, Layer]) -> set[str]:
    """The words of the shortcuts that their shapes tell from the other layers."""
    words: set[str] = set()
    others: set[str] = set()
    for ours, theirs in by_path.items():
        last = _rival(by_path, ours)
        if last is None:
            if ".downsample." not in ours:
                others |= _words(theirs.path)
        elif by_path[last].shape != theirs.shape:
            words |= _words(theirs.path)
    return words - others


def _words(path: str) -> set[str]:
    return set(re.findall(r"[^\W\d]+", path))


def _rival(by_path: Mapping[str, Layer], ours: str) -> str | None:
    """For a layer of a shortcut the last layer of its kind in the block; None for other layers."""
    block, _, place = ours.partition(".downsample.")
    return _last_of(by_path, block, by_path[ours].kind) if place else None


def _last_of(by_path: Mapping[str, Layer], block: str, kind: int) -> str | None:
    """The name of a block's last convolution or batch norm."""
    layer = "conv" if kind == 4 else "bn"
    numbers = [n for n in "321" if f"{block}.{layer}{n}" in by_path]
    return f"{block}.{layer}{numbers[0]}" if numbers else None


def _common_start(first: str, second: str) -> int:
    count = 0
    for a, b in zip(first, second, strict=False):
        if a != b:
            break
        count += 1
    return count


def _names_of(pairs: Pairs, theirs: Shapes, ours: Shapes) -> dict[str, str] | None:
    """The tensors' names of paired layers; None if a shape differs."""
    names = {}
    for given, wanted in pairs:
        for role, name in given.names.items():
            target = wanted.names.get(role)
            if target is None:
                continue
            if theirs[name] != ours[target]:
                return None
            names[name] = target
    return {name: names[name] for name in theirs if name in names}


def rules_of(names: Mapping[str, str], every: Iterable[str]) -> dict[str, str]:
    """Write a renaming as few rules for `names=`.

    Args:
        names: a file's names to torchvision's.
        every: all names of the file, of which a pattern must match no others.
    """
    groups: dict[tuple[str, str], dict[str, str]] = {}
    for theirs, ours in names.items():
        groups.setdefault(_difference(theirs, ours), {})[theirs] = ours
    rules: dict[str, str] = {}
    for (old, new), group in groups.items():
        pattern, target = rf"(.*)\.{re.escape(old)}\.(.*)", rf"\1.{new}.\2"
        matched = {n: m.expand(target) for n in every if (m := re.fullmatch(pattern, n))}
        if len(group) >= FEWEST_FOR_A_PATTERN and old and new and matched == group:
            rules[pattern] = target
        else:
            rules |= group
    return rules


def _difference(theirs: str, ours: str) -> tuple[str, str]:
    """The middle parts in which two names differ, at their dots."""
    first, second = theirs.split("."), ours.split(".")
    while first and second and first[0] == second[0]:
        first, second = first[1:], second[1:]
    while first and second and first[-1] == second[-1]:
        first, second = first[:-1], second[:-1]
    return ".".join(first), ".".join(second)

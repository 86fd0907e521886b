"""The last layer under its usual names, and heads that are more than one layer."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..remarks import Assumption, Note
from .shapes import BODY

Tensors = dict[str, NDArray[Any]]

_HEAD = re.compile(
    r"(fc|linear|last_linear|classifier|head|head\.fc|classifier\.fc)((?:\.\d{1,3})?)"
)
_SHORTCUT = re.compile(r"(layer\d+\.\d+)\.shortcut\.(.+)")


def with_usual_names(tensors: Tensors) -> tuple[Tensors, list[str]]:
    """Give the shortcut and the last layer torchvision's names, and a head its bias.

    Returns:
        The tensors, in the same order, and remarks.
    """
    names: dict[str, str] = {}
    remarks: list[str] = []
    for name in tensors:
        if match := _SHORTCUT.fullmatch(name):
            names[name] = f"{match[1]}.downsample.{match[2]}"
    if names and not names.keys() & set(names.values()):
        remarks.append(Note("the tensors called shortcut are the downsample layers"))
    head = head_among({name: tensor.shape for name, tensor in tensors.items()})
    if head not in ("", "fc"):
        names |= {f"{head}.{what}": f"fc.{what}" for what in ("weight", "bias")}
        remarks.append(_head_remark(head))
    targets = [names.get(name, name) for name in tensors]
    if len(set(targets)) != len(targets):
        return tensors, []
    renamed = dict(zip(targets, tensors.values(), strict=True))
    weight = renamed.get("fc.weight")
    if weight is not None and weight.ndim == 2 and "fc.bias" not in renamed:
        renamed["fc.bias"] = np.zeros(weight.shape[0], np.float32)
        remarks.append("fc has no bias in the file: its biases are zeros")
    return renamed, remarks


def _head_remark(head: str) -> str:
    remark = Note(f'took the layer "{head}" for fc')
    if head.rpartition(".")[2] == "0":
        # A container of one layer has no reason, unless a layer without tensors follows.
        return Assumption(
            f"{remark}; a layer without tensors may follow it, such as a Sigmoid or a Softmax, "
            "which a state dict does not show",
            about="activation",
        )
    return remark


def head_among(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Find the one linear layer behind the network, under a usual name.

    Args:
        shapes: the tensors' names to shapes, those of the network's layers by torchvision's names.

    Returns:
        The layer's name; empty if there is none, or more than this layer behind the network.
    """
    behind = [name for name in shapes if not BODY.fullmatch(name)]
    layers = {name.rpartition(".")[0] for name in behind}
    if len(layers) != 1:
        return ""
    (layer,) = layers
    usual = {f"{layer}.weight", f"{layer}.bias"}
    fits = _HEAD.fullmatch(layer) and usual >= set(behind)
    return layer if fits and len(shapes.get(f"{layer}.weight", ())) == 2 else ""


def several_layers(shapes: Mapping[str, tuple[int, ...]], names: Iterable[str]) -> str:
    """Describe a head of several linear layers, one of which feeds the next.

    Args:
        shapes: the tensors' names to shapes.
        names: those behind the network.

    Returns:
        Words such as "a head of two layers: fc.0.weight [64, 512], fc.3.weight [5, 64]"; empty if
        it is none.
    """
    linear = [name for name in names if len(shapes[name]) == 2 and name.endswith("weight")]
    chained = len(linear) > 1 and all(
        shapes[before][0] == shapes[after][1] for before, after in itertools.pairwise(linear)
    )
    if not chained:
        return ""
    count = {2: "two", 3: "three"}.get(len(linear), str(len(linear)))
    shown = ", ".join(f"{name} {list(shapes[name])}" for name in linear[:4])
    return f"a head of {count} layers: {shown}"

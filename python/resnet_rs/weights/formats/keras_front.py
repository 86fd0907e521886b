"""Preprocessing layers in front of a Keras network: Rescaling and Normalization."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..._core import WeightsError
from .keras_layer import Layer

FRONT = frozenset({"Normalization", "Rescaling"})
"""The classes of layers that are read as preprocessing."""

_LEAST_DEVIATION = 1e-7
"""Keras divides by no less in a Normalization."""

_MOST_CHANNELS = 1 << 16


@dataclass(frozen=True)
class Front:
    """The arithmetic of the layers in front: multiply by one number and add another.

    Attributes:
        where: the last of the layers, for messages.
        factor: one number, or one for each channel.
        summand: likewise.
    """

    where: str
    factor: NDArray[np.float64]
    summand: NDArray[np.float64]


def front_of(layers: Sequence[Layer], first: str) -> Front | None:
    """Read the preprocessing layers of a model.

    Args:
        layers: all layers, in the model's order.
        first: the name of the network's first layer.

    Raises:
        WeightsError: one of them is not in front of the network, or its numbers are not those of
            the channels; it is named.
    """
    factor, summand = np.ones(1), np.zeros(1)
    where = ""
    begun = False
    for layer in layers:
        begun = begun or layer.name == first
        if layer.kind not in FRONT:
            continue
        where = f"layer {layer.name} ({layer.kind})"
        if begun or (isinstance(layer.inbound, list) and len(layer.inbound) > 1):
            raise WeightsError(f"{where}: expected it in front of the network, applied once")
        if layer.kind == "Rescaling":
            scale = _numbers(where, layer.fields, "scale", 1.0)
            offset = _numbers(where, layer.fields, "offset", 0.0)
        else:
            scale, offset = _normalization(where, layer.fields)
        if len({len(each) for each in (factor, scale, offset)} - {1}) > 1:
            raise WeightsError(f"{where}: expected one number, or one for each channel")
        factor, summand = factor * scale, summand * scale + offset
    return Front(where, factor, summand) if where else None


def _normalization(
    where: str, fields: Mapping[str, Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give a Normalization's factor and summand."""
    if fields.get("invert") or fields.get("axis", -1) not in (-1, [-1], 3, [3]):
        raise WeightsError(f"{where}: expected one mean for each channel, and no inversion")
    if fields.get("mean") is None or fields.get("variance") is None:
        raise WeightsError(
            f"{where}: its mean and variance were adapted to data and are not in the model's "
            "description: save the network without it, and pass them as preprocessing="
        )
    mean, variance = (_numbers(where, fields, name, None) for name in ("mean", "variance"))
    with np.errstate(all="ignore"):  # what is not finite is refused with the whole preprocessing
        scale = 1 / np.maximum(np.sqrt(variance), _LEAST_DEVIATION)
        return scale, -mean * scale


def _numbers(where: str, fields: Mapping[str, Any], name: str, usual: Any) -> NDArray[np.float64]:
    """Give a field that is a number or a list of numbers, perhaps in lists of one."""
    value = fields.get(name, usual)
    while isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
        value = value[0]
    numbers = value if isinstance(value, list) else [value]
    plain = all(isinstance(each, (int, float)) and abs(each) < 1e300 for each in numbers)
    if not plain or not 0 < len(numbers) <= _MOST_CHANNELS:
        raise WeightsError(f"{where}: expected a number or a list of them as {name}")
    return np.array(numbers, np.float64)

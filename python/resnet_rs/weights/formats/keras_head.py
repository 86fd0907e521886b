"""Reads the output function of a Keras model off the layers at its end."""

from __future__ import annotations

from collections.abc import Sequence

from ..._core import WeightsError
from ..remarks import Assumption
from .keras_layer import Layer


def output_function(layers: Sequence[Layer]) -> tuple[str | None, tuple[str, ...]]:
    """The activation of the dense layer on top, or of a layer after it.

    Args:
        layers: all layers of the model, in its order.

    Returns:
        `softmax`, `sigmoid` or `none`, or None without a dense layer; and remarks.

    Raises:
        WeightsError: the model ends in another function; its layer is named.
    """
    place = next((i for i, layer in enumerate(layers) if layer.kind == "Dense"), None)
    if place is None:
        return None, ()
    found: list[str] = []
    for layer in layers[place:]:
        function = _function_of(layer)
        if function == "linear":
            continue
        if found or function not in ("softmax", "sigmoid"):
            after = f"nothing after {found[0]}" if found else "softmax, sigmoid or linear"
            raise WeightsError(
                f"layer {layer.name}: expected {after} at the network's end, got {function!r}: "
                "save the network without it, if its scores are not needed"
            )
        found.append(function)
    if found:
        return found[0], ()
    return "none", (
        Assumption(
            f"layer {layers[place].name} ends in no activation: scores are its plain values, as "
            "Keras' predict gives them. If they are logits, pass "
            'activation="softmax", or activation="sigmoid" for one output or several labels',
            about="activation",
        ),
    )


def _function_of(layer: Layer) -> str:
    """The function that a layer applies to its result; "linear" if it applies none."""
    if layer.kind == "Softmax":
        axis = layer.fields.get("axis", -1)
        if axis not in (-1, 1, [-1], [1]):
            raise WeightsError(
                f"layer {layer.name}: expected the axis of the classes, got axis {axis}"
            )
        return "softmax"
    if layer.kind == "ReLU":
        return "relu"
    if layer.kind not in ("Dense", "Activation"):
        return "linear"
    value = layer.fields.get("activation")
    if isinstance(value, dict):
        # A function that Keras serialized as an object: {"class_name": "function", "config": NAME}.
        value = value.get("config", value.get("class_name"))
    return "linear" if value is None else str(value)[:80]

"""Compares the description of a Keras model with keras.applications' ResNet.

A whole model (`.keras`, or `.h5` from `model.save`) describes its layers in JSON. The names of the
layers do not show a changed stride or activation, so every field that the forward pass depends on
is compared.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..._core import WeightsError
from ..remarks import Note
from .keras_front import FRONT, Front, front_of
from .keras_head import output_function
from .keras_layer import Layer

EPSILON = 1.001e-5
"""keras.applications' own, which a file of weights alone does not state."""

MAX_LAYERS = 20_000

CONTAINERS = frozenset({"Functional", "Model", "Sequential"})
NETWORK = frozenset(
    {"ZeroPadding2D", "Conv2D", "BatchNormalization", "Activation", "ReLU", "MaxPooling2D", "Add"}
)
HEAD = frozenset(
    {"InputLayer", "GlobalAveragePooling2D", "GlobalMaxPooling2D", "Dense", "Flatten", "Softmax"}
)
# They do nothing at inference.
TRAINING_ONLY = frozenset(
    {"Dropout", "SpatialDropout2D", "GaussianNoise", "GaussianDropout", "AlphaDropout"}
    | {"RandomFlip", "RandomRotation", "RandomZoom", "RandomTranslation", "RandomContrast"}
    | {"RandomBrightness"}
)
# keras.applications.resnet.preprocess_input inside a functional model: three channels taken,
# stacked as BGR, and the means subtracted.
PREPROCESS = frozenset({"GetItem", "Stack"})
BGR_MEANS = (103.939, 116.779, 123.68)


@dataclass(frozen=True)
class Description:
    """The part of a model's description that its weights do not show.

    Attributes:
        layers: all layers, those of nested models in their place, in the model's order.
        epsilon: that of every batch norm.
        input_size: height and width of the model's input; None if they are free.
        activation: the output function, `softmax`, `sigmoid` or `none`; None without a dense layer.
        remarks: what the user should know.
        front: the preprocessing layers in front of the network; None without any.
        max_pool: whether the global pooling takes the largest values.
    """

    layers: tuple[Layer, ...]
    epsilon: float = EPSILON
    input_size: tuple[int, int] | None = None
    activation: str | None = None
    remarks: tuple[str, ...] = ()
    front: Front | None = None
    max_pool: bool = False

    def names(self, kind: str) -> list[str]:
        """The names of all layers of one class, in order."""
        return [layer.name for layer in self.layers if layer.kind == kind]


def parse(text: str | bytes) -> tuple[Layer, ...]:
    """Read a model's JSON.

    Raises:
        WeightsError: it is not JSON, or not a Keras model's.
    """
    try:
        model = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"the model's description is no JSON: {error}") from None
    layers = []
    waiting = [model]
    while waiting:
        item = waiting.pop()
        fields = item.get("config") if isinstance(item, dict) else None
        if not isinstance(fields, dict) or not isinstance(item.get("class_name"), str):
            raise WeightsError("the model's description is not that of a Keras model")
        name = fields.get("name", item.get("name"))
        inner = fields.get("layers")
        if item["class_name"] in CONTAINERS and isinstance(inner, list):
            waiting += reversed(inner)
        else:
            layers.append(Layer(item["class_name"], str(name), fields, item.get("inbound_nodes")))
        if len(layers) + len(waiting) > MAX_LAYERS:
            raise WeightsError("the model's description has more layers than any network")
    return tuple(layers)


def check(layers: tuple[Layer, ...], blocks: list[int]) -> Description:
    """Compare a model's layers with those of a ResNet.

    Args:
        layers: what `parse` returned.
        blocks: the number of blocks in each stage, as the weights' names say.

    Raises:
        WeightsError: a layer is not part of a ResNet, or computes something else; it is named.
    """
    _check_classes(layers)
    kinds = {layer.kind: layer.name for layer in layers}
    if kinds.keys() >= {"GlobalMaxPooling2D", "GlobalAveragePooling2D"}:
        raise WeightsError(
            f"layer {kinds['GlobalMaxPooling2D']}: expected one global pooling, and there is "
            f"{kinds['GlobalAveragePooling2D']} too"
        )
    by_name = {layer.name: layer for layer in layers}
    for name, expected in _expected_fields(blocks):
        if name not in by_name:
            raise WeightsError(f"layer {name}: not found in the model's description")
        for field, allowed in expected.items():
            value = by_name[name].fields.get(field, allowed[0])
            if value not in allowed:
                raise WeightsError(
                    f"layer {name}: expected {field} {_choice(allowed)}, got {value!r}: "
                    "this is not keras.applications' ResNet, which this reader takes"
                )
    for layer in layers:
        if layer.name.startswith("conv") and layer.kind == "Activation":
            _require(layer, "activation", "relu")
        if layer.kind == "ReLU" and (layer.fields.get("max_value") is not None):
            raise WeightsError(f"layer {layer.name}: expected a ReLU without a largest value")
    activation, remarks = output_function(layers)
    return Description(
        layers,
        _epsilon(layers),
        _input_size(layers),
        activation,
        (*_remarks(layers), *remarks),
        front=front_of(layers, "conv1_pad"),
        max_pool="GlobalMaxPooling2D" in kinds,
    )


def _check_classes(layers: tuple[Layer, ...]) -> None:
    """Refuse the first layer that no ResNet has."""
    for layer in layers:
        if layer.kind not in NETWORK | HEAD | TRAINING_ONLY | PREPROCESS | FRONT:
            raise WeightsError(
                f"layer {layer.name}: {layer.kind} is no part of a ResNet: save the network "
                "without the layers that prepare its input or add to it"
            )
    inside = [layer for layer in layers if layer.kind in PREPROCESS or _constant(layer)]
    both = next((layer for layer in layers if layer.kind in FRONT), None)
    if inside and both is not None:
        raise WeightsError(f"layer {both.name}: expected it or preprocess_input, got both")
    if inside and not _is_caffe_preprocessing(inside):
        raise WeightsError(
            f"layer {inside[0].name}: expected keras.applications.resnet.preprocess_input or "
            "nothing before the network, got another computation: save the network without it"
        )


def _expected_fields(blocks: list[int]) -> Iterator[tuple[str, dict[str, tuple[Any, ...]]]]:
    """Yield each layer that matters, with its fields' correct values; the first is the default."""
    plain = {"dilation_rate": ([1, 1],), "groups": (1,), "activation": ("linear",)}
    any_padding = ("valid", "same")  # the same for a kernel of one pixel
    yield "conv1_pad", {"padding": ([[3, 3], [3, 3]], [3, 3], 3)}
    yield "conv1_conv", {"strides": ([2, 2],), "padding": ("valid",), **plain}
    yield "pool1_pad", {"padding": ([[1, 1], [1, 1]], [1, 1], 1)}
    pool = {"pool_size": ([3, 3],), "strides": ([2, 2],), "padding": ("valid",)}
    yield "pool1_pool", pool
    for stage, count in enumerate(blocks):
        for block in range(count):
            name = f"conv{stage + 2}_block{block + 1}"
            stride = [2, 2] if stage > 0 and block == 0 else [1, 1]
            reduce = {"strides": (stride,), "padding": any_padding, **plain}
            if block == 0:
                yield f"{name}_0_conv", reduce
            yield f"{name}_1_conv", reduce
            yield f"{name}_2_conv", {"strides": ([1, 1],), "padding": ("same",), **plain}
            yield f"{name}_3_conv", {"strides": ([1, 1],), "padding": any_padding, **plain}
            yield f"{name}_add", {}
            yield f"{name}_out", {}


def _epsilon(layers: tuple[Layer, ...]) -> float:
    found: dict[float, str] = {}
    for layer in layers:
        if layer.kind == "BatchNormalization":
            epsilon = layer.fields.get("epsilon", 1e-3)  # the layer's default in Keras
            if not isinstance(epsilon, (int, float)) or not 0 < epsilon < 1:
                raise WeightsError(f"layer {layer.name}: expected an epsilon, got {epsilon!r}")
            found.setdefault(float(epsilon), layer.name)
    if len(found) > 1:
        (first, here), (second, there) = list(found.items())[:2]
        raise WeightsError(
            f"layer {there}: expected the epsilon of {here}, {first}, got {second}: "
            "this reader takes one for the whole network"
        )
    return next(iter(found), EPSILON)


def _input_size(layers: tuple[Layer, ...]) -> tuple[int, int] | None:
    """Give height and width of the first input layer, in either order of axes."""
    for layer in layers:
        # Keras 3 writes batch_shape, Keras 2 batch_input_shape.
        shape = layer.fields.get("batch_shape", layer.fields.get("batch_input_shape"))
        if layer.kind == "InputLayer" and isinstance(shape, list) and len(shape) == 4:
            sides = shape[2:] if shape[1] in (1, 3) else shape[1:3]
            if all(isinstance(side, int) and 1 <= side <= 1 << 14 for side in sides):
                return sides[0], sides[1]
            return None
    return None


def _remarks(layers: tuple[Layer, ...]) -> Iterator[str]:
    for layer in layers:
        if layer.kind == "Stack":
            yield Note("the model subtracts the means itself: here the preprocessing does")


def _constant(layer: Layer) -> list[Any]:
    """List the constants that an addition takes; most have none."""
    found = []
    if layer.kind == "Add" and isinstance(layer.inbound, list):
        for node in layer.inbound:
            arguments = node.get("args") if isinstance(node, dict) else None
            for argument in arguments if isinstance(arguments, list) else ():
                if isinstance(argument, dict) and argument.get("class_name") == "__tensor__":
                    found.append(argument.get("config"))
    return found


def _is_caffe_preprocessing(inside: list[Layer]) -> bool:
    """Report whether the layers stack channels 2, 1, 0 and subtract the means."""
    if [layer.kind for layer in inside] != ["GetItem"] * 3 + ["Stack", "Add"]:
        return False
    channels = []
    for layer in inside[:3]:
        try:
            channels.append(layer.inbound[0]["args"][1][1])
        except (LookupError, TypeError):
            return False
    value = _constant(inside[-1])[0]
    flat = value.get("value") if isinstance(value, dict) else None
    while isinstance(flat, list) and len(flat) == 1:
        flat = flat[0]
    return (
        channels == [2, 1, 0]
        and isinstance(flat, list)
        and len(flat) == 3
        and all(isinstance(number, float) for number in flat)
        # The file has them rounded to float32.
        and all(abs(a + b) < 1e-4 for a, b in zip(flat, BGR_MEANS, strict=True))
    )


def _require(layer: Layer, field: str, expected: str) -> None:
    value = layer.fields.get(field)
    if value != expected:
        raise WeightsError(f"layer {layer.name}: expected {field} {expected!r}, got {value!r}")


def _choice(allowed: tuple[Any, ...]) -> str:
    return " or ".join(repr(value) for value in allowed)

"""Descriptions of Keras models, layer by layer: what is compared, read and refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from resnet_rs import WeightsError
from resnet_rs.weights.formats.keras_front import front_of
from resnet_rs.weights.formats.keras_head import output_function
from resnet_rs.weights.formats.keras_layer import Layer
from resnet_rs.weights.formats.keras_layers import BGR_MEANS, EPSILON, MAX_LAYERS, check, parse

PLAIN = {"dilation_rate": [1, 1], "groups": 1, "activation": "linear"}
RELU = {"activation": "relu"}
NORM = {"epsilon": 1e-4}


def conv(stride: int = 1, padding: str = "valid") -> dict[str, Any]:
    return {"strides": [stride, stride], "padding": padding, **PLAIN}


def described() -> dict[str, tuple[str, dict[str, Any]]]:
    """The class and the fields of each layer, by name: two stages, of one and two blocks."""
    layers: dict[str, tuple[str, dict[str, Any]]] = {
        "image": ("InputLayer", {"batch_shape": [None, 48, 64, 3]}),
        "conv1_pad": ("ZeroPadding2D", {"padding": [[3, 3], [3, 3]]}),
        "conv1_conv": ("Conv2D", conv(2)),
        "conv1_bn": ("BatchNormalization", dict(NORM)),
        "conv1_relu": ("Activation", dict(RELU)),
        "pool1_pad": ("ZeroPadding2D", {"padding": [[1, 1], [1, 1]]}),
        "pool1_pool": (
            "MaxPooling2D",
            {"pool_size": [3, 3], "strides": [2, 2], "padding": "valid"},
        ),
    }
    for name, stride in (("conv2_block1", 1), ("conv3_block1", 2), ("conv3_block2", 1)):
        if name.endswith("1"):
            layers[f"{name}_0_conv"] = "Conv2D", conv(stride)
            layers[f"{name}_0_bn"] = "BatchNormalization", dict(NORM)
        for part in (1, 2, 3):
            own = conv(stride) if part == 1 else conv(1, "same" if part == 2 else "valid")
            layers[f"{name}_{part}_conv"] = "Conv2D", own
            layers[f"{name}_{part}_bn"] = "BatchNormalization", dict(NORM)
        layers[f"{name}_1_relu"] = "Activation", dict(RELU)
        layers[f"{name}_add"] = "Add", {}
        layers[f"{name}_out"] = "Activation", dict(RELU)
    layers["avg_pool"] = "GlobalAveragePooling2D", {}
    layers["predictions"] = "Dense", {"activation": "linear"}
    return layers


BLOCKS = [1, 2]


def layers_of(layers: dict[str, tuple[str, dict[str, Any]]]) -> tuple[Layer, ...]:
    return tuple(
        Layer(kind, name, fields, fields.pop("inbound", None))
        for name, (kind, fields) in layers.items()
    )


def refuse(message: str, change: Callable[[dict[str, Any]], object]) -> None:
    layers = described()
    change(layers)
    with pytest.raises(WeightsError) as caught:
        check(layers_of(layers), BLOCKS)
    assert message in str(caught.value)


COMPARED = [
    (name, field)
    for name, (_, fields) in described().items()
    if name != "image" and not name.endswith("_bn")
    for field in fields
]


class TestFields:
    """Every field that a forward pass depends on."""

    def test_sound(self) -> None:
        description = check(layers_of(described()), BLOCKS)
        assert description.epsilon == 1e-4
        assert description.input_size == (48, 64)
        assert description.activation == "none"
        assert description.front is None
        assert not description.max_pool

    @pytest.mark.parametrize(("name", "field"), COMPARED)
    def test_another_value(self, name: str, field: str) -> None:
        value = "softmax" if (name, field) == ("predictions", "activation") else "tanh"
        if value == "softmax":
            layers = described()
            layers[name][1][field] = value
            assert check(layers_of(layers), BLOCKS).activation == "softmax"
        else:
            message = f"layer {name}: expected {field} "
            refuse(message, lambda layers: layers[name][1].update({field: value}))

    @pytest.mark.parametrize(
        ("name", "field", "value", "expected"),
        [
            ("conv1_pad", "padding", 2, "[[3, 3], [3, 3]] or [3, 3] or 3, got 2"),
            ("conv1_conv", "strides", [1, 1], "[2, 2], got [1, 1]"),
            ("conv1_conv", "padding", "same", "'valid', got 'same'"),
            ("conv1_conv", "groups", 2, "1, got 2"),
            ("pool1_pad", "padding", [3, 3], "[[1, 1], [1, 1]] or [1, 1] or 1, got [3, 3]"),
            ("pool1_pool", "strides", [1, 1], "[2, 2], got [1, 1]"),
            ("pool1_pool", "padding", "same", "'valid', got 'same'"),
            ("conv2_block1_0_conv", "strides", [2, 2], "[1, 1], got [2, 2]"),
            ("conv3_block1_0_conv", "strides", [1, 1], "[2, 2], got [1, 1]"),
            ("conv3_block1_3_conv", "strides", [2, 2], "[1, 1], got [2, 2]"),
            ("conv3_block2_1_conv", "strides", [2, 2], "[1, 1], got [2, 2]"),
            ("conv3_block2_2_conv", "padding", "valid", "'same', got 'valid'"),
            ("conv3_block2_1_relu", "activation", "relu6", "'relu', got 'relu6'"),
        ],
    )
    def test_nearby_values(self, name: str, field: str, value: Any, expected: str) -> None:
        message = f"layer {name}: expected {field} {expected}"
        refuse(message, lambda layers: layers[name][1].update({field: value}))

    def test_other_spellings(self) -> None:
        layers = described()
        layers["conv1_pad"][1]["padding"] = 3
        layers["pool1_pad"][1]["padding"] = [1, 1]
        layers["conv2_block1_1_conv"][1]["padding"] = "same"
        layers["conv2_block1_3_conv"][1]["padding"] = "same"
        layers["conv3_block1_0_conv"][1]["padding"] = "same"
        for name in ("conv1_conv", "pool1_pool", "conv3_block1_1_conv"):
            layers[name][1].clear()  # what is not stated is as Keras' ResNet has it
        layers["conv1_relu"] = "ReLU", {"max_value": None}
        assert check(layers_of(layers), BLOCKS).epsilon == 1e-4

    @pytest.mark.parametrize("name", ["pool1_pad", "conv2_block1_add", "conv3_block2_out"])
    def test_layer_that_is_missing(self, name: str) -> None:
        refuse(
            f"layer {name}: not found in the model's description", lambda layers: layers.pop(name)
        )

    def test_largest_value_of_a_relu(self) -> None:
        refuse(
            "layer conv1_relu: expected a ReLU without a largest value",
            lambda layers: layers.update(conv1_relu=("ReLU", {"max_value": 6.0})),
        )

    def test_two_global_poolings(self) -> None:
        refuse(
            "layer most: expected one global pooling, and there is avg_pool too",
            lambda layers: layers.update(most=("GlobalMaxPooling2D", {})),
        )

    def test_layer_of_no_resnet(self) -> None:
        refuse(
            "layer odd: Cropping2D is no part of a ResNet: save the network without",
            lambda layers: layers.update(odd=("Cropping2D", {})),
        )

    @pytest.mark.parametrize("epsilon", ["much", 0, 1, -1e-5, None])
    def test_no_epsilon(self, epsilon: Any) -> None:
        refuse(
            f"layer conv1_bn: expected an epsilon, got {epsilon!r}",
            lambda layers: layers["conv1_bn"][1].update(epsilon=epsilon),
        )

    def test_two_epsilons(self) -> None:
        """Keras' default is not the epsilon of its ResNets."""
        refuse(
            "layer conv3_block2_3_bn: expected the epsilon of conv1_bn, 0.0001, got 0.001: ",
            lambda layers: layers["conv3_block2_3_bn"][1].clear(),
        )

    def test_epsilon_that_is_not_stated(self) -> None:
        layers = described()
        for kind, fields in layers.values():
            if kind == "BatchNormalization":
                fields.clear()
        assert check(layers_of(layers), BLOCKS).epsilon == 1e-3
        layers = {name: each for name, each in layers.items() if not name.endswith("_bn")}
        assert check(layers_of(layers), BLOCKS).epsilon == EPSILON

    @pytest.mark.parametrize(
        ("field", "shape", "size"),
        [
            ("batch_shape", [None, 48, 64, 3], (48, 64)),
            ("batch_shape", [None, 48, 64, 1], (48, 64)),
            ("batch_shape", [None, 3, 48, 64], (48, 64)),
            ("batch_shape", [None, 1, 48, 64], (48, 64)),
            ("batch_input_shape", [None, 48, 64, 3], (48, 64)),
            ("batch_shape", [None, 1 << 14, 64, 3], (1 << 14, 64)),
            ("batch_shape", [None, (1 << 14) + 1, 64, 3], None),
            ("batch_shape", [None, 0, 64, 3], None),
            ("batch_shape", [None, None, None, 3], None),
            ("batch_shape", [None, "48", 64, 3], None),
            ("batch_shape", [48, 64, 3], None),
            ("shape", [None, 48, 64, 3], None),
        ],
    )
    def test_input_size(self, field: str, shape: Any, size: Any) -> None:
        layers = described()
        layers["image"] = "InputLayer", {field: shape}
        assert check(layers_of(layers), BLOCKS).input_size == size
        del layers["image"]
        assert check(layers_of(layers), BLOCKS).input_size is None

    def test_global_maximum(self) -> None:
        layers = described()
        layers["avg_pool"] = "GlobalMaxPooling2D", {}
        assert check(layers_of(layers), BLOCKS).max_pool


def taken(channel: Any) -> tuple[str, dict[str, Any]]:
    """A layer that takes one channel, as `x[..., 2]` becomes."""
    return "GetItem", {"inbound": [{"args": ["x", ["...", channel]]}]}


def plus(*numbers: Any) -> tuple[str, dict[str, Any]]:
    """A layer that adds constants."""
    constant = {"class_name": "__tensor__", "config": {"value": [[list(numbers)]]}}
    return "Add", {"inbound": [{"args": ["x", constant]}]}


def prepared(**changes: Any) -> dict[str, tuple[str, dict[str, Any]]]:
    """keras.applications' preprocess_input in front of the network."""
    front = {
        **{"a": taken(2), "b": taken(1), "c": taken(0), "stack": ("Stack", {})},
        "minus": plus(*(-mean for mean in BGR_MEANS)),
    }
    return {**front, **changes, **described()}


class TestPreprocessInput:
    """The arithmetic of preprocess_input, which the description of a model spells out."""

    def test_itself(self) -> None:
        description = check(layers_of(prepared()), BLOCKS)
        assert any("subtracts the means itself" in remark for remark in description.remarks)

    @pytest.mark.parametrize(
        "changes",
        [
            {"a": taken(0), "c": taken(2)},
            {"a": ("GetItem", {})},
            {"a": ("GetItem", {"inbound": []})},
            {"a": ("GetItem", {"inbound": [{"args": ["x"]}]})},
            {"a": ("GetItem", {"inbound": 5})},
            {"b": ("Dropout", {})},
            {"stack": ("Dropout", {})},
            {"more": taken(0)},
            {"minus": ("Add", {})},
            {"minus": plus(-103.939, -116.779, -123.0)},
            {"minus": plus(*BGR_MEANS)},
            {"minus": plus(-103.939, -116.779)},
            {"minus": plus(-103.939, -116.779, "x")},
            {"minus": plus()},
        ],
    )
    def test_other_arithmetic(self, changes: dict[str, Any]) -> None:
        with pytest.raises(WeightsError) as caught:
            check(layers_of(prepared(**changes)), BLOCKS)
        message = "layer a: expected keras.applications.resnet.preprocess_input or nothing"
        assert message in str(caught.value)

    def test_both(self) -> None:
        layers = prepared(scale=("Rescaling", {"scale": 1.0}))
        with pytest.raises(WeightsError, match="layer scale: expected it or preprocess_input, got"):
            check(layers_of(layers), BLOCKS)


class TestParse:
    """The JSON of a model."""

    @pytest.mark.parametrize(
        "text",
        [
            "[1]",
            "{}",
            '{"class_name": "Model", "config": []}',
            '{"class_name": 1, "config": {}}',
            '{"config": {"layers": []}}',
            '{"class_name": "Model", "config": {"layers": [1]}}',
        ],
    )
    def test_other_json(self, text: str) -> None:
        with pytest.raises(WeightsError, match="description is not that of a Keras model"):
            parse(text)

    @pytest.mark.parametrize("text", ["", "{", "[" * 100_000])
    def test_no_json(self, text: str) -> None:
        with pytest.raises(WeightsError, match="the model's description is no JSON"):
            parse(text)

    def test_nested_models_are_unpacked_in_order(self) -> None:
        def layer(name: str, kind: str = "Conv2D", **more: Any) -> dict[str, Any]:
            return {"class_name": kind, "config": {"name": name, **more}}

        inner = layer("inner", "Functional", layers=[layer("b"), layer("c")])
        unnamed = {"class_name": "Dense", "config": {}, "name": "d", "inbound_nodes": [1]}
        model = layer("outer", "Sequential", layers=[layer("a"), inner, unnamed])
        layers = parse(json.dumps(model))
        assert [each.name for each in layers] == ["a", "b", "c", "d"]
        assert (layers[-1].kind, layers[-1].inbound) == ("Dense", [1])

    def test_most_layers(self) -> None:
        layer = {"class_name": "Dense", "config": {}}
        model = {"class_name": "Model", "config": {"layers": [layer] * MAX_LAYERS}}
        assert len(parse(json.dumps(model))) == 20_000
        model = {"class_name": "Model", "config": {"layers": [layer] * (MAX_LAYERS + 1)}}
        with pytest.raises(WeightsError, match="more layers than any network"):
            parse(json.dumps(model))


DENSE = Layer("Dense", "classes", {"activation": "linear"})


def activation(value: Any) -> Layer:
    return Layer("Activation", "after", {"activation": value})


class TestOutput:
    """The function at the end of a network."""

    @pytest.mark.parametrize(
        ("after", "expected"),
        [
            ([], "none"),
            ([Layer("Dropout", "after", {"activation": "tanh"})], "none"),
            ([activation(None)], "none"),
            ([Layer("Activation", "after", {})], "none"),
            ([activation("softmax")], "softmax"),
            ([activation({"class_name": "function", "config": "sigmoid"})], "sigmoid"),
            ([activation({"class_name": "softmax"})], "softmax"),
            ([Layer("Softmax", "after", {})], "softmax"),
            ([Layer("Softmax", "after", {"axis": 1})], "softmax"),
            ([Layer("Softmax", "after", {"axis": [-1]})], "softmax"),
        ],
    )
    def test_functions(self, after: list[Layer], expected: str) -> None:
        found, remarks = output_function([activation("tanh"), DENSE, *after])
        assert found == expected
        assert len(remarks) == (expected == "none")
        assert all("layer classes ends in no activation" in remark for remark in remarks)

    @pytest.mark.parametrize(
        ("after", "message"),
        [
            ([Layer("Softmax", "after", {"axis": 2})], "the axis of the classes, got axis 2"),
            ([Layer("Softmax", "after", {"axis": 0})], "the axis of the classes, got axis 0"),
            (
                [Layer("ReLU", "after", {})],
                "softmax, sigmoid or linear at the network's end, got 're",
            ),
            ([activation("tanh")], "softmax, sigmoid or linear at the network's end, got 'tanh'"),
            (
                [Layer("Softmax", "first", {}), activation("sigmoid")],
                "nothing after softmax at the network's end, got 'sigmoid'",
            ),
            ([activation("x" * 100)], f"got '{'x' * 80}':"),
        ],
    )
    def test_other_functions(self, after: list[Layer], message: str) -> None:
        with pytest.raises(WeightsError) as caught:
            output_function([DENSE, *after])
        assert "layer after: expected" in str(caught.value)
        assert message in str(caught.value)

    def test_network_without_classes(self) -> None:
        assert output_function([activation("tanh")]) == (None, ())


def rescaling(scale: Any, offset: Any = 0.0, inbound: Any = None) -> Layer:
    return Layer("Rescaling", "front", {"scale": scale, "offset": offset}, inbound)


def normalization(**fields: Any) -> Layer:
    return Layer("Normalization", "front", {"mean": [1.0, 2.0], "variance": 4.0, **fields})


FIRST = Layer("ZeroPadding2D", "conv1_pad", {})


class TestFront:
    """Rescaling and Normalization before the network."""

    @pytest.mark.parametrize(
        ("layers", "factor", "summand"),
        [
            ([rescaling(2)], [2], [0]),
            ([Layer("Rescaling", "front", {})], [1], [0]),
            ([rescaling([[[2.0, 3.0]]], 1)], [2, 3], [1, 1]),
            ([rescaling(2, 1), rescaling(3, [4, 5])], [6], [7, 8]),
            ([normalization()], [0.5], [-0.5, -1]),
            ([normalization(axis=3)], [0.5], [-0.5, -1]),
            ([normalization(variance=0)], [1e7], [-1e7, -2e7]),
            ([rescaling(1.0, [0.0] * 65536)], [1], [0]),
            ([rescaling(9e299)], [9e299], [0]),
            ([rescaling(2, inbound=[1])], [2], [0]),
        ],
    )
    def test_numbers(self, layers: list[Layer], factor: Any, summand: Any) -> None:
        front = front_of([Layer("InputLayer", "image", {}), *layers, FIRST], "conv1_pad")
        assert front is not None
        assert front.where == f"layer front ({layers[-1].kind})"
        np.testing.assert_allclose(front.factor, np.broadcast_to(factor, front.factor.shape))
        np.testing.assert_allclose(
            front.summand, np.broadcast_to(summand, front.summand.shape), rtol=1e-12
        )

    @pytest.mark.parametrize(
        ("layers", "message"),
        [
            ([FIRST, rescaling(2)], "expected it in front of the network, applied once"),
            ([rescaling(2, inbound=[1, 2])], "expected it in front of the network, applied once"),
            ([rescaling([1, 2, 3]), rescaling([1, 2])], "expected one number, or one for each"),
            ([rescaling([1, 2], [1, 2, 3])], "expected one number, or one for each channel"),
            ([rescaling([])], "expected a number or a list of them as scale"),
            ([rescaling(1, [0.0] * 65537)], "expected a number or a list of them as offset"),
            ([rescaling(1e300)], "expected a number or a list of them as scale"),
            ([rescaling([[1], [2]])], "expected a number or a list of them as scale"),
            ([normalization(axis=1)], "expected one mean for each channel, and no inversion"),
            ([normalization(invert=True)], "expected one mean for each channel, and no inversion"),
            ([normalization(mean=None)], "its mean and variance were adapted to data"),
            ([normalization(variance=None)], "its mean and variance were adapted to data"),
            ([normalization(variance="x")], "expected a number or a list of them as variance"),
        ],
    )
    def test_what_is_refused(self, layers: list[Layer], message: str) -> None:
        with pytest.raises(WeightsError) as caught:
            front_of(layers, "conv1_pad")
        assert str(caught.value).startswith(f"layer front ({layers[-1].kind}): {message}")

    def test_none(self) -> None:
        assert front_of([FIRST], "conv1_pad") is None

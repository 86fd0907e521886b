"""int8 networks with layers in bf16: the bits of the definition, and the choice of the layers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_int8_core import IMAGES, VARIANTS, defined, network_of
from tiny_model import write_tiny_model

import resnet_rs
from resnet_rs import ResNet, WeightsError, _core
from resnet_rs.quantization import mixing
from resnet_rs.quantization.errors import relative_error
from resnet_rs.quantization.weights import quantized_tensors
from resnet_rs.reference import int8_layers
from resnet_rs.terminal.progress import Progress

PHOTOS = IMAGES[:3]


def tiny(directory: Path, architecture: str = "resnet50", **variant: Any) -> ResNet:
    return resnet_rs.load(write_tiny_model(directory, architecture=architecture, **variant))


def convolutions(model: ResNet) -> list[str]:
    layers = int8_layers(model.loaded.network.operations(32, 32))
    return [layer.name for layer in layers if layer.sources]


def mixed(model: ResNet, bf16: Sequence[str] = (), **options: Any) -> ResNet:
    return model.quantize(PHOTOS, method="minmax", bf16=bf16, progress=False, **options)


def error(model: ResNet, exact: ResNet) -> float:
    return relative_error([model.logits(PHOTOS)], [exact.logits(PHOTOS)])


@pytest.mark.parametrize(("architecture", "variant"), VARIANTS)
def test_every_layer_is_that_of_the_definition(
    architecture: str, variant: dict[str, Any], tmp_path: Path
) -> None:
    model = tiny(tmp_path / "weights", architecture, **variant)
    names = convolutions(model)
    for keep in (names[:1], names[1:], names[-1:], names[::2], names[1::2]):
        small = mixed(model, keep)
        assert small.config.quantization is not None
        assert small.config.quantization["bf16"] == keep
        for isa in _core.available_isas():
            network = network_of(small, isa=isa)
            for x in (PHOTOS, model.preprocess(PHOTOS)):
                expected = defined(small, x)
                found = dict(network.activations(x))
                assert list(found) == list(expected) == network.layer_names
                for name, values in expected.items():
                    assert np.array_equal(found[name], values), (keep, isa, name)


def test_the_plan_and_the_summary_say_which_layers_are_in_bf16(tmp_path: Path) -> None:
    model = tiny(tmp_path / "weights")
    small = mixed(model, ["layer2", "fc"])
    kinds = {step["name"]: step["precision"] for step in small.loaded.network.plan(1, 32, 32)}
    for name in convolutions(model):
        in_bf16 = name.startswith("layer2.") or name == "fc"
        assert kinds[name] == ("bf16" if in_bf16 else "int8"), name
    # One copy for each type that a layer asks for, and none that nobody needs.
    assert [name for name in kinds if " as " in name] == [
        "layer1.0 as bf16",
        "layer2.0 as int8",
        "layer4.0 as bf16",
    ]
    assert small.precision == "int8"
    summary = small.summary()
    rows = {row.name: row for row in summary.rows}
    assert rows["layer2.0.conv1"].precision == "bf16"
    assert rows["layer3.0.conv1"].precision == "int8"
    whole = mixed(model).summary()
    before = {row.name: row for row in whole.rows}["layer2.0.conv1"]
    assert rows["layer2.0.conv1"].activation_bytes == 2 * before.activation_bytes
    assert summary.parameter_bytes > whole.parameter_bytes


def test_it_is_the_same_after_saving_and_loading_and_from_the_reference(tmp_path: Path) -> None:
    model = tiny(tmp_path / "weights", "resnet18")
    small = mixed(model, ["layer1.0"])
    expected = small.logits(PHOTOS)
    small.save(tmp_path / "small")
    again = resnet_rs.load(tmp_path / "small")
    assert again.precision == "int8"
    assert np.array_equal(again.logits(PHOTOS), expected)
    slow = resnet_rs.load(tmp_path / "small", backend="reference")
    assert np.array_equal(slow.logits(PHOTOS), expected)
    assert slow.layer_names == again.layer_names
    maps = again.features(PHOTOS)
    for name, values in slow.features(PHOTOS).items():
        assert np.array_equal(maps[name], values), name


class TestNames:
    def test_layers_convolutions_and_stages(self, tmp_path: Path) -> None:
        model = tiny(tmp_path / "weights")
        layers = int8_layers(model.loaded.network.operations(32, 32))
        block = {"layer2.0.relu1", "layer2.0.relu2", "layer2.0"}
        assert mixing.named(layers, ["layer2"]) == block
        assert mixing.named(layers, ["layer2.0"]) == {"layer2.0"}
        assert mixing.named(layers, ["conv1", "fc"]) == {"relu", "fc"}
        assert mixing.named(layers, ["layer2.0.downsample.0"]) == {"layer2.0"}
        assert mixing.named(layers, []) == frozenset()

    @pytest.mark.parametrize("name", ["layer9", "maxpool", "layer", "", "layer2."])
    def test_others_are_refused(self, name: str, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"bf16: expected layers or stages \(relu, layer1"):
            mixed(tiny(tmp_path / "weights"), [name])

    def test_one_layer_stays_in_int8(self, tmp_path: Path) -> None:
        model = tiny(tmp_path / "weights", "resnet18")
        with pytest.raises(ValueError, match=r'precision="bf16"'):
            mixed(model, convolutions(model))

    def test_a_single_name_is_no_list(self, tmp_path: Path) -> None:
        with pytest.raises(TypeError, match="bf16"):
            mixed(tiny(tmp_path / "weights"), "fc")


class TestBudget:
    def test_the_error_is_kept_with_few_layers(self, tmp_path: Path) -> None:
        model = tiny(tmp_path / "weights")
        whole = error(mixed(model), model)
        most = 0.7 * whole
        small = mixed(model, max_error=most)
        assert small.config.quantization is not None
        kept = small.config.quantization["bf16"]
        assert 0 < len(kept) < len(convolutions(model))
        assert error(small, model) <= most * (1 + 1e-9)
        assert small.config.quantization["max_error"] == pytest.approx(most)

    def test_nothing_is_kept_for_an_error_that_int8_has(self, tmp_path: Path) -> None:
        model = tiny(tmp_path / "weights", "resnet18")
        small = mixed(model, max_error=0.5)
        assert small.config.quantization is not None
        assert "bf16" not in small.config.quantization
        assert np.array_equal(small.logits(PHOTOS), mixed(model).logits(PHOTOS))

    def test_layers_that_are_named_count(self, tmp_path: Path) -> None:
        model = tiny(tmp_path / "weights", "resnet18")
        small = mixed(model, ["layer1"], max_error=0.5)
        assert small.config.quantization is not None
        assert small.config.quantization["bf16"] == ["layer1.0.relu1", "layer1.0"]

    def test_an_error_that_bf16_exceeds(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"max_error: expected at least .*%, .*; got 0\.01%"):
            mixed(tiny(tmp_path / "weights", "resnet18"), max_error=1e-4)

    @pytest.mark.parametrize("value", [0, 1, -1, float("nan")])
    def test_errors_out_of_range(self, value: float, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="max_error"):
            mixed(tiny(tmp_path / "weights", "resnet18"), max_error=value)

    def test_an_error_that_is_no_number(self, tmp_path: Path) -> None:
        with pytest.raises(TypeError, match="max_error"):
            mixed(tiny(tmp_path / "weights", "resnet18"), max_error="1%")  # type: ignore[arg-type]

    def test_the_noisiest_layers_go_first(self, tmp_path: Path) -> None:
        """Noise is that of one layer in int8 among others in bf16; here it is made up."""
        model = tiny(tmp_path / "weights", "resnet18")
        layers = int8_layers(model.loaded.network.operations(32, 32))
        names = convolutions(model)
        # Errors add up as squares: 5, 4, 3, ... thousandths, and one of bf16 itself.
        noise = {name: (len(names) - place) / 1000 for place, name in enumerate(names)}
        exact = model.loaded.network

        class Noisy:
            def __init__(self, kept: Any) -> None:
                squares = [noise[name] ** 2 for name in names if name not in kept]
                self.error = float(np.sqrt(sum(squares) + 0.001**2))

            def logits(self, x: Any) -> Any:
                return exact.logits(x) * (1 + self.error)

        most = float(np.sqrt(sum(value**2 for value in list(noise.values())[3:]) + 0.001**2))
        found = mixing.fewest(
            layers,
            Noisy,  # type: ignore[arg-type]
            exact,
            [model.preprocess(PHOTOS[:1])],
            most=most * 1.001,
            keep=frozenset(),
            line=Progress(),
        )
        assert found == set(names[:3])


class TestFiles:
    def test_weights_take_two_bytes_where_float16_is_precise_enough(self, tmp_path: Path) -> None:
        model = tiny(tmp_path / "weights", "resnet18")
        tensors = mixed(model, ["fc", "layer1"]).loaded.tensors()
        assert tensors["layer1.0.conv1.weight"].dtype == np.float16
        assert "layer1.0.conv1.weight_scale" not in tensors
        assert "layer1.0.output_scale" in tensors  # for layer2, which reads it in int8
        assert "avgpool.output_scale" not in tensors
        assert tensors["layer2.0.conv1.weight"].dtype == np.int8

    def test_small_weights_stay_in_float32(self, tmp_path: Path) -> None:
        model = tiny(tmp_path / "weights", "resnet18")
        tensors = dict(model.loaded.tensors())
        tensors["fc.weight"] = (tensors["fc.weight"] * np.float32(1e-4)).astype(np.float32)
        config = json.dumps(model.config.as_dict())
        network = _core.Network.from_tensors(tensors, config, origin="a test")
        layers = int8_layers(network.operations(32, 32))
        from resnet_rs.quantization.statistics import gather
        from resnet_rs.quantization.weights import tensors_by_clips

        statistics = gather(network, [PHOTOS], lambda done: None)
        clips = {layer.name: 1.0 for layer in layers}
        (found,) = tensors_by_clips(layers, tensors, statistics, [clips], [1] * 3, keep={"fc"})
        assert found["fc.weight"].dtype == np.float32
        assert (found["fc.weight"].view(np.uint32) & 0xFFFF == 0).all()
        whole = quantized_tensors(layers, tensors, statistics, clips, [0] * 3, [1] * 3)
        assert whole["fc.weight"].dtype == np.int8

    @pytest.mark.parametrize(
        ("name", "change"),
        [
            ("layer1.0.conv1.weight", lambda a: a * np.float16(np.nan)),
            ("layer1.0.conv1.weight", lambda a: a.astype(np.int8)),
            ("layer1.0.conv1.weight", lambda a: a[:-1].copy()),
            ("layer1.0.conv1.bias", lambda a: a * np.float32(np.inf)),
            ("layer1.0.conv1.bias", None),
            ("layer1.0.output_scale", None),
            ("layer1.0.output_scale", lambda a: -a),
        ],
    )
    def test_damaged_tensors(self, name: str, change: Any, tmp_path: Path) -> None:
        small = mixed(tiny(tmp_path / "weights", "resnet18"), ["layer1"])
        tensors = dict(small.loaded.tensors())
        if change is None:
            del tensors[name]
        else:
            tensors[name] = change(tensors[name])
        config = json.dumps(small.config.as_dict())
        with pytest.raises(WeightsError) as caught:
            _core.Network.from_tensors(tensors, config, origin="a test")
        assert name.rsplit(".", 1)[0] in str(caught.value)

    def test_a_surplus_scale(self, tmp_path: Path) -> None:
        """One convolution of a layer with scales and one without are neither int8 nor bf16."""
        small = mixed(tiny(tmp_path / "weights", "resnet50"), ["layer2.0"])
        tensors = dict(small.loaded.tensors())
        tensors["layer2.0.downsample.0.weight_scale"] = np.ones(
            len(tensors["layer2.0.downsample.0.weight"]), np.float32
        )
        config = json.dumps(small.config.as_dict())
        with pytest.raises(WeightsError, match=r"layer2\.0\.conv3\.weight_scale"):
            _core.Network.from_tensors(tensors, config, origin="a test")

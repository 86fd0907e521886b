"""`compare_precision` and `resnet-rs compare` of int8 beside f32: what each layer loses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from test_quantization import IMAGES
from tiny_model import write_tiny_model

import resnet_rs
from resnet_rs import ResNet, compare_precision, quantization
from resnet_rs.cli import main
from resnet_rs.inspect.compare import PrecisionLayer, PrecisionLosses
from resnet_rs.inspect.compare.numbers import decibels


@pytest.fixture
def model(tmp_path: Path) -> ResNet:
    return resnet_rs.load(write_tiny_model(tmp_path / "weights"))


@pytest.fixture
def small(model: ResNet) -> ResNet:
    return model.quantize(IMAGES, method="minmax", progress=False)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    from PIL import Image

    Image.fromarray(IMAGES[0]).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


class TestRows:
    def test_every_layer_of_int8_in_order(self, model: ResNet, small: ResNet) -> None:
        told = compare_precision(small, model, IMAGES)
        assert [layer.name for layer in told.layers] == list(small.layer_names)
        assert told.images == len(IMAGES)
        assert told.precision == "int8"
        for layer in told.layers:
            assert layer.kernel is not None
            assert layer.kernel.startswith("int8_")
            assert layer.shape[0] == len(IMAGES)

    def test_noise_is_that_of_the_report(self, model: ResNet, small: ResNet) -> None:
        told = compare_precision(small, model, IMAGES)
        report = quantization.report(model, small, IMAGES, rounds=0)
        expected = {layer.name: layer.snr_db for layer in report.layers}
        assert {layer.name: layer.snr_db for layer in told.layers} == pytest.approx(expected)
        assert told.agreement == report.agreement
        assert told.relative_error == pytest.approx(report.relative_error)
        assert [one.name for one in told.worst(3)] == [one.name for one in report.worst(3)]

    def test_a_loss_is_against_the_noisiest_input(self, model: ResNet, small: ResNet) -> None:
        told = compare_precision(small, model, IMAGES)
        layers = {layer.name: layer for layer in told.layers}
        assert layers["relu"].lost_db is None
        # A block reads its last but one layer, and on the shortcut the block before.
        for name, inputs in {
            "maxpool": ["relu"],
            "layer2.0.relu2": ["layer2.0.relu1"],
            "layer3.0": ["layer3.0.relu2", "layer2.0"],
            "fc": ["avgpool"],
        }.items():
            ratios = [layers[one].snr_db for one in inputs]
            assert layers[name].lost_db == pytest.approx(min(ratios) - layers[name].snr_db)
        most = max(layer.lost_db or -99 for layer in told.layers)
        assert told.lossiest(1)[0].lost_db == most

    def test_values_beyond_the_scale_are_counted(self, model: ResNet) -> None:
        cut = model.quantize(IMAGES, method="percentile", percentile=90, progress=False)
        told = compare_precision(cut, model, IMAGES)
        layers = {layer.name: layer for layer in told.layers}
        layer = layers["layer2.0.relu1"]
        values = model.features(IMAGES, ["layer2.0.relu1"])["layer2.0.relu1"]
        scale = cut.loaded.tensors()["layer2.0.relu1.output_scale"][0]
        assert layer.scale == pytest.approx(scale)
        assert layer.clipped == pytest.approx(np.mean(values > 255 * scale))
        assert 0.05 < layer.clipped < 0.2
        assert layers["avgpool"].clipped == 0, "its 12 bits reach beyond the largest value"
        assert layers["maxpool"].scale is layers["maxpool"].clipped is None

    def test_layers_without_a_partner_are_named(self, tmp_path: Path) -> None:
        model = resnet_rs.load(write_tiny_model(tmp_path / "basic", architecture="resnet18"))
        small = model.quantize(IMAGES, method="minmax", progress=False)
        told = compare_precision(small, model, IMAGES[0])
        assert told.without_partner["layer2.0.downsample.1"] == "layer2.0"
        assert set(told.without_partner) == set(model.layer_names) - set(small.layer_names)
        assert "no layers of their own in int8: layer1.0.downsample.1 (in layer1.0), " in str(told)

    def test_pixels_and_normalised_input_give_the_same(self, model: ResNet, small: ResNet) -> None:
        pixels = compare_precision(small, model, IMAGES)
        normalised = compare_precision(small, model, model.preprocess(IMAGES))
        assert pixels == normalised

    def test_the_reference_can_be_either_side(
        self, model: ResNet, small: ResNet, tmp_path: Path
    ) -> None:
        small.save(tmp_path / "int8")
        slow = [
            resnet_rs.load(path, backend="reference")
            for path in (tmp_path / "int8", tmp_path / "weights")
        ]
        fast = compare_precision(small, model, IMAGES[:1])
        found = compare_precision(slow[0], slow[1], IMAGES[:1])
        for one, other in zip(fast.layers, found.layers, strict=True):
            assert other.kernel is None
            assert one.snr_db == pytest.approx(other.snr_db, abs=0.01)

    def test_a_model_without_classes(self, tmp_path: Path) -> None:
        model = resnet_rs.load(write_tiny_model(tmp_path / "features", num_classes=0))
        small = model.quantize(IMAGES, method="minmax", progress=False)
        told = compare_precision(small, model, IMAGES)
        assert told.agreement is None
        assert told.same_classes
        assert "relative error of the features: " in str(told)
        assert "same class" not in str(told)

    def test_decibels(self) -> None:
        one = np.ones(4, np.float32)
        assert decibels(one * np.float32(1.1), one) == pytest.approx(20, abs=1e-4)
        assert decibels(one, one) is None
        assert decibels(one, 0 * one) is None
        assert decibels(one * np.float32(np.nan), one) is None


class TestRefusals:
    def test_sides_are_checked(self, model: ResNet, small: ResNet, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="needs f32 weights, and these are int8"):
            compare_precision(model, small, IMAGES)
        with pytest.raises(ValueError, match="expects a quantised model first; this one is f32"):
            compare_precision(model, model, IMAGES)
        other = resnet_rs.load(write_tiny_model(tmp_path / "other", num_classes=7))
        with pytest.raises(ValueError, match="expected the num_classes of"):
            compare_precision(small, other, IMAGES)

    def test_compare_names_the_function(self, model: ResNet, small: ResNet) -> None:
        for sides in ((small, model), (model, small)):
            with pytest.raises(ValueError, match=r"resnet_rs\.compare_precision shows"):
                resnet_rs.compare(*sides, IMAGES)


def losses(agreement: float | None = 1.0) -> PrecisionLosses:
    layers = (
        PrecisionLayer("relu", "k8", (2, 4, 4, 8), 40.0, None, 0.01, 0.5, 0.02, 0.0),
        PrecisionLayer("layer1.0", "k8", (2, 4, 4, 8), 32.04, 7.96, 0.025, 0.5, 0.02, 0.00125),
        PrecisionLayer("fc", None, (2, 1, 1, 5), 32.06, -0.02, 0.0249, 0.5, None, None),
    )
    return PrecisionLosses("resnet50", "int8", "small", "weights", 2, layers, {}, agreement)


class TestText:
    def test_the_worst_and_the_greatest_loss_are_marked(self) -> None:
        assert str(losses(0.5)) == (
            "resnet50 in int8: small\n"
            "beside f32: weights\n"
            "2 images; the integers times their scales\n"
            "\n"
            "layer     kernel  shape          signal to noise  lost here   rel L2  clipped\n"
            "relu      k8      2 x 4 x 4 x 8          40.0 dB          -  1.0e-02   0.000%\n"
            "layer1.0  k8      2 x 4 x 4 x 8          32.0 dB     8.0 dB  2.5e-02   0.125%"
            "  <- worst, loses most\n"
            "fc        -       2 x 1 x 1 x 5          32.1 dB     0.0 dB  2.5e-02        -\n"
            "\n"
            "same class for 1 of 2 images\n"
            "relative error of the logits: 2.49%\n"
            "most noise: layer1.0 32.0 dB, fc 32.1 dB, relu 40.0 dB\n"
            "most lost from input to output: layer1.0 8.0 dB"
        )
        assert not losses(0.5).same_classes

    def test_json_has_every_field(self) -> None:
        values = json.loads(json.dumps(losses().as_dict()))
        assert values["relative_error"] == 0.0249
        assert values["layers"][1]["lost_db"] == 7.96
        assert values["layers"][0]["lost_db"] is None


class TestCommand:
    def test_int8_beside_f32_in_any_order(
        self, small: ResNet, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        small.save(tmp_path / "int8")
        int8, f32 = str(tmp_path / "int8"), str(tmp_path / "weights")
        printed = []
        for weights, against in ((int8, f32), (f32, int8)):
            command = ["compare", str(photo), "--weights", weights, "--against", against]
            assert main(command) == 0
            printed.append(capsys.readouterr().out)
        assert printed[0] == printed[1]
        assert printed[0].startswith("resnet50 in int8: int8\nbeside f32: weights\n1 image;")
        assert "<- worst" in printed[0]
        # A stated precision is that of --weights.
        assert main([*command[:3], int8, "--against", f32, "--precision", "int8"]) == 0
        assert capsys.readouterr().out == printed[0]

    def test_json(
        self, small: ResNet, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        small.save(tmp_path / "int8")
        command = ["compare", str(photo), "--weights", str(tmp_path / "int8")]
        assert main([*command, "--against", str(tmp_path / "weights"), "--format", "json"]) == 0
        values = json.loads(capsys.readouterr().out)
        assert [layer["name"] for layer in values["layers"]] == list(small.layer_names)

    def test_a_tolerance_is_of_the_logits(
        self, small: ResNet, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        small.save(tmp_path / "int8")
        command = ["compare", str(photo), "--weights", str(tmp_path / "int8")]
        command += ["--against", str(tmp_path / "weights")]
        assert main([*command, "--tolerance", "0.5"]) == 0
        assert main([*command, "--tolerance", "1e-6"]) == 1

    def test_f32_is_a_word_for_the_same_weights(
        self, small: ResNet, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        small.save(tmp_path / "int8")
        command = ["compare", str(photo), "--against", "f32", "--weights"]
        assert main([*command, str(tmp_path / "weights")]) == 0
        assert "steps agree" in capsys.readouterr().out
        assert main([*command, str(tmp_path / "int8")]) == 2
        error = capsys.readouterr().err
        assert "int8 holds int8 weights alone: give the path of the f32 weights" in error
        assert "(weights)" in error

    def test_an_image_is_needed(
        self, small: ResNet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        small.save(tmp_path / "int8")
        command = ["compare", "--weights", str(tmp_path / "int8")]
        assert main([*command, "--against", str(tmp_path / "weights")]) == 2
        assert "needs an image: give IMAGE" in capsys.readouterr().err

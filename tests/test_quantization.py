"""From an f32 model to a quantised one: the whole way, what is refused, what a copy can do."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import DEMO
from numpy.typing import NDArray
from telling_rows import assert_telling
from tiny_model import write_tiny_model

import resnet_rs
from resnet_rs import ImageError, ResNet, ResNet50, WeightsError, quantization
from resnet_rs.quantization.errors import relative_error
from resnet_rs.quantization.images import SAMPLE, CalibrationImages, spread
from resnet_rs.quantization.plot import plot_report
from resnet_rs.quantization.quantize import quantize
from resnet_rs.quantization.report import Report, report_on
from resnet_rs.quantization.trial import TRIED, best_of

LARGEST_ERROR = 0.05
"""Of the logits of a tiny random network by min-max, relative: 8 bits are 0.3 % of the largest
activation in each of some ten layers, and the roundings add up."""

IMAGES = np.random.default_rng(7).integers(0, 256, (12, 32, 32, 3), np.uint8)


@pytest.fixture
def model(tmp_path: Path) -> ResNet:
    return resnet_rs.load(write_tiny_model(tmp_path / "weights"))


def tiny(directory: Path, architecture: str = "resnet50", **variant: Any) -> ResNet:
    return resnet_rs.load(write_tiny_model(directory, architecture=architecture, **variant))


class TestQuantizing:
    @pytest.mark.parametrize(
        ("architecture", "variant"),
        [
            ("resnet18", {}),
            ("resnet50", {}),
            ("resnet50d", {}),
            ("resnet50", {"groups": 2, "width_per_group": 64}),
            ("cifar_resnet20", {"blocks": [1, 1, 1], "widths": [16, 24, 32]}),
            ("resnet18", {"shortcut": "none"}),
            ("resnet18", {"shortcut": "conv_always", "conv_bias": True}),
            ("resnet18", {"batch_norm": False}),
            ("resnet18", {"head": "global_max_pool"}),
            ("resnet18", {"last_stride": 1, "dilation": [1, 1, 1, 2]}),
        ],
    )
    def test_logits_stay_near_those_of_f32(
        self, architecture: str, variant: dict[str, Any], tmp_path: Path
    ) -> None:
        model = tiny(tmp_path / "weights", architecture, **variant)
        small = model.quantize(IMAGES, method="minmax", progress=False)
        assert type(small) is type(model)
        assert (small.precision, model.precision) == ("int8", "f32")
        expected, found = model.logits(IMAGES), small.logits(IMAGES)
        assert_telling(expected)
        assert 0 < relative_error([found], [expected]) < LARGEST_ERROR

    def test_auto_compares_methods(self, model: ResNet) -> None:
        result = quantize(model, IMAGES)
        assert tuple(result.errors) == TRIED
        assert result.method == best_of(result.errors)
        record = result.loaded.config.quantization
        assert record is not None
        assert record["method"] == result.method
        assert record["images"] == 12
        assert record["precision"] == "int8"
        assert record["relative_errors"] == pytest.approx(result.errors, rel=1e-3)

    def test_a_stated_method_tries_no_other(self, model: ResNet) -> None:
        result = quantize(model, IMAGES, "percentile", percentile=99.0)
        assert result.errors == {}
        assert result.loaded.config.quantization == {
            "precision": "int8",
            "method": "percentile",
            "images": 12,
            "version": resnet_rs.__version__,
            "percentile": 99.0,
        }

    def test_normalised_input_gives_the_same_as_pixels(self, model: ResNet) -> None:
        pixels = model.quantize(IMAGES, method="mse")
        normalised = model.quantize(model.preprocess(IMAGES), method="mse")
        assert np.array_equal(pixels.logits(IMAGES), normalised.logits(IMAGES))

    def test_a_model_without_classes_keeps_its_features(self, tmp_path: Path) -> None:
        model = resnet_rs.load(write_tiny_model(tmp_path / "weights", num_classes=0))
        small = model.quantize(IMAGES)
        assert 0 < relative_error([small.logits(IMAGES)], [model.logits(IMAGES)]) < LARGEST_ERROR
        told = quantization.report(model, small, IMAGES, rounds=0)
        assert told.agreement is None

    def test_the_demo_model_reads_all_its_photos(self) -> None:
        model = ResNet50(DEMO)
        small = model.quantize(DEMO / "photos", method="minmax", progress=False)
        photos = spread(DEMO / "photos")
        assert len(photos) == 20
        expected, found = model.logits(photos), small.logits(photos)
        assert (found.argmax(axis=1) == expected.argmax(axis=1)).all()
        assert relative_error([found], [expected]) < 0.02

    def test_the_original_is_as_before(self, model: ResNet) -> None:
        before = model.logits(IMAGES)
        model.quantize(IMAGES)
        assert model.precision == "f32"
        assert np.array_equal(model.logits(IMAGES), before)


class TestImages:
    def test_a_folder_gives_images_evenly(self, model: ResNet, tmp_path: Path) -> None:
        folder = photo_folder(tmp_path / "photos", 10)
        assert [Path(path).name for path in spread(folder, 5)] == [
            "0.png",
            "2.png",
            "4.png",
            "6.png",
            "8.png",
        ]
        small = model.quantize(folder, count=4, method="minmax")
        assert small.config.quantization is not None
        assert small.config.quantization["images"] == 4

    def test_the_sample_is_spread_over_all_images(self, model: ResNet) -> None:
        images = np.concatenate([IMAGES] * 8)
        images[:, 0, 0, 0] = np.arange(96)
        calibration = CalibrationImages(model.loaded, images)
        assert sum(map(len, calibration.batches())) == 96
        assert [int(image[0, 0, 0, 0]) for image in calibration.sample] == list(range(0, 96, 3))
        assert len(calibration.sample) == SAMPLE

    @pytest.mark.parametrize(
        ("images", "kind", "words"),
        [
            ([], ValueError, "expected at least one image; got none"),
            (IMAGES[:0], ValueError, "expected at least one image; got none"),
            (np.zeros((0, 32, 32, 3), np.float32), ValueError, "expected at least one image"),
            (np.full((3, 32, 32, 3), 9, np.uint8), ValueError, "3 image.* single colour"),
            (np.zeros((2, 32, 32, 3), np.float32), ValueError, "2 image.* single colour"),
            (np.zeros((2, 32, 32, 5), np.uint8), ValueError, "5"),
            (np.zeros((2, 3, 32, 32), np.float32), ValueError, "channels second"),
            (np.zeros((32, 32, 3), np.float32), ValueError, "Add the batch axis"),
            (np.zeros((32, 32), np.float32), ValueError, r"got shape \[32, 32\]"),
            (np.zeros((2, 64, 32, 3), np.float32), ValueError, "expected images of 32 x 32"),
            (np.zeros((2, 32, 32, 3)), TypeError, "float64"),
            (["nowhere.jpg"], FileNotFoundError, "nowhere.jpg"),
            (7, TypeError, "int"),
        ],
    )
    def test_what_calibrates_nothing_is_refused(
        self, model: ResNet, images: Any, kind: type[Exception], words: str
    ) -> None:
        with pytest.raises(kind, match=words):
            model.quantize(images, progress=False)

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_values_that_are_not_finite_are_named(self, model: ResNet, value: float) -> None:
        images = model.preprocess(IMAGES)
        images[5, 1, 2, 0] = value
        with pytest.raises(ValueError, match=f"image 5 holds {value}; expected finite values"):
            model.quantize(images)

    def test_images_that_cannot_be_read_are_left_out(self, model: ResNet, tmp_path: Path) -> None:
        folder = photo_folder(tmp_path / "photos", 6)
        whole = model.quantize(folder, method="minmax")
        (folder / "2a.png").write_bytes(b"no picture")
        (folder / "4a.jpg").symlink_to(tmp_path / "gone.jpg")
        words = r"calibration: 2 of 8 images could not be read and were left out; .*2a\.png: "
        with pytest.warns(UserWarning, match=words):
            small = model.quantize(folder, method="minmax", progress=False)
        record = small.config.quantization
        assert record is not None
        assert (record["images"], record["skipped"]) == (6, 2)
        assert np.array_equal(small.logits(IMAGES), whole.logits(IMAGES))
        result = quantize(model, folder, "minmax")
        assert [Path(one.image).name for one in result.skipped] == ["2a.png", "4a.jpg"]
        assert result.skipped[1].reason == "No such file or directory"
        assert result.images == len(result.sample) == 6
        told = quantization.report(model, small, folder, rounds=0)
        assert (told.images, told.calibration_skipped) == (6, 2)
        assert "scales by minmax from 6 images; 2 images could not be read\n" in str(told)

    def test_the_first_bad_image_can_end_it(self, model: ResNet, tmp_path: Path) -> None:
        folder = photo_folder(tmp_path / "photos", 2)
        (folder / "1a.png").write_bytes(b"no picture")
        with pytest.raises(ImageError, match=r"1a\.png"):
            model.quantize(folder, on_error="raise")
        with pytest.raises(ValueError, match="on_error"):
            model.quantize(folder, on_error="ignore")

    def test_a_subfolder_that_cannot_be_read_is_left_out(
        self, model: ResNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = photo_folder(tmp_path / "photos", 2)
        (folder / "locked").mkdir()
        plain = os.scandir

        def scandir(path: str) -> Any:
            if str(path).endswith("locked"):
                raise PermissionError(13, "Permission denied", path)
            return plain(path)

        monkeypatch.setattr(os, "scandir", scandir)
        calibration = CalibrationImages(model.loaded, folder)
        assert sum(map(len, calibration.batches())) == calibration.used == 2
        assert [one.reason for one in calibration.skipped] == ["Permission denied"]
        with pytest.raises(PermissionError):
            CalibrationImages(model.loaded, folder, on_error="raise")

    def test_things_that_are_no_images_are_never_left_out(self, model: ResNet) -> None:
        with pytest.raises(TypeError, match="int"):
            model.quantize([IMAGES[0], 7])

    def test_an_empty_folder_is_refused(self, model: ResNet, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        with pytest.raises(ValueError, match="empty: expected images to calibrate with"):
            model.quantize(tmp_path / "empty")

    def test_layers_that_overflow_are_named(self, tmp_path: Path) -> None:
        model = tiny(tmp_path / "weights", "resnet18")
        tensors = model.loaded.tensors()
        scaled = {
            name: array * np.float32(1e30) if name.endswith("conv1.weight") else array
            for name, array in tensors.items()
        }
        loud = resnet_rs.load(
            _file(tmp_path / "loud.safetensors", scaled), config=model.config.as_dict()
        )
        with pytest.raises(ValueError, match=r"layer .* gives values that are not finite for"):
            loud.quantize(IMAGES)

    @pytest.mark.parametrize(
        ("options", "kind", "words"),
        [
            ({"method": "best"}, ValueError, "auto, minmax, percentile, mse, kl; got 'best'"),
            ({"percentile": 0}, ValueError, "more than 0, at most 100; got 0"),
            ({"percentile": 100.5}, ValueError, "at most 100; got 100.5"),
            ({"percentile": "99"}, TypeError, "percentile: expected a number"),
            ({"progress": 5}, TypeError, "progress"),
        ],
    )
    def test_options_are_checked(
        self, model: ResNet, options: dict[str, Any], kind: type[Exception], words: str
    ) -> None:
        with pytest.raises(kind, match=words):
            model.quantize(IMAGES, **options)


class TestQuantized:
    """A quantised model in use: what it can do, and what it refuses."""

    @pytest.fixture
    def small(self, model: ResNet) -> ResNet:
        return model.quantize(IMAGES, method="minmax", progress=False)

    def test_it_shows_its_precision(self, small: ResNet) -> None:
        assert "precision='int8'" in repr(small)
        assert "quantization={'precision': 'int8'" in repr(small.config)
        assert small.config.as_dict()["format_version"] == 2

    def test_an_f32_model_has_no_record(self, model: ResNet) -> None:
        assert "precision='f32'" in repr(model)
        assert "quantization" not in repr(model.config)
        fields = model.config.as_dict()
        assert fields["format_version"] == 1
        assert "quantization" not in fields

    def test_its_summary_has_the_sizes_of_int8(self, model: ResNet, small: ResNet) -> None:
        before, after = model.summary(), small.summary()
        assert str(after).startswith("resnet50, one image of 32 x 32, int8\n")
        assert "int8_conv" in str(after)
        precisions = {row.precision for row in after.rows if row.kernel is not None}
        assert (after.precision, precisions) == ("int8", {"int8"})
        assert {row.precision for row in before.rows} == {"f32", None}
        assert "None" not in str(after)
        sizes = {row.name: row.activation_bytes for row in after.rows}
        assert sizes["layer1.0"] == 16 * 8 * 8
        assert (sizes["avgpool"], sizes["fc"]) == (2 * 64, 4 * 5)
        assert after.parameters == before.parameters
        tensors = small.loaded.tensors()
        scales = [name for name in tensors if name.endswith("output_scale")]
        # A shortcut's convolution has no bias of its own.
        stored = sum(tensor.nbytes for tensor in tensors.values()) - 4 * len(scales)
        shortcuts = [name for name in tensors if name.endswith("downsample.0.weight_scale")]
        assert after.parameter_bytes == stored + sum(tensors[name].nbytes for name in shortcuts)

    def test_its_profile_says_the_precision_of_every_layer(
        self, model: ResNet, small: ResNet
    ) -> None:
        for one, peak in ((model, "GFLOP/s in f32, "), (small, "GFLOP/s in int8, ")):
            profile = one.profile(IMAGES[:1], rounds=1)
            assert profile.precision == one.precision
            assert {row.precision for row in profile.rows} == {one.precision}
            kernels = {row.kernel for row in profile.rows if row.macs}
            assert all(kernel.startswith(f"{one.precision}_conv_") for kernel in kernels)
            head = str(profile).splitlines()
            assert head[0].startswith(f"batch 1, 32 x 32, {one.precision}, {one.isa}, ")
            assert peak in head[2]

    def test_it_is_saved_and_loaded(self, small: ResNet, tmp_path: Path) -> None:
        small.save(tmp_path / "int8")
        names = sorted(path.name for path in (tmp_path / "int8").iterdir())
        assert names == ["config.json", "model.safetensors"]
        config = json.loads((tmp_path / "int8" / "config.json").read_text(encoding="utf-8"))
        assert config["format_version"] == 2
        assert config["quantization"]["method"] == "minmax"
        assert config["source"]["dtype"] == "int8"
        again = resnet_rs.load(tmp_path / "int8")
        assert again.precision == "int8"
        assert np.array_equal(again.logits(IMAGES), small.logits(IMAGES))
        for name, tensor in small.loaded.tensors().items():
            assert again.loaded.tensors()[name].dtype == tensor.dtype
            assert np.array_equal(again.loaded.tensors()[name], tensor)
        again.save(tmp_path / "copy")
        assert (tmp_path / "copy" / "model.safetensors").read_bytes() == (
            tmp_path / "int8" / "model.safetensors"
        ).read_bytes()

    def test_its_file_is_a_quarter_of_the_size(self, tmp_path: Path) -> None:
        model = tiny(tmp_path / "weights", widths=[32, 64, 64, 128])
        small = model.quantize(IMAGES, method="minmax")
        small.save(tmp_path / "int8")
        sizes = [
            (tmp_path / name / "model.safetensors").stat().st_size for name in ("weights", "int8")
        ]
        assert sizes[1] < 0.32 * sizes[0]

    def test_a_pickle_holds_the_weights(self, small: ResNet, tmp_path: Path) -> None:
        again = pickle.loads(pickle.dumps(small))
        assert type(again) is type(small)
        assert again.precision == "int8"
        assert np.array_equal(again.logits(IMAGES), small.logits(IMAGES))
        small.save(tmp_path / "int8")
        saved = pickle.dumps(resnet_rs.load(tmp_path / "int8"))
        assert len(saved) < 5000
        assert np.array_equal(pickle.loads(saved).logits(IMAGES), small.logits(IMAGES))

    def test_the_reference_runs_it(self, small: ResNet, tmp_path: Path) -> None:
        small.save(tmp_path / "int8")
        slow = resnet_rs.load(tmp_path / "int8", backend="reference")
        assert slow.isa == "reference"
        assert np.array_equal(slow.logits(IMAGES), small.logits(IMAGES))
        assert np.array_equal(slow.embed(IMAGES), small.embed(IMAGES))
        assert slow.layer_names == small.layer_names
        trace = slow.trace(IMAGES[0], fused=True)
        assert np.array_equal(trace["layer1.0"], small.trace(IMAGES[0], fused=True)["layer1.0"])

    def test_another_dtype_is_refused(self, small: ResNet, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="a quantised model is written as it is; got 'f16'"):
            small.save(tmp_path / "int8", dtype="f16")
        assert not (tmp_path / "int8").exists()

    def test_what_needs_f32_says_so(self, small: ResNet, tmp_path: Path) -> None:
        needs = "needs f32 weights, and these are int8: load those that they were made of"
        for call in (
            lambda: small.quantize(IMAGES),
            lambda: small.trace(IMAGES[0]),
            lambda: small.trace_gradients(IMAGES, [0] * 12),
            lambda: small.export_onnx(tmp_path / "model.onnx"),
            lambda: resnet_rs.compare(small, small, IMAGES[0]),
            lambda: resnet_rs.Trainer(small),
        ):
            with pytest.raises(ValueError, match=needs):
                call()

    def test_its_file_needs_its_config(self, small: ResNet, tmp_path: Path) -> None:
        small.save(tmp_path / "int8")
        file = tmp_path / "int8" / "model.safetensors"
        with pytest.raises(WeightsError, match=r"bytes.*depend on their config\.json"):
            resnet_rs.load(file.read_bytes(), architecture="resnet50")
        (tmp_path / "int8" / "config.json").unlink()
        with pytest.raises(WeightsError, match=r"depend on their config\.json, and there is none"):
            resnet_rs.load(file, architecture="resnet50")

    def test_the_class_accepts_its_own_architecture_only(
        self, small: ResNet, tmp_path: Path
    ) -> None:
        small.save(tmp_path / "int8")
        assert ResNet50(tmp_path / "int8").precision == "int8"
        with pytest.raises(WeightsError, match="ResNet18 takes the weights of resnet18"):
            resnet_rs.ResNet18(tmp_path / "int8")


class TestPrecision:
    def test_it_must_be_that_of_the_weights(self, model: ResNet, tmp_path: Path) -> None:
        model.quantize(IMAGES, method="minmax").save(tmp_path / "int8")
        assert resnet_rs.load(tmp_path / "int8", precision="int8").precision == "int8"
        for weights, precision in (("weights", "int8"), ("int8", "f32")):
            with pytest.raises(WeightsError, match=precision):
                resnet_rs.load(tmp_path / weights, precision=precision)

    def test_only_known_ones_are_taken(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="precision"):
            resnet_rs.load(tmp_path, precision="int4")

    def test_nothing_is_passed_to_a_core_unless_it_is_stated(self) -> None:
        from resnet_rs.options import Options

        assert "precision" not in Options("weights").for_core()
        assert Options("weights", precision="f32").for_core()["precision"] == "f32"


class TestReport:
    def test_it_has_the_noise_of_every_layer(self, model: ResNet) -> None:
        small = model.quantize(IMAGES, method="minmax")
        told = quantization.report(model, small, IMAGES, rounds=0)
        assert [layer.name for layer in told.layers] == list(small.layer_names)
        expected = model.features(IMAGES, ["layer1.0"])["layer1.0"].astype(np.float64)
        found = small.features(IMAGES, ["layer1.0"])["layer1.0"]
        noise = np.square(found - expected).sum()
        (layer,) = (layer for layer in told.layers if layer.name == "layer1.0")
        assert layer.snr_db == pytest.approx(10 * np.log10(np.square(expected).sum() / noise))
        assert 15 < layer.snr_db < 80
        assert told.worst(3) == sorted(told.layers, key=lambda one: one.snr_db or 0.0)[:3]
        assert told.relative_error == pytest.approx(
            relative_error([small.logits(IMAGES)], [model.logits(IMAGES)])
        )
        assert told.agreement == np.mean(
            model.logits(IMAGES).argmax(axis=1) == small.logits(IMAGES).argmax(axis=1)
        )
        assert told.images == 12
        assert told.speedup is None

    def test_speed_is_measured_if_asked_for(self, model: ResNet) -> None:
        small = model.quantize(IMAGES, method="minmax")
        told = report_on(model, small, [IMAGES[:1]], rounds=2)
        assert told.seconds_before is not None
        assert told.seconds_after is not None
        assert told.speedup == told.seconds_before / told.seconds_after
        assert "times as " in told.text()

    def test_a_processor_on_which_int8_is_slower(self) -> None:
        told = Report("resnet50", "mse", 300, 32, 1.0, 0.01, (), 102, 26, 0.02, 0.03)
        assert "20.0 -> 30.0 ms, 1.5 times as slow\n  int8 is slower than f32" in told.text()
        assert told.speedup == pytest.approx(2 / 3)

    def test_text_json_and_picture(self, tmp_path: Path) -> None:
        told = Report(
            architecture="resnet50",
            method="mse",
            calibration_images=300,
            images=32,
            agreement=0.96875,
            relative_error=0.0123,
            layers=(
                quantization.LayerError("relu", 41.26),
                quantization.LayerError("layer1.0", 30.0),
                quantization.LayerError("fc", None),
            ),
            bytes_before=102_000_000,
            bytes_after=25_500_000,
            seconds_before=0.040,
            seconds_after=0.016,
        )
        assert str(told) == (
            "resnet50 in int8, scales by mse from 300 images\n"
            "compared with f32 on 32 images:\n"
            "  same class      96.9%\n"
            "  relative error  1.23% of the logits\n"
            "  size            102.0 -> 25.5 MB, 4.0 times as small\n"
            "  an image        40.0 -> 16.0 ms, 2.5 times as fast\n"
            "\n"
            "the layers with the most noise  signal to noise\n"
            "layer1.0                                30.0 dB\n"
            "relu                                    41.3 dB"
        )
        assert told.text(layers=True).splitlines()[-3:] == [
            "relu              41.3 dB",
            "layer1.0          30.0 dB",
            "fc                      -",
        ]
        values = json.loads(told.to_json())
        assert values["speedup"] == 2.5
        assert values["layers"][2] == {"name": "fc", "snr_db": None}
        plot_report(told, tmp_path / "noise.png")
        assert (tmp_path / "noise.png").read_bytes().startswith(b"\x89PNG")

    def test_relative_errors_of_odd_values(self) -> None:
        one, zero = np.ones((1, 2), np.float32), np.zeros((1, 2), np.float32)
        assert relative_error([one], [one]) == 0
        assert relative_error([2 * one, zero], [one, one]) == 1
        assert relative_error([zero], [zero]) == 0
        assert relative_error([one], [zero]) == np.inf
        assert relative_error([one * np.float32(np.nan)], [one]) == np.inf


def photo_folder(folder: Path, count: int) -> Path:
    from PIL import Image

    folder.mkdir()
    for place in range(count):
        Image.fromarray(IMAGES[place]).save(folder / f"{place}.png")
    return folder


def _file(path: Path, tensors: dict[str, NDArray[Any]]) -> Path:
    from resnet_rs import _core

    _core.write_safetensors(str(path), tensors, {})
    return path

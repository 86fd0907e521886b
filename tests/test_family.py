"""Every network of the family through one door: classes, `load`, overrides, heads left out."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_model import write_tiny_model

import resnet_rs
from resnet_rs import Preprocessing, ResNet, ResNet18, ResNet50, WeightsError, _core
from resnet_rs.family import CLASSES

# f32 sums of some hundred terms against the same in f64: a few times sqrt(500) * 2^-24.
F32_RTOL = 1e-5

PHOTO = np.random.default_rng(5).integers(0, 256, (40, 52, 3), np.uint8)


def relative_error(ours: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(ours - expected) / np.linalg.norm(expected))


@pytest.fixture(scope="module")
def tiny_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def tiny(tiny_dir: Path) -> ResNet:
    return resnet_rs.load(tiny_dir)


@pytest.fixture(scope="module")
def headless(tiny_dir: Path) -> ResNet:
    return resnet_rs.load(tiny_dir, num_classes=0)


@pytest.fixture
def bare(tiny_dir: Path, tmp_path: Path) -> Path:
    """The tiny weights without their config."""
    path = tmp_path / "bare.safetensors"
    path.symlink_to(tiny_dir / "model.safetensors")
    return path


class TestClasses:
    def test_there_is_one_for_every_architecture(self) -> None:
        assert set(CLASSES) == set(_core.architectures())
        for architecture, cls in CLASSES.items():
            assert cls.architecture == architecture
            assert getattr(resnet_rs, cls.__name__) is cls
            assert cls.__name__ in resnet_rs.__all__
            assert cls.__name__.lower().replace("_", "") == architecture.replace("_", "")

    @pytest.mark.parametrize("architecture", _core.architectures())
    def test_load_returns_the_class_of_the_config(self, architecture: str, tmp_path: Path) -> None:
        # A ResNeXt's inner convolutions have a sixteenth of the planes in each group.
        write_tiny_model(tmp_path, architecture=architecture, widths=[16] * 4)
        model = resnet_rs.load(tmp_path)
        assert type(model) is CLASSES[architecture]
        assert model.config.architecture == architecture
        assert np.isfinite(model.logits(PHOTO)).all()
        np.testing.assert_array_equal(
            CLASSES[architecture](tmp_path).logits(PHOTO), model.logits(PHOTO)
        )

    def test_base_class_takes_any(self, tiny_dir: Path, tiny: ResNet) -> None:
        model = ResNet(tiny_dir)
        assert type(model) is ResNet
        assert "architecture='resnet50'" in repr(model)
        np.testing.assert_array_equal(model.logits(PHOTO), tiny.logits(PHOTO))

    def test_another_architecture_is_refused_with_both_names(self, tiny_dir: Path) -> None:
        with pytest.raises(WeightsError, match=r"ResNet18 .*of resnet18, .*of resnet50: use ResN"):
            ResNet18(tiny_dir)
        with pytest.raises(WeightsError, match=r"architecture: ResNet50 .*resnet18"):
            ResNet50(tiny_dir, architecture="resnet18")

    def test_unknown_architecture_lists_those_there_are(
        self, tiny_dir: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(WeightsError, match=r"resnet18, .*wide_resnet101_2.*vgg16"):
            resnet_rs.load(tiny_dir, architecture="vgg16")


class TestBareFile:
    def test_load_asks_for_the_architecture(self, bare: Path) -> None:
        with pytest.raises(ValueError, match="architecture=") as caught:
            resnet_rs.load(bare)
        assert str(bare) in str(caught.value)

    def test_full_network_lists_what_its_shapes_allow(self, demo_dir: Path, tmp_path: Path) -> None:
        path = tmp_path / "bare.safetensors"
        path.symlink_to(demo_dir / "model.safetensors")
        with pytest.raises(ValueError, match="resnet50"):
            resnet_rs.load(path)

    def test_stated_architecture_loads_and_warns_of_the_preset(
        self, bare: Path, tiny: ResNet
    ) -> None:
        fields = {"widths": [4, 8, 8, 16], "blocks": [1, 1, 1, 1]}
        with pytest.warns(UserWarning, match="IMAGENET1K_V2") as caught:
            model = resnet_rs.load(bare, architecture="resnet50", variant=fields)
        assert [warning.filename for warning in caught] == [__file__]
        assert type(model) is ResNet50
        # Algorithms are chosen for the preset's input size, so the last bits may differ.
        x = tiny.preprocess(PHOTO)
        assert relative_error(model.forward(x), tiny.forward(x)) < F32_RTOL

    def test_stated_preprocessing_is_quiet(self, bare: Path, tiny: ResNet) -> None:
        fields = {"widths": [4, 8, 8, 16], "blocks": [1, 1, 1, 1]}
        spec = tiny.config.preprocessing
        model = ResNet50(bare, variant=fields, preprocessing=spec, labels=tiny.labels)
        assert model.predict(PHOTO) == tiny.predict(PHOTO)


class TestOverrides:
    def test_labels(self, tiny_dir: Path) -> None:
        model = resnet_rs.load(tiny_dir, labels=list("abcde"))
        assert model.labels == model.config.labels == tuple("abcde")
        with pytest.raises(WeightsError, match="labels"):
            resnet_rs.load(tiny_dir, labels=["a"])

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ({"crop": 24}, (32, 24, "bilinear")),
            ({"resize": (40, 36), "crop": None}, ((40, 36), None, "bilinear")),
            ({"interpolation": "bicubic"}, (32, 32, "bicubic")),
            ("IMAGENET1K_V1", (256, 224, "bilinear")),
            ("IMAGENET1K_V2", (232, 224, "bilinear")),
            (
                Preprocessing(48, 40, "lanczos", (0.5,) * 3, (0.5,) * 3),
                (48, 40, "lanczos"),
            ),
        ],
        ids=str,
    )
    def test_preprocessing(self, given: Any, expected: tuple[Any, ...], tiny_dir: Path) -> None:
        spec = resnet_rs.load(tiny_dir, preprocessing=given).config.preprocessing
        assert (spec.resize, spec.crop, spec.interpolation) == expected

    def test_the_v1_that_resizes_as_v2(self, tmp_path: Path) -> None:
        write_tiny_model(tmp_path, architecture="resnext101_64x4d", widths=[16] * 4)
        model = resnet_rs.ResNeXt101_64x4d(
            tmp_path, architecture="resnext101_64x4d", preprocessing="IMAGENET1K_V1"
        )
        assert model.config.preprocessing.resize == 232
        model = resnet_rs.ResNeXt101_64x4d(tmp_path, preprocessing="IMAGENET1K_V1")
        assert model.config.preprocessing.resize == 232

    def test_variant(self, tiny_dir: Path, tiny: ResNet) -> None:
        model = resnet_rs.load(tiny_dir, variant={"norm_epsilon": 0.5})
        assert model.config.variant["norm_epsilon"] == 0.5
        assert model.config.variant["widths"] == tiny.config.variant["widths"]
        assert relative_error(model.logits(PHOTO), tiny.logits(PHOTO)) > 0.01

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"architecture": 50}, TypeError, "architecture must be a str"),
            ({"variant": "d"}, TypeError, "variant must be a dict"),
            ({"variant": {1: 2}}, TypeError, "a key of variant"),
            ({"num_classes": -1}, ValueError, "num_classes must be at least 0"),
            ({"num_classes": 1.5}, TypeError, "num_classes must be an int"),
            ({"labels": "abcde"}, TypeError, "labels must be a list of str"),
            ({"labels": [1, 2]}, TypeError, r"labels\[0\] must be a str"),
            ({"labels": 5}, TypeError, "labels must be a list of str"),
            ({"preprocessing": "IMAGENET"}, ValueError, "IMAGENET1K_V1, IMAGENET1K_V2, CIFAR10"),
            ({"preprocessing": 224}, TypeError, "preprocessing must be a dict"),
            ({"preprocessing": {"size": 3}}, WeightsError, "size"),
            ({"config": "resnet50"}, TypeError, "config must be a dict"),
            ({"names": 3}, TypeError, "names must be a path"),
            ({"key": 3}, TypeError, "key must be a str"),
            ({"backend": "torch"}, ValueError, "'fast', 'reference'"),
            ({"backend": None}, TypeError, "'fast', 'reference'"),
            ({"num_classes": 7}, WeightsError, "7"),
        ],
        ids=str,
    )
    def test_bad_argument_is_named(
        self, arguments: dict[str, Any], error: type[Exception], message: str, tiny_dir: Path
    ) -> None:
        for construct in (ResNet50, resnet_rs.load):
            with pytest.raises(error, match=message):
                construct(tiny_dir, **arguments)

    def test_numpy_values_are_welcome(self, tiny_dir: Path) -> None:
        model = resnet_rs.load(
            tiny_dir,
            variant={"blocks": np.ones(4, int)},
            num_classes=np.int64(5),
            preprocessing={"mean": np.full(3, 0.5), "crop": np.int32(24)},
        )
        assert model.config.preprocessing.mean == (0.5, 0.5, 0.5)


class TestWithoutClasses:
    def test_logits_are_the_pooled_features(self, headless: ResNet, tiny: ResNet) -> None:
        expected = tiny.embed([PHOTO, PHOTO[::-1]])
        np.testing.assert_array_equal(headless.logits([PHOTO, PHOTO[::-1]]), expected)
        np.testing.assert_array_equal(headless.logits(PHOTO), expected[0])
        x = headless.preprocess(PHOTO)
        np.testing.assert_array_equal(headless.forward(x), expected[:1])
        np.testing.assert_array_equal(headless.embed(PHOTO), expected[0])
        assert headless.logits([]).shape == (0, expected.shape[1])

    def test_it_has_no_labels(self, headless: ResNet) -> None:
        assert (headless.config.num_classes, headless.labels) == (0, ())
        assert "fc.weight" not in headless.loaded.tensors()

    @pytest.mark.parametrize("call", ["predict", "probabilities"])
    def test_predictions_are_refused(self, call: str, headless: ResNet) -> None:
        with pytest.raises(ValueError, match=r"no classes .*embed\(\)"):
            getattr(headless, call)(PHOTO)


class TestPretrained:
    def test_what_is_fetched_is_loaded(
        self, tiny_dir: Path, tiny: ResNet, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from resnet_rs.weights import pretrained

        asked: list[Any] = []

        def fetch(name: str, **options: Any) -> pretrained.PretrainedFile:
            asked.append((name, options))
            return pretrained.PretrainedFile(tiny_dir, {})

        monkeypatch.setattr(pretrained, "fetch", fetch)
        model = ResNet50.from_pretrained("IMAGENET1K_V2", offline=True, labels=list("abcde"))
        assert type(model) is ResNet50
        assert model.labels == tuple("abcde")
        np.testing.assert_array_equal(model.logits(PHOTO), tiny.logits(PHOTO))
        options = {"cache_dir": None, "offline": True, "progress": True}
        assert asked == [("IMAGENET1K_V2", {"architecture": "resnet50", **options})]


class TestInside:
    """The methods lead to their modules; the modules have tests of their own."""

    def test_trace(self, tiny: ResNet) -> None:
        trace = tiny.trace(PHOTO)
        assert {"conv1", "bn1", "layer1.0.add", "fc"} <= set(trace)
        assert set(tiny.trace(PHOTO, fused=True)) == set(tiny.layer_names)
        logits = trace["fc"].reshape(-1)
        assert relative_error(logits, tiny.logits(PHOTO)) < F32_RTOL

    def test_summary(self, tiny: ResNet) -> None:
        assert f"{tiny.loaded.network.num_parameters:,} parameters" in str(tiny.summary(64))

    def test_stream(self, tiny: ResNet) -> None:
        with tiny.stream([PHOTO, PHOTO[::-1]], top_k=2) as results:
            found = [result.predictions for result in results]
        assert found == tiny.predict([PHOTO, PHOTO[::-1]], top_k=2)


class TestImport:
    def test_brings_nothing_that_it_does_not_need(self) -> None:
        script = """if True:
            import sys
            import numpy
            before = set(sys.modules)
            import resnet_rs
            print(*sorted(set(sys.modules) - before))
        """
        result = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True
        )
        new = result.stdout.split()
        assert "resnet_rs.model" in new
        heavy = ("PIL", "json", "urllib", "http", "pathlib", "hashlib", "multiprocessing", "torch")
        ours = (
            "weights.formats",
            "weights.pretrained",
            "weights.pickling",
            "reference",
            "stream",
            "inspect.trace",
            "inspect.profile",
            "inspect.compare",
            "inspect.pictures",
            "bench",
            "cli",
        )
        for name in (*heavy, *(f"resnet_rs.{name}" for name in ours)):
            assert not any(one == name or one.startswith(f"{name}.") for one in new), name

    def test_compare_is_found_when_it_is_asked_for(self) -> None:
        assert callable(resnet_rs.compare)
        with pytest.raises(AttributeError, match="no attribute 'compute'"):
            resnet_rs.compute  # noqa: B018


def test_no_warning_comes_from_a_model_with_a_config(tiny_dir: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        resnet_rs.load(tiny_dir).predict(PHOTO)
    assert caught == []

"""The output function of a model, softmax, sigmoid or none, is that of its weights' writer."""

from __future__ import annotations

import json
import pickle
import warnings
from pathlib import Path
from typing import Any

import keras_cases
import numpy as np
import onnxruntime
import pytest
import torch
import transformers
from numpy.typing import NDArray
from onnx_cases import export
from PIL import Image
from safetensors.torch import save_file
from tiny_torch import TinyResNet, randomize
from torch import nn

import resnet_rs
from resnet_rs import ResNet, WeightsError
from resnet_rs._core import Network
from resnet_rs.cli import main
from resnet_rs.weights import formats

TOLERANCE = 1e-5
VARIANT = {"blocks": [1, 2, 1, 1], "widths": [4, 8, 12, 16], "stem_widths": [4]}
SPEC = {"resize": 64, "crop": 64, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
STATED: dict[str, Any] = {"architecture": "resnet50", "variant": VARIANT, "preprocessing": SPEC}
PHOTO = np.random.default_rng(7).integers(0, 256, (64, 64, 3), np.uint8)

Scores = NDArray[np.float32]


def module_of(outputs: int) -> TinyResNet:
    """A network whose outputs spread around 0, so that no score is 0 or 1."""
    module = TinyResNet(num_classes=outputs)
    module.fc.weight.data.mul_(3)
    return module.eval()


def torch_logits(module: nn.Module) -> torch.Tensor:
    x = (torch.from_numpy(PHOTO).double() / 255 - 0.5) / 0.5
    with torch.no_grad():
        logits: torch.Tensor = module.double()(x.permute(2, 0, 1)[None])[0]
    module.float()
    return logits


FUNCTIONS = {
    "softmax": lambda logits: logits.softmax(0),
    "sigmoid": lambda logits: logits.sigmoid(),
    "none": lambda logits: logits,
}


def assert_scores(model: ResNet, expected: Scores | torch.Tensor, image: Any = PHOTO) -> None:
    """`probabilities`, `predict`, lists and streams give the expected scores, best first."""
    expected = np.asarray(expected, np.float64)
    assert len(set(expected.round(4))) == len(expected), "the case does not tell scores apart"
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(model.probabilities(image), expected, rtol=0, atol=TOLERANCE * scale)
    predictions = model.predict(image, top_k=len(expected))
    assert [each.index for each in predictions] == np.argsort(-expected).tolist()
    for each in predictions:
        assert each.score == pytest.approx(expected[each.index], abs=TOLERANCE * scale)
    assert model.predict([image, image], top_k=len(expected)) == [predictions] * 2
    assert model.predict(image, top_k=1) == predictions[:1]


def loaded(path: Path | bytes, **options: Any) -> tuple[ResNet, list[str]]:
    """Load weights; also return the warnings about the activation."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        model = resnet_rs.load(path, **options)
    messages = [str(each.message) for each in seen]
    return model, [message for message in messages if "activation" in message]


class TestStateDicts:
    @pytest.mark.parametrize("activation", ["softmax", "sigmoid", "none"])
    @pytest.mark.parametrize("ending", [".pth", ".safetensors", "bytes"])
    def test_stated(self, activation: str, ending: str, tmp_path: Path) -> None:
        module = module_of(5)
        path = tmp_path / f"x{ending}"
        if ending == ".pth":
            torch.save(module.state_dict(), path)
        else:
            save_file(module.state_dict(), path)
        weights = path.read_bytes() if ending == "bytes" else path
        model, said = loaded(weights, **STATED, activation=activation)
        assert (model.config.activation, said) == (activation, [])
        assert_scores(model, FUNCTIONS[activation](torch_logits(module)))
        again, _ = loaded(weights, **STATED, config={"activation": activation})
        assert again.predict(PHOTO) == model.predict(PHOTO)

    @pytest.mark.parametrize("ending", [".pth", ".safetensors", "bytes"])
    def test_one_output_is_a_sigmoid_that_is_said(self, ending: str, tmp_path: Path) -> None:
        module = module_of(1)
        path = tmp_path / f"x{ending}"
        if ending == ".pth":
            torch.save(module.state_dict(), path)
        else:
            save_file(module.state_dict(), path)
        weights = path.read_bytes() if ending == "bytes" else path
        model, said = loaded(weights, **STATED)
        assert model.config.activation == "sigmoid"
        assert_scores(model, FUNCTIONS["sigmoid"](torch_logits(module)))
        (warning,) = said
        assert warning.startswith(f"{model.loaded.options.origin}: there is one output")
        assert 'activation="none"' in warning
        assert any(remark in warning for remark in model.remarks)
        for activation in ("sigmoid", "none"):
            model, said = loaded(weights, **STATED, activation=activation)
            assert (model.config.activation, said) == (activation, [])
            assert_scores(model, FUNCTIONS[activation](torch_logits(module)))
        with pytest.raises(WeightsError, match=r'activation: expected "sigmoid", or "none"'):
            loaded(weights, **STATED, activation="softmax")

    def test_several_outputs_have_a_softmax_by_default(self, tmp_path: Path) -> None:
        module = module_of(2)
        torch.save(module.state_dict(), tmp_path / "x.pth")
        model, said = loaded(tmp_path / "x.pth", **STATED)
        assert (model.config.activation, said) == ("softmax", [])
        assert_scores(model, FUNCTIONS["softmax"](torch_logits(module)))

    def test_without_classes_there_is_none(self, tmp_path: Path) -> None:
        torch.save(module_of(1).state_dict(), tmp_path / "x.pth")
        for stated in ({}, {"activation": "softmax"}, {"activation": "sigmoid"}):
            model, said = loaded(tmp_path / "x.pth", **STATED, num_classes=0, **stated)
            assert (model.config.activation, said) == ("none", [])
            assert "activation" not in repr(model)

    @pytest.mark.parametrize(
        ("value", "error", "words"),
        [
            ("relu", ValueError, "activation"),
            (5, (TypeError, ValueError), "activation"),
        ],
    )
    def test_other_functions_are_refused(
        self, value: Any, error: Any, words: str, tmp_path: Path
    ) -> None:
        torch.save(module_of(5).state_dict(), tmp_path / "x.pth")
        with pytest.raises(error, match=words):
            loaded(tmp_path / "x.pth", **STATED, activation=value)
        with pytest.raises(WeightsError, match=words):
            loaded(tmp_path / "x.pth", **STATED, config={"activation": value})


class TestTransformers:
    @pytest.mark.parametrize(
        ("labels", "problem"),
        [
            *((labels, None) for labels in (1, 4)),
            (4, "single_label_classification"),
            *((labels, "multi_label_classification") for labels in (1, 4)),
            *((labels, "regression") for labels in (1, 4)),
        ],
    )
    def test_scores_are_their_pipelines(
        self, labels: int, problem: str | None, tmp_path: Path
    ) -> None:
        names = ["indoor", "cat", "night", "dog"][:labels]
        config = transformers.ResNetConfig(
            embedding_size=8,
            hidden_sizes=[16, 32],
            depths=[1, 2],
            id2label=dict(enumerate(names)),
            label2id={name: index for index, name in enumerate(names)},
            problem_type=problem,
        )
        model = transformers.ResNetForImageClassification(config)
        randomize(model)
        model.save_pretrained(tmp_path)
        processor = transformers.ConvNextImageProcessor(size={"shortest_edge": 64}, crop_pct=1.0)
        processor.save_pretrained(tmp_path)
        pipeline = transformers.pipeline("image-classification", model=str(tmp_path), device=-1)
        image = Image.fromarray(PHOTO)
        theirs = {each["label"]: each["score"] for each in pipeline(image, top_k=labels)}

        ours, said = loaded(tmp_path)
        expected = {"multi_label_classification": "sigmoid", "regression": "none"}
        usual = "softmax" if labels > 1 else "sigmoid"
        assert ours.config.activation == expected.get(problem or "", usual)
        assert_scores(ours, np.array([theirs[name] for name in names]), image)
        assert bool(said) == (labels == 1 and problem not in expected)

    def test_an_unknown_problem_is_refused(self, tmp_path: Path) -> None:
        config = {"model_type": "resnet", "problem_type": "ranking"}
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(WeightsError, match="problem_type: expected one of single_label"):
            formats.read(tmp_path)


KERAS = {
    "head-5-sigmoid": "sigmoid",
    "head-1-sigmoid": "sigmoid",
    "head-5-softmax": "softmax",
    "head-5-linear": "none",
    "head-1-linear": "none",
    "head-5-linear-sigmoid": "sigmoid",
    "head-5-linear-softmax": "softmax",
    "head-5-linear-Softmax": "softmax",
}
REFUSED = {
    "head-5-relu": "layer classes.*got 'relu'",
    "head-5-tanh": "layer classes.*got 'tanh'",
    "head-5-linear-relu": r"layer activation\w*: expected softmax, sigmoid or linear.*got 'relu'",
    "head-5-softmax-sigmoid": r"layer activation\w*: expected nothing after softmax.*'sigmoid'",
    "head-1-softmax": r"activation: expected \"sigmoid\", or \"none\"",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keras")
    keras_cases.write(folder, *KERAS, *REFUSED)
    return folder


class TestKeras:
    @pytest.mark.parametrize("ending", [".keras", ".h5"])
    @pytest.mark.parametrize("case", KERAS)
    def test_scores_are_keras(self, case: str, ending: str, files: Path) -> None:
        model, said = loaded(files / f"{case}{ending}")
        assert model.config.activation == KERAS[case]
        assert bool(said) == case.endswith("linear")
        for image, expected in zip(
            keras_cases.pixels(), np.load(files / f"{case}.npy"), strict=True
        ):
            assert_scores(model, expected, image)
        stated, said = loaded(files / f"{case}{ending}", activation="sigmoid")
        assert (stated.config.activation, said) == ("sigmoid", [])

    @pytest.mark.parametrize("ending", [".keras", ".h5"])
    @pytest.mark.parametrize("case", REFUSED)
    def test_other_functions_are_refused(self, case: str, ending: str, files: Path) -> None:
        with pytest.raises(WeightsError, match=REFUSED[case]) as error:
            loaded(files / f"{case}{ending}")
        assert str(files / f"{case}{ending}") in str(error.value)

    def test_weights_alone_do_not_state_it(self, files: Path) -> None:
        _, (warning,) = loaded(files / "head-1-sigmoid.weights.h5")
        assert "there is one output" in warning
        model, said = loaded(files / "head-5-sigmoid.weights.h5")
        assert (model.config.activation, said) == ("softmax", [])
        assert any("and the softmax are keras.applications'" in each for each in model.remarks)


class TestOnnx:
    # The exporter by dynamo takes seconds: one node of each operator.
    @pytest.mark.parametrize(
        ("mode", "outputs", "last"),
        [
            ("script", 1, nn.Sigmoid()),
            ("script", 5, nn.Sigmoid()),
            ("script", 1, nn.Softmax(1)),
            ("script", 5, nn.Softmax(1)),
            ("script", 1, nn.Softmax(-1)),
            ("script", 5, nn.Softmax(-1)),
            ("dynamo", 5, nn.Sigmoid()),
            ("dynamo", 5, nn.Softmax(-1)),
        ],
        ids=str,
    )
    def test_scores_are_the_graphs(
        self, mode: str, outputs: int, last: nn.Module, tmp_path: Path
    ) -> None:
        module = module_of(outputs)
        path = export(nn.Sequential(module, last).eval(), tmp_path / "x.onnx", mode)
        if outputs == 1 and not isinstance(last, nn.Sigmoid):
            with pytest.raises(WeightsError, match=r'activation: expected "sigmoid", or "none"'):
                loaded(path, preprocessing=SPEC)
            return
        model, said = loaded(path, preprocessing=SPEC)
        assert said == []
        x = ((PHOTO.astype(np.float32) / 255 - 0.5) / 0.5).transpose(2, 0, 1)[None]
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (expected,) = session.run(None, {session.get_inputs()[0].name: x})
        assert_scores(model, expected[0])

    def test_logits_alone(self, tmp_path: Path) -> None:
        model, said = loaded(export(module_of(5), tmp_path / "x.onnx"), preprocessing=SPEC)
        assert (model.config.activation, said) == ("softmax", [])
        model, said = loaded(export(module_of(1), tmp_path / "x.onnx"), preprocessing=SPEC)
        assert model.config.activation == "sigmoid"
        assert len(said) == 1
        module = module_of(5)
        path = export(module, tmp_path / "x.onnx")
        model, _ = loaded(path, preprocessing=SPEC, activation="none")
        assert_scores(model, torch_logits(module))

    def test_logarithms_of_a_softmax_are_said(self, tmp_path: Path) -> None:
        module = module_of(5)
        path = export(nn.Sequential(module, nn.LogSoftmax(1)).eval(), tmp_path / "x.onnx")
        with pytest.warns(UserWarning, match="ends in LogSoftmax"):
            model = resnet_rs.load(path, preprocessing=SPEC)
        assert_scores(model, FUNCTIONS["softmax"](torch_logits(module)))

    @pytest.mark.parametrize(
        "last",
        [nn.Softmax(0), nn.Tanh(), nn.ReLU(), nn.Sequential(nn.Sigmoid(), nn.Softmax(1))],
        ids=["batch", "tanh", "relu", "two"],
    )
    def test_other_functions_are_refused(self, last: nn.Module, tmp_path: Path) -> None:
        path = export(nn.Sequential(module_of(5), last).eval(), tmp_path / "x.onnx")
        with pytest.raises(WeightsError, match=r"x\.onnx: .*(Softmax|Tanh|Relu)"):
            loaded(path, preprocessing=SPEC)


@pytest.fixture(scope="module", params=["sigmoid", "none"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ResNet:
    path = tmp_path_factory.mktemp("activation") / "x.pth"
    torch.save(module_of(5).state_dict(), path)
    return resnet_rs.load(path, **STATED, activation=request.param)


class TestEveryWay:
    """The activation goes where the model goes."""

    def test_saved_converted_pickled(self, model: ResNet, tmp_path: Path) -> None:
        activation, expected = model.config.activation, model.predict(PHOTO)
        model.save(tmp_path / "saved")
        source, out = str(model.loaded.options.origin), str(tmp_path / "converted")
        stated = ["--architecture", "resnet50", "--variant", json.dumps(VARIANT)]
        sizes = ["--resize", "64", "--crop", "64", "--mean", *["0.5"] * 3, "--std", *["0.5"] * 3]
        rest = ["--interpolation", "bilinear", "--activation", activation]
        assert main(["convert", source, out, *stated, *sizes, *rest]) == 0
        for directory in (tmp_path / "saved", tmp_path / "converted"):
            assert json.loads((directory / "config.json").read_text())["activation"] == activation
            again, said = loaded(directory)
            assert (again.predict(PHOTO), said) == (expected, [])
            assert Network(str(directory)).config["activation"] == activation
        twin = pickle.loads(pickle.dumps(model))
        assert twin.predict(PHOTO) == expected
        assert f"activation={activation!r}" in repr(twin)
        assert f"activation={activation!r}" in repr(twin.config)

    def test_a_directory_with_one_output_and_nothing_stated(self, tmp_path: Path) -> None:
        path = tmp_path / "x.pth"
        torch.save(module_of(1).state_dict(), path)
        loaded(path, **STATED, activation="none")[0].save(tmp_path / "w")
        config = json.loads((tmp_path / "w" / "config.json").read_text())
        del config["activation"]
        (tmp_path / "w" / "config.json").write_text(json.dumps(config))
        again, (warning,) = loaded(tmp_path / "w")
        assert again.config.activation == "sigmoid"
        assert "there is one output" in warning
        assert loaded(tmp_path / "w", activation="none")[1] == []
        config["activation"] = "softmax"
        (tmp_path / "w" / "config.json").write_text(json.dumps(config))
        with pytest.raises(WeightsError, match=r"activation: expected \"sigmoid\", or \"none\""):
            loaded(tmp_path / "w")

    def test_views_are_averaged_after_it(self, model: ResNet) -> None:
        function = FUNCTIONS[model.config.activation]
        views = [torch.from_numpy(model.logits(x.copy())) for x in (PHOTO, PHOTO[:, ::-1])]
        expected = sum(function(view.double()) for view in views) / 2
        np.testing.assert_allclose(
            model.probabilities(PHOTO, tta="hflip"), expected, rtol=0, atol=TOLERANCE
        )
        best = model.predict(PHOTO, top_k=5, tta="hflip")
        assert [each.index for each in best] == torch.argsort(-expected).tolist()

    def test_streams_and_the_reference(self, model: ResNet, tmp_path: Path) -> None:
        path = tmp_path / "photo.png"
        Image.fromarray(PHOTO).save(path)
        expected = model.predict(PHOTO)
        (result,) = model.stream([path])
        assert result.predictions == expected
        options = {**STATED, "activation": model.config.activation, "backend": "reference"}
        slow = resnet_rs.load(model.loaded.options.origin, **options)
        for ours, theirs in zip(slow.predict(PHOTO), expected, strict=True):
            assert ours.index == theirs.index
            assert ours.score == pytest.approx(theirs.score, abs=TOLERANCE)

    def test_commands(
        self, model: ResNet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        Image.fromarray(PHOTO).save(tmp_path / "photo.png")
        model.save(tmp_path / "w")
        photo, weights = str(tmp_path / "photo.png"), str(tmp_path / "w")
        assert main(["predict", photo, "--weights", weights, "--format", "json"]) == 0
        (record,) = json.loads(capsys.readouterr().out)
        expected = model.predict(PHOTO)
        assert [each["score"] for each in record["predictions"]] == [e.score for e in expected]
        assert main(["predict", photo, "--weights", weights]) == 0
        text = capsys.readouterr().out
        shown = "%" if model.config.activation == "sigmoid" else f"{expected[0].score:.4f}"
        assert shown in text
        assert ("%" in text) == (model.config.activation == "sigmoid")
        assert main(["predict", photo, "--weights", weights, "--activation", "softmax"]) == 0
        assert "%" in capsys.readouterr().out
        assert main(["summary", "--weights", weights]) == 0
        assert f"activation {model.config.activation}" in capsys.readouterr().out
        assert model.summary().as_dict()["activation"] == model.config.activation

    def test_explain(self, model: ResNet) -> None:
        pytest.importorskip("matplotlib")
        from resnet_rs.inspect.pictures import explain

        figure = explain(model, PHOTO, top_k=5)
        texts = " ".join(t.get_text() for axes in figure.axes for t in axes.texts)
        best, *_, last = model.predict(PHOTO)
        percent = model.config.activation == "sigmoid"
        for each in (best, last):
            assert (f"{each.score:.1%}" if percent else f"{each.score:.4g}") in texts
        bars = next(axes for axes in figure.axes if len(axes.containers) > 0)
        low, high = bars.get_xlim()
        assert low <= min(0, last.score)
        assert high >= best.score

"""`write_directory` and `resnet-rs convert`: any format into a directory of ours."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras_cases
import numpy as np
import onnx_cases
import pytest
import torch
from checkpoints import TOLERANCE, assert_same_tensors
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from test_hub_directories import Logits, transformers_model
from test_text_directory import narrow
from text_directory_writer import write_text_directory
from tiny_torch import NUM_CLASSES, TinyResNet, tiny_variant

import resnet_rs
from resnet_rs import WeightsError, _core
from resnet_rs.cli import main
from resnet_rs.weights import formats
from resnet_rs.weights.formats.convert import write_directory

SPEC = {"resize": 40, "crop": 32}


@pytest.fixture(scope="module")
def module() -> TinyResNet:
    return TinyResNet()


@pytest.fixture
def source(module: TinyResNet, tmp_path: Path) -> Path:
    path = tmp_path / "net.pth"
    torch.save({"state_dict": module.state_dict()}, path)
    return path


@pytest.fixture
def checkpoint(source: Path) -> formats.Checkpoint:
    return formats.read(source, architecture="resnet50", variant=tiny_variant(), preprocessing=SPEC)


def convert(*arguments: Any) -> int:
    return main(["convert", *map(str, arguments)])


def tiny(source: Path, target: Path, *more: Any) -> int:
    """Convert a `TinyResNet`, of which everything is said but what `more` adds."""
    variant = json.dumps(tiny_variant())
    return convert(source, target, "--architecture", "resnet50", "--variant", variant, *more)


# --- write_directory


def test_what_is_written_is_what_was_read(
    checkpoint: formats.Checkpoint, module: TinyResNet, tmp_path: Path
) -> None:
    out = tmp_path / "deep" / "out"
    write_directory(checkpoint, out)
    assert sorted(path.name for path in out.iterdir()) == ["config.json", "model.safetensors"]
    assert_same_tensors(formats.read(out), module.state_dict())
    config = json.loads((out / "config.json").read_text())
    assert config["preprocessing"] == SPEC
    assert config["source"] == {
        "file": "net.pth",
        "remarks": ["took the state dict under 'state_dict'"],
        "dtype": "f32",
    }
    x = np.random.default_rng(0).standard_normal((2, 33, 47, 3), dtype=np.float32)
    direct = _core.Network.from_tensors(
        checkpoint.tensors, json.dumps(checkpoint.config), origin="here", threads=1
    )
    written = _core.Network(str(out), threads=1)
    np.testing.assert_array_equal(written.logits(x), direct.logits(x))


def test_f16_rounds_matrices_and_keeps_vectors(
    checkpoint: formats.Checkpoint, module: TinyResNet, tmp_path: Path
) -> None:
    write_directory(checkpoint, tmp_path / "out", dtype="f16")
    state = module.state_dict()
    for name, tensor in load_file(tmp_path / "out" / "model.safetensors").items():
        expected = state[name].half() if tensor.ndim > 1 else state[name]
        assert tensor.dtype == expected.dtype
        assert torch.equal(tensor, expected), name


def changed(checkpoint: formats.Checkpoint, value: float) -> formats.Checkpoint:
    weight = checkpoint.tensors["fc.weight"].copy()
    weight[1, 2] = value
    tensors = {**checkpoint.tensors, "fc.weight": weight}
    return formats.Checkpoint(tensors, checkpoint.config, "here")


@pytest.mark.parametrize(
    ("value", "dtype", "message"),
    [
        (1e6, "f16", r"here: tensor fc\.weight: not finite in f16 \(largest value 1e\+06\)"),
        (np.nan, "f32", r"here: tensor fc\.weight: not finite in f32"),
    ],
)
def test_what_is_not_finite_is_not_written(
    checkpoint: formats.Checkpoint, tmp_path: Path, value: float, dtype: str, message: str
) -> None:
    with pytest.raises(WeightsError, match=message):
        write_directory(changed(checkpoint, value), tmp_path / "out", dtype=dtype)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.pth"]


def test_weights_that_are_there_are_kept_unless_forced(
    checkpoint: formats.Checkpoint, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    write_directory(checkpoint, out)
    before = (out / "model.safetensors").read_bytes()
    with pytest.raises(FileExistsError, match=r"model\.safetensors and config\.json already"):
        write_directory(changed(checkpoint, 3.0), out)
    assert (out / "model.safetensors").read_bytes() == before
    write_directory(changed(checkpoint, 3.0), out, force=True)
    assert (out / "model.safetensors").read_bytes() != before
    assert (out / "notes.txt").read_text() == "mine"


def test_a_network_may_be_rewritten_over_itself(
    checkpoint: formats.Checkpoint, module: TinyResNet, tmp_path: Path
) -> None:
    # Its tensors are views of the mapped file that is replaced.
    write_directory(checkpoint, tmp_path / "out")
    write_directory(formats.read(tmp_path / "out"), tmp_path / "out", force=True)
    assert_same_tensors(formats.read(tmp_path / "out"), module.state_dict())


def test_nothing_is_left_where_the_written_file_does_not_load(
    checkpoint: formats.Checkpoint, tmp_path: Path
) -> None:
    wrong = formats.Checkpoint(
        checkpoint.tensors, {**checkpoint.config, "architecture": "resnet18"}, "here"
    )
    with pytest.raises(WeightsError):
        write_directory(wrong, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.pth"]


def left_out(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: tensor for name, tensor in tensors.items() if name != "fc.bias"}


def one_more(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {**tensors, "fc.more": tensors["fc.bias"]}


def one_number(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    bias = tensors["fc.bias"].copy()
    bias[-1] = np.nextafter(bias[-1], np.float32(np.inf))
    return {**tensors, "fc.bias": bias}


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (left_out, "not the tensors that were written"),
        (one_more, "not the tensors that were written"),
        (one_number, r"tensor fc\.bias is not what was written"),
    ],
)
def test_a_file_that_is_not_what_was_written_is_not_kept(
    checkpoint: formats.Checkpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]],
    message: str,
) -> None:
    """A disk or a writer that loses something is noticed before an older network is replaced."""
    out = tmp_path / "out"
    write_directory(checkpoint, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    write = _core.write_safetensors

    def write_wrongly(path: str, tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
        write(path, fault(tensors), metadata)

    monkeypatch.setattr(_core, "write_safetensors", write_wrongly)
    with pytest.raises(WeightsError, match=message):
        write_directory(changed(checkpoint, 3.0), out, force=True)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.pth", "out"]


def test_a_wrong_place_or_dtype_is_refused(
    checkpoint: formats.Checkpoint, source: Path, tmp_path: Path
) -> None:
    with pytest.raises(NotADirectoryError, match=r"net\.pth is a file"):
        write_directory(checkpoint, source)
    with pytest.raises(ValueError, match="dtype: expected f32 or f16; got 'bf16'"):
        write_directory(checkpoint, tmp_path / "out", dtype="bf16")


# --- the command


def test_a_checkpoint_is_converted(
    module: TinyResNet, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join("abcde"))
    out = tmp_path / "out"
    assert tiny(source, out, "--labels", labels, "--resize", 40, "--crop", "32x30") == 0
    model = resnet_rs.load(out, threads=1)
    assert model.labels == tuple("abcde")
    assert model.config.preprocessing.crop == (32, 30)
    said = capsys.readouterr()
    assert f"{source}: took the state dict under 'state_dict'" in said.out
    assert f"wrote {out}: resnet50, {NUM_CLASSES} classes, f32, " in said.out
    assert "images: resize 40, crop [32, 30]" in said.out
    assert said.err == ""


@pytest.mark.parametrize("names", [["2", "3", "10", "20", "100"], ["10", "100", "2", "20", "3"]])
def test_a_doubt_about_the_order_of_labels_is_told(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], names: list[str]
) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(names))
    assert tiny(source, tmp_path / "out", "--labels", labels, "--preset", "IMAGENET1K_V1") == 0
    doubt = f"{labels}: the names are numbers in their own order."
    in_order = names[0] == "2"
    assert (doubt in capsys.readouterr().out) == in_order
    assert resnet_rs.load(tmp_path / "out").labels == tuple(names)


def test_what_the_file_does_not_say_is_asked_for(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert convert(source, out) == 2
    assert "does not say which network" in capsys.readouterr().err
    assert tiny(source, out) == 2
    error = capsys.readouterr().err
    assert "--preset IMAGENET1K_V1 or IMAGENET1K_V2" in error
    assert error.count("\n") == 1
    assert tiny(source, out, "--crop", 224) == 2
    assert not out.exists()


def test_a_preset_and_what_is_laid_over_it(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert tiny(source, out, "--preset", "IMAGENET1K_V1", "--crop", "none", "--mean", 0, 0, 1) == 0
    spec = json.loads((out / "config.json").read_text())["preprocessing"]
    assert (spec["resize"], spec["crop"], spec["mean"]) == (256, None, [0, 0, 1])
    assert spec["std"] == [0.229, 0.224, 0.225]


def test_embeddings_alone_in_f16(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    options = ("--num-classes", 0, "--preset", "IMAGENET1K_V2", "--dtype", "f16")
    assert tiny(source, out, *options) == 0
    assert "no classes (embeddings alone), f16" in capsys.readouterr().out
    assert "fc.weight" not in load_file(out / "model.safetensors")


def test_a_text_directory_is_converted(tmp_path: Path) -> None:
    module = TinyResNet(blocks=(3, 4, 6, 3), stride_on_conv1=True)
    write_text_directory(tmp_path / "text", module, "resnet50")
    variant = json.dumps(narrow())
    preset = ("--preset", "IMAGENET1K_V2")
    assert convert(tmp_path / "text", tmp_path / "out", "--variant", variant, *preset) == 0
    checkpoint = formats.read(tmp_path / "out")
    assert checkpoint.config["variant"]["stride_on"] == "conv1"
    assert_same_tensors(checkpoint, module.state_dict())


def assert_gives(out: Path, x: NDArray[np.float32], expected: NDArray[Any]) -> None:
    """The directory's network turns images that are normalised already into these logits."""
    assert sorted(path.name for path in out.iterdir()) == ["config.json", "model.safetensors"]
    found = resnet_rs.load(out, threads=1).forward(x)
    assert np.linalg.norm(found - expected) <= TOLERANCE * np.linalg.norm(expected)


def test_keras_files_are_converted(tmp_path: Path) -> None:
    keras_cases.write(tmp_path, "tiny")
    for ending in (".keras", ".h5"):
        out = tmp_path / f"out{ending}"
        assert convert(tmp_path / f"tiny{ending}", out) == 0
        # Keras' own preprocessing, which the file's kind implies, is in the config.
        spec = resnet_rs.load(out, threads=1).config.preprocessing
        x = (keras_cases.pixels() / 255 - spec.mean) / spec.std
        assert_gives(out, x.astype(np.float32), np.load(tmp_path / "tiny.npy"))


def test_an_onnx_file_is_converted(tmp_path: Path) -> None:
    model = onnx_cases.variant(stride_on="conv1", conv_bias=True)
    path = onnx_cases.export(model, tmp_path / "x.onnx")
    assert convert(path, tmp_path / "out", "--preset", "IMAGENET1K_V1") == 0
    x = onnx_cases.images()
    assert_gives(tmp_path / "out", x, onnx_cases.reference(model, x))
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["preprocessing"]["resize"] == 256


def test_a_transformers_directory_is_converted(tmp_path: Path) -> None:
    model = transformers_model(downsample_in_bottleneck=True)
    model.save_pretrained(tmp_path / "hub")
    preset = ("--preset", "IMAGENET1K_V2")
    assert convert(tmp_path / "hub", tmp_path / "out", *preset) == 0
    x = onnx_cases.images()
    assert_gives(tmp_path / "out", x, onnx_cases.reference(Logits(model, "logits"), x))
    labels = resnet_rs.load(tmp_path / "out").labels
    assert labels == tuple(f"class {index}" for index in range(6))


def test_names_and_key(module: TinyResNet, tmp_path: Path) -> None:
    state = module.state_dict()
    theirs = {f"teacher.{name.replace('layer', 'stage')}": t for name, t in state.items()}
    source = tmp_path / "net.safetensors"
    save_file({**theirs, "student.x": torch.zeros(2)}, source)
    (tmp_path / "names.json").write_text(json.dumps({r"stage(.*)": r"layer\1"}))
    options = ("--names", tmp_path / "names.json", "--key", "teacher", "--preset", "IMAGENET1K_V2")
    assert tiny(source, tmp_path / "out", *options) == 0
    assert_same_tensors(formats.read(tmp_path / "out"), state)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--variant [1]", "expected a JSON object"),
        ("--variant {", "no JSON"),
        ("--resize 0", "expected pixels"),
        ("--crop 3x4x5", "expected pixels"),
        ("--resize big", "expected pixels (232), HEIGHTxWIDTH (256x192) or none; got 'big'"),
        ("--crop 3x0", "expected pixels"),
        ("--num-classes -1", "expected a whole number from 0 up"),
        ("--num-classes many", "expected a whole number from 0 up; got 'many'"),
        ("--preset V3", "invalid choice"),
    ],
)
def test_bad_options_are_refused(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: str, message: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        convert(source, tmp_path / "out", *shlex.split(options))
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_one_line(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tiny(source, source / "out", "--preset", "IMAGENET1K_V2") == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_file_that_is_not_there_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert(tmp_path / "nowhere.pth", tmp_path / "out") == 2
    assert "nowhere.pth" in capsys.readouterr().err


def test_others_may_read_what_is_written(tmp_path: Path) -> None:
    """A service often runs as another user than whoever converted its weights."""
    path = str(tmp_path / "net.safetensors")
    before = os.umask(0o022)
    try:
        _core.write_safetensors(path, {"a": np.zeros(3, np.float32)}, {})
    finally:
        os.umask(before)
    assert os.stat(path).st_mode & 0o777 == 0o644
    assert os.listdir(tmp_path) == ["net.safetensors"]

"""tools/export.py: what it writes, what it refuses, and that its check can fail."""

import json
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models import ResNet50_Weights, resnet18

from resnet_rs import ResNet50, _core, load

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))

import export
from random_resnet import random_state_dict
from safetensors_file import read_safetensors, write_safetensors
from torch_reference import build_reference, reference_activations

CLASSES = 7
SMALL = ["--resize", "36", "--crop", "32"]
"""Preprocessing that keeps the check against torch short."""


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return random_state_dict(seed=1, num_classes=CLASSES)


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "made" / "on the way" / "weights"


@pytest.fixture
def checkpoint(tmp_path):
    """Save anything as a checkpoint and give its path."""

    def save(content: object) -> str:
        path = tmp_path / "best.pth"
        torch.save(content, path)
        return str(path)

    return save


def run(*arguments: object) -> int:
    return export.main([str(argument) for argument in arguments])


def config_of(directory: Path) -> dict:
    return json.loads((directory / "config.json").read_text(encoding="utf-8"))


def assert_equal_tensors(actual: dict, expected: dict) -> None:
    assert list(actual) == list(expected)
    for name, tensor in expected.items():
        assert torch.equal(actual[name], tensor), name


# Written files


def test_random_weights_round_trip_and_pass_the_check(out, state, capsys):
    assert run("--random", 1, "--num-classes", CLASSES, *SMALL, "--out", out) == 0

    assert "relative error of the logits" in capsys.readouterr().out
    assert_equal_tensors(read_safetensors(out / "model.safetensors"), state)
    assert sorted(path.name for path in out.iterdir()) == ["config.json", "model.safetensors"]
    assert list(out.parent.iterdir()) == [out], "the staging folder is gone"


def test_random_weights_depend_on_the_seed_alone(state):
    assert_equal_tensors(random_state_dict(seed=1, num_classes=CLASSES), state)
    assert not torch.equal(random_state_dict(seed=2)["conv1.weight"], state["conv1.weight"])


def test_random_weights_keep_activations_of_order_one(state):
    x = np.random.default_rng(0).standard_normal((1, 64, 64, 3), dtype=np.float32)
    steps = reference_activations(build_reference(state), x)
    for name, values in steps.items():
        assert 0.1 < np.sqrt(np.mean(values**2)) < 10, name


def test_config_defaults_to_the_v2_preset(out):
    assert run("--random", 1, "--num-classes", CLASSES, "--no-verify", "--out", out) == 0

    config = config_of(out)
    assert config["format_version"] == 1
    assert config["architecture"] == "resnet50"
    assert config["num_classes"] == CLASSES
    assert config["labels"] is None
    assert config["preprocessing"] == {
        "resize": 232,
        "crop": 224,
        "interpolation": "bilinear",
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
    }
    assert config["source"]["random_seed"] == "1"
    assert config["source"]["torch"] == torch.__version__


def test_state_dict_with_labels_and_preprocessing_of_its_own(out, state, checkpoint, tmp_path):
    labels = tmp_path / "labels.txt"
    labels.write_text("ein\nzwei\ndrei\nvier\nfünf\nsechs\nsieben\n", encoding="utf-8")
    options = ["--labels", labels, "--resize", "40x48", "--crop", "none"]
    options += ["--interpolation", "bicubic"]
    options += ["--mean", 0.5, 0.4, 0.3, "--std", 0.25, 0.5, 1]

    assert run("--state-dict", checkpoint(state), *options, "--no-verify", "--out", out) == 0

    assert_equal_tensors(read_safetensors(out / "model.safetensors"), state)
    model = ResNet50(out)
    assert list(model.labels) == ["ein", "zwei", "drei", "vier", "fünf", "sechs", "sieben"]
    assert config_of(out)["preprocessing"] == {
        "resize": [40, 48],
        "crop": None,
        "interpolation": "bicubic",
        "mean": [0.5, 0.4, 0.3],
        "std": [0.25, 0.5, 1.0],
    }


def test_state_dict_passes_the_check_on_a_crop_that_is_not_square(out, state, checkpoint):
    options = ["--resize", 64, "--crop", "32x64"]
    assert run("--state-dict", checkpoint(state), *options, "--out", out) == 0


@pytest.mark.parametrize(
    ("wrap", "remark"),
    [
        (lambda s: {"state_dict": s, "epoch": 3}, "took the state dict under 'state_dict'"),
        (lambda s: {"model": s, "args": {"lr": 0.1}}, "took the state dict under 'model'"),
        (lambda s: {"model_state_dict": s}, "took the state dict under 'model_state_dict'"),
        (lambda s: {f"module.{k}": v for k, v in s.items()}, "stripped 'module.'"),
        (lambda s: {f"_orig_mod.{k}": v for k, v in s.items()}, "stripped '_orig_mod.'"),
        (
            lambda s: {"state_dict": {f"module._orig_mod.{k}": v for k, v in s.items()}},
            "stripped '_orig_mod.'",
        ),
    ],
    ids=["state_dict", "model", "model_state_dict", "module", "_orig_mod", "all"],
)
def test_wrapped_checkpoint_is_unwrapped_and_says_so(out, state, checkpoint, capsys, wrap, remark):
    assert run("--state-dict", checkpoint(wrap(state)), "--no-verify", "--out", out) == 0

    assert remark in capsys.readouterr().out
    assert_equal_tensors(read_safetensors(out / "model.safetensors"), state)


def test_half_precision_and_counters_of_a_checkpoint_are_accepted(out, state, checkpoint):
    half = {name: tensor.half() for name, tensor in state.items()}
    half["bn1.num_batches_tracked"] = torch.tensor(5)

    assert run("--state-dict", checkpoint(half), *SMALL, "--out", out) == 0

    del half["bn1.num_batches_tracked"]
    expected = {name: tensor.float() for name, tensor in half.items()}
    assert_equal_tensors(read_safetensors(out / "model.safetensors"), expected)


@pytest.mark.parametrize(("dtype", "stored"), [("f16", torch.float16), ("bf16", torch.bfloat16)])
def test_narrow_storage_rounds_weights_and_keeps_vectors(out, state, dtype, stored):
    arguments = ["--random", 1, "--num-classes", CLASSES, *SMALL, "--dtype", dtype, "--out", out]
    assert run(*arguments) == 0, "the check compares with the rounded weights"

    tensors = read_safetensors(out / "model.safetensors")
    expected = {k: v.to(stored) if v.ndim > 1 else v for k, v in state.items()}
    assert_equal_tensors(tensors, expected)
    assert config_of(out)["source"]["dtype"] == dtype


@pytest.mark.parametrize(
    ("name", "resize"), [("IMAGENET1K_V1", 256), ("IMAGENET1K_V2", 232), ("DEFAULT", 232)]
)
def test_torchvision_weights_bring_their_preset_and_labels(out, monkeypatch, name, resize):
    state = random_state_dict(seed=1)
    monkeypatch.setattr(ResNet50_Weights, "get_state_dict", lambda *_args, **_options: state)

    assert run("--arch", "resnet50", "--weights", name, "--no-verify", "--out", out) == 0

    config = config_of(out)
    assert config["preprocessing"]["resize"] == resize
    assert config["preprocessing"]["crop"] == 224
    assert config["labels"][134] == "crane bird"
    assert config["source"]["weights"] == ("IMAGENET1K_V2" if name == "DEFAULT" else name)


@pytest.mark.parametrize("architecture", ["resnet18", "resnet18d"])
def test_other_members_of_the_family_pass_the_check(out, checkpoint, architecture):
    state = random_state_dict(2, CLASSES, architecture)
    options = ["--architecture", architecture, *SMALL]
    assert run("--state-dict", checkpoint(state), *options, "--out", out) == 0

    assert config_of(out)["architecture"] == architecture
    assert_equal_tensors(read_safetensors(out / "model.safetensors"), state)
    assert load(out).config.architecture == architecture


def test_random_weights_of_another_member(out):
    random = ["--random", 2, "--num-classes", CLASSES, "--architecture", "resnet26"]
    assert run(*random, *SMALL, "--out", out) == 0

    expected = random_state_dict(2, CLASSES, "resnet26")
    assert_equal_tensors(read_safetensors(out / "model.safetensors"), expected)


def test_timm_weights_bring_their_architecture_and_preset(out, monkeypatch, capsys):
    import timm

    name = "resnet18d.ra2_in1k"
    made = timm.create_model(name)
    monkeypatch.setattr(timm, "create_model", lambda asked, pretrained: {name: made}[asked])

    assert run("--timm", name, "--no-verify", "--out", out) == 0

    config = config_of(out)
    assert config["architecture"] == "resnet18d"
    assert config["num_classes"] == 1000
    assert config["preprocessing"]["crop"] == 224
    assert config["preprocessing"]["resize"] == 256
    assert "pass --resize 303 --crop 288" in capsys.readouterr().out
    assert config["preprocessing"]["interpolation"] == "bicubic"
    assert config["source"]["timm"] == name
    state = {k: v for k, v in made.state_dict().items() if not k.endswith("num_batches_tracked")}
    assert_equal_tensors(read_safetensors(out / "model.safetensors"), state)


def test_safetensors_header_is_aligned_and_strides_do_not_matter(tmp_path):
    path = tmp_path / "t.safetensors"
    matrix = torch.arange(6, dtype=torch.float32).reshape(2, 3)
    for length in range(8):
        write_safetensors(path, {"t" * (1 + length): matrix.T}, {})
        raw = path.read_bytes()
        (header_bytes,) = struct.unpack_from("<Q", raw)
        assert header_bytes % 8 == 0
        assert np.frombuffer(raw[8 + header_bytes :], "<f4").tolist() == [0, 3, 1, 4, 2, 5]


def test_core_reads_what_was_written(out):
    assert run("--random", 1, "--num-classes", CLASSES, *SMALL, "--no-verify", "--out", out) == 0

    network = _core.Network(str(out))
    assert network.has_config
    assert network.num_classes == CLASSES
    assert network.config["preprocessing"]["crop"] == 32


# Refusals


def test_existing_weights_are_replaced_only_by_force(out, capsys):
    random = ["--random", 1, "--num-classes", CLASSES, "--no-verify", "--out", out]
    assert run(*random) == 0
    before = (out / "model.safetensors").read_bytes()
    (out / "notes.txt").write_text("mine")

    assert run("--random", 2, *random[2:]) == 1
    assert "--force" in capsys.readouterr().err
    assert (out / "model.safetensors").read_bytes() == before

    assert run("--random", 2, *random[2:], "--force") == 0
    assert (out / "model.safetensors").read_bytes() != before
    assert (out / "notes.txt").read_text() == "mine"


def test_failed_check_writes_nothing(out, monkeypatch, capsys):
    """Logits of a network whose stem is transposed must not pass."""
    load_reference = export.load_reference

    def transposed(directory: Path) -> torch.nn.Module:
        model = load_reference(directory)
        model.conv1.weight.data = model.conv1.weight.data.transpose(2, 3).contiguous()
        return model

    monkeypatch.setattr(export, "load_reference", transposed)

    assert run("--random", 1, "--num-classes", CLASSES, *SMALL, "--out", out) == 1
    assert "above 1e-05" in capsys.readouterr().err
    assert not out.exists()
    assert list(out.parent.iterdir()) == []


def without(state: dict, name: str) -> dict:
    return {k: v for k, v in state.items() if k != name}


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        (lambda s: without(s, "bn1.weight"), ["1 tensor missing: bn1.weight"]),
        (lambda s: s | {"se.weight": torch.ones(1)}, ["1 tensor surplus: se.weight"]),
        (
            lambda s: s | {"conv1.weight": torch.ones(64, 3, 3, 3)},
            ["1 tensor of another shape: conv1.weight", "[64, 3, 7, 7], got [64, 3, 3, 3]"],
        ),
        (
            lambda _: resnet18(num_classes=CLASSES).state_dict(),
            ["tensors missing: layer1.0.conv3.weight", "of another shape", "..."],
        ),
        (lambda _: {}, ["expected a dict of tensors", "got nothing"]),
        (lambda _: {"epoch": 3, "lr": 0.1}, ["other things: epoch, lr"]),
        (lambda _: {0: torch.ones(1)}, ["other things: 0"]),
        (lambda _: [torch.ones(1)], ["got list"]),
        (lambda _: torch.nn.Linear(1, 1), ["torch.save(model.state_dict(), path)"]),
        (
            lambda s: s | {"fc.bias": torch.full((CLASSES,), float("nan"))},
            ["fc.bias: not finite in f32"],
        ),
    ],
    ids=[
        "missing",
        "surplus",
        "shape",
        "resnet18",
        "empty",
        "other",
        "number",
        "list",
        "module",
        "nan",
    ],
)
def test_wrong_checkpoint_is_refused_by_name(out, state, checkpoint, capsys, change, messages):
    assert run("--state-dict", checkpoint(change(state)), "--out", out) == 1

    error = capsys.readouterr().err
    for message in messages:
        assert message in error
    assert not out.exists()


def test_weight_beyond_f16_is_refused(out, state, checkpoint, capsys):
    large = state | {"fc.weight": torch.full((CLASSES, 2048), 1e6)}
    assert run("--state-dict", checkpoint(large), "--dtype", "f16", "--out", out) == 1
    assert "fc.weight: not finite in f16" in capsys.readouterr().err


def test_file_that_is_no_checkpoint_is_refused(out, tmp_path, capsys):
    path = tmp_path / "text.pth"
    path.write_text("no weights in here")
    assert run("--state-dict", path, "--out", out) == 1
    assert f"{path}: not a file of tensors" in capsys.readouterr().err

    assert run("--state-dict", tmp_path / "absent.pth", "--out", out) == 1
    assert "absent.pth" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\nb\n", "expected 7 labels"),
        ("a\nb\n\nd\ne\nf\ng\n", "line 3 is blank"),
    ],
)
def test_labels_must_fit_the_classes(out, tmp_path, capsys, text, message):
    labels = tmp_path / "labels.txt"
    labels.write_text(text)
    random = ["--random", 1, "--num-classes", CLASSES]
    assert run(*random, "--labels", labels, "--out", out) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--weights", "V2"], "IMAGENET1K_V1, IMAGENET1K_V2"),
        (["--random", "1", "--num-classes", "0"], "expected at least 1, got 0"),
        (["--weights", "DEFAULT", "--num-classes", "5"], "--num-classes goes with --random"),
        (["--weights", "DEFAULT", "--arch", "resnet50d"], "torchvision has no resnet50d"),
        (["--timm", "resnet18d", "--arch", "resnet18"], "--architecture does not go with --timm"),
        (["--timm", "seresnet50.a1_in1k"], "--timm: expected one of resnet18"),
    ],
)
def test_options_that_do_not_fit_are_refused(out, capsys, options, message):
    assert run(*options, "--out", out) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--random", "1", "--weights", "DEFAULT"],
        ["--random", "1", "--resize", "0"],
        ["--random", "1", "--crop", "1x2x3"],
        ["--random", "1", "--interpolation", "cubic"],
        ["--random", "1", "--mean", "0.5"],
        ["--random", "1", "--dtype", "f64"],
        ["--random", "1", "--architecture", "resnet51"],
    ],
)
def test_wrong_usage_exits_with_2(out, options):
    with pytest.raises(SystemExit, match="2"):
        run(*options, "--out", out)


def test_activation_is_stated_in_the_config(out, capsys):
    arguments = ["--random", 1, "--num-classes", 1, *SMALL, "--out", out, "--no-verify"]
    assert run(*arguments, "--activation", "softmax") == 1
    assert "--activation softmax: expected sigmoid or none" in capsys.readouterr().err
    assert run(*arguments, "--activation", "none") == 0
    assert config_of(out)["activation"] == "none"
    assert load(out).config.activation == "none"
    arguments[3] = 3
    assert run(*arguments, "--activation", "sigmoid", "--force") == 0
    assert load(out).config.activation == "sigmoid"
    assert run(*arguments, "--force") == 0
    assert "activation" not in config_of(out)
    assert load(out).config.activation == "softmax"

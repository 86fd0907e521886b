"""`from_pretrained` from name to logits: real writers' files on a server of our own."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision
import transformers
from file_server import FileServer

import resnet_rs
from resnet_rs import ResNet18, ResNet50
from resnet_rs.cli import main
from resnet_rs.weights import torchvision_weights
from resnet_rs.weights.pretrained import TorchvisionWeights

pytest_plugins = ["pretrained_fixtures"]

# Float32 sums in another order, through the whole network.
RELATIVE = 1e-5


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = torchvision.models.resnet18(num_classes=1000).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
            torch.nn.init.normal_(module.running_mean, 0, 0.1)
    return network


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (260, 300, 3), np.uint8)


@pytest.fixture
def expected(network: torch.nn.Module, photo: np.ndarray) -> np.ndarray:
    """Run torchvision's own preset and network on the photo."""
    preset = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.transforms()
    with torch.inference_mode():
        x = preset(torch.from_numpy(photo).permute(2, 0, 1))
        return network(x[None])[0].numpy()


@pytest.fixture
def published(
    server: FileServer, network: torch.nn.Module, monkeypatch: pytest.MonkeyPatch
) -> FileServer:
    """The server has this network as torchvision's resnet18."""
    file = io.BytesIO()
    torch.save(network.state_dict(), file)
    prefix = hashlib.sha256(file.getvalue()).hexdigest()[:8]
    row = TorchvisionWeights("resnet18", "IMAGENET1K_V1", prefix, 45.0, 1, 70.0, 90.0, 256)
    monkeypatch.setattr(torchvision_weights, "TORCHVISION_WEIGHTS", (row,))
    server.files[f"/{row.file}"] = file.getvalue()
    return server


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def test_torchvisions_file_gives_torchvisions_numbers(
    published: FileServer, photo: np.ndarray, network: torch.nn.Module, expected: np.ndarray
) -> None:
    model = ResNet18.from_pretrained("IMAGENET1K_V1", progress=False)
    # Pillow's resize and torch's differ in rounding, so the networks get the same tensor.
    x = model.preprocess(photo)
    with torch.inference_mode():
        theirs = network(torch.from_numpy(x).permute(0, 3, 1, 2).contiguous()).numpy()
    assert relative_error(model.forward(x), theirs) < RELATIVE
    # The preset is the right one: with another crop or size the logits would be far off.
    assert relative_error(model.logits(photo), expected) < 0.05
    assert model.config.preprocessing.resize == 256
    assert model.labels[0] == "tench"
    assert model.config.source is not None
    assert model.config.source["weights"] == "torchvision resnet18.IMAGENET1K_V1"


def test_model_is_loaded_again_without_a_network(published: FileServer, photo: np.ndarray) -> None:
    model = ResNet18.from_pretrained("DEFAULT", progress=False)
    published.requests.clear()
    again = ResNet18.from_pretrained("resnet18.IMAGENET1K_V1", offline=True)
    np.testing.assert_array_equal(again.logits(photo), model.logits(photo))
    unpickled = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(unpickled.logits(photo), model.logits(photo))
    assert published.requests == []


def test_class_refuses_other_weights_before_they_come(published: FileServer) -> None:
    with pytest.raises(ValueError, match="are weights of resnet18; expected resnet50"):
        ResNet50.from_pretrained("resnet18.IMAGENET1K_V1")
    assert published.requests == []


def test_architecture_of_a_name_is_an_argument_of_the_base_class(
    published: FileServer, photo: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    model = resnet_rs.ResNet.from_pretrained("DEFAULT", architecture="resnet18", progress=False)
    assert model.config.architecture == "resnet18"
    expected = ResNet18.from_pretrained("DEFAULT", offline=True)
    np.testing.assert_array_equal(model.logits(photo), expected.logits(photo))
    assert np.isfinite(model.logits(photo)).all()
    with pytest.raises(ValueError, match="resnet18; expected resnet50"):
        resnet_rs.ResNet.from_pretrained("resnet18.DEFAULT", architecture="resnet50")
    named = ["pretrained", "DEFAULT", "--architecture", "resnet18", "--offline"]
    assert main(named) == 0
    assert "resnet18-" in capsys.readouterr().out


def test_config_is_laid_over_what_the_name_says(published: FileServer) -> None:
    config = {"labels": [f"class {i}" for i in range(1000)]}
    model = ResNet18.from_pretrained("DEFAULT", config=config, progress=False)
    assert model.labels[3] == "class 3"
    assert model.config.preprocessing.resize == 256


def test_preset_can_be_another(published: FileServer) -> None:
    model = ResNet18.from_pretrained("DEFAULT", preprocessing={"resize": 300}, progress=False)
    assert model.config.preprocessing.resize == 300
    assert model.config.preprocessing.crop == 224


def test_timm_repository_gives_the_same_numbers(
    server: FileServer, network: torch.nn.Module, photo: np.ndarray
) -> None:
    base = "/timm/resnet18.a1_in1k/resolve"
    config = {
        "architecture": "resnet18",
        "num_classes": 1000,
        "pretrained_cfg": {
            "tag": "a1_in1k",
            "input_size": [3, 224, 224],
            "test_input_size": [3, 288, 288],
            "interpolation": "bicubic",
            "crop_pct": 0.95,
            "test_crop_pct": 1.0,
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
        },
    }
    weights = safetensors.torch.save(network.state_dict())
    server.files[f"{base}/main/config.json"] = json.dumps(config).encode()
    server.files[f"{base}/{server.commit}/model.safetensors"] = weights
    server.headers[f"{base}/{server.commit}/model.safetensors"] = {
        "X-Linked-ETag": f'"{hashlib.sha256(weights).hexdigest()}"'
    }
    model = ResNet18.from_pretrained("a1_in1k", progress=False)
    spec = model.config.preprocessing
    assert (spec.resize, spec.crop, spec.interpolation) == (235, 224, "bicubic")
    x = model.preprocess(photo)
    with torch.inference_mode():
        theirs = network(torch.from_numpy(x).permute(0, 3, 1, 2).contiguous()).numpy()
    assert relative_error(model.forward(x), theirs) < RELATIVE


def test_command_writes_a_weights_directory(
    published: FileServer, photo: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "weights"
    assert main(["pretrained", "resnet18.DEFAULT", "--out", str(out), "--no-progress"]) == 0
    assert capsys.readouterr() == (f"{out}\n", "")
    model = resnet_rs.load(out)
    fetched = ResNet18.from_pretrained("DEFAULT", offline=True)
    np.testing.assert_array_equal(model.logits(photo), fetched.logits(photo))
    assert model.config.preprocessing == fetched.config.preprocessing
    # It is not overwritten without being asked.
    assert main(["pretrained", "resnet18.DEFAULT", "--out", str(out)]) == 2
    assert "force" in capsys.readouterr().err
    assert main(["pretrained", "resnet18.DEFAULT", "--out", str(out), "--force"]) == 0


def test_hugging_face_repository_gives_the_same_numbers(
    server: FileServer, photo: np.ndarray, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    config = transformers.ResNetConfig(
        embedding_size=8,
        hidden_sizes=[16, 32, 64, 128],
        depths=[1, 1, 1, 1],
        layer_type="bottleneck",
        id2label={0: "cat", 1: "dog", 2: "bucket"},
        label2id={"cat": 0, "dog": 1, "bucket": 2},
    )
    network = transformers.ResNetForImageClassification(config).eval()
    network.save_pretrained(tmp_path / "theirs")
    processor = {
        "image_processor_type": "ConvNextImageProcessor",
        "do_normalize": True,
        "do_resize": True,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "crop_pct": 0.875,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
        "resample": 3,
        "size": {"shortest_edge": 224},
    }
    (tmp_path / "theirs" / "preprocessor_config.json").write_text(json.dumps(processor))
    for path in (tmp_path / "theirs").iterdir():
        for revision in ("main", server.commit):
            server.files[f"/me/mine/resolve/{revision}/{path.name}"] = path.read_bytes()
    with pytest.warns(UserWarning, match="stated no sha256 for model.safetensors"):
        model = resnet_rs.ResNet.from_pretrained("me/mine", progress=False)
    assert model.labels == ("cat", "dog", "bucket")
    x = model.preprocess(photo)
    assert x.shape == (1, 224, 224, 3)
    with torch.inference_mode():
        theirs = network(torch.from_numpy(x).permute(0, 3, 1, 2).contiguous()).logits.numpy()
    assert relative_error(model.forward(x), theirs) < RELATIVE

"""`model.export_onnx` and `resnet-rs export`: the results of onnxruntime, and the way back."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from conftest import DEMO
from numpy.typing import NDArray
from tiny_model import write_tiny_model

import resnet_rs
from resnet_rs import WeightsError
from resnet_rs.cli import export as command
from resnet_rs.training import Trainer
from resnet_rs.weights.formats.onnx_file import CONFIG_KEY

TOLERANCE = 1e-5
"""Relative L2 of the logits: f32 in another order gives some 1e-6."""

NETWORKS: dict[str, dict[str, Any]] = {
    "resnet18": {},
    "resnet50d": {"num_classes": 3},
    "resnext50_32x4d": {},
    "cifar_resnet20": {"variant": {"shortcut": {"pad": {"reduce": "average", "zeros": "end"}}}},
    "cifar_resnet32": {},
    "wide_resnet50_2": {
        "variant": {"widths": [8, 16, 16, 32], "last_stride": 1, "dilation": [1, 1, 1, 2]},
    },
}


def noise(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def runtime(path: Path, x: NDArray[np.float32]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(path)
    nchw = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    (result,) = session.run(None, {"image": nchw})
    return np.asarray(result)


def error(one: NDArray[Any], other: NDArray[Any]) -> float:
    assert one.shape == other.shape
    return float(np.linalg.norm(one - other) / np.linalg.norm(other))


def trained(directory: Path, name: str, **options: Any) -> resnet_rs.ResNet:
    """A network whose running statistics are those of a few steps."""
    trainer = Trainer(name, num_classes=options.pop("num_classes", 4), lr=0.01, **options)
    for seed in range(2):
        x = np.random.default_rng(seed).standard_normal((4, 33, 33, 3), dtype=np.float32)
        trainer.step(x, np.array([0, 1, 2, 1]))
    trainer.save(directory)
    return resnet_rs.load(directory)


@pytest.mark.parametrize("name", NETWORKS)
def test_onnxruntime_gives_our_logits(name: str, tmp_path: Path) -> None:
    """Batch 1 and 3, odd and even sizes; batch norms folded and not."""
    model = trained(tmp_path / "weights", name, **NETWORKS[name])
    for fold_norms in (True, False):
        path = tmp_path / f"{fold_norms}.onnx"
        model.export_onnx(path, fold_norms=fold_norms)
        kinds = {node.op_type for node in onnx.load(path).graph.node}
        assert ("BatchNormalization" in kinds) != fold_norms
        for x in (noise(1, 64, 64, 3), noise(3, 47, 41, 3)):
            ours = model.forward(x)
            assert np.ptp(ours) > 0
            assert error(runtime(path, x), ours) <= TOLERANCE


@pytest.mark.parametrize("fold_norms", [True, False])
def test_the_file_loads_again_with_labels_and_preprocessing(
    fold_norms: bool, tmp_path: Path, demo_photos: list[Path]
) -> None:
    model = resnet_rs.load(DEMO)
    path = tmp_path / "demo.onnx"
    model.export_onnx(path, fold_norms=fold_norms)
    again = resnet_rs.load(path)
    assert again.labels == model.labels
    assert again.config.preprocessing == model.config.preprocessing
    assert again.config.activation == model.config.activation
    assert error(again.logits(demo_photos[:3]), model.logits(demo_photos[:3])) <= TOLERANCE


def test_unfolded_tensors_are_the_weights(tmp_path: Path) -> None:
    model = resnet_rs.load(write_tiny_model(tmp_path / "weights"))
    path = tmp_path / "tiny.onnx"
    model.export_onnx(path, fold_norms=False)
    arrays = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    tensors = model.loaded.tensors()
    assert arrays.keys() == tensors.keys()
    assert all(np.array_equal(arrays[name], tensors[name]) for name in tensors)


def test_the_graph_states_its_axes_and_its_metadata(tmp_path: Path) -> None:
    model = resnet_rs.load(write_tiny_model(tmp_path / "weights"))
    path = tmp_path / "tiny.onnx"
    model.export_onnx(path)
    message = onnx.load(path)
    session = onnxruntime.InferenceSession(path)
    (image,), (logits,) = session.get_inputs(), session.get_outputs()
    assert (image.name, image.shape) == ("image", ["batch", 3, "height", "width"])
    assert (logits.name, logits.shape) == ("logits", ["batch", 5])
    assert message.producer_name == "resnet_rs"
    (entry,) = message.metadata_props
    assert entry.key == CONFIG_KEY
    assert json.loads(entry.value) == json.loads(json.dumps(model.config.as_dict()))


def test_embeddings_and_odd_heads(tmp_path: Path) -> None:
    """Without fc; a maximum before it; a map that fc flattens, which fixes the size."""
    x = noise(2, 32, 32, 3)
    no_head = resnet_rs.load(write_tiny_model(tmp_path / "a", num_classes=0))
    no_head.export_onnx(tmp_path / "a.onnx")
    assert error(runtime(tmp_path / "a.onnx", x), no_head.loaded.network.embed(x)) <= TOLERANCE
    (output,) = onnxruntime.InferenceSession(tmp_path / "a.onnx").get_outputs()
    assert output.name == "embedding"
    for name, fields in {
        "b": {"head": "global_max_pool"},
        "c": {"head": {"avg_pool": {"kernel": 2, "stride": 2, "padding": 1}}},
        "d": {"stem_pool": "max_ceil"},
    }.items():
        model = resnet_rs.load(write_tiny_model(tmp_path / name, crop=64, **fields))
        path = tmp_path / f"{name}.onnx"
        model.export_onnx(path)
        y = noise(2, 64, 64, 3)
        assert error(runtime(path, y), model.forward(y)) <= TOLERANCE
        (image,) = onnxruntime.InferenceSession(path).get_inputs()
        assert image.shape[2:] == ([64, 64] if name == "c" else ["height", "width"])


def test_a_file_that_is_there_stays(tmp_path: Path) -> None:
    model = resnet_rs.load(write_tiny_model(tmp_path / "weights"))
    path = tmp_path / "tiny.onnx"
    path.write_text("mine")
    with pytest.raises(FileExistsError, match=r"tiny.onnx is there already: .* force"):
        model.export_onnx(path)
    assert path.read_text() == "mine"
    model.export_onnx(path, force=True)
    with pytest.raises(IsADirectoryError, match="is a directory: expected the name of a file"):
        model.export_onnx(path.parent, force=True)
    onnx.checker.check_model(onnx.load(path))
    with pytest.raises(FileNotFoundError, match=r"nowhere/tiny.onnx"):
        model.export_onnx(tmp_path / "nowhere" / "tiny.onnx")
    assert [file.name for file in sorted(tmp_path.iterdir())] == ["tiny.onnx", "weights"]


def test_without_the_package_the_remedy_is_named(tmp_path: Path, monkeypatch) -> None:
    model = resnet_rs.load(write_tiny_model(tmp_path / "weights"))
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r'pip install "resnet_rs\[onnx\]"'):
        model.export_onnx(tmp_path / "tiny.onnx")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "are no JSON"),
        ("[]", "are no JSON object"),
        ('{"labels": 3}', "labels: expected a list of texts"),
        ('{"labels": ["a"]}', "labels: expected 5, one for each class, got 1"),
        ('{"preprocessing": 3}', "preprocessing: expected an object"),
        ('{"activation": {}}', "activation: expected a text"),
        ('{"preprocessing": {"crop": "x"}}', "crop"),
        ("[" * 100_000, "are no JSON"),
    ],
)
def test_bad_metadata_are_refused(text: str, message: str, tmp_path: Path) -> None:
    model = resnet_rs.load(write_tiny_model(tmp_path / "weights"))
    path = tmp_path / "tiny.onnx"
    model.export_onnx(path)
    changed = onnx.load(path)
    changed.metadata_props[0].value = text
    onnx.save(changed, path)
    with pytest.raises(WeightsError, match=message):
        resnet_rs.load(path)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = write_tiny_model(tmp_path / "weights")
    path = tmp_path / "tiny.onnx"

    def run(*words: str) -> int:
        parser = argparse.ArgumentParser()
        command.add_arguments(parser)
        arguments = parser.parse_args([str(path), "--weights", str(weights), *words])
        status: int = arguments.run(arguments)
        return status

    assert run() == 0
    assert capsys.readouterr().out.startswith(f"wrote {path}: resnet50, 5 classes, opset 17, ")
    assert run() == 2
    assert "--force" in capsys.readouterr().err
    assert run("--force", "--keep-norms") == 0
    kinds = {node.op_type for node in onnx.load(path).graph.node}
    assert "BatchNormalization" in kinds

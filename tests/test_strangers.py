"""Files of other kinds, and damage that no tensor has: named, with the remedy."""

from __future__ import annotations

import gzip
import io
import json
import os
import struct
import tarfile
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx_cases
import pytest
import torch
import torch_pickles as tp
from checkpoints import TOLERANCE, relative_error
from safetensors.torch import save_file
from tiny_torch import TinyResNet, tiny_variant

import resnet_rs
from resnet_rs import WeightsError
from resnet_rs.weights import formats
from resnet_rs.weights.strangers import meaning

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 46000000\n"
HTML = b"\n <!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>"
TABLE: list[tuple[str, bytes, str]] = [
    ("model.safetensors", LFS, "git lfs pull"),
    ("best.pth", LFS, "git lfs pull"),
    ("model.onnx", LFS, "git lfs pull"),
    ("model.safetensors", HTML, "a web page: the download went wrong"),
    ("best.pth", HTML, "a web page: the download went wrong"),
    ("best.pth", b"\xef\xbb\xbf<html>", "a web page: the download went wrong"),
    ("x.pth", b"<?xml version='1.0'?><Error><Code>AccessDenied</Code>", "a server's answer"),
    ("model.xml", b'<?xml version="1.0"?>\n<net name="x" version="11">', "OpenVINO's IR"),
    ("net.xml", b"<?xml version='1.0'?>\n<annotation>", "an XML file: pass the file of weights"),
    ("x.json", b'{"weight_map": {}}', "an index of shards: pass the directory with the shards"),
    ("net.tflite", b"\x1c\0\0\0TFL3" + bytes(20), "a TensorFlow Lite model"),
    ("net.pth", b"\x1c\0\0\0TFL3" + bytes(20), "a TensorFlow Lite model"),
    ("net.pte", b"\x1c\0\0\0ET12" + bytes(20), "an ExecuTorch program"),
    ("net.gguf", b"GGUF\x03\0\0\0", "a GGUF file"),
    ("net.param", b"7767517\n75 83\nInput data 0 1", "ncnn's description"),
    ("net.params", b"\x12\x01" + bytes(20), "a file of MXNet"),
    ("net.mlmodel", b"\x08\x04\x12\x10" + bytes(30), "a Core ML model"),
    ("saved_model.pb", b"\x08\x01\x12\x10" + bytes(30), "a TensorFlow graph"),
    ("frozen.pb", b"\x0a\x10" + bytes(30), "a TensorFlow graph"),
    ("model.ckpt.index", bytes(60), "a part of a TensorFlow checkpoint"),
    ("net.caffemodel", b"\x0a\x08CaffeNet" + bytes(9), "a file of Caffe"),
    ("best.pth.gz", gzip.compress(b"x" * 99), "a gzip archive: unpack it"),
    ("best.bz2", b"BZh91AY&SY", "a bzip2 archive"),
    ("best.zst", b"\x28\xb5\x2f\xfd" + bytes(9), "a Zstandard archive"),
    ("weights.csv", b"layer,value\nconv1,0.5\n", "a table"),
    ("array.npy", b"\x93NUMPY\x01\0", "a single NumPy array"),
    ("config.json", b'{"model_type": "resnet"}', "a JSON file: pass the file of weights"),
    ("photo.jpg", b"\xff\xd8\xff\xe0" + bytes(30), "a JPEG image"),
    ("train.py", b"import torch\n", "a Python program"),
]


@pytest.mark.parametrize(("name", "content", "words"), TABLE, ids=[f"{n}-{w}" for n, _, w in TABLE])
def test_a_file_of_another_kind_is_named(
    name: str, content: bytes, words: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    for read in (formats.read, resnet_rs.load):
        with pytest.raises(WeightsError) as caught:
            read(path, architecture="resnet18")
        assert f"{path}: this is " in str(caught.value)
        assert words in str(caught.value)


def test_a_file_that_cannot_be_read_is_no_stranger(tmp_path: Path) -> None:
    """The error of opening it says more."""
    assert meaning(tmp_path / "missing.pth") is None
    assert meaning(tmp_path) is None
    (tmp_path / "x.bin").write_bytes(LFS)
    assert "git lfs pull" in str(meaning(tmp_path / "x.bin"))


@pytest.mark.parametrize("config", [{"model_type": "resnet"}, {"format_version": 1}])
def test_a_pointer_of_git_lfs_in_a_directory_is_named(config: Any, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(LFS)
    fields = {"architecture": "resnet18"} if "format_version" in config else {}
    (tmp_path / "config.json").write_text(json.dumps({**config, **fields}))
    with pytest.raises(WeightsError, match=r"model\.safetensors: this is a Git LFS pointer.*pull"):
        resnet_rs.load(tmp_path)


def test_archives_around_a_file_name_it(tmp_path: Path) -> None:
    inner = io.BytesIO()
    torch.save(TinyResNet().state_dict(), inner)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("deep/best.pth", inner.getvalue())
    with pytest.raises(WeightsError, match=r"a zip archive around 'deep/best\.pth': unpack it"):
        formats.read(tmp_path / "x.zip")
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        info = tarfile.TarInfo("best.pth")
        info.size = len(inner.getvalue())
        tar.addfile(info, io.BytesIO(inner.getvalue()))
    with pytest.raises(WeightsError, match=r"a tar archive, of 'best\.pth' and more: unpack it"):
        formats.read(tmp_path / "x.tar")


def test_programs_of_torch_are_named(tmp_path: Path) -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3)).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        traced = torch.jit.trace(net, torch.zeros(1, 3, 8, 8))
        torch.jit.save(traced, tmp_path / "script.pt")
    with pytest.raises(WeightsError, match="a TorchScript archive, which is a program: save the"):
        formats.read(tmp_path / "script.pt")
    torch.export.save(torch.export.export(net, (torch.zeros(1, 3, 8, 8),)), tmp_path / "x.pt2")
    with pytest.raises(WeightsError, match=r"a program of torch\.export: save the state dict"):
        formats.read(tmp_path / "x.pt2")


def test_the_numbers_of_openvino_and_ncnn_are_named_by_the_file_beside_them(tmp_path: Path) -> None:
    (tmp_path / "net.bin").write_bytes(bytes(99))
    for suffix, words in ((".param", "a network of ncnn"), (".xml", "OpenVINO's IR")):
        (tmp_path / f"net{suffix}").write_text("")
        with pytest.raises(WeightsError, match=words):
            formats.read(tmp_path / "net.bin")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("saved_model.pb", "a TensorFlow SavedModel"),
        ("Manifest.json", "a Core ML package"),
        ("checkpoint", "a TensorFlow checkpoint"),
        (".metadata", "a distributed checkpoint of torch"),
    ],
)
def test_a_directory_of_another_kind_is_named(name: str, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("")
    with pytest.raises(WeightsError, match=words):
        formats.read(tmp_path)


def test_an_index_of_shards_is_read_with_its_shards(tmp_path: Path) -> None:
    module = TinyResNet()
    state = {k: v for k, v in module.state_dict().items() if v.is_floating_point()}
    names = list(state)
    parts = {"a.safetensors": names[:20], "b.safetensors": names[20:]}
    for file, inside in parts.items():
        save_file({name: state[name] for name in inside}, tmp_path / file)
    index = tmp_path / "model.safetensors.index.json"
    weight_map = {name: file for file, inside in parts.items() for name in inside}
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    stated = {"architecture": "resnet50", "variant": tiny_variant()}
    assert relative_error(formats.read(index, **stated), module) <= TOLERANCE
    model = resnet_rs.load(index, preprocessing="IMAGENET1K_V1", **stated)
    assert model.config.num_classes == 5
    (tmp_path / "b.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"there is no file 'b\.safetensors'.*beside the index"):
        formats.read(index, **stated)


def test_a_model_of_onnx_needs_no_suffix(tmp_path: Path) -> None:
    model = onnx_cases.variant(blocks=[1, 1], widths=[8, 8], stem_widths=[8])
    path = onnx_cases.export(model, tmp_path / "net.onnx").rename(tmp_path / "net")
    assert formats.read(path).tensors


@pytest.mark.parametrize("change", [1, -1])
def test_a_storage_that_is_a_byte_off_is_named(change: int, tmp_path: Path) -> None:
    content = bytes(24 + change)
    path = tp.zip_file(tmp_path / "x.pth", tp.dumps({"w": tp.tensor()}), {"0": content})
    with pytest.raises(WeightsError) as caught:
        formats.read(path)
    expected = f"storage 0: expected 6 numbers (Float), got {24 + change} bytes"
    assert f"{path}: {expected}" in str(caught.value)


def ranked(count: int) -> bytes:
    name = "layer1.0.conv1.weight"
    entry = {"dtype": "F32", "shape": [1] * count, "data_offsets": [0, 4]}
    header = json.dumps({name: entry}).encode()
    return struct.pack("<Q", len(header)) + header + np.zeros(1, "<f4").tobytes()


@pytest.mark.parametrize("count", [33, 100_000])
def test_a_tensor_of_many_axes_is_named(count: int, tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    path.write_bytes(ranked(count))
    for weights in (path, ranked(count)):
        with pytest.raises(WeightsError) as caught:
            resnet_rs.load(weights)
        assert f"conv1.weight: expected 32 axes at most, found {count}" in str(caught.value)


def test_looped_links_are_named(tmp_path: Path) -> None:
    loop = tmp_path / "loop.pth"
    loop.symlink_to(loop)
    for read in (formats.read, resnet_rs.load):
        with pytest.raises(WeightsError, match=r"loop\.pth: a symbolic link"):
            read(loop)


def test_a_link_to_no_config_is_not_taken_for_none(tmp_path: Path) -> None:
    """Without the check the network would run with an assumed preprocessing."""
    save_file(TinyResNet().state_dict(), tmp_path / "net.safetensors")
    for target in ("gone.json", "config.json"):
        config = tmp_path / "config.json"
        config.unlink(missing_ok=True)
        os.symlink(target, config)
        with pytest.raises(WeightsError, match=r"config\.json: a symbolic link to"):
            resnet_rs.load(
                tmp_path / "net.safetensors", architecture="resnet50", variant=tiny_variant()
            )


@pytest.mark.parametrize("value", [0, 1e-310, -1, 2, 1e-9])
def test_a_crop_that_is_no_part_of_an_image_is_named(value: float, tmp_path: Path) -> None:
    timm = {"architecture": "resnet18", "pretrained_cfg": {"crop_pct": value}}
    (tmp_path / "config.json").write_text(json.dumps(timm))
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"config\.json: pretrained_cfg: crop_pct: expected"):
        formats.read(tmp_path)
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "resnet", "architectures": ["ResNetForImageClassification"]})
    )
    processor = {"image_processor_type": "ConvNextImageProcessor", "crop_pct": value}
    processor["size"] = {"shortest_edge": 224}  # type: ignore[assignment]
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    with pytest.raises(WeightsError, match=r"preprocessor_config\.json: crop_pct: expected"):
        formats.read(tmp_path)

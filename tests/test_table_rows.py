"""Rows of tables, one by one: a row that is lost or misspelled is noticed."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
import timm
import torch

from resnet_rs import ImageError, ResNet50, WeightsError, load
from resnet_rs.weights.formats.detect import kind_of
from resnet_rs.weights.formats.prefixes import shared_wrappers
from resnet_rs.weights.pretrained.timm_weights import TIMM_WEIGHTS

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))

from random_resnet import random_state_dict


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"<?xml version='1.0'?><svg/>", "an XML file, such as SVG"),
        (b"<svg xmlns=''>", "SVG, which is a drawing"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"<html><body>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a git-lfs pointer"),
        (b"%PDF-1.7\n", "a PDF"),
        (b"\xff\x0a\xfa", "JPEG XL"),
        (b"8BPS\x00\x02", "a large Photoshop file"),
        (b"\x1a\x45\xdf\xa3", "a video"),
        (b"PK\x03\x04", "a zip archive"),
        (b"\x1f\x8b\x08", "a gzip archive"),
        (b"\x93NUMPY\x01\x00", "a NumPy file"),
    ],
)
def test_files_that_are_no_pictures_are_named(model: ResNet50, start: bytes, kind: str) -> None:
    with pytest.raises(ImageError, match=kind):
        model.predict(io.BytesIO(start + bytes(300)))


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [
        (".safetensors", "safetensors"),
        *((suffix, "torch") for suffix in (".pth", ".pt", ".bin", ".ckpt", ".tar", ".pkl")),
        *((suffix, "keras") for suffix in (".h5", ".hdf5", ".keras")),
        (".onnx", "onnx"),
    ],
)
def test_the_suffix_counts_where_the_content_says_nothing(
    suffix: str, kind: str, tmp_path: Path
) -> None:
    (tmp_path / f"x{suffix.upper()}").write_bytes(b"\1\2\3\4" * 100)
    assert kind_of(tmp_path / f"x{suffix.upper()}") == kind


def test_other_suffixes_are_no_weights(tmp_path: Path) -> None:
    (tmp_path / "x.dat").write_bytes(b"\1\2\3\4" * 100)
    with pytest.raises(WeightsError, match="no weights that are known"):
        kind_of(tmp_path / "x.dat")


@pytest.mark.parametrize("key", ["model", "state_dict", "net", "network", "module", "weights"])
def test_keys_of_training_scripts_are_proposed_before_any_other(tmp_path: Path, key: str) -> None:
    state = random_state_dict(seed=1, num_classes=3, architecture="resnet18")
    other = random_state_dict(seed=2, num_classes=4, architecture="resnet18")
    torch.save({"before": other, key: state}, tmp_path / "net.pth")
    with pytest.raises(WeightsError, match=f"under {key}, before"):
        load(tmp_path / "net.pth", architecture="resnet18")


@pytest.mark.parametrize(
    "prefix",
    ["module.", "_orig_mod.", "model.", "backbone.", "base.", "net.", "network.", "encoder."],
)
def test_prefixes_of_frameworks_are_known(prefix: str) -> None:
    names = [f"module.{prefix}{name}" for name in ("conv1.weight", "fc.bias")]
    assert shared_wrappers(names) == ["module.", prefix]


@pytest.mark.parametrize("architecture", ["resnet18", "resnet34", "resnet101", "resnet152"])
def test_timm_has_the_tags_that_are_named_here(architecture: str) -> None:
    theirs = {name.partition(".")[2] for name in timm.list_pretrained(f"{architecture}.*")}
    assert set(TIMM_WEIGHTS[architecture]) <= theirs
    assert "tv_in1k" in TIMM_WEIGHTS[architecture]

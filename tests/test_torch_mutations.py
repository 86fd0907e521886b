"""Damaged files of each torch format: a clear error or a right load, nothing else."""

from __future__ import annotations

import argparse
import functools
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mutations
import numpy as np
import pytest
import torch
import torch_pickles as tp
from tiny_torch import TinyResNet
from torch_variants import DEFAULTS, VariantResNet
from torchvision.models.resnet import BasicBlock

import resnet_rs
from resnet_rs import _core
from resnet_rs.weights import formats
from resnet_rs.weights.formats.torch_file import read_torch

COUNT = 1000
FEWER = [100, pytest.param(COUNT, marks=pytest.mark.slow)]

# One basic block: a thousand reads with every allocation traced take their time.
VARIANT = {**DEFAULTS, "block": "basic", "blocks": [1], "widths": [4], "stem_widths": [4]}
X = np.random.default_rng(0).standard_normal((1, 16, 16, 3), dtype=np.float32)


@functools.cache
def checkpoint() -> dict[str, Any]:
    """A training checkpoint of a small network, as scripts save it."""
    torch.manual_seed(0)
    network = VariantResNet(VARIANT, num_classes=3)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    return {
        "model": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "args": argparse.Namespace(lr=0.1, epochs=3),
        "epoch": 3,
    }


@functools.cache
def sound_logits() -> np.ndarray:
    """Run the network without any file in between."""
    tensors = {k: v.numpy() for k, v in checkpoint()["model"].items() if v.is_floating_point()}
    config = json.dumps({"format_version": 1, "architecture": "resnet50", "variant": VARIANT})
    return _core.Network.from_tensors(tensors, config, origin="memory", threads=1).logits(X)


def logits(path: Path) -> np.ndarray:
    model = resnet_rs.load(
        path,
        architecture="resnet50",
        variant=VARIANT,
        num_classes=3,
        preprocessing="IMAGENET1K_V1",
        threads=1,
    )
    return model.forward(X)


def load_zip(path: Path) -> None:
    """The checksums of the zip format leave no damaged number unnoticed."""
    np.testing.assert_array_equal(logits(path), sound_logits())


def load_legacy(path: Path) -> None:
    """The legacy format has no checksums: a damaged number is a number."""
    assert logits(path).shape == (1, 3)


saved = functools.cache(lambda: tp.saved(checkpoint()))


def read_as_pickle(path: Path) -> None:
    """A damaged pickle in a zip file whose checksums are right, as a hostile author would."""
    pickled = path.read_bytes()
    path.write_bytes(tp.repacked(saved(), pickled))
    for array in read_torch(path).tensors.values():
        array.tobytes()


@pytest.mark.parametrize(
    ("load", "legacy"), [(load_zip, False), (load_legacy, True)], ids=["zip", "legacy"]
)
@pytest.mark.parametrize("count", FEWER)
def test_damaged_files(
    load: Callable[[Path], None], legacy: bool, count: int, tmp_path: Path
) -> None:
    data = tp.saved(checkpoint(), legacy=legacy)
    outcome = mutations.assert_survives(load, data, ".pth", count, tmp_path)
    assert outcome.loaded > count // 50
    assert outcome.refused > count // 4


@pytest.mark.parametrize("count", FEWER)
def test_damaged_pickles_with_right_checksums(count: int, tmp_path: Path) -> None:
    pickled = tp.pickle_of(saved())
    outcome = mutations.assert_survives(read_as_pickle, pickled, ".pth", count, tmp_path)
    assert outcome.loaded > count // 50
    assert outcome.refused > count // 4


def read_arrays(path: Path) -> None:
    for array in read_torch(path).tensors.values():
        array.tobytes()


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("count", FEWER)
def test_damaged_pickles_of_arrays(protocol: int, count: int, tmp_path: Path) -> None:
    arrays = {name: tensor.numpy() for name, tensor in checkpoint()["model"].items()}
    pickled = pickle.dumps({"model": arrays, "__author__": "me"}, protocol=protocol)
    outcome = mutations.assert_survives(read_arrays, pickled, ".pkl", count, tmp_path)
    assert outcome.loaded > count // 50
    assert outcome.refused > count // 4


def read_whole_model(path: Path) -> None:
    """As a hostile author would write it: the checksums are right."""
    path.write_bytes(tp.repacked(saved_whole_model(), path.read_bytes()))
    variant = {"blocks": [1, 1], "widths": [4, 8], "stem_widths": [4]}
    formats.read(path, architecture="resnet18", variant=variant)


@functools.cache
def saved_whole_model() -> bytes:
    torch.manual_seed(0)
    return tp.saved(TinyResNet(BasicBlock, (1, 1), (4, 8)))


@pytest.mark.parametrize("count", FEWER)
def test_damaged_whole_models_with_right_checksums(count: int, tmp_path: Path) -> None:
    pickled = tp.pickle_of(saved_whole_model())
    outcome = mutations.assert_survives(read_whole_model, pickled, ".pth", count, tmp_path)
    assert outcome.loaded > count // 50
    assert outcome.refused > count // 4

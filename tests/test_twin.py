"""The twin in torch that `compare --against torch` makes of a network."""

from __future__ import annotations

import sys

import pytest
import torch
from network_pairs import load, noise
from tiny_model import write_tiny_model
from tiny_torch import TinyResNet, tiny_variant
from torchvision.models import resnet18, resnet50

import resnet_rs
from resnet_rs.inspect.compare import compare
from resnet_rs.inspect.compare.twin import torch_twin


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> resnet_rs.ResNet:
    fields = {"architecture": "resnet50", "variant": tiny_variant()}
    folder = tmp_path_factory.mktemp("tiny")
    return load(TinyResNet(), folder, **fields, preprocessing={"crop": 64})


def test_twin_of_the_demo_model_agrees(model, demo_photo) -> None:
    comparison = compare(model, torch_twin(model), demo_photo)
    assert comparison.ok
    assert len(comparison.rows) == 158


@pytest.mark.parametrize(
    "variant",
    [
        {"stride_on": "conv1"},
        {"norm_epsilon": 1e-3},
        {"last_stride": 1},
        {"dilation": [1, 1, 2, 4]},
        {"dilation": [1, 1, 1, 2], "stride_on": "conv1"},
    ],
    ids=str,
)
def test_twin_follows_what_it_can(tmp_path, variant) -> None:
    module = resnet50(num_classes=5)
    model = load(module, tmp_path, architecture="resnet50", variant=variant)
    x = noise(1, 32, 32, 3)
    assert compare(model, torch_twin(model), x).ok
    assert not compare(model, module.eval(), x).ok


@pytest.mark.parametrize("replaced", [(False, False, True), (False, True, True)])
def test_dilated_twin_is_torchvisions_own(tmp_path, replaced) -> None:
    module = resnet50(num_classes=5, replace_stride_with_dilation=replaced)
    dilation = [1, 1, 2, 4] if all(replaced[1:]) else [1, 1, 1, 2]
    model = load(module, tmp_path, architecture="resnet50", variant={"dilation": dilation})
    x = noise(1, 64, 64, 3)
    assert compare(model, torch_twin(model), x, tolerance=1e-5).ok
    assert compare(model, module.eval(), x, tolerance=1e-5).ok
    twin = torch_twin(model)
    for name, ours in twin.named_modules():
        if isinstance(ours, torch.nn.Conv2d):
            theirs = module.get_submodule(name)
            for field in ("stride", "padding", "dilation"):
                assert getattr(ours, field) == getattr(theirs, field), name


def test_twin_of_dilated_basic_blocks(tmp_path) -> None:
    """timm's rule: torchvision dilates bottlenecks only."""
    variant = {"dilation": [1, 1, 2, 4]}
    module = resnet18(num_classes=5)
    model = load(module, tmp_path, architecture="resnet18", variant=variant)
    assert compare(model, torch_twin(model), noise(1, 64, 64, 3), tolerance=1e-5).ok


def test_twin_of_a_network_that_torchvision_lacks(tmp_path) -> None:
    model = resnet_rs.load(write_tiny_model(tmp_path, architecture="resnet26"))
    message = r"^torchvision has no resnet26: write a dump of the network that you have and compare"
    with pytest.raises(ValueError, match=message):
        torch_twin(model)


def test_twin_without_torch_names_the_extra(tiny, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(ImportError, match=r'torchvision: pip install "resnet_rs\[export\]"'):
        torch_twin(tiny)


def test_twin_of_embeddings_alone_is_not_made(tmp_path) -> None:
    model = load(resnet18(num_classes=5), tmp_path, architecture="resnet18", num_classes=0)
    with pytest.raises(ValueError, match=r"resnet18 cannot follow this model's num_classes = 0: "):
        torch_twin(model)


def test_twin_says_what_it_cannot(tiny) -> None:
    with pytest.raises(ValueError, match=r"cannot follow this model's blocks, .*write a dump"):
        torch_twin(tiny)

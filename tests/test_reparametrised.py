"""Weights that torch computes from other tensors: pruned ones are computed, others refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import TOLERANCE, relative_error
from safetensors.torch import save_file
from tiny_torch import randomize
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm
from torchvision.models.resnet import Bottleneck, ResNet

import resnet_rs
from resnet_rs import WeightsError
from resnet_rs.weights import formats

STATED: dict[str, Any] = {
    "architecture": "resnet50",
    "variant": {"blocks": [1, 1, 1, 1], "width_per_group": 16},
}


def network() -> ResNet:
    net = ResNet(Bottleneck, [1, 1, 1, 1], num_classes=5, width_per_group=16)
    randomize(net)
    return net


@pytest.mark.parametrize("whole", [False, True], ids=["state dict", "whole model"])
@pytest.mark.parametrize("kind", ["unstructured", "structured"])
def test_pruned_weights_are_multiplied_with_their_masks(
    whole: bool, kind: str, tmp_path: Path
) -> None:
    net = network()
    for layer in net.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            if kind == "unstructured":
                prune.l1_unstructured(layer, "weight", 0.5)  # type: ignore[no-untyped-call]
            else:
                prune.ln_structured(layer, "weight", 0.5, 2, 0)  # type: ignore[no-untyped-call]
    torch.save(net if whole else net.state_dict(), tmp_path / "x.pth")
    checkpoint = formats.read(tmp_path / "x.pth", **STATED)
    weight = checkpoint.tensors["fc.weight"]
    assert (weight == 0).mean() == pytest.approx(0.5, abs=0.11)
    assert not any(name.endswith(("_mask", "_orig")) for name in checkpoint.tensors)
    assert any(
        "multiplied pruned weights with their masks: fc" in r or "masks: " in r
        for r in checkpoint.remarks
    )
    assert relative_error(checkpoint, net) <= TOLERANCE


def test_pruned_weights_in_safetensors_are_multiplied_too(tmp_path: Path) -> None:
    """Most tensors have the names that the core reads by itself."""
    net = network()
    prune.l1_unstructured(net.fc, "weight", 0.5)  # type: ignore[no-untyped-call]
    save_file(net.state_dict(), tmp_path / "x.safetensors")
    stated = {**STATED, "preprocessing": "IMAGENET1K_V1"}
    model = resnet_rs.load(tmp_path / "x.safetensors", **stated)
    x = np.random.default_rng(0).standard_normal((2, 64, 64, 3), dtype=np.float32)
    with torch.no_grad():
        expected = net.double()(torch.from_numpy(x.transpose(0, 3, 1, 2)).double()).numpy()
    error = np.abs(model.forward(x) - expected).max() / np.abs(expected).max()
    assert error <= TOLERANCE


def normed(net: ResNet) -> str:
    nn.utils.weight_norm(net.layer1[0].conv1)
    return r"layer1\.0\.conv1\.weight_g: .* of layer1\.0\.conv1 .*weight norm.*remove_weight_norm"


def spectral(net: ResNet) -> str:
    spectral_norm(net.fc)
    return r"fc\.weight_u: .* of fc from it \(spectral norm\): call .*remove_spectral_norm"


def parametrized(net: ResNet) -> str:
    parametrizations.weight_norm(net.conv1)
    return r"conv1\.parametrizations\.weight\.original0: .* of conv1 .*remove_parametrizations"


@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning")
@pytest.mark.parametrize("change", [normed, spectral, parametrized])
@pytest.mark.parametrize("stated", [{}, STATED], ids=["", "stated"])
def test_other_computations_are_refused_with_what_ends_them(
    change: Callable[[ResNet], str], stated: dict[str, Any], tmp_path: Path
) -> None:
    net = network()
    message = change(net)
    torch.save(net.state_dict(), tmp_path / "x.pth")
    with pytest.raises(WeightsError, match=message) as caught:
        formats.read(tmp_path / "x.pth", **stated)
    assert str(tmp_path) in str(caught.value)

"""Whole pickled models: what stands behind the last layer, and around the network."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_torch import TinyResNet, randomize, tiny_variant
from torch import nn
from torchvision.models.resnet import Bottleneck
from torchvision.models.resnet import ResNet as TorchResNet

import resnet_rs
from resnet_rs import ResNet, WeightsError

TOLERANCE = 1e-5
SPEC = {"resize": 64, "crop": 64, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
PHOTO = np.random.default_rng(7).integers(0, 256, (64, 64, 3), np.uint8)


def network() -> TorchResNet:
    net = TorchResNet(Bottleneck, [1, 1, 1, 1], num_classes=5, width_per_group=16)
    randomize(net)
    return net


def with_fc(*behind: nn.Module) -> TorchResNet:
    net = network()
    net.fc = nn.Sequential(net.fc, *behind)
    return net


class Wrapper(nn.Module):
    """A class of one's own around the network."""

    def __init__(self, *behind: nn.Module) -> None:
        super().__init__()
        self.net = network()
        self.loss = nn.CrossEntropyLoss()
        self.behind = nn.ModuleList(behind)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.net(x)
        for module in self.behind:
            x = module(x)
        return x


def loaded(net: nn.Module, path: Path, **options: Any) -> tuple[ResNet, list[str]]:
    torch.save(net, path / "net.pth")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        model = resnet_rs.load(path / "net.pth", preprocessing=SPEC, **options)
    return model, [str(each.message) for each in seen]


def torchs_result(net: nn.Module) -> torch.Tensor:
    x = (torch.from_numpy(PHOTO).double() / 255 - 0.5) / 0.5
    with torch.no_grad():
        result: torch.Tensor = net.double()(x.permute(2, 0, 1)[None])[0]
    return result


FUNCTIONS = {
    "sigmoid": nn.Sigmoid(),
    "softmax": nn.Softmax(dim=1),
    "softmax of the last axis": nn.Softmax(dim=-1),
    "log softmax": nn.LogSoftmax(dim=1),
}
PLACES = {
    "in fc": with_fc,
    "behind the network": lambda module: nn.Sequential(network(), module),
    "behind a dropout": lambda module: nn.Sequential(network(), nn.Dropout(), module).eval(),
    "wrapped": lambda module: nn.DataParallel(nn.Sequential(network(), module)),
}


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("place", PLACES)
def test_a_module_behind_the_last_layer_is_the_output_function(
    function: str, place: str, tmp_path: Path
) -> None:
    net = PLACES[place](FUNCTIONS[function])
    model, said = loaded(net, tmp_path)
    assert model.config.activation == function.removeprefix("log ").split()[0]
    # DataParallel computes on GPUs alone.
    expected = torchs_result(net.module if isinstance(net, nn.DataParallel) else net)
    expected = expected.exp() if "log" in function else expected
    np.testing.assert_allclose(model.probabilities(PHOTO), expected, rtol=0, atol=TOLERANCE)
    if "log" in function:
        (warning,) = said
        assert "ends in LogSoftmax" in warning
    else:
        assert said == []


HARMLESS = {
    "identity": with_fc(nn.Identity()),
    "dropout": with_fc(nn.Dropout()).eval(),
    "flatten": with_fc(nn.Flatten()),
    "before": nn.Sequential(nn.Identity(), network()),
}


@pytest.mark.parametrize("case", HARMLESS)
def test_modules_that_change_nothing_pass(case: str, tmp_path: Path) -> None:
    net = HARMLESS[case]
    model, said = loaded(net, tmp_path)
    assert (model.config.activation, said) == ("softmax", [])
    expected = torchs_result(net).softmax(0)
    np.testing.assert_allclose(model.probabilities(PHOTO), expected, rtol=0, atol=TOLERANCE)


REFUSED: list[tuple[nn.Module, str]] = [
    (with_fc(nn.ReLU()), r"module fc\.1 \(ReLU\): it is behind the last layer"),
    (with_fc(nn.Tanh()), r"module fc\.1 \(Tanh\): it is behind the last layer"),
    (nn.Sequential(network(), nn.Tanh()), r"module 1 \(Tanh\): it is behind the last layer"),
    (nn.Sequential(network(), nn.AvgPool2d(2)), r"module 1 \(AvgPool2d\): it is behind"),
    (nn.Sequential(nn.Upsample(64), network()), r"module 0 \(Upsample\): it is before the network"),
    (nn.Sequential(nn.Sigmoid(), network()), r"module 0 \(Sigmoid\): it is before the network"),
    (nn.Sequential(nn.ReLU(), network()), r"module 0 \(ReLU\): it is before the network"),
    (with_fc(nn.Sigmoid(), nn.Softmax(1)), r"fc\.2 \(Softmax\): a second output function, .*fc\.1"),
    (with_fc(nn.Softmax(0)), r"fc\.1 \(Softmax\): dim is 0; expected 1"),
]


@pytest.mark.parametrize(("net", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_other_modules_are_refused_by_name(net: nn.Module, message: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=message):
        loaded(net, tmp_path)


def test_embeddings_come_before_all_that_is_behind(tmp_path: Path) -> None:
    model, said = loaded(with_fc(nn.Tanh()), tmp_path, num_classes=0)
    assert (model.config.activation, said) == ("none", [])


def test_a_function_without_a_last_layer_is_refused(tmp_path: Path) -> None:
    own = {"blocks": [1, 1, 1, 1], "width_per_group": 16}
    body = [*network().children()][:-1]
    stated: dict[str, Any] = {"architecture": "resnet50", "variant": own}
    model, _ = loaded(nn.Sequential(*body, nn.Flatten()), tmp_path, **stated)
    assert model.config.num_classes == 0
    with pytest.raises(WeightsError, match=r"\(Sigmoid\): an output function without a last layer"):
        loaded(nn.Sequential(*body, nn.Flatten(), nn.Sigmoid()), tmp_path, **stated)


def test_what_a_known_forward_does_not_call_is_left_out_with_a_warning(tmp_path: Path) -> None:
    net = network()
    net.activation = nn.Sigmoid()
    model, (warning,) = loaded(net, tmp_path)
    assert model.config.activation == "softmax"
    assert "module activation (Sigmoid) is left out" in warning
    np.testing.assert_allclose(
        model.probabilities(PHOTO), torchs_result(net).softmax(0), rtol=0, atol=TOLERANCE
    )
    model, said = loaded(net.float(), tmp_path, activation="sigmoid")
    assert (model.config.activation, said) == ("sigmoid", [])


class TestAClassOfOnesOwn:
    """Its forward is not in the file."""

    def test_around_the_network_it_is_named(self, tmp_path: Path) -> None:
        model, (warning,) = loaded(Wrapper(), tmp_path)
        assert "the forward of test_module_outputs.Wrapper around the network" in warning
        assert 'key="net" reads the network alone' in warning
        assert warning.split(": ", 1)[1] in model.remarks
        alone, said = loaded(Wrapper(nn.Sigmoid()), tmp_path, key="net")
        assert (alone.config.activation, said) == ("softmax", [])

    def test_its_output_function_is_an_assumption(self, tmp_path: Path) -> None:
        net = Wrapper(nn.Sigmoid())
        model, (_, warning) = loaded(net, tmp_path)
        assert model.config.activation == "sigmoid"
        assert "module behind.0 (Sigmoid) is taken for the output function" in warning
        np.testing.assert_allclose(
            model.probabilities(PHOTO), torchs_result(net), rtol=0, atol=TOLERANCE
        )
        model, (_,) = loaded(net.float(), tmp_path, activation="none")
        assert model.config.activation == "none"

    def test_is_a_network_that_is_stated(self, tmp_path: Path) -> None:
        net = TinyResNet()
        net.act = nn.Sigmoid()
        stated = {"architecture": "resnet50", "variant": tiny_variant()}
        model, (warning,) = loaded(net, tmp_path, **stated)
        assert model.config.activation == "sigmoid"
        assert "module act (Sigmoid) is taken for the output function" in warning

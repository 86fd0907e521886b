"""The paper's networks for CIFAR: state dicts, the three kinds of shortcuts, the preset."""

from __future__ import annotations

import re
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional
from torch_variants import VariantResNet

import resnet_rs
from resnet_rs import CifarResNet20, WeightsError
from resnet_rs.inspect.compare import compare
from resnet_rs.inspect.summary import summarize_architecture

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))

from random_resnet import random_tensors
from torch_family import CIFAR
from torch_reference import build_reference, fill, reference_logits, relative_l2

RTOL = 1e-5
"""As in test_family_parity.py."""

SMALL: dict[str, Any] = {"stem": "conv3x3", "stem_widths": [16], "block": "basic"}
SMALL |= {"blocks": [3, 3, 3], "widths": [16, 32, 64]}


def option_a(reduce: str, zeros: str) -> dict[str, Any]:
    return {"pad": {"reduce": reduce, "zeros": zeros}}


FORMS = [option_a(reduce, zeros) for reduce in ("slice", "average") for zeros in ("around", "end")]


def network(variant: dict[str, Any]) -> nn.Module:
    """A network with random weights and statistics, in f64."""
    model = VariantResNet({**SMALL, **variant}, 10, 32)
    counters = {k: v for k, v in model.state_dict().items() if k.endswith("_tracked")}
    shapes = {k: v.shape for k, v in model.state_dict().items() if k not in counters}
    return fill(model, random_tensors(shapes, seed=4) | counters)


def saved(model: nn.Module, path: Path) -> Path:
    state = {name: tensor.float() for name, tensor in model.state_dict().items()}
    if path.suffix == ".safetensors":
        arrays = {n: t.numpy() for n, t in state.items() if not n.endswith("_tracked")}
        resnet_rs._core.write_safetensors(str(path), arrays, {"format": "pt"})
    else:
        torch.save(state, path)
    return path


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(7).standard_normal(shape, dtype=np.float32)


def assert_equal(ours: resnet_rs.ResNet, model: nn.Module) -> None:
    for shape in ((1, 32, 32, 3), (3, 33, 29, 3)):
        x = noise(*shape)
        assert relative_l2(ours.forward(x), reference_logits(model, x)) <= RTOL


class TestStateDicts:
    @pytest.mark.parametrize("architecture", ["cifar_resnet20", "cifar_resnet56"])
    @pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
    def test_the_architecture_is_enough(
        self, architecture: str, suffix: str, tmp_path: Path
    ) -> None:
        from random_resnet import random_state_dict

        state = random_state_dict(seed=3, num_classes=10, architecture=architecture)
        model = build_reference(state, architecture)
        path = saved(model, tmp_path / f"net{suffix}")
        with pytest.warns(UserWarning, match="CIFAR10|option A") as caught:
            ours = resnet_rs.load(path, architecture=architecture)
        assert_equal(ours, model)
        words = [str(warning.message) for warning in caught]
        assert len(words) == 2
        assert sum("option A" in each and "every second pixel" in each for each in words) == 1
        assert sum("assuming CIFAR10 preprocessing" in each for each in words) == 1
        assert all(str(path) in each for each in words)
        assert ours.config.preprocessing.crop == ours.config.preprocessing.resize == 32
        assert not ours.config.variant

    @pytest.mark.parametrize("shortcut", FORMS, ids=str)
    def test_every_form_of_option_a(self, shortcut: dict[str, Any], tmp_path: Path) -> None:
        model = network({"shortcut": shortcut})
        path = saved(model, tmp_path / "net.pth")
        variant = {"shortcut": shortcut}
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            ours = CifarResNet20(path, variant=variant, preprocessing="CIFAR10")
        assert_equal(ours, model)
        slow = CifarResNet20(
            path, variant=variant, preprocessing="CIFAR10", backend="reference", num_classes=10
        )
        x = noise(1, 32, 32, 3)
        assert relative_l2(slow.forward(x), reference_logits(model, x)) <= RTOL
        comparison = compare(ours, model.float(), x)
        assert comparison.ok
        assert "layer2.0.downsample" in {row.name for row in comparison.rows}

    @pytest.mark.parametrize("shortcut", ["conv", "conv_always"])
    @pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
    def test_shapes_tell_options_b_and_c(self, shortcut: str, suffix: str, tmp_path: Path) -> None:
        model = network({"shortcut": shortcut})
        path = saved(model, tmp_path / f"net{suffix}")
        ours = resnet_rs.load(path, architecture="cifar_resnet20", preprocessing="CIFAR10")
        assert ours.config.variant == {"shortcut": shortcut}
        assert_equal(ours, model)

    def test_shapes_tell_option_a_of_another_architecture(self, tmp_path: Path) -> None:
        model = network({"shortcut": FORMS[0], "blocks": [1, 1, 1]})
        path = saved(model, tmp_path / "net.pth")
        fields = {k: v for k, v in SMALL.items() if k != "block"} | {"blocks": [1, 1, 1]}
        with pytest.warns(UserWarning, match="option A"):
            ours = resnet_rs.load(
                path, architecture="resnet18", variant=fields, preprocessing="CIFAR10"
            )
        assert ours.config.variant["shortcut"] == FORMS[0]
        assert_equal(ours, model)

    def test_a_resnet50_without_its_shortcuts_is_damaged_and_no_option_a(
        self, tmp_path: Path
    ) -> None:
        from random_resnet import random_state_dict

        state = random_state_dict(seed=3, num_classes=3, architecture="resnet50")
        damaged = {name: t for name, t in state.items() if "downsample" not in name}
        torch.save(damaged, tmp_path / "net.pth")
        with pytest.raises(WeightsError, match=r"layer1\.0\.downsample\.0\.weight"):
            resnet_rs.load(tmp_path / "net.pth", architecture="resnet50")

    def test_nothing_stated_names_the_network(self, tmp_path: Path) -> None:
        path = saved(network({"shortcut": FORMS[0]}), tmp_path / "net.pth")
        with pytest.raises(WeightsError) as caught:
            resnet_rs.load(path)
        message = str(caught.value)
        assert 'Their shapes fit architecture="cifar_resnet20": if it is that' in message
        assert '"shortcut": {"pad": {"reduce": "average", "zeros": "end"}}' in message
        assert '"stem": "conv3x3" alone has no pool' in message

    def test_a_saved_directory_asks_and_assumes_nothing(self, tmp_path: Path) -> None:
        model = network({"shortcut": FORMS[3]})
        path = saved(model, tmp_path / "net.pth")
        first = CifarResNet20(path, variant={"shortcut": FORMS[3]}, preprocessing="CIFAR10")
        first.save(tmp_path / "saved")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            again = resnet_rs.load(tmp_path / "saved")
        assert again.config.variant == {"shortcut": FORMS[3]}
        x = noise(1, 32, 32, 3)
        np.testing.assert_array_equal(again.forward(x), first.forward(x))


class TestSummaries:
    @pytest.mark.parametrize(
        ("architecture", "millions"),
        list(zip(CIFAR, (0.27, 0.46, 0.66, 0.85, 1.7), strict=True)),
    )
    def test_the_papers_parameters(self, architecture: str, millions: float) -> None:
        summary = summarize_architecture(architecture, 32, num_classes=10)
        assert summary.parameters / 1e6 == pytest.approx(
            millions, abs=0.05 if millions > 1 else 0.005
        )
        cls = getattr(resnet_rs, architecture.replace("cifar_resnet", "CifarResNet"))
        words = re.search(r"([\d.]+) million .* ([\d.]+) GMAC at 32 x 32", cls.__doc__)
        assert words is not None
        assert float(words[1]) == round(summary.parameters / 1e6, 2)
        assert float(words[2]) == round(summary.macs / 1e9, 2)

    @pytest.mark.parametrize(
        ("shortcut", "parameters"),
        [(FORMS[0], 269_722), ("conv", 272_474), ("conv_always", 283_962)],
    )
    def test_the_three_options(self, shortcut: Any, parameters: int) -> None:
        summary = summarize_architecture(
            "cifar_resnet20", 32, num_classes=10, variant={"shortcut": shortcut}
        )
        assert summary.parameters == parameters
        model = network({"shortcut": shortcut})
        assert parameters == sum(p.numel() for p in model.parameters())


class TestPreset:
    def test_an_image_of_its_size_stays_as_it_is(self, tmp_path: Path) -> None:
        path = saved(network({"shortcut": FORMS[0]}), tmp_path / "net.pth")
        model = CifarResNet20(path, variant={"shortcut": FORMS[0]}, preprocessing="CIFAR10")
        pixels = np.random.default_rng(1).integers(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "a.png")
        mean, std = np.array([0.4914, 0.4822, 0.4465]), np.array([0.2023, 0.1994, 0.2010])
        expected = (pixels / 255 - mean) / std
        np.testing.assert_allclose(
            model.preprocess(tmp_path / "a.png")[0], expected, rtol=1e-5, atol=1e-6
        )

    def test_a_larger_photo_is_made_small(self, tmp_path: Path) -> None:
        path = saved(network({"shortcut": FORMS[0]}), tmp_path / "net.pth")
        model = CifarResNet20(path, variant={"shortcut": FORMS[0]}, preprocessing="CIFAR10")
        pixels = np.zeros((300, 400, 3), np.uint8)
        assert model.preprocess(pixels).shape == (1, 32, 32, 3)


class Offset(nn.Module):
    """Every second pixel from the second one on, zeros around."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        half = x.shape[1] // 2
        moved = functional.pad(x[:, :, 1:, 1:], (0, 1, 0, 1), mode="replicate")
        return functional.pad(moved[:, :, ::2, ::2], (0, 0, 0, 0, half, half))


class TestMistakes:
    """`compare` says which form of option A the other side has."""

    @pytest.mark.parametrize(
        ("wrong", "words"),
        [
            (option_a("slice", "end"), "the channels of zeros lie after them"),
            (option_a("average", "around"), "it takes the mean of 2 x 2"),
        ],
        ids=str,
    )
    def test_another_form(self, wrong: dict[str, Any], words: str, tmp_path: Path) -> None:
        self._assert_found(network({"shortcut": wrong}), words, tmp_path)

    def test_the_other_pixels(self, tmp_path: Path) -> None:
        model = network({"shortcut": FORMS[0]})
        for block in (model.layer2[0], model.layer3[0]):
            block.downsample = Offset()
        self._assert_found(model, "every second pixel, from the second one on", tmp_path)

    @staticmethod
    def _assert_found(model: nn.Module, words: str, tmp_path: Path) -> None:
        path = saved(network({"shortcut": FORMS[0]}), tmp_path / "net.pth")
        ours = CifarResNet20(path, variant={"shortcut": FORMS[0]}, preprocessing="CIFAR10")
        comparison = compare(ours, model.float(), noise(1, 32, 32, 3))
        assert not comparison.ok
        assert words in str(comparison)

"""The question about what a state dict does not show, and the tensors that raise it."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch_variants import DEFAULTS, VariantResNet

import resnet_rs
from resnet_rs import WeightsError

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))

from random_resnet import random_tensors
from torch_reference import fill, reference_logits, relative_l2

RTOL = 1e-5
"""As in test_family_parity.py."""

PLAIN = {"mean": [0.5] * 3, "std": [0.5] * 3, "resize": 64, "crop": 64}

FIELDS = {k: DEFAULTS[k] for k in ("blocks", "widths", "stem_widths")}
"""The fields that every load here states, because the networks are small."""


def network(variant: dict[str, Any]) -> VariantResNet:
    model = VariantResNet(variant, 5, 64)
    counters = {k: v for k, v in model.state_dict().items() if k.endswith("_tracked")}
    shapes = {k: v.shape for k, v in model.state_dict().items() if k not in counters}
    fill(model, random_tensors(shapes, seed=9) | counters)
    return model


def state_of(model: nn.Module, prefix: str = "") -> dict[str, torch.Tensor]:
    return {f"{prefix}{n}": t.float() for n, t in model.state_dict().items()}


def message_of(path: Path, **options: Any) -> str:
    with pytest.raises(WeightsError) as caught:
        resnet_rs.load(path, **options)
    return str(caught.value)


def fields_in(message: str) -> dict[str, Any]:
    """Read the lines of fields as they would be pasted."""
    lines = re.findall(r'^  ("\w+": .+?)  +\w', message, re.MULTILINE)
    return {k: v for line in lines for k, v in ast.literal_eval("{" + line + "}").items()}


def test_the_question_lists_all_that_the_tensors_do_not_show(tmp_path: Path) -> None:
    torch.save(state_of(network({})), tmp_path / "net.pth")
    message = message_of(tmp_path / "net.pth")
    assert fields_in(message) == {
        "stride_on": "conv1",
        "dilation": [1, 1, 2, 4],
        "last_stride": 1,
        "stem_stride": 1,
        "stem_pool": "none",
        "head": "global_max_pool",
        "norm_epsilon": 1e-3,
    }
    for words in ("max_ceil", "Caffe", "resnetblur50", "resnetaa50", "GeM", "LeakyReLU"):
        assert words in message


def test_fields_that_are_stated_are_not_asked_for(tmp_path: Path) -> None:
    torch.save(state_of(network({})), tmp_path / "net.pth")
    message = message_of(tmp_path / "net.pth", variant={"stride_on": "conv1", "last_stride": 1})
    assert fields_in(message).keys().isdisjoint({"stride_on", "last_stride"})
    assert "dilation" in fields_in(message)


@pytest.mark.parametrize(
    ("stem", "fields"),
    [
        ("conv3x3", {"stem_stride": 2, "stem_pool": "max"}),
        ("conv7x7", {"stem_stride": 1, "stem_pool": "none"}),
    ],
)
def test_a_small_stem_is_said_to_have_no_pool(
    stem: str, fields: dict[str, Any], tmp_path: Path
) -> None:
    torch.save(state_of(network({"stem": stem, "block": "basic"})), tmp_path / "net.pth")
    message = message_of(tmp_path / "net.pth")
    assert fields.items() <= fields_in(message).items()
    for words in (
        '"stem": "conv3x3" alone has no pool',
        "(conv3x3: a stem with stride 1 and no max",
    ):
        assert (words in message) is (stem == "conv3x3")
    assert "stride_on" not in fields_in(message)


@pytest.mark.parametrize("field", range(7))
def test_each_field_that_is_asked_for_gives_the_network_that_has_it(
    field: int, tmp_path: Path
) -> None:
    torch.save(state_of(network({})), tmp_path / "net.pth")
    name, value = list(fields_in(message_of(tmp_path / "net.pth")).items())[field]
    model = network({name: value})
    torch.save(state_of(model), tmp_path / "other.pth")
    ours = resnet_rs.load(
        tmp_path / "other.pth",
        architecture="resnet50",
        variant={**FIELDS, name: value},
        preprocessing=PLAIN,
    )
    x = np.random.default_rng(1).standard_normal((2, 61, 45, 3), np.float32)
    assert relative_l2(ours.forward(x), reference_logits(model, x)) <= RTOL


class TestTensorsBesideTheNetwork:
    SEGMENTATION = (
        ("aux_classifier.0.weight", (4, 64, 3, 3)),
        ("classifier.4.weight", (21, 8, 1, 1)),
    )

    @pytest.mark.parametrize(("name", "shape"), SEGMENTATION)
    @pytest.mark.parametrize("dilation", [[1, 1, 2, 4], [1, 1, 1, 1]])
    def test_a_segmentation_head_asks_for_the_dilation(
        self, name: str, shape: tuple[int, ...], dilation: list[int], tmp_path: Path
    ) -> None:
        model = network({"dilation": dilation, "blocks": [1, 1, 2, 2]})
        state = {n: t for n, t in state_of(model, "backbone.").items() if ".fc." not in n}
        torch.save({**state, name: torch.zeros(shape)}, tmp_path / "net.pth")
        variant = {**FIELDS, "blocks": [1, 1, 2, 2]}
        options = {"architecture": "resnet50", "num_classes": 0, "preprocessing": PLAIN}
        message = message_of(tmp_path / "net.pth", variant=variant, **options)
        assert name in message
        assert 'variant={"dilation": [1, 1, 2, 4]}' in message
        assert 'variant={"dilation": [1, 1, 1, 1]}' in message
        with pytest.warns(UserWarning, match="left out"):
            ours = resnet_rs.load(
                tmp_path / "net.pth", variant={**variant, "dilation": dilation}, **options
            )
        del model.fc
        x = np.random.default_rng(1).standard_normal((1, 64, 48, 3), np.float32)
        assert relative_l2(ours.forward(x).reshape(1, -1), reference_logits(model, x)) <= RTOL

    @pytest.mark.parametrize("stride", [1, 2])
    @pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
    def test_a_bottleneck_beside_the_network_asks_for_the_last_stride(
        self, stride: int, suffix: str, tmp_path: Path
    ) -> None:
        model = network({"last_stride": stride})
        path = tmp_path / f"net{suffix}"
        state = {n: t for n, t in state_of(model).items() if not n.endswith("_tracked")}
        state["bottleneck.weight"] = torch.ones(128)
        if suffix == ".pth":
            torch.save(state, path)
        else:
            arrays = {n: t.numpy() for n, t in state.items()}
            resnet_rs._core.write_safetensors(str(path), arrays, {})
        options: dict[str, Any] = {"architecture": "resnet50", "preprocessing": PLAIN}
        message = message_of(path, variant=FIELDS, **options)
        assert "bottleneck.weight" in message
        assert 'variant={"last_stride": 1}' in message
        assert 'variant={"last_stride": 2}' in message
        answer = {**FIELDS, "last_stride": stride}
        with pytest.warns(UserWarning, match="bottleneck.weight"):
            ours = resnet_rs.load(path, variant=answer, num_classes=0, **options)
        del model.fc
        x = np.random.default_rng(1).standard_normal((1, 64, 48, 3), np.float32)
        assert relative_l2(ours.forward(x).reshape(1, -1), reference_logits(model, x)) <= RTOL

    def test_a_linear_head_of_that_number_asks_nothing(self, tmp_path: Path) -> None:
        state = {**state_of(network({})), "classifier.4.weight": torch.zeros(5, 8)}
        torch.save(state, tmp_path / "net.pth")
        message = message_of(tmp_path / "net.pth", architecture="resnet50", variant=FIELDS)
        assert "dilat" not in message

"""Every member of the family and every variant against torch in f64.

The members are torchvision's and timm's own modules; the variants are the small modules of
`torch_variants`. Weights and batch-norm statistics are random, so that each of them matters.
"""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from numpy.typing import NDArray
from torch_variants import DEFAULTS, VariantResNet

import resnet_rs
from resnet_rs import _core

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))

from random_resnet import random_state_dict, random_tensors
from torch_family import ARCHITECTURES, CIFAR, TORCHVISION, import_timm
from torch_reference import (
    build_reference,
    fill,
    reference_logits,
    reference_operations,
    relative_l2,
)

RTOL = 1e-5
"""Largest relative L2 error of any step and of the logits.

A f32 convolution adds 3e-7 to 1e-6 and steps deep in a network inherit some of it: 6e-6 at most in
the networks here. A wrong tap, stride, group or statistic gives more than 1e-2.
"""

CLASSES = 7

SLOW = {"resnet200", "resnet200d", "resnext101_32x4d"}
"""Networks that take torch in f64 long and have nothing that the others lack."""

STAGES = ["layer1", "layer2", "layer3", "layer4"]


def arrays(state: dict[str, torch.Tensor]) -> dict[str, NDArray[np.float32]]:
    return {name: tensor.numpy() for name, tensor in state.items()}


def noise(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(sum(shape)).standard_normal(shape, dtype=np.float32)


def config_of(architecture: str, variant: dict[str, Any] | None = None, **more: Any) -> str:
    return json.dumps(
        {"format_version": 1, "architecture": architecture, "variant": variant or {}, **more}
    )


class TestArchitectures:
    """The members, with random weights and statistics, at an odd size and batches of 1 and 3.

    One small size, because torch in f64 takes most of the time. The variants below, which are
    small networks, have others.
    """

    def test_the_core_has_every_one(self) -> None:
        assert sorted(_core.architectures()) == sorted(ARCHITECTURES)

    @pytest.mark.parametrize(
        "architecture",
        [
            pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else [])
            for name in ARCHITECTURES
        ],
    )
    def test_logits_and_maps(self, architecture: str) -> None:
        state = random_state_dict(seed=1, num_classes=CLASSES, architecture=architecture)
        model = build_reference(state, architecture)
        network = _core.Network.from_tensors(
            arrays(state), config_of(architecture), origin=architecture
        )
        x = noise(3, 61, 45, 3)
        expected = reference_operations(model, x)
        assert relative_l2(network.logits(x), expected["fc"]) <= RTOL
        assert relative_l2(network.logits(x[1:2]), expected["fc"][1:2]) <= RTOL
        ends = last_blocks(expected)
        stages = STAGES[:3] if architecture in CIFAR else STAGES
        assert [name.partition(".")[0] for name in ends] == stages
        for end, features in zip(ends, network.features(x, stages), strict=True):
            assert relative_l2(features, expected[end]) <= RTOL, end

    @pytest.mark.parametrize(
        "architecture",
        ["resnet18", "resnet50d", "resnext50_32x4d", "cifar_resnet20"],
        scope="module",
    )
    @pytest.mark.parametrize("winograd", [True, False])
    def test_every_operation_has_torchs_name_and_numbers(
        self, architecture: str, winograd: bool, isa: str
    ) -> None:
        state, x, expected = state_input_and_operations(architecture)
        config = config_of(architecture)
        names = [step["name"] for step in _core.operations(config, 45, 61)]
        assert names == list(expected)
        for fused in (True, False):
            network = _core.Network.from_tensors(
                arrays(state), config, origin="test", isa=isa, winograd=winograd, fused=fused
            )
            steps = network.activations(x)
            assert_steps(steps, expected)
            if not fused:
                assert [name for name, _ in steps] == names


@functools.lru_cache(maxsize=1)
def state_input_and_operations(
    architecture: str,
) -> tuple[dict[str, torch.Tensor], NDArray[np.float32], dict[str, NDArray[np.float64]]]:
    """One result of torch for every tier: its f64 takes far longer than the networks it judges."""
    state = random_state_dict(seed=2, num_classes=CLASSES, architecture=architecture)
    x = noise(1, 45, 61, 3)
    return state, x, reference_operations(build_reference(state, architecture), x)


def last_blocks(operations: dict[str, Any]) -> list[str]:
    """The last block of each stage, which is what the stage gives."""
    blocks = [name for name in operations if name.count(".") == 1 and name.startswith("layer")]
    return [
        name
        for name, following in zip(blocks, [*blocks[1:], ""], strict=True)
        if name.partition(".")[0] != following.partition(".")[0]
    ]


def assert_steps(
    steps: list[tuple[str, NDArray[np.float32]]], expected: dict[str, NDArray[np.float64]]
) -> None:
    """Compare each step with the operation of its name, and name the first wrong one."""
    for name, actual in steps:
        # fc is [batch, classes] in torch and [batch, 1, 1, classes] among our NHWC steps.
        error = relative_l2(actual.reshape(expected[name].shape), expected[name])
        assert error <= RTOL, f"first wrong step: {name}, {error:.1e}"


TORCHVISION_LOGITS = {
    "resnet18": (0.5009, 0.5224, 0.2608),
    "resnet34": (1.2882, 8.955, -13.4522),
    "resnet50": (12.3466, -19.239, 3.2794),
    "resnet101": (8159.73, -27164.41, 2997.91),
    "resnet152": (4389913, 566856.4, 22541028),
    "resnext50_32x4d": (0.0638, 0.0145, -0.0153),
    "wide_resnet50_2": (8.1568, -5.4593, -1.8899),
}
"""The first logits of torchvision's `test_classification_model`, which its recorded results hold.

torch 2.15 computes these. Most networks are not normalised by their fresh batch norms, so that the
logits grow with every block.
"""

SHOWN_RTOL = 1e-3
"""The table's digits, relative to the largest of the three logits; torchvision's own tolerance."""

SMALL_SIDE = 64
"""The input of torchvision's test for the networks that it calls slow."""


class TestTorchvisionsOwnNumbers:
    """`test/test_models.py::test_classification_model`: seed 0, 50 classes, noise as input."""

    @pytest.mark.parametrize("architecture", TORCHVISION)
    def test_exported_state_dict(self, architecture: str, tmp_path: Path) -> None:
        torch.manual_seed(0)
        model = torchvision.models.get_model(architecture, num_classes=50).eval()
        shown = TORCHVISION_LOGITS.get(architecture)
        side = 224 if shown else SMALL_SIDE
        x = torch.rand(1, 3, side, side)
        with torch.inference_mode():
            expected = model(x).numpy()
        path = tmp_path / f"{architecture}.pth"
        torch.save(model.state_dict(), path)
        del model

        ours = resnet_rs.load(path, architecture=architecture, preprocessing="IMAGENET1K_V1")
        logits = ours.forward(np.ascontiguousarray(x.numpy().transpose(0, 2, 3, 1)))

        assert logits.shape == (1, 50)
        assert relative_l2(logits, expected) <= RTOL
        if shown:
            largest = np.abs(shown).max()
            np.testing.assert_allclose(logits[0, :3], shown, atol=SHOWN_RTOL * largest)


def A(reduce: str, zeros: str) -> dict[str, Any]:
    return {"pad": {"reduce": reduce, "zeros": zeros}}


SMALL: dict[str, Any] = {"stem": "conv3x3", "stem_widths": [16], "block": "basic"}
SMALL |= {"blocks": [2, 2, 2], "widths": [16, 32, 64]}

VARIANTS: dict[str, dict[str, Any]] = {
    "bottleneck": {},
    "basic": {"block": "basic"},
    "stride-of-v1": {"stride_on": "conv1"},
    "keras": {"stride_on": "conv1", "conv_bias": True, "norm_epsilon": 1.001e-5},
    "large-epsilon": {"norm_epsilon": 0.25},
    "grey": {"in_channels": 1},
    "four-channels": {"in_channels": 4},
    "deep-stem": {"stem": "deep", "stem_widths": [4, 6, 8]},
    "d-shortcut": {"shortcut": "avg_pool_conv"},
    "d-basic": {
        "block": "basic",
        "shortcut": "avg_pool_conv",
        "stem": "deep",
        "stem_widths": [5, 7, 9],
    },
    "relu-before-add": {"relu_before_add": True},
    "relu-before-add-basic": {"relu_before_add": True, "block": "basic"},
    "folded": {"batch_norm": False},
    "folded-d-basic": {"batch_norm": False, "block": "basic", "shortcut": "avg_pool_conv"},
    "cifar": {"stem": "conv3x3", "stem_widths": [16], "block": "basic", "blocks": [2, 2, 2]}
    | {"widths": [16, 32, 64]},
    "grouped": {"groups": 4, "width_per_group": 16},
    "grouped-with-2-channels": {"groups": 2, "width_per_group": 16},
    "wide": {"width_per_group": 128},
    "own-blocks-and-widths": {"blocks": [2, 1, 3], "widths": [5, 7, 11]},
    "five-stages": {"blocks": [1, 1, 1, 1, 1], "widths": [8, 12, 16, 20, 24]},
    "expansion": {"expansion": 2},
    "8192-head": {"head": {"avg_pool": {"kernel": 2, "stride": 2, "padding": 1}}}
    | {"widths": [8, 16, 32, 512]},
    "avg-pool-2": {"head": {"avg_pool": {"kernel": 2, "stride": 2, "padding": 0}}},
    "option-a-around": {"shortcut": A("slice", "around"), **SMALL},
    "option-a-end": {"shortcut": A("slice", "end"), **SMALL},
    "option-a-average": {"shortcut": A("average", "around"), **SMALL},
    "option-a-average-end": {"shortcut": A("average", "end"), **SMALL},
    "option-a-odd-widths": {"shortcut": A("slice", "around"), "block": "basic"}
    | {"widths": [8, 13, 26, 33]},
    "option-a-bottleneck": {"shortcut": A("average", "around")},
    "option-a-last-stride": {"shortcut": A("average", "end"), "last_stride": 1},
    "option-c": {"shortcut": "conv_always", "blocks": [2, 1, 2, 1]},
    "option-c-basic": {"shortcut": "conv_always", **SMALL},
    "plain": {"shortcut": "none", **SMALL},
    "plain-bottleneck": {"shortcut": "none"},
    "dilated": {"dilation": [1, 1, 2, 4], "blocks": [1, 1, 2, 2]},
    "dilated-once": {"dilation": [1, 2, 2, 2], "blocks": [1, 2, 1, 2]},
    "dilated-basic": {"dilation": [1, 1, 2, 4], "block": "basic", "blocks": [1, 1, 2, 2]},
    "dilated-v1": {"dilation": [1, 1, 1, 2], "stride_on": "conv1", "blocks": [1, 1, 1, 3]},
    "dilated-grouped": {"dilation": [1, 1, 2, 4], "groups": 4, "width_per_group": 16},
    "dilated-d": {"dilation": [1, 1, 2, 4], "shortcut": "avg_pool_conv", "stem": "deep"}
    | {"stem_widths": [4, 6, 8], "blocks": [1, 1, 2, 2]},
    "dilated-option-a": {"dilation": [1, 1, 2, 4], "shortcut": A("average", "end")},
    "dilated-folded": {"dilation": [1, 1, 2, 4], "batch_norm": False, "blocks": [1, 1, 2, 2]},
    "last-stride-1": {"last_stride": 1, "blocks": [1, 1, 1, 2]},
    "last-stride-1-d": {"last_stride": 1, "shortcut": "avg_pool_conv"},
    "last-stride-1-v1": {"last_stride": 1, "stride_on": "conv1", "conv_bias": True},
    "caffe-pool": {"stem_pool": "max_ceil", "stride_on": "conv1"},
    "no-pool": {"stem_pool": "none"},
    "stem-without-stride": {"stem_stride": 1},
    "small-stem-with-pool": {"stem": "conv3x3", "stem_pool": "max", "stem_stride": 2},
    "small-stem-with-caffe-pool": {"stem": "conv3x3", "stem_pool": "max_ceil", "block": "basic"},
    "deep-stem-without-stride": {"stem": "deep", "stem_widths": [4, 6, 8]}
    | {"stem_stride": 1, "stem_pool": "none"},
    "max-head": {"head": "global_max_pool"},
    "max-head-basic": {"head": "global_max_pool", "block": "basic"},
    "all-at-once": {
        "dilation": [1, 1, 2, 2],
        "last_stride": 1,
        "shortcut": A("average", "around"),
        "stem": "conv3x3",
        "stem_stride": 2,
        "stem_pool": "max_ceil",
        "head": "global_max_pool",
        "relu_before_add": True,
        "in_channels": 1,
        "blocks": [2, 1, 2, 2],
    },
    "by-hand": {
        "stride_on": "conv1",
        "relu_before_add": True,
        "conv_bias": True,
        "head": {"avg_pool": {"kernel": 2, "stride": 2, "padding": 1}},
    },
}


class Case:
    """A small network: its weights, its config and torch's modules."""

    def __init__(self, variant: dict[str, Any], num_classes: int = CLASSES, side: int = 64) -> None:
        self.variant = variant
        model = VariantResNet(variant, num_classes, side)
        counters = {k: v for k, v in model.state_dict().items() if k.endswith("_tracked")}
        shapes = {k: v.shape for k, v in model.state_dict().items() if k not in counters}
        self.state = random_tensors(shapes, seed=3)
        self.model = fill(model, self.state | counters)
        self.channels = model.variant["in_channels"]
        plain = [0.5] * self.channels
        preprocessing = {"resize": side, "crop": side, "interpolation": "bilinear"}
        self.config = config_of(
            "resnet50",
            {**DEFAULTS, **variant},
            num_classes=num_classes,
            preprocessing=preprocessing | {"mean": plain, "std": plain},
        )

    def network(self, **options: Any) -> _core.Network:
        return _core.Network.from_tensors(arrays(self.state), self.config, origin="test", **options)


@functools.lru_cache(maxsize=1)
def input_and_operations(
    case: Case, height: int, width: int
) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float64]]]:
    """Three images and what torch makes of them, once for every tier."""
    x = noise(3, height, width, case.channels)
    return x, reference_operations(case.model, x)


@pytest.fixture(scope="module", params=VARIANTS)
def case(request: pytest.FixtureRequest) -> Case:
    """Of the module's scope, so that pytest runs every tier of a case before the next case."""
    return Case(VARIANTS[request.param])


class TestVariants:
    @pytest.mark.parametrize("winograd", [True, False], ids=["winograd", "direct"])
    def test_every_step(self, case: Case, winograd: bool, isa: str) -> None:
        size = (64, 64) if isinstance(case.variant.get("head"), dict) else (49, 71)
        x, expected = input_and_operations(case, *size)
        names = [step["name"] for step in _core.operations(case.config, *size)]
        assert names == list(expected)

        for fused in (True, False):
            network = case.network(isa=isa, winograd=winograd, fused=fused)
            assert_steps(network.activations(x), expected)
            assert relative_l2(network.logits(x), expected["fc"]) <= RTOL
            one = network.logits(x[:1])
            np.testing.assert_array_equal(one, network.logits(x)[:1], "batches do not matter")
        ends = last_blocks(expected)
        stages = [end.partition(".")[0] for end in ends]
        for end, features in zip(ends, case.network(isa=isa).features(x, stages), strict=True):
            assert relative_l2(features, expected[end]) <= RTOL, end

    def test_8192_features(self) -> None:
        """The head of 64x64 networks: a 2x2 map, padded, pools to 2x2 again, times 2048."""
        case = Case(VARIANTS["8192-head"])
        assert case.state["fc.weight"].shape == (CLASSES, 8192)
        steps = {s["name"]: s["output_shape"] for s in _core.operations(case.config, 64, 64)}
        assert tuple(steps["avgpool"]) == (2, 2, 2048)

    def test_average_of_a_7x7_map(self, isa: str) -> None:
        """AvgPool2d(7) on 224x224 input is what the global average is there."""
        case = Case({"head": {"avg_pool": {"kernel": 7, "stride": 7, "padding": 0}}}, side=224)
        x = noise(1, 224, 224, 3)
        logits = case.network(isa=isa).logits(x)
        assert relative_l2(logits, reference_logits(case.model, x)) <= RTOL

    @pytest.mark.parametrize("block", ["basic", "bottleneck"])
    def test_without_classes_the_pooled_features_come_out(self, block: str, isa: str) -> None:
        case = Case({"block": block}, num_classes=0)
        x = noise(3, 49, 71, 3)
        network = case.network(isa=isa)
        pooled = network.logits(x)
        assert pooled.shape == (3, 32 * (4 if block == "bottleneck" else 1))
        assert relative_l2(pooled, reference_logits(case.model, x)) <= RTOL
        np.testing.assert_array_equal(pooled, network.embed(x))

    def test_a_files_fc_is_ignored_without_classes(self) -> None:
        case, without = Case({}), Case({}, num_classes=0)
        x = noise(1, 49, 71, 3)
        headless = _core.Network.from_tensors(arrays(case.state), without.config, origin="test")
        np.testing.assert_array_equal(headless.logits(x), case.network().embed(x))

    @pytest.mark.parametrize("variant", ["stride-of-v1", "large-epsilon", "relu-before-add"])
    def test_what_tensors_cannot_say_matters(self, variant: str) -> None:
        """The comparisons above would notice a config that is ignored."""
        case, bottleneck = Case(VARIANTS[variant]), Case(VARIANTS["bottleneck"])
        x = noise(1, 49, 71, 3)
        plain = _core.Network.from_tensors(arrays(case.state), bottleneck.config, origin="test")
        assert relative_l2(plain.logits(x), reference_logits(case.model, x)) > 1e-2


class TestDilatedNetworksOfOthers:
    """torchvision's and timm's own dilated networks, by the fields that describe them."""

    @pytest.mark.parametrize(
        ("replaced", "dilation"),
        [
            ([False, True, True], [1, 1, 2, 4]),
            ([False, False, True], [1, 1, 1, 2]),
            ([True, False, False], [1, 2, 2, 2]),
            ([True, True, True], [1, 2, 4, 8]),
        ],
    )
    def test_torchvision(self, replaced: list[bool], dilation: list[int], tmp_path: Path) -> None:
        model = torchvision.models.resnet50(
            num_classes=CLASSES, replace_stride_with_dilation=replaced
        )
        self._assert_equal(model, "resnet50", {"dilation": dilation}, tmp_path)

    @pytest.mark.parametrize(
        ("architecture", "output_stride", "dilation"),
        [
            ("resnet18", 8, [1, 1, 2, 4]),
            ("resnet26d", 16, [1, 1, 1, 2]),
            ("resnet26d", 8, [1, 1, 2, 4]),
            ("resnet18d", 8, [1, 1, 2, 4]),
        ],
    )
    def test_timm(
        self, architecture: str, output_stride: int, dilation: list[int], tmp_path: Path
    ) -> None:
        model = import_timm().create_model(
            architecture, num_classes=CLASSES, output_stride=output_stride
        )
        self._assert_equal(model, architecture, {"dilation": dilation}, tmp_path)

    def test_a_last_stage_without_stride(self, tmp_path: Path) -> None:
        """As re-identification changes torchvision's network by hand."""
        model = torchvision.models.resnet50(num_classes=CLASSES)
        model.layer4[0].conv2.stride = model.layer4[0].downsample[0].stride = (1, 1)
        self._assert_equal(model, "resnet50", {"last_stride": 1}, tmp_path)

    @staticmethod
    def _assert_equal(
        model: torch.nn.Module, architecture: str, variant: dict[str, Any], tmp_path: Path
    ) -> None:
        shapes = {k: v.shape for k, v in model.state_dict().items() if v.ndim}
        state = random_tensors(shapes, seed=6)
        model.load_state_dict(state, strict=False)
        model.eval()
        torch.save(model.state_dict(), tmp_path / "net.pth")
        ours = resnet_rs.load(
            tmp_path / "net.pth",
            architecture=architecture,
            variant=variant,
            preprocessing="IMAGENET1K_V1",
        )
        # Maps of 9 x 12 and more in the dilated stages, so that each tap meets pixels.
        for shape in ((1, 45, 61, 3), (3, 33, 45, 3)):
            x = noise(*shape)
            assert relative_l2(ours.forward(x), reference_logits(model.double(), x)) <= RTOL

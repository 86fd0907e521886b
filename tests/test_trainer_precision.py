"""`precision="bf16"`: products in bf16, beside torch in float64 and under autocast."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import pytest
import torch
from network_pairs import Array, nchw
from torch import nn
from torch.nn import functional

from resnet_rs import Trainer, UnsupportedIsaError, _core
from resnet_rs.training import Recipe

pytestmark = pytest.mark.usefixtures("one_torch_thread")

HAS_BF16 = "avx512bf16" in _core.cpu_features() and "avx512" in _core.available_isas()

OWN = "bf16" if HAS_BF16 else "emulated-bf16"
"""The bf16 of this machine: by the instructions where they are there."""

TIMES = 1.2
"""The error of all gradients together may be so many times that of torch under bf16 autocast.

Autocast rounds the outputs of convolutions to bf16 too, which ours keeps in f32: most of the time
ours is closer. What is left to chance is which ReLUs a rounding decides."""

BASIC = {"blocks": [1, 1, 1, 1], "widths": [16, 24, 32, 40], "stem_widths": [16]}


def network(architecture: str) -> tuple[nn.Module, dict[str, Any]]:
    """A small network of torchvision's classes, and the config of the same one."""
    from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

    torch.manual_seed(0)
    block = BasicBlock if architecture == "resnet18" else Bottleneck
    model = ResNet(block, [1, 1, 1, 1], num_classes=10)
    config = {
        "format_version": 1,
        "architecture": architecture,
        "variant": {"blocks": [1, 1, 1, 1]},
        "num_classes": 10,
    }
    return model, config


def batch() -> tuple[Array, Array]:
    """Images with a pattern for each class, so that gradients are more than noise."""
    random = np.random.default_rng(1)
    labels = np.arange(16) % 10
    patterns = random.standard_normal((10, 64, 64, 3))
    x = patterns[labels] + random.standard_normal((16, 64, 64, 3))
    return x.astype(np.float32), labels


def core(model: nn.Module, config: dict[str, Any], **options: Any) -> _core.Trainer:
    """A core trainer with a model's weights."""
    tensors = {n: t.numpy() for n, t in model.state_dict().items() if "num_batches" not in n}
    return _core.Trainer(tensors, json.dumps(config), origin="test", **options)


def torch_gradients(model: nn.Module, x: Array, y: Array, kind: str) -> dict[str, Array]:
    """The gradients of torch in float64, or in float32 under bf16 autocast."""
    dtype = torch.float64 if kind == "float64" else torch.float32
    model = copy.deepcopy(model).to(dtype).train()
    with torch.autocast("cpu", torch.bfloat16, enabled=kind == "autocast"):
        loss = functional.cross_entropy(model(nchw(x).to(dtype)), torch.from_numpy(y))
    loss.backward()
    return {name: p.grad.double().numpy() for name, p in model.named_parameters()}


def distance(found: dict[str, Array], exact: dict[str, Array]) -> float:
    """The error of all gradients together, relative to their norm."""
    error = sum(np.sum((found[name] - exact[name]) ** 2) for name in exact)
    return float(np.sqrt(error / sum(np.sum(g**2) for g in exact.values())))


@pytest.mark.parametrize("architecture", ["resnet18", "resnet50"])
def test_gradients_are_as_close_as_those_of_autocast(architecture: str) -> None:
    model, config = network(architecture)
    x, y = batch()
    exact = torch_gradients(model, x, y, "float64")
    theirs = distance(torch_gradients(model, x, y, "autocast"), exact)
    targets = np.eye(10, dtype=np.float32)[y] / len(y)
    for winograd in (True, False):
        trainer = core(model, config, precision=OWN, winograd=winograd, threads=2)
        trainer.backward(x, targets)
        ours = distance({n: trainer.read("gradients", n) for n in exact}, exact)
        # Far above the errors of f32: the products are those of bf16.
        assert 1e-3 < ours <= TIMES * theirs, f"{ours:.1e}, autocast {theirs:.1e}"


def test_emulated_products_are_those_of_the_instructions(isa: str) -> None:
    model, config = network("resnet18")
    x, y = batch()
    targets = np.eye(10, dtype=np.float32)[y] / len(y)

    def gradients(**options: Any) -> dict[str, Array]:
        trainer = core(model, config, threads=1, **options)
        trainer.backward(x[:4, :40, :40].copy(), targets[:4])
        names = [n for n, _, is_statistic in trainer.tensors() if not is_statistic]
        return {n: trainer.read("gradients", n) for n in names}

    emulated = gradients(precision="emulated-bf16", isa=isa)
    exact = gradients(precision="f32", isa=isa)
    # The same roundings of the same values; where f32 sums differ in their last bit, a value may
    # round the other way, which the layers that follow enlarge.
    own = gradients(precision=OWN)
    assert distance(own, emulated) < distance(emulated, exact) < 0.5


def losses(precision: str, steps: int = 20, **options: Any) -> tuple[list[float], Trainer]:
    """The losses of a small network that learns a batch."""
    trainer = Trainer(
        "resnet18", num_classes=10, variant=BASIC, lr=0.02, precision=precision, **options
    )
    x, y = batch()
    return [trainer.step(x, y) for _ in range(steps)], trainer


@pytest.mark.skipif(not HAS_BF16, reason="this machine has no avx512bf16")
class TestInstructions:
    def test_losses_fall_as_in_f32(self) -> None:
        exact, _ = losses("f32")
        found, _ = losses("bf16")
        assert exact[-1] < 0.2 * exact[0]
        assert found[-1] < 0.2 * found[0]
        assert found[0] == pytest.approx(exact[0], rel=1e-2)
        assert found != exact

    def test_bits_are_the_same_for_any_number_of_threads_and_again(self) -> None:
        expected, trainer = losses("bf16", 3, threads=1)
        tensors = trainer.state_dict()
        for threads in (1, 2, 4):
            found, other = losses("bf16", 3, threads=threads)
            assert found == expected, threads
            assert all(np.array_equal(t, tensors[n]) for n, t in other.state_dict().items())

    def test_the_plan_has_steps_in_bf16(self) -> None:
        model, config = network("resnet50")
        plan = core(model, config, precision="bf16").plan(16, 64, 64)
        of = {(s["name"], s["operation"], s["backward"]) for s in plan}
        for name in ("conv1", "layer1.0.conv1", "layer2.0.conv2"):
            assert (name, "bf16_weights", False) in of
            assert (name, "bf16_conv", False) in of
            assert (name, "bf16_weight_gradient", True) in of
        assert ("layer1.0.conv1", "bf16_transpose_weights", True) in of
        # The forward pass of Winograd layers is f32, and so is the last layer.
        assert ("layer1.0.conv2", "conv", False) in of
        assert ("layer1.0.conv2", "bf16_conv", True) in of
        assert {o for n, o, _ in of if n == "fc"}.isdisjoint({"bf16_conv", "bf16_weights"})

    def test_copies_and_checkpoints_go_on_to_the_bit(self, tmp_path: Any) -> None:
        _, trainer = losses("bf16", 2, threads=2)
        assert trainer.precision == "bf16"
        assert "precision='bf16'" in repr(trainer)
        trainer.checkpoint(tmp_path / "state.safetensors")
        twin = trainer.copy()
        _, other = losses("bf16", 0, threads=2)
        other.resume(tmp_path / "state.safetensors")
        x, y = batch()
        expected = trainer.step(x, y)
        assert twin.step(x, y) == other.step(x, y) == expected
        assert twin.precision == "bf16"


def test_grouped_convolutions_stay_in_f32() -> None:
    config = {
        "format_version": 1,
        "architecture": "resnext50_32x4d",
        "variant": {"blocks": [1, 1, 1, 1]},
        "num_classes": 10,
    }
    from torchvision.models.resnet import Bottleneck, ResNet

    torch.manual_seed(0)
    model = ResNet(Bottleneck, [1, 1, 1, 1], num_classes=10, groups=32, width_per_group=4)
    plan = core(model, config, precision=OWN).plan(2, 64, 64)
    of = {(s["name"], s["operation"]) for s in plan}
    assert ("layer1.0.conv2", "conv") in of
    assert ("layer1.0.conv2", "bf16_conv") not in of
    assert ("layer1.0.conv1", "bf16_conv") in of


def test_a_machine_without_the_instructions_says_what_to_do() -> None:
    # The portable tier has none on any machine.
    expected = r"bf16 needs the instructions avx512bf16.*precision=\"f32\""
    with pytest.raises(UnsupportedIsaError, match=expected):
        Trainer("cifar_resnet20", num_classes=2, precision="bf16", isa="portable")


@pytest.mark.parametrize("wrong", ["f16", "emulated-bf16", 16, None])
def test_other_precisions_are_refused(wrong: Any) -> None:
    for make in (
        lambda: Trainer("cifar_resnet20", num_classes=2, precision=wrong),
        lambda: Recipe(precision=wrong),
    ):
        with pytest.raises((TypeError, ValueError), match="precision must be one of 'f32', 'bf16'"):
            make()


def test_recipes_keep_the_precision() -> None:
    recipe = Recipe(precision="bf16")
    assert Recipe.from_dict(json.loads(json.dumps(recipe.as_dict()))) == recipe
    # args.json of a run before there was a choice.
    old = {name: value for name, value in recipe.as_dict().items() if name != "precision"}
    assert Recipe.from_dict(old).precision == "f32"

"""The gradients of a `Trainer` against torch in float64, on every tier."""

from __future__ import annotations

import copy
import functools
import json
from typing import Any

import numpy as np
import pytest
import torch
from network_pairs import Array, nchw
from torch import nn
from torch.nn import functional
from training_networks import CLASSES, NETWORKS, Pair

from resnet_rs import Trainer, _core
from resnet_rs.targets import target_matrix

pytestmark = pytest.mark.usefixtures("one_torch_thread")

RTOL = 1e-5
"""Largest relative L2 error of a gradient, where torch's own float32 is not further off.

Batch norm divides by the deviation of a few values in these small maps, and so makes float32's
rounding visible in both.
"""

TIMES = 3
"""The error may be so many times the largest one of torch in float32 in the same network."""

SPARE = 1e-7
"""A part of the norm of all gradients together, for those that are zero but for rounding."""


def trainer_of(pair: Pair, **options: Any) -> _core.Trainer:
    """A core trainer with a pair's weights."""
    config = {
        "format_version": 1,
        "architecture": "resnet50",
        "variant": pair.variant,
        "num_classes": CLASSES,
    }
    channels = pair.variant["in_channels"]
    side = 64
    config["preprocessing"] = {
        "resize": side,
        "crop": side,
        "mean": [0.5] * channels,
        "std": [0.5] * channels,
    }
    tensors = {name: np.ascontiguousarray(t, np.float32) for name, t in pair.tensors.items()}
    return _core.Trainer(tensors, json.dumps(config), origin="test", **options)


def torch_pass(
    model: nn.Module, x: Array, targets: Array, dtype: torch.dtype
) -> tuple[float, dict[str, Array], dict[str, Array]]:
    """The loss, the gradients and the running statistics of torch in training mode."""
    model = copy.deepcopy(model).to(dtype).train()
    logits = functional.log_softmax(model(nchw(x).to(dtype)), dim=1)
    loss = -(torch.from_numpy(targets).to(dtype) * logits).sum()
    loss.backward()
    gradients = {n: p.grad.double().numpy() for n, p in model.named_parameters()}
    running = {n: b.double().numpy() for n, b in model.named_buffers() if "running" in n}
    return loss.item(), gradients, running


def clear_batch(pair: Pair, count: int, size: tuple[int, int]) -> tuple[Array, Array]:
    """A batch that leaves no ReLU in doubt: float32 must not decide by its rounding."""
    for seed in range(100):
        x, y = pair.batch(count, size, seed)
        x = x.astype(np.float32)
        model = copy.deepcopy(pair.model).double().train()
        nearest: list[float] = []

        def look(_: nn.Module, args: Any, nearest: list[float] = nearest) -> None:
            nearest.append((args[0].abs().min() / args[0].square().mean().sqrt()).item())

        for module in model.modules():
            if isinstance(module, nn.ReLU):
                module.register_forward_pre_hook(look)
        with torch.no_grad():
            model(nchw(x).double())
        if min(nearest) > 5e-6:
            return x, y
    raise AssertionError("every batch has a value that is nearly zero")


@functools.lru_cache(maxsize=2)
def judged(name: str, count: int, height: int, width: int) -> tuple[Any, ...]:
    """A network, a batch, and what torch makes of it, once for every tier."""
    pair = Pair(NETWORKS[name], (height, width))
    # Values that float32 holds exactly, so that all see the same ones.
    pair.tensors = {n: t.astype(np.float32).astype(np.float64) for n, t in pair.tensors.items()}
    state = {n: torch.from_numpy(t) for n, t in pair.tensors.items()}
    pair.model.load_state_dict(state, strict=False)
    x, y = clear_batch(pair, count, (height, width))
    targets = target_matrix(y, CLASSES, smoothing=0.1)
    exact = torch_pass(pair.model, x, targets, torch.float64)
    rounded = torch_pass(pair.model, x, targets, torch.float32)
    return pair, x, targets, exact, rounded


def assert_near(
    found: dict[str, Array], exact: dict[str, Array], rounded: dict[str, Array]
) -> None:
    """Compare arrays by name; name the first that is too far off."""
    norm = np.linalg.norm
    spare = SPARE * np.sqrt(sum(norm(t) ** 2 for t in exact.values()))
    worst = max(
        norm(rounded[name] - expected) / (norm(expected) + spare)
        for name, expected in exact.items()
    )
    for name, expected in exact.items():
        bound = max(RTOL, TIMES * worst) * norm(expected) + spare
        error = norm(found[name] - expected)
        assert error <= bound, f"{name}: {error:.2e}, at most {bound:.2e}"


@pytest.mark.parametrize("batch", [(3, 33, 47), (1, 65, 64)], ids=str)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_gradient_and_statistic(name: str, batch: tuple[int, int, int], isa: str) -> None:
    size = (batch[0], 64, 64) if name == "avg-pool-head" else batch
    pair, x, targets, exact, rounded = judged(name, *size)
    trainer = trainer_of(pair, isa=isa, threads=2)

    losses, predicted = trainer.backward(x, targets.astype(np.float32))

    assert sum(losses) == pytest.approx(exact[0], rel=1e-5)
    assert len(predicted) == batch[0]
    found = {n: trainer.read("gradients", n) for n in exact[1]}
    assert_near(found, exact[1], rounded[1])
    if exact[2]:
        assert_near({n: trainer.read("values", n) for n in exact[2]}, exact[2], rounded[2])


@pytest.mark.parametrize("winograd", [True, False], ids=["winograd", "direct"])
def test_winograd_and_direct(winograd: bool, isa: str) -> None:
    """Maps of 16, 8 and 4 pixels a side, which take both sizes of tiles in each direction."""
    pair, x, targets, exact, rounded = judged("basic", 8, 64, 64)
    trainer = trainer_of(pair, isa=isa, threads=2, winograd=winograd)
    plan = trainer.plan(8, 64, 64)
    kinds = {step["operation"] for step in plan}
    for backward in (False, True):
        here = {step["operation"] for step in plan if step["backward"] == backward}
        for size in ("f2x2", "f4x4"):
            assert (f"winograd_{size}_input" in here) == winograd
    assert ("winograd_weights_gradient" in kinds) == winograd

    trainer.backward(x, targets.astype(np.float32))

    found = {n: trainer.read("gradients", n) for n in exact[1]}
    assert_near(found, exact[1], rounded[1])


def test_gradients_are_added_up() -> None:
    pair, x, targets, _, _ = judged("bottleneck", 3, 33, 47)
    trainer = trainer_of(pair)
    half = (targets / 2).astype(np.float32)
    trainer.backward(x, half)
    once = {n: trainer.read("gradients", n) for n, _, s in trainer.tensors() if not s}
    trainer.backward(x, half, accumulate=True)
    for name, gradient in once.items():
        twice = trainer.read("gradients", name)
        np.testing.assert_allclose(twice, 2 * gradient, atol=1e-5 * np.abs(gradient).max())


class TestFrozen:
    def model(self) -> tuple[Pair, nn.Module]:
        pair = Pair(NETWORKS["bottleneck"])
        return pair, copy.deepcopy(pair.model).float()

    def trainer(self, pair: Pair, freeze: Any) -> Trainer:
        trainer = Trainer(
            "resnet50", variant=pair.variant, num_classes=CLASSES, lr=0.1, weight_decay=0.0
        )
        for name, tensor in pair.tensors.items():
            trainer._core.write("values", name, np.ascontiguousarray(tensor, np.float32))
        trainer.freeze(freeze)
        return trainer

    @pytest.mark.parametrize("freeze", ["backbone", "norms", ["conv1", "bn1", "layer1", "layer2"]])
    def test_only_the_others_change(self, freeze: Any) -> None:
        pair, model = self.model()
        trainer = self.trainer(pair, freeze)
        x, y = pair.batch(3, (64, 64))
        model.train()
        norms = {
            name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)
        }
        for name, module in model.named_modules():
            if name in norms and f"{name}.weight" in trainer.frozen:
                module.eval()
        for name, parameter in model.named_parameters():
            parameter.requires_grad = name not in trainer.frozen
        before = trainer.state_dict()

        loss = trainer.step(x.astype(np.float32), y)

        expected = functional.cross_entropy(model(nchw(x.astype(np.float32))), torch.from_numpy(y))
        expected.backward()
        assert loss == pytest.approx(expected.item(), rel=1e-5)
        after = trainer.state_dict()
        for name, tensor in before.items():
            layer, _, part = name.rpartition(".")
            frozen = f"{layer}.weight" in trainer.frozen
            assert np.array_equal(after[name], tensor) == frozen, name
            if not frozen and "running" not in part:
                gradient = model.get_parameter(name).grad.numpy()
                moved = (tensor - after[name]) / 0.1
                error = np.linalg.norm(moved - gradient)
                assert error <= 2e-3 * np.linalg.norm(gradient) + 1e-5, name
        running = {n for n in before if "running" in n}
        assert set(trainer.gradients()) == set(before) - trainer.frozen - running

    def test_a_frozen_front_costs_no_backward_pass(self) -> None:
        pair, _ = self.model()
        trainer = self.trainer(pair, "backbone")
        steps = trainer._core.plan(2, 64, 64)
        assert {s["name"] for s in steps if s["backward"]} == {"loss", "fc"}
        assert "statistics" not in {s["operation"] for s in steps}

    @pytest.mark.parametrize("freeze", ["nothing", ["layer9"], [3], ["backbone", "fc"]])
    def test_what_is_no_name_is_refused(self, freeze: Any) -> None:
        pair, _ = self.model()
        with pytest.raises((TypeError, ValueError), match="freeze"):
            self.trainer(pair, freeze)

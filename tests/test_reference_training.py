"""The training of whole networks in `resnet_rs.reference` against torch in float64.

The networks are the small modules of `torch_variants`, one for each way in which gradients flow.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from network_pairs import Array, nchw, relative_l2
from torch import nn
from torch.nn import functional
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
from training_networks import CLASSES, NETWORKS, Pair

from resnet_rs import reference
from resnet_rs.targets import target_matrix

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))


pytestmark = pytest.mark.usefixtures("one_torch_thread")

TOLERANCE = 1e-10
"""Largest relative L2 error of any gradient against torch; both are float64.

A batch norm over few values divides by small deviations and makes rounding visible, 1e-13 at most.
"""


def assert_close(ours: dict[str, Array], theirs: dict[str, Array]) -> None:
    """Compare arrays by name."""
    assert list(ours) == list(theirs)
    for name, expected in theirs.items():
        assert np.isfinite(expected).all(), name
        assert expected.any(), name
        assert relative_l2(ours[name], expected) <= TOLERANCE, name


def gradients_of(model: nn.Module) -> dict[str, Array]:
    return {n: p.grad.numpy() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("batch", [(3, 33, 47), (1, 65, 64)], ids=str)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_gradient_of_a_network(name: str, batch: tuple[int, int, int]) -> None:
    count, *sides = batch
    size = (64, 64) if name == "avg-pool-head" else (sides[0], sides[1])
    pair = Pair(NETWORKS[name], size)
    x, y = pair.batch(count, size)
    seen = pair.named()
    pair.model.train()
    loss = functional.cross_entropy(pair.model(nchw(x)), torch.from_numpy(y), label_smoothing=0.1)
    loss.backward()

    step = reference.backward(
        pair.operations, pair.tensors, x, target_matrix(y, CLASSES, smoothing=0.1)
    )

    assert step.loss == pytest.approx(loss.item(), rel=TOLERANCE)
    assert_close(step.gradients, gradients_of(pair.model))
    running = {n: t for n, t in pair.state().items() if "running" in n}
    assert_close(step.statistics, running)
    if running:
        name = next(iter(running))
        assert relative_l2(running[name], pair.tensors[name]) > 1e-3, "statistics did not move"

    compared = 0
    assert list(step.results) == ["image", *(o["name"] for o in pair.operations)]
    assert list(step.result_gradients) == list(step.results)
    for operation, result in step.results.items():
        gradient = step.result_gradients[operation]
        assert gradient.shape == result.shape
        for output in seen.get(operation, []):
            for ours, tensor in ((result, output), (gradient, output.grad)):
                theirs = tensor.detach().numpy()
                theirs = theirs.transpose(0, 2, 3, 1) if theirs.ndim == 4 else theirs[:, None, None]
                assert relative_l2(ours, theirs) <= TOLERANCE, operation
            compared += 1
    assert compared >= len(pair.operations) - 1


@pytest.mark.parametrize("name", ["basic", "grouped", "option-a", "d", "without-batch-norm"])
def test_a_network_along_random_directions(name: str) -> None:
    """Finite differences of the whole loss, which know of no formula."""
    pair = Pair(NETWORKS[name], (32, 32))
    x, y = pair.batch(3, (32, 32))
    targets = target_matrix(y, CLASSES)
    step = reference.backward(pair.operations, pair.tensors, x, targets)
    random = np.random.default_rng(1)

    def loss(change: dict[str, Array], image: Array) -> float:
        tensors = {n: t + change.get(n, 0.0) for n, t in pair.tensors.items()}
        return reference.backward(pair.operations, tensors, image, targets).loss

    for _ in range(3):
        way = {n: random.standard_normal(g.shape) * 1e-6 for n, g in step.gradients.items()}
        back = {n: -v for n, v in way.items()}
        moved = random.standard_normal(x.shape) * 1e-6
        expected = (loss(way, x + moved) - loss(back, x - moved)) / 2
        actual = sum(float((step.gradients[n] * v).sum()) for n, v in way.items())
        actual += float((step.result_gradients["image"] * moved).sum())
        assert actual == pytest.approx(expected, rel=1e-4)


def test_a_bias_before_a_batch_norm_has_no_gradient() -> None:
    pair = Pair({"conv_bias": True}, (32, 32))
    x, y = pair.batch(3, (32, 32))
    step = reference.backward(pair.operations, pair.tensors, x, target_matrix(y, CLASSES))
    biases = [n for n in step.gradients if "conv" in n and n.endswith(".bias")]
    assert len(biases) == 13
    for name in biases:
        assert np.abs(step.gradients[name]).max() < 1e-12
        assert np.abs(step.gradients[name.replace("bias", "weight")]).max() > 1e-5


@pytest.mark.parametrize("trained", [("fc",), ("fc", "layer4", "layer3")], ids=str)
def test_frozen_operations(trained: tuple[str, ...]) -> None:
    pair = Pair({}, (64, 64))
    x, y = pair.batch(3, (64, 64))
    pair.model.train()
    frozen = {o["name"] for o in pair.operations if not o["name"].startswith(trained)}
    for name, module in pair.model.named_modules():
        if name in frozen and not any(True for _ in module.children()):
            module.eval()
            for parameter in module.parameters():
                parameter.requires_grad_(False)
    loss = functional.cross_entropy(pair.model(nchw(x)), torch.from_numpy(y))
    loss.backward()

    step = reference.backward(
        pair.operations, pair.tensors, x, target_matrix(y, CLASSES), frozen=frozen
    )

    assert step.loss == pytest.approx(loss.item(), rel=TOLERANCE)
    assert_close(step.gradients, gradients_of(pair.model))
    after = pair.state()
    moved = [n for n in after if "running" in n and not np.array_equal(after[n], pair.tensors[n])]
    assert_close(step.statistics, {n: after[n] for n in moved})


def train_ours(pair: Pair, rule: Callable[..., Any], steps: int) -> list[dict[str, Array]]:
    """The tensors after each step; `rule` maps name, tensor, gradient and number to a tensor."""
    tensors, history = dict(pair.tensors), []
    for number in range(1, steps + 1):
        x, y = pair.batch(3, (32, 32), seed=number)
        step = reference.backward(pair.operations, tensors, x, target_matrix(y, CLASSES))
        changed = {n: rule(n, tensors[n], g, number) for n, g in step.gradients.items()}
        tensors = {**tensors, **step.statistics, **changed}
        history.append(tensors)
    return history


def train_theirs(pair: Pair, optimizer: Any, steps: int) -> list[dict[str, Array]]:
    pair.model.train()
    history = []
    for number in range(1, steps + 1):
        x, y = pair.batch(3, (32, 32), seed=number)
        optimizer.zero_grad()
        functional.cross_entropy(pair.model(nchw(x)), torch.from_numpy(y)).backward()
        optimizer.step()
        history.append(pair.state())
    return history


@pytest.mark.parametrize("name", ["basic", "grouped"])
@pytest.mark.parametrize(
    "options",
    [{"lr": 0.1}, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.05, "nesterov": True}],
    ids=str,
)
def test_a_network_after_one_and_three_steps_of_sgd(name: str, options: dict[str, Any]) -> None:
    pair = Pair(NETWORKS[name], (32, 32))
    velocity = {n: np.zeros(t.shape) for n, t in pair.tensors.items()}

    def rule(name: str, tensor: Array, gradient: Array, number: int) -> Array:
        tensor, velocity[name] = reference.sgd_step(tensor, gradient, velocity[name], **options)
        return tensor

    ours = train_ours(pair, rule, 3)
    optimizer = torch.optim.SGD(pair.model.parameters(), **options)
    theirs = train_theirs(pair, optimizer, 3)

    for number in (0, 2):
        assert_close(ours[number], theirs[number])
    if "momentum" in options:
        for n, parameter in pair.model.named_parameters():
            buffer = optimizer.state[parameter]["momentum_buffer"].numpy()
            assert relative_l2(velocity[n], buffer) <= TOLERANCE, n


@pytest.mark.parametrize("name", ["bottleneck", "option-a"])
def test_a_network_after_one_and_three_steps_of_adamw(name: str) -> None:
    pair = Pair(NETWORKS[name], (32, 32))
    state = {n: (np.zeros(t.shape), np.zeros(t.shape)) for n, t in pair.tensors.items()}

    def rule(name: str, tensor: Array, gradient: Array, number: int) -> Array:
        tensor, *state[name] = reference.adamw_step(
            tensor, gradient, *state[name], number, lr=1e-2, weight_decay=0.1
        )
        return tensor

    ours = train_ours(pair, rule, 3)
    optimizer = torch.optim.AdamW(pair.model.parameters(), lr=1e-2, weight_decay=0.1)
    theirs = train_theirs(pair, optimizer, 3)

    for number in (0, 2):
        assert list(ours[number]) == list(theirs[number])
        for n, expected in theirs[number].items():
            # Adam divides a gradient by its own size, so what rounding left of a 0 counts in full.
            assert relative_l2(ours[number][n], expected) <= 1e-8, n


def test_initial_tensors_are_drawn_as_torchvision_does() -> None:
    for block, variant in ((BasicBlock, {"block": "basic"}), (Bottleneck, {})):
        model = ResNet(block, [1, 1, 1, 1], CLASSES, zero_init_residual=True)
        listed = reference.operations(
            "resnet50", 32, 32, num_classes=CLASSES, variant={"blocks": [1, 1, 1, 1], **variant}
        )
        tensors = reference.initial_tensors(listed, np.random.default_rng(0), zero_last=True)
        expected = {n: t for n, t in model.state_dict().items() if "tracked" not in n}
        assert list(tensors) == list(expected)
        for name, theirs in expected.items():
            ours = tensors[name]
            assert ours.shape == theirs.shape
            if ours.ndim > 1:
                assert ours.std() == pytest.approx(theirs.std().item(), rel=0.05), name
                assert abs(ours.mean()) < 5 * ours.std() / ours.size**0.5
            elif name != "fc.bias":
                np.testing.assert_array_equal(ours, theirs, name)
        assert np.abs(tensors["fc.weight"]).max() <= model.fc.in_features**-0.5

    changed = reference.operations("resnet50", 32, 32, variant={"relu_before_add": True})
    zero = reference.initial_tensors(changed, np.random.default_rng(0), zero_last=True)
    assert not zero["layer1.0.bn3.weight"].any()
    plain = reference.initial_tensors(changed, np.random.default_rng(0))
    assert plain["layer1.0.bn3.weight"].all()
    np.testing.assert_array_equal(zero["fc.weight"], plain["fc.weight"])


def test_initial_weights_of_groups() -> None:
    model = ResNet(Bottleneck, [1, 1, 1, 1], groups=32, width_per_group=4)
    listed = reference.operations("resnext50_32x4d", 32, 32, variant={"blocks": [1, 1, 1, 1]})
    ours = reference.initial_tensors(listed, np.random.default_rng(0))["layer4.0.conv2.weight"]
    assert ours.std() == pytest.approx(model.layer4[0].conv2.weight.std().item(), rel=0.05)


def test_wrong_arguments_of_a_walk() -> None:
    pair = Pair({}, (32, 32))
    x, y = pair.batch(2, (32, 32))
    targets = target_matrix(y, CLASSES)
    with pytest.raises(ValueError, match=r"\[batch, height, width, channels\]; got \[32, 32, 3\]"):
        reference.backward(pair.operations, pair.tensors, x[0], targets)
    with pytest.raises(ValueError, match=r"got \[2, 5\] and \[1, 5\]"):
        reference.backward(pair.operations, pair.tensors, x, targets[:1])
    tensors = {n: t for n, t in pair.tensors.items() if n != "fc.bias"}
    with pytest.raises(KeyError, match=r"fc: the weights have no tensor 'fc\.bias'"):
        reference.backward(pair.operations, tensors, x, targets)
    with pytest.raises(ValueError, match=r"at least 2 values .* x is \[1, 1, 1, 12\]"):
        reference.backward(pair.operations, pair.tensors, x[:1], targets[:1])
    unknown = {"kind": "sum", "name": "fc"}
    with pytest.raises(ValueError, match=r"^fc: no gradient for an operation of kind 'sum'$"):
        reference.pull_back(unknown, x, [x], x, {})

"""One step of whole networks beside torch: every parameter, statistic and momentum buffer."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from network_pairs import Array, nchw, noise
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from resnet_rs import Trainer
from resnet_rs._core import available_isas

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))

from torch_family import build_model

pytestmark = pytest.mark.usefixtures("one_torch_thread")

RTOL = 1e-5
"""Largest relative L2 error of a momentum buffer, if torch's own float32 is not further off."""

TIMES = 3
"""The error may be so many times the largest one of torch in float32 in the same network."""

DECIDED = 1e-3
"""The same for weights of a real training, whose millions of activations leave some ReLUs in doubt.

Rounding decides these, in torch too; one of them changes the gradients before it by up to 1e-3.
"""

NETWORKS = [
    "resnet18",
    *(
        pytest.param(n, marks=pytest.mark.slow)
        for n in ("resnet50", "resnext50_32x4d", "resnet50d")
    ),
]
CLASSES, COUNT, SIDE = 10, 4, 64
STEP: dict[str, Any] = {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-3}


def far_from_zero(state: dict[str, Array]) -> dict[str, Array]:
    """Shifts in batch norms, so that nearly no value is so small that rounding decides its sign.

    The layers at the end of a block have positive ones only: what they are added to is positive.
    """
    random = np.random.default_rng(3)
    changed = dict(state)
    for name, tensor in state.items():
        if name.endswith(".running_mean"):
            norm = name.removesuffix(".running_mean")
            inner = norm.endswith(("bn1", "bn2")) and f"{norm[:-1]}3.weight" in state
            signs = random.choice([1.0, 1.0, 1.0, -1.0], tensor.shape) if inner else 1.0
            changed[f"{norm}.bias"] = (2.5 * signs * np.ones(tensor.shape)).astype(np.float32)
            changed[f"{norm}.weight"] = random.uniform(0.9, 1.1, tensor.shape).astype(np.float32)
    return changed


def is_clear(model: nn.Module, x: Array) -> bool:
    """True if no ReLU and no max pool depends on the last digits of float32."""
    nearest: list[float] = []

    def relu(_: nn.Module, args: Any) -> None:
        nearest.append((args[0].abs().min() / args[0].square().mean().sqrt()).item())

    def pool(module: nn.Module, args: Any) -> None:
        windows = functional.pad(args[0], (1, 1, 1, 1), value=-9.0).unfold(2, 3, 2).unfold(3, 3, 2)
        top = windows.flatten(4).topk(2, dim=4).values
        nearest.append((top[..., 0] - top[..., 1]).min().item())

    hooks = [
        module.register_forward_pre_hook(relu if isinstance(module, nn.ReLU) else pool)
        for module in model.modules()
        if isinstance(module, (nn.ReLU, nn.MaxPool2d))
    ]
    with torch.no_grad():
        model(nchw(x).double())
    for hook in hooks:
        hook.remove()
    return min(nearest) > 2e-6


def torch_model(
    architecture: str, state: dict[str, Array], dtype: torch.dtype = torch.float64
) -> nn.Module:
    model = build_model(architecture, CLASSES).to_empty(device="cpu").to(dtype)
    tensors = {name: torch.from_numpy(tensor).to(dtype) for name, tensor in state.items()}
    model.load_state_dict(tensors, strict=False)
    return model.train()


def torch_step(
    model: nn.Module, x: Array, y: Array
) -> tuple[dict[str, Array], dict[str, Array], float]:
    """The state after a step of SGD, the momentum buffers, and the loss."""
    optimizer = torch.optim.SGD(model.parameters(), **STEP)
    images = nchw(x).to(next(model.parameters()).dtype)
    loss = functional.cross_entropy(model(images), torch.from_numpy(y))
    loss.backward()
    optimizer.step()
    momentum = {
        name: optimizer.state[parameter]["momentum_buffer"].numpy()
        for name, parameter in model.named_parameters()
    }
    state = {n: t.numpy() for n, t in model.state_dict().items() if "tracked" not in n}
    return state, momentum, loss.item()


def assert_one_step(
    trainer: Trainer, before: dict[str, Array], x: Array, y: Array, expected: Any, rtol: float
) -> None:
    state, momentum, loss = expected
    assert trainer.step(x, y) == pytest.approx(loss, rel=1e-5)
    after = trainer.state_dict()
    assert after.keys() == state.keys()
    spare = 1e-7 * np.sqrt(sum(np.linalg.norm(t) ** 2 for t in momentum.values()))
    for name, exact in state.items():
        error = np.linalg.norm(after[name] - exact)
        if name not in momentum:
            assert error <= RTOL * np.linalg.norm(exact), name
            continue
        buffer = trainer._core.read("first", name)
        bound = rtol * np.linalg.norm(momentum[name]) + spare
        assert np.linalg.norm(buffer - momentum[name]) <= bound, name
        # A step, and the rounding of the weights themselves.
        rounding = 6e-8 * np.linalg.norm(before[name])
        assert error <= STEP["lr"] * bound + rounding, name


def judged(architecture: str) -> tuple[dict[str, Array], Array, Array, Any, float]:
    """A network's weights, a batch, what torch makes of them, and the error allowed."""
    state = far_from_zero(Trainer(architecture, num_classes=CLASSES).state_dict())
    batches = (noise(COUNT, SIDE, SIDE, 3, seed=seed) for seed in range(20))
    x = next(x for x in batches if is_clear(torch_model(architecture, state), x))
    model = torch_model(architecture, state)
    y = np.arange(COUNT)
    _, exact, _ = expected = torch_step(model, x, y)
    _, rounded, _ = torch_step(torch_model(architecture, state, torch.float32), x, y)
    norm = np.linalg.norm
    worst = max(norm(rounded[name] - exact[name]) / norm(exact[name]) for name in exact)
    return state, x, y, expected, max(RTOL, TIMES * worst)


@pytest.mark.parametrize("architecture", NETWORKS)
def test_a_step(architecture: str) -> None:
    state, x, y, expected, rtol = judged(architecture)
    assert rtol < 1e-4
    for isa in available_isas():
        trainer = Trainer(
            architecture, num_classes=CLASSES, isa=isa, threads=2, decay_norms=True, **STEP
        )
        for name, tensor in state.items():
            trainer._core.write("values", name, tensor)
        assert_one_step(trainer, state, x, y, expected, rtol)


def test_a_step_of_the_demo_network(demo_dir: Path) -> None:
    trainer = Trainer(demo_dir, threads=2, decay_norms=True, **STEP)
    state = trainer.state_dict()
    x, y = noise(COUNT, SIDE, SIDE, 3), np.arange(COUNT)
    expected = torch_step(torch_model("resnet50", state), x, y)
    assert_one_step(trainer, state, x, y, expected, DECIDED)


def test_torchvision_loads_what_was_trained_as_it_is(tmp_path: Path) -> None:
    """From the file and from `state_dict()`, with every name checked; the logits are the same."""
    trainer = Trainer("resnet18", num_classes=CLASSES, lr=0.01, threads=2)
    for seed in range(2):
        trainer.step(noise(COUNT, SIDE, SIDE, 3, seed=seed), np.arange(COUNT))
    trainer.save(tmp_path / "trained")
    x = noise(2, SIDE, SIDE, 3, seed=7)
    found = trainer.logits(x)
    states = [
        load_file(tmp_path / "trained" / "model.safetensors"),
        {name: torch.from_numpy(tensor) for name, tensor in trainer.state_dict().items()},
    ]
    for state in states:
        model = torchvision.models.resnet18(num_classes=CLASSES)
        model.load_state_dict(state)
        with torch.inference_mode():
            expected = model.double().eval()(nchw(x).double()).numpy()
        assert np.linalg.norm(found - expected) <= RTOL * np.linalg.norm(expected)

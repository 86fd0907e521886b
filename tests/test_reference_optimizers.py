"""One step of each optimiser in `resnet_rs.reference`, against torch's in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from network_pairs import Array
from torch import nn

from resnet_rs import reference

SGD: list[dict[str, Any]] = [
    {"lr": 0.1},
    {"lr": 0.1, "weight_decay": 0.05},
    {"lr": 0.1, "momentum": 0.9},
    {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.05},
    {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.05, "nesterov": True},
]
ADAMW: list[dict[str, Any]] = [
    {"lr": 0.01},
    {"lr": 0.01, "weight_decay": 0.0},
    {"lr": 0.01, "weight_decay": 0.3, "betas": (0.8, 0.95), "eps": 1e-3},
]


def random_steps() -> tuple[Array, list[Array]]:
    random = np.random.default_rng(5)
    return random.standard_normal((3, 4)), [random.standard_normal((3, 4)) for _ in range(5)]


@pytest.mark.parametrize("options", SGD, ids=str)
def test_sgd(options: dict[str, Any]) -> None:
    ours, gradients = random_steps()
    velocity = np.zeros(ours.shape)
    theirs = nn.Parameter(torch.from_numpy(ours.copy()))
    optimizer = torch.optim.SGD([theirs], **options)
    for number, gradient in enumerate(gradients):
        if number == 3:  # a schedule changes the rate between two steps
            options = {**options, "lr": 0.01}
            optimizer.param_groups[0]["lr"] = 0.01
        theirs.grad = torch.from_numpy(gradient)
        optimizer.step()
        ours, velocity = reference.sgd_step(ours, gradient, velocity, **options)
        np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-13)


@pytest.mark.parametrize("options", ADAMW, ids=str)
def test_adamw(options: dict[str, Any]) -> None:
    ours, gradients = random_steps()
    mean, square = np.zeros(ours.shape), np.zeros(ours.shape)
    theirs = nn.Parameter(torch.from_numpy(ours.copy()))
    optimizer = torch.optim.AdamW([theirs], **options)
    own = {("epsilon" if name == "eps" else name): value for name, value in options.items()}
    for number, gradient in enumerate(gradients, start=1):
        theirs.grad = torch.from_numpy(gradient)
        optimizer.step()
        ours, mean, square = reference.adamw_step(ours, gradient, mean, square, number, **own)
        np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-12)


def test_average_of_weights() -> None:
    ours, later = random_steps()
    average = torch.optim.swa_utils.get_ema_avg_fn(0.9)
    theirs = torch.from_numpy(ours.copy())
    for number, parameter in enumerate(later):
        theirs = average(theirs, torch.from_numpy(parameter), number)
        ours = reference.average_step(ours, parameter, 0.9)
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-13)


@pytest.mark.parametrize("max_norm", [0.5, 1e3])
def test_clipping(max_norm: float) -> None:
    _, gradients = random_steps()
    named = {str(number): gradient for number, gradient in enumerate(gradients)}
    parameters = [nn.Parameter(torch.zeros(3, 4, dtype=torch.float64)) for _ in gradients]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = torch.from_numpy(gradient.copy())
    expected = torch.nn.utils.clip_grad_norm_(parameters, max_norm).item()

    clipped, norm = reference.clip_gradients(named, max_norm)

    assert norm == pytest.approx(expected, rel=1e-13)
    for gradient, parameter in zip(clipped.values(), parameters, strict=True):
        np.testing.assert_allclose(gradient, parameter.grad.numpy(), rtol=1e-13)

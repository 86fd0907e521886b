"""A torch module beside our model with the same weights, and what torch's forward hooks see."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import resnet_rs

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))

from safetensors_file import write_safetensors

Array = NDArray[Any]


def save(module: nn.Module, directory: Path, **config: Any) -> Path:
    """Write a module's state as a weights directory of ours; `config` states what it is."""
    directory.mkdir(parents=True, exist_ok=True)
    state = {
        name: tensor.float()
        for name, tensor in module.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    write_safetensors(directory / "model.safetensors", state, {})
    text = json.dumps({"format_version": 1, **config})
    (directory / "config.json").write_text(text, encoding="utf-8")
    return directory


def load(module: nn.Module, directory: Path, **config: Any) -> resnet_rs.ResNet:
    """Our model with a module's weights."""
    return resnet_rs.load(save(module, directory, **config))


def tensors(module: nn.Module) -> dict[str, Array]:
    """A module's state in float64, as `resnet_rs.reference` takes it."""
    return {name: tensor.double().numpy() for name, tensor in module.state_dict().items()}


def noise(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    """A normalised input, `[batch, height, width, channels]`."""
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def nchw(x: Array) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))


def hooked(module: nn.Module, x: Array) -> dict[str, list[Array]]:
    """Run a module with a forward hook on each of its modules.

    Args:
        module: in evaluation mode; it runs in float64 and comes back in its own type.
        x: `[batch, height, width, channels]`.

    Returns:
        Each module's name to the outputs of its calls, in order, NHWC in float64.
    """
    seen: dict[str, list[Array]] = {}

    def keep(name: str, output: torch.Tensor) -> None:
        array = output.detach().numpy().copy()
        nhwc = array.transpose(0, 2, 3, 1) if array.ndim == 4 else array[:, None, None, :]
        seen.setdefault(name, []).append(nhwc)

    dtype = next(module.parameters()).dtype
    handles = [
        part.register_forward_hook(lambda _m, _i, output, name=name: keep(name, output))
        for name, part in module.named_modules()
    ]
    try:
        with torch.no_grad():
            module.double()(nchw(x).double())
    finally:
        module.to(dtype)
        for handle in handles:
            handle.remove()
    return seen


def by_step(seen: dict[str, list[Array]]) -> dict[str, Array]:
    """Name every call as our steps are named: torchvision calls a block's ReLU several times."""
    steps: dict[str, Array] = {}
    for name, outputs in seen.items():
        if name.endswith(".relu"):
            block = name.removesuffix(".relu")
            steps.update({f"{block}.relu{i}": o for i, o in enumerate(outputs[:-1], start=1)})
        elif "." in name or name in ("conv1", "bn1", "relu", "maxpool", "avgpool", "fc"):
            steps[name] = outputs[-1]
    return steps


def relative_l2(actual: Array, expected: Array) -> float:
    assert actual.shape == expected.shape
    distance = np.linalg.norm((actual.astype(np.float64) - expected).ravel())
    return float(distance / np.linalg.norm(np.asarray(expected, np.float64).ravel()))

"""torch in f64: the judge of every number that this project computes."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from safetensors_file import read_safetensors
from torch_family import build_model

Hook = Callable[..., None]


def load_reference(directory: Path) -> torch.nn.Module:
    """Load a weights directory into torchvision's or timm's network, f64, eval mode.

    Raises:
        RuntimeError: the tensors are not exactly the network's.
        ValueError: neither has the network that config.json describes.
    """
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    state = read_safetensors(directory / "model.safetensors")
    return build_reference(state, config["architecture"], config.get("variant"))


def build_reference(
    state: Mapping[str, torch.Tensor],
    architecture: str = "resnet50",
    variant: Mapping[str, Any] | None = None,
) -> torch.nn.Module:
    """Build a network from tensors of any float dtype, in f64 and eval mode.

    Args:
        state: torchvision's names to tensors; without fc, the pooled features come out.
        architecture: one of `torch_family.ARCHITECTURES`.
        variant: as in config.json, of the fields in `torch_family.VARIANTS`.

    Raises:
        RuntimeError: the tensors are not exactly the network's.
        ValueError: torch has no such network.
    """
    num_classes = state["fc.weight"].shape[0] if "fc.weight" in state else 0
    model = build_model(architecture, num_classes, variant)
    return fill(model.to_empty(device="cpu"), state)


def fill(model: torch.nn.Module, state: Mapping[str, torch.Tensor]) -> torch.nn.Module:
    """Give a network its weights, in f64 and eval mode.

    Raises:
        RuntimeError: the tensors are not exactly the network's.
    """
    model = model.double().eval()
    model.load_state_dict({name: tensor.double() for name, tensor in state.items()})
    return model


def reference_logits(model: torch.nn.Module, x: NDArray[np.float32]) -> NDArray[np.float64]:
    """Run f32 `[batch, height, width, 3]` through an f64 model: `[batch, num_classes]`."""
    with torch.inference_mode():
        logits: NDArray[np.float64] = model(_nchw(x)).numpy()
    return logits


def reference_activations(
    model: torch.nn.Module, x: NDArray[np.float32]
) -> dict[str, NDArray[np.float64]]:
    """Run f32 `[batch, height, width, 3]` through an f64 model and keep what fused steps give.

    Returns:
        The names of `_core.Network.activations` to NHWC arrays: `relu` (the stem; a deep one has
        `conv1.2` and `conv1.5` before it), `maxpool`, each block's `relu1`, `relu2` and output,
        `avgpool` (`[batch, 1, 1, 2048]`) and `fc` (`[batch, num_classes]`).
    """
    steps = reference_operations(model, x)
    return {name: values for name, values in steps.items() if _FUSED.fullmatch(name)}


def reference_operations(
    model: torch.nn.Module, x: NDArray[np.float32]
) -> dict[str, NDArray[np.float64]]:
    """Run f32 `[batch, height, width, channels]` through an f64 model and keep every operation.

    Args:
        model: torchvision's, whose blocks call one module `relu` for each of their ReLUs;
            timm's, whose blocks have `act1`, `act2`, ...; or any whose modules are called what
            the operations are called, and the last ReLU of a block `output`.
        x: the input, NHWC.

    Returns:
        The names of `_core.operations` to NHWC arrays, in the order in which they are computed.
    """
    kept: dict[str, NDArray[np.float64]] = {}

    def keep(name: str, value: torch.Tensor) -> None:
        nhwc = value.permute(0, 2, 3, 1) if value.ndim == 4 else value
        # A copy: torch's ReLUs work in place.
        kept[name] = nhwc.clone(memory_format=torch.contiguous_format).numpy()

    def after(names: Iterable[str]) -> Hook:
        """Keeps the output of each successive call under the next name."""
        remaining = iter(names)
        return lambda _module, _inputs, output: keep(next(remaining), output)

    def before(names: Iterable[str]) -> Hook:
        """Keeps the input of each successive call under the next name, unless that is empty."""
        remaining = iter(names)

        def hook(_module: object, inputs: tuple[torch.Tensor, ...]) -> None:
            if name := next(remaining):
                keep(name, inputs[0])

        return hook

    hooks = []
    for name, module in model.named_modules():
        inputs, outputs = _operations_at(name, module, model)
        if inputs:
            hooks.append(module.register_forward_pre_hook(before(inputs)))
        if outputs:
            hooks.append(module.register_forward_hook(after(outputs)))
    try:
        with torch.inference_mode():
            model(_nchw(x))
    finally:
        for hook in hooks:
            hook.remove()
    if kept["avgpool"].ndim == 2:
        # timm's pooling flattens.
        kept["avgpool"] = kept["avgpool"][:, None, None]
    return kept


def relative_l2(actual: NDArray[np.floating], expected: NDArray[np.floating]) -> float:
    """`|actual - expected| / |expected|` in the Euclidean norm over all elements, in f64.

    Raises:
        ValueError: the shapes differ.
    """
    if actual.shape != expected.shape:
        raise ValueError(f"expected shape {expected.shape}, got {actual.shape}")
    reference = expected.astype(np.float64)
    distance = np.linalg.norm((actual.astype(np.float64) - reference).ravel())
    return float(distance / np.linalg.norm(reference.ravel()))


_FUSED = re.compile(r"relu|conv1\.[25]|maxpool|layer\d+\.\d+(\.relu[12])?|avgpool|fc")
"""The operations that fused steps end with."""

_WHOLE = {"maxpool": "maxpool", "avgpool": "avgpool", "global_pool": "avgpool", "act1": "relu"}
"""Modules outside the blocks that are one operation, whatever they consist of."""


def _operations_at(
    name: str, module: torch.nn.Module, model: torch.nn.Module
) -> tuple[list[str], list[str]]:
    """The operations that a module's inputs and outputs are, call after call."""
    parent, _, last = name.rpartition(".")
    if isinstance(module, torch.nn.Identity) or parent in _WHOLE:
        return [], []
    if name in _WHOLE:
        return [], [_WHOLE[name]]
    if any(module.children()):
        return [], []
    shared = last == "relu" or last.startswith("act")
    if not shared or not parent.startswith("layer"):
        return [], [name if last != "output" else parent]
    # A block's ReLU. The input of the last one is the sum, its output the block's.
    count = 3 if hasattr(model.get_submodule(parent), "conv3") else 2
    inner = [f"{parent}.relu{i}" for i in range(1, count)]
    if last == "relu":
        return [*[""] * len(inner), f"{parent}.add"], [*inner, parent]
    index = int(last.removeprefix("act"))
    return ([f"{parent}.add"], [parent]) if index == count else ([], [inner[index - 1]])


def _nchw(x: NDArray[np.float32]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2), dtype=np.float64))

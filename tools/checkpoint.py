"""Read a checkpoint of one's own and find the state dict in it."""

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch

from torch_family import build_model

WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Keys under which training scripts keep the state dict, beside optimizer and epoch."""

PREFIXES = ("module.", "_orig_mod.", "model.")
"""The prefixes that DataParallel, torch.compile and Lightning put before every name."""

SHOWN = 5
"""The most wrong tensors of a kind that an error message names."""


class CheckpointError(ValueError):
    """The file holds no state dict of the network that was asked for."""


def read_checkpoint(
    path: Path, architecture: str = "resnet50"
) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Read a `.pth` file without running code from it.

    Args:
        path: the file.
        architecture: the network that it must hold, one of `torch_family.ARCHITECTURES`.

    Returns:
        The state dict with torchvision's names, f32, without `num_batches_tracked`; and remarks
        for the user on what was unwrapped and stripped.

    Raises:
        CheckpointError: the file is no checkpoint of tensors, or not one of that network.
        OSError: the file cannot be read.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise CheckpointError(
            f"{path}: not a file of tensors only ({_first_line(error)}): save the state dict with "
            "torch.save(model.state_dict(), path), not the whole model"
        ) from error

    remarks: list[str] = []
    state = _unwrap(path, content, remarks)
    state = _strip_prefixes(state, remarks)
    state = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    check_state_dict(state, architecture)
    return {name: tensor.detach().float() for name, tensor in state.items()}, remarks


def check_state_dict(state: Mapping[str, torch.Tensor], architecture: str) -> None:
    """Compare names and shapes with those of a network of any number of classes.

    Raises:
        CheckpointError: naming the first missing, surplus and mis-shaped tensors.
    """
    fc = state.get("fc.weight")
    num_classes = fc.shape[0] if fc is not None and fc.ndim == 2 else 1000
    reference = build_model(architecture, num_classes).state_dict()
    expected = {k: v.shape for k, v in reference.items() if not k.endswith("num_batches_tracked")}

    complaints = [
        ("missing", [name for name in expected if name not in state]),
        ("surplus", [name for name in state if name not in expected]),
        (
            "of another shape",
            [
                f"{name} (expected {list(shape)}, got {list(state[name].shape)})"
                for name, shape in expected.items()
                if name in state and state[name].shape != shape
            ],
        ),
    ]
    lines = [f"  {_count(names)} {kind}: {_first(names)}" for kind, names in complaints if names]
    if lines:
        raise CheckpointError("\n".join([f"not a state dict of {architecture}:", *lines]))


def _unwrap(path: Path, content: object, remarks: list[str]) -> dict[str, torch.Tensor]:
    for key in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            remarks.append(f"took the state dict under {key!r}")
            content = content[key]
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: expected a dict of tensors, got {type(content).__name__}")
    others = [
        str(name)
        for name, value in content.items()
        if not (isinstance(name, str) and isinstance(value, torch.Tensor))
    ]
    if others or not content:
        found = f"other things: {_first(others)}" if others else "nothing"
        raise CheckpointError(
            f"{path}: expected a dict of tensors, itself or under one of {list(WRAPPERS)}, "
            f"got {found}"
        )
    return dict(content)


def _strip_prefixes(state: dict[str, torch.Tensor], remarks: list[str]) -> dict[str, torch.Tensor]:
    """Take away prefixes that every name has, one inside the other too."""
    while prefix := next((p for p in PREFIXES if all(k.startswith(p) for k in state)), None):
        remarks.append(f"stripped {prefix!r} from every name")
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def _count(names: list[str]) -> str:
    return f"{len(names)} {'tensor' if len(names) == 1 else 'tensors'}"


def _first(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]

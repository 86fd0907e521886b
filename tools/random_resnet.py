"""ResNet weights from a seed: for tests and benchmarks, where only the arithmetic counts."""

import math
from collections.abc import Mapping, Sequence

import torch

from torch_family import build_model


def random_state_dict(
    seed: int, num_classes: int = 1000, architecture: str = "resnet50"
) -> dict[str, torch.Tensor]:
    """Draw weights and batch-norm statistics that keep activations of order one.

    Args:
        seed: of the generator; the same seed gives the same weights.
        num_classes: rows of `fc.weight`; 0 for no fc.
        architecture: one of `torch_family.ARCHITECTURES`.

    Returns:
        torchvision's names (without `num_batches_tracked`) to f32 tensors, OIHW.

    Raises:
        ValueError: there is no such architecture.
    """
    state = build_model(architecture, num_classes).state_dict()
    return random_tensors({name: tensor.shape for name, tensor in state.items()}, seed)


def random_tensors(shapes: Mapping[str, Sequence[int]], seed: int) -> dict[str, torch.Tensor]:
    """Draw the tensors of a ResNet of any shape, by torchvision's names.

    A fresh model has batch norms that do nothing (mean 0, variance 1, scale 1, shift 0), so a
    network that forgot them would look right. Here every one of them matters.

    Args:
        shapes: the state dict's names and shapes, in its order.
        seed: of the generator.

    Returns:
        The names without `num_batches_tracked`, and f32 tensors.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(shape: Sequence[int], std: float) -> torch.Tensor:
        return torch.randn(tuple(shape), generator=generator) * std

    def uniform(shape: Sequence[int], low: float, high: float) -> torch.Tensor:
        return low + torch.rand(tuple(shape), generator=generator) * (high - low)

    state: dict[str, torch.Tensor] = {}
    for name, shape in shapes.items():
        kind = name.rsplit(".", 1)[-1]
        if kind == "num_batches_tracked":
            continue
        if name == "fc.weight":
            state[name] = normal(shape, math.sqrt(1 / shape[1]))
        elif len(shape) == 4:
            # He initialisation: a convolution followed by ReLU keeps the mean square.
            state[name] = normal(shape, math.sqrt(2 / math.prod(shape[1:])))
        elif kind in ("running_mean", "bias"):
            state[name] = normal(shape, 0.1)
        elif kind == "running_var":
            state[name] = uniform(shape, 0.5, 1.5)
        elif _scales_a_residual(name, shapes):
            # The last scale of a block is small, or the sums of many blocks would explode.
            state[name] = uniform(shape, 0.2, 0.4)
        else:
            state[name] = uniform(shape, 0.7, 1.2)
    return state


def _scales_a_residual(name: str, shapes: Mapping[str, Sequence[int]]) -> bool:
    """Tell the last batch norm before an addition: `bn3`, or `bn2` of a basic block."""
    if not name.startswith("layer"):
        return False
    return name.endswith("bn3.weight") or (
        name.endswith("bn2.weight") and name.replace("bn2", "bn3") not in shapes
    )

"""ResNet-50 weights from a seed: for tests and benchmarks, where only the arithmetic counts."""

import math

import torch
from torchvision.models import resnet50


def random_state_dict(seed: int, num_classes: int = 1000) -> dict[str, torch.Tensor]:
    """Draw weights and batch-norm statistics that keep activations of order one.

    A fresh torchvision model has batch norms that do nothing (mean 0, variance 1, scale 1,
    shift 0), so a network that forgot them would look right. Here every one of them matters.

    Args:
        seed: of the generator; the same seed gives the same weights.
        num_classes: rows of `fc.weight`.

    Returns:
        torchvision's names (without `num_batches_tracked`) to f32 tensors, OIHW.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(shape: torch.Size, std: float) -> torch.Tensor:
        return torch.randn(shape, generator=generator) * std

    def uniform(shape: torch.Size, low: float, high: float) -> torch.Tensor:
        return low + torch.rand(shape, generator=generator) * (high - low)

    with torch.device("meta"):
        shapes = {k: v.shape for k, v in resnet50(num_classes=num_classes).state_dict().items()}

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
        elif name.endswith("bn3.weight"):
            # The last scale of a block is small, or sixteen residual sums would explode.
            state[name] = uniform(shape, 0.2, 0.4)
        else:
            state[name] = uniform(shape, 0.7, 1.2)
    return state

"""Write a torch network as the from-scratch projects do: a text file a tensor, a number a line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

FORMAT = "%.18e"

_INSIDE = {"downsample.0": "downsample_conv2d", "downsample.1": "downsample_batchnorm"}


def write_text_directory(
    directory: Path, module: nn.Module, arch: str, *, block: str = "bottleneck"
) -> None:
    """Write every convolution, batch norm and linear layer of a torchvision ResNet.

    Args:
        directory: where to; it is made.
        module: the network.
        arch: what the files' names start with.
        block: the word for a block in the files' names.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for name, layer in module.named_modules():
        start = directory / f"{arch}_{_layer(name, block)}"
        if isinstance(layer, nn.Conv2d):
            _write(f"{start}_weight.txt", layer.weight.permute(0, 2, 3, 1))
            if layer.bias is not None:
                _write(f"{start}_bias.txt", layer.bias)
            param = (
                layer.in_channels,
                layer.out_channels,
                layer.kernel_size[0],
                layer.stride[0],
                layer.padding[0],
            )
            np.savetxt(f"{start}_param.txt", np.array(param), fmt="%d")
        elif isinstance(layer, nn.BatchNorm2d):
            for what in ("weight", "bias", "running_mean", "running_var"):
                _write(f"{start}_{what}.txt", getattr(layer, what))
            np.savetxt(f"{start}_param.txt", np.array([layer.eps, layer.momentum]), fmt=FORMAT)
        elif isinstance(layer, nn.Linear):
            _write(f"{start}_weight.txt", layer.weight)
            _write(f"{start}_bias.txt", layer.bias)


def _layer(name: str, block: str) -> str:
    parts = name.split(".", 2)
    if len(parts) < 3:
        return name
    stage, index, what = parts
    return f"{stage}_{block}{index}_{_INSIDE.get(what, what)}"


def _write(path: str, tensor: torch.Tensor) -> None:
    np.savetxt(path, tensor.detach().double().numpy().ravel(), fmt=FORMAT)

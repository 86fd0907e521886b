"""`--against torch`: torchvision's network with a model's weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...weights.loaded import HasLoaded

if TYPE_CHECKING:
    from torch import nn

# The fields of a variant that torchvision's network can follow.
_FOLLOWED = frozenset({"stride_on", "norm_epsilon", "in_channels", "dilation", "last_stride"})


def torch_twin(model: HasLoaded) -> nn.Module:
    """Build torchvision's network of the model's architecture, in evaluation mode.

    Args:
        model: the model whose weights are copied.

    Returns:
        A module in float32 that computes what the model should.

    Raises:
        ImportError: torch or torchvision is not installed.
        ValueError: torchvision has no such network.
    """
    try:
        import torch
        import torchvision
    except ImportError as error:
        raise ImportError(
            'comparing with torch needs torch and torchvision: pip install "resnet_rs[export]"'
        ) from error

    loaded = model.loaded
    config = loaded.config
    beyond = sorted(set(config.variant) - _FOLLOWED)
    if config.architecture not in torchvision.models.list_models(module=torchvision.models):
        raise ValueError(
            f"torchvision has no {config.architecture}: write a dump of the network that you have "
            "and compare with that"
        )
    if beyond or config.num_classes == 0:
        raise ValueError(
            f"torchvision's {config.architecture} cannot follow this model's "
            f"{', '.join(beyond) or 'num_classes = 0'}: write a dump of the network that you have "
            "and compare with that"
        )
    loaded.require_f32("a twin in torch")
    twin: nn.Module = torchvision.models.get_model(
        config.architecture, weights=None, num_classes=config.num_classes
    )
    _follow(twin, config.variant, loaded.network.in_channels)
    state = {
        name: torch.from_numpy(np.array(tensor, np.float32))
        for name, tensor in loaded.tensors().items()
    }
    # A state without metadata is of a version that did not count batches, so nothing is missing.
    twin.load_state_dict(state)
    return twin.eval()


def _follow(twin: Any, variant: Any, in_channels: int) -> None:
    """Change torchvision's network as the variant says."""
    from torch import nn

    stem = twin.conv1
    twin.conv1 = nn.Conv2d(in_channels, stem.out_channels, 7, stride=2, padding=3, bias=False)
    for module in twin.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = variant.get("norm_epsilon", module.eps)
        if variant.get("stride_on") == "conv1" and hasattr(module, "conv3"):
            module.conv1.stride, module.conv2.stride = module.conv2.stride, (1, 1)
    if variant.get("last_stride") == 1:
        _keep_size(twin.layer4[0])
    _dilate(twin, variant.get("dilation", (1, 1, 1, 1)))


def _dilate(twin: Any, dilations: Any) -> None:
    """Dilate whole stages, as torchvision's `replace_stride_with_dilation` and timm do.

    A stage whose dilation is larger than that of the stage before has stride 1, and the first
    convolution of 3 x 3 in it has the dilation of the stage before.
    """
    before = 1
    for stage, dilation in enumerate(dilations, 1):
        first, *_ = blocks = getattr(twin, f"layer{stage}")
        if dilation > before:
            _keep_size(first)
        for block in blocks:
            convs = [block.conv2] if hasattr(block, "conv3") else [block.conv1, block.conv2]
            for conv in convs:
                step = before if block is first and conv is convs[0] else dilation
                conv.dilation = conv.padding = (step, step)
        before = dilation


def _keep_size(block: Any) -> None:
    """Give a stage's first block stride 1."""
    convs = [block.conv1, block.conv2]
    if block.downsample is not None:
        convs.append(block.downsample[0])
    for conv in convs:
        conv.stride = (1, 1)

"""Small ResNets in torch with random weights and statistics, for files that real writers write."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

WIDTHS = (4, 8, 12, 16)
NUM_CLASSES = 5


class TinyResNet(nn.Module):
    """A ResNet of torchvision's blocks and names, with widths of its own.

    Args:
        block: torchvision's `BasicBlock` or `Bottleneck`.
        blocks: how many of them each stage has.
        widths: planes of each stage; the stem has those of the first.
        num_classes: of the last layer.
        stride_on_conv1: move the stride of a bottleneck from the 3x3 to the first 1x1 (v1).
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck] = Bottleneck,
        blocks: Sequence[int] = (1, 2, 1, 1),
        widths: Sequence[int] = WIDTHS,
        num_classes: int = NUM_CLASSES,
        *,
        stride_on_conv1: bool = False,
    ) -> None:
        super().__init__()
        channels = widths[0]
        self.conv1 = nn.Conv2d(3, channels, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        for stage, (count, planes) in enumerate(zip(blocks, widths, strict=True), start=1):
            out = planes * block.expansion
            layers = []
            for index in range(count):
                stride = 2 if index == 0 and stage > 1 else 1
                shortcut = None
                if stride != 1 or channels != out:
                    shortcut = nn.Sequential(
                        nn.Conv2d(channels, out, 1, stride=stride, bias=False), nn.BatchNorm2d(out)
                    )
                layers.append(block(channels, planes, stride, shortcut))
                if stride_on_conv1 and block is Bottleneck:
                    layers[-1].conv1.stride, layers[-1].conv2.stride = (stride, stride), (1, 1)
                channels = out
            self.add_module(f"layer{stage}", nn.Sequential(*layers))
        self.stages = len(blocks)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)
        randomize(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits `[batch, num_classes]` of `[batch, 3, height, width]`."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for stage in range(1, self.stages + 1):
            x = self.get_submodule(f"layer{stage}")(x)
        return self.fc(self.avgpool(x).flatten(1))


def randomize(module: nn.Module, seed: int = 0) -> None:
    """Give batch norms random values too (new ones are all 0 and 1), and set evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor, low, high in (
                (layer.weight, 0.5, 1.5),
                (layer.bias, -0.5, 0.5),
                (layer.running_mean, -0.5, 0.5),
                (layer.running_var, 0.5, 2.0),
            ):
                tensor.data.uniform_(low, high, generator=generator)
        elif isinstance(layer, (nn.Conv2d, nn.Linear)):
            fan_in = layer.weight[0].numel()
            layer.weight.data.normal_(0.0, fan_in**-0.5, generator=generator)
            if layer.bias is not None:
                layer.bias.data.normal_(0.0, 0.1, generator=generator)
    module.eval()


def tiny_variant(**changes: object) -> dict[str, object]:
    """The differences of `TinyResNet` from resnet50, as fields of a config's `variant`."""
    return {
        "blocks": [1, 2, 1, 1],
        "widths": list(WIDTHS),
        "stem_widths": [WIDTHS[0]],
        **changes,
    }

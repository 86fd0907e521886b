"""The family's members as torch modules: torchvision's where it has them, else timm's.

Neither has the paper's networks for CIFAR, which are put together from torchvision's blocks here.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torchvision
from torch.nn import functional
from torchvision.models.resnet import BasicBlock

TORCHVISION = (
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnext50_32x4d",
    "resnext101_32x8d",
    "resnext101_64x4d",
    "wide_resnet50_2",
    "wide_resnet101_2",
)
TIMM = (
    "resnet26",
    "resnet200",
    "resnet18d",
    "resnet26d",
    "resnet34d",
    "resnet50d",
    "resnet101d",
    "resnet152d",
    "resnet200d",
    "resnext50d_32x4d",
    "resnext101_32x4d",
)
CIFAR = (
    "cifar_resnet20",
    "cifar_resnet32",
    "cifar_resnet44",
    "cifar_resnet56",
    "cifar_resnet110",
)
ARCHITECTURES = TORCHVISION + TIMM + CIFAR
"""The known values of config.json's `architecture`."""

VARIANTS = ("in_channels", "stride_on", "norm_epsilon", "conv_bias")
"""Fields of config.json's `variant` that these modules can be changed to."""


def build_model(
    architecture: str,
    num_classes: int = 1000,
    variant: Mapping[str, Any] | None = None,
) -> torch.nn.Module:
    """Build a network without weights, on the meta device.

    Args:
        architecture: one of `ARCHITECTURES`.
        num_classes: rows of `fc.weight`; 0 for no fc, so that the pooled features come out.
        variant: as in config.json, of the fields in `VARIANTS`.

    Raises:
        ValueError: there is no such network.
        ImportError: timm is needed and not installed.
    """
    variant = dict(variant or {})
    unknown = [field for field in variant if field not in VARIANTS]
    if architecture not in ARCHITECTURES or unknown:
        raise ValueError(
            f"torch has no {architecture} with {unknown or 'that name'}: "
            f"expected one of {', '.join(ARCHITECTURES)}, changed by {', '.join(VARIANTS)} only"
        )
    with torch.device("meta"):
        if architecture in CIFAR:
            model: torch.nn.Module = CifarResNet(int(architecture.removeprefix("cifar_resnet")))
        else:
            model = _timm(architecture) if architecture in TIMM else _torchvision(architecture)
        fc: Any = model.fc
        model.fc = (
            torch.nn.Linear(fc.in_features, num_classes) if num_classes else torch.nn.Identity()
        )
        _vary(model, variant)
    return model.eval()


class CifarResNet(torch.nn.Module):  # type: ignore[misc]
    """The paper's network for CIFAR-10, with torchvision's names.

    Args:
        layers: 6n + 2: 20, 32, 44, 56 or 110.
    """

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.conv1 = torch.nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(16)
        self.relu = torch.nn.ReLU(inplace=True)
        count = (layers - 2) // 6
        self.layer1 = torch.nn.Sequential(*(BasicBlock(16, 16) for _ in range(count)))
        self.layer2 = self._stage(16, count)
        self.layer3 = self._stage(32, count)
        self.avgpool = torch.nn.AdaptiveAvgPool2d(1)
        self.fc = torch.nn.Linear(64, 10)

    @staticmethod
    def _stage(channels: int, count: int) -> torch.nn.Sequential:
        out = 2 * channels
        first = BasicBlock(channels, out, stride=2, downsample=OptionA(channels // 2))
        return torch.nn.Sequential(first, *(BasicBlock(out, out) for _ in range(count - 1)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the logits of NCHW images."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: torch.Tensor = self.fc(torch.flatten(self.avgpool(x), 1))
        return logits


class OptionA(torch.nn.Module):  # type: ignore[misc]
    """The paper's shortcut without weights: every second pixel, and zeros around the channels.

    Args:
        zeros: channels of zeros on each side.
    """

    def __init__(self, zeros: int) -> None:
        super().__init__()
        self.zeros = zeros

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Take `[n, c, h, w]` to `[n, 2c, h / 2, w / 2]`."""
        return functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.zeros, self.zeros))


def _torchvision(architecture: str) -> torch.nn.Module:
    model: torch.nn.Module = torchvision.models.get_model(architecture, weights=None)
    return model


def import_timm() -> Any:
    """Give the timm package, which only its own networks need.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import timm
    except ImportError as error:
        raise ImportError("this network is timm's: pip install timm") from error
    return timm


def _timm(architecture: str) -> torch.nn.Module:
    model: torch.nn.Module = import_timm().create_model(architecture, pretrained=False)
    return model


def _vary(model: Any, variant: Mapping[str, Any]) -> None:
    """Change a network in place; each change is one that its framework's users make by hand."""
    modules = list(model.modules())
    if "norm_epsilon" in variant:
        for module in modules:
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eps = variant["norm_epsilon"]
    if "in_channels" in variant:
        first = next(module for module in modules if isinstance(module, torch.nn.Conv2d))
        shape = (first.out_channels, variant["in_channels"], *first.kernel_size)
        first.in_channels = variant["in_channels"]
        first.weight = torch.nn.Parameter(torch.empty(shape))
    if variant.get("conv_bias"):
        for module in modules:
            if isinstance(module, torch.nn.Conv2d):
                module.bias = torch.nn.Parameter(torch.empty(module.out_channels))
    if variant.get("stride_on") == "conv1":
        for module in modules:
            if hasattr(module, "conv3"):
                module.conv1.stride, module.conv2.stride = module.conv2.stride, (1, 1)

"""The networks of the family, a class each.

| class | what it is |
|---|---|
| `ResNet18`, `ResNet34` | basic blocks: two 3x3 convolutions |
| `ResNet26`, `ResNet50`, `ResNet101`, `ResNet152`, `ResNet200` | bottlenecks: 1x1, 3x3, 1x1 |
| `ResNet18d` ... `ResNet200d` | three 3x3 in the stem, an average pool in the shortcuts |
| `ResNeXt50_32x4d` ... `ResNeXt101_64x4d` | 3x3 convolutions in 32 or 64 groups |
| `WideResNet50_2`, `WideResNet101_2` | 3x3 convolutions twice as wide |
| `CifarResNet20` ... `CifarResNet110` | three stages, for 32 x 32; no weights in shortcuts |

A class differs from `ResNet` in one way: it knows its architecture. So it reads files that do not
state one, and refuses the weights of another network.
"""

from __future__ import annotations

from .model import ResNet
from .options import Options, described, option_function
from .weights import load as weights


class ResNet18(ResNet):
    """resnet18: 11.7 million parameters, 1.8 GMAC at 224 x 224."""

    architecture = "resnet18"


class ResNet26(ResNet):
    """resnet26: 16.0 million parameters, 2.3 GMAC at 224 x 224."""

    architecture = "resnet26"


class ResNet34(ResNet):
    """resnet34: 21.8 million parameters, 3.7 GMAC at 224 x 224."""

    architecture = "resnet34"


class ResNet50(ResNet):
    """resnet50: 25.6 million parameters, 4.1 GMAC at 224 x 224."""

    architecture = "resnet50"


class ResNet101(ResNet):
    """resnet101: 44.5 million parameters, 7.8 GMAC at 224 x 224."""

    architecture = "resnet101"


class ResNet152(ResNet):
    """resnet152: 60.2 million parameters, 11.5 GMAC at 224 x 224."""

    architecture = "resnet152"


class ResNet200(ResNet):
    """resnet200: 64.7 million parameters, 15.0 GMAC at 224 x 224."""

    architecture = "resnet200"


class ResNet18d(ResNet):
    """resnet18d: 11.7 million parameters, 2.1 GMAC at 224 x 224."""

    architecture = "resnet18d"


class ResNet26d(ResNet):
    """resnet26d: 16.0 million parameters, 2.6 GMAC at 224 x 224."""

    architecture = "resnet26d"


class ResNet34d(ResNet):
    """resnet34d: 21.8 million parameters, 3.9 GMAC at 224 x 224."""

    architecture = "resnet34d"


class ResNet50d(ResNet):
    """resnet50d: 25.6 million parameters, 4.3 GMAC at 224 x 224."""

    architecture = "resnet50d"


class ResNet101d(ResNet):
    """resnet101d: 44.6 million parameters, 8.0 GMAC at 224 x 224."""

    architecture = "resnet101d"


class ResNet152d(ResNet):
    """resnet152d: 60.2 million parameters, 11.8 GMAC at 224 x 224."""

    architecture = "resnet152d"


class ResNet200d(ResNet):
    """resnet200d: 64.7 million parameters, 15.2 GMAC at 224 x 224."""

    architecture = "resnet200d"


class ResNeXt50_32x4d(ResNet):
    """resnext50_32x4d: 25.0 million parameters, 4.2 GMAC at 224 x 224."""

    architecture = "resnext50_32x4d"


class ResNeXt50d_32x4d(ResNet):
    """resnext50d_32x4d: 25.0 million parameters, 4.5 GMAC at 224 x 224."""

    architecture = "resnext50d_32x4d"


class ResNeXt101_32x4d(ResNet):
    """resnext101_32x4d: 44.2 million parameters, 8.0 GMAC at 224 x 224."""

    architecture = "resnext101_32x4d"


class ResNeXt101_32x8d(ResNet):
    """resnext101_32x8d: 88.8 million parameters, 16.4 GMAC at 224 x 224."""

    architecture = "resnext101_32x8d"


class ResNeXt101_64x4d(ResNet):
    """resnext101_64x4d: 83.5 million parameters, 15.5 GMAC at 224 x 224."""

    architecture = "resnext101_64x4d"


class WideResNet50_2(ResNet):
    """wide_resnet50_2: 68.9 million parameters, 11.4 GMAC at 224 x 224."""

    architecture = "wide_resnet50_2"


class WideResNet101_2(ResNet):
    """wide_resnet101_2: 126.9 million parameters, 22.8 GMAC at 224 x 224."""

    architecture = "wide_resnet101_2"


class CifarResNet20(ResNet):
    """cifar_resnet20: 0.27 million parameters with ten classes, 0.04 GMAC at 32 x 32."""

    architecture = "cifar_resnet20"


class CifarResNet32(ResNet):
    """cifar_resnet32: 0.46 million parameters with ten classes, 0.07 GMAC at 32 x 32."""

    architecture = "cifar_resnet32"


class CifarResNet44(ResNet):
    """cifar_resnet44: 0.66 million parameters with ten classes, 0.10 GMAC at 32 x 32."""

    architecture = "cifar_resnet44"


class CifarResNet56(ResNet):
    """cifar_resnet56: 0.85 million parameters with ten classes, 0.13 GMAC at 32 x 32."""

    architecture = "cifar_resnet56"


class CifarResNet110(ResNet):
    """cifar_resnet110: 1.73 million parameters with ten classes, 0.25 GMAC at 32 x 32."""

    architecture = "cifar_resnet110"


CLASSES: dict[str, type[ResNet]] = {
    cls.architecture: cls for cls in ResNet.__subclasses__() if cls.architecture is not None
}
"""The classes by architecture."""


@described
@option_function(Options)
def load(options: Options) -> ResNet:  # noqa: D417, `described` fills them in
    """Load weights of any network of the family, as the class that fits.

    The weights' config states the architecture. A bare state dict has none, and the caller must
    state it: some networks of the family share all shapes.

    Args:
        <options>

    Returns:
        A `ResNet50`, `ResNeXt50_32x4d`, ...: of the weights' architecture.

    Raises:
        WeightsError: as `ResNet` does; also if nothing states the architecture. The message lists
            the candidates that the tensors' shapes allow.
        FileNotFoundError, UnsupportedIsaError, ImportError, TypeError, ValueError: as `ResNet`.

    Example:
        ```python
        import resnet_rs

        model = resnet_rs.load("weights")
        print(type(model).__name__, model.config.num_classes)
        ```
    """
    loaded = weights.load(options)
    loaded.warn(stacklevel=4)  # past this function and its wrapper
    return CLASSES[loaded.config.architecture].of(loaded)

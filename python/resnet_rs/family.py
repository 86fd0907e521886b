"""The networks of the family, a class each.

| class | what it is |
|---|---|
| `ResNet18`, `ResNet34` | basic blocks: two 3x3 convolutions |
| `ResNet26`, `ResNet50`, `ResNet101`, `ResNet152`, `ResNet200` | bottlenecks: 1x1, 3x3, 1x1 |
| `ResNet18d` ... `ResNet200d` | three 3x3 in the stem, an average pool in the shortcuts |
| `ResNeXt50_32x4d` ... `ResNeXt101_64x4d` | 3x3 convolutions in 32 or 64 groups |
| `WideResNet50_2`, `WideResNet101_2` | 3x3 convolutions twice as wide |

A class differs from `ResNet` in this only: it knows its architecture, so that it reads files that
do not state one, and it refuses the weights of another.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from .images.spec import Preprocessing
from .model import ResNet
from .weights.load import load as load_request
from .weights.request import request


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


CLASSES: dict[str, type[ResNet]] = {
    cls.architecture: cls for cls in ResNet.__subclasses__() if cls.architecture is not None
}
"""The classes by architecture."""


def load(
    weights: str | os.PathLike[str] | bytes,
    *,
    architecture: str | None = None,
    variant: Mapping[str, Any] | None = None,
    num_classes: int | None = None,
    labels: Sequence[str] | None = None,
    preprocessing: Preprocessing | Mapping[str, Any] | str | None = None,
    names: Mapping[str, str | None] | str | os.PathLike[str] | None = None,
    key: str | None = None,
    config: Mapping[str, Any] | None = None,
    isa: str | None = None,
    threads: int | None = None,
    winograd: bool = True,
    backend: str = "fast",
) -> ResNet:
    """Load weights of any network of the family, as the class that fits.

    The architecture is the one that the weights' config states. Where there is none, as with a
    state dict, it is asked for: shapes cannot tell apart all networks that there are.

    Args:
        weights: as `ResNet` takes them, and so all other arguments.
        architecture: needed where the weights do not state it.
        variant: as `ResNet` takes it.
        num_classes: as `ResNet` takes it.
        labels: as `ResNet` takes them.
        preprocessing: as `ResNet` takes it.
        names: as `ResNet` takes them.
        key: as `ResNet` takes it.
        config: as `ResNet` takes it.
        isa: as `ResNet` takes it.
        threads: as `ResNet` takes it.
        winograd: as `ResNet` takes it.
        backend: as `ResNet` takes it.

    Returns:
        A `ResNet50`, `ResNeXt50_32x4d`, ...: of the weights' architecture.

    Raises:
        WeightsError: as `ResNet` does; also where nothing states the architecture. The message
            lists what the tensors' shapes allow.
        FileNotFoundError, UnsupportedIsaError, ImportError, TypeError, ValueError: as `ResNet`.

    Example:
        ```python
        import resnet_rs

        model = resnet_rs.load("weights")
        print(type(model).__name__, model.config.num_classes)
        ```
    """
    asked = request(
        weights,
        architecture=architecture,
        variant=variant,
        num_classes=num_classes,
        labels=labels,
        preprocessing=preprocessing,
        names=names,
        key=key,
        config=config,
        isa=isa,
        threads=threads,
        winograd=winograd,
        backend=backend,
    )
    loaded = load_request(asked, None)
    if loaded.assumed is not None:
        warnings.warn(loaded.assumed, UserWarning, stacklevel=2)
    return CLASSES[loaded.config.architecture]._of(loaded)

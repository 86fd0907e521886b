"""ResNets on the CPU: a photo in, labels, an embedding or feature maps out.

```python
from resnet_rs import ResNet50

model = ResNet50("weights")

for prediction in model.predict("photo.jpg", top_k=3):
    print(f"{prediction.score:6.2%}  {prediction.label}")

vectors = model.embed(["photo.jpg", "cat.jpg"])  # [2, 2048]
maps = model.features("photo.jpg", ["layer2", "layer3"])  # [height, width, channels] each
logits = model.forward(model.preprocess("photo.jpg"))  # [1, classes]
```

`weights` is a directory with `model.safetensors` and `config.json`, or any of the files that
docs/formats.md lists; `resnet-rs convert` makes such a directory of them. `resnet_rs.load` reads
the architecture from the weights, a class such as `ResNet50` insists on its own. The kernels and
the network are in the compiled module `_core`; this package adds images, labels and the command
line, and needs numpy and Pillow only.
"""

from typing import TYPE_CHECKING, Any

from ._core import UnsupportedIsaError, WeightsError, __version__
from .family import (
    CifarResNet20,
    CifarResNet32,
    CifarResNet44,
    CifarResNet56,
    CifarResNet110,
    ResNet18,
    ResNet18d,
    ResNet26,
    ResNet26d,
    ResNet34,
    ResNet34d,
    ResNet50,
    ResNet50d,
    ResNet101,
    ResNet101d,
    ResNet152,
    ResNet152d,
    ResNet200,
    ResNet200d,
    ResNeXt50_32x4d,
    ResNeXt50d_32x4d,
    ResNeXt101_32x4d,
    ResNeXt101_32x8d,
    ResNeXt101_64x4d,
    WideResNet50_2,
    WideResNet101_2,
    load,
)
from .images.errors import ImageError
from .images.spec import Preprocessing
from .model import ResNet
from .results import Prediction
from .weights.config import Config

if TYPE_CHECKING:
    from .evaluation import Evaluation, evaluate
    from .inspect.compare import compare, compare_precision, compare_step
    from .training import Recipe, Run, Trainer, TrainingError, train

__all__ = [
    "CifarResNet20",
    "CifarResNet32",
    "CifarResNet44",
    "CifarResNet56",
    "CifarResNet110",
    "Config",
    "Evaluation",
    "ImageError",
    "Prediction",
    "Preprocessing",
    "Recipe",
    "ResNeXt50_32x4d",
    "ResNeXt50d_32x4d",
    "ResNeXt101_32x4d",
    "ResNeXt101_32x8d",
    "ResNeXt101_64x4d",
    "ResNet",
    "ResNet18",
    "ResNet18d",
    "ResNet26",
    "ResNet26d",
    "ResNet34",
    "ResNet34d",
    "ResNet50",
    "ResNet50d",
    "ResNet101",
    "ResNet101d",
    "ResNet152",
    "ResNet152d",
    "ResNet200",
    "ResNet200d",
    "Run",
    "Trainer",
    "TrainingError",
    "UnsupportedIsaError",
    "WeightsError",
    "WideResNet50_2",
    "WideResNet101_2",
    "__version__",
    "compare",
    "compare_precision",
    "compare_step",
    "evaluate",
    "load",
    "train",
]


_LATE = {
    "compare": "inspect.compare",
    "compare_precision": "inspect.compare",
    "compare_step": "inspect.compare",
    "evaluate": "evaluation",
    "Evaluation": "evaluation",
    "Recipe": "training",
    "Run": "training",
    "Trainer": "training",
    "TrainingError": "training",
    "train": "training",
}


def __getattr__(name: str) -> Any:
    """Import what not every program needs only where it is used."""
    module = _LATE.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{module}", __name__), name)

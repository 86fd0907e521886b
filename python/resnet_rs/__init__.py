"""ResNet-50 on the CPU: a photo in, labels or an embedding out.

```python
from resnet_rs import ResNet50

model = ResNet50("weights")

for prediction in model.predict("photo.jpg", top_k=3):
    print(f"{prediction.score:6.2%}  {prediction.label}")

vectors = model.embed(["photo.jpg", "cat.jpg"])  # [2, 2048]
logits = model.forward(model.preprocess("photo.jpg"))  # [1, classes]
```

`weights` is a directory with `model.safetensors` and `config.json`; `tools/export.py` in the
source tree makes one from torchvision's weights or from a checkpoint of one's own. The kernels
and the network are in the compiled module `_core`; this package adds images, labels and the
command line, and needs numpy and Pillow only.
"""

from ._core import UnsupportedIsaError, WeightsError, __version__
from .config import Config, Preprocessing
from .images import ImageError
from .model import Prediction, ResNet50

__all__ = [
    "Config",
    "ImageError",
    "Prediction",
    "Preprocessing",
    "ResNet50",
    "UnsupportedIsaError",
    "WeightsError",
    "__version__",
]

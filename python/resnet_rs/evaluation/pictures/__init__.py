"""Pictures of an evaluation and of a training, drawn with Pillow.

```python
from resnet_rs import ResNet50
from resnet_rs.evaluation import evaluate
from resnet_rs.evaluation.pictures import confusion_matrix, mistake_mosaic

evaluation = evaluate(ResNet50("weights"), ["photo.jpg", "cat.jpg"], [2, 3])
confusion_matrix(evaluation).save("confusion.png")
mistake_mosaic(evaluation).save("mistakes.jpg", quality=90)
```

Each function returns a Pillow image with two pixels a point. `save` writes one so that the file is
whole at any time.
"""

from .confusion import confusion_matrix
from .curves import learning_curves
from .files import save
from .mosaics import batch_mosaic, mistake_mosaic
from .rates import rate_curve

__all__ = [
    "batch_mosaic",
    "confusion_matrix",
    "learning_curves",
    "mistake_mosaic",
    "rate_curve",
    "save",
]

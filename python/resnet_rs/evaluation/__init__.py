"""The quality of a classifier: metrics, mistakes, a model over labelled photos.

```python
from resnet_rs import ResNet50
from resnet_rs.evaluation import evaluate

evaluation = evaluate(ResNet50("weights"), ["photo.jpg", "cat.jpg"], [2, 2])
print(evaluation.top1)
for mistake in evaluation.mistakes():
    print(mistake.image, evaluation.classes[mistake.predicted], mistake.score)
```

`measure` does the same for outputs that are there already. `History` is the file of a training's
results, epoch by epoch, and `read_history` reads it.
"""

from .evaluation import Evaluation
from .figures import Mistake, Skipped
from .history import History, read_history
from .metrics import measure
from .run import evaluate

__all__ = [
    "Evaluation",
    "History",
    "Mistake",
    "Skipped",
    "evaluate",
    "measure",
    "read_history",
]

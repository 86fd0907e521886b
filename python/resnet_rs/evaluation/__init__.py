"""The quality of a classifier: metrics, mistakes, a model over labelled photos.

```python
from resnet_rs import ResNet50
from resnet_rs.evaluation import evaluate

evaluation = evaluate(ResNet50("weights"), ["photo.jpg", "cat.jpg"], [2, 2])
print(evaluation.top1)
for mistake in evaluation.mistakes():
    print(mistake.image, evaluation.classes[mistake.predicted], mistake.score)
```

`measure` does the same for outputs that are there already. `knn` and `linear_probe` do it for
embeddings: they show how well a network tells classes apart that it was not trained for. `History`
is the file of a training's results, epoch by epoch, and `read_history` reads it.
`resnet_rs.evaluation.pictures` draws the confusion matrix, mistakes, batches and learning curves.
"""

from .evaluation import Evaluation
from .figures import Mistake, Skipped
from .history import History, read_history
from .knn import knn
from .linear_probe import LinearProbe, linear_probe
from .metrics import measure
from .run import evaluate

__all__ = [
    "Evaluation",
    "History",
    "LinearProbe",
    "Mistake",
    "Skipped",
    "evaluate",
    "knn",
    "linear_probe",
    "measure",
    "read_history",
]

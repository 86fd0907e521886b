"""A ResNet in plain NumPy, to read: each operation as its formula, in float64 and NHWC.

Read it in this order:

1. `layers.py`: the operations. `conv2d`, `batch_norm`, `relu`, `add`, `max_pool`,
   `avg_pool`, `global_avg_pool`, `global_max_pool`, `pad_shortcut`, `fully_connected` and
   `softmax`, each a few lines.
2. `blocks.py`: `basic_block` and `bottleneck`, the two residual blocks of the paper.
3. `networks.py`: `resnet18`, `resnet34`, `resnet50`, ... put together from those blocks.
4. `walk.py`: `run`, which walks the compiled core's list of operations and so computes any
   network of the family, and gives every operation's result by name.

Nothing here is fast or clever: it defines the right numbers. The tests compare it with torch in
float64, and the compiled core with it. `ResNet50("weights", backend="reference")` runs
it in place of the core.

```python
import numpy as np
from resnet_rs import reference

x = np.random.default_rng(0).standard_normal((1, 5, 7, 3))  # [batch, height, width, channels]
weights = np.zeros((2, 3, 3, 3))  # OHWI: [out, kernel height, kernel width, in]
weights[0, 1, 1, 0] = 1  # the first output channel repeats the first input channel,
weights[1, 1, 2, 0] = 1  # the second shows that channel's neighbour to the right
y = reference.conv2d(x, weights, stride=1, padding=1)  # [1, 5, 7, 2]
assert np.array_equal(y[..., 0], x[..., 0])
assert np.array_equal(y[0, :, :-1, 1], x[0, :, 1:, 0])
```
"""

from .blocks import basic_block, bottleneck
from .layers import (
    add,
    avg_pool,
    batch_norm,
    conv2d,
    flatten,
    fully_connected,
    global_avg_pool,
    global_max_pool,
    max_pool,
    ohwi,
    pad_shortcut,
    relu,
    softmax,
)
from .networks import resnet, resnet18, resnet34, resnet50, resnet101, resnet152
from .walk import evaluate, run

__all__ = [
    "add",
    "avg_pool",
    "basic_block",
    "batch_norm",
    "bottleneck",
    "conv2d",
    "evaluate",
    "flatten",
    "fully_connected",
    "global_avg_pool",
    "global_max_pool",
    "max_pool",
    "ohwi",
    "pad_shortcut",
    "relu",
    "resnet",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "run",
    "softmax",
]

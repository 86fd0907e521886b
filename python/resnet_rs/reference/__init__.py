"""A ResNet in plain NumPy, to read: each operation as its formula, in float64 and NHWC.

Read it in this order:

1. `layers.py`: the operations. `conv2d`, `batch_norm`, `relu`, `add`, `max_pool`,
   `avg_pool`, `global_avg_pool`, `global_max_pool`, `pad_shortcut`, `fully_connected` and
   `softmax`, each a few lines.
2. `blocks.py`: `basic_block` and `bottleneck`, the two residual blocks of the paper.
3. `networks.py`: `resnet18`, `resnet34`, `resnet50`, ... put together from those blocks.
4. `walk.py`: `operations`, the compiled core's list of a network's operations, and `run`, which
   walks it and so computes any network of the family, and gives every operation's result by name.

Then a network in fewer bits:

5. `fused.py`: `fused_layers`, operations put together into what is rounded once.
6. `bf16.py` and `bf16_network.py`: the arithmetic of a layer in bf16, sum by sum, and `run_bf16`.
7. `int8.py` and `int8_network.py`: that of a quantised layer, integer by integer, and `run_int8`.

Then training:

8. `losses.py`: `cross_entropy` and its gradient.
9. `gradients.py`, `pool_gradients.py`, `training_norm.py`: the gradient of each operation by its
   inputs and its weights; batch norm with the statistics of the batch.
10. `walk_back.py`: `backward`, which gives a network's loss and its gradient by every tensor and by
   every operation's result.
11. `optimizers.py`: `sgd_step`, `adamw_step`, `average_step`, `clip_gradients`.
12. `initial.py`: `initial_tensors`, the random weights that a training begins with.

`windows.py` has the few lines about borders and windows that the others share.

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

from .bf16_network import run_bf16
from .blocks import basic_block, bottleneck
from .fused import fused_layers
from .gradients import (
    add_gradient,
    conv2d_bias_gradient,
    conv2d_input_gradient,
    conv2d_weight_gradient,
    flatten_gradient,
    fully_connected_gradients,
    oihw,
    pad_shortcut_gradient,
    relu_gradient,
)
from .initial import initial_tensors
from .int8_network import int8_layers, run_int8
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
from .losses import cross_entropy, cross_entropy_gradient, log_softmax
from .networks import resnet, resnet18, resnet34, resnet50, resnet101, resnet152
from .optimizers import adamw_step, average_step, clip_gradients, sgd_step
from .pool_gradients import (
    avg_pool_gradient,
    global_avg_pool_gradient,
    global_max_pool_gradient,
    max_pool_gradient,
)
from .training_norm import (
    batch_norm_gradients,
    batch_norm_training,
    batch_norm_training_gradients,
)
from .walk import evaluate, operations, run
from .walk_back import Backward, backward, pull_back

__all__ = [
    "Backward",
    "adamw_step",
    "add",
    "add_gradient",
    "average_step",
    "avg_pool",
    "avg_pool_gradient",
    "backward",
    "basic_block",
    "batch_norm",
    "batch_norm_gradients",
    "batch_norm_training",
    "batch_norm_training_gradients",
    "bottleneck",
    "clip_gradients",
    "conv2d",
    "conv2d_bias_gradient",
    "conv2d_input_gradient",
    "conv2d_weight_gradient",
    "cross_entropy",
    "cross_entropy_gradient",
    "evaluate",
    "flatten",
    "flatten_gradient",
    "fully_connected",
    "fully_connected_gradients",
    "fused_layers",
    "global_avg_pool",
    "global_avg_pool_gradient",
    "global_max_pool",
    "global_max_pool_gradient",
    "initial_tensors",
    "int8_layers",
    "log_softmax",
    "max_pool",
    "max_pool_gradient",
    "ohwi",
    "oihw",
    "operations",
    "pad_shortcut",
    "pad_shortcut_gradient",
    "pull_back",
    "relu",
    "relu_gradient",
    "resnet",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "run",
    "run_bf16",
    "run_int8",
    "sgd_step",
    "softmax",
]

"""The random weights that a training from scratch begins with: He's initialisation.

The rule keeps the size of values, and of gradients, the same from layer to layer. The sum of K
products of independent numbers with mean 0 has K times the variance of one product. A ReLU halves
the mean square. So weights with the variance `2 / K` keep the mean square as it is. torchvision
counts K for the way back: a value takes part in `kernel^2 * out` sums ("fan out").
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from .walk import Operation
from .windows import Array


def initial_tensors(
    operations: Sequence[Operation], random: np.random.Generator, *, zero_last: bool = False
) -> dict[str, Array]:
    """Draw the tensors of a network as torchvision initialises a new ResNet.

    - weights of a convolution: normal, mean 0, variance `2 / (kernel^2 * out)`, also with groups
    - weights and bias of fc: uniform from `-1 / sqrt(in)` to `1 / sqrt(in)`
    - batch norm: scale 1, shift 0, running mean 0, running variance 1
    - bias of a convolution: 0

    Args:
        operations: the result of `operations` or `Network.operations`.
        random: the source of the numbers; the same seed gives the same tensors.
        zero_last: make the last scale of each block 0. Its branch then adds nothing at first, and
            the block is the identity (torchvision's `zero_init_residual`).

    Returns:
        torchvision's names to arrays, convolutions OIHW.
    """
    last = set(_last_norms(operations)) if zero_last else set()
    tensors: dict[str, Array] = {}
    for operation in operations:
        for part, (name, shape) in operation["parameters"].items():
            if operation["kind"] == "linear":
                bound = operation["in_features"] ** -0.5
                tensors[name] = random.uniform(-bound, bound, shape)
            elif operation["kind"] == "conv" and part == "weight":
                fan_out = shape[0] * shape[2] * shape[3]
                tensors[name] = random.normal(0.0, (2 / fan_out) ** 0.5, shape)
            elif part == "running_var":
                tensors[name] = np.ones(shape)
            elif operation["kind"] == "batch_norm" and part == "weight":
                tensors[name] = np.full(shape, 0.0 if operation["name"] in last else 1.0)
            else:
                tensors[name] = np.zeros(shape)
    return tensors


def _last_norms(operations: Sequence[Operation]) -> Iterator[str]:
    """Name the batch norm at the end of each block's branch."""
    by_name = {operation["name"]: operation for operation in operations}
    for operation in operations:
        if operation["kind"] == "add":
            branch = by_name[operation["inputs"][0]]
            if branch["kind"] == "relu":  # a variant with a ReLU before the addition
                branch = by_name[branch["inputs"][0]]
            if branch["kind"] == "batch_norm":
                yield branch["name"]

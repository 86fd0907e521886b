"""Any network of the family: a walk over its list of operations.

The compiled core describes each network as a list of operations in order (`operations`).
Every operation names its kind, its inputs (other operations, or `image`) and its tensors. The walk
takes each operation in turn: it takes the results of the inputs, applies the formula, and keeps the
result until no later operation needs it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _core
from . import layers
from .windows import Array

Operation = Mapping[str, Any]


def operations(
    architecture: str,
    height: int,
    width: int,
    *,
    num_classes: int = 1000,
    variant: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """List the operations of a network of the family, in order, as the compiled core states them.

    Args:
        architecture: a name such as `resnet50` or `cifar_resnet20`.
        height: of an image.
        width: of an image.
        num_classes: the number of logits; 0 for no fc.
        variant: fields of config.json's `variant`, such as `{"widths": [8, 16, 32, 64]}`.

    Raises:
        WeightsError: there is no such network.
    """
    variant = dict(variant or {})
    channels = variant.get("in_channels", 3)
    config = {
        "format_version": 1,
        "architecture": architecture,
        "variant": variant,
        "num_classes": num_classes,
        "preprocessing": {
            "crop": [height, width],
            "mean": [0.0] * channels,
            "std": [1.0] * channels,
        },
    }
    return _core.operations(json.dumps(config), height, width)


def run(
    operations: Sequence[Operation], tensors: Mapping[str, NDArray[Any]], image: ArrayLike
) -> Iterator[tuple[str, Array]]:
    """Compute a network, operation by operation.

    Args:
        operations: the result of `operations` or `Network.operations`.
        tensors: torchvision's names to arrays, convolutions OIHW.
        image: `[batch, height, width, channels]`, normalised.

    Yields:
        Each operation's name and result in network order, NHWC in float64; pooled features and
        logits are `[batch, 1, 1, channels]`. A result that the caller drops is freed.

    Raises:
        KeyError: a tensor is missing.
        ValueError: an image or tensor of another shape.
    """
    x = np.asarray(image, np.float64)
    if x.ndim != 4:
        raise ValueError(f"expected an image [batch, height, width, channels]; got {list(x.shape)}")
    values = {"image": x}
    uses = Counter(name for operation in operations for name in operation["inputs"])
    for operation in operations:
        inputs = [values[name] for name in operation["inputs"]]
        result = evaluate(operation, inputs, parameters(operation, tensors))
        values[operation["name"]] = result
        for name in operation["inputs"]:
            uses[name] -= 1
            if not uses[name]:
                values.pop(name, None)
        yield operation["name"], result


def parameters(operation: Operation, tensors: Mapping[str, NDArray[Any]]) -> dict[str, Array]:
    """Collect an operation's tensors by part (`weight`, `bias`, `running_mean`, ...), in float64.

    Raises:
        KeyError: a tensor is missing.
        ValueError: a tensor has another shape than the network wants.
    """
    found = {}
    for part, (name, shape) in operation["parameters"].items():
        if name not in tensors:
            raise KeyError(f"{operation['name']}: the weights have no tensor {name!r}")
        tensor = np.asarray(tensors[name], np.float64)
        if tensor.shape != tuple(shape):
            raise ValueError(f"{name}: expected shape {list(shape)}, got {list(tensor.shape)}")
        found[part] = tensor
    return found


def evaluate(operation: Operation, inputs: Sequence[Array], tensors: Mapping[str, Array]) -> Array:
    """Apply one operation's formula.

    Args:
        operation: one of the core's list.
        inputs: its inputs' results, NHWC.
        tensors: its own tensors by part, as `parameters` gives them.

    Returns:
        NHWC.

    Raises:
        ValueError: an unknown kind of operation, or inputs that do not fit.
    """
    x = inputs[0]
    match operation["kind"]:
        case "conv":
            return layers.conv2d(
                x,
                layers.ohwi(tensors["weight"]),
                stride=operation["stride"],
                padding=operation["padding"],
                groups=operation["groups"],
                bias=tensors.get("bias"),
                dilation=operation["dilation"],
            )
        case "batch_norm":
            return layers.batch_norm(
                x,
                mean=tensors["running_mean"],
                variance=tensors["running_var"],
                scale=tensors["weight"],
                shift=tensors["bias"],
                epsilon=operation["epsilon"],
            )
        case "relu":
            return layers.relu(x)
        case "add":
            return layers.add(x, inputs[1])
        case "max_pool":
            return layers.max_pool(
                x,
                operation["kernel"],
                operation["stride"],
                operation["padding"],
                ceil_mode=operation["ceil_mode"],
            )
        case "avg_pool":
            return layers.avg_pool(
                x,
                operation["kernel"],
                operation["stride"],
                operation["padding"],
                ceil_mode=operation["ceil_mode"],
                count_include_pad=operation["count_include_pad"],
                extra=operation["extra"],
            )
        case "global_avg_pool":
            return layers.global_avg_pool(x)
        case "global_max_pool":
            return layers.global_max_pool(x)
        case "pad":
            return layers.pad_shortcut(
                x,
                operation["kernel"],
                operation["stride"],
                operation["before"],
                operation["after"],
            )
        case "linear":
            y = layers.fully_connected(layers.flatten(x), tensors["weight"], tensors.get("bias"))
            return y[:, None, None, :]  # NHWC like all other results: [batch, 1, 1, classes]
        case kind:
            raise ValueError(f"{operation['name']}: no formula for an operation of kind {kind!r}")

"""A step of training for any network of the family: forward, loss, and the walk back.

The forward keeps the result of every operation. The way back then goes through the same list from
its end: an operation gets the gradient by its result, and hands gradients on to its inputs and its
tensors. A result that several operations read, such as a block's input, gets the sum of theirs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import gradients, layers, losses, pool_gradients, training_norm
from .walk import Operation, evaluate, parameters
from .windows import Array


@dataclass(frozen=True)
class Backward:
    """Everything that a forward and a backward compute. All arrays are float64."""

    loss: float
    """The cross-entropy of the batch."""
    results: dict[str, Array]
    """Each operation's name to its result, NHWC, in network order; `image` is the input."""
    result_gradients: dict[str, Array]
    """The same names to the gradient of the loss by that result, of the same shape."""
    gradients: dict[str, Array]
    """torchvision's names of the trained tensors to the gradient of the loss, convolutions OIHW."""
    statistics: dict[str, Array]
    """torchvision's names of the running means and variances to their values after this batch."""


def backward(
    operations: Sequence[Operation],
    tensors: Mapping[str, NDArray[Any]],
    image: ArrayLike,
    targets: ArrayLike,
    *,
    momentum: float = 0.1,
    frozen: Collection[str] = (),
) -> Backward:
    """Compute a network's loss in training mode, and its gradient by every result and tensor.

    Args:
        operations: the result of `walk.operations` or `Network.operations`.
        tensors: torchvision's names to arrays, convolutions OIHW.
        image: `[batch, height, width, channels]`, normalised.
        targets: `[batch, classes]`, the matrix of `resnet_rs.targets.target_matrix`.
        momentum: of the running statistics.
        frozen: names of operations that are not trained: their tensors have no gradients, and a
            batch norm among them uses its running statistics and leaves them as they are.

    Raises:
        KeyError: a tensor is missing.
        ValueError: an image, a tensor or the targets have another shape; a channel of a batch norm
            has a single value.
    """
    x = np.asarray(image, np.float64)
    if x.ndim != 4:
        raise ValueError(f"expected an image [batch, height, width, channels]; got {list(x.shape)}")
    results = {"image": x}
    statistics: dict[str, Array] = {}
    for operation in operations:
        inputs = [results[name] for name in operation["inputs"]]
        own = parameters(operation, tensors)
        if _has_batch_statistics(operation, frozen):
            result, mean, variance = training_norm.batch_norm_training(
                inputs[0],
                own["running_mean"],
                own["running_var"],
                own["weight"],
                own["bias"],
                operation["epsilon"],
                momentum,
            )
            statistics[operation["parameters"]["running_mean"][0]] = mean
            statistics[operation["parameters"]["running_var"][0]] = variance
        else:
            result = evaluate(operation, inputs, own)
        results[operation["name"]] = result

    last = operations[-1]["name"]
    logits = results[last][:, 0, 0]  # [batch, 1, 1, classes] -> [batch, classes]
    wanted = np.asarray(targets, np.float64)
    loss = losses.cross_entropy(logits, wanted)

    arrived = {last: losses.cross_entropy_gradient(logits, wanted)[:, None, None]}
    by_tensor: dict[str, Array] = {}
    for operation in reversed(operations):
        inputs = [results[name] for name in operation["inputs"]]
        to_inputs, to_parameters = pull_back(
            operation,
            arrived[operation["name"]],
            inputs,
            results[operation["name"]],
            parameters(operation, tensors),
            batch_statistics=_has_batch_statistics(operation, frozen),
        )
        for name, gradient in zip(operation["inputs"], to_inputs, strict=True):
            # Two paths from here to the loss: their gradients add up.
            arrived[name] = arrived[name] + gradient if name in arrived else gradient
        if operation["name"] not in frozen:
            for part, gradient in to_parameters.items():
                by_tensor[operation["parameters"][part][0]] = gradient

    return Backward(
        loss=loss,
        results=results,
        result_gradients={name: arrived[name] for name in results},
        gradients={
            name: by_tensor[name]
            for operation in operations
            for name, _ in operation["parameters"].values()
            if name in by_tensor
        },
        statistics=statistics,
    )


def pull_back(
    operation: Operation,
    dy: Array,
    inputs: Sequence[Array],
    result: Array,
    tensors: Mapping[str, Array],
    *,
    batch_statistics: bool = True,
) -> tuple[list[Array], dict[str, Array]]:
    """Apply one operation's gradient: the counterpart of `evaluate`.

    Args:
        operation: one of the core's list.
        dy: the gradient by its result, NHWC.
        inputs: its inputs' results, NHWC.
        result: its own result.
        tensors: its own tensors by part, as `parameters` gives them.
        batch_statistics: a batch norm took the statistics of the batch, not the running ones.

    Returns:
        The gradient by each input, and by each trained tensor, by part and in the file's layout.

    Raises:
        ValueError: an unknown kind of operation.
    """
    x = inputs[0]
    height, width = x.shape[1:3]
    match operation["kind"]:
        case "conv":
            window = {key: operation[key] for key in ("stride", "padding", "groups", "dilation")}
            weights = layers.ohwi(tensors["weight"])
            dx = gradients.conv2d_input_gradient(dy, weights, height, width, **window)
            dweights = gradients.conv2d_weight_gradient(dy, x, *weights.shape[1:3], **window)
            found = {"weight": gradients.oihw(dweights)}
            if "bias" in tensors:
                found["bias"] = gradients.conv2d_bias_gradient(dy)
            return [dx], found
        case "batch_norm":
            if batch_statistics:
                dx, dscale, dshift = training_norm.batch_norm_training_gradients(
                    dy, x, tensors["weight"], operation["epsilon"]
                )
            else:
                dx, dscale, dshift = training_norm.batch_norm_gradients(
                    dy,
                    x,
                    tensors["running_mean"],
                    tensors["running_var"],
                    tensors["weight"],
                    operation["epsilon"],
                )
            return [dx], {"weight": dscale, "bias": dshift}
        case "relu":
            return [gradients.relu_gradient(dy, result)], {}
        case "add":
            return list(gradients.add_gradient(dy)), {}
        case "max_pool":
            dx = pool_gradients.max_pool_gradient(
                dy, x, operation["kernel"], operation["stride"], operation["padding"]
            )
            return [dx], {}
        case "avg_pool":
            dx = pool_gradients.avg_pool_gradient(
                dy,
                height,
                width,
                operation["kernel"],
                operation["stride"],
                operation["padding"],
                ceil_mode=operation["ceil_mode"],
                count_include_pad=operation["count_include_pad"],
                extra=operation["extra"],
            )
            return [dx], {}
        case "global_avg_pool":
            return [pool_gradients.global_avg_pool_gradient(dy, height, width)], {}
        case "global_max_pool":
            return [pool_gradients.global_max_pool_gradient(dy, x)], {}
        case "pad":
            dx = gradients.pad_shortcut_gradient(
                dy,
                height,
                width,
                operation["kernel"],
                operation["stride"],
                operation["before"],
                operation["after"],
            )
            return [dx], {}
        case "linear":
            flat, dweights, dbias = gradients.fully_connected_gradients(
                dy[:, 0, 0], layers.flatten(x), tensors["weight"]
            )
            found = {"weight": dweights} | ({"bias": dbias} if "bias" in tensors else {})
            return [gradients.flatten_gradient(flat, height, width)], found
        case kind:
            raise ValueError(f"{operation['name']}: no gradient for an operation of kind {kind!r}")


def _has_batch_statistics(operation: Operation, frozen: Collection[str]) -> bool:
    return bool(operation["kind"] == "batch_norm" and operation["name"] not in frozen)

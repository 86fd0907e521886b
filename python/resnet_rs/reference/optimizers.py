"""One step of each optimiser, for one tensor: gradients to new weights, in torch's order.

Every function takes arrays and returns new ones; nothing is changed in place. Weight decay belongs
to weights of convolutions and of fc. Scales, shifts and biases are better left without it: pass
`weight_decay=0` for tensors of one axis.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .windows import Array


def sgd_step(
    parameter: Array,
    gradient: Array,
    velocity: Array,
    *,
    lr: float,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
) -> tuple[Array, Array]:
    """Take one step of stochastic gradient descent with momentum: `torch.optim.SGD`.

        g         = gradient + weight_decay * parameter
        velocity  = momentum * velocity + g
        direction = g + momentum * velocity   with Nesterov, else velocity
        parameter = parameter - lr * direction

    The learning rate is outside of the velocity: a new learning rate acts at once. Dampening is 0.

    Args:
        parameter: a tensor of the network.
        gradient: of the loss by it, of the same shape.
        velocity: torch's `momentum_buffer`, of the same shape; zeros before the first step.
        lr: the learning rate.
        momentum: the part of the velocity that is kept; 0 for none.
        weight_decay: pulls the parameter towards 0 at this rate times lr.
        nesterov: look one step of momentum ahead.

    Returns:
        The new parameter and the new velocity.
    """
    g = gradient + weight_decay * parameter
    velocity = momentum * velocity + g
    direction = g + momentum * velocity if nesterov else velocity
    return parameter - lr * direction, velocity


def adamw_step(
    parameter: Array,
    gradient: Array,
    mean: Array,
    square: Array,
    step: int,
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    epsilon: float = 1e-8,
    weight_decay: float = 1e-2,
) -> tuple[Array, Array, Array]:
    """Take one step of Adam with decoupled weight decay: `torch.optim.AdamW`.

        parameter = parameter * (1 - lr * weight_decay)
        mean      = beta1 * mean + (1 - beta1) * gradient
        square    = beta2 * square + (1 - beta2) * gradient^2
        parameter = parameter - lr * (mean / (1 - beta1^step))
                                / (sqrt(square / (1 - beta2^step)) + epsilon)

    The divisors `1 - beta^step` make up for the zeros that both averages begin with. Decay is
    *decoupled*: it does not go through the averages, so it is as strong for every element.

    Args:
        parameter: a tensor of the network.
        gradient: of the loss by it, of the same shape.
        mean: torch's `exp_avg`; zeros before the first step.
        square: torch's `exp_avg_sq`; zeros before the first step.
        step: the number of this step, from 1.
        lr: the learning rate.
        betas: the parts of the two averages that are kept.
        epsilon: keeps the divisor away from 0; outside of the root.
        weight_decay: pulls the parameter towards 0 at this rate times lr.

    Returns:
        The new parameter, the new mean and the new square.
    """
    beta1, beta2 = betas
    parameter = parameter * (1 - lr * weight_decay)
    mean = beta1 * mean + (1 - beta1) * gradient
    square = beta2 * square + (1 - beta2) * gradient**2
    unbiased_mean = mean / (1 - beta1**step)
    unbiased_square = square / (1 - beta2**step)
    return parameter - lr * unbiased_mean / (np.sqrt(unbiased_square) + epsilon), mean, square


def average_step(average: Array, parameter: Array, decay: float) -> Array:
    """Move an exponential moving average (EMA) of the weights one step.

        average = decay * average + (1 - decay) * parameter

    Args:
        average: the average so far; a copy of the first weights at the beginning.
        parameter: the tensor after the optimiser's step.
        decay: the part that is kept, such as 0.999: an average over some 1 / (1 - decay) steps.
    """
    return decay * average + (1 - decay) * parameter


def clip_gradients(
    gradients: Mapping[str, Array], max_norm: float
) -> tuple[dict[str, Array], float]:
    """Shorten all gradients together if they are too long: `torch.nn.utils.clip_grad_norm_`.

        norm   = sqrt(sum of the squares of all elements of all gradients)
        factor = min(1, max_norm / (norm + 1e-6))

    Args:
        gradients: by name.
        max_norm: the largest length that stays as it is.

    Returns:
        The gradients times the factor, and the norm before.
    """
    norm = float(np.sqrt(sum(float((g**2).sum()) for g in gradients.values())))
    factor = min(1.0, max_norm / (norm + 1e-6))
    return {name: gradient * factor for name, gradient in gradients.items()}, norm

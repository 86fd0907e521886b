"""The numbers of an optimiser's step, checked."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

METHODS = ("sgd", "adamw")

PRECISIONS = ("f32", "bf16")
"""Of the products of convolutions."""


@dataclass(frozen=True)
class Numbers:
    """The numbers of the optimiser, checked.

    Attributes:
        optimizer: `sgd` or `adamw`.
        lr: the learning rate.
        momentum: SGD's, from 0 up to 1; 0 for none.
        nesterov: SGD looks one step of momentum ahead.
        betas: AdamW's parts of its two means that a step keeps.
        eps: AdamW's, added to the root of the second mean.
        weight_decay: the part of the weights that is added to their gradients (SGD), or that a
            step of rate 1 takes away (AdamW).
        clip_norm: the largest norm of all gradients together; larger ones are scaled down. None
            for no bound.
        average: the part of the running averages of weights that a step keeps, such as 0.999;
            None for no averages.

    Raises:
        TypeError, ValueError: a number of another kind or out of range; the message begins with
            its name.
    """

    optimizer: str
    lr: float
    momentum: float
    nesterov: bool
    betas: tuple[float, float]
    eps: float
    weight_decay: float
    clip_norm: float | None
    average: float | None

    def __post_init__(self) -> None:
        if self.optimizer not in METHODS:
            raise ValueError(f"optimizer: expected {' or '.join(METHODS)}; got {self.optimizer!r}")
        number("lr", self.lr)
        number("momentum", self.momentum, below=1.0)
        number("eps", self.eps)
        number("weight_decay", self.weight_decay)
        if not isinstance(self.betas, (tuple, list)) or len(self.betas) != 2:
            raise TypeError(f"betas: expected two numbers; got {self.betas!r}")
        for beta in self.betas:
            number("betas", beta, below=1.0)
        if self.clip_norm is not None:
            number("clip_norm", self.clip_norm)
        if self.average is not None:
            number("average", self.average, below=1.0)
        if not isinstance(self.nesterov, bool):
            raise TypeError(f"nesterov: expected True or False; got {self.nesterov!r}")
        if self.nesterov and self.optimizer == "sgd" and self.momentum == 0:
            raise ValueError("nesterov: expected a momentum above 0; got 0")

    def for_core(self) -> dict[str, Any]:
        """The keyword arguments of the core's `update`, without the learning rate."""
        return {
            "method": self.optimizer,
            "momentum": float(self.momentum),
            "nesterov": self.nesterov,
            "beta1": float(self.betas[0]),
            "beta2": float(self.betas[1]),
            "eps": float(self.eps),
            "weight_decay": float(self.weight_decay),
            "clip_norm": self.clip_norm,
            "average": self.average,
        }


def number(name: str, value: Any, *, most: float = math.inf, below: float = math.inf) -> float:
    """Check a finite number from 0 up.

    Args:
        name: the number's name.
        value: any object.
        most: the largest number that is accepted.
        below: the smallest one that is too large.

    Raises:
        TypeError: it is no number.
        ValueError: it is out of range.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name}: expected a number; got {value!r} ({type(value).__name__})")
    try:
        found = float(value)
    except OverflowError:
        found = math.inf
    if not 0 <= found <= most or not found < below:
        bound = "of at least 0" if most == math.inf else f"from 0 to {most:g}"
        if below < math.inf:
            bound = f"from 0 up to {below:g}, {below:g} excluded"
        raise ValueError(f"{name}: expected a number {bound}; got {value!r:.50}")
    return found


def scales(lr_scales: Mapping[str, float] | None) -> dict[str, float]:
    """Check factors of the learning rate by prefixes of names."""
    found = dict(lr_scales or {})
    for prefix, factor in found.items():
        if not isinstance(prefix, str):
            raise TypeError(f"lr_scales: expected prefixes of names (str); got {prefix!r}")
        number(f"lr_scales[{prefix!r}]", factor)
    return found

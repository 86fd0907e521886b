"""Schedules: the learning rate as a function of the part of a training that is done.

| schedule | the learning rate |
|---|---|
| `one_cycle` | rises from lr/25 to lr during the first quarter, then falls to 0, both as a cosine |
| `cosine` | rises linearly during the warm-up, then falls to 0 as a cosine |
| `step` | a tenth at one half of the training, a hundredth at three quarters |
| `constant` | stays |

Sources: Smith and Topin, "Super-Convergence", 2018 (one cycle); Loshchilov and Hutter, "SGDR", 2017
(cosine); He et al., "Deep Residual Learning", 2015 (step).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

SCHEDULES = ("one_cycle", "cosine", "step", "constant")

_RISE = 0.25
_START = 1 / 25
_END = 1e-4


@dataclass(frozen=True)
class Schedule:
    """The learning rate over a training: checked, never changed.

    Attributes:
        kind: `one_cycle`, `cosine`, `step` or `constant`.
        lr: the largest learning rate.
        warmup: the part of the training during which the rate rises, for `cosine`, `step` and
            `constant`; `one_cycle` has its own.

    Raises:
        ValueError: no such kind, or a number out of range.
    """

    kind: str
    lr: float
    warmup: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in SCHEDULES:
            raise ValueError(f"schedule: expected one of {', '.join(SCHEDULES)}; got {self.kind!r}")
        if not 0 <= self.warmup < 1:
            raise ValueError(f"warmup: expected a number from 0 up to 1; got {self.warmup!r}")
        if self.warmup and self.kind == "one_cycle":
            raise ValueError(
                "warmup: expected with another schedule, such as cosine; one_cycle has its own rise"
            )

    def at(self, done: float) -> float:
        """The learning rate.

        Args:
            done: the part of the training that is done, from 0 to 1.
        """
        done = min(max(done, 0.0), 1.0)
        if self.kind == "one_cycle":
            if done < _RISE:
                return self.lr * _cosine(_START, 1.0, done / _RISE)
            return self.lr * _cosine(1.0, _END, (done - _RISE) / (1 - _RISE))
        if done < self.warmup:
            return self.lr * max(done / self.warmup, 1e-3)
        if self.kind == "cosine":
            return self.lr * _cosine(1.0, 0.0, (done - self.warmup) / (1 - self.warmup))
        if self.kind == "step":
            return self.lr * 0.1 ** ((done >= 0.5) + (done >= 0.75))
        return self.lr


def _cosine(begin: float, end: float, done: float) -> float:
    return end + (begin - end) * (1 + math.cos(math.pi * done)) / 2

"""Schedules: the learning rate as a function of the part of a training that is done.

```text
one_cycle   lr/25 ╱ lr ╲ lr/10000     rises for the first 25 %, then falls, both as a cosine
cosine      ╱ lr ╲ 0                  rises linearly during the warm-up, then falls as a cosine
step        lr ‾‾|_ lr/10 |_ lr/100   falls at 1/2 and at 3/4
constant    lr ‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾
```

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

"""The errors of a training."""

from __future__ import annotations

ADVICE = "Try a smaller learning rate, a warm-up, or clip_norm=1.0"


class TrainingError(ArithmeticError):
    """A training that diverges: the message names the step and what to try.

    After a step whose loss is no number the parameters and the running statistics are those before
    the step.
    """

"""The errors of a training."""

from __future__ import annotations


class TrainingError(ArithmeticError):
    """A step whose loss is no number: the message names the step and what to try.

    The parameters and the running statistics are those before the step.
    """

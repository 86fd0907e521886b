"""The errors of a training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

ADVICE = "Try a smaller learning rate, a warm-up, or clip_norm=1.0"


class TrainingError(ArithmeticError):
    """A training that diverges: the message names the step and what to try.

    After a step whose loss is no number the parameters and the running statistics are those before
    the step.
    """


def no_number(
    step: str, loss: float, images: NDArray[np.float32], tensors: Mapping[str, NDArray[Any]]
) -> str:
    """Explain a loss that is no number.

    Args:
        step: the step, by its number.
        loss: its loss.
        images: its images.
        tensors: the weights and running statistics before it, by name.

    Returns:
        The message: what is wrong, what was kept, and what to try.
    """
    found = f"{step}: the loss is {loss}"
    kept = "the weights and running statistics are those before the step"
    if not np.isfinite(images).all():
        return f"{found}, and x has values that are not finite; {kept}"
    wrong = next((name for name, values in tensors.items() if not np.isfinite(values).all()), None)
    if wrong is not None:
        return f"{found}, and {wrong} is not finite since a step before. {ADVICE}"
    return f"{found}; {kept}. {ADVICE}"

"""How far logits are from those of f32."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def relative_error(
    found: Sequence[NDArray[np.float32]], expected: Sequence[NDArray[np.float32]]
) -> float:
    """The length of all differences, divided by that of the expected values.

    Values that are not finite make it infinite; of nothing but zeros it is 0 or infinite.
    """
    pairs = list(zip(found, expected, strict=True))
    error = sum(float(np.square(a.astype(np.float64) - b).sum()) for a, b in pairs)
    size = sum(float(np.square(b.astype(np.float64)).sum()) for _, b in pairs)
    if not (math.isfinite(error) and size):
        return 0.0 if error == 0 else math.inf
    return math.sqrt(error / size)

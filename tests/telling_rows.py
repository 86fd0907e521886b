"""A check that a comparison of a network's results with each other can fail at all."""

from __future__ import annotations

from typing import Any

import numpy as np


def assert_telling(rows: Any) -> None:
    """Assert that results of different images are finite and differ from each other.

    NaN equals NaN in numpy's comparisons, and zeros equal zeros in any order, so results that are
    compared only with each other must pass this too.

    Args:
        rows: an array for each image, of whatever shape.
    """
    seen = set()
    for row in rows:
        values = np.asarray(row)
        assert np.isfinite(values).all(), "results that are not finite"
        assert values.any(), "results that are zero"
        seen.add(values.tobytes())
    assert len(seen) == len(rows), "images with equal results"

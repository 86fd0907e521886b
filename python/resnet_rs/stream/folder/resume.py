"""The check that a resumed run has the weights and options that it was begun with.

A file of results does not say which model made it. So one of its images is run again, and the
file's result is compared with the new one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ...results import Result
from ...weights.loaded import HasLoaded
from ..iterator import stream
from .outputs import Check, OutputError

# Another machine's kernels differ by some 1e-6, other weights and options by far more.
_TOLERANCE = 1e-3
# A probability below this is no more than rounding.
_SMALLEST_SCORE = 1e-6


def same_run(model: HasLoaded, out: Path, **options: Any) -> Check:
    """Make the check that `out` was begun with this model and these options.

    Args:
        model: the model of this run.
        out: the file's name, for the message.
        options: the options of `resnet_rs.stream.stream`.
    """
    plain = model.loaded.config.activation == "none"

    def check(earlier: Iterator[Result]) -> None:
        for before in earlier:
            with stream(model, [before.path], workers=1, **options) as results:
                now = next(results)
            if now.error is not None:
                continue  # it cannot be read any more
            what = difference(before, now, plain=plain)
            if what is not None:
                raise OutputError(
                    f"{out}: was begun with other weights or options, or {before.path} has changed "
                    f"since: {what}. Give those that it was begun with, another --out, or "
                    "--overwrite"
                )
            return

    return check


def difference(before: Result, now: Result, *, plain: bool = False) -> str | None:
    """The difference between two results of one image, in words; None if they are of one run.

    Args:
        before: the result in the file.
        now: the result of this run.
        plain: True if scores are plain values, whose rounding depends on the largest of them.
    """
    if now.vector is not None:
        assert before.vector is not None
        scale = float(np.abs(before.vector).max(initial=0.0))
        if not _close(before.vector, now.vector, floor=scale):
            return "its vector is another"
        return None
    assert before.predictions is not None
    assert now.predictions is not None
    if len(before.predictions) != len(now.predictions):
        return f"it has {len(before.predictions)} classes there and {len(now.predictions)} now"
    floor = max((abs(one.score) for one in now.predictions), default=0.0) if plain else 0.0
    for rank, (old, new) in enumerate(zip(before.predictions, now.predictions, strict=True), 1):
        if (old.label, old.index) != (new.label, new.index) or not _close(
            old.score, new.score, floor=max(floor, _SMALLEST_SCORE)
        ):
            return (
                f"class {rank} is {old.label} ({old.score:.6g}) there and "
                f"{new.label} ({new.score:.6g}) now"
            )
    return None


def _close(before: ArrayLike, now: ArrayLike, *, floor: float) -> bool:
    """True if numbers agree, relative to each or to `floor`, whichever is more."""
    a, b = np.asarray(before, np.float64), np.asarray(now, np.float64)
    return bool(np.all(np.abs(a - b) <= _TOLERANCE * np.maximum(np.abs(a), floor)))

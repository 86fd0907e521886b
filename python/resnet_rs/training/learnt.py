"""The photos that a run's weights have learnt from, among others."""

from __future__ import annotations

import json
import os
from pathlib import Path

from ..datasets import Labelled, read
from .begun import FILE


def remark_on_learnt(
    weights: str | os.PathLike[str], data: str | os.PathLike[str], photos: Labelled
) -> str | None:
    """Remark on photos to measure on that the weights have learnt from.

    A run whose photos are not divided draws some of them for validation. Whoever then measures its
    weights on the same folder measures them on the others, too.

    Args:
        weights: a path, such as `run/best`.
        data: the place of the photos.
        photos: those that are measured.

    Returns:
        A sentence; None if the weights are of no run, if the run's photos are at another place, or
        if it has learnt from none of these.
    """
    path = Path(weights)
    run = (path if path.is_dir() else path.parent).parent
    if not (run / FILE).is_file():
        return None
    try:
        begun = json.loads((run / FILE).read_text(encoding="utf-8"))
        if begun["data"] is None or not os.path.samefile(begun["data"], data):
            return None
        # With photos for validation from elsewhere, none was drawn.
        fraction = begun["val_fraction"] if begun["val"] is None else 0.0
        split = read(data, val_fraction=fraction, seed=begun["recipe"]["seed"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # A file that is no run's, or photos that are gone: nothing is known.
    learnt = len(set(split.train.paths or ()).intersection(photos.paths or ()))
    if not learnt:
        return None
    remark = (
        f"{learnt} of these {len(photos)} photos are among those that {run} has learnt from, so "
        "the figures are too good"
    )
    report = run / "report.json"
    if split.drawn and report.is_file():
        remark += f": {report} has those of the photos that were held back"
    return remark

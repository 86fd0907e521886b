"""A last layer alone: embeddings are computed once, and the layer is fitted to them in seconds."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from ..datasets.checks import Report
from ..datasets.labelled import Labelled
from ..datasets.photos import PhotoCache
from ..evaluation.linear_probe import linear_probe
from .batches import compared, loader_of, outputs
from .directory import RunDirectory
from .recipe import Recipe
from .result import Run
from .show import Show
from .trainer import Trainer


def fit_head(
    trainer: Trainer,
    recipe: Recipe,
    report: Report,
    photos: PhotoCache,
    workers: int | None,
    directory: RunDirectory | None,
    show: Show,
    remarks: tuple[str, ...],
) -> Run:
    """Fit the last layer to the embeddings of the photos, without random changes.

    Returns:
        The run, whose history has no rows.

    Raises:
        DataError, OSError, ValueError: as `train` does.
    """
    begin = time.monotonic()
    train_x = _embeddings(trainer, recipe, report.train, photos, workers, show)
    val_x = train_x
    val_y = report.train.labels
    has_val = len(report.val) > 0
    if has_val:
        val_x = _embeddings(trainer, recipe, report.val, photos, workers, show)
        val_y = report.val.labels
    show.say(
        f"embeddings of {len(train_x) + len(report.val)} photos: {time.monotonic() - begin:.1f} s"
    )
    probe = linear_probe(
        train_x, report.train.labels, val_x, val_y, classes=report.train.classes, seed=recipe.seed
    )
    trainer.set_head(probe.weight, probe.bias)
    remarks = (*remarks, f"the last layer is fitted with the L2 penalty {probe.l2:g}")
    evaluation = None
    if has_val:
        logits = val_x.astype(np.float64) @ probe.weight.T.astype(np.float64) + probe.bias
        evaluation = compared(logits, report.val)
        show.say(
            f"last layer fitted: {evaluation.top1:.1%} of {evaluation.count} photos right, "
            f"{time.monotonic() - begin:.1f} s in all"
        )
    if directory is not None:
        trainer.save(directory.best, force=True)
        directory.remove(directory.last)
        if evaluation is not None:
            directory.report(evaluation)
    return Run(
        None if directory is None else directory.path,
        trainer,
        evaluation,
        (),
        0,
        False,
        remarks,
        time.monotonic() - begin,
    )


def _embeddings(
    trainer: Trainer,
    recipe: Recipe,
    photos: Labelled,
    cache: PhotoCache,
    workers: int | None,
    show: Show,
) -> NDArray[np.float32]:
    spec = trainer.preprocessing
    loader = loader_of(photos, recipe, spec, learns=False, cache=cache, workers=workers)
    return outputs(loader, trainer.embed, show)

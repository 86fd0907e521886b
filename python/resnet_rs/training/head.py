"""A last layer alone: embeddings are computed once, and the layer is fitted to them in seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..datasets.checks import Report
from ..datasets.labelled import Labelled
from ..datasets.loader import Loader
from ..evaluation.linear_probe import LinearProbe, linear_probe
from .batches import balanced_weights, compared, outputs
from .directory import RunDirectory
from .recipe import Recipe
from .result import Run
from .show import Remarks, Show
from .trainer import Trainer

_OF_EPOCHS = (
    "epochs",
    "time",
    "optimizer",
    "lr",
    "schedule",
    "warmup",
    "momentum",
    "weight_decay",
    "label_smoothing",
    "clip_norm",
    "average",
    "frozen_epochs",
    "backbone_lr",
    "patience",
    "precision",
    "augment",
)


def without_effect(recipe: Recipe, on_epoch: Any) -> str | None:
    """A remark on choices that a fit of the last layer does not use; None if there are none.

    Args:
        recipe: the choices as they were given.
        on_epoch: as `train` takes it.
    """
    usual = Recipe()
    names = [name for name in _OF_EPOCHS if getattr(recipe, name) != getattr(usual, name)]
    if on_epoch is not None:
        names.append("on_epoch")
    if not names:
        return None
    return (
        "without effect, since the backbone is frozen and nothing but the last layer is fitted: "
        f"{', '.join(names)}"
    )


def fit_head(
    trainer: Trainer,
    recipe: Recipe,
    report: Report,
    load: Callable[[Labelled], Loader],
    directory: RunDirectory | None,
    show: Show,
    remarks: Remarks,
) -> Run:
    """Fit the last layer to the embeddings of the photos, without random changes.

    Args:
        trainer: the network.
        recipe: all choices, completed.
        report: the photos.
        load: makes the loader to measure on.
        directory: the directory of the run, if there is one.
        show: the progress.
        remarks: those of the run; further ones are added.

    Returns:
        The run, whose history has no rows.

    Raises:
        DataError, OSError, ValueError: as `train` does.
    """
    begin = time.monotonic()

    def embeddings(photos: Labelled) -> NDArray[np.float32]:
        return outputs(load(photos), trainer.embed, show)

    train_x = embeddings(report.train)
    has_val = len(report.val) > 0
    val_x, val_y = train_x, report.train.labels
    if has_val:
        val_x, val_y = embeddings(report.val), report.val.labels
    show.say(
        f"embeddings of {len(train_x) + len(report.val)} photos: {time.monotonic() - begin:.1f} s"
    )
    probe = linear_probe(
        train_x,
        report.train.labels,
        val_x,
        val_y,
        classes=report.train.classes,
        class_weights=balanced_weights(report.train) if recipe.balanced else None,
        seed=recipe.seed,
    )
    trainer.set_head(probe.weight, probe.bias)
    remarks.add(*_about(probe))
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
        remarks.all,
        time.monotonic() - begin,
    )


def _about(probe: LinearProbe) -> list[str]:
    found = [f"the last layer is fitted with the L2 penalty {probe.l2:g}"]
    if not probe.converged:
        found.append(
            f"the fit of the last layer did not converge in {probe.steps} steps: it is that of the "
            "last one"
        )
    return found

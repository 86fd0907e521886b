"""`train`: a whole run, from photos to a trained network."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from ..datasets import read
from ..datasets.checks import Report, check, require_classes
from .batches import loader_of
from .begun import Begun, fingerprint_of, place
from .caches import Caches
from .directory import RunDirectory
from .head import fit_head, without_effect
from .learn import learn
from .network import network_for
from .position import EpochResult
from .recipe import Recipe
from .result import Run
from .show import Remarks, Show
from .start import has_bottlenecks, is_architecture


def train(
    data: Any,
    output: str | os.PathLike[str] | None = None,
    *,
    weights: Any = "resnet50",
    recipe: Recipe | None = None,
    val: Any = None,
    val_fraction: float = 0.2,
    on_error: str = "skip",
    duplicates: str | None = None,
    workers: int | None = None,
    threads: int | None = None,
    isa: str | None = None,
    cache: int | None = None,
    zero_last: bool | None = None,
    resume: bool = False,
    force: bool = False,
    progress: bool | Show | None = None,
    on_epoch: Callable[[EpochResult], None] | None = None,
    **choices: Any,
) -> Run:
    """Train a network on labelled photos.

    ```python
    import numpy as np
    from resnet_rs import load, train

    # For the example; usually a folder such as "photos", with class/photo.jpg.
    photos = (np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), np.uint8), [0, 1] * 10)
    run = train(photos, "run", weights="cifar_resnet20", size=32, epochs=1)
    print(run.evaluation)
    print(load("run/best").predict("photo.jpg"))
    ```

    The photos are divided for training and validation if they are not divided yet, checked, and
    decoded and changed at random beside the computing. After each epoch the network is measured on
    the validation photos, and the best weights are kept. Ctrl-C ends the training after the step;
    `resume=True` goes on, to the bit.

    Args:
        data: `class/photo.jpg` below a folder, a folder with `train/` and `val/`, a CSV file of
            paths and labels, or a pair `(images, labels)` (docs/datasets.md).
        output: the directory of the run (docs/training.md lists its files); None keeps nothing on
            disk, so that only the last weights are there at the end, in `run.trainer`.
        weights: the name of an architecture, to begin with random weights; or weights of any kind
            that `resnet_rs.load` takes, to go on from. If these have other classes, the last layer
            is a new one.
        recipe: all choices of the training; by default one of `choices`.
        val: photos for validation, if they are not in `data`.
        val_fraction: the part of each class that is drawn for validation if there is none.
        on_error: `skip` to leave out photos that cannot be read, or `raise`.
        duplicates: as `resnet_rs.datasets.checks.check` takes it.
        workers: threads that decode photos; by default the CPUs that this process may use.
        threads: threads that compute; by default as for `resnet_rs.load`.
        isa: the kernels, as for `resnet_rs.load`.
        cache: the bytes of photos that are kept in memory; by default a quarter of what is free.
        zero_last: begin random weights with the last scale of each block at 0; by default for
            networks of bottlenecks, such as resnet50, which learn faster so. Those of basic
            blocks, such as resnet18, learn faster without.
        resume: go on with the run in `output`, with its own choices: `data` alone is needed, the
            same photos as before, and `val` if it lies elsewhere now.
        force: begin anew over a run in `output`. Its weights stay until those of the new run take
            their place, so `weights` may be among them.
        progress: True or False to show or hide the progress; by default it is shown on a terminal.
        on_epoch: called after each epoch.
        choices: the fields of `Recipe`: `epochs`, `time`, `size`, `batch_size`, `optimizer`, `lr`,
            `schedule`, `weight_decay`, `label_smoothing`, `augment`, `freeze`, `patience`, `seed`
            and others. With `freeze="backbone"` embeddings are computed once, and the last layer
            is fitted to them; a remark names the choices that have no effect then.

    Returns:
        The run.

    Raises:
        DataError: nothing can be learnt from the photos.
        TrainingError: the training diverges, in a step or when it is measured; the weights of the
            epochs before are kept.
        FileExistsError: `output` holds a run, and neither `resume` nor `force` is set.
        FileNotFoundError, WeightsError, OSError, TypeError, ValueError: as their message says.
    """
    show = progress if isinstance(progress, Show) else Show(progress)
    if resume and output is None:
        raise ValueError("resume: expected the directory of a run as output; found none")
    if resume and force:
        raise ValueError("resume, force: expected one of them; found both")
    directory = None
    if output is not None:
        directory = RunDirectory(output, resume=resume, force=force)
    begun = None
    ignored = None
    if resume and directory is not None:
        _check_resumed(recipe, choices, weights, val_fraction, duplicates, zero_last)
        begun = Begun.read(directory)
        recipe, weights = begun.recipe, begun.weights_of(directory)
        zero_last = begun.zero_last and is_architecture(weights)
        val_fraction, duplicates = begun.val_fraction, begun.duplicates
        val = begun.val if val is None else val
    else:
        recipe = Recipe(**choices) if recipe is None else replace(recipe, **choices)
        ignored = without_effect(recipe, on_epoch) if "backbone" in recipe.freeze else None
    if zero_last is None:
        zero_last = is_architecture(weights) and has_bottlenecks(weights)
    split = read(data, val=val, val_fraction=val_fraction, seed=recipe.seed)
    if directory is not None:
        directory.check_outside(data)
        directory.check_outside(val)
    remarks = Remarks(show)
    remarks.add(*split.remarks)
    require_classes(split.train)

    trainer, recipe = network_for(
        split.train, weights, recipe, zero_last=zero_last, threads=threads, isa=isa
    )
    trainer.freeze(recipe.freeze)  # Wrong names are said before all photos are read.
    remarks.add(*trainer.remarks)
    if ignored is not None:
        remarks.add(ignored)
    height, width = trainer.preprocessing.input_size
    photo = height * width * len(trainer.preprocessing.mean)
    fits_head = "backbone" in recipe.freeze
    caches = Caches.none() if fits_head else Caches.divided(split, cache, photo)
    load = partial(loader_of, recipe=recipe, spec=trainer.preprocessing, workers=workers)
    show.begin_photos(len(split.train) + len(split.val))
    report: Report = check(
        split,
        reader=load(split.train, learns=True, cache=caches.train).reader,
        cache=caches.train,
        on_error=on_error,
        duplicates=duplicates,
        workers=workers,
        watch=show.photos,
    )
    show.end()
    remarks.add(*report.remarks, *caches.remarks(report.train, report.val, photo))
    train_loader = load(report.train, learns=True, cache=caches.train)
    if not fits_head:
        remarks.add(*train_loader.remarks)
    val_loader = None
    if len(report.val):
        val_loader = load(report.val, learns=False, cache=caches.val)
    elif fits_head:
        remarks.add("there are no validation photos: nothing is measured")
    else:
        remarks.add(
            "there are no validation photos: the best weights are those of the best training result"
        )

    if directory is not None:
        if begun is not None:
            begun.check(report, directory)
            directory.begin()
        else:
            begun = Begun(
                data=place(data),
                val=place(val),
                val_fraction=val_fraction,
                duplicates=duplicates,
                weights=weights if is_architecture(weights) else place(weights),
                zero_last=zero_last,
                recipe=recipe,
                classes=report.train.classes,
                photos=(len(report.train), len(report.val)),
                fingerprint=fingerprint_of(report),
            )
            directory.begin()
            begun.write(directory, report, remarks.all)
    if not fits_head:
        return learn(
            trainer, recipe, train_loader, val_loader, directory, show, on_epoch, remarks.all
        )
    measuring = partial(load, learns=False, cache=caches.val)
    run = fit_head(trainer, recipe, report, measuring, directory, show, remarks)
    if directory is not None and begun is not None:
        begun.write(directory, report, remarks.all)
    return run


def _check_resumed(
    recipe: Recipe | None,
    choices: Mapping[str, Any],
    weights: Any,
    val_fraction: float,
    duplicates: str | None,
    zero_last: bool | None,
) -> None:
    """Check that a run which is resumed gets no other choices than its own.

    Raises:
        ValueError: it gets some; the message names them.
    """
    usual = inspect.signature(train).parameters
    arguments = {
        "recipe": recipe,
        "weights": weights,
        "val_fraction": val_fraction,
        "duplicates": duplicates,
        "zero_last": zero_last,
    }
    given = [name for name, value in arguments.items() if value != usual[name].default]
    given += sorted(choices)
    if given:
        raise ValueError(
            f"{', '.join(given)}: a run is resumed with its own choices; begin another one to "
            "change them"
        )

"""The epochs of a run, from its beginning or from a checkpoint, and the evaluation after them."""

from __future__ import annotations

from collections.abc import Callable

from ..datasets.loader import Loader
from ..evaluation import Evaluation
from .batches import balanced_weights, measured
from .directory import RunDirectory
from .errors import TrainingError
from .loop import Loop
from .position import EpochResult, Position
from .recipe import Recipe
from .result import Run
from .show import Show
from .trainer import Trainer


def learn(
    trainer: Trainer,
    recipe: Recipe,
    train: Loader,
    val: Loader | None,
    directory: RunDirectory | None,
    show: Show,
    on_epoch: Callable[[EpochResult], None] | None,
    remarks: tuple[str, ...],
) -> Run:
    """Train a network, from the beginning or from a checkpoint, and measure its best weights."""
    if recipe.balanced:
        trainer.set_class_weights(balanced_weights(train.photos))
    position = Position()
    is_resumed = False
    if directory is not None:
        is_resumed = directory.checkpoint.exists()
        if is_resumed:
            position = Position(**trainer.resume(directory.checkpoint)["position"])
        else:
            _draw_batch(directory, train)
    loop = Loop(
        trainer,
        recipe,
        train,
        val,
        directory,
        position,
        show=show,
        on_epoch=lambda result: _after_epoch(result, loop, directory, show, on_epoch),
    )
    if loop.is_over:
        show.say(f"the run has ended already, after epoch {position.epoch}: no step is left")
    else:
        if is_resumed:
            show.say(f"going on with epoch {loop.running}")
        show.begin(loop)
    try:
        loop.run()
    except TrainingError as error:
        # The files stay: the weights in memory have gone too far already.
        kept = "" if directory is None else f". {directory.kept(epoch_ended=bool(loop.rows))}"
        raise TrainingError(f"epoch {loop.running}, {error}{kept}") from error
    finally:
        show.end()
    if loop.interrupted:
        where = ""
        if directory is not None:
            old = directory.of_run_before(epoch_ended=bool(loop.rows))
            where = f" in {directory.last}{old}; go on with resume=True (--resume)"
        show.say(f"ended by Ctrl-C after {trainer.steps} steps; the weights are kept{where}")
    evaluation = _best_evaluation(loop, directory, val, show)
    if directory is not None:
        if loop.rows:
            directory.draw_curves(loop.rows)
        if evaluation is not None:
            directory.report(evaluation)
    return Run(
        None if directory is None else directory.path,
        trainer,
        evaluation,
        tuple(loop.rows),
        position.best_epoch + 1,
        loop.interrupted,
        remarks,
        loop.seconds,
    )


def _draw_batch(directory: RunDirectory, loader: Loader) -> None:
    """Draw the first batch as the network sees it."""
    from ..evaluation.pictures import batch_mosaic

    spec = loader.preprocessing
    with loader.epoch() as batches:
        batch = next(batches)
    classes = loader.photos.classes
    picture = batch_mosaic(batch.x, batch.y, classes, mean=spec.mean, std=spec.std)
    directory.draw_batch(picture)


def _after_epoch(
    result: EpochResult,
    loop: Loop,
    directory: RunDirectory | None,
    show: Show,
    on_epoch: Callable[[EpochResult], None] | None,
) -> None:
    if directory is not None:
        directory.draw_curves(loop.rows)
    show.epoch(result, loop)
    if on_epoch is not None:
        on_epoch(result)


def _best_evaluation(
    loop: Loop, directory: RunDirectory | None, val: Loader | None, show: Show
) -> Evaluation | None:
    """Measure the best weights, as whoever loads them would."""
    if directory is None:
        return loop.best
    if val is None or not loop.rows:
        return None
    from ..options import Options
    from ..weights.load import load

    trainer = loop.trainer
    network = load(Options(directory.best, isa=trainer.isa, threads=trainer.threads)).network
    return measured(val, network.logits, show)

"""`evaluate`: a model over labelled images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import arguments
from .._core import default_threads
from ..results import Result
from ..stream.engine import run_ahead
from ..stream.tasks import Logits
from ..terminal.progress import Meter, Progress
from ..weights.loaded import HasLoaded
from .classes import match_classes, own_classes
from .evaluation import Evaluation
from .figures import Skipped
from .metrics import checked_labels, measure, with_notes
from .report import image_name

_ON_ERROR = ("skip", "raise")


def evaluate(
    model: HasLoaded,
    images: Sequence[Any] | NDArray[np.uint8],
    labels: Any,
    classes: Sequence[str] | None = None,
    *,
    on_error: str = "skip",
    batch_size: int = 8,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Run a model over labelled images, and measure its answers.

    Images are decoded while others are computed. The model's preprocessing applies, and its
    activation makes the scores. For a model with the activation `sigmoid`, whose classes do not
    exclude each other, an image still has one label here, and the answer is the class with the
    largest output; the loss is the mean binary cross-entropy.

    Args:
        model: a `ResNet`.
        images: paths, or other kinds of image that `model.predict` takes; or a uint8 array
            `[n, height, width, 3]`.
        labels: `[n]`, the index of each image's class among `classes`.
        classes: the names of the data's classes, by index. They are found among the model's names,
            in any order; the data may lack some. If the weights state no names, there must be as
            many, and their order counts. By default `labels` are the model's own indices.
        on_error: `skip` to leave out an image that cannot be read and note it in
            `Evaluation.skipped`, or `raise` to raise its error.
        batch_size: the number of images in a batch, from 1 up.
        workers: threads that decode and compute; by default the CPUs that a model would use, and
            at least the model's `threads`.
        progress: the terminal's line for a bar; by default none is shown.

    Returns:
        An `Evaluation` with the model's classes. Its `images` are the paths; for images in memory
        the images themselves.

    Raises:
        ImageError, OSError, TypeError: an image cannot be read, and `on_error` is `raise`.
        ValueError: the classes are not the model's, the model has none, labels do not fit, or no
            image can be read; the message says what was expected and what was found.

    Example:
        ```python
        from resnet_rs import ResNet50
        from resnet_rs.evaluation import evaluate

        print(evaluate(ResNet50("weights"), ["photo.jpg", "cat.jpg"], [2, 2]))
        ```
    """
    on_error = arguments.choice("on_error", on_error, _ON_ERROR)
    batch_size = arguments.count("batch_size", batch_size)
    workers = default_threads() if workers is None else arguments.count("workers", workers)
    loaded = model.loaded
    sources = _checked_images(images)
    matched = (
        own_classes(loaded)
        if classes is None
        else match_classes(loaded, arguments.texts("classes", classes))
    )
    truth = matched.indices[checked_labels(labels, len(sources), len(matched.indices))]

    logits = np.empty((len(sources), loaded.network.num_classes), np.float32)
    read = np.zeros(len(sources), np.bool_)
    skipped: list[Skipped] = []
    meter = Meter(progress if progress is not None else _silent())
    meter.total = len(sources)
    pipeline = run_ahead(
        Logits(loaded), sources, batch_size=batch_size, workers=workers, ordered=True
    )
    try:
        for done, outcome in enumerate(pipeline, 1):
            if outcome.error is None:
                logits[outcome.index] = outcome.value
                read[outcome.index] = True
            elif on_error == "raise":
                raise outcome.error
            else:
                result = Result(outcome.index, outcome.item, error=outcome.error)
                skipped.append(Skipped(outcome.item, result.reason or ""))
            meter.show(done, len(skipped))
    finally:
        pipeline.close()
        if progress is not None:
            progress.say("")
    if not read.any():
        raise ValueError(_nothing_read(skipped))
    kept = np.flatnonzero(read)
    evaluation = measure(
        logits if len(kept) == len(sources) else logits[kept],
        truth[kept],
        matched.names,
        activation=loaded.config.activation,
        images=[sources[index] for index in kept.tolist()],
    )
    return with_notes(evaluation, skipped=skipped, remarks=matched.remarks)


def _checked_images(images: Any) -> Sequence[Any]:
    """Check that there are several images, and at least one.

    Raises:
        TypeError: not a list, tuple or array of images.
        ValueError: an empty one.
    """
    if isinstance(images, np.ndarray):
        if images.ndim != 4:
            raise ValueError(
                "an array of images must be uint8 [n, height, width, channels]; got shape "
                f"{list(images.shape)}"
            )
        images = list(images)
    if isinstance(images, (str, bytes)) or not isinstance(images, Sequence):
        raise TypeError(
            f"images must be a list of images, or a uint8 array; got {type(images).__name__}"
        )
    if not images:
        raise ValueError("there is no image to evaluate: images is empty")
    return images


def _nothing_read(skipped: Sequence[Skipped]) -> str:
    name = image_name(skipped[0].image) or "image 0"
    return (
        f"none of the {len(skipped)} images could be read, so there is nothing to evaluate; the "
        f"first one, {name}: {skipped[0].reason}"
    )


def _silent() -> Progress:
    progress = Progress()
    progress.turn_off()
    return progress

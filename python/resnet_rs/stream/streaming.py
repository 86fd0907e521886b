"""`model.stream`: results for any number of images, while the next ones are being decoded."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import arguments
from .._core import default_threads
from ..images.decode import ImageError
from .jobs import embedding_job, logits_job, prediction_job
from .pipeline import Pipeline
from .schedule import Times

if TYPE_CHECKING:
    from ..model import Prediction, ResNet

WHAT = ("predict", "embed", "logits")


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """What became of one image.

    Attributes:
        index: its place among the paths, from 0.
        path: the path, or whatever kind of image was given in its place.
        predictions: its best classes, best first, as `model.predict` gives them; None where
            something else was asked for or there is an error.
        vector: what `model.embed` or `model.logits` gives, float32 `[n]`; else None.
        error: why there is no result; None where there is one.
    """

    index: int
    path: Any
    predictions: list[Prediction] | None = None
    vector: NDArray[np.float32] | None = None
    error: Exception | None = None

    @property
    def reason(self) -> str | None:
        """The error in words, without the path; None where there is none."""
        if self.error is None:
            return None
        if isinstance(self.error, OSError):
            return self.error.strerror or str(self.error) or type(self.error).__name__
        if isinstance(self.error, MemoryError):
            return f"out of memory: {self.error}"
        text = str(self.error) or type(self.error).__name__
        if isinstance(self.error, ImageError) and isinstance(self.path, (str, os.PathLike)):
            text = text.removeprefix(f"{os.fsdecode(self.path)!r}: ")
        return text


def stream(
    model: ResNet,
    paths: Iterable[Any],
    *,
    batch_size: int = 8,
    what: str = "predict",
    top_k: int = 5,
    tta: str | None = None,
    pool: str = "avg",
    normalize: bool = False,
    ordered: bool = True,
    workers: int | None = None,
) -> Stream:
    """Run a model over any number of images, in memory that does not grow with their number.

    Images are decoded while others are computed. A result is the same, bit for bit, as that of
    `model.predict`, `model.embed` or `model.logits` for the image alone.

    Args:
        model: the network.
        paths: any iterable of paths, a generator too, even an endless one; other kinds of image
            that `predict` takes may be among them. It is read in a thread of its own, by some
            dozens ahead of the results.
        batch_size: images that are computed as one batch, from 1 up. More is no faster, and every
            one of the model's threads has a batch in hand.
        what: `predict`, `embed` or `logits`.
        top_k: for `predict`, how many classes.
        tta: for `predict`, test-time augmentation as `model.predict` takes it.
        pool: for `embed`, as `model.embed` takes it.
        normalize: for `embed`, whether vectors are scaled to length 1.
        ordered: whether results come in the order of the paths. Otherwise they come as they are
            ready, and `Result.index` says which is which.
        workers: threads that decode and compute; by default the CPUs that a model would use, and
            at least the model's `threads`. More of them help where files come from a slow disk or
            network. However many there are, at most `model.threads` of them compute.

    Returns:
        An iterator of `Result`s. An image that cannot be read is a result with `error`, and the
        others go on. `close()` stops the threads, as does leaving a `with` block, the last result,
        or dropping the iterator.

    Raises:
        TypeError, ValueError: an argument of the wrong kind or out of range; at once. Whatever
            `paths` raises comes after the results of the paths before it.

    Example:
        ```python
        from resnet_rs import ResNet50
        from resnet_rs.stream import stream

        for result in stream(ResNet50("weights"), ["photo.jpg", "missing.jpg"]):
            if result.error is None:
                print(result.path, result.predictions[0].label)
            else:
                print(result.path, "failed:", result.reason)
        ```
    """
    batch_size = arguments.count("batch_size", batch_size)
    top_k = arguments.count("top_k", top_k)
    ordered = arguments.flag("ordered", ordered)
    normalize = arguments.flag("normalize", normalize)
    workers = default_threads() if workers is None else arguments.count("workers", workers)
    what = arguments.choice("what", what, WHAT)
    if isinstance(paths, (str, bytes)) or not isinstance(paths, Iterable):
        raise TypeError(
            f"paths must be an iterable of paths; got {paths!r} ({type(paths).__name__}). "
            "For one image call predict(), or pass a list"
        )
    if what == "predict":
        job = prediction_job(model, top_k, tta)
    elif what == "embed":
        job = embedding_job(model, pool=pool, normalize=normalize)
    else:
        job = logits_job(model)
    pipeline = Pipeline(
        paths,
        job.load,
        job.compute,
        batch_size=batch_size,
        computers=job.computers,
        workers=workers,
        ordered=ordered,
    )
    return Stream(pipeline, predicts=what == "predict")


class Stream(Iterator[Result]):
    """An iterator of `Result`s, made by `stream`."""

    def __init__(self, pipeline: Pipeline, *, predicts: bool) -> None:
        self._pipeline = pipeline
        self._predicts = predicts

    @property
    def times(self) -> Times:
        """Where the threads' time went up to now."""
        return self._pipeline.times

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Result:
        outcome = next(self._pipeline)
        return Result(
            outcome.index,
            outcome.item,
            predictions=outcome.value if self._predicts else None,
            vector=None if self._predicts else outcome.value,
            error=outcome.error,
        )

    def close(self) -> None:
        """Stop the threads: it takes as long as the image or batch that each of them is at."""
        self._pipeline.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

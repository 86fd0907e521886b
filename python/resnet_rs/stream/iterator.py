"""`stream`: an iterator of results for any number of images, decoded and computed ahead."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from .. import arguments
from .._core import default_threads
from ..results import Result
from ..weights.loaded import HasLoaded, Loaded
from .engine import run_ahead
from .pipeline import Pipeline
from .schedule import Times
from .tasks import Embeddings, Logits, Predictions, Task

WHAT = ("predict", "embed", "logits")


def stream(
    model: HasLoaded,
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
        model: a `ResNet`.
        paths: any iterable of paths, a generator too, even an endless one; other kinds of image
            that `predict` takes may be among them. It is read in a thread of its own, by some
            dozens ahead of the results.
        batch_size: the number of images in a batch, from 1 up. More is no faster, and every one of
            the model's threads has a batch in hand.
        what: `predict`, `embed` or `logits`.
        top_k: for `predict`, the number of classes.
        tta: for `predict`, test-time augmentation as `model.predict` takes it.
        pool: for `embed`, as `model.embed` takes it.
        normalize: for `embed`, True to scale vectors to length 1.
        ordered: True for results in the order of the paths. Otherwise they come as they are ready,
            and `Result.index` says which is which.
        workers: threads that decode and compute; by default the CPUs that a model would use, and
            at least the model's `threads`. More of them help if files come from a slow disk or
            network. However many there are, at most `model.threads` of them compute.

    Returns:
        An iterator of `Result`s. An image that cannot be read is a result with `error`, and the
        others go on. `close()` stops the threads, as does leaving a `with` block, the last result,
        or dropping the iterator.

    Raises:
        TypeError, ValueError: an argument of the wrong kind or out of range; at once. An error
            that `paths` raises comes after the results of the paths before it.

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
    top_k = arguments.count("top_k", top_k, most=None)
    ordered = arguments.flag("ordered", ordered)
    normalize = arguments.flag("normalize", normalize)
    workers = default_threads() if workers is None else arguments.count("workers", workers)
    what = arguments.choice("what", what, WHAT)
    if isinstance(paths, (str, bytes)) or not isinstance(paths, Iterable):
        raise TypeError(
            f"paths must be an iterable of paths; got {paths!r} ({type(paths).__name__}). "
            "For one image call predict(), or pass a list"
        )
    task = _task(model.loaded, what, top_k=top_k, tta=tta, pool=pool, normalize=normalize)
    pipeline = run_ahead(task, paths, batch_size=batch_size, workers=workers, ordered=ordered)
    return Stream(pipeline, predicts=what == "predict")


def _task(
    loaded: Loaded, what: str, *, top_k: int, tta: str | None, pool: str, normalize: bool
) -> Task[Any, Any]:
    if what == "predict":
        return Predictions(loaded, top_k, tta)
    if what == "embed":
        return Embeddings(loaded, pool=pool, normalize=normalize)
    return Logits(loaded)


class Stream(Iterator[Result]):
    """An iterator of `Result`s, made by `stream`."""

    def __init__(self, pipeline: Pipeline, *, predicts: bool) -> None:
        self._pipeline = pipeline
        self._predicts = predicts

    @property
    def times(self) -> Times:
        """The threads' time by activity, up to now."""
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

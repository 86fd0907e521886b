"""The engine: runs a task on one image, a list or a stream, or on whatever is submitted to it.

| | images | threads | results |
|---|---|---|---|
| `run_now` | one, or a list | the caller's, and all of the model's in each batch | at once |
| `run_ahead` | any iterable | a pipeline's | one by one |
| `Engine.submit` | one at a time, from any thread | a pipeline's that stays | a future for each |

All three call the same `Task`, so an image's result is the same bit for bit. A server would make
one `Engine` when it starts and submit every photo that arrives.
"""

from __future__ import annotations

import atexit
import os
import queue
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Any, Generic, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .. import arguments
from .._core import default_threads
from ..images.batches import SIZES_DIFFER, as_list, grouped, load_in_order, shapes_of, stack_batch
from ..weights.loaded import Loaded
from .pending import Pending, Request, deliver
from .pipeline import Pipeline
from .tasks import Arrays, Many, One, Task

Watch: TypeAlias = "Callable[[NDArray[Any]], None]"
"""Called with each input that the network has run on; a model prints profiles with it."""


def run_now(task: Task[One, Many], images: Any, watch: Watch | None = None) -> One | Many:
    """Run a task on one image or several, in the caller's thread, batch by batch.

    Args:
        task: the task.
        images: one image or several, as `ResNet` describes.
        watch: called after each batch of images that have one view each.

    Returns:
        `task.one`'s result for one image, `task.many`'s for several.

    Raises:
        ImageError, OSError, TypeError, ValueError: as `task.load` does; for several images the
            message says which one it was. ValueError also for images whose results make no single
            array.
        MemoryError: the activations or the results do not fit in memory.
    """
    sources, single = as_list(images)
    if single:
        return run_one(task, images, watch)
    return task.many(_run_batches(task, sources, watch, single=False))


def run_one(task: Task[One, Any], image: Any, watch: Watch | None = None) -> One:
    """Run a task on one image, in the caller's thread.

    Raises:
        ImageError, OSError, TypeError, ValueError, MemoryError: as `run_now` does.
    """
    arrays = _run_batches(task, [image], watch, single=True)
    return task.one(tuple(array[0] for array in arrays))


def run_forward(
    loaded: Loaded, x: NDArray[np.float32], watch: Watch | None = None
) -> NDArray[np.float32]:
    """Run the network on input that is normalised already.

    Raises:
        TypeError, ValueError: as `arguments.network_input` does.
    """
    x = arguments.network_input(x, loaded.config.in_channels)
    logits = loaded.network.logits(x)
    if watch is not None:
        watch(x)
    return logits


def run_ahead(
    task: Task[Any, Any], images: Iterable[Any], *, batch_size: int, workers: int, ordered: bool
) -> Pipeline:
    """Run a task on any number of images, in threads that load and compute ahead.

    Args:
        task: the task.
        images: any iterable of images.
        batch_size: the number of images in a batch, at most.
        workers: the number of threads; at least as many as the model's are made.
        ordered: True for outcomes in the order of the images, False for as they are ready.

    Returns:
        An iterator of outcomes; a value is what `task.one` returns.
    """
    return Pipeline(
        images,
        task.load,
        task.each,
        batch_size=batch_size,
        computers=task.loaded.network.threads,
        workers=workers,
        ordered=ordered,
    )


def _run_batches(
    task: Task[Any, Any], sources: Sequence[Any], watch: Watch | None, *, single: bool
) -> Arrays:
    """The arrays that `task.compute` returns, of all images together."""
    arrays: Arrays = ()
    shapes: tuple[tuple[int, ...], ...] = ()
    done = 0
    for batch in grouped(load_in_order(sources, task.load, single=single)):
        if task.one_size and done and shapes_of(batch[0]) != shapes:
            raise ValueError(SIZES_DIFFER)
        shapes = shapes_of(batch[0])
        results = task.compute(batch)
        if len(batch) == len(sources):
            arrays = results
        else:
            if not done:
                arrays = tuple(
                    np.empty((len(sources), *result.shape[1:]), result.dtype) for result in results
                )
            for array, result in zip(arrays, results, strict=True):
                array[done : done + len(batch)] = result
        done += len(batch)
        if watch is not None and len(shapes) == 1:
            watch(stack_batch(batch))
    return arrays if sources else task.empty()


class Engine(Generic[One]):
    """A task that stays ready: images in, from any thread, and a future for each.

    It is a pipeline whose source is a queue. An image that comes alone is computed at once, with
    all of the model's threads; images that come while others are computed are gathered into the
    next batch. The threads start with the first image, so an engine that is made before a fork
    works in the child.

    The threads end with `close()`, with leaving a `with` block, or at the interpreter's exit, and
    images without a result then get `EngineClosedError`. If an engine is dropped, its threads end
    once every image has its result.

    Args:
        task: the question to the network about each image.
        batch_size: the number of images in a batch, at most.
        workers: the number of threads that load and compute; None for the CPUs that a model would
            use. At least as many as the model's are made.
        capacity: the number of images that may be without a result, at most.
    """

    def __init__(
        self,
        task: Task[One, Any],
        *,
        batch_size: int = 8,
        workers: int | None = None,
        capacity: int = 256,
    ) -> None:
        self._task = task
        self._batch_size = arguments.count("batch_size", batch_size)
        self._workers = (
            default_threads() if workers is None else arguments.count("workers", workers)
        )
        self._pending: Pending[One] = Pending(arguments.count("capacity", capacity))
        self._queue: queue.SimpleQueue[Request[One] | None] = queue.SimpleQueue()
        self._threads: tuple[Pipeline, threading.Thread] | None = None
        self._pid = os.getpid()

    def submit(self, image: Any, *, timeout: float | None = None) -> Future[One]:
        """Hand over an image; may be called from any thread.

        Args:
            image: one image of any kind that the task loads.
            timeout: the seconds to wait while `capacity` images are without a result; None to wait
                as long as it takes, 0 not to wait.

        Returns:
            A future of `task.one`'s result. An image that cannot be loaded or computed gives its
            error as the future's exception, in the words of the model's methods. A future that is
            cancelled before its image is loaded costs nothing.

        Raises:
            queue.Full: there was no room in time.
            EngineClosedError: the engine is closed, or an error of the program has ended it, which
                is then the cause.
            RuntimeError: this is a forked child, and the engine's threads are in its parent.
        """
        if self._is_inherited():
            raise RuntimeError(
                "this engine was begun in the parent process, and its threads are not in this "
                "child: make one here"
            )
        request: Request[One] = Request(image)
        with self._pending.room:
            self._pending.wait_for_room(timeout)
            self._start()
            self._pending.requests.add(request)
            self._queue.put(request)
        return request.future

    def close(self) -> None:
        """Stop the threads: it takes as long as the image or batch that each of them is at.

        Images without a result get `EngineClosedError` as their future's exception.
        """
        if self._is_inherited():
            return
        self._pending.close()
        self._queue.put(None)
        if self._threads is not None:
            pipeline, deliverer = self._threads
            pipeline.close()
            if deliverer is not threading.current_thread():
                deliverer.join()

    def __enter__(self) -> Engine[One]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        # Guarded, because a constructor that failed leaves an object without a queue.
        if hasattr(self, "_pid") and not self._is_inherited():
            self._queue.put(None)

    def _is_inherited(self) -> bool:
        """True in a forked child that has the engine's state and none of its threads."""
        return self._threads is not None and self._pid != os.getpid()

    def _start(self) -> None:
        """Start the threads with the first image."""
        if self._threads is not None:
            return
        task = self._task
        pipeline = Pipeline(
            iter(self._queue.get, None),
            lambda request: request.load(task),
            task.each,
            batch_size=self._batch_size,
            computers=task.loaded.network.threads,
            workers=self._workers,
            ordered=False,
            eager=True,
        )
        # It does not hold the engine, so that one which is dropped is collected.
        deliverer = threading.Thread(
            target=deliver,
            args=(pipeline, self._pending),
            name="resnet_rs-deliver",
            daemon=True,
        )
        deliverer.start()
        self._threads = pipeline, deliverer
        self._pid = os.getpid()
        _engines.add(self)


_engines: weakref.WeakSet[Engine[Any]] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """Close what is open when the interpreter goes, and tell those who wait."""
    for engine in list(_engines):
        engine.close()

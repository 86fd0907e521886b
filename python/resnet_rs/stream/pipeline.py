"""Loading overlapped with computing: a few threads that do either, as it is needed.

Every worker loads images until enough of them are ready, then computes a batch, then loads again.
There is no thread that only loads and none that only computes, so a machine with as many workers
as cores has no core idle while there is work, and none that two threads fight over. A full batch is
computed by one thread alone: it waits for no other within the layers, so a thread that the system
takes off its core holds nobody up.

Memory is flat however many items there are: at most `window` of them are between the source and
the consumer at any time.
"""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

from ..images.batches import Views, bytes_of, shapes_of
from .schedule import Batch, Outcome, Ready, State, Times

Load: TypeAlias = "Callable[[Any], Views]"
# From loaded items of one shape, and the number of threads that may run them, to their values.
Compute: TypeAlias = "Callable[[Sequence[Views], int], Sequence[Any]]"

# Errors of one item, and not of the program: they become that item's outcome. A warning about a
# picture is one where the program's filters make errors of warnings.
LOAD_ERRORS = (OSError, ValueError, TypeError, MemoryError, Warning)
COMPUTE_ERRORS = (ValueError, MemoryError)


class Pipeline(Iterator[Outcome]):
    """Items in, outcomes out, while threads load and compute ahead.

    Threads start with `start()`, or with the first outcome that is asked for. They end with the
    last one, with `close()`, with an error that is raised here, or when the pipeline is dropped.

    Args:
        items: any iterable, an endless one too; it is read in a thread of its own, a little ahead.
        load: makes arrays of an item; called by several threads at once.
        compute: makes values of a batch; called by several threads at once.
        batch_size: the number of items in a batch, at most; they have the same shapes.
        computers: the number of threads that may compute at the same time.
        workers: the number of threads that load and compute, and at least `computers`.
        ordered: True for outcomes in the items' order, False for as they are ready.
        eager: True to compute items as soon as threads are free, False to wait for full batches
            as long as more items are to come.

    Raises:
        Exception: an error of `items`, after the outcomes of the items before it; an error of
            `load` beside `LOAD_ERRORS`, or of `compute` beside `COMPUTE_ERRORS`. Those are an
            item's outcome.
    """

    def __init__(
        self,
        items: Iterable[Any],
        load: Load,
        compute: Compute,
        *,
        batch_size: int,
        computers: int,
        workers: int,
        ordered: bool = True,
        eager: bool = False,
    ) -> None:
        # Batches that are computed, as many that are ready, those that wait for an earlier one,
        # and an item in each worker's hands.
        window = 3 * batch_size * computers + 2 * workers
        self._state = State(batch_size, computers, window, ordered, eager)
        self._start = (iter(items), load, compute, max(workers, computers))
        self._started = False

    @property
    def times(self) -> Times:
        """The workers' time by activity, up to now."""
        return self._state.times

    def __iter__(self) -> Pipeline:
        return self

    def __next__(self) -> Outcome:
        if self._state.is_inherited():
            raise RuntimeError(
                "this stream was begun in the parent process, and its threads are not in this "
                "child: begin one here"
            )
        try:
            self.start()
            with self._state.lock:
                outcome = self._state.take_outcome()
        except BaseException:
            self.close()
            raise
        if outcome is None:
            self.close()
            if self._state.source_error is not None:
                error, self._state.source_error = self._state.source_error, None
                raise error
            raise StopIteration
        return outcome

    def start(self) -> None:
        """Start the threads, unless they are started or the pipeline is closed."""
        if not self._started:
            self._started = True
            _start_threads(self._state, *self._start)

    def close(self) -> None:
        """Stop the threads: it takes as long as the image or batch that each of them is at."""
        self._started = True
        self._state.stop()
        self._state.join()

    def __del__(self) -> None:
        # A pipeline that is dropped is not waited for. Guarded, because a constructor that failed
        # leaves an object without state.
        if state := getattr(self, "_state", None):
            state.stop()


def _start_threads(
    state: State, items: Iterator[Any], load: Load, compute: Compute, workers: int
) -> None:
    _running.add(state)
    _start_thread(state, "read", _read, items)
    for number in range(workers):
        try:
            _start_thread(state, f"work-{number}", _work, load, compute)
        except RuntimeError:
            # The system allows no more threads: fewer do the work as well.
            if number == 0:
                raise
            return


def _start_thread(state: State, name: str, run: Callable[..., None], *arguments: Any) -> None:
    thread = threading.Thread(
        target=run, args=(state, *arguments), name=f"resnet_rs-{name}", daemon=True
    )
    thread.start()
    state.threads.append(thread)


def _read(state: State, items: Iterator[Any]) -> None:
    """Read the source as far ahead as the window allows."""
    while True:
        with state.lock:
            while state.in_flight() >= state.window and not state.stopped:
                state.room.wait()
            if state.stopped:
                return
        try:
            item = next(items)
        except BaseException as error:
            with state.lock:
                state.ended = True
                state.source_error = None if isinstance(error, StopIteration) else error
                state.work.notify_all()
                state.outcome.notify_all()
            return
        with state.lock:
            state.waiting.append((state.taken, item))
            state.taken += 1
            state.work.notify()


def _work(state: State, load: Load, compute: Compute) -> None:
    """Load and compute until there is no more."""
    try:
        while True:
            before = time.perf_counter()
            with state.lock:
                task = state.next_task()
                state.times.idle_s += time.perf_counter() - before
                if task is None:
                    state.work.notify_all()
                    return
            if isinstance(task, Batch):
                _compute_batch(state, compute, task)
            else:
                _load_item(state, load, *task)
    except BaseException as error:
        with state.lock:
            state.failure = error
            state.outcome.notify_all()


def _load_item(state: State, load: Load, index: int, item: Any) -> None:
    wall, cpu = time.perf_counter(), time.thread_time()
    error: Exception | None = None
    views: Views = ()
    try:
        views = load(item)
    except LOAD_ERRORS as caught:
        error = caught
    wall, cpu = time.perf_counter() - wall, time.thread_time() - cpu
    with state.lock:
        state.loading -= 1
        state.times.load_s += wall
        state.times.load_cpu_s += cpu
        state.times.loaded += 1
        if error is not None:
            state.finish([Outcome(index, item, error=error)])
        else:
            ready = Ready(index, item, views, time.monotonic())
            state.ready.setdefault(shapes_of(views), deque()).append(ready)
            state.ready_bytes += bytes_of(views)
        state.work.notify()


def _compute_batch(state: State, compute: Compute, batch: Batch) -> None:
    wall, cpu = time.perf_counter(), time.thread_time()
    outcomes = _outcomes(compute, batch.items, batch.threads)
    wall, cpu = time.perf_counter() - wall, time.thread_time() - cpu
    with state.lock:
        state.computing -= batch.threads
        state.times.compute_s += wall
        state.times.compute_cpu_s += cpu
        state.times.batches += 1
        state.finish(outcomes)
        state.work.notify()


def _outcomes(compute: Compute, items: list[Ready], threads: int) -> list[Outcome]:
    """Compute a batch; if that fails because of some items, each of them alone."""
    try:
        values = compute([ready.views for ready in items], threads)
    except COMPUTE_ERRORS as error:
        if len(items) == 1:
            return [Outcome(items[0].index, items[0].item, error=error)]
        return [outcome for one in items for outcome in _outcomes(compute, [one], threads)]
    return [
        Outcome(ready.index, ready.item, value) for ready, value in zip(items, values, strict=True)
    ]


_running: weakref.WeakSet[State] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    """Stop every thread when the interpreter goes: one that came back later would crash."""
    for state in list(_running):
        state.stop()
        state.join()

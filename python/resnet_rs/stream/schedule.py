"""The state that a pipeline's threads share, and the choice of what each does next."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ..images.batches import Views, bytes_of, shapes_of

# A batch that is not full waits this long for more while the source gives nothing.
LINGER_SECONDS = 0.2

# The limit on loaded pixels that wait, in bytes. It matters if images keep their own large sizes.
MAX_READY_BYTES = 256 << 20

# The end waits this long for the thread that reads the source: one that blocks cannot be stopped.
_READER_SECONDS = 0.2


@dataclass(slots=True)
class Outcome:
    """The value or the error of one item.

    Attributes:
        index: the item's place in the source, from 0.
        item: the item itself.
        value: the value that `compute` made of it; None if there is an error.
        error: the error; None if there is a value.
    """

    index: int
    item: Any
    value: Any = None
    error: Exception | None = None


@dataclass
class Times:
    """The workers' time by activity, in seconds, all workers added up.

    Attributes:
        load_s: wall time of loading.
        load_cpu_s: CPU time of loading.
        compute_s: wall time of computing.
        compute_cpu_s: CPU time of computing in the workers' own threads.
        idle_s: wall time of waiting for something to do.
        loaded: the number of items that were loaded.
        batches: the number of batches that were computed.
    """

    load_s: float = 0.0
    load_cpu_s: float = 0.0
    compute_s: float = 0.0
    compute_cpu_s: float = 0.0
    idle_s: float = 0.0
    loaded: int = 0
    batches: int = 0


@dataclass(slots=True)
class Ready:
    """An item that is loaded."""

    index: int
    item: Any
    views: Views
    since: float  # time.monotonic()


@dataclass(slots=True)
class Batch:
    """Items of one shape, to be computed now.

    Attributes:
        items: the oldest first.
        threads: the number of threads that may run it.
    """

    items: list[Ready]
    threads: int


@dataclass(eq=False)
class State:
    """The state that the threads share; a thread that reads or writes it holds `lock`.

    It knows nothing of the `Pipeline` that it belongs to, so that one which is dropped half way
    is collected, and its threads stop.

    Attributes:
        batch_size: the number of items in a batch, at most.
        computers: the number of threads that compute at the same time, at most.
        window: the number of items between the source and the consumer, at most.
        ordered: True if outcomes are taken in the items' order.
        eager: True to compute what is ready as soon as threads are free; False to wait for full
            batches, which are faster, as long as more items are to come.
        waiting: items that are read and not loaded, with their indices.
        ready: items that are loaded, by shape, each with the oldest first.
        ready_bytes: the memory that those take.
        loading: the number of workers that load at the moment.
        computing: the number of threads that compute at the moment.
        outcomes: those that nobody has taken yet, by index.
        taken: the number of items that were read.
        given: the number of outcomes that were taken.
        ended: True once the source has no more.
        stopped: True if the threads are to return.
        source_error: an error that the source raised in place of its end.
        failure: an error that a worker raised and that is no item's fault.
        room: told when the reader may go on.
        work: told when a worker may find something to do.
        outcome: told when the consumer may find the outcome that it waits for.
    """

    batch_size: int
    computers: int
    window: int
    ordered: bool
    eager: bool = False
    # Reentrant, because the garbage collector may stop a pipeline inside any of these methods.
    lock: threading.RLock = field(default_factory=threading.RLock)
    waiting: deque[tuple[int, Any]] = field(default_factory=deque)
    ready: dict[Any, deque[Ready]] = field(default_factory=dict)
    ready_bytes: int = 0
    loading: int = 0
    computing: int = 0
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    taken: int = 0
    given: int = 0
    ended: bool = False
    stopped: bool = False
    source_error: BaseException | None = None
    failure: BaseException | None = None
    times: Times = field(default_factory=Times)
    threads: list[threading.Thread] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pid = os.getpid()
        self.room = threading.Condition(self.lock)
        self.work = threading.Condition(self.lock)
        self.outcome = threading.Condition(self.lock)

    def stop(self) -> None:
        """Let every thread return as soon as its present item or batch is done."""
        if self.is_inherited():
            return
        with self.lock:
            self.stopped = True
            for condition in (self.room, self.work, self.outcome):
                condition.notify_all()

    def join(self) -> None:
        """Wait until the threads have returned, but not for a source that blocks."""
        if self.is_inherited():
            return
        reader, *workers = self.threads or [threading.current_thread()]
        for worker in workers:
            worker.join()
        if reader is not threading.current_thread():
            reader.join(_READER_SECONDS)

    def is_inherited(self) -> bool:
        """True in a forked child, which has the state, maybe locked, and no threads."""
        return self.pid != os.getpid()

    def in_flight(self) -> int:
        """The number of items between the source and the consumer."""
        return self.taken - self.given

    def next_task(self) -> Batch | tuple[int, Any] | None:
        """Wait for a batch to compute or an item to load; None when there is no more."""
        while not self.stopped:
            if self.computing < self.computers and (batch := self._take_batch()):
                self.computing += batch.threads
                # There may be another one: the worker that takes the first wakes the next.
                self.work.notify()
                return batch
            if self.waiting and (self.ready_bytes < MAX_READY_BYTES or not self.ready):
                self.loading += 1
                return self.waiting.popleft()
            if self.ended and not (self.waiting or self.loading or self.ready):
                return None
            self.work.wait(LINGER_SECONDS if self.ready else None)
        return None

    def _take_batch(self) -> Batch | None:
        """The items that should be computed now, the oldest first; a thread is free for them."""
        if not self.ready:
            return None
        oldest = min(self.ready.values(), key=lambda items: items[0].index)
        if self.eager:
            return self._spread(oldest)
        full = (items for items in self.ready.values() if len(items) >= self.batch_size)
        items = next(full, None)
        if items is not None:
            return self._cut(items, self.batch_size, threads=1)
        held_up = self.ready_bytes >= MAX_READY_BYTES
        if not held_up and (self.waiting or self.loading):
            return None  # more is to come, and soon
        if self.ended:
            return self._spread(oldest)
        if (
            held_up
            or self.in_flight() >= self.window
            or time.monotonic() - oldest[0].since >= LINGER_SECONDS
        ):
            return self._cut(oldest, self.batch_size, threads=1)
        return None

    def _spread(self, oldest: deque[Ready]) -> Batch:
        """A share of the items for one of the free threads; all of them if they are few.

        If there are fewer items than threads, one batch has all free threads. Before the source
        has ended that is done only while nothing else is computed: the next items would come
        while those threads are taken, and each number of threads needs a team of its own.
        """
        free = self.computers - self.computing
        count = sum(map(len, self.ready.values()))
        if count < free and (self.ended or not self.computing):
            return self._cut(oldest, self.batch_size, threads=free)
        return self._cut(oldest, min(self.batch_size, -(-len(oldest) // free)), threads=1)

    def _cut(self, items: deque[Ready], count: int, *, threads: int) -> Batch:
        batch = Batch([items.popleft() for _ in range(min(count, len(items)))], threads)
        if not items:
            del self.ready[shapes_of(batch.items[0].views)]
        self.ready_bytes -= sum(bytes_of(item.views) for item in batch.items)
        return batch

    def finish(self, outcomes: Iterable[Outcome]) -> None:
        """Hand outcomes to the consumer, which is woken only for one that it waits for."""
        for outcome in outcomes:
            self.outcomes[outcome.index] = outcome
        if not self.ordered or self.given in self.outcomes:
            self.outcome.notify()

    def take_outcome(self) -> Outcome | None:
        """Wait for the next outcome; None when there is no more."""
        while not self.stopped:
            if self.failure is not None:
                raise self.failure
            index = self.given if self.ordered else next(iter(self.outcomes), -1)
            if index in self.outcomes:
                self.given += 1
                self.room.notify()
                return self.outcomes.pop(index)
            if self.ended and not self.in_flight():
                return None
            self.outcome.wait()
        return None

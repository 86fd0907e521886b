"""What is due next: the state that a pipeline's threads share."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

# What one item is loaded as: one array as a rule; several where it is looked at more than once.
Loaded: TypeAlias = "tuple[NDArray[np.uint8], ...]"

# How long a batch that is not full waits for more while the source gives nothing.
LINGER_SECONDS = 0.2

# Loaded pixels that wait at most, in bytes: it matters where images keep their own large sizes.
MAX_READY_BYTES = 256 << 20

# How long the end waits for a thread that reads the source: one that blocks cannot be stopped.
_READER_SECONDS = 0.2


@dataclass(slots=True)
class Outcome:
    """What became of one item.

    Attributes:
        index: its place in the source, from 0.
        item: the item itself.
        value: what `compute` gave for it; None where there is an error.
        error: what was wrong with it.
    """

    index: int
    item: Any
    value: Any = None
    error: Exception | None = None


@dataclass
class Times:
    """Where the workers' time went, in seconds, all workers added up.

    Attributes:
        load_s: wall time of loading.
        load_cpu_s: CPU time of loading.
        compute_s: wall time of computing.
        compute_cpu_s: CPU time of computing, as far as it is the worker's own thread.
        idle_s: wall time of waiting for something to do.
        loaded: items that were loaded.
        batches: batches that were computed.
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
    loaded: Loaded
    since: float  # time.monotonic()


@dataclass(slots=True)
class Batch:
    """Items of one shape, to be computed now.

    Attributes:
        items: the oldest first.
        threads: how many may run it.
    """

    items: list[Ready]
    threads: int


@dataclass(eq=False)
class State:
    """What the threads share; whoever reads or writes it holds `lock`.

    It knows nothing of the `Pipeline` that it belongs to, so that one which is dropped half way
    is collected, and its threads stop.

    Attributes:
        batch_size: items of a batch, at most.
        computers: batches that are computed at the same time, at most.
        window: items between the source and the consumer, at most.
        ordered: whether outcomes are taken in the items' order.
        waiting: items that are read and not loaded, with their indices.
        ready: items that are loaded, by shape, each with the oldest first.
        ready_bytes: what those take up.
        loading: workers that load just now.
        computing: workers that compute just now.
        outcomes: those that nobody has taken yet, by index.
        taken: items that were read.
        given: outcomes that were taken.
        ended: whether the source has no more.
        stopped: whether the threads are to return.
        source_error: what the source raised in place of its end.
        failure: what a worker raised that is no item's fault.
        room: told when the reader may go on.
        work: told when a worker may find something to do.
        outcome: told when the consumer may find what it waits for.
    """

    batch_size: int
    computers: int
    window: int
    ordered: bool
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
        """Let every thread return as soon as it has done what it is at."""
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
        """Whether this is a forked child, which has the state, maybe locked, and no threads."""
        return self.pid != os.getpid()

    def in_flight(self) -> int:
        """How many items are between the source and the consumer."""
        return self.taken - self.given

    def next_task(self) -> Batch | tuple[int, Any] | None:
        """Wait for a batch to compute or an item to load; None when there is no more."""
        while not self.stopped:
            if self.computing < self.computers and (batch := self._take_batch()):
                self.computing += 1
                # There may be another one: who takes the first wakes whoever takes the next.
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
        """The items that should be computed now, the oldest first."""
        if not self.ready:
            return None
        oldest = min(self.ready.values(), key=lambda items: items[0].index)
        full = (items for items in self.ready.values() if len(items) >= self.batch_size)
        items = next(full, None)
        if items is not None:
            return self._cut(items, self.batch_size, threads=1)
        held_up = self.ready_bytes >= MAX_READY_BYTES
        if not held_up and (self.waiting or self.loading):
            return None  # more is to come, and soon
        if self.ended:
            # The last ones: spread over the threads that have nothing else to do, and where there
            # are fewer images than threads, several threads to an image.
            idle = self.computers - self.computing
            count = min(self.batch_size, -(-len(oldest) // idle))
            parts = -(-sum(map(len, self.ready.values())) // count)
            return self._cut(oldest, count, threads=max(1, idle // parts))
        if (
            held_up
            or self.in_flight() >= self.window
            or time.monotonic() - oldest[0].since >= LINGER_SECONDS
        ):
            return self._cut(oldest, self.batch_size, threads=1)
        return None

    def _cut(self, items: deque[Ready], count: int, *, threads: int) -> Batch:
        batch = Batch([items.popleft() for _ in range(min(count, len(items)))], threads)
        if not items:
            del self.ready[key_of(batch.items[0].loaded)]
        self.ready_bytes -= sum(size_of(item.loaded) for item in batch.items)
        return batch

    def finish(self, outcomes: Iterable[Outcome]) -> None:
        """Hand outcomes to the consumer, who is woken only for one that it waits for."""
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


def key_of(loaded: Loaded) -> tuple[tuple[int, ...], ...]:
    """What the items of a batch have in common."""
    return tuple(array.shape for array in loaded)


def size_of(loaded: Loaded) -> int:
    """What an item takes up while it waits, in bytes."""
    return sum(array.nbytes for array in loaded)

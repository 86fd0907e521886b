"""The threads under `model.stream`, with functions that note how they are called."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest

from resnet_rs.stream.pipeline import Pipeline
from resnet_rs.stream.schedule import LINGER_SECONDS, Outcome, Times


def load(item: int) -> tuple[np.ndarray, ...]:
    return (np.full((1, 1, 1), item, np.uint8),)


def values(batch: Any, threads: int) -> list[int]:
    return [int(pixels[0, 0, 0]) for (pixels,) in batch]


def test_order_is_kept_however_long_an_item_takes() -> None:
    def load_slowly(item: int) -> tuple[np.ndarray, ...]:
        time.sleep(0.002 * (item % 5))
        return load(item)

    outcomes = Pipeline(range(50), load_slowly, values, batch_size=3, computers=3, workers=4)
    assert [(o.index, o.value) for o in outcomes] == [(i, i) for i in range(50)]


def test_batches_are_full_but_for_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    # A busy machine must not make the source seem to pause.
    monkeypatch.setattr("resnet_rs.stream.schedule.LINGER_SECONDS", 60)
    sizes: list[int] = []

    def compute(batch: Any, threads: int) -> list[int]:
        sizes.append(len(batch))
        return values(batch, threads)

    # Fewer than may be on their way at once, so that the consumer does not matter.
    pipeline = Pipeline(range(18), load, compute, batch_size=8, computers=1, workers=3)
    assert len(list(pipeline)) == 18
    assert sizes == [8, 8, 2]


def test_one_image_has_all_threads() -> None:
    calls: list[tuple[int, int]] = []

    def compute(batch: Any, threads: int) -> list[int]:
        calls.append((len(batch), threads))
        return values(batch, threads)

    list(Pipeline([1], load, compute, batch_size=8, computers=4, workers=4))
    assert calls == [(1, 4)]


def test_the_last_images_are_spread_over_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    # A busy machine must not make the source seem to pause.
    monkeypatch.setattr("resnet_rs.stream.schedule.LINGER_SECONDS", 60)
    calls: list[tuple[int, int]] = []
    together = threading.Barrier(4, timeout=60)

    def compute(batch: Any, threads: int) -> list[int]:
        calls.append((len(batch), threads))
        together.wait()  # until four batches are computed at the same time
        return values(batch, threads)

    outcomes = list(Pipeline(range(7), load, compute, batch_size=8, computers=4, workers=4))
    assert [o.value for o in outcomes] == list(range(7))
    assert sorted(calls) == [(1, 1), (2, 1), (2, 1), (2, 1)]


def test_fewer_images_than_threads_share_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resnet_rs.stream.schedule.LINGER_SECONDS", 60)
    calls: list[tuple[int, int]] = []

    def compute(batch: Any, threads: int) -> list[int]:
        calls.append((len(batch), threads))
        return values(batch, threads)

    outcomes = list(Pipeline(range(3), load, compute, batch_size=8, computers=4, workers=4))
    assert [o.value for o in outcomes] == [0, 1, 2]
    assert calls == [(3, 4)]


def test_no_more_threads_compute_than_computers() -> None:
    running = most = 0
    lock = threading.Lock()

    def compute(batch: Any, threads: int) -> list[int]:
        nonlocal running, most
        with lock:
            running += threads
            most = max(most, running)
        time.sleep(0.005)
        with lock:
            running -= threads
        return values(batch, threads)

    pipeline = Pipeline(range(60), load, compute, batch_size=2, computers=2, workers=6)
    assert len(list(pipeline)) == 60
    assert most == 2


def test_batch_that_fails_is_run_one_by_one() -> None:
    def compute(batch: Any, threads: int) -> list[int]:
        if 5 in values(batch, threads) or len(batch) > 2:
            raise MemoryError("activations do not fit")
        return values(batch, threads)

    pipeline = Pipeline(range(12), load, compute, batch_size=4, computers=2, workers=2)
    outcomes = list(pipeline)
    assert [o.index for o in outcomes if o.error is not None] == [5]
    assert isinstance(outcomes[5].error, MemoryError)
    assert [o.value for o in outcomes if o.error is None] == [i for i in range(12) if i != 5]


@pytest.mark.parametrize("where", ["load", "compute"])
def test_error_of_the_program_is_raised_and_ends_the_threads(where: str) -> None:
    def fail(*_: Any) -> Any:
        raise ZeroDivisionError("a mistake")

    functions = (fail, values) if where == "load" else (load, fail)
    pipeline = Pipeline(range(50), *functions, batch_size=2, computers=2, workers=2)
    with pytest.raises(ZeroDivisionError, match="a mistake"):
        list(pipeline)
    assert not [t for t in threading.enumerate() if t.name.startswith("resnet_rs-")]


def test_large_pixels_wait_for_those_before_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resnet_rs.stream.schedule.MAX_READY_BYTES", 10)
    waiting = most = 0
    lock = threading.Lock()

    def load_large(item: int) -> tuple[np.ndarray, ...]:
        nonlocal waiting, most
        with lock:
            waiting += 1
            most = max(most, waiting)
        return (np.full((4, 1, 1), item, np.uint8),)

    def compute(batch: Any, threads: int) -> list[int]:
        nonlocal waiting
        with lock:
            waiting -= len(batch)
        return values(batch, threads)

    pipeline = Pipeline(range(40), load_large, compute, batch_size=16, computers=1, workers=3)
    assert [o.value for o in pipeline] == list(range(40))
    # Two of four bytes each leave room; by then each worker may have begun one more. As many may be
    # in a batch that is being computed. Without the limit all 40 would be there.
    assert most <= 2 * (2 + 3)


def test_thread_that_cannot_be_started_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("resnet_rs-work-") and thread.name != "resnet_rs-work-0":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    pipeline = Pipeline(range(9), load, values, batch_size=2, computers=2, workers=4)
    assert [o.value for o in pipeline] == list(range(9))


def test_threads_may_be_started_before_the_first_outcome() -> None:
    loaded = threading.Event()

    def load_and_tell(item: int) -> tuple[np.ndarray, ...]:
        loaded.set()
        return load(item)

    pipeline = Pipeline(range(5), load_and_tell, values, batch_size=2, computers=1, workers=1)
    pipeline.start()
    assert loaded.wait(60)
    pipeline.start()
    assert [o.value for o in pipeline] == list(range(5))
    pipeline.start()
    assert not [t for t in threading.enumerate() if t.name.startswith("resnet_rs-work")]


def test_outcome_names_its_item() -> None:
    one = {"batch_size": 1, "computers": 1, "workers": 1}
    assert next(Pipeline("a", lambda _: load(7), values, **one)) == Outcome(0, "a", 7)


def test_source_that_pauses_does_not_seem_to_hang() -> None:
    assert LINGER_SECONDS < 1


def test_times_are_those_of_loading_and_computing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock:
        """Stands for the module `time`: only the work itself takes time."""

        wall = cpu = 0.0
        monotonic = staticmethod(time.monotonic)

        def perf_counter(self) -> float:
            return self.wall

        def thread_time(self) -> float:
            return self.cpu

    clock = Clock()
    monkeypatch.setattr("resnet_rs.stream.pipeline.time", clock)

    def load_slowly(item: int) -> tuple[np.ndarray, ...]:
        clock.wall += 2
        clock.cpu += 0.5
        if item == 0:
            raise OSError("no such file")
        return load(item)

    def compute(batch: Any, threads: int) -> list[int]:
        clock.wall += 8
        clock.cpu += 4
        return values(batch, threads)

    pipeline = Pipeline(range(5), load_slowly, compute, batch_size=1, computers=1, workers=1)
    assert len(list(pipeline)) == 5
    expected = Times(
        load_s=10, load_cpu_s=2.5, compute_s=32, compute_cpu_s=16, idle_s=0, loaded=5, batches=4
    )
    assert pipeline.times == expected


@pytest.mark.timeout(60)
def test_no_thread_at_all_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("resnet_rs-work-"):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    pipeline = Pipeline(range(9), load, values, batch_size=2, computers=2, workers=4)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        next(pipeline)
    assert not [t for t in threading.enumerate() if t.name == "resnet_rs-read"]

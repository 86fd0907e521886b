"""`Engine.submit`: the results of `predict` as futures, from many threads, with a clear end."""

from __future__ import annotations

import concurrent.futures
import gc
import os
import queue
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from telling_rows import assert_telling
from tiny_model import write_tiny_model

import resnet_rs
from resnet_rs import ImageError, ResNet
from resnet_rs.images.batches import Views, bytes_of
from resnet_rs.stream.engine import Engine
from resnet_rs.stream.pending import EngineClosedError
from resnet_rs.stream.pipeline import Pipeline
from resnet_rs.stream.tasks import Arrays, Embeddings, Features, Logits, Predictions

# A hang is what these waits end; nothing here takes this long.
HANG_SECONDS = 60

IMAGES = [
    np.random.default_rng(i).integers(0, 256, (40 + i % 7, 50 + i % 5, 3), np.uint8)
    for i in range(24)
]


@pytest.fixture(scope="module")
def tiny_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def tiny(tiny_dir: Path) -> ResNet:
    return resnet_rs.load(tiny_dir, threads=2)


@pytest.fixture(autouse=True)
def no_threads_are_left() -> Iterator[None]:
    yield
    gc.collect()
    wait_until(lambda: our_threads() == [])


def our_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("resnet_rs-")]


def wait_until(condition: Any) -> None:
    end = time.monotonic() + HANG_SECONDS
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


class Gated(Logits):
    """Logits that are loaded and computed only when a test says so, and notes of both."""

    def __init__(self, model: ResNet) -> None:
        super().__init__(model.loaded)
        self.may_load, self.may_compute = threading.Event(), threading.Event()
        self.loads: list[Any] = []
        self.batches: list[tuple[int, int | None]] = []

    def load(self, source: Any) -> Views:
        self.loads.append(source)
        assert self.may_load.wait(HANG_SECONDS)
        return super().load(source)

    def compute(self, batch: Sequence[Views], threads: int | None = None) -> Arrays:
        self.batches.append((len(batch), threads))
        assert self.may_compute.wait(HANG_SECONDS)
        return super().compute(batch, threads)


class TestResults:
    @pytest.mark.parametrize("tta", [None, "hflip", "multiscale"])
    @pytest.mark.parametrize(("threads", "workers", "batch_size"), [(1, 1, 8), (2, 3, 3)])
    def test_many_threads_get_what_predict_gives(
        self, tiny_dir: Path, threads: int, workers: int, batch_size: int, tta: str | None
    ) -> None:
        model = resnet_rs.load(tiny_dir, threads=threads)
        images = IMAGES if tta is None else IMAGES[:8]
        expected = model.predict(images, 3, tta)
        assert_telling([[p.score for p in predictions] for predictions in expected])
        task = Predictions(model.loaded, 3, tta)
        with (
            Engine(task, workers=workers, batch_size=batch_size, capacity=7) as engine,
            concurrent.futures.ThreadPoolExecutor(6) as clients,
        ):
            found = list(clients.map(lambda image: engine.submit(image).result(60), images))
        assert found == expected

    @pytest.mark.parametrize("pool", ["avg", "max", "none"])
    def test_embeddings_are_the_same_bits(self, tiny: ResNet, pool: str) -> None:
        expected = tiny.embed(IMAGES, pool=pool)
        assert_telling(expected)
        with Engine(Embeddings(tiny.loaded, pool=pool)) as engine:
            futures = [engine.submit(image) for image in IMAGES]
            rows = [future.result(HANG_SECONDS) for future in futures]
        np.testing.assert_array_equal(np.stack(rows), expected, strict=True)
        assert all(row.base is None for row in rows), "a row keeps no batch"

    def test_features_come_by_name(self, tiny: ResNet) -> None:
        with Engine(Features(tiny.loaded, ["layer2", "relu"])) as engine:
            found = engine.submit(IMAGES[0]).result(HANG_SECONDS)
        expected = tiny.features(IMAGES[0], ["layer2", "relu"])
        assert list(found) == list(expected)
        assert_telling(list(expected.values()))
        for name, values in expected.items():
            np.testing.assert_array_equal(found[name], values)

    def test_images_of_several_sizes(self, tiny_dir: Path) -> None:
        model = resnet_rs.load(tiny_dir, preprocessing={"resize": None, "crop": None})
        with Engine(Logits(model.loaded)) as engine:
            futures = [engine.submit(image) for image in IMAGES]
            rows = [future.result(HANG_SECONDS) for future in futures]
        assert_telling(rows)
        np.testing.assert_array_equal(np.stack(rows), model.logits(IMAGES))


class TestBatches:
    def test_an_image_alone_waits_for_nothing_and_has_all_threads(
        self, tiny: ResNet, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("resnet_rs.stream.schedule.LINGER_SECONDS", 10 * HANG_SECONDS)
        task = Gated(tiny)
        task.may_load.set()
        task.may_compute.set()
        with Engine(task) as engine:
            for image in IMAGES[:3]:
                engine.submit(image).result(HANG_SECONDS)
        assert task.batches == [(1, 2)] * 3

    def test_images_that_come_meanwhile_are_a_batch(self, tiny_dir: Path) -> None:
        task = Gated(resnet_rs.load(tiny_dir, threads=1))
        task.may_load.set()
        with Engine(task, workers=2, batch_size=5) as engine:
            futures = [engine.submit(IMAGES[0])]
            wait_until(lambda: task.batches)
            futures += [engine.submit(image) for image in IMAGES[1:8]]
            wait_until(lambda: pipeline_of(engine).times.loaded == 8)
            task.may_compute.set()
            concurrent.futures.wait(futures, HANG_SECONDS)
        assert task.batches == [(1, 1), (5, 1), (2, 1)]

    def test_a_slow_image_holds_up_no_other(self, tiny: ResNet) -> None:
        class SlowFirst(Gated):
            def load(self, source: Any) -> Views:
                return super().load(source) if source is IMAGES[0] else Logits.load(self, source)

        task = SlowFirst(tiny)
        task.may_compute.set()
        with Engine(task, workers=2) as engine:
            slow = engine.submit(IMAGES[0])
            for image in IMAGES[1:4]:
                engine.submit(image).result(HANG_SECONDS)
            assert not slow.done()
            task.may_load.set()
            assert_telling([slow.result(HANG_SECONDS)])
            np.testing.assert_array_equal(slow.result(HANG_SECONDS), tiny.logits(IMAGES[0]))


class TestErrors:
    def test_bad_images_are_their_futures_exceptions(self, tiny: ResNet, tmp_path: Path) -> None:
        missing = tmp_path / "missing.png"
        bad: list[tuple[Any, type[Exception]]] = [
            (b"no image", ImageError),
            (missing, FileNotFoundError),
            (tmp_path, IsADirectoryError),
            (3, TypeError),
            (np.zeros((4, 4), np.float32), TypeError),
            ([IMAGES[0]], TypeError),
        ]
        with Engine(Logits(tiny.loaded)) as engine:
            good = [engine.submit(IMAGES[0])]
            futures = [engine.submit(image) for image, _ in bad]
            good.append(engine.submit(IMAGES[1]))
            for future, (image, kind) in zip(futures, bad, strict=True):
                error = future.exception(HANG_SECONDS)
                assert type(error) is kind
                if not isinstance(image, list):
                    with pytest.raises(kind) as told:
                        tiny.logits(image)
                    assert str(error) == str(told.value)
            rows = [future.result(HANG_SECONDS) for future in good]
        assert_telling(rows)
        np.testing.assert_array_equal(np.stack(rows), tiny.logits(IMAGES[:2]))

    def test_batch_that_fails_is_run_one_by_one(self, tiny_dir: Path) -> None:
        class Fragile(Gated):
            def compute(self, batch: Sequence[Views], threads: int | None = None) -> Arrays:
                arrays = super().compute(batch, threads)
                if len(batch) > 1 or any(view.max() == 0 for (view,) in batch):
                    raise MemoryError("the activations do not fit")
                return arrays

        task = Fragile(resnet_rs.load(tiny_dir, threads=1))
        task.may_load.set()
        black = np.zeros_like(IMAGES[0])
        with Engine(task, workers=2) as engine:
            futures = [engine.submit(image) for image in (IMAGES[0], black, IMAGES[1])]
            wait_until(lambda: len(task.loads) == 3)
            task.may_compute.set()
            errors = [future.exception(HANG_SECONDS) for future in futures]
        assert [type(error) for error in errors] == [type(None), MemoryError, type(None)]

    def test_error_of_the_program_ends_the_engine_and_tells_everybody(self, tiny: ResNet) -> None:
        class Wrong(Gated):
            def compute(self, batch: Sequence[Views], threads: int | None = None) -> Arrays:
                super().compute(batch, threads)
                raise ZeroDivisionError("a mistake")

        task = Wrong(tiny)
        task.may_load.set()
        engine = Engine(task, batch_size=1)
        futures = [engine.submit(image) for image in IMAGES[:6]]
        task.may_compute.set()
        for future in futures:
            with pytest.raises(ZeroDivisionError, match="a mistake"):
                future.result(HANG_SECONDS)
        with pytest.raises(EngineClosedError, match="a mistake") as caught:
            engine.submit(IMAGES[0])
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
        engine.close()

    @pytest.mark.parametrize("name", ["batch_size", "workers", "capacity"])
    def test_bad_argument_is_named(self, tiny: ResNet, name: str) -> None:
        with pytest.raises(ValueError, match=f"{name} must be at least 1"):
            Engine(Logits(tiny.loaded), **{name: 0})
        with pytest.raises(TypeError, match=f"{name} must be an int"):
            Engine(Logits(tiny.loaded), **{name: "8"})


class TestCapacity:
    def test_a_full_engine_takes_no_more_until_there_is_room(self, tiny: ResNet) -> None:
        task = Gated(tiny)
        with Engine(task, capacity=3) as engine:
            futures = [engine.submit(image, timeout=0) for image in IMAGES[:3]]
            for timeout in (0, 0.05):
                with pytest.raises(queue.Full, match="3 images"):
                    engine.submit(IMAGES[3], timeout=timeout)
            threading.Timer(0.05, lambda: (task.may_load.set(), task.may_compute.set())).start()
            futures.append(engine.submit(IMAGES[3]))  # waits until one of the three is done
            rows = [future.result(HANG_SECONDS) for future in futures]
            assert len(task.loads) == 4
        assert_telling(rows)
        np.testing.assert_array_equal(np.stack(rows), tiny.logits(IMAGES[:4]))

    def test_pixels_of_fifty_submitters_are_bounded(
        self, tiny: ResNet, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Images are decoded up to a bound in bytes, however many submitters wait."""
        task = Gated(tiny)
        task.may_load.set()
        at_most, workers, batch_size = 10, 3, 4
        image_bytes = bytes_of(Logits(tiny.loaded).load(IMAGES[0]))
        monkeypatch.setattr("resnet_rs.stream.schedule.MAX_READY_BYTES", at_most * image_bytes)
        with (
            Engine(task, workers=workers, batch_size=batch_size) as engine,
            concurrent.futures.ThreadPoolExecutor(50) as clients,
        ):
            rows = clients.map(
                lambda i: engine.submit(IMAGES[i % len(IMAGES)]).result(HANG_SECONDS), range(50)
            )
            wait_until(lambda: len(engine._pending.requests) == 50)
            wait_until(lambda: pipeline_of(engine)._state.ready_bytes >= at_most * image_bytes)
            time.sleep(0.2)
            assert len(task.loads) <= at_most + workers + tiny.threads * batch_size < 50
            task.may_compute.set()
            found = np.stack(list(rows))
        assert_telling(found[: len(IMAGES)])
        expected = tiny.logits(IMAGES)
        np.testing.assert_array_equal(found, expected[np.arange(50) % len(IMAGES)])

    def test_submit_that_waits_is_ended_by_close(self, tiny: ResNet) -> None:
        task = Gated(tiny)
        engine = Engine(task, capacity=1)
        engine.submit(IMAGES[0])
        told: list[BaseException] = []

        def client() -> None:
            try:
                engine.submit(IMAGES[1])
            except EngineClosedError as error:
                told.append(error)

        waiting = threading.Thread(target=client)
        waiting.start()
        time.sleep(0.2)  # most probably it waits by now; if not, it is told all the same
        closing = threading.Thread(target=engine.close)
        closing.start()
        waiting.join(HANG_SECONDS)
        assert len(told) == 1
        task.may_load.set()
        closing.join(HANG_SECONDS)


class TestCancel:
    def test_cancelled_image_is_not_loaded_and_its_waiters_wake(self, tiny_dir: Path) -> None:
        task = Gated(resnet_rs.load(tiny_dir, threads=1))
        task.may_compute.set()
        with Engine(task, workers=1) as engine:
            first = engine.submit(IMAGES[0])
            wait_until(lambda: task.loads)
            second, third = engine.submit(IMAGES[1]), engine.submit(IMAGES[2])
            assert not first.cancel(), "it is being loaded"
            assert second.cancel()
            task.may_load.set()
            _, left = concurrent.futures.wait([first, second, third], HANG_SECONDS)
            assert not left
            assert second.cancelled()
            assert first.exception() is third.exception() is None
        assert len(task.loads) == 2


class TestClose:
    def test_pending_futures_end_with_an_error_that_says_so(self, tiny: ResNet) -> None:
        task = Gated(tiny)
        engine = Engine(task, workers=2)
        futures = [engine.submit(image) for image in IMAGES]
        wait_until(lambda: len(task.loads) == 2)
        closing = threading.Thread(target=engine.close)
        closing.start()
        wait_until(lambda: pipeline_of(engine)._state.stopped)
        task.may_load.set()
        closing.join(HANG_SECONDS)
        assert our_threads() == []
        for future in futures:
            with pytest.raises(EngineClosedError, match="was closed"):
                future.result(0)
        assert len(task.loads) == 2, "the others are not loaded any more"
        engine.close()

    def test_cancelled_future_stays_cancelled(self, tiny: ResNet) -> None:
        task = Gated(tiny)
        engine = Engine(task, workers=2)
        futures = [engine.submit(image) for image in IMAGES[:5]]
        wait_until(lambda: len(task.loads) == 2)
        assert futures[4].cancel()
        threading.Timer(0.05, task.may_load.set).start()
        engine.close()
        _, left = concurrent.futures.wait(futures, HANG_SECONDS)
        assert not left
        assert futures[4].cancelled()

    def test_from_a_callback(self, tiny: ResNet) -> None:
        engine = Engine(Logits(tiny.loaded))
        closed = threading.Event()

        def close(_: object) -> None:
            engine.close()
            closed.set()

        engine.submit(IMAGES[0]).add_done_callback(close)
        assert closed.wait(HANG_SECONDS)
        with pytest.raises(EngineClosedError):
            engine.submit(IMAGES[1])

    def test_engine_that_was_never_used(self, tiny: ResNet) -> None:
        engine = Engine(Logits(tiny.loaded))
        assert our_threads() == []
        engine.close()
        with pytest.raises(EngineClosedError):
            engine.submit(IMAGES[0])
        assert our_threads() == []

    def test_dropped_engine_finishes_what_it_has_taken(self, tiny: ResNet) -> None:
        engine = Engine(Logits(tiny.loaded))
        futures = [engine.submit(image) for image in IMAGES]
        del engine
        rows = [future.result(HANG_SECONDS) for future in futures]
        assert_telling(rows)
        np.testing.assert_array_equal(np.stack(rows), tiny.logits(IMAGES))

    def test_program_that_forgets_an_engine_ends(self, tiny_dir: Path) -> None:
        result = run_script(
            """
            engine = Engine(Predictions(model.loaded, 1))
            engine.submit(image).result()
            waiting = [engine.submit(image) for _ in range(200)]
            print("done")
            """,
            tiny_dir,
        )
        assert (result.returncode, result.stdout, result.stderr) == (0, "done\n", "")

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
    def test_forked_child_leaves_its_parents_engine_alone(self, tiny_dir: Path) -> None:
        result = run_script(
            """
            import os
            engine = Engine(Predictions(model.loaded, 1))
            unused = Engine(Predictions(model.loaded, 1))
            expected = engine.submit(image).result()
            for _ in range(10):  # some of them while a thread holds a lock
                futures = [engine.submit(image) for _ in range(9)]
                if (child := os.fork()) == 0:
                    try:
                        engine.submit(image)
                    except RuntimeError as error:
                        assert "make one here" in str(error)
                        engine.close()
                        del engine
                        with unused:
                            assert unused.submit(image).result(60) == expected
                        sys.exit(7)
                assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
                assert [future.result(60) for future in futures] == [expected] * 9
            print("done")
            """,
            tiny_dir,
        )
        assert (result.returncode, result.stdout) == (0, "done\n"), result.stderr


def pipeline_of(engine: Engine[Any]) -> Pipeline:
    assert engine._threads is not None
    return engine._threads[0]


def run_script(script: str, tiny_dir: Path) -> subprocess.CompletedProcess[str]:
    """Run a script that has a model, an image and the engine's names."""
    head = """
        import sys
        import numpy as np
        import resnet_rs
        from resnet_rs.stream.engine import Engine
        from resnet_rs.stream.tasks import Predictions
        model = resnet_rs.load(sys.argv[1], threads=2)
        image = np.full((40, 40, 3), 90, np.uint8)
    """
    code = textwrap.dedent(head) + textwrap.dedent(script)
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code, str(tiny_dir)]
    return subprocess.run(command, capture_output=True, text=True, timeout=HANG_SECONDS)

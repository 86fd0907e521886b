"""Threads and processes: the same bits everywhere, no hang after a fork, memory that stays flat."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from conftest import ISAS, THREAD_VARIABLES, required_isas
from PIL import Image
from telling_rows import assert_telling

from resnet_rs import ResNet50
from resnet_rs._core import available_isas

# A hang is what these tests look for; no machine needs this long for what they do.
HANG_SECONDS = 120


def photos_at(paths: list[Path], height: int, width: int) -> np.ndarray:
    """Demo photos enlarged to `[n, height, width, 3]`."""
    images = [Image.open(path).resize((width, height)) for path in paths]
    return np.stack([np.asarray(image) for image in images])


def run_script(script: str, *arguments: object, **variables: str) -> str:
    """Run Python code in a process of its own and return what it prints."""
    environment = {k: v for k, v in os.environ.items() if k not in THREAD_VARIABLES} | variables
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        env=environment,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


class TestTiers:
    def test_required_tiers_are_on_this_machine(self) -> None:
        """Print which tiers the tests of this run exercise; fail if a required one is missing."""
        print(f"tiers tested: {', '.join(available_isas())}")
        unknown = set(required_isas()) - set(ISAS)
        assert not unknown, f"RESNET_RS_REQUIRE_ISA names unknown tiers: {sorted(unknown)}"
        assert set(required_isas()) <= set(available_isas())

    def test_portable_is_always_there_and_order_is_by_speed(self) -> None:
        assert available_isas()[0] == "portable"
        assert available_isas() == [name for name in ISAS if name in available_isas()]

    def test_default_is_the_best(self, demo_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("RESNET_RS_ISA", raising=False)
        assert ResNet50(demo_dir).isa == available_isas()[-1]

    def test_variable_chooses_and_argument_overrides(
        self, isa: str, demo_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("RESNET_RS_ISA", isa)
        assert ResNet50(demo_dir).isa == isa
        assert ResNet50(demo_dir, isa="portable").isa == "portable"


class TestSameBits:
    @pytest.mark.parametrize(("height", "width"), [(64, 64), (97, 131), (224, 224)])
    def test_logits_for_every_batch_and_thread_count(
        self, height: int, width: int, isa: str, demo_dir: Path, demo_photos: list[Path]
    ) -> None:
        count = 8 if height < 224 else 4
        pixels = photos_at(demo_photos[:count], height, width)
        reference: np.ndarray | None = None
        for threads in (1, 2, 4):
            model = ResNet50(demo_dir, isa=isa, threads=threads)
            x = model.loaded.network.normalize(pixels)
            for first, batch in [(0, count), (0, 1), (count - 1, 1), (1, 3)]:
                logits = model.forward(x[first : first + batch])
                if reference is None:
                    assert_telling(logits)
                    reference = logits
                np.testing.assert_array_equal(
                    logits, reference[first : first + batch], err_msg=f"{threads=} {batch=}"
                )

    def test_place_in_the_batch_does_not_matter(
        self, model: ResNet50, demo_photos: list[Path]
    ) -> None:
        logits = model.logits(demo_photos)
        assert_telling(logits)
        np.testing.assert_array_equal(model.logits(demo_photos[::-1])[::-1], logits)

    def test_repeated_calls(self, model: ResNet50, demo_photo: Path) -> None:
        first = model.logits(demo_photo)
        assert_telling([first])
        for _ in range(20):
            np.testing.assert_array_equal(model.logits(demo_photo), first)

    def test_eight_python_threads_at_once(
        self, isa: str, demo_dir: Path, demo_photos: list[Path]
    ) -> None:
        model = ResNet50(demo_dir, isa=isa, threads=2)
        photos = demo_photos[:8]
        expected = [model.logits(path) for path in photos]
        assert_telling(expected)
        together = threading.Barrier(8)

        def work(place: int) -> list[np.ndarray]:
            together.wait(HANG_SECONDS)
            return [model.logits(photos[(place + turn) % 8]) for turn in range(8)]

        with ThreadPoolExecutor(8) as pool:
            for place, results in enumerate(pool.map(work, range(8))):
                for turn, logits in enumerate(results):
                    np.testing.assert_array_equal(logits, expected[(place + turn) % 8])

    def test_many_models_at_once(self, demo_dir: Path, demo_photo: Path, model: ResNet50) -> None:
        expected = model.logits(demo_photo)
        assert_telling([expected])

        def work(threads: int) -> np.ndarray:
            return ResNet50(demo_dir, threads=threads).logits(demo_photo)

        with ThreadPoolExecutor(4) as pool:
            for logits in pool.map(work, [1, 2, 3, 4]):
                np.testing.assert_array_equal(logits, expected)


class TestGil:
    @pytest.fixture
    def no_forced_switches(self) -> Iterator[None]:
        """Python changes threads only where one gives the GIL up."""
        interval = sys.getswitchinterval()
        sys.setswitchinterval(3600)
        yield
        sys.setswitchinterval(interval)

    @pytest.mark.parametrize("threads", [1, 2])
    def test_other_threads_run_during_a_forward(
        self, threads: int, demo_dir: Path, no_forced_switches: None
    ) -> None:
        model = ResNet50(demo_dir, threads=threads)
        x = np.zeros((1, 224, 224, 3), np.float32)
        model.forward(x)
        turns = 0
        stop = False

        def count() -> None:
            nonlocal turns
            while not stop:
                turns += 1
                time.sleep(0)  # gives the GIL up, so that the forward's thread can return

        counter = threading.Thread(target=count)
        counter.start()
        try:
            # Between the two readings this thread gives up the GIL in `logits` or nowhere. The
            # other thread may come late on a busy machine, so it has several chances.
            for _ in range(50):
                before = turns
                model.loaded.network.logits(x)
                if turns > before:
                    return
        finally:
            stop = True
            counter.join()
        pytest.fail("no other thread ran during 50 forwards: the GIL was held")


FORK_SCRIPT = """
    import os, signal, sys
    import numpy as np
    from resnet_rs import ResNet50

    weights, photo, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
    model = ResNet50(weights, threads=threads)
    expected = model.logits([photo] * 3)

    def check(depth):
        signal.alarm(60)  # a child that hangs is ended, and then counts as failed
        if not np.array_equal(model.logits([photo] * 3), expected):
            os._exit(3)
        if depth:  # a child of the child
            fork_and_check(depth - 1)
        again = ResNet50(weights, threads=threads)
        os._exit(0 if np.array_equal(again.logits([photo] * 3), expected) else 4)

    def fork_and_check(depth):
        pid = os.fork()
        if pid == 0:
            check(depth)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if status != 0:
            print("child ended with", status, file=sys.stderr)
            os._exit(5)

    for _ in range(3):
        fork_and_check(1)
        assert np.array_equal(model.logits([photo] * 3), expected), "the parent after a fork"
    print("ok")
"""

POOL_SCRIPT = """
    import multiprocessing
    import sys
    from resnet_rs import ResNet50

    def work(arguments):
        model, photo = arguments
        return model.logits(photo).tobytes()

    if __name__ == "__main__":
        method, weights, photos = sys.argv[1], sys.argv[2], sys.argv[3:]
        model = ResNet50(weights, threads=2)
        expected = [model.logits(photo).tobytes() for photo in photos]
        with multiprocessing.get_context(method).Pool(2) as pool:
            results = pool.map_async(work, [(model, photo) for photo in photos]).get(100)
        assert results == expected
        print("ok")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
class TestProcesses:
    @pytest.mark.parametrize("threads", [1, 2, 4])
    def test_fork_after_use(self, threads: int, demo_dir: Path, demo_photo: Path) -> None:
        assert run_script(FORK_SCRIPT, demo_dir, demo_photo, threads) == "ok"

    def test_fork_while_another_thread_computes(self, demo_dir: Path, demo_photo: Path) -> None:
        script = """
            import os, signal, sys, threading
            import numpy as np
            from resnet_rs import ResNet50

            model = ResNet50(sys.argv[1], threads=2)
            photo = sys.argv[2]
            expected = model.logits(photo)
            stop = threading.Event()

            def keep_busy():
                while not stop.is_set():
                    model.logits(photo)

            busy = threading.Thread(target=keep_busy)
            busy.start()
            for _ in range(10):
                pid = os.fork()
                if pid == 0:
                    signal.alarm(60)
                    os._exit(0 if np.array_equal(model.logits(photo), expected) else 3)
                status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                if status != 0:
                    print("child ended with", status, file=sys.stderr)
                    os._exit(5)
            stop.set()
            busy.join()
            print("ok")
        """
        assert run_script(script, demo_dir, demo_photo) == "ok"

    @pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
    def test_multiprocessing(
        self, method: str, demo_dir: Path, demo_photos: list[Path], tmp_path: Path
    ) -> None:
        script = tmp_path / "pool.py"
        script.write_text(textwrap.dedent(POOL_SCRIPT))
        command = [sys.executable, script, method, demo_dir, *demo_photos[:4]]
        result = subprocess.run(
            list(map(str, command)), capture_output=True, text=True, timeout=HANG_SECONDS
        )
        assert result.stdout.strip() == "ok", result.stderr


class TestThreadCount:
    SHOW = "from resnet_rs._core import default_threads; print(default_threads())"

    @pytest.mark.parametrize(
        ("variables", "expected"),
        [
            ({"RESNET_RS_NUM_THREADS": "3", "RAYON_NUM_THREADS": "5", "OMP_NUM_THREADS": "7"}, 3),
            ({"RAYON_NUM_THREADS": "5", "OMP_NUM_THREADS": "7"}, 5),
            ({"OMP_NUM_THREADS": "7"}, 7),
            ({"OMP_NUM_THREADS": "4,2"}, 4),
            ({"RESNET_RS_NUM_THREADS": "", "RAYON_NUM_THREADS": "", "OMP_NUM_THREADS": "2"}, 2),
            ({"RAYON_NUM_THREADS": "0", "OMP_NUM_THREADS": "2"}, 2),
        ],
        ids=str,
    )
    def test_environment_in_order(self, variables: dict[str, str], expected: int) -> None:
        assert run_script(self.SHOW, **variables) == str(expected)

    def test_argument_comes_first(self, demo_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in THREAD_VARIABLES:
            monkeypatch.setenv(name, "5")
        assert ResNet50(demo_dir).threads == 5
        assert ResNet50(demo_dir, threads=2).threads == 2

    @pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs CPU affinity")
    def test_affinity_bounds_the_default(self) -> None:
        script = f"""
            import os
            os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}})
            {self.SHOW}
        """
        assert run_script(script) == "1"

    @pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="needs CPU affinity")
    def test_default_never_exceeds_the_affinity(self) -> None:
        assert 1 <= int(run_script(self.SHOW)) <= len(os.sched_getaffinity(0))

    def test_import_starts_no_thread_and_prints_nothing(self) -> None:
        script = """
            import os
            import numpy
            before = len(os.listdir("/proc/self/task"))
            import resnet_rs, sys
            assert len(os.listdir("/proc/self/task")) == before
            assert "PIL" not in sys.modules
            assert "torch" not in sys.modules
        """
        assert run_script(script) == ""

    def test_one_thread_works_without_a_pool(self, demo_dir: Path, demo_photo: Path) -> None:
        script = """
            import os, sys
            from resnet_rs import ResNet50
            before = len(os.listdir("/proc/self/task"))
            model = ResNet50(sys.argv[1], threads=1)
            model.predict(sys.argv[2])
            assert len(os.listdir("/proc/self/task")) == before
        """
        assert run_script(script, demo_dir, demo_photo) == ""


def resident_bytes() -> int:
    """The memory that this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
class TestMemory:
    # Room for what the allocator and Python keep; 200 shapes that were each kept would take
    # several hundred megabytes.
    SLACK_BYTES = 48 << 20

    def test_changing_shapes_do_not_grow_memory(self, demo_dir: Path) -> None:
        model = ResNet50(demo_dir, threads=2)
        rng = np.random.default_rng(0)
        largest = (3, 160, 160, 3)
        model.forward(np.zeros(largest, np.float32))
        before = resident_bytes()
        for _ in range(200):
            batch, height, width = rng.integers(1, 4), *rng.integers(1, 161, 2)
            model.forward(np.zeros((batch, height, width, 3), np.float32))
        assert resident_bytes() - before < self.SLACK_BYTES

    def test_models_give_their_memory_back(self, demo_dir: Path, demo_photo: Path) -> None:
        ResNet50(demo_dir, threads=2).predict(demo_photo)
        before = resident_bytes()
        for _ in range(5):  # each holds more than 90 MB of weights
            ResNet50(demo_dir, threads=2).predict(demo_photo)
        assert resident_bytes() - before < self.SLACK_BYTES

    def test_release_gives_the_workspace_back(self, demo_dir: Path) -> None:
        model = ResNet50(demo_dir, threads=2)
        before = resident_bytes()
        model.forward(np.zeros((8, 224, 224, 3), np.float32))
        used = resident_bytes() - before
        model.release()
        kept = resident_bytes() - before
        assert used > 20 << 20  # the activations of eight images
        assert kept < used / 2

"""`model.stream`: the results of `predict`, in order and lazily, with threads that end in time."""

from __future__ import annotations

import io
import itertools
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from telling_rows import assert_telling
from tiny_model import write_tiny_model

import resnet_rs
from resnet_rs import ImageError, ResNet
from resnet_rs.stream import Result, stream

# A hang is what these waits end; nothing here takes this long.
HANG_SECONDS = 60


@pytest.fixture(scope="module")
def tiny_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def tiny(tiny_dir: Path) -> ResNet:
    return resnet_rs.load(tiny_dir, threads=2)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Small pictures of several sizes."""
    directory = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(1)
    paths = []
    for i in range(25):
        height, width = random.integers(20, 60, 2)
        pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        paths.append(directory / f"{i:02}.png")
        Image.fromarray(pixels).save(paths[-1])
    return paths


def our_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("resnet_rs-")]


def wait_until(condition: Any) -> None:
    end = time.monotonic() + HANG_SECONDS
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


class TestResults:
    @pytest.mark.parametrize("batch_size", [1, 3, 8, 100])
    @pytest.mark.parametrize(("threads", "workers"), [(1, 1), (1, 4), (2, 2), (3, 1)])
    def test_predictions_are_those_of_predict(
        self, tiny_dir: Path, photos: list[Path], batch_size: int, threads: int, workers: int
    ) -> None:
        model = resnet_rs.load(tiny_dir, threads=threads)
        results = list(model.stream(photos, batch_size=batch_size, workers=workers, top_k=3))
        assert [r.index for r in results] == list(range(len(photos)))
        assert [r.path for r in results] == photos
        assert [r.predictions for r in results] == model.predict(photos, top_k=3)
        assert_telling([[p.score for p in r.predictions or []] for r in results])
        assert all(r.vector is None and r.error is None and r.reason is None for r in results)

    @pytest.mark.parametrize("tta", ["hflip", "multiscale"])
    def test_augmented_predictions_are_those_of_predict(
        self, tiny: ResNet, photos: list[Path], tta: str
    ) -> None:
        results = list(stream(tiny, photos[:9], tta=tta, batch_size=4))
        assert [r.predictions for r in results] == tiny.predict(photos[:9], tta=tta)
        assert_telling([[p.score for p in r.predictions or []] for r in results])

    def test_logits_are_those_of_logits(self, tiny: ResNet, photos: list[Path]) -> None:
        vectors = [r.vector for r in stream(tiny, photos, what="logits")]
        assert_telling(vectors)
        np.testing.assert_array_equal(np.stack(vectors), tiny.logits(photos), strict=True)

    @pytest.mark.parametrize("normalize", [False, True])
    @pytest.mark.parametrize("pool", ["avg", "max", "catavgmax"])
    def test_embeddings_are_those_of_embed(
        self, tiny: ResNet, photos: list[Path], pool: str, normalize: bool
    ) -> None:
        results = stream(tiny, photos, what="embed", pool=pool, normalize=normalize)
        expected = tiny.embed(photos, pool=pool, normalize=normalize)
        assert_telling(expected)
        np.testing.assert_array_equal(np.stack([r.vector for r in results]), expected, strict=True)

    def test_maps_are_those_of_embed_without_pool(self, tiny: ResNet, photos: list[Path]) -> None:
        maps = [r.vector for r in stream(tiny, photos[:3], what="embed", pool="none")]
        assert_telling(maps)
        np.testing.assert_array_equal(np.stack(maps), tiny.embed(photos[:3], pool="none"))

    def test_images_that_keep_their_sizes(self, tiny_dir: Path, photos: list[Path]) -> None:
        model = resnet_rs.load(tiny_dir, threads=2, preprocessing={"resize": None, "crop": None})
        several = photos * 2
        assert_telling(model.logits(photos))
        results = list(stream(model, several, what="logits", batch_size=3))
        assert [r.index for r in results] == list(range(len(several)))
        for result, expected in zip(results, model.logits(several), strict=True):
            np.testing.assert_array_equal(result.vector, expected)

    def test_unordered_results_say_which_they_are(self, tiny: ResNet, photos: list[Path]) -> None:
        results = list(stream(tiny, photos, ordered=False, workers=3, batch_size=2))
        assert sorted(r.index for r in results) == list(range(len(photos)))
        assert all(r.path == photos[r.index] for r in results)
        by_index = sorted(results, key=lambda r: r.index)
        assert_telling([[p.score for p in r.predictions or []] for r in by_index])
        assert [r.predictions for r in by_index] == tiny.predict(photos)

    @pytest.mark.parametrize("ordered", [True, False])
    def test_only_ordered_results_wait_for_a_slow_image(
        self, tiny: ResNet, photos: list[Path], ordered: bool
    ) -> None:
        class SlowFile(io.BytesIO):
            def read(self, *size: Any) -> bytes:
                assert may_read.wait(HANG_SECONDS)
                return super().read(*size)

        may_read = threading.Event()
        images = [SlowFile(photos[0].read_bytes()), *photos[1:7]]
        first: list[int] = []
        with stream(tiny, images, ordered=ordered, workers=3, batch_size=2) as results:

            def take() -> None:
                first.extend(next(results).index for _ in range(4))

            consumer = threading.Thread(target=take)
            consumer.start()
            # Three batches of two are computed while the first image is still being read.
            wait_until(lambda: results.times.batches == 3)
            if ordered:
                assert first == []
            else:
                consumer.join(HANG_SECONDS)
                assert len(first) == 4
                assert 0 not in first
            may_read.set()
            consumer.join(HANG_SECONDS)
            assert sorted([*first, *(r.index for r in results)]) == list(range(7))
        if ordered:
            assert first == [0, 1, 2, 3]

    def test_other_kinds_of_image(self, tiny: ResNet, photos: list[Path]) -> None:
        path = photos[0]
        with Image.open(path) as image:
            pixels = np.asarray(image)
            kinds = [str(path), path.read_bytes(), io.BytesIO(path.read_bytes()), image, pixels]
            results = list(stream(tiny, kinds))
        assert_telling(tiny.logits(photos[:2]))
        assert [r.predictions for r in results] == [tiny.predict(path)] * len(kinds)

    def test_no_images(self, tiny: ResNet) -> None:
        assert list(stream(tiny, [])) == []
        assert list(stream(tiny, iter(()))) == []

    def test_a_vector_that_is_kept_keeps_no_batch(self, tiny: ResNet, photos: list[Path]) -> None:
        for result in stream(tiny, photos, what="embed"):
            assert result.vector is not None
            assert result.vector.base is None

    def test_times_count_the_work(self, tiny: ResNet, photos: list[Path]) -> None:
        with stream(tiny, photos, batch_size=4) as results:
            assert len(list(results)) == len(photos)
            times = results.times
        assert times.loaded == len(photos)
        assert times.batches >= -(-len(photos) // 4)
        assert times.load_s > 0
        assert times.compute_s > 0


class TestErrors:
    @pytest.mark.parametrize(
        ("path", "error", "reason"),
        [
            ("a.jpg", None, None),
            ("a.jpg", MemoryError("3 bytes"), "out of memory: 3 bytes"),
            ("a.jpg", OSError(2, "No such file", "a.jpg"), "No such file"),
            ("a.jpg", OSError("timed out"), "timed out"),
            ("a.jpg", OSError(), "OSError"),
            ("a.jpg", ValueError(), "ValueError"),
            ("a.jpg", ImageError("'a.jpg': is empty"), "is empty"),
            (Path("a.jpg"), ImageError("'a.jpg': is empty"), "is empty"),
            (b"a.jpg", ImageError("'a.jpg': is empty"), "'a.jpg': is empty"),
            ("a.jpg", ValueError("'a.jpg': is empty"), "'a.jpg': is empty"),
        ],
    )
    def test_reason_is_the_error_without_the_path(
        self, path: Any, error: Exception | None, reason: str | None
    ) -> None:
        assert Result(0, path, error=error).reason == reason

    def test_bad_files_are_results_and_the_others_go_on(
        self, tiny: ResNet, photos: list[Path], tmp_path: Path
    ) -> None:
        broken, empty = tmp_path / "broken.png", tmp_path / "empty.png"
        broken.write_bytes(photos[0].read_bytes()[:-30])
        empty.touch()
        missing = tmp_path / "missing.png"
        paths: list[Any] = [photos[0], broken, photos[1], empty, missing, tmp_path, b"no image"]
        paths += [3, np.zeros((2, 2), np.float32), "bad\0name"]
        paths += [np.zeros((0, 2, 3), np.uint8), io.BytesIO(), Image.new("F", (4, 4)), photos[2]]
        results = list(stream(tiny, paths, batch_size=2))
        good = [0, 2, len(paths) - 1]
        assert [r.index for r in results if r.error is None] == good
        assert [results[i].predictions for i in good] == tiny.predict(photos[:3])
        assert_telling([[p.score for p in results[i].predictions or []] for i in good])
        reasons = [r.reason for r in results]
        assert all(r.predictions is None for r in results if r.error is not None)
        assert isinstance(results[1].error, resnet_rs.ImageError)
        assert "truncated or damaged" in reasons[1]
        assert str(broken) not in reasons[1]
        assert reasons[3] == "the file is empty (0 bytes)"
        assert isinstance(results[4].error, FileNotFoundError)
        assert reasons[4] == "No such file or directory"
        assert reasons[5] == "Is a directory"
        assert "no image in a format that Pillow knows" in reasons[6]
        assert "got int" in reasons[7]
        assert "must be uint8" in reasons[8]
        assert "holds no NUL" in reasons[9]
        assert "at least one pixel" in reasons[10]
        assert "the file is empty (0 bytes)" in reasons[11]
        assert "scale it to 0..255" in reasons[12]

    def test_source_that_raises_does_so_after_its_results(
        self, tiny: ResNet, photos: list[Path]
    ) -> None:
        def source() -> Iterator[Path]:
            yield from photos[:5]
            raise LookupError("the list ends here")

        results = stream(tiny, source())
        assert [next(results).index for _ in range(5)] == [0, 1, 2, 3, 4]
        with pytest.raises(LookupError, match="ends here"):
            next(results)
        assert our_threads() == []
        assert list(results) == []

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"what": "guess"}, ValueError, "predict"),
            ({"batch_size": 0}, ValueError, "batch_size must be at least 1"),
            ({"batch_size": "8"}, TypeError, "batch_size must be an int"),
            ({"workers": 0}, ValueError, "workers must be at least 1"),
            ({"top_k": 0}, ValueError, "top_k must be at least 1"),
            ({"ordered": 1}, TypeError, "ordered must be True or False"),
            ({"tta": "vflip"}, ValueError, "10crop"),
            ({"what": "embed", "pool": "min"}, ValueError, "avgmax"),
            ({"what": "embed", "pool": "none", "normalize": True}, ValueError, "gives a map"),
        ],
    )
    def test_bad_arguments_at_once(
        self, tiny: ResNet, options: dict[str, Any], error: type[Exception], message: str
    ) -> None:
        with pytest.raises(error, match=message):
            stream(tiny, [], **options)

    @pytest.mark.parametrize("paths", ["photo.jpg", b"photo", 3])
    def test_one_path_is_no_iterable_of_paths(self, tiny: ResNet, paths: Any) -> None:
        with pytest.raises(TypeError, match="iterable of paths"):
            stream(tiny, paths)

    def test_model_without_classes(self, tiny_dir: Path, photos: list[Path]) -> None:
        model = resnet_rs.load(tiny_dir, num_classes=0)
        with pytest.raises(ValueError, match="no classes"):
            stream(model, photos)
        vectors = [r.vector for r in stream(model, photos, what="logits")]
        assert_telling(vectors)
        np.testing.assert_array_equal(np.stack(vectors), model.logits(photos))


class TestLaziness:
    def test_endless_source_is_read_a_little_ahead(self, tiny: ResNet, photos: list[Path]) -> None:
        taken = 0

        def source() -> Iterator[Path]:
            nonlocal taken
            for path in itertools.cycle(photos):
                taken += 1
                yield path

        batch_size, workers = 4, 3
        window = 3 * batch_size * tiny.threads + 2 * workers
        with stream(tiny, source(), batch_size=batch_size, workers=workers) as results:
            assert taken == 0, "it is read before a result is asked for"
            for given, _ in enumerate(itertools.islice(results, 300), start=1):
                # The reader may have one more in hand than there is room for.
                assert taken <= given + window + 1
            # However long the consumer takes, no more is read.
            time.sleep(0.2)
            assert taken <= 300 + window + 1
        assert our_threads() == []

    def test_source_that_pauses_does_not_hold_up_what_is_there(
        self, tiny: ResNet, photos: list[Path]
    ) -> None:
        more = threading.Event()

        def source() -> Iterator[Path]:
            yield from photos[:3]
            assert more.wait(HANG_SECONDS)
            yield photos[3]

        with stream(tiny, source(), batch_size=8) as results:
            # None of these makes a full batch, and the source has said nothing of its end.
            assert [next(results).index for _ in range(3)] == [0, 1, 2]
            more.set()
            assert [r.index for r in results] == [3]


class TestThreads:
    def test_none_are_left_after_the_last_result(self, tiny: ResNet, photos: list[Path]) -> None:
        list(stream(tiny, photos))
        assert our_threads() == []

    def test_none_are_started_before_the_first(self, tiny: ResNet, photos: list[Path]) -> None:
        results = stream(tiny, photos)
        assert our_threads() == []
        results.close()
        assert list(results) == []

    def test_close_stops_them(self, tiny: ResNet, photos: list[Path]) -> None:
        results = stream(tiny, itertools.cycle(photos))
        next(results)
        assert our_threads()
        results.close()
        results.close()
        assert our_threads() == []
        assert list(results) == []

    def test_leaving_a_loop_stops_them(self, tiny: ResNet, photos: list[Path]) -> None:
        for result in stream(tiny, itertools.cycle(photos)):
            if result.index == 10:
                break
        wait_until(lambda: our_threads() == [])

    def test_interrupt_while_waiting_stops_them(self, tiny: ResNet, photos: list[Path]) -> None:
        more = threading.Event()

        def source() -> Iterator[Path]:
            yield photos[0]
            more.wait(HANG_SECONDS)

        results = stream(tiny, source())
        next(results)
        main = threading.main_thread().ident
        timer = threading.Timer(0.1, signal.pthread_kill, [main, signal.SIGINT])
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            next(results)
        # The source blocks, and its thread with it; the others are gone.
        assert our_threads() == ["resnet_rs-read"]
        more.set()
        wait_until(lambda: our_threads() == [])
        timer.join()

    def test_program_that_forgets_a_stream_ends(self, tiny_dir: Path, photos: list[Path]) -> None:
        script = """
            import itertools, sys, resnet_rs
            model = resnet_rs.load(sys.argv[1])
            results = model.stream(itertools.cycle(sys.argv[2:]))
            next(results)
            print("done")
        """
        command = [sys.executable, "-c", textwrap.dedent(script), tiny_dir, *photos[:3]]
        result = subprocess.run(
            list(map(str, command)), capture_output=True, text=True, timeout=HANG_SECONDS
        )
        assert (result.returncode, result.stdout, result.stderr) == (0, "done\n", "")

    def test_forked_child_leaves_its_parents_stream_alone(
        self, tiny_dir: Path, photos: list[Path]
    ) -> None:
        script = """
            import itertools, os, sys, resnet_rs
            model = resnet_rs.load(sys.argv[1])
            results = model.stream(itertools.cycle(sys.argv[2:]))
            next(results)
            for _ in range(20):  # some of them while a thread holds the lock
                if (child := os.fork()) == 0:
                    try:
                        next(results)
                    except RuntimeError as error:
                        assert "begin one here" in str(error)
                        del results
                        sys.exit(7)
                assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
                next(results)
            print("done")
        """
        command = [sys.executable, "-c", textwrap.dedent(script), tiny_dir, *photos[:3]]
        result = subprocess.run(
            list(map(str, command)), capture_output=True, text=True, timeout=HANG_SECONDS
        )
        assert (result.returncode, result.stdout) == (0, "done\n"), result.stderr

    def test_two_streams_at_once(self, tiny: ResNet, photos: list[Path]) -> None:
        expected = tiny.predict(photos)
        assert_telling([[p.score for p in predictions] for predictions in expected])
        pairs = list(zip(stream(tiny, photos), stream(tiny, photos, batch_size=2), strict=True))
        assert [a.predictions for a, _ in pairs] == expected
        assert [b.predictions for _, b in pairs] == expected

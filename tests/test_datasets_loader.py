"""Batches of labelled photos: the same bits for any number of workers, and threads that end."""

from __future__ import annotations

import gc
import itertools
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from labelled_photos import write_classes, write_photo
from telling_rows import assert_telling
from tiny_model import write_tiny_model

import resnet_rs
from resnet_rs import ImageError
from resnet_rs.datasets import DataError, Labelled, read
from resnet_rs.datasets import loader as loader_module
from resnet_rs.datasets.augment import Augment, image_draws, rotated
from resnet_rs.datasets.checks import check
from resnet_rs.datasets.loader import Batch, Loader, measuring
from resnet_rs.datasets.photos import PhotoCache

# A hang is what these waits end; nothing here takes this long.
HANG_SECONDS = 60
ORDER = [0, 12, 9, 7, 3, 10, 11, 5, 8, 1, 6, 4, 2]
ALL = Augment(
    flip=True,
    rotation=10,
    brightness=0.3,
    contrast=0.3,
    saturation=0.3,
    erasing=0.5,
    mixup=0.3,
    cutmix=1.0,
)
PIXELS = np.random.default_rng(2).integers(0, 256, (13, 20, 24, 3), dtype=np.uint8)
ARRAYS = Labelled(PIXELS, np.arange(13) % 3, ("a", "b", "c"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of two sizes, PNG and JPEG."""
    folder = write_classes(tmp_path_factory.mktemp("photos"), {"a": 9, "b": 10})
    for number in range(4):
        write_photo(folder / f"b/large{number}.jpg", 50 + number, size=(300, 200))
    return folder


@pytest.fixture(scope="module")
def photos(folder: Path) -> Labelled:
    return read(folder, val_fraction=0).train


def our_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("resnet_rs-")]


def wait_until(condition: Any) -> None:
    end = time.monotonic() + HANG_SECONDS
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def assert_same(found: list[Batch], expected: list[Batch]) -> None:
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        for name in ("x", "y", "indices"):
            assert np.array_equal(getattr(one, name), getattr(other, name)), name


class TestBatches:
    def test_shapes_and_types(self, photos: Labelled) -> None:
        batches = list(Loader(photos, batch_size=8, size=16, augment=Augment()).epoch(0))
        assert [batch.x.shape for batch in batches] == [
            (8, 16, 16, 3),
            (8, 16, 16, 3),
            (7, 16, 16, 3),
        ]
        for batch in batches:
            assert batch.x.dtype == np.float32
            assert batch.x.flags.c_contiguous
            assert batch.y.dtype == batch.indices.dtype == np.int64
            assert np.array_equal(batch.y, photos.labels[batch.indices])
        assert_telling([batch.x.reshape(-1)[:100] for batch in batches])
        indices = np.concatenate([batch.indices for batch in batches])
        assert sorted(indices.tolist()) == list(range(23))
        assert indices.tolist() != list(range(23))

    def test_mixed_batches_have_soft_targets(self, photos: Labelled) -> None:
        for batch in Loader(photos, batch_size=8, size=16, augment=ALL).epoch(0):
            assert batch.y.shape == (len(batch.indices), 2)
            assert batch.y.dtype == np.float32
            assert batch.x.flags.c_contiguous

    def test_photos_to_measure_on_are_those_of_predictions(
        self, photos: Labelled, tmp_path: Path
    ) -> None:
        loader = Loader(photos, batch_size=10, size=16)
        assert loader.preprocessing == measuring(16)
        write_tiny_model(tmp_path / "tiny")
        model = resnet_rs.load(tmp_path / "tiny", preprocessing=loader.preprocessing.as_dict())
        (first, second, third) = loader.epoch(7)
        assert first.indices.tolist() == list(range(10))
        assert len(third.indices) == 3
        assert len(second.x) == 10
        expected = model.preprocess(list(photos.images[:10]))
        assert first.x.tobytes() == expected.tobytes()

    def test_rectangles_are_erased_to_the_mean(self) -> None:
        (batch,) = Loader(
            ARRAYS, batch_size=13, size=16, augment=Augment(erasing=1.0), mean=(0.501, 0.502, 0.503)
        ).epoch()
        erased = (batch.x == 0).all(axis=3).sum(axis=(1, 2))
        assert (erased > 0).all()
        assert (erased < 0.4 * 256).all()

    def test_whole_photos_without_random_crops(self) -> None:
        loader = Loader(ARRAYS, batch_size=13, size=16, augment=Augment(scale=None))
        (batch,) = loader.epoch()
        (expected,) = Loader(ARRAYS, batch_size=13, size=16).epoch()
        assert np.array_equal(batch.x, expected.x[batch.indices])
        (cropped,) = Loader(ARRAYS, batch_size=13, size=16, augment=Augment()).epoch()
        differ = (cropped.x != expected.x[cropped.indices]).any(axis=(1, 2, 3))
        assert differ.all()

    def test_whole_photos_are_rotated(self) -> None:
        augment = Augment(scale=None, rotation=90)
        loader = Loader(ARRAYS, batch_size=13, size=16, augment=augment)
        (batch,) = loader.epoch()
        fill = [round(255 * value) for value in loader.preprocessing.mean]
        angles = [180 * image_draws(0, 0, index)[0] - 90 for index in range(13)]
        turned = [rotated(photo, angle, fill) for photo, angle in zip(PIXELS, angles, strict=True)]
        photos = Labelled(np.stack(turned), ARRAYS.labels, ARRAYS.classes)
        (expected,) = Loader(photos, batch_size=13, size=16).epoch()
        assert np.array_equal(batch.x, expected.x[batch.indices])

    @pytest.mark.parametrize("channels", [1, 3, 5])
    def test_channels(self, channels: int) -> None:
        pixels = np.random.default_rng(1).integers(0, 256, (4, 20, 24, channels), dtype=np.uint8)
        photos = Labelled(pixels, np.arange(4) % 2, ("a", "b"))
        for augment in (None, Augment(flip=True, rotation=9), Augment(scale=None)):
            loader = Loader(photos, batch_size=4, size=16, augment=augment)
            (batch,) = loader.epoch()
            assert batch.x.shape == (4, 16, 16, channels)
            assert len(loader.preprocessing.mean) == channels

    def test_files_as_grey(self, photos: Labelled) -> None:
        for augment in (None, Augment(brightness=0.5, saturation=0.5)):
            loader = Loader(photos, batch_size=8, size=16, channels=1, augment=augment)
            assert next(loader.epoch()).x.shape == (8, 16, 16, 1)

    def test_preprocessing_for_measuring(self) -> None:
        assert measuring(224).as_dict() == resnet_rs.images.spec.preset("IMAGENET1K_V2")
        assert measuring(64).resize == 66
        assert measuring(64, resize=64).resize == 64
        spec = Loader(ARRAYS, batch_size=4, size=8, resize=11, mean=(0.1, 0.2, 0.3)).preprocessing
        assert spec == measuring(8, resize=11, mean=(0.1, 0.2, 0.3))
        with pytest.raises(ValueError, match="resize must be at least 1"):
            measuring(64, resize=0)
        with pytest.raises(ValueError, match="mean must be 3 numbers"):
            measuring(64, mean=(0.5,))
        with pytest.raises(ValueError, match="std must be above 0"):
            measuring(64, std=(0.5, 0.0, 0.5))
        with pytest.raises(ValueError, match="size must be at least 1"):
            measuring(0)


class TestLastBatch:
    @staticmethod
    def sizes(**options: Any) -> list[int]:
        return [len(batch.x) for batch in Loader(ARRAYS, size=8, **options).epoch()]

    def test_one_photo_is_left_out_of_training_and_said(self) -> None:
        loader = Loader(ARRAYS, batch_size=4, size=8, augment=Augment())
        assert [len(batch.x) for batch in loader.epoch()] == [4, 4, 4]
        assert len(loader) == 3
        assert loader.remarks == (
            "1 of 13 photos left out of each epoch, others each time: batch norm cannot learn from "
            "a last batch of one photo",
        )
        out = {
            int(
                np.setdiff1d(np.arange(13), np.concatenate([b.indices for b in loader.epoch(e)]))[0]
            )
            for e in range(6)
        }
        assert len(out) > 2

    def test_other_rests_are_kept_unless_asked(self) -> None:
        assert self.sizes(batch_size=5, augment=Augment()) == [5, 5, 3]
        assert self.sizes(batch_size=5, augment=Augment(), drop_last=True) == [5, 5]
        assert self.sizes(batch_size=1, augment=Augment()) == [1] * 13
        assert self.sizes(batch_size=100, augment=Augment()) == [13]

    def test_no_photo_is_left_out_of_measuring(self) -> None:
        assert self.sizes(batch_size=4) == [4, 4, 4, 1]
        assert self.sizes(batch_size=4, drop_last=True) == [4, 4, 4]

    def test_too_few_photos(self) -> None:
        one = ARRAYS.subset([0])
        with pytest.raises(
            DataError, match=r"photos for a batch of 2 or more; found 1: add photos$"
        ):
            Loader(one, batch_size=4, size=8, augment=Augment())
        with pytest.raises(DataError, match=r"a batch of 14 or more; found 13.*smaller batch_size"):
            Loader(ARRAYS, batch_size=14, size=8, drop_last=True)
        assert list(Loader(ARRAYS.subset([]), batch_size=4, size=8).epoch()) == []


@pytest.fixture(scope="module")
def expected(photos: Labelled) -> list[list[Batch]]:
    """Three epochs, made by one thread."""
    loader = Loader(photos, batch_size=5, size=16, augment=ALL, seed=4, workers=1)
    epochs = [list(loader.epoch(epoch)) for epoch in range(3)]
    assert not np.array_equal(epochs[0][0].indices, epochs[1][0].indices)
    assert_telling([batch.x.reshape(-1)[:100] for epoch in epochs for batch in epoch])
    return epochs


class TestSameBits:
    @pytest.mark.parametrize("workers", [1, 2, 4])
    @pytest.mark.parametrize("limit", [0, 3000, None])
    def test_workers_and_cache_do_not_matter(
        self, photos: Labelled, expected: list[list[Batch]], workers: int, limit: int | None
    ) -> None:
        cache = PhotoCache(limit)
        loader = Loader(
            photos, batch_size=5, size=16, augment=ALL, seed=4, workers=workers, cache=cache
        )
        for epoch in (2, 0, 1):
            assert_same(list(loader.epoch(epoch)), expected[epoch])
        assert len(cache) == {0: 0, None: 23}.get(limit, len(cache))

    def test_resumed_in_any_epoch(self, photos: Labelled, expected: list[list[Batch]]) -> None:
        loader = Loader(photos, batch_size=5, size=16, augment=ALL, seed=4)
        assert_same(list(loader.epoch(2)), expected[2])
        rest = loader.epoch(1, skip=2)
        assert len(rest) == 3
        assert_same(list(rest), expected[1][2:])
        assert list(loader.epoch(1, skip=9)) == []

    def test_a_photo_does_not_depend_on_its_batch(self, photos: Labelled) -> None:
        plain = Augment(flip=True, rotation=10, brightness=0.3, erasing=0.5)
        by_index: list[dict[int, bytes]] = []
        for batch_size in (5, 8):
            loader = Loader(photos, batch_size=batch_size, size=16, augment=plain)
            batches = list(loader.epoch(3))
            by_index.append(
                {
                    int(index): x.tobytes()
                    for batch in batches
                    for index, x in zip(batch.indices, batch.x, strict=True)
                }
            )
        assert by_index[0] == by_index[1]

    def test_order_is_the_same_for_every_version(self) -> None:
        loader = Loader(ARRAYS, batch_size=13, size=8, augment=Augment(), seed=5)
        assert next(loader.epoch(2)).indices.tolist() == ORDER

    def test_seeds_differ(self, photos: Labelled) -> None:
        first, second = (
            next(Loader(photos, batch_size=5, size=16, augment=Augment(), seed=seed).epoch())
            for seed in (0, 1)
        )
        assert not np.array_equal(first.x, second.x)

    def test_photos_of_a_check_are_not_read_again(self, folder: Path, tmp_path: Path) -> None:
        copy = tmp_path / "copy"
        shutil.copytree(folder, copy)
        split = read(copy, val_fraction=0)
        loader = Loader(split.train, batch_size=5, size=16, augment=Augment())
        check(split, reader=loader.reader, cache=loader.cache)
        shutil.rmtree(copy)
        assert len(list(loader.epoch())) == 5


class TestThreads:
    @pytest.fixture(autouse=True)
    def no_thread_is_left(self) -> Iterator[None]:
        yield
        gc.collect()
        wait_until(lambda: our_threads() == [])

    def test_they_begin_with_the_epoch_and_end_with_it(self, photos: Labelled) -> None:
        batches = Loader(photos, batch_size=5, size=16, workers=2).epoch()
        assert {name.split("-")[1] for name in our_threads()} >= {"work"}
        assert len(list(batches)) == 5
        assert our_threads() == []
        assert next(batches, None) is None

    def test_they_end_when_the_caller_stops(self, photos: Labelled) -> None:
        loader = Loader(photos, batch_size=2, size=16, workers=2)
        with loader.epoch() as batches:
            next(batches)
        assert our_threads() == []
        batches = loader.epoch()
        next(batches)
        batches.close()
        assert our_threads() == []
        dropped = loader.epoch()
        next(dropped)
        del dropped

    def test_two_epochs_at_once(self, photos: Labelled) -> None:
        loader = Loader(photos, batch_size=5, size=16, augment=Augment())
        expected = [list(loader.epoch(epoch)) for epoch in (0, 1)]
        pairs = list(zip(loader.epoch(0), loader.epoch(1), strict=True))
        for place, epoch in enumerate(expected):
            assert_same([pair[place] for pair in pairs], epoch)

    def test_error_of_a_photo_reaches_the_caller(self, folder: Path, tmp_path: Path) -> None:
        copy = tmp_path / "copy"
        shutil.copytree(folder, copy)
        photos = read(copy, val_fraction=0).train
        (copy / "b/003.png").write_bytes(b"")
        batches = Loader(photos, batch_size=4, size=16, workers=2).epoch()
        next(batches)
        with pytest.raises(ImageError, match=r"b/003\.png': the file is empty"):
            list(batches)
        assert our_threads() == []

    def test_error_of_the_program_reaches_the_caller(
        self, photos: Labelled, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(loader_module, "read_pixels", broken)
        with pytest.raises(ZeroDivisionError):
            list(Loader(photos, batch_size=4, size=16, workers=2).epoch())
        assert our_threads() == []

    def test_interrupt_reaches_the_caller(
        self, photos: Labelled, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        go_on = threading.Event()

        def slow(*_: object) -> Any:
            go_on.wait(HANG_SECONDS)
            raise OSError

        monkeypatch.setattr(loader_module, "read_pixels", slow)
        batches = Loader(photos, batch_size=4, size=16, workers=2).epoch()
        main = threading.main_thread().ident

        def interrupt() -> None:
            signal.pthread_kill(main, signal.SIGINT)
            # The threads are waited for, each at its photo.
            go_on.set()

        timer = threading.Timer(0.1, interrupt)
        timer.start()
        try:
            with pytest.raises(KeyboardInterrupt):
                next(batches)
        finally:
            timer.join()
        assert our_threads() == []

    def test_waits_are_counted(self, photos: Labelled, monkeypatch: pytest.MonkeyPatch) -> None:
        ticks = itertools.count()
        clock = SimpleNamespace(perf_counter=lambda: float(next(ticks)))
        monkeypatch.setattr(loader_module, "time", clock)
        loader = Loader(photos, batch_size=5, size=16, workers=1)
        with loader.epoch() as batches:
            for count, _ in enumerate(batches, 1):
                assert batches.waited_s == count
        list(loader.epoch())
        assert loader.waited_s == 2 * batches.waited_s == 12

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
    def test_forked_child_can_load(self, folder: Path) -> None:
        script = """
            import os, sys
            from resnet_rs.datasets import read
            from resnet_rs.datasets.loader import Loader
            loader = Loader(read(sys.argv[1]).train, batch_size=2, size=16, workers=3)
            for _ in range(10):  # some of them while a thread holds the lock of the cache
                batches = loader.epoch()
                next(batches)
                if (child := os.fork()) == 0:
                    try:
                        next(batches)
                    except RuntimeError as error:
                        assert "begin one here" in str(error)
                        count = len(list(loader.epoch()))
                        os._exit(7 if count == len(loader) else 1)
                assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
                batches.close()
            print("done")
        """
        command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script), str(folder)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=HANG_SECONDS)
        assert (result.returncode, result.stdout) == (0, "done\n"), result.stderr

    def test_program_that_forgets_an_epoch_ends(self, folder: Path) -> None:
        script = """
            import sys
            from resnet_rs.datasets import read
            from resnet_rs.datasets.loader import Loader
            batches = Loader(read(sys.argv[1]).train, batch_size=2, size=16, workers=3).epoch()
            next(batches)
            print("done")
        """
        command = [sys.executable, "-c", textwrap.dedent(script), str(folder)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=HANG_SECONDS)
        assert (result.returncode, result.stdout, result.stderr) == (0, "done\n", "")


class TestArguments:
    @pytest.mark.parametrize(
        ("options", "error", "words"),
        [
            ({"batch_size": 0}, ValueError, "batch_size must be at least 1"),
            ({"size": 1.5}, TypeError, "size must be an int"),
            ({"workers": 0}, ValueError, "workers must be at least 1"),
            ({"seed": 1 << 64}, ValueError, "seed must be at most"),
            ({"drop_last": 1}, TypeError, "drop_last must be True or False"),
            ({"channels": 1}, ValueError, "channels must be 3, as the photos have"),
            ({"mean": (0.5, 0.5)}, ValueError, "mean must be 3 numbers"),
        ],
    )
    def test_bad_arguments(
        self, options: dict[str, Any], error: type[Exception], words: str
    ) -> None:
        with pytest.raises(error, match=words):
            Loader(ARRAYS, **{"batch_size": 4, "size": 8, **options})

    def test_bad_epochs(self) -> None:
        loader = Loader(ARRAYS, batch_size=4, size=8)
        with pytest.raises(ValueError, match="number must be at least 0"):
            loader.epoch(-1)
        with pytest.raises(TypeError, match="skip must be an int"):
            loader.epoch(0, skip=0.5)  # type: ignore[arg-type]

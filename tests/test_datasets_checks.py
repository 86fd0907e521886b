"""Labelled photos are checked before training; what would spoil it is an error or a remark."""

from __future__ import annotations

import shutil
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labelled_photos import write_classes, write_photo
from PIL import Image
from torchvision.transforms.v2 import functional

from resnet_rs import ImageError
from resnet_rs.datasets import DataError, Labelled, Split, read
from resnet_rs.datasets.checks import check
from resnet_rs.datasets.memory import available_bytes
from resnet_rs.datasets.photos import PhotoCache, Prepared, Reduced, channels_of, read_pixels
from resnet_rs.images.options import DEFAULT, Decoding
from resnet_rs.images.preprocess import load_pixels
from resnet_rs.images.spec import Preprocessing

SPEC = Preprocessing(20, 16, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


class TestCheck:
    def test_good_photos_give_no_remark(self, tmp_path: Path) -> None:
        write_classes(tmp_path, {"a": 15, "b": 14})
        split = read(tmp_path)
        seen = []
        report = check(split, watch=lambda *numbers: seen.append(numbers))
        assert report.remarks == ()
        assert report.dropped == ()
        assert report.train.images == split.train.images
        assert report.val.images == split.val.images
        assert seen == [(i + 1, 0) for i in range(29)]
        with pytest.raises(FrozenInstanceError):
            report.remarks = ("x",)  # type: ignore[misc]

    @pytest.mark.parametrize("workers", [1, 4])
    def test_unreadable_photos_are_left_out(self, tmp_path: Path, workers: int) -> None:
        write_classes(tmp_path / "train", {"a": 12, "b": 12})
        write_classes(tmp_path / "val", {"a": 2, "b": 2}, start=100)
        damage(tmp_path / "train/a/003.png")
        (tmp_path / "train/b/001.png").write_bytes(b"")
        (tmp_path / "val/b/001.png").write_text("no picture")
        report = check(read(tmp_path), workers=workers)
        assert len(report.train) == 22
        assert len(report.val) == 3
        assert [(drop.part, Path(drop.name).name) for drop in report.dropped] == [
            ("train", "003.png"),
            ("train", "001.png"),
            ("val", "001.png"),
        ]
        assert "the file is empty" in report.dropped[1].reason
        train, val = report.remarks
        assert train.startswith("train: 2 photos cannot be read and are left out: ")
        assert "a/003.png" in train
        assert val.startswith("val: 1 photo cannot be read and is left out: ")

    def test_many_unreadable_photos_are_counted(self, tmp_path: Path) -> None:
        write_classes(tmp_path, {"a": 12, "b": 12})
        for number in range(5):
            damage(tmp_path / f"a/{number:03}.png")
        report = check(read(tmp_path, val_fraction=0))
        assert report.remarks[0].startswith("train: 5 photos cannot be read and are left out: ")
        assert report.remarks[0].endswith("; and 2 more")
        assert report.remarks[0].count("a/00") == 3

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"on_error": "ignore"}, "on_error must be one of 'skip', 'raise'"),
            ({"duplicates": "skip"}, "duplicates must be one of None, 'drop', 'keep', 'raise'"),
            ({"workers": 0}, "workers must be at least 1"),
        ],
    )
    def test_bad_arguments(self, options: dict[str, Any], words: str) -> None:
        photos = Labelled(np.zeros((4, 2, 2, 3), np.uint8), np.arange(4) % 2, ("a", "b"))
        with pytest.raises(ValueError, match=words):
            check(read(photos), **options)

    def test_unreadable_photo_is_an_error_if_asked(self, tmp_path: Path) -> None:
        write_classes(tmp_path, {"a": 12, "b": 12})
        damage(tmp_path / "a/003.png")
        with pytest.raises(ImageError, match=r"a/003\.png"):
            check(read(tmp_path), on_error="raise")

    def test_all_unreadable_is_an_error(self, tmp_path: Path) -> None:
        write_classes(tmp_path / "train", {"a": 2, "b": 2})
        write_classes(tmp_path / "val", {"a": 2, "b": 2})
        for path in (tmp_path / "val").rglob("*.png"):
            damage(path)
        with pytest.raises(DataError, match=r"^val: .* not one of 4 photos can.*val/a/000\.png"):
            check(read(tmp_path))
        for path in tmp_path.rglob("*.png"):
            damage(path)
        with pytest.raises(DataError, match=r"^train: .* not one of 4 photos can. The first: "):
            check(read(tmp_path))

    def test_class_whose_photos_cannot_be_read_is_an_error(self, tmp_path: Path) -> None:
        write_classes(tmp_path, {"a": 5, "b": 2})
        for path in (tmp_path / "b").iterdir():
            damage(path)
        with pytest.raises(DataError, match=r"none for 1 class: 'b'.*cannot be read: .*b/00"):
            check(read(tmp_path))

    def test_empty_class_is_an_error(self, tmp_path: Path) -> None:
        write_classes(tmp_path, {"a": 5, "b": 2, "c": 0})
        with pytest.raises(DataError, match=r"for each class; found none for 1 class: 'c'. Add"):
            check(read(tmp_path))

    def test_one_class_is_an_error(self, tmp_path: Path) -> None:
        write_classes(tmp_path, {"a": 5})
        with pytest.raises(DataError, match="two classes or more; found one, 'a', with 4 photos"):
            check(read(tmp_path))

    def test_no_photo_is_an_error(self) -> None:
        nothing = Labelled((), np.empty(0, int), ("a", "b"))
        with pytest.raises(DataError, match="found none"):
            check(Split(nothing, nothing, True, ()))

    def test_small_and_uneven_classes_are_remarked_on(self, tmp_path: Path) -> None:
        write_classes(tmp_path, {"a": 25, "b": 1, "c": 4})
        few, uneven, val = check(read(tmp_path)).remarks
        assert "2 classes have fewer than 10 photos" in few
        assert few.endswith(": b (1), c (3)")
        assert uneven.startswith("train: 'a' has 20 photos and 'b' has 1. ")
        assert val.endswith("no photo of 1 class, on which nothing is measured: 'b'")

    def test_no_remark_on_photos_to_measure_on_that_nobody_wants(self, tmp_path: Path) -> None:
        write_classes(tmp_path, {"a": 12, "b": 12})
        split = read(tmp_path, val_fraction=0)
        assert split.remarks == check(split).remarks == ()

    def test_arrays_are_checked_too(self) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 3), dtype=np.uint8)
        pixels[29] = pixels[0]
        labels = np.arange(30) % 2
        split = read((pixels[:20], labels[:20]), val=(pixels[20:], labels[20:]))
        report = check(split, duplicates="drop")
        assert [(drop.part, drop.name) for drop in report.dropped] == [("val", "image 9")]
        assert len(report.val) == 9
        assert "one picture has several labels: image 0 (0), image 9 (1)" in report.remarks


class TestDuplicates:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """Two photos of val are in train: the same bytes, and the same pixels in another file."""
        write_classes(tmp_path / "train", {"a": 12, "b": 12})
        write_classes(tmp_path / "val", {"a": 3, "b": 3}, start=100)
        shutil.copy(tmp_path / "train/a/002.png", tmp_path / "val/a/copy.png")
        Image.open(tmp_path / "train/b/003.png").save(tmp_path / "val/b/other.bmp")
        return tmp_path

    def test_those_of_a_val_that_was_given_are_kept_and_said(self, folder: Path) -> None:
        report = check(read(folder))
        assert len(report.val) == 8
        (remark,) = report.remarks
        assert remark.startswith("val: 2 photos of 8 with the pixels of a photo of train, such as ")
        assert "val/a/copy.png and " in remark
        assert "accuracy on val is too high" in remark

    def test_they_are_left_out_if_asked(self, folder: Path) -> None:
        report = check(read(folder), duplicates="drop")
        assert len(report.val) == 6
        assert len(report.train) == 24
        assert [Path(drop.name).name for drop in report.dropped] == ["copy.png", "other.bmp"]
        assert report.dropped[1].reason.endswith("train/b/003.png")
        assert report.remarks[0].endswith("left out of val")

    def test_they_are_an_error_if_asked(self, folder: Path) -> None:
        with pytest.raises(DataError, match="2 photos of 8"):
            check(read(folder), duplicates="raise")

    def test_those_of_a_val_that_was_drawn_are_left_out(self, tmp_path: Path) -> None:
        write_classes(tmp_path, {"a": 20, "b": 20})
        for number in range(20):
            shutil.copy(tmp_path / f"a/{number:03}.png", tmp_path / f"a/x{number:03}.png")
        split = read(tmp_path)
        report = check(split)
        names = {Path(path).name.lstrip("x") for path in report.train.images if "a" in path.parts}
        kept = {Path(path).name.lstrip("x") for path in report.val.images if "a" in path.parts}
        assert not names & kept
        assert len(report.val) < len(split.val)

    def test_copies_inside_a_part_and_several_labels_are_said(self, tmp_path: Path) -> None:
        write_classes(tmp_path, {"a": 12, "b": 12})
        shutil.copy(tmp_path / "a/002.png", tmp_path / "b/copy.png")
        report = check(read(tmp_path, val_fraction=0))
        copies, several = report.remarks
        assert copies == "train: 1 photo with the pixels of another one there"
        assert several.startswith("one picture has several labels: ")
        assert several.endswith("b/copy.png (b)")


class TestReaders:
    def test_reduced_photos_are_those_of_torchvision(self, tmp_path: Path) -> None:
        path = write_photo(tmp_path / "1.png", 1, size=(70, 50))
        expected = functional.resize(Image.open(path), [32], antialias=True)
        assert np.array_equal(Reduced(32)(path), np.asarray(expected))

    def test_small_photos_stay_as_they_are(self, tmp_path: Path) -> None:
        path = write_photo(tmp_path / "1.png", 1, size=(70, 50))
        for side in (50, 300):
            assert np.array_equal(Reduced(side)(path), np.asarray(Image.open(path)))
        assert Reduced(32, channels=1)(path).shape == (32, 44, 1)

    def test_large_jpeg_files_are_decoded_at_a_reduced_size(self, tmp_path: Path) -> None:
        path = write_photo(tmp_path / "1.jpg", 1, size=(800, 600))
        image = Image.open(path)
        image.draft(None, (100, 75))
        expected = functional.resize(image, [32], antialias=True)
        assert np.array_equal(Reduced(32)(path), np.asarray(expected))

    def test_photos_to_measure_on_are_those_of_predictions(self, tmp_path: Path) -> None:
        path = write_photo(tmp_path / "1.png", 1, size=(70, 50))
        assert np.array_equal(Prepared(SPEC)(path), load_pixels(path, SPEC, 3, DEFAULT))
        assert Prepared(SPEC, channels=1)(path).shape == (16, 16, 1)

    def test_photos_are_turned_upright(self, tmp_path: Path) -> None:
        path = write_photo(tmp_path / "1.png", 1, size=(30, 20))
        turned = Image.open(path)
        exif = turned.getexif()
        exif[0x0112] = 6
        turned.save(tmp_path / "2.png", exif=exif)
        assert np.array_equal(Reduced(40)(tmp_path / "2.png"), np.rot90(Reduced(40)(path), -1))
        plain = Reduced(40, choices=Decoding(exif=False))
        assert np.array_equal(plain(tmp_path / "2.png"), Reduced(40)(path))

    def test_reader_for_crops_leaves_a_margin(self) -> None:
        assert Reduced.for_crops(64) == Reduced(96)
        assert Reduced.for_crops(33) == Reduced(50)

    def test_number_of_channels(self) -> None:
        pixels = Labelled(np.zeros((1, 2, 2, 5), np.uint8), np.zeros(1, int), ("a",))
        paths = Labelled((), np.zeros(0, int), ("a",))
        assert channels_of(pixels, None) == channels_of(pixels, 5) == 5
        assert channels_of(paths, None) == 3
        assert channels_of(paths, 1) == 1
        with pytest.raises(ValueError, match="channels must be 5, as the photos have; got 3"):
            channels_of(pixels, 3)


class TestCache:
    def test_photos_are_read_once(self, tmp_path: Path) -> None:
        photos = read(write_classes(tmp_path, {"a": 3, "b": 3}), val_fraction=0).train
        cache, reader = PhotoCache(), Reduced(12)
        first = [read_pixels(photos, index, reader, cache) for index in range(6)]
        assert len(cache) == 6
        assert not cache.is_full
        assert cache.nbytes == sum(pixels.nbytes for pixels in first) == 6 * 12 * 16 * 3
        shutil.rmtree(tmp_path / "a")
        assert read_pixels(photos, 0, Reduced(12), cache) is first[0]
        with pytest.raises(FileNotFoundError):
            read_pixels(photos, 0, Reduced(11), cache)
        with pytest.raises(ValueError, match="read-only"):
            first[0][:] = 0

    def test_full_cache_reads_anew(self, tmp_path: Path) -> None:
        photos = read(write_classes(tmp_path, {"a": 3, "b": 3}), val_fraction=0).train
        reader = Reduced(12)
        cache = PhotoCache(2 * 12 * 16 * 3)
        for _ in range(2):
            for index in range(6):
                pixels = read_pixels(photos, index, reader, cache)
                assert np.array_equal(pixels, reader(photos.images[index]))
        assert len(cache) == 2
        assert cache.is_full

    def test_check_fills_it_with_the_photos_to_learn_from(self, tmp_path: Path) -> None:
        write_classes(tmp_path, {"a": 10, "b": 10})
        cache = PhotoCache()
        check(read(tmp_path), reader=Reduced(12), cache=cache)
        assert len(cache) == 16

    def test_default_limit_is_a_share_of_the_memory(self) -> None:
        assert 0 < PhotoCache().limit < available_bytes()
        with pytest.raises(ValueError, match="limit"):
            PhotoCache(-1)


class TestMemory:
    @staticmethod
    def write(root: Path, files: dict[str, str]) -> Path:
        for name, text in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return root

    MEMINFO = "MemTotal:  9999 kB\nMemFree:  10 kB\nMemAvailable:    4096 kB\n"

    def test_machine_alone(self, tmp_path: Path) -> None:
        assert available_bytes(self.write(tmp_path, {"proc/meminfo": self.MEMINFO})) == 4096 << 10

    def test_group_of_version_2_and_those_around_it(self, tmp_path: Path) -> None:
        files = {
            "proc/meminfo": self.MEMINFO,
            "proc/self/cgroup": "0::/box/job\n",
            "sys/fs/cgroup/box/job/memory.max": "max\n",
            "sys/fs/cgroup/box/job/memory.current": "5\n",
            "sys/fs/cgroup/box/memory.max": "100000\n",
            "sys/fs/cgroup/box/memory.current": "60000\n",
            "sys/fs/cgroup/box/memory.stat": "anon 1\ninactive_file 20000\n",
        }
        assert available_bytes(self.write(tmp_path, files)) == 60_000

    def test_group_of_version_1(self, tmp_path: Path) -> None:
        files = {
            "proc/meminfo": self.MEMINFO,
            "proc/self/cgroup": "5:cpu,cpuacct:/a\n4:memory:/not/seen/here\n0::/\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "90000\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": "95000\n",
            "sys/fs/cgroup/memory/memory.stat": "inactive_file 1\ntotal_inactive_file 7000\n",
        }
        assert available_bytes(self.write(tmp_path, files)) == 2_000
        self.write(tmp_path, {"sys/fs/cgroup/memory/memory.stat": ""})
        assert available_bytes(tmp_path) == 0

    def test_systems_that_do_not_say(self, tmp_path: Path) -> None:
        assert available_bytes(tmp_path) > 0

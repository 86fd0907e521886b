"""Labelled photos are found in folders, tables and arrays, and divided by a seed."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labelled_photos import write_classes, write_photo
from torchvision.datasets import ImageFolder

from resnet_rs import datasets
from resnet_rs.datasets import DataError, Labelled, read, read_part
from resnet_rs.images import Decoding

PINNED = ["3", "7", "8", "9"]
PIXELS = np.arange(6 * 4 * 5 * 3, dtype=np.uint8).reshape(6, 4, 5, 3)


def names_of(photos: Labelled) -> list[tuple[str, str]]:
    """The class and the file name of each photo."""
    return [
        (photos.classes[label], path.name)
        for path, label in zip(photos.images, photos.labels, strict=True)
    ]


class TestLabelled:
    def test_values_are_kept_and_never_changed(self) -> None:
        labels = np.array([0, 1, 1, 0, 2, 2], np.int32)
        photos = Labelled(PIXELS, labels, ("a", "b", "c"))
        labels[:] = 0
        assert photos.labels.tolist() == [0, 1, 1, 0, 2, 2]
        assert photos.labels.dtype == np.int64
        assert photos.counts().tolist() == [2, 2, 2]
        assert len(photos) == 6
        with pytest.raises(ValueError, match="read-only"):
            photos.labels[0] = 1

    def test_subset_keeps_the_classes(self) -> None:
        photos = Labelled(PIXELS, np.array([0, 1, 1, 0, 2, 2]), ("a", "b", "c")).subset([3, 1])
        assert photos.labels.tolist() == [0, 1]
        assert photos.classes == ("a", "b", "c")
        assert np.array_equal(photos.images, PIXELS[[3, 1]])

    def test_pixels_without_channels_are_grey(self) -> None:
        photos = Labelled(PIXELS[..., 0], np.zeros(6, int), ("a",))
        assert isinstance(photos.images, np.ndarray)
        assert photos.images.shape == (6, 4, 5, 1)

    @pytest.mark.parametrize(
        ("images", "labels", "classes", "error", "words"),
        [
            (PIXELS, [0, 1, 2, 0, 1, 3], "abc", DataError, "from 0 to 2.*found 3 at index 5"),
            (PIXELS, [1, 2, 3, 1, 4, 5], "abc", DataError, "and 2 more.*labels - 1"),
            (PIXELS, [0, -1, 2, 0, 1, 1], "abc", DataError, "found -1 at index 1"),
            (PIXELS, [0, 1], "abc", DataError, "6 photos and 2 labels"),
            (PIXELS, [0.0] * 6, "abc", TypeError, "float64.*astype"),
            (PIXELS, [[0]] * 6, "abc", ValueError, r"\[6, 1\]"),
            (PIXELS / 255, [0] * 6, "abc", TypeError, "float64.*astype"),
            (PIXELS.transpose(0, 3, 1, 2), [0] * 6, "abc", ValueError, "transpose"),
            (PIXELS[0, 0], [0] * 6, "abc", ValueError, r"\[5, 3\]"),
            (PIXELS[:, :0], [0] * 6, "abc", ValueError, "at least one pixel"),
            ("photos", [0] * 6, "abc", TypeError, "list of paths"),
            ([b"x"], [0], "abc", TypeError, "bytes"),
            (PIXELS, [0] * 6, ("a", "a"), ValueError, "different.*'a'"),
            (PIXELS, [0] * 6, (), ValueError, "one or more"),
            (PIXELS, [0] * 6, (0, 1), TypeError, "names"),
        ],
    )
    def test_bad_values_are_refused(
        self, images: Any, labels: Any, classes: Any, error: type[Exception], words: str
    ) -> None:
        classes = tuple(classes)
        with pytest.raises(error, match=words):
            Labelled(images, np.array(labels), classes)


class TestFolders:
    def test_each_folder_is_a_class_as_in_torchvision(self, tmp_path: Path) -> None:
        write_classes(tmp_path, {"10": 2, "2": 3, "cat": 1, "Dog": 2})
        for inner in ("a/x.png", "a-b/y.png", "z.png", "a/b/c.png"):
            write_photo(tmp_path / "2" / inner, 1)
        photos, remarks = read_part(tmp_path)
        theirs = ImageFolder(os.fspath(tmp_path))
        assert photos.classes == tuple(theirs.classes) == ("10", "2", "Dog", "cat")
        assert [(os.fspath(path), label) for path, label in theirs.samples] == list(
            zip(map(os.fspath, photos.images), photos.labels.tolist(), strict=True)
        )
        assert remarks == ()

    def test_other_files_are_counted(self, tmp_path: Path) -> None:
        write_classes(tmp_path, {"a": 1, "b": 1})
        write_photo(tmp_path / ".hidden/1.png", 3)
        write_photo(tmp_path / "a/.2.png", 3)
        write_photo(tmp_path / "__MACOSX/1.png", 3)
        write_photo(tmp_path / "loose.png", 3)
        (tmp_path / "a/notes.TXT").write_text("x")
        (tmp_path / "readme.md").write_text("x")
        photos, remarks = read_part(tmp_path)
        assert names_of(photos) == [("a", "000.png"), ("b", "000.png")]
        loose, others = remarks
        assert "1 photo that no folder gives a class: 'loose.png'" in loose
        assert "2 files without the suffix of a photo: 1 .md, 1 .txt" in others

    def test_links_to_classes_are_followed(self, tmp_path: Path) -> None:
        write_classes(tmp_path / "all", {"a": 1, "b": 1, "c": 1})
        few = tmp_path / "few"
        few.mkdir()
        for name in "ac":
            (few / name).symlink_to(tmp_path / "all" / name)
        (few / "a" / "round").symlink_to(few)
        photos, remarks = read_part(few)
        assert photos.images == (few / "a/000.png", few / "c/000.png")
        assert "1 link to folders below a class" in remarks[0]

    @pytest.mark.parametrize("name", ["val", "valid", "validation", "Val"])
    def test_parts_are_read(self, tmp_path: Path, name: str) -> None:
        write_classes(tmp_path / "train", {"a": 2, "b": 3, "c": 1})
        write_classes(tmp_path / name, {"c": 1, "a": 2}, start=100)
        write_classes(tmp_path / "test", {"a": 1}, start=200)
        (tmp_path / "models").mkdir()
        split = read(tmp_path)
        assert split.train.counts().tolist() == [2, 3, 1]
        assert split.val.counts().tolist() == [2, 0, 1]
        assert split.val.classes == ("a", "b", "c")
        assert not split.drawn
        assert any("test is not used" in remark for remark in split.remarks)
        assert any("'models'" in remark for remark in split.remarks)
        assert len(read_part(tmp_path, part="test")[0]) == 1
        assert len(read_part(tmp_path)[0]) == 3

    def test_validation_is_drawn_from_train_alone(self, tmp_path: Path) -> None:
        write_classes(tmp_path / "train", {"a": 5, "b": 5})
        write_classes(tmp_path / "test", {"a": 1}, start=200)
        split = read(tmp_path)
        assert split.val.counts().tolist() == [1, 1]
        assert split.drawn
        assert all("train" in path.parts for path in split.val.images if isinstance(path, Path))

    def test_classes_may_be_called_train_and_test(self, tmp_path: Path) -> None:
        write_classes(tmp_path, {"train": 2, "ship": 2, "test": 1})
        photos, _ = read_part(tmp_path)
        assert photos.classes == ("ship", "test", "train")

    def test_unknown_class_of_val_is_named(self, tmp_path: Path) -> None:
        write_classes(tmp_path / "train", {"cat": 2, "dog": 2})
        write_classes(tmp_path / "val", {"cat": 1, "dgo": 1})
        with pytest.raises(DataError, match=r"val: 1 class is not.*'dgo'. Expected 'cat', 'dog'"):
            read(tmp_path)

    def test_val_may_be_elsewhere(self, tmp_path: Path) -> None:
        write_classes(tmp_path / "x", {"a": 4, "b": 4})
        write_classes(tmp_path / "y", {"b": 3}, start=100)
        split = read(tmp_path / "x", val=tmp_path / "y")
        assert len(split.train) == 8
        assert split.val.counts().tolist() == [0, 3]

    def test_classes_of_a_network_give_the_order(self, tmp_path: Path) -> None:
        write_classes(tmp_path, {"a": 1, "b": 2})
        photos, _ = read_part(tmp_path, classes=("b", "x", "a"))
        assert photos.classes == ("b", "x", "a")
        assert photos.counts().tolist() == [2, 0, 1]
        with pytest.raises(DataError, match="'b'"):
            read_part(tmp_path, classes=("a",))

    def test_folders_without_labelled_photos_say_what_is_there(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"CLASS/photo.jpg; found no folder"):
            read(tmp_path)
        write_photo(tmp_path / "1.png", 1)
        with pytest.raises(DataError, match="1 photo in no folder: move"):
            read(tmp_path)
        (tmp_path / "labels.csv").write_text("path,label\n1.png,a\n")
        with pytest.raises(DataError, match=r"pass that file: .*labels\.csv"):
            read(tmp_path)
        (tmp_path / "a").mkdir()
        with pytest.raises(DataError, match="the folders 'a' without a photo"):
            read(tmp_path)

    def test_missing_and_ambiguous_folders(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"expected a folder .*nowhere"):
            read(tmp_path / "nowhere")
        write_classes(tmp_path / "val", {"a": 1})
        with pytest.raises(DataError, match="expected photos to train on; found only val"):
            read(tmp_path)
        write_classes(tmp_path / "train", {"a": 1})
        write_classes(tmp_path / "valid", {"a": 1})
        with pytest.raises(DataError, match="'val', 'valid'"):
            read(tmp_path)

    def test_parts_without_classes_are_refused(self, tmp_path: Path) -> None:
        write_classes(tmp_path, {"train": 2, "test": 2})
        with pytest.raises(DataError, match=r"CLASS/photo.jpg; found no folder in 'test', 'train'"):
            read(tmp_path)

    def test_classes_one_folder_deeper_are_pointed_to(self, tmp_path: Path) -> None:
        write_classes(tmp_path / "Data", {"a": 2, "b": 2})
        with pytest.raises(DataError, match=r"found one folder, 'Data'.*pass .*/Data$"):
            read(tmp_path)
        assert read_part(tmp_path, classes=("Data",))[0].counts().tolist() == [4]

    def test_missing_part_is_named(self, tmp_path: Path) -> None:
        write_classes(tmp_path / "train", {"a": 1})
        write_classes(tmp_path / "test", {"a": 1})
        with pytest.raises(DataError, match="the part 'val'; found test and train"):
            read_part(tmp_path, part="val")
        with pytest.raises(DataError, match="found test and train: say which"):
            read_part(tmp_path)


class TestTables:
    @pytest.fixture
    def photos(self, tmp_path: Path) -> Path:
        return write_classes(tmp_path, {"x": 4})

    @pytest.mark.parametrize(
        "text",
        [
            "path,label\nx/000.png,cat\nx/001.png,dog\n",
            "\ufeffpath,label\r\nx/000.png,cat\r\nx/001.png,dog\r\n",
            "Label;Filename;more\ncat;x/000.png;1\n\ndog;x/001.png;2",
            "image\tclass\nx/000.png\tcat\n x/001.png \t dog \n",
            'file_name,target\n"x/000.png",cat\nx/001.png,"dog"\n',
            "x/000.png,cat\nx/001.png,dog\n",
            "file|class_name\nx/000.png|cat\nx/001.png|dog\nx/001.png|dog\n",
        ],
    )
    def test_dialects(self, photos: Path, text: str) -> None:
        (photos / "labels.csv").write_text(text, encoding="utf-8", newline="")
        found, remarks = read_part(photos / "labels.csv")
        assert found.images == (photos / "x/000.png", photos / "x/001.png")
        assert found.classes == ("cat", "dog")
        assert found.labels.tolist() == [0, 1]
        assert len(remarks) == text.count("001.png|dog") // 2

    def test_split_column(self, photos: Path) -> None:
        table = photos / "labels.csv"
        lines = ["train", "Valid", "test", "training"]
        table.write_text(
            "path,label,split\n"
            + "".join(f"x/{i:03}.png,{'ab'[i % 2]},{part}\n" for i, part in enumerate(lines))
        )
        split = read(table)
        assert names_of(split.train) == [("a", "000.png"), ("b", "003.png")]
        assert names_of(split.val) == [("b", "001.png")]
        assert split.val.labels.tolist() == [1]
        assert names_of(read_part(table, part="test")[0]) == [("a", "002.png")]

    def test_absolute_paths_and_numbers_as_names(self, photos: Path) -> None:
        table = photos / "labels.csv"
        table.write_text(f"path,label\n{photos / 'x/000.png'},10\nx/001.png,2\n")
        found, _ = read_part(table)
        assert found.classes == ("10", "2")
        assert found.images == (photos / "x/000.png", photos / "x/001.png")

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"", "the file is empty; expected a first line"),
            (b"name,kind\nx/000.png,a\n", r"found 'name', 'kind' in the first line"),
            (b"path,label\n", "no line below"),
            (b"path,label\nx/000.png\n", "line 2: expected 2 columns or more, found 1"),
            (b"path,label\nx/000.png,a\nx/001.png,\n", "line 3: the label is empty"),
            (b"path,label\n,a\n", "line 2: the path is empty"),
            (
                b"path,label,split\nx/000.png,a,fold7\n",
                "line 2: expected train, val or test.*fold7",
            ),
            (
                b"path,label\nx/000.jpg,a\n",
                "relative to the table's folder.*no file at any of the 1",
            ),
            (b"path,label\nx/000.png,caf\xe9\n", "line 2: expected UTF-8, found the byte 0xe9"),
            ("path,label\n".encode("utf-16"), "found UTF-16"),
            (b"\x89PNG\0\0", "found a file that is no text"),
            (b'path,label\n"x/' + b"x" * 140_000, "no CSV"),
        ],
    )
    def test_bad_tables_are_refused(self, photos: Path, content: bytes, words: str) -> None:
        (photos / "labels.csv").write_bytes(content)
        with pytest.raises(DataError, match=rf"labels\.csv.*{words}"):
            read(photos / "labels.csv")


class TestValues:
    def test_indices_become_names(self) -> None:
        split = read((PIXELS, [0, 1, 2, 0, 1, 2]), val_fraction=0)
        assert split.train.classes == ("0", "1", "2")
        assert split.train.labels.tolist() == [0, 1, 2, 0, 1, 2]
        assert len(split.val) == 0

    def test_names_become_indices(self) -> None:
        photos, _ = read_part((PIXELS, ["b", "a", "b", "b", "a", "c"]))
        assert photos.classes == ("a", "b", "c")
        assert photos.labels.tolist() == [1, 0, 1, 1, 0, 2]

    def test_no_photo_at_all(self) -> None:
        nothing = (PIXELS[:0], np.array([], str))
        assert read_part(nothing, classes=("a",))[0].classes == ("a",)
        with pytest.raises(ValueError, match="one or more"):
            read_part(nothing)

    def test_val_has_the_classes_of_train(self) -> None:
        split = read((PIXELS, [0, 1, 2, 0, 1, 2]), val=(PIXELS[:2], [1, 0]))
        assert split.val.classes == ("0", "1", "2")
        with pytest.raises(DataError, match="from 0 to 2"):
            read((PIXELS, [0, 1, 2, 0, 1, 2]), val=(PIXELS[:2], [3, 0]))
        with pytest.raises(DataError, match="found 2 at index 2"):
            read((PIXELS, [0, 1, 2, 0, 1, 2]), classes=("cat", "dog"))

    def test_paths_with_labels(self, tmp_path: Path) -> None:
        paths = [write_photo(tmp_path / f"{i}.png", i) for i in range(4)]
        photos, _ = read_part((paths, [0, 1, 0, 1]))
        assert photos.images == tuple(paths)

    def test_labelled_is_taken_as_it_is(self) -> None:
        photos = Labelled(PIXELS, np.array([0, 1, 0, 1, 0, 1]), ("x", "y"))
        assert read_part(photos)[0] is photos
        assert read(photos, val=photos).val.labels.tolist() == photos.labels.tolist()

    @pytest.mark.parametrize(
        ("arguments", "error", "words"),
        [
            ({"data": 7}, TypeError, "a folder with a folder of photos.*got int"),
            ({"data": "x", "val_fraction": 1.0}, ValueError, "val_fraction.*1.0"),
            ({"data": "x", "val_fraction": "0.2"}, TypeError, "val_fraction"),
            ({"data": "x", "seed": -1}, ValueError, "seed must be at least 0"),
            ({"data": "x", "seed": 0.5}, TypeError, "seed must be an int"),
            ({"data": (PIXELS, [0] * 6), "classes": "ab"}, TypeError, "classes"),
        ],
    )
    def test_bad_arguments(
        self, arguments: dict[str, Any], error: type[Exception], words: str
    ) -> None:
        with pytest.raises(error, match=words):
            read(**arguments)


class TestSplit:
    @staticmethod
    def of(counts: list[int]) -> Labelled:
        labels = np.repeat(np.arange(len(counts)), counts)
        images = tuple(Path(f"{i}") for i in range(len(labels)))
        return Labelled(images, labels, tuple(map(str, range(len(counts)))))

    @pytest.mark.parametrize(
        ("counts", "fraction", "val"),
        [
            ([10, 20, 30], 0.2, [2, 4, 6]),
            ([30, 30], 0.1, [3, 3]),
            ([1, 1, 10], 0.5, [0, 0, 6]),  # a class with one photo gives none
            ([2, 2], 0.9, [1, 1]),
            ([5, 5], 0.0, [0, 0]),
            ([7], 0.5, [4]),
        ],
    )
    def test_each_class_gives_its_share(
        self, counts: list[int], fraction: float, val: list[int]
    ) -> None:
        split = read(self.of(counts), val_fraction=fraction)
        assert split.val.counts().tolist() == val
        assert (split.train.counts() + split.val.counts()).tolist() == counts
        both = {*split.train.images, *split.val.images}
        assert len(both) == sum(counts)

    def test_small_shares_add_up(self) -> None:
        split = read(self.of([4] * 100), val_fraction=0.1)
        assert split.val.counts().sum() == 40
        assert split.val.counts().max() == 1

    def test_split_is_a_function_of_the_seed(self) -> None:
        photos = self.of([40, 40])
        assert read(photos, seed=3).val.images == read(photos, seed=3).val.images
        drawn = {read(photos, seed=seed).val.images for seed in range(5)}
        assert len(drawn) == 5
        # The numbers are the same for every version and machine.
        assert [path.name for path in read(photos, seed=3).val.images[:4]] == PINNED

    def test_order_of_the_file_system_does_not_matter(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_classes(tmp_path, {"a": 12, "b": 9})
        before = read(tmp_path)
        scandir = os.scandir

        class Reversed:
            def __init__(self, path: Any) -> None:
                self.entries = sorted(scandir(path), key=lambda entry: entry.name, reverse=True)

            def __enter__(self) -> Any:
                return iter(self.entries)

            def __exit__(self, *_: object) -> None:
                pass

        monkeypatch.setattr(os, "scandir", Reversed)
        after = read(tmp_path)
        assert after.val.images == before.val.images
        assert after.train.images == before.train.images


DEFAULTS: dict[str, dict[str, Any]] = {
    "read": {"val": None, "val_fraction": 0.2, "seed": 0, "classes": None},
    "read_part": {"part": None, "classes": None},
    "check": {
        "reader": None,
        "cache": None,
        "on_error": "skip",
        "duplicates": None,
        "workers": None,
        "watch": None,
    },
    "Augment": {
        "scale": (0.35, 1.0),
        "ratio": (0.75, 4 / 3),
        "flip": False,
        "rotation": 0.0,
        "brightness": 0.0,
        "contrast": 0.0,
        "saturation": 0.0,
        "erasing": 0.0,
        "mixup": 0.0,
        "cutmix": 0.0,
    },
    "Loader": {
        "resize": None,
        "mean": None,
        "std": None,
        "preprocessing": None,
        "augment": None,
        "seed": 0,
        "workers": None,
        "cache": None,
        "drop_last": False,
        "channels": None,
        "choices": Decoding(),
    },
    "measuring": {"resize": None, "channels": 3, "mean": None, "std": None},
    "PhotoCache": {"limit": None},
}


def test_defaults_are_stated_a_second_time() -> None:
    """Every public name of the room; one without a row has no defaults."""
    for name in datasets.__all__:
        thing = getattr(datasets, name)
        found = {} if is_error(thing) else inspect.signature(thing).parameters
        defaults = {one.name: one.default for one in found.values() if one.default is not one.empty}
        assert defaults == DEFAULTS.get(name, {}), name


def is_error(thing: Any) -> bool:
    return inspect.isclass(thing) and issubclass(thing, Exception)

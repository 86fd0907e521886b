"""Pictures of evaluations and trainings: sizes, colours where they belong, odd input."""

from __future__ import annotations

import errno
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from resnet_rs.evaluation import Evaluation, measure
from resnet_rs.evaluation.pictures import (
    batch_mosaic,
    confusion_matrix,
    learning_curves,
    mistake_mosaic,
    save,
)
from resnet_rs.evaluation.pictures.canvas import (
    BLUE,
    PALE,
    RED,
    SCALE,
    Canvas,
    font_for,
    shortened,
    text_width,
)
from resnet_rs.evaluation.pictures.curves import TRAIN, VAL
from resnet_rs.evaluation.pictures.mosaics import as_pixels, label_texts
from resnet_rs.evaluation.pictures.ticks import linear, logarithmic


def answers(classes: int, labels: list[int], given: list[int], **options: object) -> Evaluation:
    return measure(np.eye(classes, dtype=np.float32)[given], labels, **options)


def colours(picture: Image.Image) -> dict[tuple[int, int, int], int]:
    """The number of pixels of each colour."""
    return {colour: count for count, colour in picture.getcolors(picture.width * picture.height)}


class TestConfusionMatrix:
    def test_right_answers_are_blue_and_wrong_ones_red(self) -> None:
        right = colours(confusion_matrix(answers(3, [0, 1, 2], [0, 1, 2])))
        # Three cells in full colour, less their numbers; the legend has single rows of it.
        cell = (46 * SCALE) ** 2
        assert 2.5 * cell < right[BLUE] < 3.5 * cell
        assert right.get(RED, 0) < 0.1 * cell
        wrong = colours(confusion_matrix(answers(3, [0, 1, 2], [1, 2, 0])))
        assert 2.5 * cell < wrong[RED] < 3.5 * cell
        assert wrong.get(BLUE, 0) < 0.1 * cell

    def test_cell_stands_in_the_row_of_the_label(self) -> None:
        picture = np.asarray(confusion_matrix(answers(2, [0, 1, 1], [1, 1, 1])))
        down, across = np.nonzero((picture == RED).all(axis=2))
        below, beside = np.nonzero((picture == BLUE).all(axis=2))
        # The label 0 was given 1: the upper right cell is red, and the lower right one blue.
        assert np.median(down) < np.median(below)
        assert abs(np.median(across) - np.median(beside)) < 4

    @pytest.mark.parametrize("classes", [1, 2, 7, 21, 60, 128, 1000])
    def test_any_number_of_classes(self, classes: int) -> None:
        labels = list(range(classes))
        picture = confusion_matrix(answers(classes, labels, labels[::-1]))
        assert picture.mode == "RGB"
        assert 200 < picture.width < 2600
        assert abs(picture.width - picture.height) < 700

    def test_classes_that_do_not_occur_are_left_out(self) -> None:
        some = confusion_matrix(answers(1000, [4, 70], [4, 99]))
        assert some.width == confusion_matrix(answers(3, [0, 1], [0, 2])).width

    def test_long_names_are_turned_and_cut(self) -> None:
        short = confusion_matrix(answers(4, [0, 1, 2, 3], [0, 1, 2, 3]))
        names = [f"{index}, a name that is much longer than any cell is wide" for index in range(4)]
        long = confusion_matrix(measure(np.eye(4), [0, 1, 2, 3], names))
        assert short.height + 80 < long.height < short.height + 300

    def test_rare_mistakes_are_seen(self) -> None:
        labels = [0] * 500 + [1] * 500
        given = [1, *labels[1:]]
        found = colours(confusion_matrix(answers(2, labels, given)))
        reddish = [c for c, n in found.items() if n > 5000 and c[0] > c[1] + 20 and c[0] > 200]
        assert reddish, "a share of 0.2 % has a colour of its own"


class TestMistakeMosaic:
    @pytest.fixture
    def photos(self, tmp_path: Path) -> list[str]:
        paths = []
        for index, size in enumerate(((40, 40), (80, 20), (20, 80))):
            path = tmp_path / f"{index}.png"
            Image.new("RGB", size, (10, 200, 30)).save(path)
            paths.append(str(path))
        return paths

    def test_whole_photos_are_shown(self, photos: list[str]) -> None:
        evaluation = answers(2, [0, 0, 0], [1, 1, 1], images=photos)
        found = colours(mistake_mosaic(evaluation))
        side = (150 * SCALE) ** 2
        # The square photo fills its tile, and the long ones a fourth of theirs.
        assert found[10, 200, 30] == pytest.approx(1.5 * side, rel=0.02)
        assert found[PALE] == pytest.approx(1.5 * side, rel=0.02)

    def test_photo_that_is_gone_is_a_pale_tile(self) -> None:
        evaluation = answers(2, [0], [1], images=["gone.jpg"])
        assert colours(mistake_mosaic(evaluation))[PALE] > 0.9 * (150 * SCALE) ** 2

    def test_array_and_unknown_image(self) -> None:
        array = np.full((8, 8, 3), 77, np.uint8)
        evaluation = answers(2, [0, 0], [1, 1], images=[array, None])
        assert colours(mistake_mosaic(evaluation))[77, 77, 77] == (150 * SCALE) ** 2

    def test_only_some_are_drawn(self, photos: list[str]) -> None:
        evaluation = answers(2, [0] * 30, [1] * 30, images=photos * 10)
        few, many = mistake_mosaic(evaluation, 4), mistake_mosaic(evaluation, 30)
        assert few.height < many.height / 3
        with pytest.raises(ValueError, match="most must be at least 1"):
            mistake_mosaic(evaluation, 0)

    def test_no_mistake_is_a_picture_too(self) -> None:
        assert mistake_mosaic(answers(2, [0, 1], [0, 1])).height > 50


class TestBatchMosaic:
    MEAN, STD = (0.5, 0.25, 0.75), (0.2, 0.1, 0.4)

    def test_normalisation_is_undone(self) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 4, 3)).astype(np.uint8)
        x = ((pixels / 255 - self.MEAN) / self.STD).astype(np.float32)
        assert (as_pixels(x, self.MEAN, self.STD) == pixels).all()

    def test_values_beyond_black_and_white(self) -> None:
        x = np.float32([[[[-9, 9, np.nan], [1.2509, 1, 1]]]])
        pixels = as_pixels(x, (0, 0, 0), (0.8, 1, 1))
        assert pixels.tolist() == [[[[0, 255, 0], [255, 255, 255]]]]

    def test_pixels_are_squares_of_one_colour(self) -> None:
        x = np.zeros((1, 2, 2, 3), np.float32)
        picture = batch_mosaic(x, np.array([0]), ["a"], mean=self.MEAN, std=self.STD)
        expected = tuple(np.round(np.array(self.MEAN) * 255).astype(int).tolist())
        assert colours(picture)[expected] == (96 * SCALE) ** 2

    @pytest.mark.parametrize("shape", [(3, 300, 200, 3), (40, 8, 8, 1), (2, 6, 9, 5)])
    def test_other_shapes(self, shape: tuple[int, ...]) -> None:
        x = np.zeros(shape, np.float32)
        labels = np.zeros(shape[0], np.int64)
        values = (0.5,) * shape[3]
        picture = batch_mosaic(x, labels, ["a"], mean=values, std=values)
        assert picture.mode == "RGB"
        assert colours(picture)[128, 128, 128] > 1000

    def test_labels(self) -> None:
        names = ["cat", "dog", "owl"]
        assert label_texts(np.array([2, 0]), 2, names) == ["owl", "cat"]
        soft = np.float32([[0, 0.3, 0.7], [0.05, 0.9, 0.05], [0, 1, 0]])
        assert label_texts(soft, 3, names) == ["owl 70%, dog 30%", "dog", "dog"]
        two = np.float32([[0.95, 0.05], [0.3, 0.7], [0.995, 0.005]])
        assert label_texts(two, 3, names[:2]) == ["cat", "dog 70%, cat 30%", "cat"]
        assert label_texts(np.ones((1, 1)), 1, names[:1]) == ["cat"]

    @pytest.mark.parametrize(
        ("x", "labels", "error", "message"),
        [
            (np.zeros((2, 4, 4)), [0, 0], ValueError, r"\[n, height, width, channels\]"),
            (np.zeros((0, 4, 4, 3)), [], ValueError, "at least one image"),
            (np.zeros((1, 4, 4, 2)), [0], ValueError, "must have 2 values"),
            (np.zeros((1, 4, 4, 3)), [0, 1], ValueError, r"\[1\] or soft labels \[1, 2\]"),
            (np.zeros((1, 4, 4, 3)), [2], ValueError, "from 0 to 1; got 2 to 2"),
            (np.zeros((1, 4, 4, 3)), [0.5], TypeError, "labels must be integers"),
        ],
    )
    def test_messages(
        self, x: np.ndarray, labels: list[float], error: type[Exception], message: str
    ) -> None:
        with pytest.raises(error, match=message):
            batch_mosaic(x, np.array(labels), ["a", "b"], mean=self.MEAN, std=self.STD)


class TestLearningCurves:
    ROWS = tuple(
        {
            "epoch": epoch,
            "train_loss": 2 / epoch,
            "val_loss": 2.5 / epoch,
            "val_accuracy": 1 - 0.8 / epoch,
            "learning_rate": 0.1,
        }
        for epoch in range(1, 11)
    )

    def test_curves_have_their_colours(self) -> None:
        found = colours(learning_curves(self.ROWS))
        assert found[TRAIN] > 300
        assert found[VAL] > 600

    def test_falling_values_fall(self) -> None:
        rows = [{"epoch": one["epoch"], "train_loss": one["train_loss"]} for one in self.ROWS]
        picture = np.asarray(learning_curves(rows))[150:]
        down, across = np.nonzero((picture == TRAIN).all(axis=2))
        left, right = across < np.percentile(across, 10), across > np.percentile(across, 90)
        assert down[left].mean() < down[right].mean() - 100

    def test_plots_without_values_are_left_out(self) -> None:
        rows = [{**one, "learning_rate": None, "val_accuracy": math.nan} for one in self.ROWS]
        assert learning_curves(rows).width < learning_curves(self.ROWS).width / 2

    def test_one_epoch_is_a_dot(self) -> None:
        assert colours(learning_curves(self.ROWS[:1]))[VAL] > 30

    def test_infinite_and_huge_values(self) -> None:
        rows = [dict(one) for one in self.ROWS]
        rows[0]["val_loss"], rows[3]["train_loss"] = 1e30, math.inf
        assert learning_curves(rows).height == learning_curves(self.ROWS).height

    @pytest.mark.parametrize("rows", [[], [{"epoch": 1}], [{"train_loss": 1.0}]])
    def test_nothing_to_draw(self, rows: list[dict[str, float]]) -> None:
        with pytest.raises(ValueError, match="expected rows with an epoch and some of train_loss"):
            learning_curves(rows)


class TestTicks:
    @pytest.mark.parametrize(
        ("values", "labels"),
        [
            ([0.0, 1.0], ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
            ([0.13, 2.2], ["0.0", "0.5", "1.0", "1.5", "2.0", "2.5"]),
            ([0.91, 0.983], ["0.90", "0.92", "0.94", "0.96", "0.98", "1.00"]),
            ([0.0, 3e-4], ["0", "0.0001", "0.0002", "0.0003"]),
            ([5.0, 5.0], ["2", "4", "6", "8"]),
            ([0.0, 0.0], ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
            ([-3.0, 40.0], ["-10", "0", "10", "20", "30", "40"]),
        ],
    )
    def test_are_round(self, values: list[float], labels: list[str]) -> None:
        axis = linear(values)
        assert axis.labels() == labels
        assert axis.low <= min(values)
        assert max(values) <= axis.high
        assert len(axis.ticks) <= 6

    def test_epochs_are_whole(self) -> None:
        assert linear([1, 3], whole=True, snug=True).labels() == ["1", "2", "3"]
        assert linear([1, 60], most=7, whole=True, snug=True).ticks == (10, 20, 30, 40, 50, 60)
        axis = linear([4], whole=True, snug=True)
        assert axis.labels() == ["4"]
        assert axis.place(4) == 0.5

    def test_percent(self) -> None:
        assert linear([0.2, 0.9]).labels(percent=True) == ["20%", "40%", "60%", "80%", "100%"]
        assert linear([0.99, 0.994]).labels(percent=True)[:2] == ["99.0%", "99.1%"]

    def test_logarithmic(self) -> None:
        axis = logarithmic([0.03, 3.0])
        assert axis.labels() == ["0.05", "0.1", "0.2", "0.5", "1", "2"]
        assert axis.place(0.3) == pytest.approx(0.5, abs=0.01)
        assert logarithmic([1e-3, 1e4]).ticks == pytest.approx([10.0**n for n in range(-3, 5)])


class TestText:
    def test_long_text_is_cut(self) -> None:
        cut = shortened("a long name of a class", 11, 60)
        assert cut.endswith("...")
        assert text_width(cut, 11) <= 60
        assert shortened("short", 11, 60) == "short"
        assert shortened("two\nlines", 11, None) == "two lines"

    def test_any_letters_are_drawn(self) -> None:
        canvas = Canvas(200, 40)
        for text in (
            "手势",
            "Äpfel",
            "\U0001f44d",
            "",
            "\udcff".encode("utf-8", "replace").decode(),
        ):
            canvas.text(0, 0, text)
            canvas.turned(10, 30, text)
            assert font_for(text, 11) is not None


class TestSave:
    def test_leaves_no_other_file(self, tmp_path: Path) -> None:
        picture = Image.new("RGB", (8, 8))
        for name in ("a.png", "b.jpg"):
            save(picture, tmp_path / name)
            save(picture, tmp_path / name)
            with Image.open(tmp_path / name) as written:
                assert written.size == (8, 8)
        assert sorted(os.listdir(tmp_path)) == ["a.png", "b.jpg"]

    def test_error_leaves_the_old_file_and_names_it(self, tmp_path: Path) -> None:
        path = tmp_path / "a.png"
        path.write_bytes(b"old")

        def full(*_: object, **__: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with pytest.raises(OSError, match=r"a\.png"):
            save(SimpleNamespace(save=full), path)  # type: ignore[arg-type]
        assert path.read_bytes() == b"old"
        assert os.listdir(tmp_path) == ["a.png"]

    def test_folder_that_is_missing_and_suffix_that_is_unknown(self, tmp_path: Path) -> None:
        picture = Image.new("RGB", (8, 8))
        with pytest.raises(FileNotFoundError) as caught:
            save(picture, tmp_path / "no" / "a.png")
        assert caught.value.filename == str(tmp_path / "no" / "a.png")
        with pytest.raises(ValueError, match="unknown file extension"):
            save(picture, tmp_path / "a.nothing")


def test_pictures_need_no_extra() -> None:
    """Neither matplotlib nor torch is imported for any of them."""
    code = (
        "import sys, numpy as np\n"
        "from resnet_rs.evaluation import measure\n"
        "from resnet_rs.evaluation.pictures import confusion_matrix, learning_curves\n"
        "confusion_matrix(measure(np.eye(3), [0, 1, 1]))\n"
        "learning_curves([{'epoch': 1, 'train_loss': 1.0}])\n"
        "assert not {'matplotlib', 'torch', 'scipy', 'sklearn'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)

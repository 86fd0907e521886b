"""The text in pictures of evaluations: the right words, in their places, legible."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from PIL import Image

from resnet_rs.evaluation import Evaluation, measure
from resnet_rs.evaluation.pictures import (
    batch_mosaic,
    canvas,
    confusion_matrix,
    learning_curves,
    mistake_mosaic,
)
from resnet_rs.evaluation.pictures.canvas import (
    BLUE,
    RED,
    SCALE,
    TEXT,
    WHITE,
    Canvas,
    font_for,
    mix,
    shortened,
    text_width,
)

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Letters:
    """One text on a page: the box around it in pixels, and its colour."""

    text: str
    box: Box
    colour: tuple[int, int, int]

    @property
    def middle(self) -> tuple[float, float]:
        left, top, right, bottom = self.box
        return (left + right) / 2, (top + bottom) / 2


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[Letters]:
    """Every text of the pictures that a test draws."""
    found: list[Letters] = []
    write, turn = Canvas.text, Canvas.turned

    def text(self: Canvas, left: float, top: float, text: str, **style: Any) -> None:
        size, anchor = style.get("size", 11), style.get("anchor", "la")
        shown = shortened(text, size, style.get("width"))
        place = (left * SCALE, top * SCALE)
        box = self._draw.textbbox(place, shown, font=font_for(shown, size), anchor=anchor)
        found.append(Letters(shown, box, style.get("colour", TEXT)))
        write(self, left, top, text, **style)

    def turned(self: Canvas, centre: float, bottom: float, text: str, **style: Any) -> None:
        size = style.get("size", 11)
        shown = shortened(text, size, style.get("width"))
        half, long = size * SCALE / 2, text_width(shown, size) * SCALE
        middle, end = centre * SCALE, bottom * SCALE
        box = (middle - half, end - long, middle + half, end)
        found.append(Letters(shown, box, style.get("colour", TEXT)))
        turn(self, centre, bottom, text, **style)

    monkeypatch.setattr(Canvas, "text", text)
    monkeypatch.setattr(Canvas, "turned", turned)
    return found


def answers(classes: int, labels: list[int], given: list[int], **options: Any) -> Evaluation:
    return measure(np.eye(classes, dtype=np.float32)[given], labels, **options)


def many(classes: int, prefix: str = "") -> Evaluation:
    labels = list(range(classes)) * 2
    names = [f"{prefix}{index}" for index in range(classes)]
    given = labels[:classes] + labels[:classes][::-1]
    images = [f"a/photo-{index}.jpg" for index in range(len(labels))]
    return measure(np.eye(classes)[given], labels, names, images=images)


def rows(count: int, **more: float) -> list[dict[str, float]]:
    return [
        {
            "epoch": epoch,
            "train_loss": 3 / epoch,
            "val_loss": 4 / epoch,
            "train_accuracy": 1 - 0.9 / epoch,
            "val_accuracy": 1 - 0.95 / epoch,
            "learning_rate": 0.1 / epoch,
            **more,
        }
        for epoch in range(1, count + 1)
    ]


def batch(count: int, side: int, names: list[str]) -> Image.Image:
    x = np.zeros((count, side, side, 3), np.float32)
    labels = np.arange(count) % len(names)
    return batch_mosaic(x, labels, names, mean=(0.5,) * 3, std=(0.2,) * 3)


PICTURES: dict[str, Callable[[], Image.Image]] = {
    "two classes": lambda: confusion_matrix(many(2, "a long name ")),
    "ten classes": lambda: confusion_matrix(many(10)),
    "thirty classes": lambda: confusion_matrix(many(30, "a very long name of a class ")),
    "two hundred classes": lambda: confusion_matrix(many(200, "class ")),
    "thousand classes": lambda: confusion_matrix(many(1000)),
    "few mistakes": lambda: mistake_mosaic(answers(2, [0, 1], [1, 1])),
    "many mistakes": lambda: mistake_mosaic(many(40, "a very long name of a class ")),
    "one epoch": lambda: learning_curves(rows(1)),
    "ten epochs": lambda: learning_curves(rows(10)),
    "many epochs": lambda: learning_curves(rows(1234, learning_rate=1e-5)),
    "batch": lambda: batch(17, 32, ["a", "b", "a very long name of a class that is cut"]),
    "batch of one": lambda: batch(1, 300, ["a"]),
}


@pytest.mark.parametrize("name", PICTURES)
def test_text_lies_on_the_page_and_over_no_other(name: str, written: list[Letters]) -> None:
    picture = PICTURES[name]()
    assert len(written) > 2
    for one in written:
        left, top, right, bottom = one.box
        assert 0 < left <= right < picture.width, one
        assert 0 < top <= bottom < picture.height, one
    for one, other in combinations(written, 2):
        beside = one.box[2] <= other.box[0] or other.box[2] <= one.box[0]
        below = one.box[3] <= other.box[1] or other.box[3] <= one.box[1]
        assert beside or below, (one, other)


def texts(written: list[Letters]) -> list[str]:
    return [one.text for one in written]


class TestConfusionMatrix:
    def test_numbers_stand_in_their_cells(self, written: list[Letters]) -> None:
        given = [0] * 20 + [1] * 3 + [2] * 30
        labels = [0] * 23 + [1] * 12 + [2] * 18
        picture = np.asarray(confusion_matrix(answers(3, labels, given)))
        numbers = [one for one in written if one.text in ("20", "3", "12", "18")]
        assert [one.text for one in numbers] == ["20", "3", "12", "18"]
        # The names of the three classes, twice; an empty cell has no number.
        assert texts(written).count("0") == 2
        places = [one.middle for one in numbers]
        cell = 46 * SCALE
        # 20 at (0, 0), 3 at (0, 1), 12 at (1, 2) and 18 at (2, 2).
        for (x, y), (row, column) in zip(places, ((0, 0), (0, 1), (1, 2), (2, 2)), strict=True):
            assert x - places[0][0] == pytest.approx(column * cell, abs=3)
            assert y - places[0][1] == pytest.approx(row * cell, abs=3)
        assert [one.colour for one in numbers] == [WHITE, TEXT, WHITE, WHITE]
        x, y = (round(value) for value in places[3])
        assert tuple(picture[y - cell // 2 + 6, x]) == BLUE
        x, y = (round(value) for value in places[2])
        assert tuple(picture[y - cell // 2 + 6, x]) == RED

    def test_names_stand_beside_their_cells(self, written: list[Letters]) -> None:
        names = ["cat", "dog"]
        confusion_matrix(measure(np.eye(2), [0, 1], names))
        ones = [one.middle for one in written if one.text == "1"]
        cats = [one.middle for one in written if one.text == "cat"]
        assert len(ones) == len(cats) == 2
        beside, above = cats
        assert beside[1] == pytest.approx(ones[0][1], abs=4)
        assert beside[0] < ones[0][0]
        assert above[0] == pytest.approx(ones[0][0], abs=4)
        assert above[1] < ones[0][1]

    def test_title_and_legend(self, written: list[Letters]) -> None:
        confusion_matrix(answers(5, [0, 1, 1, 1], [0, 1, 1, 0]))
        found = texts(written)
        assert "75.00% right: 3 of 4 images" in found
        assert "colours: share of a row's images; 3 classes without images left out" in found
        assert [text for text in found if text.endswith("%")] == ["0%", "25%", "50%", "100%"]
        places = [one.middle[1] for one in written if one.text.endswith("%")]
        assert places == sorted(places, reverse=True)
        for word in ("label", "answer", "right", "wrong"):
            assert word in found

    def test_many_classes_have_names_at_round_steps(self, written: list[Letters]) -> None:
        confusion_matrix(many(1000))
        numbers = [int(text) for text in texts(written) if text.isdecimal()]
        assert numbers[::2] == list(range(0, 1000, 20))
        places = [one.middle for one in written if one.text.isdecimal()][::2]
        assert places[1][1] - places[0][1] == pytest.approx(20 * SCALE, abs=2)


class TestMistakeMosaic:
    def test_each_photo_has_answer_label_and_scores(self, written: list[Letters]) -> None:
        values = np.log(np.float32([[0.2, 0.8], [0.4, 0.6], [0.9, 0.1]]))
        evaluation = measure(values, [0, 0, 0], ["cat", "dog"], images=["a/1.jpg", "b/2.jpg", "3"])
        mistake_mosaic(evaluation)
        found = texts(written)
        assert found[:2] == ["2 mistakes in 3 images", "the most confident first"]
        captions = [text for text in found[2:] if text != "cannot be shown"]
        first = ["answer", "dog", "80.0%", "label", "cat", "20.0%", "1.jpg"]
        second = ["answer", "dog", "60.0%", "label", "cat", "40.0%", "2.jpg"]
        assert captions == first + second
        assert {one.colour for one in written if one.text in ("dog", "80.0%")} == {RED}

    def test_only_some(self, written: list[Letters]) -> None:
        mistake_mosaic(answers(2, [0] * 9, [1] * 9), 4)
        assert "the most confident first; the first 4 of them" in texts(written)
        assert "image 3" in texts(written)
        assert "image 4" not in texts(written)

    def test_plain_scores_are_no_shares(self, written: list[Letters]) -> None:
        mistake_mosaic(measure(np.array([[2.5, 12.0]]), [0], activation="none"))
        assert {"2.5", "12"} <= set(texts(written))


class TestLearningCurves:
    def test_titles_and_legends(self, written: list[Letters]) -> None:
        learning_curves(rows(10))
        found = texts(written)
        assert found[0] == "Best accuracy on val 90.50%, in epoch 10 of 10"
        for word, times in (("train", 2), ("val", 2), ("epoch", 3), ("accuracy", 1), ("loss", 1)):
            assert found.count(word) == times, word
        assert "learning rate" in found
        assert found.count("6") == found.count("8") == 3, "the ticks of the epochs"
        # Each name stands above its own plot.
        title = next(one for one in written if one.text == "accuracy")
        names = [one for one in written if one.text == "val"]
        assert names[0].middle[0] < title.box[0] < names[1].middle[0]

    def test_accuracy_is_in_percent_and_loss_is_not(self, written: list[Letters]) -> None:
        learning_curves([{"epoch": 1, "train_loss": 0.0}, {"epoch": 2, "train_loss": 1.0}])
        assert {"0.0", "0.2", "1.0"} <= set(texts(written))
        written.clear()
        learning_curves([{"epoch": 1, "val_accuracy": 0.0}, {"epoch": 2, "val_accuracy": 1.0}])
        assert {"0%", "20%", "100%"} <= set(texts(written))

    def test_learning_rate_begins_at_zero(self, written: list[Letters]) -> None:
        learning_curves([{"epoch": e, "learning_rate": 0.5 + e / 10} for e in (1, 2, 3)])
        assert {"0.0", "0.2", "0.8"} <= set(texts(written))
        assert "1.0" not in texts(written)

    def test_loss_of_very_different_sizes_is_logarithmic(self, written: list[Letters]) -> None:
        learning_curves(rows(100))
        assert "loss, logarithmic" in texts(written)
        written.clear()
        learning_curves(rows(5))
        assert "loss" in texts(written)

    def test_without_accuracy(self, written: list[Letters]) -> None:
        learning_curves([{"epoch": 7, "train_loss": 1.0}])
        assert texts(written)[0] == "Epoch 7"


class TestBatchMosaic:
    def test_labels_stand_below_their_images(self, written: list[Letters]) -> None:
        x = np.zeros((9, 4, 4, 3), np.float32)
        names = [f"class {index}" for index in range(9)]
        batch_mosaic(x, np.arange(9), names, mean=(0.5,) * 3, std=(1,) * 3)
        found = texts(written)
        assert found[:2] == ["A batch as the network sees it", "4 x 4 pixels"]
        assert found[2:] == names
        places = {one.text: one.middle for one in written}
        # Eight in the first row; the ninth is below the first.
        assert places["class 7"][1] == pytest.approx(places["class 0"][1], abs=2)
        assert places["class 8"][0] == pytest.approx(places["class 0"][0], abs=2)
        assert places["class 8"][1] > places["class 0"][1] + 96 * SCALE

    def test_only_some(self, written: list[Letters]) -> None:
        batch(40, 8, ["a"])
        assert texts(written)[1] == "8 x 8 pixels; the first 32 of 40 images"
        assert texts(written).count("a") == 32


class TestFont:
    def test_common_letters_are_pillows_own(self) -> None:
        assert font_for("cat", 11).getname()[0].startswith("Aileron")

    def test_other_letters_are_a_fonts_that_has_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Font:
            def __init__(self, letters: str) -> None:
                self.letters = letters

            def getmask(self, letter: str) -> bytes:
                pixels = letter.encode() if letter in self.letters else b"box"
                return Mask(pixels)

        class Mask(bytes):
            size = (3, 1)

        fonts = {None: Font("abc"), "some.ttf": Font("abcÄ"), "all.ttf": Font("abcÄ手")}

        def font(name: str | None, size: int) -> Font:
            if name not in fonts:
                raise OSError("cannot open resource")
            return fonts[name]

        monkeypatch.setattr(canvas, "_font", font)
        monkeypatch.setattr(canvas, "_OTHER_FONTS", ("none.ttf", "some.ttf", "all.ttf"))
        chosen = canvas._font_with.__wrapped__
        assert chosen("Ä") == "some.ttf"
        assert chosen("Ä手") == "all.ttf"
        assert chosen("é") is None

    def test_mix(self) -> None:
        assert mix(RED, 0.0) == WHITE
        assert mix(RED, 1.0) == RED
        assert mix((55, 155, 255), 0.5) == (155, 205, 255)

    def test_cut_keeps_as_much_as_fits(self) -> None:
        cut = shortened("abcdefghijklmnop", 11, 60)
        longer = f"{'abcdefghijklmnop'[: len(cut) - 2]}..."
        assert text_width(cut, 11) <= 60 < text_width(longer, 11)

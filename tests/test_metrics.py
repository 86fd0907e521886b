"""Metrics of outputs against labels: values by hand, ties, 0/0, text and JSON."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from resnet_rs.evaluation import Evaluation, measure

# Rows are made so that the answers are 0, 0, 1, 2, 1, 0, and the labels 0, 0, 0, 1, 1, 2.
LABELS = [0, 0, 0, 1, 1, 2]
ANSWERS = [0, 0, 1, 2, 1, 0]
NAMES = ("cat", "dog", "owl", "yak")


def outputs(answers: list[int], classes: int = 4) -> np.ndarray:
    """Logits whose largest is that of the answer; a later row is less sure."""
    values = np.zeros((len(answers), classes), np.float32)
    values[np.arange(len(answers)), answers] = np.maximum(3.0 - 0.25 * np.arange(len(answers)), 0.5)
    return values


@pytest.fixture
def evaluation() -> Evaluation:
    paths = [f"{index}.jpg" for index in range(6)]
    return measure(outputs(ANSWERS), LABELS, NAMES, images=paths)


class TestFigures:
    def test_counts_and_confusion(self, evaluation: Evaluation) -> None:
        assert (evaluation.count, evaluation.correct) == (6, 3)
        assert evaluation.confusion.tolist() == [
            [2, 1, 0, 0],
            [0, 1, 1, 0],
            [1, 0, 0, 0],
            [0, 0, 0, 0],
        ]
        assert evaluation.top1 == 0.5
        assert evaluation.support.tolist() == [3, 2, 1, 0]
        assert evaluation.predicted.tolist() == ANSWERS

    def test_precision_recall_and_f1_of_each_class(self, evaluation: Evaluation) -> None:
        # The answers: 0 three times (two right), 1 twice (one right), 2 once (wrong), 3 never.
        assert evaluation.precision == pytest.approx([2 / 3, 1 / 2, 0, 0])
        assert evaluation.recall == pytest.approx([2 / 3, 1 / 2, 0, 0])
        assert evaluation.f1 == pytest.approx([2 / 3, 1 / 2, 0, 0])

    def test_f1_is_the_harmonic_mean(self) -> None:
        evaluation = measure(outputs([0, 0, 0, 1], 2), [0, 1, 1, 1])
        precision, recall = 1 / 3, 1.0
        assert evaluation.precision == pytest.approx([1 / 3, 1.0])
        assert evaluation.recall == pytest.approx([1.0, 1 / 3])
        assert evaluation.f1[0] == pytest.approx(2 * precision * recall / (precision + recall))

    def test_macro_means_are_over_the_classes_that_occur(self, evaluation: Evaluation) -> None:
        assert evaluation.occurring.tolist() == [0, 1, 2]
        for mean in (evaluation.macro_precision, evaluation.macro_recall, evaluation.macro_f1):
            assert mean == pytest.approx((2 / 3 + 1 / 2) / 3)

    def test_class_that_is_only_an_answer_counts_in_the_means(self) -> None:
        evaluation = measure(outputs([0, 2], 3), [0, 0])
        assert evaluation.occurring.tolist() == [0, 2]
        assert evaluation.macro_precision == pytest.approx(1 / 2)
        assert evaluation.macro_recall == pytest.approx(1 / 4)

    def test_top5_counts_labels_among_the_five_largest(self) -> None:
        values = np.tile(np.arange(7, 0, -1, dtype=np.float32), (7, 1))
        evaluation = measure(values, list(range(7)))
        assert evaluation.top1 == pytest.approx(1 / 7)
        assert evaluation.top5 == pytest.approx(5 / 7)

    def test_top5_of_fewer_classes_is_one(self, evaluation: Evaluation) -> None:
        assert evaluation.top5 == 1.0

    def test_ties_go_to_the_lower_index(self) -> None:
        values = np.zeros((2, 7), np.float32)
        evaluation = measure(values, [4, 5])
        assert evaluation.predicted.tolist() == [0, 0]
        # All are equal: the five first classes are the best five.
        assert evaluation.top5 == 0.5

    def test_cross_entropy(self) -> None:
        evaluation = measure(np.array([[2.0, 0.0], [1000.0, 0.0]]), [0, 1])
        expected = (math.log(1 + math.exp(-2)) + 1000) / 2
        assert evaluation.loss == pytest.approx(expected, rel=1e-12)

    def test_binary_cross_entropy_of_sigmoid(self) -> None:
        evaluation = measure(np.array([[2.0, -1.0]]), [0], activation="sigmoid")
        right = 1 / (1 + math.exp(-2)), 1 - 1 / (1 + math.exp(1))
        assert evaluation.loss == pytest.approx(-sum(map(math.log, right)) / 2, rel=1e-12)
        assert evaluation.scores[0] == pytest.approx(1 / (1 + math.exp(-2)))

    def test_plain_scores_have_no_loss(self) -> None:
        evaluation = measure(np.array([[0.25, 0.75]]), [1], activation="none")
        assert evaluation.scores[0] == 0.75
        assert evaluation.loss is None
        assert evaluation.calibration_error is None
        assert "loss" not in str(evaluation)

    def test_calibration_error(self) -> None:
        # Two answers at 0.75 of which one is right, two at 0.95 that are right.
        sure = [math.log(p / (1 - p)) for p in (0.75, 0.75, 0.95, 0.95)]
        values = np.array([[z, 0.0] for z in sure])
        evaluation = measure(values, [0, 1, 0, 0])
        expected = (2 * abs(0.75 - 0.5) + 2 * abs(0.95 - 1)) / 4
        assert evaluation.calibration_error == pytest.approx(expected, rel=1e-6)

    def test_arrays_are_read_only(self, evaluation: Evaluation) -> None:
        with pytest.raises(ValueError, match="read-only"):
            evaluation.confusion[0, 0] = 9


class TestMistakes:
    def test_most_confident_first(self, evaluation: Evaluation) -> None:
        mistakes = evaluation.mistakes()
        assert [one.index for one in mistakes] == [2, 3, 5]
        first = mistakes[0]
        assert (first.image, first.label, first.predicted) == ("2.jpg", 0, 1)
        assert first.score == pytest.approx(math.exp(2.5) / (math.exp(2.5) + 3))
        assert first.label_score == pytest.approx(1 / (math.exp(2.5) + 3))
        assert evaluation.mistakes(2) == mistakes[:2]
        assert evaluation.mistakes(0) == []

    def test_equal_scores_are_ordered_by_index(self) -> None:
        evaluation = measure(np.tile(np.float32([1, 0]), (40, 1)), [1] * 40)
        assert [one.index for one in evaluation.mistakes()] == list(range(40))

    def test_without_images(self) -> None:
        (mistake,) = measure(outputs([1], 2), [0]).mistakes()
        assert mistake.image is None

    def test_bad_number(self, evaluation: Evaluation) -> None:
        with pytest.raises(ValueError, match="most must be at least 0; got -1"):
            evaluation.mistakes(-1)


class TestText:
    def test_table(self, evaluation: Evaluation) -> None:
        assert str(evaluation) == (
            "images                  6\n"
            "top-1              50.00%  (3 of 6)\n"
            f"loss               {evaluation.loss:.4f}\n"
            f"calibration error  {evaluation.calibration_error:.4f}\n"
            "\n"
            "class  images  precision  recall      F1\n"
            "cat         3     66.67%  66.67%  66.67%\n"
            "dog         2     50.00%  50.00%  50.00%\n"
            "owl         1      0.00%   0.00%   0.00%\n"
            "mean        6     38.89%  38.89%  38.89%\n"
            "(1 class without images and answers left out)\n"
            "\n"
            "confusion matrix (rows: labels, columns: answers):\n"
            "     cat  dog  owl\n"
            "cat    2    1    .\n"
            "dog    .    1    1\n"
            "owl    1    .    .\n"
            "\n"
            "3 mistakes, the most confident first:\n"
            "answer   score  label   score  image\n"
            "dog     80.24%  cat     6.59%  2.jpg\n"
            "owl     75.98%  dog     8.01%  3.jpg\n"
            "cat     65.73%  owl    11.42%  5.jpg"
        )

    def test_only_some_mistakes_are_listed(self, evaluation: Evaluation) -> None:
        text = evaluation.text(mistakes=1)
        assert "3 mistakes, the most confident first (the first 1):\n" in text
        assert "3.jpg" not in text
        assert "mistakes" not in evaluation.text(mistakes=0)

    def test_no_matrix_if_all_is_right(self) -> None:
        text = str(measure(outputs([0, 1]), [0, 1]))
        assert "100.00%" in text
        assert "confusion" not in text
        assert "mistake" not in text

    def test_many_classes_are_told_by_the_worst(self) -> None:
        labels = np.arange(100)
        answers = labels.copy()
        answers[7], answers[60] = 8, 61
        text = str(measure(outputs(answers.tolist(), 100), labels))
        assert "the 30 of 100 classes with the lowest F1:" in text
        assert "confusion matrix" not in text
        pairs = text.split("the most frequent confusions:\n")[1].split("\n\n")[0]
        assert pairs.splitlines() == [
            "label  answer  images",
            "7      8            1",
            "60     61           1",
        ]

    @pytest.mark.parametrize(("classes", "matrix"), [(20, True), (21, False)])
    def test_matrix_of_few_classes_only(self, classes: int, matrix: bool) -> None:
        labels = np.arange(classes)
        text = str(measure(outputs(labels[::-1].tolist(), classes), labels))
        assert ("confusion matrix" in text) == matrix
        if not matrix:
            pairs = text.split("the most frequent confusions:\n")[1].split("\n\n")[0]
            assert len(pairs.splitlines()) == 1 + 10

    @pytest.mark.parametrize(("classes", "rows"), [(30, 30), (31, 30)])
    def test_table_of_the_worst_classes(self, classes: int, rows: int) -> None:
        labels = np.arange(classes)
        text = str(measure(outputs(labels.tolist(), classes), labels))
        assert ("lowest F1" in text) == (classes > 30)
        table = text.split("F1\n")[1] if classes <= 30 else text.split("      F1\n")[1]
        assert len(table.splitlines()) == rows + 1

    def test_repr_is_one_line_of_figures(self, evaluation: Evaluation) -> None:
        text = repr(evaluation)
        assert "top1=0.5" in text
        assert "array" not in text
        assert "\n" not in text

    def test_long_names_become_numbers_in_the_head_of_the_matrix(self) -> None:
        names = [f"a very long name of a class, {index}" for index in range(4)]
        text = str(measure(outputs(ANSWERS), LABELS, names))
        assert "                                  0  1  2\n" in text
        assert "\n1 a very long name of a class, 1  .  1  1\n" in text

    def test_images_without_a_path_are_named_by_index(self) -> None:
        assert str(measure(outputs([1], 2), [0])).endswith("image 0")


class TestJson:
    def test_holds_what_the_dict_holds(self, evaluation: Evaluation) -> None:
        text = evaluation.to_json()
        assert json.loads(text) == evaluation.to_dict()
        assert text.count("\n") < 40

    def test_dict(self, evaluation: Evaluation) -> None:
        found = evaluation.to_dict(mistakes=1)
        for name in ("loss", "calibration_error", "top1", "top5", "activation", "correct"):
            assert found[name] == getattr(evaluation, name)
        for name in ("precision", "recall", "f1"):
            assert found["macro"][name] == getattr(evaluation, f"macro_{name}")
        assert found["images"] == 6
        assert found["top1"] == 0.5
        assert found["confusion"] == evaluation.confusion.tolist()
        assert found["classes"][1] == {
            "label": "dog",
            "images": 2,
            "precision": 0.5,
            "recall": 0.5,
            "f1": 0.5,
        }
        assert found["mistakes"] == [
            {
                "index": 2,
                "image": "2.jpg",
                "label": "cat",
                "predicted": "dog",
                "score": pytest.approx(0.8024, abs=1e-4),
                "label_score": pytest.approx(0.0659, abs=1e-4),
            }
        ]
        assert found["skipped"] == []
        assert found["remarks"] == []

    def test_name_that_is_no_text_survives(self) -> None:
        evaluation = measure(outputs([1], 2), [0], images=["bad\udcff.jpg"])
        assert (
            json.loads(evaluation.to_json().encode("ascii"))["mistakes"][0]["image"]
            == "bad\udcff.jpg"
        )


class TestBadInput:
    @pytest.mark.parametrize(
        ("values", "labels", "options", "error", "message"),
        [
            (np.zeros((0, 3)), [], {}, ValueError, "at least one image"),
            (np.zeros(3), [0], {}, ValueError, r"must be \[n, classes\].*\[3\]"),
            (np.zeros((1, 2), "U1"), [0], {}, TypeError, "array of numbers"),
            (np.zeros((1, 3)), [3], {}, ValueError, "from 0 to 2.*got 3 for image 0"),
            (np.zeros((2, 3)), [0, -1], {}, ValueError, "from 0 to 2.*got -1 for image 1"),
            (np.zeros((2, 3)), [0], {}, ValueError, r"labels must be \[2\]"),
            (np.zeros((1, 3)), [0.0], {}, TypeError, "labels must be integers"),
            (np.zeros((1, 3)), [0], {"classes": ["a"]}, ValueError, "1 names.*3 columns"),
            (np.zeros((1, 3)), [0], {"images": []}, ValueError, "images has 0 items"),
            (np.zeros((1, 3)), [0], {"activation": "relu"}, ValueError, "activation must be one"),
            (np.array([[0, 1], [0, np.nan]]), [0, 0], {}, ValueError, "those of image 1 are not"),
        ],
    )
    def test_messages(
        self,
        values: np.ndarray,
        labels: list[int],
        options: dict[str, object],
        error: type[Exception],
        message: str,
    ) -> None:
        with pytest.raises(error, match=message):
            measure(values, labels, **options)

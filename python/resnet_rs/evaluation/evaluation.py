"""`Evaluation`: the quality of a classifier, as values, text and JSON."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from ..replacing import replacing
from .figures import Figures
from .report import as_dict, as_json, as_text


@dataclass(frozen=True, eq=False)
class Evaluation(Figures):
    """The quality of a classifier on labelled images; print it for a table.

    All shares are between 0 and 1. Definitions are scikit-learn's, with 0 for 0/0
    (`zero_division=0`): the precision of a class that was never given, the recall of a class
    without images and the F1 of a class that has neither are 0. A macro average is the plain mean
    over the classes that occur, as a label or as an answer.

    Attributes:
        classes: the names of all classes, by index.
        labels: `[n]`, the true class of each image.
        predicted: `[n]`, the class with the largest output; of equal ones the first.
        scores: `[n]`, float32, the score of the class that was given.
        label_scores: `[n]`, float32, the score of the true class.
        top1: the share of images whose label was given (the accuracy).
        top5: the share of images whose label is among the five largest outputs; among all of them
            if there are fewer.
        loss: the mean cross-entropy in nats; with the activation `sigmoid` the mean binary
            cross-entropy over images and classes. None with the activation `none`.
        calibration_error: the expected calibration error: how far the score of the class that was
            given is from the accuracy, on average over 15 bins of equal width. None with the
            activation `none`.
        confusion: `[classes, classes]`: row i, column j counts images of class i that were given
            class j.
        support: `[classes]`, the number of images of each class.
        precision: `[classes]`, the share of right answers among the answers of a class.
        recall: `[classes]`, the share of a class's images that were given the class.
        f1: `[classes]`, the harmonic mean of precision and recall.
        macro_precision: the mean of `precision` over the classes that occur.
        macro_recall: the mean of `recall` over the classes that occur.
        macro_f1: the mean of `f1` over the classes that occur.
        activation: the function that made the scores of the outputs: `softmax`, `sigmoid` or
            `none`.
        images: the images' paths, or whatever stands for them, as many as `labels`; None if they
            are not known.
        skipped: the images that could not be read. They count nowhere else.
        remarks: everything that was assumed, in sentences.
    """

    def to_dict(self, mistakes: int | None = None) -> dict[str, Any]:
        """Make plain numbers, text, lists and dicts of everything but the single images.

        Args:
            mistakes: the number of mistakes to include, at most; None for all.

        Raises:
            TypeError, ValueError: as `mistakes()` does.
        """
        return as_dict(self, mistakes)

    def to_json(self, mistakes: int | None = None) -> str:
        """Write `to_dict` as JSON, a line for each class, row of the matrix and mistake.

        Args:
            mistakes: the number of mistakes to include, at most; None for all.

        Raises:
            TypeError, ValueError: as `mistakes()` does.
        """
        return as_json(self, mistakes)

    def save(self, path: str | os.PathLike[str], mistakes: int | None = None) -> None:
        """Write `to_json` to a file, which has its old content or the new one at any time.

        Args:
            path: the file.
            mistakes: the number of mistakes to include, at most; None for all.

        Raises:
            OSError: the file cannot be written; the error names it.
            TypeError, ValueError: as `mistakes()` does.
        """
        text = self.to_json(mistakes)
        with replacing(path) as unfinished, open(unfinished, "w", encoding="ascii") as file:
            file.write(text)

    def text(self, mistakes: int = 10) -> str:
        """Write the totals, a table of the classes, the confusion matrix and some mistakes.

        Args:
            mistakes: the number of mistakes to list, at most.

        Raises:
            TypeError, ValueError: as `mistakes()` does.
        """
        return as_text(self, mistakes)

    def __str__(self) -> str:
        return self.text()

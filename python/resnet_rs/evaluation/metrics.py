"""Metrics of a classifier: from its outputs and the true labels to an `Evaluation`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import arguments
from ..options import ACTIVATIONS
from ..stream.scores import probabilities_of
from .evaluation import Evaluation
from .figures import Floats, Ints, Skipped

_TOP = 5
# The bins of the calibration error, as in Guo et al., On Calibration of Modern Neural Networks.
_BINS = 15


def measure(
    outputs: NDArray[Any],
    labels: Any,
    classes: Sequence[str] | None = None,
    *,
    activation: str = "softmax",
    images: Sequence[Any] | None = None,
) -> Evaluation:
    """Measure a classifier from its outputs and the true labels.

    Args:
        outputs: `[n, classes]`, logits as a network gives them; with the activation `none` any
            scores, larger ones for likelier classes.
        labels: `[n]`, the index of each image's true class.
        classes: the names of the classes, by index; by default the indices as text.
        activation: the function that makes scores of the outputs. With `softmax` the outputs are
            those of one class among several. With `sigmoid` each output is a probability by itself;
            since there is one label for an image, the answer is still the largest output. With
            `none` outputs are scores as they stand, and there is no loss and no calibration error.
        images: the images' paths, or whatever stands for them, as many as `labels`.

    Returns:
        The evaluation.

    Raises:
        TypeError: labels that are not integers, names that are not str, no such kind of
            activation.
        ValueError: no image at all, arrays of other shapes, labels that are out of range, outputs
            that are not finite, no such activation.
    """
    activation = arguments.choice("activation", activation, ACTIVATIONS)
    logits = checked_outputs(outputs)
    count, number = logits.shape
    truth = checked_labels(labels, count, number)
    names = (
        tuple(map(str, range(number))) if classes is None else arguments.texts("classes", classes)
    )
    if len(names) != number:
        raise ValueError(f"classes has {len(names)} names, and outputs has {number} columns")
    if images is not None and len(images) != count:
        raise ValueError(f"images has {len(images)} items, and labels has {count}")

    predicted = logits.argmax(axis=1).astype(np.int64)
    rows = np.arange(count)
    scores = probabilities_of(logits, activation)
    given = scores[rows, predicted]
    confusion = np.bincount(truth * number + predicted, minlength=number * number)
    figures = class_figures(confusion.reshape(number, number).astype(np.int64))
    ranks = ranks_of(logits, truth)
    return _frozen(
        Evaluation(
            classes=names,
            labels=truth,
            predicted=predicted,
            scores=given,
            label_scores=scores[rows, truth],
            top1=float((ranks < 1).mean()),
            top5=float((ranks < _TOP).mean()),
            loss=mean_loss(logits, truth, activation),
            calibration_error=(
                None if activation == "none" else calibration_error(given, predicted == truth)
            ),
            activation=activation,
            images=None if images is None else tuple(images),
            **figures,
        )
    )


def checked_outputs(outputs: Any) -> NDArray[np.float32]:
    """Check outputs `[n, classes]`, and make them C-contiguous float32.

    Raises:
        TypeError: not an array of numbers.
        ValueError: another shape, no image, no class, or a value that is not finite.
    """
    array = np.asarray(outputs)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"outputs must be an array of numbers; got {array.dtype}")
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(
            "outputs must be [n, classes], with at least one image and one class; "
            f"got shape {list(array.shape)}"
        )
    values = np.ascontiguousarray(array, np.float32)
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        bad = int(finite.argmin())
        raise ValueError(
            f"outputs must be finite; those of image {bad} are not (in all "
            f"{int((~finite).sum())} of {len(values)} images). The network's weights may hold NaN, "
            "as after a training that diverged"
        )
    return values


def checked_labels(labels: Any, count: int, classes: int) -> Ints:
    """Check labels `[count]` from 0 to `classes - 1`.

    Raises:
        TypeError: not integers.
        ValueError: another shape, or a label out of range.
    """
    array = np.asarray(labels)
    if array.dtype.kind not in "iu":
        raise TypeError(f"labels must be integers, the indices of classes; got {array.dtype}")
    if array.shape != (count,):
        raise ValueError(f"labels must be [{count}], one for each image; got {list(array.shape)}")
    outside = (array < 0) | (array >= classes)
    if outside.any():
        bad = int(outside.argmax())
        raise ValueError(
            f"labels must be from 0 to {classes - 1}, since there are {classes} classes; "
            f"got {array[bad]} for image {bad}"
        )
    return array.astype(np.int64)


def ranks_of(outputs: NDArray[np.float32], labels: Ints) -> Ints:
    """Return each label's place among an image's outputs, from 0; equal ones are by index."""
    of_label = outputs[np.arange(len(labels)), labels][:, None]
    before = (outputs == of_label) & (np.arange(outputs.shape[1]) < labels[:, None])
    ranks: Ints = ((outputs > of_label) | before).sum(axis=1)
    return ranks


def class_figures(confusion: Ints) -> Mapping[str, Any]:
    """Compute what follows from the confusion matrix, by the names that `Evaluation` has.

    Args:
        confusion: `[classes, classes]`, rows for labels, columns for answers.
    """
    right = confusion.diagonal()
    support, answers = confusion.sum(axis=1), confusion.sum(axis=0)
    precision, recall = _ratio(right, answers), _ratio(right, support)
    # Two times the right answers over labels and answers is the harmonic mean, without its 0/0 if
    # both are 0.
    f1 = _ratio(2 * right, support + answers)
    occurs = (support + answers) > 0
    return {
        "confusion": confusion,
        "support": support,
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "macro_precision": float(precision[occurs].mean()),
        "macro_recall": float(recall[occurs].mean()),
        "macro_f1": float(f1[occurs].mean()),
    }


def mean_loss(outputs: NDArray[np.float32], labels: Ints, activation: str) -> float | None:
    """Compute the mean loss in float64; None if `activation` is `none`.

    Args:
        outputs: `[n, classes]`.
        labels: `[n]`.
        activation: `softmax` for cross-entropy, `sigmoid` for binary cross-entropy, the mean over
            all images and classes.
    """
    if activation == "none":
        return None
    total = 0.0
    for values, label in zip(outputs, labels.tolist(), strict=True):
        z = values.astype(np.float64)
        if activation == "softmax":
            top = z.max()
            total += float(top + np.log(np.exp(z - top).sum()) - z[label])
        else:
            # log(1 + exp(z)) for every class, without overflow, minus z for the label.
            total += float((np.logaddexp(0.0, z).sum() - z[label]) / len(z))
    return total / len(labels)


def calibration_error(scores: NDArray[np.float32], right: NDArray[np.bool_]) -> float:
    """Compute the expected calibration error.

    Scores are put into 15 bins of equal width. A bin's gap is the difference between its mean score
    and its share of right answers; the result is the mean gap, weighted by the bins' sizes.

    Args:
        scores: `[n]`, the scores of the classes that were given, 0 to 1.
        right: `[n]`, True for right answers.
    """
    values = scores.astype(np.float64)
    # A bin holds its upper edge and not its lower one.
    bins = np.clip(np.ceil(values * _BINS).astype(np.int64) - 1, 0, _BINS - 1)
    gaps = np.bincount(bins, right, _BINS) - np.bincount(bins, values, _BINS)
    return float(np.abs(gaps).sum() / len(values))


def _ratio(over: Ints, under: Ints) -> Floats:
    """Divide counts; 0/0 is 0."""
    return np.divide(over, under, out=np.zeros(len(over)), where=under > 0)


def _frozen(evaluation: Evaluation) -> Evaluation:
    """Make the arrays of an evaluation read-only."""
    for value in vars(evaluation).values():
        if isinstance(value, np.ndarray):
            value.setflags(write=False)
    return evaluation


def with_notes(
    evaluation: Evaluation, *, skipped: Sequence[Skipped] = (), remarks: Sequence[str] = ()
) -> Evaluation:
    """Add images that could not be read, and remarks."""
    return replace(
        evaluation,
        skipped=(*evaluation.skipped, *skipped),
        remarks=(*evaluation.remarks, *remarks),
    )

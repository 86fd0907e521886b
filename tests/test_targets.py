"""The matrix of the loss, and the loss with it, against `torch.nn.functional.cross_entropy`."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from finite_differences import TOLERANCE as DIFFERENCES
from finite_differences import slopes
from network_pairs import Array, relative_l2
from torch.nn import functional

from resnet_rs import reference
from resnet_rs.targets import target_matrix

TOLERANCE = 1e-12
"""Largest relative error against torch in float64."""

CLASSES = 4
RANDOM = np.random.default_rng(0)
LOGITS = {batch: RANDOM.standard_normal((batch, CLASSES)) * 3 for batch in (1, 3, 8)}
LABELS = {batch: RANDOM.integers(0, CLASSES, batch) for batch in LOGITS}
SOFT = {batch: RANDOM.dirichlet(np.ones(CLASSES), batch) for batch in LOGITS}
WEIGHTS = [None, [0.5, 2.0, 1.0, 3.5]]


@pytest.mark.parametrize("batch", LOGITS)
@pytest.mark.parametrize("soft", [False, True], ids=["labels", "soft"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("weights", WEIGHTS, ids=["equal", "weighted"])
def test_loss_and_gradient(
    batch: int, soft: bool, smoothing: float, weights: list[float] | None
) -> None:
    logits, y = LOGITS[batch], (SOFT if soft else LABELS)[batch]
    leaf = torch.from_numpy(logits.copy()).requires_grad_()
    expected = functional.cross_entropy(
        leaf,
        torch.from_numpy(y),
        weight=None if weights is None else torch.tensor(weights, dtype=torch.float64),
        label_smoothing=smoothing,
    )
    expected.backward()

    matrix = target_matrix(y, CLASSES, smoothing=smoothing, class_weights=weights)

    assert matrix.shape == (batch, CLASSES)
    assert matrix.dtype == np.float64
    loss = reference.cross_entropy(logits, matrix)
    assert loss == pytest.approx(expected.item(), rel=TOLERANCE)
    gradient = reference.cross_entropy_gradient(logits, matrix)
    assert relative_l2(gradient, leaf.grad.numpy()) <= TOLERANCE
    differences = slopes(lambda z: reference.cross_entropy(z, matrix), logits)
    assert relative_l2(gradient, differences) <= DIFFERENCES


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("weights", WEIGHTS, ids=["equal", "weighted"])
def test_rows_that_do_not_add_up_to_1_are_taken_as_torch_does(
    smoothing: float, weights: list[float] | None
) -> None:
    y = SOFT[3] * np.array([[0.5], [2.0], [0.0]])
    expected = functional.cross_entropy(
        torch.from_numpy(LOGITS[3]),
        torch.from_numpy(y),
        weight=None if weights is None else torch.tensor(weights, dtype=torch.float64),
        label_smoothing=smoothing,
    )
    matrix = target_matrix(y, CLASSES, smoothing=smoothing, class_weights=weights)
    assert reference.cross_entropy(LOGITS[3], matrix) == pytest.approx(expected.item(), rel=1e-12)


def test_plain_labels_are_one_hot_rows_divided_by_the_batch() -> None:
    matrix = target_matrix(np.array([2, 0], np.uint8), 3)
    np.testing.assert_array_equal(matrix, [[0, 0, 0.5], [0.5, 0, 0]])


def test_one_hot_soft_targets_are_labels() -> None:
    for batch, smoothing in itertools.product(LOGITS, (0.0, 0.1)):
        hot = np.eye(CLASSES, dtype=np.float32)[LABELS[batch]]
        np.testing.assert_allclose(
            target_matrix(hot, CLASSES, smoothing=smoothing),
            target_matrix(LABELS[batch], CLASSES, smoothing=smoothing),
            rtol=1e-15,
        )


def test_log_softmax_where_probabilities_round_to_0() -> None:
    logits = np.array([[1000.0, 0.0, -1000.0]])
    expected = functional.log_softmax(torch.from_numpy(logits), dim=1).numpy()
    np.testing.assert_array_equal(reference.log_softmax(logits), expected)
    np.testing.assert_array_equal(expected, [[0, -1000, -2000]])


@pytest.mark.parametrize(
    ("y", "options", "error", "message"),
    [
        ([0, 7, 9], {}, ValueError, r"y\[1\] is 7; with 4 classes, labels are from 0 to 3"),
        ([0, -1], {}, ValueError, r"y\[1\] is -1; .* from 0 to 3"),
        ([[0, 1]], {}, ValueError, r"shape \[batch\]; got \[1, 2\]\. .*astype\(numpy\.float32\)"),
        ([0.0, 1.0], {}, ValueError, r"shape \[batch, 4\]; got \[2\]\. .*astype\(numpy\.int64\)"),
        (np.ones((2, 3)), {}, ValueError, r"shape \[batch, 4\]; got \[2, 3\]"),
        ([[np.nan, 0, 0, 1]], {}, ValueError, "soft targets must be finite and at least 0"),
        ([[-0.5, 0.5, 0, 1]], {}, ValueError, "soft targets must be finite and at least 0"),
        (["cat"], {}, TypeError, r"integer labels \[batch\] or floating-point .* dtype <U3"),
        ([True, False], {}, TypeError, "got dtype bool"),
        (np.zeros(0, np.int64), {}, ValueError, r"at least one picture; got shape \(0,\)"),
        (3, {}, ValueError, r"at least one picture; got shape \(\)"),
        ([0], {"smoothing": 1.5}, ValueError, "smoothing must be from 0 to 1; got 1.5"),
        ([0], {"smoothing": float("nan")}, ValueError, "smoothing must be from 0 to 1; got nan"),
        ([0], {"class_weights": [1, 2]}, ValueError, r"shape \[4\]; got \[2\]"),
        (
            [0],
            {"class_weights": [1, -2, 1, 1]},
            ValueError,
            "class_weights must be finite and at least 0; got 1, -2, 1, 1",
        ),
        (
            [0, 0, 1],
            {"class_weights": [0, 0, 1, 1]},
            ValueError,
            r"class_weights is 0 for every label of the batch \(0, 1\): give one",
        ),
    ],
)
def test_what_does_not_fit_is_named(
    y: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        target_matrix(y, CLASSES, **options)


def test_a_message_shows_five_of_many_weights() -> None:
    with pytest.raises(ValueError, match=r"got 0\.5, 0\.5, 0\.5, 0\.5, 0\.5, \.\.\.$"):
        target_matrix([0], 7, class_weights=[0.5] * 6 + [-1])


@pytest.mark.parametrize("f", [reference.cross_entropy, reference.cross_entropy_gradient])
def test_logits_and_targets_of_other_shapes(f: Any) -> None:
    logits: Array = np.zeros((2, 1))
    with pytest.raises(ValueError, match=r"got \[2, 1\] and \[2, 4\]\. resnet_rs\.targets\.target"):
        f(logits, np.zeros((2, 4)))

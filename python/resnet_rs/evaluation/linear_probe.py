"""The linear probe: a last layer fitted to embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import arguments
from ..targets import target_matrix
from .embeddings import checked_embeddings, checked_pair
from .evaluation import Evaluation
from .lbfgs import minimise
from .metrics import measure

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

STRENGTHS = (3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
"""The strengths of the penalty that are tried, the strongest first."""

# The strength if there are too few images to choose one.
_USUAL = 0.03
# One image of so many is held out to choose the strength.
_HELD_OUT = 5
# The largest component of the gradient at the end of a fit, and of one that only chooses.
_TOLERANCE, _ROUGH = 1e-6, 1e-3
# With so many times more features than images a fit has a coordinate for each image.
_WIDE = 4


@dataclass(frozen=True, eq=False)
class LinearProbe:
    """A last layer that was fitted to embeddings, and its quality.

    Attributes:
        evaluation: the quality on the embeddings that were not fitted.
        weight: `[classes, features]`, float32; torchvision's `fc.weight`.
        bias: `[classes]`, float32; torchvision's `fc.bias`. Logits are
            `embeddings @ weight.T + bias`.
        l2: the strength of the penalty that was chosen or given.
        train_loss: the mean cross-entropy on the embeddings that were fitted.
        steps: the number of steps of the last fit.
        converged: True if that fit ended because its gradient vanished.
    """

    evaluation: Evaluation
    weight: NDArray[np.float32] = field(repr=False)
    bias: NDArray[np.float32] = field(repr=False)
    l2: float
    train_loss: float
    steps: int
    converged: bool


def linear_probe(
    train_x: Any,
    train_y: Any,
    val_x: Any,
    val_y: Any,
    *,
    classes: Sequence[str] | None = None,
    images: Sequence[Any] | None = None,
    l2: float | None = None,
    class_weights: ArrayLike | None = None,
    seed: int = 0,
) -> LinearProbe:
    """Fit a last layer to embeddings: multinomial logistic regression.

    Features are standardised by the mean and standard deviation of `train_x`, which are then put
    into the weights, so that the layer takes plain embeddings. The fit minimises the mean
    cross-entropy plus `l2 / 2` times the sum of the squared weights, without the bias, by L-BFGS in
    float64.

    Args:
        train_x: `[n, features]`, the embeddings to fit, as `model.embed` gives them.
        train_y: `[n]`, the indices of their classes.
        val_x: `[m, features]`, the embeddings to evaluate.
        val_y: `[m]`, the indices of their classes.
        classes: the names of the classes, by index; by default the indices up to the largest.
        images: the paths of `val_x`, or whatever stands for them.
        l2: the strength of the penalty, above 0. By default the one of `STRENGTHS` with the lowest
            loss on a fifth of the images of each class in `train_x`, drawn by `seed`, after a fit
            to the others; `val_x` has no part in it. With fewer than two classes that have two
            images it is 0.03.
        class_weights: `[classes]`, the factor of each class's part in the loss; None for 1 each.
        seed: draws the images that are held out.

    Returns:
        The layer and its evaluation on `val_x`.

    Raises:
        TypeError: no numbers, labels that are not integers.
        ValueError: arrays of other shapes, no embedding, values that are not finite, labels out of
            range, a strength that is not above 0, weights of another number or below 0.
    """
    train = checked_embeddings("train", train_x)
    val = checked_embeddings("val", val_x)
    train_labels, val_labels, names = checked_pair(train, train_y, val, val_y, classes)
    seed = arguments.count("seed", seed, least=0, most=None)
    if l2 is not None and not 0 < l2 < float("inf"):
        raise ValueError(f"l2 must be a number above 0; got {l2!r}")

    shares = _shares(train_labels, len(names), class_weights)
    strength = (
        choose_strength(train, train_labels, len(names), shares, seed) if l2 is None else float(l2)
    )
    fitted = _Fit(train, train_labels, len(names), shares).solve(strength)
    logits = val.astype(np.float64) @ fitted.weight.T.astype(np.float64) + fitted.bias
    return LinearProbe(
        measure(logits, val_labels, names, images=images),
        fitted.weight,
        fitted.bias,
        strength,
        fitted.loss,
        fitted.steps,
        fitted.converged,
    )


def choose_strength(
    x: NDArray[np.float32], labels: NDArray[np.int64], classes: int, shares: Vector, seed: int
) -> float:
    """Choose the strength of the penalty by images that are held out."""
    held = held_out(labels, seed)
    if len(np.unique(labels[held])) < 2:
        return _USUAL
    fit = _Fit(x[~held], labels[~held], classes, shares[~held])
    best, lowest = _USUAL, np.inf
    start: Matrix | None = None
    for strength in STRENGTHS:
        fitted = fit.solve(strength, start, _ROUGH)
        start = fitted.parameters
        logits = x[held].astype(np.float64) @ fitted.weight.T.astype(np.float64) + fitted.bias
        loss = float(shares[held] @ _losses(logits, labels[held])[0])
        if loss < lowest:
            best, lowest = strength, loss
    return best


def _losses(logits: Matrix, labels: NDArray[np.int64]) -> tuple[Vector, Matrix]:
    """The cross-entropy of each image, and its softmax."""
    z = logits - logits.max(axis=1, keepdims=True)
    exponents = np.exp(z)
    sums = exponents.sum(axis=1, keepdims=True)
    return np.log(sums[:, 0]) - z[np.arange(len(labels)), labels], exponents / sums


def _shares(labels: NDArray[np.int64], classes: int, class_weights: ArrayLike | None) -> Vector:
    """The share of each image in the mean loss, with the definition of a training's loss."""
    if class_weights is None:
        return np.full(len(labels), 1 / len(labels))
    # An image of each class: the matrix of all images would be large.
    each = target_matrix(np.arange(classes), classes, class_weights=class_weights).diagonal()
    shares: Vector = each[labels]
    if not shares.any():
        raise ValueError("class_weights is 0 for the class of every image: expected one above 0")
    shares /= shares.sum()
    return shares


def held_out(labels: NDArray[np.int64], seed: int) -> NDArray[np.bool_]:
    """Draw a fifth of the images of each class, at least one if the class has two."""
    generator = np.random.default_rng(seed)
    held = np.zeros(len(labels), np.bool_)
    for label in np.unique(labels):
        places = generator.permutation(np.flatnonzero(labels == label))
        if len(places) > 1:
            held[places[: max(1, len(places) // _HELD_OUT)]] = True
    return held


@dataclass(frozen=True)
class _Fitted:
    """The layer of one fit, and where it ended.

    `parameters` are `[dimensions + 1, classes]`, in the coordinates of the fit.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    parameters: Matrix
    loss: float
    steps: int
    converged: bool


class _Fit:
    """Embeddings that are ready to be fitted with any strength.

    The weights that fit best lie in the space that the images span. So with few images the fit has
    a coordinate for each image instead of each feature, with the same result.
    """

    def __init__(
        self, x: NDArray[np.float32], labels: NDArray[np.int64], classes: int, shares: Vector
    ) -> None:
        values = x.astype(np.float64)
        self._mean = values.mean(axis=0)
        std = values.std(axis=0)
        # A feature that never changes says nothing, and gets the weight 0.
        changes = std > 1e-12 * np.abs(self._mean)
        self._scale = np.divide(1.0, std, out=np.zeros_like(std), where=changes)
        values = (values - self._mean) * self._scale
        self._axes: Matrix | None = None
        if _WIDE * len(values) <= values.shape[1]:
            self._axes, triangle = np.linalg.qr(values.T)
            values = triangle.T
        self._x = np.ascontiguousarray(values)
        self._labels = labels
        self._classes = classes
        self._shares = shares / shares.sum()

    def solve(
        self, l2: float, start: Matrix | None = None, tolerance: float = _TOLERANCE
    ) -> _Fitted:
        """Fit with one strength, from the parameters of another fit if there are some."""
        x, rows = self._x, np.arange(len(self._x))
        shape = (x.shape[1] + 1, self._classes)
        penalty = np.full(shape, l2)
        penalty[-1] = 0

        def function(flat: Matrix) -> tuple[float, Matrix]:
            parameters = flat.reshape(shape)
            losses, slope = _losses(x @ parameters[:-1] + parameters[-1], self._labels)
            loss = float(self._shares @ losses)
            slope[rows, self._labels] -= 1
            slope *= self._shares[:, None]
            gradient = np.concatenate([x.T @ slope, slope.sum(axis=0)[None]])
            value = loss + 0.5 * float((penalty * parameters**2).sum())
            return value, (gradient + penalty * parameters).ravel()

        begin = np.zeros(shape) if start is None else start
        found = minimise(function, begin.ravel(), tolerance=tolerance)
        parameters = found.x.reshape(shape)
        inner = parameters[:-1] if self._axes is None else self._axes @ parameters[:-1]
        weight = inner * self._scale[:, None]
        bias = parameters[-1] - self._mean @ weight
        loss = found.value - 0.5 * float((penalty * parameters**2).sum())
        return _Fitted(
            np.ascontiguousarray(weight.T, np.float32),
            bias.astype(np.float32),
            parameters,
            loss,
            found.steps,
            found.converged,
        )

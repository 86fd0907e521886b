"""Nearest neighbours and the linear probe on embeddings: votes by hand, gradients that vanish."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resnet_rs import ResNet50
from resnet_rs.evaluation import knn, linear_probe
from resnet_rs.evaluation.lbfgs import minimise
from resnet_rs.evaluation.linear_probe import STRENGTHS, held_out


def clouds(
    images: int, features: int, classes: int, *, spread: float, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings around a centre for each class, and their labels."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(classes, features))
    labels = np.arange(images) % classes
    x = centres[labels] + spread * random.normal(size=(images, features))
    return (x * 3 + 5).astype(np.float32), labels


class TestKnn:
    TRAIN = np.float32([[1, 0], [0.9, 0.1], [0, 1], [0, 5], [0.1, 0.9]])
    LABELS = (0, 0, 1, 1, 2)

    def test_votes_by_hand(self) -> None:
        # The cosines of (1, 1) with the rows; the length of a row does not count.
        evaluation = knn(self.TRAIN, self.LABELS, [[3, 3]], [2], k=3)
        near = (1.0 / math.sqrt(0.82 * 2), 1.0 / math.sqrt(0.82 * 2), 1 / math.sqrt(2))
        weights = [math.exp(cosine / 0.07) for cosine in near]
        # Two neighbours are equally near, of class 0 and 2; of the three at the same distance
        # behind them the first is of class 0.
        shares = (weights[0] + weights[2], weights[1])
        assert evaluation.predicted.tolist() == [0]
        assert evaluation.scores[0] == pytest.approx(shares[0] / sum(weights), rel=1e-4)
        assert evaluation.label_scores[0] == pytest.approx(shares[1] / sum(weights), rel=1e-4)

    def test_one_neighbour(self) -> None:
        evaluation = knn(self.TRAIN, self.LABELS, [[1, 0.01], [0.01, 2], [0.2, 1]], [0, 1, 2], k=1)
        assert evaluation.top1 == 1.0
        assert evaluation.scores.tolist() == [1, 1, 1]
        assert evaluation.loss is None

    def test_more_neighbours_than_images(self) -> None:
        assert knn(self.TRAIN, self.LABELS, [[1, 0]], [0], k=99).predicted.tolist() == [0]

    def test_near_votes_count_more(self) -> None:
        # One neighbour at the place itself against three far away.
        train = np.float32([[1, 0], [0, 1], [0, 1], [0, 1]])
        assert knn(train, [0, 1, 1, 1], [[1, 0.1]], [0], k=4).top1 == 1.0

    def test_many_rows(self) -> None:
        x, labels = clouds(2500, 4, 3, spread=0.1)
        names = ["a", "b", "c"]
        evaluation = knn(x[:300], labels[:300], x, labels, classes=names, images=range(2500))
        assert evaluation.top1 == 1.0
        assert evaluation.classes == ("a", "b", "c")
        assert evaluation.images == tuple(range(2500))

    def test_rows_of_zeros_have_an_answer(self) -> None:
        assert knn([[0.0, 0.0], [1.0, 0.0]], [1, 0], [[0.0, 0.0]], [1]).count == 1


class TestLinearProbe:
    # More images than features, and so few that the fit is in coordinates of images.
    @pytest.mark.parametrize(("images", "features"), [(120, 7), (30, 200)])
    @pytest.mark.parametrize("l2", [0.3, 0.01])
    def test_gradient_vanishes(self, images: int, features: int, l2: float) -> None:
        x, labels = clouds(images, features, 3, spread=1.5)
        x[:, 2] = 4.0  # a feature that never changes
        probe = linear_probe(x, labels, x, labels, l2=l2)
        assert probe.converged
        assert probe.l2 == l2
        values = x.astype(np.float64)
        mean, std = values.mean(axis=0), values.std(axis=0)
        std[2] = 1
        standard = (values - mean) / std
        weight = probe.weight * std
        logits = standard @ weight.T + probe.bias + probe.weight @ mean
        assert logits == pytest.approx(values @ probe.weight.T + probe.bias, abs=1e-3)
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        slope = (shares - np.eye(3)[labels]) / images
        assert slope.T @ standard + l2 * weight == pytest.approx(0, abs=1e-5)
        assert slope.sum(axis=0) == pytest.approx(0, abs=1e-5)
        assert (probe.weight[:, 2] == 0).all()
        assert probe.train_loss == pytest.approx(
            -np.log(shares[np.arange(images), labels]).mean(), rel=1e-4
        )

    def test_evaluation_is_that_of_the_layer(self) -> None:
        x, labels = clouds(90, 20, 3, spread=2.0)
        options = {"classes": ["a", "b", "c"], "images": range(30)}
        probe = linear_probe(x[:60], labels[:60], x[60:], labels[60:], **options)
        assert probe.evaluation.images == tuple(range(30))
        assert "array" not in repr(probe)
        assert probe.weight.shape == (3, 20)
        assert probe.bias.shape == (3,)
        assert probe.weight.dtype == probe.bias.dtype == np.float32
        logits = x[60:] @ probe.weight.T + probe.bias
        assert probe.evaluation.predicted.tolist() == logits.argmax(axis=1).tolist()
        assert probe.evaluation.classes == ("a", "b", "c")
        assert probe.evaluation.loss is not None

    def test_classes_that_are_easy_to_tell_apart(self) -> None:
        x, labels = clouds(300, 40, 10, spread=0.3)
        probe = linear_probe(x[:200], labels[:200], x[200:], labels[200:])
        assert probe.evaluation.top1 == 1.0
        assert probe.evaluation.loss < 0.05

    def test_strength_is_chosen_by_images_that_are_held_out(self) -> None:
        random = np.random.default_rng(3)
        noise = random.normal(size=(100, 60)).astype(np.float32)
        labels = random.integers(0, 4, 100)
        # Nothing can be learnt from noise, so the strongest penalty is best.
        assert linear_probe(noise, labels, noise, labels).l2 == max(STRENGTHS)
        x, labels = clouds(200, 10, 4, spread=0.2)
        assert linear_probe(x, labels, x, labels).l2 < 0.1

    def test_val_has_no_part_in_the_fit(self) -> None:
        x, labels = clouds(90, 20, 3, spread=2.0)
        one = linear_probe(x, labels, x[:9], labels[:9])
        other = linear_probe(x, labels, -x[:5], (labels[:5] + 1) % 3)
        assert one.l2 == other.l2
        assert (one.weight == other.weight).all()

    def test_held_out_images_are_a_fifth_of_each_class(self) -> None:
        labels = np.array([0] * 50 + [1] * 7 + [2] * 2 + [3])
        held = held_out(labels, 0)
        assert np.bincount(labels[held], minlength=4).tolist() == [10, 1, 1, 0]
        assert (held_out(labels, 0) == held).all()
        assert (held_out(labels, 1) != held).any()

    def test_one_image_a_class(self) -> None:
        x, labels = clouds(6, 30, 6, spread=0.1)
        probe = linear_probe(x, labels, x, labels)
        assert probe.l2 == 0.03
        assert probe.evaluation.top1 == 1.0

    def test_a_class_without_images_has_a_low_bias(self) -> None:
        x, labels = clouds(40, 5, 2, spread=0.1)
        probe = linear_probe(x, labels, x, labels, classes=["a", "b", "never"])
        assert probe.evaluation.top1 == 1.0
        assert probe.bias[2] < 0

    def test_embeddings_of_the_demo_model(self, model: ResNet50, demo_photos: list[Path]) -> None:
        """One photo of each digit is enough to name the other one."""
        labels = [int(path.name[0]) for path in demo_photos]
        x = model.embed(demo_photos)
        first, second = slice(0, None, 2), slice(1, None, 2)
        for evaluation in (
            knn(x[first], labels[first], x[second], labels[second], k=1),
            linear_probe(x[first], labels[first], x[second], labels[second]).evaluation,
        ):
            assert evaluation.top1 >= 0.9


class TestMinimise:
    def test_the_valley_of_rosenbrock(self) -> None:
        def function(x: np.ndarray) -> tuple[float, np.ndarray]:
            a, b = 1 - x[0], x[1] - x[0] ** 2
            return a**2 + 100 * b**2, np.array([-2 * a - 400 * x[0] * b, 200 * b])

        found = minimise(function, np.array([-1.2, 1.0]), tolerance=1e-9)
        assert found.converged
        assert found.x == pytest.approx([1, 1], abs=1e-8)
        assert found.steps < 60

    def test_badly_scaled_bowl(self) -> None:
        scales = np.logspace(0, 2, 30)
        found = minimise(
            lambda x: (0.5 * float(scales @ (x - 1) ** 2), scales * (x - 1)), np.zeros(30)
        )
        assert found.converged
        assert found.steps < 150
        assert found.x == pytest.approx(np.ones(30), abs=1e-3)

    def test_starts_at_the_minimum(self) -> None:
        found = minimise(lambda x: (float(x @ x), 2 * x), np.zeros(3))
        assert (found.steps, found.converged, found.value) == (0, True, 0.0)

    def test_ends_after_its_steps(self) -> None:
        found = minimise(
            lambda x: (float((x**4).sum()), 4 * x**3), np.full(3, 9.0), tolerance=1e-12, steps=3
        )
        assert (found.steps, found.converged) == (3, False)

    def test_ends_if_rounding_leaves_no_way_down(self) -> None:
        # The gradient points the wrong way: no step goes down.
        found = minimise(lambda x: (float(x @ x), -2 * x), np.ones(2))
        assert not found.converged
        assert found.x.tolist() == [1, 1]


GOOD = np.ones((2, 3), np.float32)


class TestBadInput:
    @pytest.mark.parametrize("function", [knn, linear_probe])
    @pytest.mark.parametrize(
        ("train", "labels", "val", "val_labels", "options", "error", "message"),
        [
            (GOOD[0], [0, 1], GOOD, [0, 1], {}, ValueError, r"train_x must be \[n, features\]"),
            (GOOD, [0, 1], GOOD[:0], [], {}, ValueError, "val_x must be .* at least one row"),
            (GOOD, [0, 1], GOOD[:, :2], [0, 1], {}, ValueError, "has 3 features and val_x 2"),
            (GOOD * np.nan, [0, 1], GOOD, [0, 1], {}, ValueError, "train_x must be finite; row 0"),
            (GOOD.astype("U"), [0, 1], GOOD, [0, 1], {}, TypeError, "an array of numbers"),
            (GOOD, [0], GOOD, [0, 1], {}, ValueError, r"train_y: labels must be \[2\]"),
            (GOOD, [0, -1], GOOD, [0, 1], {}, ValueError, "train_y: labels must be from 0 to 1"),
            (GOOD, [0, 1], GOOD, [0.0, 1.0], {}, TypeError, "val_y: labels must be integers"),
            (GOOD, [0, 1], GOOD, [0, 2], {"classes": ["a", "b"]}, ValueError, "from 0 to 1.*2"),
        ],
    )
    def test_messages(
        self,
        function: Any,
        train: Any,
        labels: Any,
        val: Any,
        val_labels: Any,
        options: dict[str, Any],
        error: type[Exception],
        message: str,
    ) -> None:
        with pytest.raises(error, match=message):
            function(train, labels, val, val_labels, **options)

    def test_options(self) -> None:
        with pytest.raises(ValueError, match="k must be at least 1"):
            knn(GOOD, [0, 1], GOOD, [0, 1], k=0)
        for l2 in (0, -1, math.nan, math.inf):
            with pytest.raises(ValueError, match="l2 must be a number above 0"):
                linear_probe(GOOD, [0, 1], GOOD, [0, 1], l2=l2)


class TestWeightedProbe:
    def test_a_weight_is_as_good_as_a_copy(self) -> None:
        x = np.random.default_rng(0).standard_normal((10, 4)).astype(np.float32)
        # Copies of all leave mean and deviation as they are, by which features are standardised.
        two, three = np.tile(x, (2, 1)), np.tile(x, (3, 1))
        labels = np.repeat([0, 1, 0], 10)
        weighted = linear_probe(two, labels[:20], x, labels[:10], class_weights=[2.0, 1.0])
        copied = linear_probe(three, labels, x, labels[:10], l2=weighted.l2)
        assert weighted.train_loss == pytest.approx(copied.train_loss, rel=1e-5)
        np.testing.assert_allclose(weighted.bias, copied.bias, rtol=1e-4)
        assert weighted.bias[0] - weighted.bias[1] == pytest.approx(np.log(2), rel=1e-4)

    def test_even_weights_are_none(self) -> None:
        x = np.random.default_rng(0).standard_normal((30, 4)).astype(np.float32)
        y = np.arange(30) % 3
        even = linear_probe(x, y, x, y, class_weights=[3.0, 3.0, 3.0])
        plain = linear_probe(x, y, x, y)
        assert even.l2 == plain.l2
        np.testing.assert_allclose(even.weight, plain.weight, rtol=1e-4, atol=1e-6)

    def test_the_gradient_vanishes_at_the_end(self) -> None:
        """The minimum of the weighted loss, by its definition."""
        random = np.random.default_rng(1)
        x = random.standard_normal((40, 3)).astype(np.float32)
        y = np.arange(40) % 3
        weights = np.array([1.0, 4.0, 0.5])
        probe = linear_probe(x, y, x, y, l2=0.03, class_weights=weights)
        shares = weights[y] / weights[y].sum()
        scale = x.astype(np.float64).std(axis=0)

        def loss(weight: Any, bias: Any) -> float:
            logits = x @ weight.T + bias
            logs = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(40), y]
            return float(shares @ logs + 0.015 * ((weight * scale) ** 2).sum())

        weight, bias = probe.weight.astype(np.float64), probe.bias.astype(np.float64)
        lowest = loss(weight, bias)
        for _ in range(50):
            step = 1e-2 * random.standard_normal((3, 3))
            assert loss(weight + step, bias + step[0]) > lowest

    def test_wrong_weights(self) -> None:
        x, y = np.eye(4, dtype=np.float32), [0, 1, 0, 1]
        for wrong in ([1.0], [-1.0, 1.0], [0.0, 0.0]):
            with pytest.raises(ValueError, match="class_weights"):
                linear_probe(x, y, x, y, class_weights=wrong)
        with pytest.raises(ValueError, match="class_weights is 0 for the class of every image"):
            linear_probe(x, [0] * 4, x, y, classes=["a", "b"], class_weights=[0.0, 1.0])

"""`find_lr`: a sweep over learning rates on a copy of a trainer, and its suggestion."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnet_rs.datasets import Augment, Labelled, Loader
from resnet_rs.evaluation.pictures import rate_curve
from resnet_rs.training import LrSweep, Trainer, TrainingError, find_lr
from resnet_rs.training.find_lr import SMOOTHING

Pairs = list[tuple[np.ndarray, np.ndarray]]


def batches(count: int = 10, *, signal: float = 1.0) -> Pairs:
    """Noise around one pattern for each of three classes."""
    random = np.random.default_rng(0)
    patterns = signal * random.standard_normal((3, 12, 12, 3), dtype=np.float32)
    found = []
    for _ in range(count):
        labels = random.integers(3, size=12)
        noise = random.standard_normal((12, 12, 12, 3), dtype=np.float32)
        found.append((patterns[labels] + noise, labels))
    return found


def trainer(**options: object) -> Trainer:
    return Trainer("cifar_resnet20", num_classes=3, threads=1, **options)


def state_of(one: Trainer) -> dict[str, np.ndarray]:
    kinds = ("values", "first", "second", "average")
    tensors = {
        f"{kind}/{name}": one._core.read(kind, name)
        for kind in kinds
        for name, _, _ in one._core.tensors()
    }
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


@pytest.fixture(scope="module", params=["sgd", "adamw"])
def sweep(request) -> LrSweep:
    return find_lr(trainer(optimizer=request.param), batches(), steps=80)


def test_the_suggestion_is_where_the_loss_falls(sweep: LrSweep) -> None:
    assert sweep.exploded
    assert 1e-4 < sweep.suggestion < 0.2
    lowest = min(sweep.smoothed)
    assert sweep.suggestion < sweep.rates[sweep.smoothed.index(lowest)]
    assert lowest < 0.5 * sweep.smoothed[0]
    ratios = np.divide(sweep.rates[1:], sweep.rates[:-1])
    assert ratios == pytest.approx(np.full(len(ratios), (10 / 1e-5) ** (1 / 79)))
    assert str(sweep).startswith(f"lr={sweep.suggestion:.2g}: the loss fell from ")
    assert "this is a third of" in sweep.reason


def test_the_smoothed_loss_is_a_mean_of_the_losses_so_far(sweep: LrSweep) -> None:
    weights = SMOOTHING ** np.arange(10)[::-1]
    mean = float(weights @ sweep.losses[:10] / weights.sum())
    assert sweep.smoothed[9] == pytest.approx(mean)


def test_a_training_with_the_suggestion_learns(sweep: LrSweep) -> None:
    one = trainer(lr=sweep.suggestion)
    losses = [one.step(x, y) for x, y in batches()]
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("options", [{}, {"optimizer": "adamw", "average": 0.9}])
def test_the_trainer_stays_as_it_is(options: dict[str, object]) -> None:
    """Weights, the optimiser's memory and its steps; also after steps of its own."""
    one, untouched = trainer(**options), trainer(**options)
    data = batches(3)
    for x, y in data:
        assert one.step(x, y, lr=0.01) == untouched.step(x, y, lr=0.01)
    before = state_of(one)
    find_lr(one, data, steps=10)
    assert one.steps == 3
    assert all(np.array_equal(tensor, before[name]) for name, tensor in state_of(one).items())
    assert one.step(*data[0], lr=0.01) == untouched.step(*data[0], lr=0.01)


def test_a_copy_goes_its_own_way_from_the_same_place() -> None:
    options = {"freeze": "layer1", "lr_scales": {"backbone": 0.1}, "weight_decay": 0.01}
    one = trainer(**options)
    data = batches(3)
    one.step(*data[0])
    twin = one.copy()
    assert twin.frozen == one.frozen
    assert twin.steps == 1
    twin.step(*data[1])
    middle = one.state_dict()
    one.step(*data[1])
    for name, tensor in one.state_dict().items():
        assert np.array_equal(tensor, twin.state_dict()[name]), name
    assert not np.array_equal(middle["fc.weight"], one.state_dict()["fc.weight"])
    assert np.array_equal(
        middle["layer1.0.conv1.weight"], one.state_dict()["layer1.0.conv1.weight"]
    )


def test_labels_that_cannot_be_learnt_get_no_suggestion() -> None:
    random = np.random.default_rng(1)
    data = [(x, random.integers(3, size=12)) for x, _ in batches(80, signal=0)]
    sweep = find_lr(trainer(), data, steps=60)
    assert sweep.suggestion is None
    assert "the loss did not fall" in sweep.reason
    assert str(sweep).startswith("no learning rate: ")


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (1e-9, 1e-8, "pass a larger high, or more steps"),
        (1e3, 1e6, "look at the photos and their labels|pass a smaller low"),
    ],
)
def test_rates_that_are_all_too_small_or_too_large(low: float, high: float, words: str) -> None:
    sweep = find_lr(trainer(), batches(), low=low, high=high, steps=15)
    assert sweep.suggestion is None
    assert any(part in sweep.reason for part in words.split("|")), sweep.reason


def test_a_loader_is_taken() -> None:
    random = np.random.default_rng(0)
    labels = np.arange(24) % 2
    images = random.integers(0, 120, (24, 16, 16, 3), np.uint8)
    images[labels == 1] += 100
    photos = Labelled(images, labels, ("dark", "bright"))
    loader = Loader(photos, batch_size=8, size=12, augment=Augment(), workers=1)
    one = Trainer("cifar_resnet20", num_classes=2, threads=1)
    sweep = find_lr(one, loader, steps=30)
    assert len(sweep.rates) > 3 * len(loader)
    assert sweep.suggestion is not None


def test_the_curve_is_drawn(sweep: LrSweep, tmp_path: Path) -> None:
    path = tmp_path / "rates.png"
    sweep.save(path)
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    reds = (pixels[..., 0] > 180) & (pixels[..., 1] < 80)
    columns = np.flatnonzero(reds.sum(axis=0) > 200)
    assert 1 <= len(columns) <= 4  # the mark of the suggestion
    blues = (pixels[..., 2] > 150) & (pixels[..., 0] < 60)
    found = np.flatnonzero(blues.any(axis=0))
    assert found[0] < columns[0] < found[-1]
    no_mark = np.asarray(rate_curve([0.1, 1.0], [1.0, 2.0], [1.0, 1.5], None)).astype(int)
    assert not ((no_mark[..., 0] > 180) & (no_mark[..., 1] < 80)).any()
    with pytest.raises(ValueError, match="two learning rates or more"):
        rate_curve([0.1], [1.0], [1.0], None)


def test_bad_arguments() -> None:
    one = trainer()

    def refused(text: str, data: object, **options: float) -> None:
        with pytest.raises(ValueError, match=text):
            find_lr(one, data, **options)  # type: ignore[arg-type]

    refused("expected a Loader, or a list of pairs", [])
    refused("expected a Loader, or a list of pairs", [1, 2])
    refused("0 < low < high", batches(1), low=1.0, high=0.1)
    refused("0 < low < high", batches(1), low=0.0)
    refused("steps", batches(1), steps=9)
    x, y = batches(1)[0]
    with pytest.raises(TrainingError, match="before the first step"):
        find_lr(one, [(x * np.float32(np.nan), y)])

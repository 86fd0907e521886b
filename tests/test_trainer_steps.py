"""Steps of a `Trainer`: against torch, to the bit over threads, and over checkpoints."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from network_pairs import Array, nchw, noise
from torch import nn
from torch.nn import functional
from training_networks import CLASSES, NETWORKS, Pair

import resnet_rs
from resnet_rs import Trainer, TrainingError
from resnet_rs.training.schedule import SCHEDULES, Schedule

pytestmark = pytest.mark.usefixtures("one_torch_thread")

TINY = {"blocks": [1, 1, 1], "widths": [4, 8, 12], "stem_widths": [4]}
"""A variant of cifar_resnet20 that takes milliseconds."""


def tiny(**options: Any) -> Trainer:
    options = {"num_classes": 3, "variant": TINY, "lr": 0.05, **options}
    return Trainer("cifar_resnet20", **options)


def batch(count: int = 8, classes: int = 3, seed: int = 0, side: int = 32) -> tuple[Array, Array]:
    y = np.random.default_rng(seed).integers(0, classes, count)
    return noise(count, side, side, 3, seed=seed), y


def same(a: dict[str, Array], b: dict[str, Array]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def trainer_of(pair: Pair, **options: Any) -> Trainer:
    trainer = Trainer("resnet50", variant=pair.variant, num_classes=CLASSES, **options)
    for name, tensor in pair.tensors.items():
        trainer._core.write("values", name, np.ascontiguousarray(tensor, np.float32))
    return trainer


OPTIMIZERS: dict[str, tuple[dict[str, Any], Any]] = {
    "sgd": (
        {"lr": 0.02, "momentum": 0.9, "weight_decay": 1e-3},
        lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9, weight_decay=1e-3),
    ),
    "nesterov": (
        {"lr": 0.02, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-3},
        lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9, nesterov=True, weight_decay=1e-3),
    ),
    "plain": (
        {"lr": 0.02, "momentum": 0.0, "weight_decay": 0.0},
        lambda p: torch.optim.SGD(p, lr=0.02),
    ),
    "adamw": (
        {"optimizer": "adamw", "lr": 1e-3, "weight_decay": 0.01, "eps": 1e-3},
        lambda p: torch.optim.AdamW(p, lr=1e-3, weight_decay=0.01, eps=1e-3),
    ),
}


def torch_steps(
    pair: Pair,
    make: Any,
    batches: list[tuple[Array, Array]],
    dtype: torch.dtype,
    clip: float | None,
) -> dict[int, dict[str, Array]]:
    """The state after 1, 10 and all steps."""
    model = copy.deepcopy(pair.model).to(dtype).train()
    optimizer = make(model.parameters())
    states = {}
    for step, (x, y) in enumerate(batches, 1):
        optimizer.zero_grad()
        functional.cross_entropy(model(nchw(x).to(dtype)), torch.from_numpy(y)).backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        if step in (1, 10, len(batches)):
            states[step] = {
                name: tensor.double().numpy().copy()
                for name, tensor in model.state_dict().items()
                if "tracked" not in name
            }
    return states


def distance(a: dict[str, Array], b: dict[str, Array]) -> float:
    return math.sqrt(sum(float(np.sum((a[n] - b[n]) ** 2)) for n in b))


STEPS = (1, 10, 100)
RUNS = 5
"""The runs whose median counts: now and then a value is nearly 0, and rounding decides a ReLU."""

SIDE = 16


@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_stay_beside_torch(name: str, clip: float | None) -> None:
    """After 1, 10 and 100 steps at most 3 times as far from float64 as torch in float32.

    With a bound of the gradients' norm after 1 and 10: it leaves nothing behind for later steps.
    """
    steps = STEPS if clip is None else STEPS[:-1]
    options, make = OPTIMIZERS[name]
    pair = Pair(NETWORKS["option-b"], (SIDE, SIDE))
    pair.tensors = {n: t.astype(np.float32).astype(np.float64) for n, t in pair.tensors.items()}
    pair.model.load_state_dict(
        {n: torch.from_numpy(t) for n, t in pair.tensors.items()}, strict=False
    )
    found: dict[int, list[tuple[float, float]]] = {step: [] for step in steps}
    for run in range(RUNS):
        count = steps[-1] if run < 3 else STEPS[-2]
        batches = [batch(4, CLASSES, 1000 * run + seed, SIDE) for seed in range(count)]
        exact = torch_steps(pair, make, batches, torch.float64, clip)
        rounded = torch_steps(pair, make, batches, torch.float32, clip)
        trainer = trainer_of(pair, **options, clip_norm=clip, decay_norms=True)
        for step, (x, y) in enumerate(batches, 1):
            trainer.step(x, y)
            if step in exact:
                ours = distance(trainer.state_dict(), exact[step])
                found[step].append((ours, distance(rounded[step], exact[step])))
        assert trainer.steps == count
    scale = distance(exact[1], {n: np.zeros(1) for n in exact[1]})
    for step, pairs in found.items():
        ours, theirs = np.median(pairs, axis=0)
        assert ours <= max(3 * theirs, 1e-6 * scale), (step, pairs)


def test_momentum_is_torchs() -> None:
    pair = Pair(NETWORKS["option-b"], (32, 32))
    model = copy.deepcopy(pair.model).float().train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    trainer = trainer_of(pair, lr=0.02, momentum=0.9, weight_decay=0.0)
    for seed in range(3):
        x, y = batch(8, CLASSES, seed)
        optimizer.zero_grad()
        functional.cross_entropy(model(nchw(x)), torch.from_numpy(y)).backward()
        optimizer.step()
        trainer.step(x, y)
    for name, parameter in model.named_parameters():
        expected = optimizer.state[parameter]["momentum_buffer"].numpy()
        found = trainer._core.read("first", name)
        assert np.linalg.norm(found - expected) <= 1e-3 * np.linalg.norm(expected) + 1e-6, name


class TestGroups:
    def test_decay_leaves_norms_and_biases_alone(self) -> None:
        trainer = tiny(lr=0.1, weight_decay=0.5, momentum=0.0)
        before = trainer.state_dict()
        x, y = batch()
        trainer.backward(x, y)
        gradients = trainer.gradients()
        trainer.update()
        for name, after in trainer.state_dict().items():
            if "running" in name:
                continue
            decay = 0.5 if name.endswith("weight") and after.ndim > 1 else 0.0
            expected = before[name] - 0.1 * (gradients[name] + decay * before[name])
            np.testing.assert_allclose(after, expected, atol=1e-6, err_msg=name)

    def test_rates_by_name(self) -> None:
        trainer = tiny(
            lr=0.1, weight_decay=0.0, momentum=0.0, lr_scales={"backbone": 0.1, "layer3": 0.5}
        )
        before = trainer.state_dict()
        trainer.step(*batch())
        gradients = trainer.gradients()
        for name, after in trainer.state_dict().items():
            if "running" in name:
                continue
            factor = 1.0 if name.startswith("fc") else 0.5 if name.startswith("layer3") else 0.1
            expected = before[name] - 0.1 * factor * gradients[name]
            np.testing.assert_allclose(after, expected, atol=1e-6, err_msg=name)

    def test_averages(self) -> None:
        trainer = tiny(average=0.9)
        expected = {n: t.astype(np.float64) for n, t in trainer.state_dict().items()}
        for seed in range(4):
            trainer.step(*batch(seed=seed))
            for name, tensor in trainer.state_dict().items():
                expected[name] = 0.9 * expected[name] + 0.1 * tensor
        for name, tensor in trainer.state_dict(average=True).items():
            np.testing.assert_allclose(tensor, expected[name], atol=1e-5, err_msg=name)

    def test_without_averages_there_are_none(self) -> None:
        with pytest.raises(ValueError, match="average"):
            tiny().state_dict(average=True)

    def test_other_gradients_are_applied(self) -> None:
        trainer, other = tiny(), tiny()
        for seed in range(2):
            trainer.step(*batch(seed=seed))
            other.backward(*batch(seed=seed))
            other.apply(other.gradients())
        assert same(trainer.state_dict(), other.state_dict())

    def test_shares_of_a_batch_add_up(self) -> None:
        trainer = tiny(freeze="norms")
        x, y = batch(8)
        trainer.backward(x, y)
        whole = trainer.gradients()
        trainer.backward(x[:4], y[:4], share=0.5)
        trainer.backward(x[4:], y[4:], share=0.5, accumulate=True)
        for name, gradient in trainer.gradients().items():
            scale = np.abs(whole[name]).max()
            np.testing.assert_allclose(gradient, whole[name], atol=1e-5 * scale, err_msg=name)


class TestBits:
    def run(self, steps: int, threads: int, isa: str | None = None) -> dict[str, Array]:
        trainer = tiny(threads=threads, isa=isa, nesterov=True, average=0.9)
        for seed in range(steps):
            trainer.step(*batch(5 + seed, seed=seed))
        return {**trainer.state_dict(), "average": trainer.state_dict(average=True)["fc.weight"]}

    def test_threads_change_no_bit(self, isa: str) -> None:
        one = self.run(4, 1, isa)
        for threads in (2, 4):
            assert same(one, self.run(4, threads, isa)), threads

    def test_a_wider_network_too(self) -> None:
        variant = {"blocks": [1, 1, 1], "widths": [32, 64, 96], "stem_widths": [32]}
        states = []
        for threads in (1, 2, 3):
            trainer = tiny(variant=variant, threads=threads)
            for seed in range(2):
                trainer.step(*batch(16, seed=seed))
            states.append(trainer.state_dict())
        assert same(states[0], states[1])
        assert same(states[0], states[2])

    def test_a_seed_gives_the_same_weights_and_another_seed_others(self) -> None:
        assert same(tiny(seed=3).state_dict(), tiny(seed=3).state_dict())
        assert not same(tiny(seed=3).state_dict(), tiny(seed=4).state_dict())

    @pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
    def test_a_checkpoint_goes_on_to_the_bit(self, optimizer: str, tmp_path: Path) -> None:
        path = tmp_path / "checkpoint.safetensors"
        first = tiny(optimizer=optimizer, average=0.9)
        for seed in range(3):
            first.step(*batch(seed=seed))
        first.checkpoint(path, note="here")
        second = tiny(optimizer=optimizer, average=0.9, seed=9)
        assert second.resume(path) == {"note": "here"}
        for seed in range(3, 6):
            assert first.step(*batch(seed=seed)) == second.step(*batch(seed=seed))
        assert same(first.state_dict(), second.state_dict())
        assert same(first.state_dict(average=True), second.state_dict(average=True))
        assert first.steps == second.steps == 6

    def test_a_checkpoint_of_another_network_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "checkpoint.safetensors"
        tiny().checkpoint(path)
        with pytest.raises(ValueError, match="expected a checkpoint of"):
            tiny(num_classes=4).resume(path)
        tiny().save(tmp_path / "saved")
        with pytest.raises(ValueError, match="without its state"):
            tiny().resume(tmp_path / "saved" / "model.safetensors")


class TestResults:
    def test_torch_loads_what_was_trained(self) -> None:
        pair = Pair(NETWORKS["bottleneck"])
        trainer = trainer_of(pair, lr=0.01)
        for seed in range(3):
            trainer.step(noise(4, 64, 64, 3, seed=seed), [0, 1, 2, 3])
        state = {name: torch.from_numpy(t) for name, t in trainer.state_dict().items()}
        model = copy.deepcopy(pair.model).float()
        model.load_state_dict(state, strict=False)
        x = noise(3, 64, 64, 3, seed=7)
        with torch.no_grad():
            expected = model.eval()(nchw(x)).numpy()
        found = trainer.logits(x)
        assert np.linalg.norm(found - expected) <= 1e-5 * np.linalg.norm(expected)

    def test_saved_weights_are_loaded(self, tmp_path: Path) -> None:
        trainer = tiny(labels=["a", "b", "c"], num_classes=None)
        trainer.step(*batch())
        trainer.save(tmp_path / "saved")
        model = resnet_rs.load(tmp_path / "saved")
        x, _ = batch(seed=5)
        assert np.array_equal(model.forward(x), trainer.logits(x))
        assert model.labels == ("a", "b", "c")
        with pytest.raises(FileExistsError):
            trainer.save(tmp_path / "saved")
        trainer.save(tmp_path / "saved", force=True)

    def test_evaluate(self) -> None:
        trainer = tiny(labels=["a", "b", "c"], num_classes=None)
        x, y = batch(30)
        for _ in range(40):
            trainer.step(x, y)
        evaluation = trainer.evaluate(x, y, batch_size=7)
        assert evaluation.top1 > 0.8
        assert evaluation.classes == ("a", "b", "c")


class TestBeginning:
    def test_weights_with_other_classes_get_a_new_last_layer(self, demo_dir: Path) -> None:
        trainer = Trainer(demo_dir, num_classes=4)
        assert trainer.num_classes == 4
        assert "last layer is new" in trainer.remarks[0]
        assert "10 classes" in trainer.remarks[0]
        kept = Trainer(demo_dir)
        assert kept.num_classes == 10
        assert not kept.remarks
        ours, theirs = trainer.state_dict(), kept.state_dict()
        assert all(np.array_equal(ours[n], theirs[n]) for n in ours if not n.startswith("fc."))

    def test_the_config_states_what_the_caller_left_open(self) -> None:
        trainer = tiny()
        assert (trainer.config["num_classes"], trainer.config["activation"]) == (3, "softmax")
        assert trainer.preprocessing.resize == trainer.config["preprocessing"]["resize"] == 32

    def test_a_loaded_model_is_taken(self, demo_dir: Path) -> None:
        model = resnet_rs.load(demo_dir)
        trainer = Trainer(model)
        assert same(trainer.state_dict(), Trainer(demo_dir).state_dict())

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"num_classes": None}, "num_classes"),
            ({"num_classes": 0}, "num_classes"),
            ({"num_classes": 1}, "num_classes: expected at least 2 classes"),
            ({"labels": ["a", "b"]}, "labels: expected 3"),
            ({"lr": -1}, "lr"),
            ({"lr": "fast"}, "lr"),
            ({"momentum": 1.5}, "momentum"),
            ({"optimizer": "lion"}, "optimizer: expected sgd or adamw"),
            ({"nesterov": True, "momentum": 0.0}, "nesterov"),
            ({"label_smoothing": 2}, "label_smoothing"),
            ({"class_weights": [1, 2]}, "class_weights"),
            ({"betas": (0.9,)}, "betas"),
            ({"betas": (0.9, 1.0)}, "betas"),
            ({"lr_scales": {"layer9": 1}}, "lr_scales"),
            ({"architecture": "resnet50"}, "architecture"),
            ({"isa": "mmx"}, "mmx"),
            ({"threads": 0}, "threads"),
            ({"seed": -1}, "seed"),
        ],
        ids=str,
    )
    def test_wrong_arguments_are_named(self, options: dict[str, Any], words: str) -> None:
        with pytest.raises((TypeError, ValueError), match=words):
            tiny(**options)

    def test_something_that_is_nothing_names_the_architectures(self) -> None:
        with pytest.raises(FileNotFoundError, match="resnet18"):
            Trainer("resnet51", num_classes=3)

    @pytest.mark.parametrize(
        ("x", "y", "words"),
        [
            (noise(4, 32, 32, 3), [0, 1, 2], "a label for each"),
            (noise(4, 32, 32, 3), [0, 1, 2, 3], "labels are from 0 to 2"),
            (noise(4, 3, 32, 32), [0, 1, 2, 0], "NCHW"),
            (noise(32, 32, 3), [0], "batch, height, width"),
            (np.zeros((4, 32, 32, 3), np.uint8), [0, 1, 2, 0], "uint8"),
            (np.zeros((0, 32, 32, 3), np.float32), [], "y must be a batch"),
            (noise(4, 32, 32, 3), np.full((4, 2), 0.5), "soft targets"),
        ],
        ids=["few", "range", "nchw", "one", "uint8", "empty", "soft"],
    )
    def test_wrong_batches_are_named(self, x: Array, y: Any, words: str) -> None:
        with pytest.raises((TypeError, ValueError), match=words):
            tiny().step(x, y)

    def test_a_single_value_of_a_channel_is_refused(self) -> None:
        trainer = Trainer("resnet18", num_classes=2)
        with pytest.raises(ValueError, match="single value of each channel"):
            trainer.step(noise(1, 32, 32, 3), [0])


class TestNoNumber:
    def test_the_step_is_named_and_nothing_changes(self) -> None:
        trainer = tiny()
        trainer.step(*batch())
        before = trainer.state_dict()
        x, y = batch()
        x[3, 2, 1, 0] = np.nan
        with pytest.raises(TrainingError, match=r"step 2: the loss is nan, and x has values"):
            trainer.step(x, y)
        assert same(trainer.state_dict(), before)
        assert trainer.steps == 1

    def test_a_rate_that_is_too_large(self) -> None:
        trainer = tiny(lr=1e30)
        trainer.step(*batch())
        with pytest.raises(TrainingError, match="smaller learning rate"):
            trainer.step(*batch())

    def test_gradients_that_are_no_numbers(self) -> None:
        trainer = tiny(clip_norm=1.0)
        trainer.step(*batch())
        before = trainer.state_dict()
        gradients = trainer.gradients()
        gradients["fc.bias"][0] = np.inf
        with pytest.raises(TrainingError, match="norm is inf"):
            trainer.apply(gradients)
        assert same(trainer.state_dict(), before)


class TestSchedules:
    def test_one_cycle_is_torchs(self) -> None:
        parameter = torch.zeros(1, requires_grad=True)
        optimizer = torch.optim.SGD([parameter], lr=1.0)
        theirs = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=0.4,
            total_steps=101,
            pct_start=0.25,
            div_factor=25,
            final_div_factor=400,
            cycle_momentum=False,
        )
        ours = Schedule("one_cycle", 0.4)
        for step in range(101):
            # torch's phases end at whole steps, the first one at step 24.25.
            assert ours.at(step / 100) == pytest.approx(theirs.get_last_lr()[0], abs=0.012)
            optimizer.step()
            if step < 100:
                theirs.step()

    def test_shapes(self) -> None:
        cosine = Schedule("cosine", 1.0, warmup=0.1)
        assert [round(cosine.at(d), 3) for d in (0.05, 0.1, 0.55, 1.0)] == [0.5, 1.0, 0.5, 0.0]
        step = Schedule("step", 1.0)
        assert [round(step.at(d), 3) for d in (0, 0.49, 0.5, 0.75, 1)] == [1, 1, 0.1, 0.01, 0.01]
        assert Schedule("constant", 0.3).at(0.7) == 0.3
        for kind in SCHEDULES:
            assert all(0 <= Schedule(kind, 0.1).at(d / 50) <= 0.1 for d in range(-5, 60))

    def test_wrong_ones_are_named(self) -> None:
        with pytest.raises(ValueError, match="schedule"):
            Schedule("triangle", 0.1)
        with pytest.raises(ValueError, match="warmup"):
            Schedule("cosine", 0.1, warmup=1.0)

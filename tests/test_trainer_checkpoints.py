"""Checkpoints of a `Trainer` that are spoilt, partial, or of an earlier step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from network_pairs import Array, noise

from resnet_rs import Trainer, TrainingError, _core

TINY = {"blocks": [1, 1, 1], "widths": [4, 8, 12], "stem_widths": [4]}
X, Y = noise(4, 24, 24, 3), [0, 1, 2, 0]


def tiny(**options: Any) -> Trainer:
    return Trainer("cifar_resnet20", num_classes=3, variant=TINY, lr=0.05, **options)


def everything(trainer: Trainer) -> dict[str, Array]:
    """All numbers that a step depends on."""
    return {
        f"{kind}/{name}": array
        for kind in ("values", "first", "second", "average")
        for name, _, _ in trainer._core.tensors()
        if (array := trainer._core.read(kind, name)) is not None
    }


def same(a: dict[str, Array], b: dict[str, Array]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_back_to_a_checkpoint_before_the_first_step(optimizer: str, tmp_path: Path) -> None:
    """A trainer that has gone on forgets its momentum, its averages and its steps."""
    path = tmp_path / "checkpoint.safetensors"
    trainer = tiny(optimizer=optimizer, average=0.9)
    trainer.checkpoint(path)
    losses = [trainer.step(X, Y) for _ in range(3)]
    first = everything(trainer)
    trainer.resume(path)
    assert trainer.steps == 0
    assert [trainer.step(X, Y) for _ in range(3)] == losses
    assert same(everything(trainer), first)


def test_averages_begin_with_the_weights_of_a_checkpoint_without_any(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    first = tiny(seed=4)
    first.step(X, Y)
    first.checkpoint(path)
    trainer = tiny(average=0.5)
    trainer.resume(path)
    found = trainer.state_dict(average=True)
    assert same(found, first.state_dict())


def test_further_values_come_back(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    values = {"epoch": 3, "note": "\u00e9", "list": [1.5, None, {"deep": True}]}
    tiny().checkpoint(path, **values)
    assert tiny().resume(path) == values
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def state_of(**changes: Any) -> str:
    config = {"architecture": "cifar_resnet20", "variant": TINY, "num_classes": 3}
    return json.dumps({"version": 1, "steps": 1, "config": config, "more": {}} | changes)


STATES = {
    "no JSON": ("{", "JSON"),
    "a list": ("[]", "JSON"),
    "deep": ("[" * 100_000, "JSON"),
    "version": (state_of(version=2), "version 1"),
    "config": (state_of(config=None), "checkpoint of"),
    "classes": (state_of(config={"num_classes": 4}), "checkpoint of"),
    "steps": (state_of(steps=-1), "number of steps"),
    "text": (state_of(steps="3"), "number of steps"),
    "huge": (state_of(steps=2**70), "number of steps"),
    "more": (state_of(more=[]), "further values"),
}


@pytest.mark.parametrize("name", STATES)
def test_a_state_that_is_spoilt(name: str, tmp_path: Path) -> None:
    text, words = STATES[name]
    path = tmp_path / "checkpoint.safetensors"
    trainer = tiny()
    trainer.step(X, Y)
    tensors = everything(trainer)
    _core.write_safetensors(str(path), tensors, {"resnet_rs_trainer": text})
    before = everything(trainer)
    with pytest.raises(ValueError, match=words) as caught:
        trainer.resume(path)
    assert str(caught.value).startswith(str(path))
    assert same(everything(trainer), before)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"values/fc.bias": None}, "expected the tensor values/fc.bias"),
        ({"values/bn1.running_var": None}, "values/bn1.running_var"),
        ({"first/conv1.weight": None}, "first/conv1.weight"),
        (
            {"values/fc.bias": np.zeros(4, np.float32)},
            r"fc.bias: expected shape \[3\]; found \[4\]",
        ),
        ({"values/extra": np.zeros(4, np.float32)}, "expected no such one"),
        ({"third/fc.bias": np.zeros(3, np.float32)}, "expected no such one"),
    ],
    ids=["values", "statistics", "momentum", "shape", "surplus", "set"],
)
def test_tensors_that_are_missing_or_others(
    change: dict[str, Any], words: str, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint.safetensors"
    trainer = tiny()
    trainer.step(X, Y)
    tensors = {n: t for n, t in {**everything(trainer), **change}.items() if t is not None}
    _core.write_safetensors(str(path), tensors, {"resnet_rs_trainer": state_of()})
    other = tiny(seed=5)
    before = everything(other)
    with pytest.raises(ValueError, match=words) as caught:
        other.resume(path)
    assert str(path) in str(caught.value)
    assert same(everything(other), before)


def test_weights_that_are_not_finite_are_named() -> None:
    trainer = tiny()
    trainer.backward(X, Y)
    gradients = trainer.gradients()
    gradients["layer2.0.conv1.weight"][0, 0, 0, 0] = np.inf
    trainer.apply(gradients)
    words = r"step 2: the loss is nan, and layer2\.0\.conv1\.weight is not finite since a step"
    with pytest.raises(TrainingError, match=words):
        trainer.step(X, Y)

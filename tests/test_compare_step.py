"""`compare_step`: right steps agree, and planted mistakes are found and named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from network_pairs import load, noise
from planted_mistakes import network
from planted_steps import LABELS, PLANTS, StepPlant, step
from tiny_torch import tiny_variant
from torch.nn import functional

import resnet_rs
from resnet_rs import _core, compare_step
from resnet_rs.inspect.compare import Comparison
from resnet_rs.inspect.compare.training_step import STEP_TOLERANCE

PREPROCESSING = {"resize": 72, "crop": 64}
IMAGES = noise(3, 47, 40, 3)
NCHW = torch.from_numpy(IMAGES.transpose(0, 3, 1, 2).copy())


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("right")


@pytest.fixture(scope="module")
def model(directory) -> resnet_rs.ResNet:
    """The right network: `TinyResNet` in our core."""
    return load(
        network(),
        directory,
        architecture="resnet50",
        variant=tiny_variant(),
        preprocessing=PREPROCESSING,
    )


@pytest.fixture(scope="module")
def reference(model, directory) -> resnet_rs.ResNet:
    return resnet_rs.load(directory, backend="reference")


def check(comparison: Comparison, layer: str, mistake: str, text: str) -> None:
    found = comparison.diagnosis
    assert not comparison.ok
    assert found is not None, str(comparison)
    assert (found.layer, found.mistake) == (layer, mistake), str(found)
    assert text in found.text
    assert f"it looks like: {mistake}, at {layer}" in str(comparison)


def test_a_right_step_agrees(model, reference) -> None:
    """Core, reference and torch, each as the right side or the other one."""
    module = network().train()
    entries = step(NCHW)
    for right in (model, reference):
        for other in (module, entries, model, reference):
            comparison = compare_step(right, other, IMAGES, list(LABELS))
            assert comparison.ok, str(comparison)
            assert "values agree" in str(comparison)
            assert max(row.relative_l2 for row in comparison.rows) < 1e-4
    names = [row.name for row in compare_step(model, module, IMAGES, list(LABELS)).rows]
    assert names[:2] == ["bn1.running_mean", "bn1.running_var"]
    after = names[names.index("loss") :]
    assert after[:5] == [
        "loss",
        "fc.weight",
        "fc.bias",
        "layer4.0.downsample.1.weight",
        "layer4.0.downsample.1.bias",
    ]
    assert after[-1] == "conv1.weight"


def test_the_module_stays_as_it_was(model) -> None:
    module = network().train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    compare_step(model, module, IMAGES, list(LABELS))
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.name)
def test_a_mistake_is_found(model, plant: StepPlant) -> None:
    comparison = compare_step(model, plant.make(NCHW), IMAGES, list(LABELS))
    check(comparison, plant.layer, plant.mistake, plant.text)


def test_missing_smoothing_is_found(model) -> None:
    comparison = compare_step(model, step(NCHW), IMAGES, list(LABELS), label_smoothing=0.1)
    check(comparison, "loss", "label smoothing", "the labels are not smoothed: 0.1 is missing")


def test_an_unknown_mistake_is_not_guessed(model) -> None:
    entries = step(NCHW)
    entries["layer3.0.conv3.weight"] = torch.randn_like(entries["layer3.0.conv3.weight"])
    comparison = compare_step(model, entries, IMAGES, list(LABELS))
    assert comparison.first_wrong == "layer3.0.conv3.weight"
    assert comparison.diagnosis is None
    assert "this looks like no mistake that is known here" in str(comparison)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_weights_after_a_step(model, momentum: float) -> None:
    module = network().train()
    sgd = torch.optim.SGD(module.parameters(), lr=0.1, momentum=momentum, weight_decay=0.01)
    functional.cross_entropy(module(NCHW), torch.tensor(LABELS)).backward()
    sgd.step()
    state = module.state_dict()
    options = {"lr": 0.1, "weight_decay": 0.01}
    comparison = compare_step(model, state, IMAGES, list(LABELS), **options)
    assert comparison.ok, str(comparison)
    assert not comparison.missing
    check(
        compare_step(model, state, IMAGES, list(LABELS), lr=0.1, weight_decay=0.5),
        "fc.weight",
        "weight decay",
        "0.01 times the weights is in the gradients; 0.5 was expected",
    )
    module = network().train()
    functional.cross_entropy(module(NCHW), torch.tensor(LABELS)).backward()
    torch.optim.SGD(module.parameters(), lr=0.1).step()
    state = module.state_dict()
    check(
        compare_step(model, state, IMAGES, list(LABELS), lr=0.1, weight_decay=0.5),
        "fc.weight",
        "weight decay",
        "the step has no weight decay; 0.5 was expected",
    )
    check(
        compare_step(model, state, IMAGES, list(LABELS), lr=0.25),
        "loss",
        "learning rate",
        "the learning rate was 0.1, not 0.25",
    )


def test_frozen_norms(model, reference) -> None:
    module = network().train()
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.eval().requires_grad_(False)
    for right in (model, reference):
        comparison = compare_step(right, module, IMAGES, list(LABELS), frozen="norms")
        assert comparison.ok, str(comparison)
        assert not any("bn" in row.name for row in comparison.rows)


def test_gradients_by_results_narrow_the_mistake(model, tmp_path) -> None:
    """With every gradient by a result, the ReLU itself is the first that differs."""
    trace = model.trace_gradients(IMAGES, list(LABELS))
    file = tmp_path / "gradients.npz"
    trace.save(file)
    comparison = compare_step(model, file)
    assert comparison.ok, str(comparison)
    assert len(comparison.rows) > len(trace) // 2
    entries = dict(np.load(file))
    entries["layer4.0.bn2"] = np.maximum(entries["layer4.0.relu2"], 0)
    check(compare_step(model, entries), "layer4.0.relu2", "ReLU's gradient", "sign of the gradient")
    nchw = {
        name: value.transpose(0, 3, 1, 2) if value.ndim == 4 and "weight" not in name else value
        for name, value in dict(np.load(file)).items()
    }
    assert compare_step(model, {**nchw, "layout": "NCHW"}).ok
    with pytest.raises(ValueError, match="no entry 'layout'"):
        compare_step(model, {n: v for n, v in entries.items() if n != "layout"})


def test_files_of_gradients(model, tmp_path) -> None:
    gradients = {n: g.float() for n, g in step(NCHW).items() if "num_" not in n}
    torch.save(gradients, tmp_path / "g.pth")
    arrays = {name: np.ascontiguousarray(value.numpy()) for name, value in gradients.items()}
    _core.write_safetensors(str(tmp_path / "g.safetensors"), arrays, {})
    np.savez(tmp_path / "g.npz", layout="NHWC", image=IMAGES, labels=np.array(LABELS), **arrays)
    for name in ("g.pth", "g.safetensors"):
        assert compare_step(model, tmp_path / name, IMAGES, list(LABELS)).ok
    assert compare_step(model, tmp_path / "g.npz").ok


def test_bad_arguments(model, tmp_path) -> None:
    def refused(error: type[Exception], text: str, *sides: object, **options: object) -> None:
        with pytest.raises(error, match=text):
            compare_step(*sides, **options)

    right = (model, step(NCHW), IMAGES, list(LABELS))
    refused(ValueError, "tolerance must be above 0", *right, tolerance=0)
    refused(TypeError, "model: expected a model", {}, {}, IMAGES, list(LABELS))
    refused(TypeError, "takes a mapping of gradients", model, 3, IMAGES, list(LABELS))
    refused(ValueError, "expected images and labels", model, {})
    refused(ValueError, "no value in common.*has weight", model, {"weight": 0.0}, *right[2:])
    refused(ValueError, "a label for each of 3 images; got 2", *right[:3], [1, 2])
    refused(ValueError, "labels are from 0 to 4", *right[:3], [1, 2, 5])
    refused(ValueError, "label 'cat': no such class", *right[:3], ["cat", 1, 2])
    refused(ValueError, "frozen: no operation 'bn9'", *right, frozen=["bn9"])
    refused(ValueError, "pass lr too", *right, weight_decay=0.1)
    refused(ValueError, "lr must be above 0", *right, lr=-1.0)
    refused(ValueError, "only a mapping or a file", model, network(), *right[2:], lr=0.1)
    refused(ValueError, "expected gradients by name, as .npz", model, "g.txt", *right[2:])
    refused(TypeError, "fc.bias: expected an array", model, {"fc.bias": [1]}, *right[2:])
    (tmp_path / "g.pth").write_bytes(b"no pickle")
    refused(ValueError, "g.pth: ", model, tmp_path / "g.pth", *right[2:])


def test_the_comparison_becomes_json(model) -> None:
    comparison = compare_step(model, step(NCHW, train=False), IMAGES, list(LABELS))
    values = json.loads(json.dumps(comparison.as_dict()))
    assert values["first_wrong"] == "bn1.running_mean"
    assert values["tolerance"] == STEP_TOLERANCE

"""`model.trace_gradients` and `resnet-rs trace --label`: gradients by name, beside torch's."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import DEMO
from network_pairs import load, noise, relative_l2
from planted_mistakes import network
from planted_steps import LABELS, step
from tiny_model import write_tiny_model
from tiny_torch import tiny_variant

import resnet_rs
from resnet_rs.cli import compare as compare_command
from resnet_rs.cli import trace as trace_command

IMAGES = noise(3, 47, 40, 3)
NCHW = torch.from_numpy(IMAGES.transpose(0, 3, 1, 2).copy())


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> resnet_rs.ResNet:
    directory = tmp_path_factory.mktemp("right")
    return load(network(), directory, architecture="resnet50", variant=tiny_variant())


def run(command, words: Sequence[object]) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    arguments = parser.parse_args([str(word) for word in words])
    status: int = arguments.run(arguments)
    return status


def test_gradients_are_those_of_torch(model) -> None:
    trace = model.trace_gradients(IMAGES, list(LABELS))
    expected = step(NCHW)
    tensors = [name for name in trace if name in expected]
    assert len(tensors) == sum(1 for name in expected if name.endswith(("weight", "bias")))
    for name in tensors:
        assert relative_l2(trace[name], expected[name].numpy()) < 1e-12
    for name, value in trace.statistics.items():
        assert relative_l2(value, expected[name].numpy()) < 1e-12


def test_gradients_by_results_and_the_image_are_those_of_torch(model) -> None:
    module = network().double().train()
    for part in module.modules():
        if isinstance(part, torch.nn.ReLU):
            part.inplace = False  # hooks of gradients do not go together with it
    kept: dict[str, torch.Tensor] = {}
    x = NCHW.double().requires_grad_(True)
    for name in ("conv1", "layer1", "layer3.0.bn2", "fc"):
        module.get_submodule(name).register_full_backward_hook(
            lambda _, __, grads, name=name: kept.update({name: grads[0]})
        )
    loss = torch.nn.functional.cross_entropy(module(x), torch.tensor(LABELS))
    loss.backward()
    trace = model.trace_gradients(IMAGES, list(LABELS))
    assert trace.loss == pytest.approx(float(loss.detach()), rel=1e-12)
    assert x.grad is not None
    kept["image"] = x.grad
    for name, gradient in kept.items():
        array = gradient.numpy()
        nhwc = array.transpose(0, 2, 3, 1) if array.ndim == 4 else array[:, None, None]
        ours = trace["layer1.0" if name == "layer1" else name]
        assert relative_l2(ours, nhwc) < 1e-12, name


def test_the_order_is_that_of_the_way_back(model) -> None:
    names = list(model.trace_gradients(IMAGES, list(LABELS)))
    assert names[:4] == ["fc", "fc.weight", "fc.bias", "avgpool"]
    assert names[-3:] == ["conv1", "conv1.weight", "image"]
    assert len(names) == len(set(names))


def test_labels_by_name_smoothing_and_frozen_operations(tmp_path) -> None:
    model = load(
        network(),
        tmp_path,
        architecture="resnet50",
        variant=tiny_variant(),
        labels=["ant", "bee", "cat", "dog", "emu"],
    )
    by_index = model.trace_gradients(IMAGES, [1, 3, 0])
    by_name = model.trace_gradients(IMAGES, ["bee", "dog", "ant"])
    assert np.array_equal(by_index["fc.bias"], by_name["fc.bias"])
    smooth = model.trace_gradients(IMAGES, [1, 3, 0], label_smoothing=0.1)
    assert not np.array_equal(by_index["fc.bias"], smooth["fc.bias"])
    frozen = model.trace_gradients(IMAGES, [1, 3, 0], frozen="norms")
    assert "bn1.weight" not in frozen
    assert "bn1" in frozen
    with pytest.raises(ValueError, match="label 'eel': no such class; expected an index, or a nam"):
        model.trace_gradients(IMAGES, ["eel", 0, 0])
    with pytest.raises(KeyError, match=r"no gradient by 'fc.weigth'; did you mean 'fc.weight'"):
        by_index["fc.weigth"]


def test_one_pixel_in_each_channel_is_refused(model) -> None:
    with pytest.raises(ValueError, match="train with a larger batch or larger pictures"):
        model.trace_gradients(IMAGES[:1, :16, :16], 0)


def test_no_last_layer_is_refused() -> None:
    model = resnet_rs.load(DEMO, num_classes=0)
    with pytest.raises(ValueError, match="no last layer"):
        model.trace_gradients(IMAGES, list(LABELS))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"), crop=64)


def test_the_command_prints_a_table_json_and_a_file(
    demo_photo: Path, tiny: Path, tmp_path, capsys
) -> None:
    words = [demo_photo, "--weights", tiny]
    assert run(trace_command, [*words, "--label", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Trace of 108 gradients, input 1 x 64 x 64 x 3, loss ")
    assert lines[2].split()[:5] == ["gradient", "by", "kind", "shape", "norm"]
    assert lines[3].split()[0] == "fc"
    assert run(trace_command, [*words, "--label", "class 2", "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows[1]["name"] == "fc.weight"
    assert rows[1]["norm"] > 0
    out = tmp_path / "g.npz"
    assert run(trace_command, [*words, "--label", "2", "--out", out]) == 0
    assert run(compare_command, ["--weights", tiny, "--against", out]) == 0
    assert "values agree" in capsys.readouterr().out
    assert run(trace_command, [*words, "--label", "12"]) == 2
    assert "labels are from 0 to 4" in capsys.readouterr().err
    assert run(trace_command, [*words, "--label", "2", "--fused"]) == 2
    assert "leave it out with --label" in capsys.readouterr().err


def test_the_command_compares_a_file_and_weights(
    demo_photo: Path, tiny: Path, tmp_path, capsys
) -> None:
    words = [demo_photo, "--weights", tiny]
    trace = resnet_rs.load(tiny).trace_gradients(demo_photo, 2)
    file = tmp_path / "g.npz"
    np.savez(file, **{name: trace[name] for name in trace if name.endswith(("weight", "bias"))})
    against = [*words, "--against", file, "--label"]
    assert run(compare_command, [*against, "2"]) == 0
    assert run(compare_command, [*against, "3"]) == 1
    assert "it looks like: labels off by one, at loss" in capsys.readouterr().out
    assert run(compare_command, [*words, "--against", tiny, "--label", "2"]) == 0
    assert run(compare_command, [*words, "--against", tiny, "--lr", "0.1"]) == 2
    assert "add --label" in capsys.readouterr().err


def test_the_command_compares_with_torch(demo_photo: Path, capsys) -> None:
    words = [demo_photo, "--weights", DEMO, "--against", "torch", "--label", "2"]
    assert run(compare_command, words) == 0
    assert "all 268 values agree" in capsys.readouterr().out

"""`summary`: what a network is made of and what it costs, against the published numbers."""

from __future__ import annotations

import argparse
import json

import pytest
import torchvision
from conftest import DEMO
from network_pairs import load
from tiny_torch import TinyResNet, tiny_variant

import resnet_rs
from resnet_rs import _core
from resnet_rs.cli import summary as command
from resnet_rs.inspect.summary import Summary, summarize_architecture

PUBLISHED = {
    # torchvision's `num_params` and `_ops` (10^9 multiply-accumulates, three decimals).
    "resnet18": (11_689_512, 1.814),
    "resnet34": (21_797_672, 3.664),
    "resnet50": (25_557_032, 4.089),
    "resnet101": (44_549_160, 7.801),
    "resnet152": (60_192_808, 11.514),
    "resnext50_32x4d": (25_028_904, 4.230),
    "resnext101_32x8d": (88_791_336, 16.414),
    "resnext101_64x4d": (83_455_272, 15.460),
    "wide_resnet50_2": (68_883_240, 11.398),
    "wide_resnet101_2": (126_886_696, 22.753),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_totals_are_the_published_ones(name) -> None:
    parameters, gmacs = PUBLISHED[name]
    summary = summarize_architecture(name)
    assert summary.parameters == parameters
    assert round(summary.macs / 1e9, 3) == gmacs
    assert summary.parameter_bytes == 4 * parameters


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_numbers_are_those_that_torchvision_states(name) -> None:
    enum = torchvision.models.get_model_weights(name)
    meta = next(iter(enum)).meta
    assert (meta["num_params"], meta["_ops"]) == PUBLISHED[name]


def test_rows_are_the_operations_with_their_shapes() -> None:
    summary = summarize_architecture("resnet50", (224, 160))
    config = json.dumps({"format_version": 1, "architecture": "resnet50", "num_classes": 1000})
    operations = _core.operations(config, 224, 160)

    assert [row.name for row in summary.rows] == [o["name"] for o in operations]
    rows = {row.name: row for row in summary.rows}
    conv1 = rows["conv1"]
    assert (conv1.input_shape, conv1.output_shape) == ((224, 160, 3), (112, 80, 64))
    assert conv1.parameters == 64 * 3 * 49
    assert conv1.macs == 112 * 80 * 64 * 3 * 49
    assert conv1.activation_bytes == 4 * 112 * 80 * 64
    assert rows["bn1"].parameters == 2 * 64
    assert rows["layer2.0.downsample.0"].input_shape == (56, 40, 256)
    assert rows["layer1.0.add"].macs == rows["layer1.0.add"].parameters == 0
    assert rows["fc"].parameters == 2048 * 1000 + 1000
    assert rows["fc"].macs == 2048 * 1000
    assert summary.activation_bytes == sum(row.activation_bytes for row in summary.rows)


def test_grouped_convolutions_see_their_group_only() -> None:
    rows = {row.name: row for row in summarize_architecture("resnext50_32x4d").rows}
    conv2 = rows["layer1.0.conv2"]  # 128 channels in 32 groups of 4
    assert conv2.parameters == 128 * 4 * 9
    assert conv2.macs == 56 * 56 * 128 * 4 * 9


def test_parameters_are_those_that_torch_would_train(tmp_path) -> None:
    module = TinyResNet()
    model = load(module, tmp_path, architecture="resnet50", variant=tiny_variant())
    summary = model.summary(32)
    assert summary.parameters == sum(p.numel() for p in module.parameters())
    assert summary.parameters == model.loaded.network.num_parameters


def test_model_says_how_each_layer_is_computed(model) -> None:
    summary = model.summary()
    assert (summary.height, summary.width) == (64, 64)
    plan = {step["name"]: step for step in model.loaded.network.plan(1, 64, 64)}
    told = [row for row in summary.rows if row.algorithm is not None]
    assert [row.layer for row in told] == model.loaded.network.layer_names
    for row in told:
        assert row.algorithm.split()[0] == plan[row.layer]["algorithm"].split()[0]
    kernels = {row.kernel for row in told}
    assert kernels <= {step["kernel"] for step in model.loaded.network.plan(1, 64, 64)}
    text = str(summary)
    assert "computed by" in text
    bn1 = next(line for line in text.splitlines() if line.startswith("bn1 "))
    assert bn1.endswith("with conv1")


def test_size_may_be_a_pair(model) -> None:
    summary = model.summary((96, 64))
    assert summary.rows[0].output_shape == (48, 32, 64)
    assert summary.rows[0].macs == 1.5 * model.summary(64).rows[0].macs


@pytest.mark.parametrize(
    ("size", "error"), [(0, ValueError), ("64", TypeError), ((1, 2, 3), ValueError)]
)
def test_bad_size_is_refused(model, size, error) -> None:
    with pytest.raises(error, match=r"^size\b"):
        model.summary(size)


def test_reference_backend_has_no_kernels() -> None:
    model = resnet_rs.load(DEMO, backend="reference")
    summary = model.summary()
    assert summary.macs == resnet_rs.load(DEMO).summary().macs
    assert {row.algorithm for row in summary.rows} == {None}
    assert "computed by" not in str(summary)


def test_table_has_a_row_for_each_operation_and_the_totals() -> None:
    summary = summarize_architecture("resnet50")
    lines = str(summary).splitlines()
    assert lines[0] == "resnet50, one image of 224 x 224, float32"
    table = lines[lines.index("") + 2 :]
    names = [line.split()[0] for line in table[: table.index("")]]
    assert names == [*(row.name for row in summary.rows), "total"]
    assert "25,557,032 parameters, 97.5 MiB" in lines
    assert lines[-1].startswith("4.089 billion multiply-accumulates")


def test_unknown_architecture_is_refused() -> None:
    with pytest.raises(resnet_rs.WeightsError, match="resnet51"):
        summarize_architecture("resnet51")


def run(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    parsed = parser.parse_args([str(argument) for argument in arguments])
    status: int = parsed.run(parsed)
    return status


def test_command_needs_no_weights(capsys) -> None:
    assert run("--architecture", "resnet18") == 0
    assert capsys.readouterr().out == f"{summarize_architecture('resnet18')}\n"


def test_command_reads_weights(model, demo_dir, capsys) -> None:
    assert run("--weights", demo_dir, "--size", 96) == 0
    assert capsys.readouterr().out == f"{model.summary(96)}\n"


def test_command_prints_json(capsys) -> None:
    assert run("--architecture", "resnet34", "--size", 64, "--format", "json") == 0
    printed = json.loads(capsys.readouterr().out)
    summary: Summary = summarize_architecture("resnet34", 64)
    assert printed["macs"] == summary.macs
    assert printed["rows"][0]["output_shape"] == list(summary.rows[0].output_shape)
    assert len(printed["rows"]) == len(summary.rows)


def test_command_says_what_is_wrong(tmp_path, capsys) -> None:
    assert run("--architecture", "alexnet") == 2
    assert "alexnet" in capsys.readouterr().err
    assert run("--weights", tmp_path / "none") == 2
    assert "none" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run("--size", "64")
    assert "--weights --architecture" in capsys.readouterr().err


def test_macs_agree_with_what_the_forward_computes(model) -> None:
    """Of a layer that the plan computes directly it counts the same multiply-accumulates."""
    by_layer: dict[str, int] = {}
    for row in model.summary(64).rows:
        by_layer[row.layer] = by_layer.get(row.layer, 0) + row.macs
    direct = [
        s for s in model.loaded.network.plan(1, 64, 64) if s["algorithm"] in ("gemm", "indirect")
    ]
    assert len(direct) > 10
    for step in direct:
        assert step["macs"] == by_layer[step["name"]], step["name"]

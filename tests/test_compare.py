"""`resnet_rs.compare`, dumps, and the command; the diagnoses are in `test_diagnose.py`."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from network_pairs import Array, by_step, hooked, load, noise
from tiny_torch import TinyResNet, tiny_variant
from torch import nn

import resnet_rs
from resnet_rs.cli import compare as command
from resnet_rs.inspect.compare import Dump, DumpError, compare, write_dump
from resnet_rs.inspect.compare.numbers import cosine, max_absolute, relative_l2
from resnet_rs.inspect.compare.sides import ModuleSource

CONFIG = {"architecture": "resnet50", "variant": tiny_variant(), "preprocessing": {"crop": 64}}


@pytest.fixture(scope="module")
def module() -> nn.Module:
    return TinyResNet()


@pytest.fixture(scope="module")
def tiny(module, tmp_path_factory) -> resnet_rs.ResNet:
    return load(module, tmp_path_factory.mktemp("tiny"), **CONFIG)


@pytest.fixture(scope="module")
def wrong(module, tmp_path_factory) -> resnet_rs.ResNet:
    """The same weights with the stride on the first 1x1."""
    variant = tiny_variant(stride_on="conv1")
    return load(module, tmp_path_factory.mktemp("wrong"), **{**CONFIG, "variant": variant})


def test_package_has_the_function(tiny) -> None:
    assert resnet_rs.compare is compare


def test_right_networks_agree_at_every_step(tiny, module, tmp_path) -> None:
    x = noise(2, 47, 40, 3)
    trace = tiny.trace(x)
    trace.save(tmp_path / "dump.npz")
    exact = resnet_rs.load(tiny.loaded.options.origin, backend="reference")
    names = list(trace)
    for other in (tiny, exact, trace, tmp_path / "dump.npz", str(tmp_path / "dump.npz")):
        comparison = compare(tiny, other, x)
        assert comparison.ok
        assert [row.name for row in comparison.rows] == ["image", *names]
        assert comparison.first_wrong is comparison.diagnosis is None
        assert comparison.missing == comparison.unknown == ()
        assert f"all {len(names) + 1} steps agree" in str(comparison)

    torch_side = compare(tiny, module, x)
    assert torch_side.ok
    assert [row.name for row in torch_side.rows] == [n for n in names if not n.endswith(".add")]
    assert torch_side.missing == tuple(n for n in names if n.endswith(".add"))


def test_sides_may_be_swapped(tiny, wrong, module) -> None:
    x = noise(1, 47, 40, 3)
    assert compare(module, tiny, x).ok
    v1 = TinyResNet(stride_on_conv1=True)
    v1.load_state_dict(module.state_dict())
    comparison = compare(v1, tiny, x)
    assert comparison.diagnosis is not None
    assert comparison.diagnosis.mistake == "stride on the other convolution"
    assert comparison.rows[0].name == "conv1"


def test_rows_measure_the_difference(tiny, tmp_path) -> None:
    x = noise(1, 47, 40, 3)
    trace = tiny.trace(x)
    changed = dict(trace.items())
    changed["layer1.0.conv2"] = changed["layer1.0.conv2"] * 2
    write_dump(tmp_path / "dump.npz", changed.items())

    comparison = compare(tiny, tmp_path / "dump.npz", x)

    rows = {row.name: row for row in comparison.rows}
    row = rows["layer1.0.conv2"]
    assert row.kind == "conv"
    assert row.shape == row.other_shape == trace.shape("layer1.0.conv2")
    assert row.max_abs == np.abs(trace["layer1.0.conv2"]).max()
    assert row.relative_l2 == pytest.approx(1.0)
    assert row.cosine == pytest.approx(1.0)
    assert [row.name for row in comparison.rows if not row.ok] == ["layer1.0.conv2"]
    assert comparison.first_wrong == "layer1.0.conv2"


def test_rows_that_agree_after_a_wrong_one_are_green(tiny, tmp_path) -> None:
    x = noise(1, 47, 40, 3)
    changed = dict(tiny.trace(x).items())
    changed["layer1.0.conv2"] = changed["layer1.0.conv2"] * 2
    write_dump(tmp_path / "dump.npz", changed.items())
    comparison = compare(tiny, tmp_path / "dump.npz", x)
    lines = comparison.text(color=True).splitlines()
    colors = {line.split()[0][5:]: line[:5] for line in lines if line.startswith("\x1b")}
    red = {"layer1.0.conv2": "\x1b[31m"}
    assert colors == dict.fromkeys((row.name for row in comparison.rows), "\x1b[32m") | red


def test_tolerance_decides(tiny, tmp_path) -> None:
    x = noise(1, 47, 40, 3)
    changed = {name: array * (1 + 1e-3) for name, array in tiny.trace(x).items()}
    write_dump(tmp_path / "dump.npz", changed.items())
    assert not compare(tiny, tmp_path / "dump.npz", x).ok
    assert compare(tiny, tmp_path / "dump.npz", x, tolerance=2e-3).ok
    for bad in (0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="tolerance must be above 0"):
            compare(tiny, tiny, x, tolerance=bad)


def test_numbers_of_odd_arrays() -> None:
    zeros, ones = np.zeros(3), np.ones(3)
    assert (relative_l2(zeros, zeros), cosine(zeros, zeros), max_absolute(zeros, zeros)) == (
        0,
        1,
        0,
    )
    assert relative_l2(ones, zeros) == np.inf
    assert relative_l2(zeros, ones) == 1
    assert np.isnan(cosine(ones, zeros))
    assert cosine(ones, -2 * ones) == pytest.approx(-1)
    infinite = np.array([np.inf, 1, 1])
    assert np.isnan(relative_l2(infinite, infinite))
    assert np.isnan(max_absolute(infinite, infinite))


def test_image_is_taken_from_the_dump(tiny, tmp_path) -> None:
    trace = tiny.trace(noise(1, 47, 40, 3))
    trace.save(tmp_path / "dump.npz")
    assert compare(tiny, tmp_path / "dump.npz").ok
    assert compare(tiny, trace).ok
    nchw = trace.image.transpose(0, 3, 1, 2).astype(np.float64)
    write_dump(tmp_path / "torch.npz", [("fc", trace["fc"][:, 0, 0])], image=nchw, layout="NCHW")
    assert compare(tiny, tmp_path / "torch.npz").ok
    write_dump(tmp_path / "bare.npz", trace.items())
    with pytest.raises(ValueError, match="compare needs an image: neither side brings one"):
        compare(tiny, tmp_path / "bare.npz")


def test_a_photo_is_preprocessed_by_each_model(tiny, demo_photo) -> None:
    origin = tiny.loaded.options.origin
    other = resnet_rs.load(origin, preprocessing={"mean": [0.5] * 3, "std": [0.5] * 3})
    comparison = compare(tiny, other, demo_photo)
    assert comparison.first_wrong == "image"
    assert comparison.diagnosis is not None
    assert comparison.diagnosis.mistake == "wrong normalisation"
    assert "scaled to -1 to 1" in comparison.diagnosis.text


def test_two_dumps_need_no_model_and_get_no_diagnosis(tiny, wrong, tmp_path) -> None:
    x = noise(1, 47, 40, 3)
    tiny.trace(x).save(tmp_path / "a.npz")
    wrong.trace(x).save(tmp_path / "b.npz")
    comparison = compare(tmp_path / "a.npz", tmp_path / "b.npz")
    assert comparison.first_wrong == "layer2.0.conv1"
    assert comparison.diagnosis is None
    assert "with a model on one side there would be a diagnosis" in str(comparison)
    assert compare(tmp_path / "a.npz", tmp_path / "a.npz").ok


def test_a_torch_module_stays_as_it_is(tiny) -> None:
    other = TinyResNet().train()
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    comparison = compare(tiny, other, noise(2, 47, 40, 3))
    assert comparison.first_wrong == "bn1"
    assert other.training
    assert all(torch.equal(before[name], tensor) for name, tensor in other.state_dict().items())
    assert not any(part._forward_hooks for part in other.modules())


def test_torch_modules_of_other_types_are_understood(tiny, module) -> None:
    x = noise(1, 47, 40, 3)
    assert compare(tiny, TinyResNetLike(module, torch.float64), x).ok
    half = compare(tiny, TinyResNetLike(module, torch.bfloat16), x)
    assert not half.ok
    assert half.rows[0].relative_l2 < 0.01
    assert compare(module, TinyResNetLike(module, torch.float64), x).ok


def TinyResNetLike(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    copy = TinyResNet()
    copy.load_state_dict(module.state_dict())
    return copy.to(dtype)


def test_other_things_are_refused(tiny, module, tmp_path, demo_dir, demo_photo) -> None:
    x = noise(1, 47, 40, 3)
    with pytest.raises(TypeError, match=r"compare takes models .* got dict"):
        compare(tiny, {}, x)
    with pytest.raises(ValueError, match=r"must be that of a dump .* resnet_rs.load\(path\)"):
        compare(tiny, demo_dir, x)
    with pytest.raises(FileNotFoundError, match=r"none\.npz"):
        compare(tiny, tmp_path / "none.npz", x)
    with pytest.raises(TypeError, match="a torch module needs a normalised float array"):
        compare(module, module, demo_photo)
    with pytest.raises(ValueError, match=r"expected \[batch, .* got \[47, 40, 3\]"):
        compare(module, module, x[0])


def test_networks_without_a_step_in_common_are_refused(tiny, tmp_path) -> None:
    write_dump(tmp_path / "dump.npz", [("stage1", noise(1, 2, 2, 3))])
    with pytest.raises(ValueError, match=r"no step in common.*dump\.npz has stage1"):
        compare(tiny, tmp_path / "dump.npz", noise(1, 47, 40, 3))


def test_names_that_mean_nothing_are_told(tiny, tmp_path) -> None:
    x = noise(1, 47, 40, 3)
    write_dump(tmp_path / "dump.npz", [("conv1", tiny.trace(x)["conv1"]), ("my_conv", x)])
    comparison = compare(tiny, tmp_path / "dump.npz", x)
    assert comparison.ok
    assert comparison.unknown == ("my_conv",)
    assert "the network has no such step: my_conv" in str(comparison)
    assert len(comparison.missing) == len(tiny.trace(x)) - 1


@pytest.mark.parametrize("order", [1, -1])
def test_a_step_s_own_name_goes_before_its_other_ones(tiny, tmp_path, order) -> None:
    x = noise(1, 47, 40, 3)
    right = tiny.trace(x)["layer1.0"]
    entries = [("layer1.0", right), ("layer1", right + 1)][::order]
    write_dump(tmp_path / "dump.npz", entries)
    comparison = compare(tiny, tmp_path / "dump.npz", x)
    assert comparison.ok
    assert [row.name for row in comparison.rows] == ["layer1.0"]


@pytest.mark.parametrize(("count", "told"), [(6, "b, c, d, e, f"), (7, "... (7 steps)")])
def test_a_few_names_are_listed_and_many_are_counted(tiny, tmp_path, count, told) -> None:
    x = noise(1, 47, 40, 3)
    unknown = [(name, noise(1, 2, 2, 3)) for name in "abcdefg"[:count]]
    write_dump(tmp_path / "dump.npz", [("conv1", tiny.trace(x)["conv1"]), *unknown])
    comparison = compare(tiny, tmp_path / "dump.npz", x)
    assert comparison.unknown == tuple("abcdefg"[:count])
    assert str(comparison).splitlines()[-1].endswith(told)


@pytest.mark.parametrize("calls", [2, 3, 4])
def test_calls_of_a_shared_relu_are_named_if_all_are_there(calls) -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv3 = nn.Conv2d(3, 3, 1)
            self.relu = nn.ReLU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for _ in range(calls):
                x = self.relu(self.conv3(x))
            return x

    network = nn.Sequential(Block())
    names = ModuleSource(network, noise(1, 4, 4, 3)).names()
    assert {"0.relu1", "0.relu2"} & set(names) == ({"0.relu1", "0.relu2"} if calls == 3 else set())
    assert "0.relu" not in names
    assert "0.relu3" not in names


def test_other_names_of_a_step_are_understood(tiny, tmp_path) -> None:
    x = noise(1, 47, 40, 3)
    trace = tiny.trace(x)
    names = ["layer1", "layer2.0.relu", "layer2.0.downsample", "global_pool"]
    write_dump(tmp_path / "dump.npz", [(name, trace[name]) for name in names])
    comparison = compare(tiny, tmp_path / "dump.npz", x)
    assert comparison.ok
    steps = ["layer1.0", "layer2.0.downsample.1", "layer2.0", "avgpool"]
    assert [row.name for row in comparison.rows] == steps


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_dumps_are_read_in_both_layouts(tmp_path, layout) -> None:
    x = noise(2, 4, 5, 3)
    stored = x if layout == "NHWC" else x.transpose(0, 3, 1, 2)
    rows = np.ones((2, 7), np.float16)
    write_dump(tmp_path / "dump.npz", [("conv1", stored), ("fc", rows)], layout=layout)
    dump = Dump(tmp_path / "dump.npz")
    assert dump.names == ("conv1", "fc")
    assert not dump.has_image
    assert np.array_equal(dump["conv1"], x)
    assert dump["fc"].shape == (2, 1, 1, 7)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"conv1": noise(1, 2, 2, 3)}, r"no entry 'layout'.*layout=\"NCHW\""),
        ({"layout": "HWC", "conv1": noise(1, 2, 2, 3)}, "must be 'NHWC' or 'NCHW'; got 'HWC'"),
        (
            {"layout": "NHWC", "conv1": np.ones((1, 2, 2, 3), int)},
            "conv1 must hold floats; got int",
        ),
        ({"layout": "NHWC", "conv1": noise(2, 2, 3)}, r"must have four axes \(NHWC\) or two"),
    ],
)
def test_a_dump_against_the_convention_is_refused(tiny, tmp_path, entries, message) -> None:
    path = tmp_path / "dump.npz"
    np.savez(path, **entries)
    with pytest.raises(DumpError, match=message) as caught:
        compare(tiny, path, noise(1, 47, 40, 3))
    assert str(path) in str(caught.value)


def test_a_damaged_dump_is_refused(tiny, tmp_path) -> None:
    path = tmp_path / "dump.npz"
    tiny.trace(noise(1, 47, 40, 3)).save(path)
    whole = path.read_bytes()
    for damage in (b"", b"no zip", whole[:-40], whole[: len(whole) // 2]):
        path.write_bytes(damage)
        with pytest.raises(DumpError, match=r"dump\.npz"):
            compare(tiny, path, noise(1, 47, 40, 3))
    np.save(path.with_suffix(".npy"), noise(1, 2, 2, 3))
    path.with_suffix(".npy").replace(path)
    with pytest.raises(DumpError, match=r"dump\.npz: a single array; a dump is an \.npz file of"):
        compare(tiny, path, noise(1, 47, 40, 3))
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + bytes(64) + whole[middle + 64 :])
    with pytest.raises(DumpError, match="cannot be read"):
        compare(tiny, path, noise(1, 47, 40, 3))


def test_a_dump_runs_no_code(tiny, tmp_path) -> None:
    np.savez(tmp_path / "dump.npz", layout="NHWC", conv1=np.array([object()]))
    with pytest.raises(DumpError, match="conv1 cannot be read"):
        compare(tiny, tmp_path / "dump.npz", noise(1, 47, 40, 3))


def test_write_dump_wants_a_layout_that_exists(tmp_path) -> None:
    with pytest.raises(ValueError, match="layout must be NHWC or NCHW; got 'HWC'"):
        write_dump(tmp_path / "dump.npz", [], layout="HWC")
    assert list(tmp_path.iterdir()) == []


def test_a_dump_that_is_not_completed_leaves_the_old_one(tmp_path) -> None:
    path = tmp_path / "dump.npz"
    write_dump(path, [("conv1", noise(1, 2, 2, 3))])
    before = path.read_bytes()

    def results() -> Iterator[tuple[str, Array]]:
        yield "conv1", noise(1, 4, 4, 3)
        raise RuntimeError("the network failed")

    with pytest.raises(RuntimeError, match="the network failed"):
        write_dump(path, results())
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    write_dump(path, [("conv1", noise(1, 4, 4, 3))])
    assert Dump(path)["conv1"].shape == (1, 4, 4, 3)
    assert list(tmp_path.iterdir()) == [path]


def test_an_entry_of_a_dump_may_pass_four_gigabytes(tmp_path, monkeypatch) -> None:
    """The limit of a plain entry, made smaller for the test."""
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 1000)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 10)
    large = noise(1, 16, 16, 8)
    write_dump(tmp_path / "dump.npz", [("conv1", large)])
    assert np.array_equal(Dump(tmp_path / "dump.npz")["conv1"], large)


def test_anything_that_holds_a_network_is_a_model(tiny) -> None:
    class Holder:
        loaded = tiny.loaded

    x = noise(1, 47, 40, 3)
    comparison = compare(Holder(), tiny, x)
    assert comparison.ok
    assert comparison.can_diagnose
    assert comparison.a == comparison.b
    assert [row.cosine for row in comparison.rows] == pytest.approx([1] * len(comparison.rows))
    assert {row.max_abs for row in comparison.rows} == {0}


def test_comparing_without_torch_does_not_import_it(demo_dir, demo_photo) -> None:
    code = (
        "import sys, resnet_rs\n"
        "model = resnet_rs.load(sys.argv[1])\n"
        "assert resnet_rs.compare(model, model, sys.argv[2]).ok\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code, demo_dir, demo_photo], check=True, timeout=120)


def run(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    parsed = parser.parse_args([str(argument) for argument in arguments])
    status: int = parsed.run(parsed)
    return status


def test_command_compares_with_torch(demo_dir, demo_photo, capsys) -> None:
    assert run(demo_photo, "--weights", demo_dir, "--against", "torch") == 0
    printed = capsys.readouterr().out
    assert "all 158 steps agree" in printed
    assert "\x1b" not in printed


def test_command_compares_with_a_dump(tiny, wrong, tmp_path, capsys) -> None:
    wrong.trace(noise(1, 64, 64, 3)).save(tmp_path / "dump.npz")
    weights = tiny.loaded.options.origin
    assert run("--weights", weights, "--against", tmp_path / "dump.npz") == 1
    printed = capsys.readouterr().out
    first = next(line for line in printed.splitlines() if "WRONG" in line)
    assert first.startswith("layer2.0.conv1 ")
    assert first.endswith("WRONG <- first")
    assert "it looks like: stride on the other convolution, at layer2.0.conv1" in printed


def test_command_compares_with_other_weights(tiny, wrong, demo_photo, capsys) -> None:
    weights, other = (m.loaded.options.origin for m in (tiny, wrong))
    assert run(demo_photo, "--weights", weights, "--against", weights) == 0
    assert run(demo_photo, "--weights", weights, "--against", other) == 1
    assert "stride on the other convolution" in capsys.readouterr().out


def test_command_is_coloured_on_a_terminal_only(
    tiny, wrong, demo_photo, capsys, monkeypatch
) -> None:
    arguments = [demo_photo, "--weights", tiny.loaded.options.origin]
    arguments += ["--against", wrong.loaded.options.origin]
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    run(*arguments)
    lines = capsys.readouterr().out.splitlines()
    green = [line for line in lines if line.startswith("\x1b[32m")]
    red = [line for line in lines if line.startswith("\x1b[31m")]
    assert all(line.endswith("  ok\x1b[0m") for line in green)
    assert "<- first" in red[0]
    assert "image " in green[0]
    assert "fc " in red[-1]

    monkeypatch.setenv("NO_COLOR", "1")
    run(*arguments)
    assert "\x1b" not in capsys.readouterr().out


def test_command_prints_json(tiny, wrong, demo_photo, capsys) -> None:
    weights, other = (m.loaded.options.origin for m in (tiny, wrong))
    run(demo_photo, "--weights", weights, "--against", other, "--format", "json")

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    printed = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert printed["first_wrong"] == "layer2.0.conv1"
    assert printed["diagnosis"]["layer"] == "layer2.0.conv1"
    assert printed["diagnosis"]["mistake"] == "stride on the other convolution"
    row = next(row for row in printed["rows"] if row["name"] == "layer2.0.conv1")
    assert row["relative_l2"] is None
    assert row["shape"] != row["other_shape"]


def test_command_says_what_is_wrong(tiny, demo_photo, tmp_path, capsys) -> None:
    weights = tiny.loaded.options.origin
    for arguments, message in [
        ((demo_photo, "--weights", weights, "--against", tmp_path / "none.npz"), "none.npz"),
        ((demo_photo, "--weights", weights, "--against", tmp_path / "none"), "none"),
        ((demo_photo, "--weights", weights, "--against", "torch"), "cannot follow"),
        (("--weights", weights, "--against", weights), "needs an image"),
    ]:
        assert run(*arguments) == 2
        assert message in capsys.readouterr().err
    for text in ("0", "inf", "nan", "small"):
        with pytest.raises(SystemExit):
            run(demo_photo, "--weights", weights, "--against", weights, "--tolerance", text)
        assert f"expected a number above 0; got {text!r}" in capsys.readouterr().err


def test_command_takes_a_tolerance(tiny, tmp_path, capsys) -> None:
    trace = tiny.trace(noise(1, 64, 64, 3))
    results = {**trace, "fc": trace["fc"] * 1.001}
    write_dump(tmp_path / "dump.npz", results.items(), image=trace.image)
    arguments = ["--weights", tiny.loaded.options.origin, "--against", tmp_path / "dump.npz"]
    assert run(*arguments, "--tolerance", "0.002") == 0
    assert run(*arguments, "--tolerance", "0.0005") == 1
    assert "fc " in next(line for line in capsys.readouterr().out.splitlines() if "WRONG" in line)


def test_hooks_of_the_tests_and_of_the_package_see_the_same(tiny, module, tmp_path) -> None:
    x = noise(1, 47, 40, 3)
    write_dump(tmp_path / "dump.npz", by_step(hooked(module, x)).items())
    comparison = compare(module, tmp_path / "dump.npz", x)
    assert comparison.ok
    assert len(comparison.rows) == len(by_step(hooked(module, x)))

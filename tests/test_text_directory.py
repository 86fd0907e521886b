"""The text directory of the from-scratch projects, as their scripts write it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import TOLERANCE, assert_same_tensors, relative_error
from text_directory_writer import write_text_directory
from tiny_torch import WIDTHS, TinyResNet, tiny_variant
from torch import nn
from torchvision.models.resnet import BasicBlock

from resnet_rs import WeightsError
from resnet_rs.weights import formats
from resnet_rs.weights.formats import text_directory
from resnet_rs.weights.formats.text_directory import ohwi_to_oihw, read_text_directory

# Narrow, so that the text is small; with the blocks of a resnet50, so that it is one by name.
NAMED_BLOCKS = (3, 4, 6, 3)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "text"
    write_text_directory(path, TinyResNet(), "mine")
    return path


def named(directory: Path) -> Path:
    write_text_directory(directory, TinyResNet(blocks=NAMED_BLOCKS), "resnet50")
    return directory


def narrow() -> dict[str, object]:
    return {"widths": list(WIDTHS), "stem_widths": [WIDTHS[0]]}


@pytest.mark.parametrize("stride_on_conv1", [False, True])
def test_it_gives_torchs_logits(tmp_path: Path, stride_on_conv1: bool) -> None:
    module = TinyResNet(blocks=NAMED_BLOCKS, stride_on_conv1=stride_on_conv1)
    write_text_directory(tmp_path, module, "resnet50")
    checkpoint = formats.read(tmp_path, variant=narrow())
    # Nothing but the widths was said: the file names and the param files say the rest.
    assert checkpoint.config["architecture"] == "resnet50"
    assert checkpoint.config["variant"].get("stride_on", "conv2") == (
        "conv1" if stride_on_conv1 else "conv2"
    )
    assert_same_tensors(checkpoint, module.state_dict())
    assert relative_error(checkpoint, module) <= TOLERANCE


def test_basic_blocks_and_another_epsilon(tmp_path: Path) -> None:
    module = TinyResNet(BasicBlock)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eps = 1e-3
    write_text_directory(tmp_path, module, "mine", block="basicblock")
    with pytest.raises(WeightsError, match="does not say which network") as caught:
        formats.read(tmp_path)
    assert "stride_on" not in str(caught.value)
    checkpoint = formats.read(tmp_path, architecture="resnet18", variant=tiny_variant())
    assert checkpoint.config["variant"]["norm_epsilon"] == 1e-3
    assert relative_error(checkpoint, module) <= TOLERANCE


def test_biases_and_a_missing_fc(tmp_path: Path) -> None:
    module = TinyResNet()
    module.conv1.bias = nn.Parameter(torch.arange(4.0))
    write_text_directory(tmp_path, module, "mine")
    for path in tmp_path.glob("mine_fc_*"):
        path.unlink()
    checkpoint = formats.read(tmp_path, architecture="resnet50", variant=tiny_variant())
    state = {n: t for n, t in module.state_dict().items() if not n.startswith("fc")}
    assert checkpoint.config["num_classes"] == 0
    assert checkpoint.config["variant"]["conv_bias"] is True
    assert_same_tensors(checkpoint, state)
    path = tmp_path / "mine_conv1_bias.txt"
    path.write_text("1\n2\n3\n")
    with pytest.raises(WeightsError, match=r"conv1_bias\.txt: expected 4 numbers, .* found 6 byt"):
        read_text_directory(tmp_path)


def test_a_folder_in_place_of_a_file_is_refused(directory: Path) -> None:
    path = directory / "mine_fc_bias.txt"
    path.unlink()
    path.mkdir()
    with pytest.raises(WeightsError) as caught:
        read_text_directory(directory)
    assert str(caught.value) == f"{path}: expected a regular file"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1\n2\n3\n4", None),
        ("1\n2\n3\n4" + "\n" * 313, None),  # 320 bytes: 64 for each number and one more
        ("1\n2\n3\n4" + "\n" * 314, "expected 4 numbers, as its param file says, found 321 bytes"),
        ("1\n2\n3", "expected 4 numbers, as its param file says, found 5 bytes"),
    ],
    ids=["fewest", "most", "more", "fewer"],
)
def test_the_bounds_of_a_files_size(directory: Path, text: str, message: str | None) -> None:
    path = directory / "mine_conv1_bias.txt"
    path.write_text(text)
    if message is None:
        assert list(read_text_directory(directory).tensors["conv1.bias"]) == [1, 2, 3, 4]
        return
    with pytest.raises(WeightsError) as caught:
        read_text_directory(directory)
    assert str(caught.value) == f"{path}: {message}"


def test_ohwi_becomes_oihw() -> None:
    # No two sides are equal, so no two axes can be swapped unseen.
    weights = np.arange(3 * 4 * 5 * 2, dtype=np.float32).reshape(3, 4, 5, 2)
    out = ohwi_to_oihw(weights)
    assert out.shape == (3, 2, 4, 5)
    assert out.flags.c_contiguous
    assert out[2, 1, 3, 4] == weights[2, 3, 4, 1]


def test_numbers_are_rounded_once(tmp_path: Path, directory: Path) -> None:
    # Between two f32 values, and nearer to the upper one only in digits that f64 cannot hold.
    text = "1.00000005960464477540"
    lines = [text, *["0.5"] * (WIDTHS[0] - 1)]
    (directory / "mine_bn1_weight.txt").write_text("\n".join(lines))
    tensor = read_text_directory(directory).tensors["bn1.weight"]
    assert tensor[0] == np.nextafter(np.float32(1), np.float32(2))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "layer2_bottleneck0_conv2_param",
            "8\n8\n3\n1\n1\n",
            "expected stride 2 on layer2.0.conv2",
        ),
        (
            "layer1_bottleneck0_conv2_param",
            "4\n4\n3\n2\n1\n",
            "expected stride 1 on layer1.0.conv2",
        ),
        ("conv1_param", "3\n4\n7\n1\n3\n", "expected stride 2 on conv1"),
        ("layer1_bottleneck0_conv2_param", "4\n4\n3\n1\n0\n", "kernel 3 and padding 0"),
        ("layer1_bottleneck0_conv2_param", "4\n4\n5\n1\n2\n", "kernel of 1, 3 or 7"),
        ("layer1_bottleneck0_conv2_param", "4\n4\n3\n1\n", "five whole numbers.*found 4 values"),
        ("layer1_bottleneck0_conv2_param", "4\n4\n3.5\n1\n1\n", "five whole numbers"),
        ("layer1_bottleneck0_conv2_param", "4\n0\n3\n1\n1\n", "channels from 1 up"),
        ("layer1_bottleneck0_conv2_param", "4\nx\n3\n1\n1\n", "could not convert"),
        ("layer1_bottleneck0_bn2_param", "1e-3\n0.1\n", "epsilon of the other batch norms"),
        ("layer1_bottleneck0_bn2_param", "2\n0.1\n", "epsilon between 0 and 1"),
        ("layer1_bottleneck0_bn2_param", "nan\n0.1\n", "two numbers"),
        ("layer1_bottleneck0_bn2_param", " " * 5000, "found 5000 bytes"),
        ("fc_bias", "", "a number for each class, found none"),
        ("fc_weight", "0.5\n" * 7, "expected a multiple of 5 numbers"),
        ("bn1_weight", "0.5\n0.5\nhalf\n0.5\n", r"bn1_weight\.txt.*line 3"),
    ],
)
def test_what_does_not_fit_is_named(directory: Path, name: str, change: str, message: str) -> None:
    path = directory / f"mine_{name}.txt"
    path.write_text(change)
    with pytest.raises(WeightsError, match=message) as caught:
        read_text_directory(directory)
    assert path.name in str(caught.value)


def test_a_file_is_not_read_where_its_size_is_out_of_the_question(directory: Path) -> None:
    path = directory / "mine_layer1_bottleneck0_conv2_param.txt"
    path.write_text("9999\n4\n3\n1\n1\n")
    with pytest.raises(WeightsError, match=r"conv2_weight\.txt: expected 359964 numbers"):
        read_text_directory(directory)


def test_a_files_numbers_are_counted(directory: Path) -> None:
    path = directory / "mine_layer1_bottleneck0_conv2_weight.txt"
    path.write_text("\n".join(path.read_text().split()[:-1]))
    with pytest.raises(WeightsError, match=r"expected 144 numbers, \[4, 3, 3, 4\].*found 143"):
        read_text_directory(directory)


def test_missing_files_are_named(tmp_path: Path) -> None:
    directory = named(tmp_path)
    for path in directory.glob("*_layer4_bottleneck2_*"):
        path.unlink()
    (directory / "resnet50_layer1_bottleneck0_bn1_running_var.txt").unlink()
    with pytest.raises(WeightsError, match="there is no") as caught:
        formats.read(directory)
    assert "resnet50_layer1_bottleneck0_bn1_running_var.txt" in str(caught.value)
    assert "resnet50_layer4_bottleneck2_conv1_weight.txt" in str(caught.value)


def test_a_known_name_may_have_other_blocks_where_that_is_said(tmp_path: Path) -> None:
    module = TinyResNet()
    write_text_directory(tmp_path, module, "resnet50")
    with pytest.raises(WeightsError, match="there is no resnet50_layer1_bottleneck1_conv1_weight"):
        formats.read(tmp_path)
    assert_same_tensors(formats.read(tmp_path, variant=tiny_variant()), module.state_dict())


def test_surplus_files_are_named_and_others_are_passed_over(directory: Path) -> None:
    (directory / "labels.txt").write_text("cat")
    (directory / "README.md").write_text("mine")
    read_text_directory(directory)
    (directory / "mine_layer1_bottleneck0_conv9x_weight.txt").write_text("1")
    with pytest.raises(WeightsError, match=r"not part of a ResNet: .*conv9x_weight"):
        read_text_directory(directory)


def test_one_of_two_networks_is_chosen_by_key(directory: Path) -> None:
    write_text_directory(directory, TinyResNet(num_classes=3), "other")
    with pytest.raises(WeightsError, match="found those of mine, other: pass one as key="):
        read_text_directory(directory)
    assert read_text_directory(directory, "other").tensors["fc.bias"].shape == (3,)
    assert read_text_directory(directory, "mine").tensors["fc.bias"].shape == (5,)


def test_a_single_file_of_it_says_what_to_pass(directory: Path) -> None:
    with pytest.raises(WeightsError, match="pass the directory"):
        formats.read(directory / "mine_fc_bias.txt")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_progress_is_shown_on_a_terminal(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    read_text_directory(directory)
    assert " MB/s, " in screen.getvalue()
    assert screen.getvalue().endswith("\r\x1b[K")


def test_layer_names_go_both_ways() -> None:
    for ours in ("conv1", "fc", "layer3.5.bn2", "layer1.0.downsample.0", "layer1.0.downsample.1"):
        theirs = text_directory.text_layer(ours, "bottleneck")
        assert text_directory.tensor_layer(theirs) == ours
    assert text_directory.text_layer("layer1.0.conv2", "basicblock") == "layer1_basicblock0_conv2"

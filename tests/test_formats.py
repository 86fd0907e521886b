"""`formats.read`: what a file is, which network it holds, and what the caller must say."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import TOLERANCE, assert_same_tensors, relative_error
from safetensors.torch import save_file
from text_directory_writer import write_text_directory
from tiny_torch import NUM_CLASSES, TinyResNet, randomize, tiny_variant
from torch import nn
from torchvision.models.resnet import BasicBlock

from resnet_rs import Preprocessing, WeightsError
from resnet_rs.weights import formats
from resnet_rs.weights.formats.detect import kind_of


@pytest.fixture(scope="module")
def module() -> TinyResNet:
    return TinyResNet()


def stated(**more: Any) -> dict[str, Any]:
    """The options that describe a `TinyResNet`."""
    return {"architecture": "resnet50", "variant": tiny_variant(), **more}


def saved(directory: Path, module: nn.Module, **more: torch.Tensor) -> Path:
    path = directory / "net.safetensors"
    save_file({**module.state_dict(), **more}, path)
    return path


# --- what the tensors are


def test_a_safetensors_file_gives_torchs_logits(module: TinyResNet, tmp_path: Path) -> None:
    checkpoint = formats.read(saved(tmp_path, module), **stated())
    assert_same_tensors(checkpoint, module.state_dict())
    assert checkpoint.config == {
        "format_version": 1,
        "architecture": "resnet50",
        "variant": tiny_variant(),
        "num_classes": NUM_CLASSES,
        "activation": "softmax",
    }
    assert checkpoint.remarks == ()
    assert relative_error(checkpoint, module) <= TOLERANCE


def test_most_formats_need_numpy_alone(module: TinyResNet, tmp_path: Path) -> None:
    """Those that need a library say so; the others load without any of them."""
    write_text_directory(tmp_path / "text", module, "mine")
    torch.save(module.state_dict(), tmp_path / "net.pth")
    paths = [saved(tmp_path, module), tmp_path / "net.pth", tmp_path / "text"]
    source = (
        "import json, sys\n"
        "sys.modules.update(dict.fromkeys(json.loads(sys.argv[1])))\n"
        "from resnet_rs.weights import formats\n"
        "for path in sys.argv[3:]:\n"
        "    assert formats.read(path, **json.loads(sys.argv[2])).tensors, path\n"
    )
    absent = ["google", "h5py", "huggingface_hub", "keras", "onnx", "pyfive", "requests"]
    absent += ["safetensors", "timm", "torch", "torchvision", "tqdm", "transformers"]
    command = [sys.executable, "-W", "error", "-c", source, json.dumps(absent)]
    command += [json.dumps(stated()), *map(str, paths)]
    subprocess.run(command, check=True, timeout=60)


def test_tensors_of_a_safetensors_file_are_views_of_it(module: TinyResNet, tmp_path: Path) -> None:
    tensor = formats.read(saved(tmp_path, module), **stated()).tensors["fc.weight"]
    assert not tensor.flags.owndata
    assert not tensor.flags.writeable


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_every_float_type_is_read(module: TinyResNet, tmp_path: Path, dtype: torch.dtype) -> None:
    rounded = TinyResNet()
    rounded.load_state_dict({k: v.to(dtype) for k, v in module.state_dict().items()})
    path = tmp_path / "net.safetensors"
    save_file({k: v.to(dtype) for k, v in rounded.state_dict().items()}, path)
    checkpoint = formats.read(path, **stated())
    kinds = {tensor.dtype for tensor in checkpoint.tensors.values()}
    assert kinds == {np.dtype(np.float16 if dtype == torch.float16 else np.float32)}
    assert relative_error(checkpoint, rounded) <= TOLERANCE


def test_a_type_that_is_no_float_of_ours_is_named(module: TinyResNet, tmp_path: Path) -> None:
    path = saved(tmp_path, module, odd=torch.zeros(4, dtype=torch.float8_e4m3fn))
    with pytest.raises(WeightsError, match=r"odd: expected F32, F16, BF16 or F64, found F8_E4M3"):
        formats.read(path, **stated())


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_torch_checkpoint_gives_torchs_logits(
    module: TinyResNet, tmp_path: Path, wrapped: bool
) -> None:
    path = tmp_path / "net.pth"
    state = {f"module.{name}": tensor for name, tensor in module.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3} if wrapped else state, path)
    checkpoint = formats.read(path, **stated())
    assert_same_tensors(checkpoint, module.state_dict())
    assert checkpoint.remarks[-1] == 'stripped "module." from the network\'s names'
    assert relative_error(checkpoint, module) <= TOLERANCE


def test_the_caller_chooses_among_networks_of_a_torch_file(
    module: TinyResNet, tmp_path: Path
) -> None:
    path = tmp_path / "net.pth"
    other = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    other["fc.bias"] += 1
    networks = {"model": {**module.state_dict(), "n": 3}, "model_ema": other}
    torch.save(networks, path)
    usual = formats.read(path, **stated())
    assert_same_tensors(usual, module.state_dict())
    assert any("model_ema" in remark for remark in usual.remarks)
    assert_same_tensors(formats.read(path, **stated(), key="model_ema"), other)
    more = {f"ema.{name}": tensor for name, tensor in other.items()}
    torch.save({**networks, "more": more}, path)
    with pytest.raises(WeightsError, match="key='more'"):
        formats.read(path, **stated())
    assert_same_tensors(formats.read(path, **stated(), key="more"), other)


def test_a_prefix_is_a_key_in_a_torch_file_too(module: TinyResNet, tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    state = module.state_dict()
    both = {f"{start}.{name}": t for start in ("student", "teacher") for name, t in state.items()}
    torch.save({"state_dict": both}, path)
    with pytest.raises(WeightsError, match="2 networks: student, teacher"):
        formats.read(path, **stated())
    assert_same_tensors(formats.read(path, **stated(), key="teacher"), state)
    with pytest.raises(WeightsError, match="tutor"):
        formats.read(path, **stated(), key="tutor")


def test_names_of_ones_own_are_mapped(module: TinyResNet, tmp_path: Path) -> None:
    theirs = {
        "module." + name.replace("layer", "stage_").replace("downsample", "short"): tensor
        for name, tensor in module.state_dict().items()
    }
    theirs["module.loss.weight"] = torch.ones(NUM_CLASSES)
    path = tmp_path / "net.safetensors"
    save_file(theirs, path)
    with pytest.raises(WeightsError, match="no ResNet that is known by its tensors' names"):
        formats.read(path, **stated())
    rules: dict[str, str | None] = {
        r"stage_(\d\.\d)\.short\.(.+)": r"layer\1.downsample.\2",
        r"stage_(.+)": r"layer\1",
        "loss.weight": None,
    }
    checkpoint = formats.read(path, **stated(), names=rules)
    assert_same_tensors(checkpoint, module.state_dict())
    rules_path = tmp_path / "names.json"
    rules_path.write_text(json.dumps(rules))
    assert_same_tensors(formats.read(path, **stated(), names=rules_path), module.state_dict())


def test_rules_that_match_nothing_are_said(module: TinyResNet, tmp_path: Path) -> None:
    theirs = {f"net.{n.replace('layer', 'stage')}": t for n, t in module.state_dict().items()}
    path = tmp_path / "net.safetensors"
    save_file(theirs, path)
    rules: dict[str, str | None] = {"net.stage(.*)": r"layer\1", "loss.weight": None}
    checkpoint = formats.read(path, **stated(), names=rules)
    assert_same_tensors(checkpoint, module.state_dict())
    nothing = "names: no tensor was renamed or left out by loss.weight"
    assert checkpoint.remarks[-2:] == ('stripped "net." from every name', nothing)
    with pytest.raises(WeightsError, match="no ResNet that is known") as caught:
        formats.read(path, **stated(), names={"stge(.*)": r"layer\1"})
    message = str(caught.value)
    assert 'stripped "net." from every name' in message
    assert r"no tensor was renamed or left out by stge(.*)" in message
    # Of rules that all match, nothing is said in an error of another kind.
    save_file({n.removeprefix("net."): t for n, t in theirs.items()}, path)
    with pytest.raises(WeightsError) as caught:
        formats.read(path, architecture="resnet51", names={"stage(.*)": r"layer\1"})
    assert str(caught.value).endswith("found 'resnet51'")


def test_rules_may_be_written_with_the_key_or_without(module: TinyResNet, tmp_path: Path) -> None:
    state = module.state_dict()
    theirs = {f"teacher.{n.replace('layer', 'stage')}": t for n, t in state.items()}
    path = tmp_path / "net.safetensors"
    save_file({**theirs, "student.x": torch.zeros(2)}, path)
    for left in ("stage(.*)", "teacher.stage(.*)"):
        checkpoint = formats.read(path, **stated(), names={left: r"layer\1"}, key="teacher")
        assert_same_tensors(checkpoint, state)


def test_detectron2s_stride_is_asked_for(tmp_path: Path) -> None:
    from test_names import DETECTRON2, in_words_of

    module = TinyResNet(stride_on_conv1=True)
    state = {
        in_words_of(DETECTRON2, name): tensor
        for name, tensor in module.state_dict().items()
        if not name.startswith("fc.") and tensor.is_floating_point()
    }
    path = tmp_path / "net.safetensors"
    save_file(state, path)
    with pytest.raises(WeightsError, match=r'pass variant=\{"stride_on": "conv1"\} or'):
        formats.read(path, **stated())
    variant = tiny_variant(stride_on="conv1")
    checkpoint = formats.read(path, architecture="resnet50", variant=variant)
    assert checkpoint.config["variant"]["stride_on"] == "conv1"
    assert checkpoint.config["num_classes"] == 0
    assert any("B, G, R" in remark for remark in checkpoint.remarks)
    module.fc = nn.Identity()
    assert relative_error(checkpoint, module) <= TOLERANCE


# --- which network it is


def test_a_bare_state_dict_asks_for_the_architecture(module: TinyResNet, tmp_path: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        formats.read(saved(tmp_path, module))
    message = str(caught.value)
    assert '"blocks": [1, 2, 1, 1]' in message
    assert '"widths": [4, 8, 12, 16]' in message
    assert '"stride_on": "conv1"' in message
    assert "resnetblur50" in message
    # The suggestion works as printed.
    architecture = message.split('architecture="')[1].split('"')[0]
    variant = json.loads(message.split("variant=")[1].split(": if it is that")[0])
    checkpoint = formats.read(saved(tmp_path, module), architecture=architecture, variant=variant)
    assert relative_error(checkpoint, module) <= TOLERANCE


@pytest.mark.parametrize(
    "name",
    ["resnet18", "resnet34", "resnet26d", "resnext50_32x4d", "wide_resnet50_2", "resnet50d"],
)
def test_a_known_networks_shapes_are_recognised(name: str) -> None:
    from resnet_rs.weights.formats import shapes

    parameters = shapes.parameters({"architecture": name, "num_classes": 7})
    assert list(map(str, shapes.candidates(parameters.shapes))) == [f'architecture="{name}"']


def test_relatives_that_shapes_tell_are_not_taken_for_a_resnet(
    module: TinyResNet, tmp_path: Path
) -> None:
    gates = {"layer1.0.se.fc1.weight": torch.zeros(2, 16, 1, 1)}
    path = saved(tmp_path, module, **gates)
    with pytest.raises(WeightsError, match=r"of none that is known.*layer1\.0\.se\.fc1\.weight"):
        formats.read(path)
    for num_classes in (None, 0):
        with pytest.raises(WeightsError, match=r"not part of resnet50: layer1\.0\.se\.fc1"):
            formats.read(path, **stated(num_classes=num_classes))


def test_group_norms_are_not_taken_for_folded_batch_norms(
    module: TinyResNet, tmp_path: Path
) -> None:
    state = {name: t for name, t in module.state_dict().items() if "running" not in name}
    path = tmp_path / "net.safetensors"
    save_file(state, path)
    with pytest.raises(WeightsError, match=r"bn1\.running_mean: expected shape \[4\], not found"):
        formats.read(path)


def test_tensors_without_a_resnet_among_them_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    save_file({"layer1.0.conv1.weight": torch.zeros(4, 4, 1, 1)}, path)
    with pytest.raises(WeightsError, match=r"tensor conv1\.weight: expected in the file"):
        formats.read(path)
    save_file({"layer1.0.conv1.weight": torch.zeros(4), "conv1.weight": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match=r"conv1\.weight: expected the four axes"):
        formats.read(path)


def test_another_architecture_is_refused_with_the_first_wrong_tensor(
    module: TinyResNet, tmp_path: Path
) -> None:
    path = saved(tmp_path, module)
    with pytest.raises(
        WeightsError,
        match=r"layer1\.0\.conv1\.weight: expected shape \[4, 4, 3, 3\], found \[4, 4, 1, 1\]",
    ):
        formats.read(path, architecture="resnet18", variant=tiny_variant())
    with pytest.raises(WeightsError, match=r"layer2\.2\.conv1\.weight: .*, not found\. The shapes"):
        formats.read(path, architecture="resnet50", variant=tiny_variant(blocks=[1, 3, 1, 1]))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("resnetaa50", "pooling"),
        ("resnetblur50", "blur"),
        ("seresnet50", "squeeze"),
        ("resnetv2_50", "pre-activation"),
        ("seresnext50_32x4d", "squeeze"),
        ("ecaresnet50d", "channel attention"),
        ("skresnet18", "selective kernels"),
        ("skresnext50_32x4d", "selective kernels"),
        ("resnet50_gn", "group norms"),
        ("resnet50_clip", "attention pool"),
        ("resnetrs50", "squeeze"),
        ("res2net50_26w_4s", "scales"),
        ("resnest50d", "split attention"),
    ],
)
def test_relatives_are_refused_by_name(
    module: TinyResNet, tmp_path: Path, name: str, reason: str
) -> None:
    with pytest.raises(WeightsError, match=f"{name} is not supported: .*{reason}"):
        formats.read(saved(tmp_path, module), architecture=name)


def test_an_unknown_architecture_is_refused_with_the_known_ones(
    module: TinyResNet, tmp_path: Path
) -> None:
    path = saved(tmp_path, module)
    with pytest.raises(WeightsError, match=r"expected one of .*resnet50, .*found 'resnet51'"):
        formats.read(path, architecture="resnet51")
    with pytest.raises(TypeError, match=r"^architecture must be a name; got int$"):
        formats.read(path, architecture=50)  # type: ignore[arg-type]


def test_channels_biases_and_folding_are_read_off_the_shapes(tmp_path: Path) -> None:
    module = TinyResNet(BasicBlock)
    module.conv1 = nn.Conv2d(2, 4, 7, stride=2, padding=3, bias=True)
    randomize(module)
    overrides: dict[str, Any] = {"architecture": "resnet18", "variant": tiny_variant()}
    with pytest.raises(WeightsError, match="images of 2 channels, and the mean and standard"):
        formats.read(saved(tmp_path, module), **overrides)
    overrides["preprocessing"] = {"mean": [0.5, 0.5], "std": [0.25, 0.25]}
    checkpoint = formats.read(saved(tmp_path, module), **overrides)
    assert checkpoint.config["variant"] == tiny_variant(in_channels=2, conv_bias=True)
    assert relative_error(checkpoint, module) <= TOLERANCE

    folded = {}
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Conv2d):
            folded[f"{name}.weight"] = layer.weight.detach().clone()
            folded[f"{name}.bias"] = torch.zeros(layer.out_channels)
    path = tmp_path / "folded.safetensors"
    save_file({**folded, **{f"fc.{k}": v for k, v in module.fc.state_dict().items()}}, path)
    checkpoint = formats.read(path, **overrides)
    assert checkpoint.config["variant"] == tiny_variant(in_channels=2, batch_norm=False)


def test_a_head_that_flattens_a_map_is_asked_for(module: TinyResNet, tmp_path: Path) -> None:
    state = module.state_dict()
    state["fc.weight"] = torch.zeros(NUM_CLASSES, 4 * 64)
    path = tmp_path / "net.safetensors"
    save_file(state, path)
    with pytest.raises(WeightsError, match=r"fc takes 4 values of each of the 64 channels"):
        formats.read(path, **stated())
    head = {"avg_pool": {"kernel": 2, "stride": 2, "padding": 1}}
    checkpoint = formats.read(
        path,
        architecture="resnet50",
        variant=tiny_variant(head=head),
        preprocessing={"resize": 64, "crop": 64},
    )
    assert checkpoint.tensors["fc.weight"].shape == (NUM_CLASSES, 256)
    with pytest.raises(WeightsError, match="as no crop is stated") as caught:
        formats.read(path, architecture="resnet50", variant=tiny_variant(head=head))
    message = str(caught.value)
    assert "fc takes 256 features, and the head that is stated gives 1024" in message
    assert "state it, as in" not in message


# --- classes, labels, preprocessing


def test_num_classes_is_checked_and_0_leaves_the_head_out(
    module: TinyResNet, tmp_path: Path
) -> None:
    path = saved(tmp_path, module, **{"fc2.weight": torch.zeros(3)})
    with pytest.raises(WeightsError, match=r"not part of resnet50: fc2\.weight"):
        formats.read(path, **stated())
    with pytest.raises(WeightsError, match=f"num_classes: expected {NUM_CLASSES}, .* got 9"):
        formats.read(path, **stated(num_classes=9))
    checkpoint = formats.read(path, **stated(num_classes=0))
    assert checkpoint.config["num_classes"] == 0
    assert "fc.weight" not in checkpoint.tensors
    assert set(checkpoint.remarks[-1].partition(": ")[2].split(", ")) == {
        "fc.weight",
        "fc.bias",
        "fc2.weight",
    }


def test_half_a_head_is_refused_and_no_head_is_said(module: TinyResNet, tmp_path: Path) -> None:
    state = dict(module.state_dict())
    path = tmp_path / "net.safetensors"
    del state["fc.weight"]
    save_file(state, path)
    with pytest.raises(WeightsError, match=r"fc\.bias"):
        formats.read(path, **stated())
    del state["fc.bias"]
    save_file(state, path)
    checkpoint = formats.read(path, **stated())
    assert checkpoint.config["num_classes"] == 0
    assert any("no fc" in remark for remark in checkpoint.remarks)


def test_labels_are_kept_and_counted(module: TinyResNet, tmp_path: Path) -> None:
    path = saved(tmp_path, module)
    labels = ("a", "b", "c", "d", "e")
    assert formats.read(path, **stated(labels=labels)).config["labels"] == list(labels)
    with pytest.raises(WeightsError, match="labels: expected 5, one for each class, got 2"):
        formats.read(path, **stated(labels=["a", "b"]))


def test_preprocessing_is_stated_in_three_ways(module: TinyResNet, tmp_path: Path) -> None:
    path = saved(tmp_path, module)
    assert "preprocessing" not in formats.read(path, **stated()).config
    named = formats.read(path, **stated(preprocessing="IMAGENET1K_V1")).config["preprocessing"]
    assert (named["resize"], named["crop"]) == (256, 224)
    spec = Preprocessing(40, (32, 30), "bicubic", (0.5,) * 3, (0.25,) * 3)
    whole = formats.read(path, **stated(preprocessing=spec)).config["preprocessing"]
    assert whole["crop"] == [32, 30]
    part = formats.read(path, **stated(preprocessing={"crop": 32})).config["preprocessing"]
    assert part == {"crop": 32}
    both = {"preset": "IMAGENET1K_V1", "crop": 32}
    over = formats.read(path, **stated(preprocessing=both)).config["preprocessing"]
    assert over == {**named, "crop": 32}
    with pytest.raises(ValueError, match="IMAGENET1K_V3"):
        formats.read(path, **stated(preprocessing="IMAGENET1K_V3"))
    with pytest.raises(TypeError, match="preprocessing must be"):
        formats.read(path, **stated(preprocessing=3))


def test_a_presets_fields_depend_on_the_architecture_in_the_file() -> None:
    from resnet_rs.weights.formats.complete import Overrides, complete
    from resnet_rs.weights.formats.shapes import parameters

    # torchvision's V1 of this one network resizes as its V2 does elsewhere.
    config = {"architecture": "resnext101_64x4d", "num_classes": 0}
    nothing = np.zeros((), np.float32)
    tensors = {n: np.broadcast_to(nothing, s) for n, s in parameters(config).shapes.items()}
    raw = formats.RawCheckpoint(tensors, config)
    preprocessing = {"preset": "IMAGENET1K_V1", "mean": [0.0, 0.0, 0.0]}
    spec = complete(raw, "here", Overrides(preprocessing=preprocessing)).config["preprocessing"]
    assert (spec["resize"], spec["mean"]) == (232, [0.0, 0.0, 0.0])


# --- what a file is


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html></html>", "a web page"),
        (b"\x1f\x8b\x08\x00", "gzip"),
        (b"hello world", "no weights that are known"),
    ],
)
def test_what_is_no_weights_file_is_said(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "file.dat"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=message) as caught:
        formats.read(path)
    assert str(path) in str(caught.value)


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"\x89HDF\r\n\x1a\n" + bytes(8), "keras"),
        (b"\x80\x02\x8a\nl\xfc\x9c", "torch"),
        (b"\x10\0\0\0\0\0\0\0{", "safetensors"),
        (b"\x08\x08\x12\x07pytorch", "onnx"),
        (zipped("archive/data.pkl"), "torch"),
        (zipped("config.json", "model.weights.h5"), "keras"),
        (bytes(257) + b"ustar" + bytes(20), "torch"),
    ],
)
def test_the_content_tells_the_format(tmp_path: Path, content: bytes, kind: str) -> None:
    path = tmp_path / "file.whatever"
    path.write_bytes(content)
    assert kind_of(path) == kind


def test_zip_archives_of_others_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.pth"
    path.write_bytes(zipped("readme.txt"))
    with pytest.raises(WeightsError, match="a zip archive, but not of torch or Keras"):
        formats.read(path)
    np.savez(tmp_path / "file.npz", a=np.zeros(3))
    with pytest.raises(WeightsError, match="a NumPy archive"):
        formats.read(tmp_path / "file.npz")


def test_the_suffix_decides_only_where_the_content_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    path.write_bytes(b"nothing like a header")
    assert kind_of(path) == "safetensors"
    with pytest.raises(WeightsError, match=r"file\.safetensors"):
        formats.read(path)


def test_what_is_not_there_is_a_file_not_found_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pth"):
        formats.read(tmp_path / "nowhere.pth")


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "pipe.pth"
    os.mkfifo(path)
    with pytest.raises(WeightsError, match="expected a regular file"):
        formats.read(path)


def test_a_directory_of_other_things_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="a directory without weights") as caught:
        formats.read(tmp_path)
    assert "save_pretrained" in str(caught.value)
    (tmp_path / "saved_model.pb").write_bytes(b"")
    with pytest.raises(WeightsError, match="TensorFlow SavedModel"):
        formats.read(tmp_path)


def test_a_file_that_torchvision_publishes_is_known_by_its_hash(
    module: TinyResNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from resnet_rs.weights import files

    path = tmp_path / "resnet50-0676ba61.pth"
    torch.save(module.state_dict(), path)
    with pytest.raises(WeightsError, match="does not say which network"):
        formats.read(path)
    monkeypatch.setattr(files, "digest_of", lambda path: "0676ba61" + "0" * 56)
    checkpoint = formats.read(path, variant=tiny_variant())
    assert checkpoint.config["architecture"] == "resnet50"
    assert checkpoint.config["preprocessing"]["resize"] == 256
    assert checkpoint.remarks == ("torchvision's resnet50.IMAGENET1K_V1, by its sha256",)

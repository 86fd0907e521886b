"""Names of the last layer, the shortcut and the stem that public networks have, without rules."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import TOLERANCE, relative_error
from safetensors.torch import save_file
from tiny_torch import NUM_CLASSES, WIDTHS, TinyResNet, randomize, tiny_variant
from torch import nn
from torch_variants import VariantResNet

import resnet_rs
from resnet_rs import WeightsError
from resnet_rs.weights import formats
from resnet_rs.weights.formats import dialects

State = dict[str, torch.Tensor]
STATED: dict[str, Any] = {"architecture": "resnet50", "variant": tiny_variant()}


@pytest.fixture(scope="module")
def module() -> TinyResNet:
    return TinyResNet()


def renamed(state: State, *rules: tuple[str, str]) -> State:
    """The state dict with each pattern replaced in every name."""
    result = {}
    for name, tensor in state.items():
        for pattern, target in rules:
            name = re.sub(pattern, target, name)
        result[name] = tensor
    return result


def saved(state: State, path: Path) -> Path:
    if path.suffix == ".safetensors":
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    else:
        torch.save(state, path)
    return path


RESIDUAL_FUNCTION = [
    *((rf"^layer{s}\.", f"conv{s + 1}_x.") for s in (1, 2, 3, 4)),
    *(
        (rf"(_x\.\d+)\.{kind}{i}\.", rf"\1.residual_function.{3 * i - 3 + place}.")
        for place, kind in enumerate(("conv", "bn"))
        for i in (1, 2, 3)
    ),
    (r"downsample", "shortcut"),
    (r"^conv1\.", "conv1.0."),
    (r"^bn1\.", "conv1.1."),
]
LETTERED = [
    (r"^layer(\d)", r"stage_\1"),
    *((rf"(\d\.(?:conv|bn)){i}", rf"\1_{letter}") for i, letter in enumerate("abc", start=1)),
    (r"^conv1", "conv_1_3x3"),
    (r"^bn1", "bn_1"),
    (r"^fc", "classifier"),
]


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    ("rules", "remark"),
    [
        ([("downsample", "shortcut"), ("^fc", "linear")], 'took the layer "linear" for fc'),
        ([("^fc", "last_linear")], 'took the layer "last_linear" for fc'),
        ([("^fc", "fc.1")], 'took the layer "fc.1" for fc'),
        ([("^fc", "fc.0")], "a layer without tensors may follow it"),
        ([("^fc", "classifier.1")], 'took the layer "classifier.1" for fc'),
        ([("^fc", "head.fc")], 'took the layer "head.fc" for fc'),
        ([("^", "base.")], 'stripped "base."'),
        ([("^(?!fc)", "backbone."), ("^fc", "head.fc")], '"head.fc", beside the network, for fc'),
        ([(r"^(layer\d)", r"\1._orig_mod")], "_orig_mod"),
        ([(r"\.conv2", "._orig_mod.conv2"), ("^", "module.")], "_orig_mod"),
        ([("^conv1", "layer0.0"), ("^bn1", "layer0.1")], "a stem called layer0"),
        ([("^(conv1|bn1)", r"layer0.\1"), ("^fc", "last_linear")], "a stem called layer0"),
        ([("^conv1", "conv"), ("^bn1", "bn")], "a stem of conv and bn"),
        (RESIDUAL_FUNCTION, "residual_function"),
        ([*RESIDUAL_FUNCTION, ("^", "module.")], "residual_function"),
        (LETTERED, "stage_1 and conv_a"),
    ],
    ids=str,
)
def test_known_names_give_torchs_logits(
    module: TinyResNet, rules: Any, remark: str, suffix: str, tmp_path: Path
) -> None:
    path = saved(renamed(module.state_dict(), *rules), tmp_path / f"net{suffix}")
    checkpoint = formats.read(path, **STATED)
    assert checkpoint.config["num_classes"] == NUM_CLASSES
    assert relative_error(checkpoint, module) <= TOLERANCE
    assert any(remark in line for line in checkpoint.remarks), checkpoint.remarks


def test_a_bare_safetensors_file_with_other_names_loads(module: TinyResNet, tmp_path: Path) -> None:
    """A file with torchvision's names goes to the core by itself, and this one does not."""
    state = renamed(module.state_dict(), ("downsample", "shortcut"), ("^fc", "linear"))
    path = saved(state, tmp_path / "net.safetensors")
    model = resnet_rs.load(path, preprocessing="IMAGENET1K_V1", **STATED)
    x = np.random.default_rng(0).standard_normal((1, 65, 65, 3), dtype=np.float32)
    expected = module(torch.from_numpy(x).permute(0, 3, 1, 2)).detach().numpy()
    np.testing.assert_allclose(model.forward(x), expected, rtol=0, atol=1e-4)


def caffe2(state: State) -> State:
    """Caffe2's names, batch norms as a scale and a shift."""
    result = {}
    for name, tensor in state.items():
        *where, what = name.split(".")
        if what.startswith(("running", "num")):
            continue
        if where == ["fc"]:
            result[f"pred_{what[0]}"] = tensor
        elif len(where) == 1:
            result["conv1_w" if where == ["conv1"] else f"res_conv1_bn_{'sb'[what == 'bias']}"] = (
                tensor
            )
        else:
            stage, block, layer = int(where[0][5:]) + 1, where[1], where[2]
            norm = layer.startswith("bn") or where[3:] == ["1"]
            branch = "1" if layer == "downsample" else f"2{'abc'[int(layer[-1]) - 1]}"
            kind = f"bn_{'sb'[what == 'bias']}" if norm else "w"
            result[f"res{stage}_{block}_branch{branch}_{kind}"] = tensor
    return result


def test_caffe2s_scales_and_shifts_give_torchs_logits(tmp_path: Path) -> None:
    module = TinyResNet()
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.zero_()
            layer.running_var.fill_(1 - layer.eps)
    path = saved(caffe2(module.state_dict()), tmp_path / "R-50.pth")
    variant = tiny_variant(stride_on="conv2")
    checkpoint = formats.read(path, architecture="resnet50", variant=variant)
    assert relative_error(checkpoint, module) <= TOLERANCE
    with pytest.raises(WeightsError, match="the tensors do not say"):
        formats.read(path, **STATED)


def children(net: nn.Module, keep: Callable[[str], bool]) -> nn.Sequential:
    return nn.Sequential(*(child for name, child in net.named_children() if keep(name)))


@pytest.mark.parametrize("start", ["", "0.", "features.", "module.backbone.", "_orig_mod."])
@pytest.mark.parametrize("cut", [True, False])
def test_numbers_of_children_give_torchs_logits(
    module: TinyResNet, start: str, cut: bool, tmp_path: Path
) -> None:
    state = children(module, lambda name: not cut or name != "fc").state_dict()
    beside = {"1.4.weight": torch.zeros(8, 64), "conv1.weight": torch.zeros(3, 3, 5, 5)}
    state = {f"{start}{name}": tensor for name, tensor in state.items()}
    path = saved(
        {**state, **(beside if cut and start not in ("", "_orig_mod.") else {})},
        tmp_path / "body.pth",
    )
    checkpoint = formats.read(path, **STATED, num_classes=0 if cut else None)
    if not cut:
        assert relative_error(checkpoint, module) <= TOLERANCE
    else:
        body = nn.Sequential(*list(module.children())[:-1])
        assert relative_error(checkpoint, body) <= TOLERANCE
    assert any("0 is conv1, 1 is bn1" in r or "4 is layer1" in r for r in checkpoint.remarks)


def nested_stem(net: nn.Module, inside: int) -> nn.Sequential:
    """The children of a network, the first ones in a child of their own."""
    parts = list(net.children())
    return nn.Sequential(nn.Sequential(*parts[:inside]), *parts[inside:])


@pytest.mark.parametrize("inside", [2, 4])
def test_a_stem_in_one_child_gives_torchs_logits(
    module: TinyResNet, inside: int, tmp_path: Path
) -> None:
    path = saved(nested_stem(module, inside).state_dict(), tmp_path / "body.pth")
    checkpoint = formats.read(path, **STATED)
    assert relative_error(checkpoint, module) <= TOLERANCE
    first = 1 if inside == 4 else 3
    assert (
        f"the names are the numbers of children: {first} is layer1, {first + 1} is layer2, "
        f"{first + 2} is layer3, {first + 3} is layer4, 0.0 is conv1, 0.1 is bn1, "
        f"{first + 5} is fc"
    ) in checkpoint.remarks


def shaped(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    return {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}


CONV, NORM, LINEAR = (4, 4, 1, 1), (4,), (5, 4)
STAGES = {"4.0.conv1.weight": CONV, "5.0.conv1.weight": CONV}
STEM = {"0.weight": CONV, "1.weight": NORM}


@pytest.mark.parametrize(
    ("shapes", "renamed"),
    [
        ({**STEM, **STAGES, "9.weight": LINEAR}, {"0": "conv1", "1": "bn1", "9": "fc"}),
        ({**STEM, **STAGES, "13.weight": LINEAR}, {"0": "conv1", "1": "bn1", "13": "fc"}),
        ({**STEM, **STAGES, "14.weight": LINEAR}, {"0": "conv1", "1": "bn1"}),
        (
            {**STEM, **STAGES, "9.weight": LINEAR, "8.weight": LINEAR},
            {"0": "conv1", "1": "bn1"},
        ),
        ({"0.weight": CONV, **STAGES}, {"0": "conv1"}),
        # One stage, a gap between stages, and stems of no ResNet.
        ({**STEM, "4.0.conv1.weight": CONV}, None),
        ({**STEM, "4.0.conv1.weight": CONV, "6.0.conv1.weight": CONV}, None),
        ({**STEM, "4.0.conv1.weight": CONV, "5.0.conv1.weight": LINEAR}, None),
        (STAGES, None),
        ({**STEM, "2.weight": CONV, **STAGES}, None),
        ({**STEM, "2.weight": NORM, **STAGES}, None),
        ({**STEM, "2.0.weight": CONV, **STAGES}, None),
        ({"0.0.weight": CONV, "0.1.weight": NORM, "1.weight": NORM, **STAGES}, None),
        ({"0.0.weight": CONV, "0.1.weight": NORM, "0.3.weight": CONV, **STAGES}, None),
    ],
    ids=str,
)
def test_numbers_of_other_children_stay(
    shapes: dict[str, tuple[int, ...]], renamed: dict[str, str] | None
) -> None:
    names = {**(renamed or {}), **({} if renamed is None else {"4": "layer1", "5": "layer2"})}
    expected = []
    for name in shapes:
        first, _, rest = name.partition(".")
        expected.append(f"{names.get(first, first)}.{rest}")
    found, remarks = dialects.translated(shaped(shapes))
    assert list(found) == expected
    assert len(remarks) == (0 if renamed is None else 1)


def test_names_beside_a_network_of_a_known_layout_stay() -> None:
    """They have the layout's words too, and are not under the network's prefix."""
    given = shaped(
        {
            "net.conv2_x.0.residual_function.0.weight": CONV,
            "net.conv1.0.weight": CONV,
            "conv1.0.weight": CONV,
            "other.conv1.1.weight": NORM,
        }
    )
    found, _ = dialects.translated(given)
    assert list(found) == [
        "net.layer1.0.conv1.weight",
        "net.conv1.weight",
        "conv1.0.weight",
        "other.conv1.1.weight",
    ]


@pytest.mark.parametrize("stem", ["conv3x3", "deep"])
def test_numbers_of_other_stems_are_found_by_their_shapes(stem: str, tmp_path: Path) -> None:
    variant: dict[str, Any] = {"stem": stem, "stem_widths": [4, 6, 8] if stem == "deep" else [8]}
    net = VariantResNet({"block": "basic", **variant}, num_classes=3)
    randomize(net)
    path = saved(
        children(net, lambda name: stem == "deep" or name != "maxpool").state_dict(),
        tmp_path / "x.pth",
    )
    variant |= {"blocks": [1, 1, 1, 1], "widths": [8, 16, 24, 32]}
    checkpoint = formats.read(path, architecture="resnet18", variant=variant)
    assert relative_error(checkpoint, net) <= TOLERANCE


def test_deep_stems_under_other_names_give_torchs_logits(tmp_path: Path) -> None:
    variant = {"stem": "deep", "stem_widths": [4, 6, 8], "widths": [8, 16, 24, 32]}
    net = VariantResNet({"block": "basic", **variant}, num_classes=3)
    randomize(net)
    flat = [(r"^bn1\.", "bn3."), (r"^conv1\.0\.", "cONV1."), (r"^conv1\.1\.", "bn1.")]
    flat += [(r"^conv1\.3\.", "conv2."), (r"^conv1\.4\.", "bn2."), (r"^conv1\.6\.", "conv3.")]
    numbered = [(r"^conv1\.(\d)\.", r"stem.\1."), (r"^bn1\.", "stem.7.")]
    for rules in ([*flat, ("cONV", "conv")], numbered):
        path = saved(renamed(net.state_dict(), *rules), tmp_path / "x.pth")
        stated = {**variant, "blocks": [1, 1, 1, 1]}
        checkpoint = formats.read(path, architecture="resnet18", variant=stated)
        assert relative_error(checkpoint, net) <= TOLERANCE


def test_a_head_without_a_bias_gets_zeros_and_says_so(module: TinyResNet, tmp_path: Path) -> None:
    unbiased = TinyResNet()
    unbiased.load_state_dict(module.state_dict())
    unbiased.fc.bias = None
    for suffix in (".pth", ".safetensors"):
        path = saved(unbiased.state_dict(), tmp_path / f"net{suffix}")
        checkpoint = formats.read(path, **STATED)
        assert "fc has no bias in the file: its biases are zeros" in checkpoint.remarks
        assert relative_error(checkpoint, unbiased) <= TOLERANCE
        with pytest.warns(UserWarning, match=f"{path.name}: fc has no bias in the file"):
            resnet_rs.load(path, preprocessing="IMAGENET1K_V1", **STATED)


def with_head(state: State, head: nn.Module, name: str) -> State:
    body = {key: tensor for key, tensor in state.items() if not key.startswith("fc")}
    return {**body, **{f"{name}.{key}": tensor for key, tensor in head.state_dict().items()}}


@pytest.mark.parametrize("start", ["", "backbone."])
@pytest.mark.parametrize("name", ["fc", "projector", "head"])
def test_a_head_of_two_layers_is_refused_by_that_name(
    module: TinyResNet, name: str, start: str, tmp_path: Path
) -> None:
    head = nn.Sequential(nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 5))
    body = {f"{start}{key}": tensor for key, tensor in module.state_dict().items()}
    state = {key: tensor for key, tensor in body.items() if "fc." not in key}
    path = saved(with_head(state, head, name), tmp_path / "net.pth")
    with pytest.raises(WeightsError) as caught:
        formats.read(path, **STATED)
    assert (
        f"a head of two layers: {name}.0.weight [8, 64], {name}.2.weight [5, 8]. A ResNet has one "
        "linear layer behind the pool: pass num_classes=0 for embeddings alone"
    ) in str(caught.value)
    assert "None}" not in str(caught.value)
    assert formats.read(path, **STATED, num_classes=0).config["num_classes"] == 0


def test_a_linear_layer_of_another_name_gets_a_rule_that_can_be_pasted(
    module: TinyResNet, tmp_path: Path
) -> None:
    state = renamed(module.state_dict(), ("^fc", "my_scores"))
    path = saved(state, tmp_path / "net.pth")
    with pytest.raises(WeightsError) as caught:
        formats.read(path, **STATED)
    rules = re.search(r"pass names=(\{.*\})", str(caught.value))
    assert rules is not None, caught.value
    checkpoint = formats.read(path, **STATED, names=eval(rules[1]))
    assert relative_error(checkpoint, module) <= TOLERANCE


def test_a_linear_layer_beside_the_network_gets_rules_that_can_be_pasted(
    module: TinyResNet, tmp_path: Path
) -> None:
    state = renamed(module.state_dict(), ("^(?!fc)", "my.net."), ("^fc", "my_scores"))
    path = saved(state, tmp_path / "net.pth")
    with pytest.raises(WeightsError) as caught:
        formats.read(path, **STATED)
    message = str(caught.value)
    beside = "tensors beside the network under 'my.net': my_scores.weight, my_scores.bias. "
    assert f"{path}: {beside}If my_scores is the last layer, pass names={{" in message
    assert message.endswith("}; else num_classes=0 for embeddings alone")
    rules = re.search(r"pass names=(\{.*\})", message)
    assert rules is not None, message
    checkpoint = formats.read(path, **STATED, names=eval(rules[1]))
    assert relative_error(checkpoint, module) <= TOLERANCE


@pytest.mark.parametrize(
    ("beside", "advice"),
    [
        ({"prototypes": (9, 64)}, "Pass num_classes=0 for embeddings alone"),
        ({"a.weight": (9, 64), "b.weight": (3, 64)}, "Pass num_classes=0 for embeddings alone"),
        ({"queue": (3,)}, 'To leave them out pass key="net", or num_classes=0 for embeddings'),
    ],
    ids=str,
)
def test_other_tensors_beside_the_network_get_advice(
    module: TinyResNet, beside: dict[str, tuple[int, ...]], advice: str, tmp_path: Path
) -> None:
    body = renamed(module.state_dict(), ("^", "net."))
    zeros = {name: torch.zeros(shape) for name, shape in beside.items()}
    path = saved({**body, **zeros}, tmp_path / "net.pth")
    with pytest.raises(WeightsError) as caught:
        formats.read(path, **STATED)
    words = f"tensors beside the network under 'net': {', '.join(beside)}. {advice}"
    assert words in str(caught.value)


def test_left_over_tensors_stand_beside_the_missing_one_with_rules(
    module: TinyResNet, tmp_path: Path
) -> None:
    state = renamed(module.state_dict(), ("downsample", "way_round"), (r"^conv1\.", "first."))
    path = saved(state, tmp_path / "net.pth")
    with pytest.raises(WeightsError) as caught:
        formats.read(path, **STATED)
    message = str(caught.value)
    assert "tensor conv1.weight: expected" in message
    rules = re.search(r"pass names=(\{.*\})", message)
    assert rules is not None, message
    assert r'"(.*)\\.way_round\\.(.*)": "\\1.downsample.\\2"' in rules[1]
    checkpoint = formats.read(path, **STATED, names=eval(rules[1]))
    assert relative_error(checkpoint, module) <= TOLERANCE


def test_tensors_that_are_no_layers_may_be_left_out(module: TinyResNet, tmp_path: Path) -> None:
    path = saved({**module.state_dict(), "queue": torch.ones(3)}, tmp_path / "net.pth")
    with pytest.raises(WeightsError, match=r'name them: names=\{"queue": None\}'):
        formats.read(path, **STATED)
    checkpoint = formats.read(path, **STATED, names={"queue": None})
    assert relative_error(checkpoint, module) <= TOLERANCE


def test_a_missing_stage_is_named(tmp_path: Path) -> None:
    state = {k: v for k, v in TinyResNet().state_dict().items() if not k.startswith("layer2")}
    path = saved(state, tmp_path / "net.pth")
    with pytest.raises(WeightsError, match=r"tensor layer2\.0\.conv1\.weight: expected"):
        formats.read(path, **STATED)


def test_names_that_would_be_one_stay(tmp_path: Path) -> None:
    """A block with both a shortcut and a downsample is no block that is known."""
    state = TinyResNet().state_dict()
    state["layer1.0.shortcut.0.weight"] = torch.zeros(WIDTHS[0] * 4, WIDTHS[0], 1, 1)
    path = saved(state, tmp_path / "net.pth")
    with pytest.raises(WeightsError, match=r"shortcut\.0\.weight"):
        formats.read(path, **STATED)

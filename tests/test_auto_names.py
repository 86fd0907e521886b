"""`convert --names auto`: names for hand-written networks, proposed by order and shape."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import TOLERANCE, relative_error
from tiny_torch import randomize
from torch import nn

from resnet_rs import WeightsError
from resnet_rs.cli import main
from resnet_rs.weights import formats
from resnet_rs.weights.formats import shapes
from resnet_rs.weights.formats.auto_names import proposed_rules
from resnet_rs.weights.formats.proposals import propose, rules_of

OWN_NETWORK = """
import torch
from torch import nn


class Unit(nn.Module):
    def __init__(self, channels, out, stride, expansion):
        super().__init__()
        if stride != 1 or channels != out * expansion:
            self.way_round = nn.Sequential(
                nn.Conv2d(channels, out * expansion, 1, stride, bias=False),
                nn.BatchNorm2d(out * expansion),
            )
        sizes = [(channels, out, 3, stride), (out, out, 3, 1)]
        if expansion == 4:
            sizes = [(channels, out, 1, 1), (out, out, 3, stride), (out, 4 * out, 1, 1)]
        self.steps = nn.ModuleList(
            nn.Conv2d(a, b, k, s, k // 2, bias=False) for a, b, k, s in sizes
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(b) for _, b, _, _ in sizes)

    def forward(self, x):
        y = x
        for i, (step, norm) in enumerate(zip(self.steps, self.norms)):
            y = norm(step(y))
            y = y.relu() if i + 1 < len(self.steps) else y
        return (y + (self.way_round(x) if hasattr(self, "way_round") else x)).relu()


class MyResNet(nn.Module):
    def __init__(self, expansion=4):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 7, 2, 3, bias=False)
        self.first_norm = nn.BatchNorm2d(8)
        units, channels = [], 8
        for width, stride in ((8, 1), (16, 2), (24, 2), (32, 2)):
            for index in range(2):
                units.append(Unit(channels, width, stride if index == 0 else 1, expansion))
                channels = width * expansion
        self.units = nn.Sequential(*units)
        self.scores = nn.Linear(channels, 5)

    def forward(self, x):
        x = nn.functional.max_pool2d(self.first_norm(self.first(x)).relu(), 3, 2, 1)
        return self.scores(self.units(x).mean((2, 3)))


class Basic(MyResNet):
    def __init__(self):
        super().__init__(1)


class Longer(Basic):
    def __init__(self):
        super().__init__()
        self.more = nn.Linear(5, 5)


class Shorter(Basic):
    def __init__(self):
        super().__init__()
        del self.scores


def number():
    return 7


class Other(Basic):
    def forward(self, x):
        return super().forward(x) + 1
"""
SIZES = {"widths": [8, 16, 24, 32], "stem_widths": [8]}


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of a user's, in the current directory."""
    (tmp_path / "mynet.py").write_text(OWN_NETWORK)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("mynet", None)
    import mynet  # type: ignore[import-not-found]

    yield mynet
    sys.modules.pop("mynet", None)


def saved(net: nn.Module, name: str = "mine.pth", start: str = "") -> Path:
    randomize(net)
    state = {f"{start}{key}": tensor for key, tensor in net.state_dict().items()}
    torch.save(state, name)
    return Path(name)


def stated(kind: str) -> dict[str, Any]:
    block = {"block": "bottleneck"} if kind == "MyResNet" else {}
    return {"architecture": "resnet18", "variant": {**SIZES, **block}}


@pytest.mark.parametrize("start", ["", "module.", "net.core."])
@pytest.mark.parametrize("kind", ["MyResNet", "Basic"])
def test_proposed_names_give_torchs_logits(kind: str, start: str, own: Any) -> None:
    net = getattr(own, kind)()
    path = saved(net, start=start)
    rules, doubtful = proposed_rules(path, **stated(kind))
    assert doubtful == ()
    checkpoint = formats.read(path, **stated(kind), names=rules)
    assert relative_error(checkpoint, net) <= TOLERANCE


def test_names_sorted_by_letter_give_torchs_logits(own: Any) -> None:
    """As safetensors sorts them."""
    from safetensors.torch import save_file

    net = own.MyResNet()
    randomize(net)
    save_file(net.state_dict(), "mine.safetensors")
    rules, _ = proposed_rules(Path("mine.safetensors"), **stated("MyResNet"))
    checkpoint = formats.read("mine.safetensors", **stated("MyResNet"), names=rules)
    assert relative_error(checkpoint, net) <= TOLERANCE


ASKED = (
    r"mine\.pth: the file does not say which network its tensors are of: pass architecture\. Their "
    r'order and shapes fit architecture="resnet18": if it is that, pass it$'
)


def test_unstated_networks_are_asked_for_with_those_that_fit(own: Any) -> None:
    path = saved(own.Basic())
    with pytest.raises(WeightsError, match=ASKED):
        proposed_rules(path, variant=SIZES)


def test_the_network_may_be_that_of_the_config(own: Any) -> None:
    Path("hub").mkdir()
    saved(own.Basic(), "hub/pytorch_model.bin")
    Path("hub/config.json").write_text(json.dumps({"architecture": "resnet18"}))
    rules, _ = proposed_rules(Path("hub"), variant=SIZES)
    assert rules == proposed_rules(Path("hub/pytorch_model.bin"), **stated("Basic"))[0]


def test_the_first_difference_is_named(own: Any) -> None:
    path = saved(own.Basic())
    with pytest.raises(WeightsError) as caught:
        proposed_rules(path, architecture="resnet34", variant=SIZES)
    assert "no names can be proposed: convolution 6 in the file" in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("spoil", "more", "message"),
    [
        (
            lambda state: state.pop("units.7.norms.1.weight"),
            {},
            "the batch norms' or the last layer's shapes differ. Write the rules by hand",
        ),
        (
            lambda state: state.update({"scores.weight": torch.zeros(5, 33)}),
            {},
            "the batch norms' or the last layer's shapes differ. Write the rules by hand",
        ),
        (
            lambda state: state.update({"first_norm.running_mean": torch.zeros(9)}),
            {},
            "the batch norms' or the last layer's shapes differ. Write the rules by hand",
        ),
        (lambda state: None, {"architecture": "resnet51"}, "expected one of resnet18, "),
        (
            lambda state: None,
            {"variant": {**SIZES, "blocks": [2, 2, 2]}},
            "variant.widths: expected ",
        ),
        (
            lambda state: state.pop("units.7.steps.1.weight"),
            {},
            "convolution 20 in the file's order is no more, and in resnet18 "
            "layer4.1.conv2 [32, 32, 3, 3]. State the differences in variant, or write",
        ),
        (
            lambda state: state.update({"w.weight": torch.zeros(8, 8, 3, 3)}),
            {},
            "convolution 21 in the file's order is w [8, 8, 3, 3], and in resnet18 no more. ",
        ),
    ],
    ids=["norm", "linear", "mean", "architecture", "variant", "fewer", "more"],
)
def test_the_reason_why_no_names_are_proposed_is_given(
    spoil: Callable[[dict[str, Any]], Any], more: dict[str, Any], message: str, own: Any
) -> None:
    state = own.Basic().state_dict()
    spoil(state)
    torch.save(state, "mine.pth")
    with pytest.raises(WeightsError) as caught:
        proposed_rules(Path("mine.pth"), **{**stated("Basic"), **more})
    assert "mine.pth: no names can be proposed: " in str(caught.value)
    assert message in str(caught.value)


def test_a_reason_may_be_in_the_order_of_the_names(own: Any) -> None:
    """A file of random order, which the order of the names makes that of the network."""
    state = own.Basic().state_dict()
    state["units.5.steps.0.weight"] = torch.zeros(9, 24, 3, 3)
    torch.save(dict(reversed(state.items())), "mine.pth")
    with pytest.raises(WeightsError) as caught:
        proposed_rules(Path("mine.pth"), **stated("Basic"))
    assert (
        "convolution 14 in the order of the names is units.5.steps.0 [9, 24, 3, 3], and in "
        "resnet18 layer3.1.conv1 [24, 24, 3, 3]. State"
    ) in str(caught.value)


ONE_BLOCK = {"blocks": [1], "widths": [8], "stem_widths": [8]}
OURS = shapes.parameters(
    {"architecture": "resnet50", "variant": ONE_BLOCK, "num_classes": 3}
).shapes


def in_order(third: str, fourth: str, more: str = "") -> dict[str, tuple[int, ...]]:
    """A bottleneck of a user's, whose two layers of the same shape come in this order."""
    layers = {"conv1": "first", "bn1": "first_norm", "layer1.0.conv1": "a", "layer1.0.bn1": "an"}
    layers |= {"layer1.0.conv2": "b", "layer1.0.bn2": "bn", "fc": "scores"}
    theirs = {}
    for name, shape in OURS.items():
        layer, _, what = name.rpartition(".")
        if layer in layers:
            theirs[f"{layers[layer]}.{what}"] = shape
    for name in (third, fourth):
        theirs[f"{name}.c.weight"] = OURS["layer1.0.conv3.weight"]
        for what in ("weight", "bias", "running_mean", "running_var"):
            theirs[f"{name}.n.{what}"] = OURS[f"layer1.0.bn3.{what}"]
    return theirs


@pytest.mark.parametrize(
    ("third", "fourth", "last", "doubtful"),
    [
        ("block.skip", "block.out", "block.out", False),
        ("block.out", "block.skip", "block.out", False),
        ("residual.skip", "residual.out", "residual.out", False),
        ("block.x", "block.y", "block.x", True),
        ("block.skip_a", "block.skip_b", "block.skip_a", True),
    ],
)
def test_layers_of_one_shape_are_told_by_their_words(
    third: str, fourth: str, last: str, doubtful: bool
) -> None:
    theirs = in_order(third, fourth)
    proposal = propose(theirs, OURS)
    assert proposal is not None
    shortcut = fourth if last == third else third
    assert proposal.names[f"{last}.c.weight"] == "layer1.0.conv3.weight"
    assert proposal.names[f"{last}.n.running_var"] == "layer1.0.bn3.running_var"
    assert proposal.names[f"{shortcut}.c.weight"] == "layer1.0.downsample.0.weight"
    assert proposal.names[f"{shortcut}.n.bias"] == "layer1.0.downsample.1.bias"
    assert set(proposal.names.values()) == set(OURS)
    pairs = tuple((f"{last}.{kind}", f"{shortcut}.{kind}") for kind in "cn")
    assert proposal.doubtful == (pairs if doubtful else ())


def test_tensors_of_a_layer_must_all_have_its_shapes() -> None:
    theirs = in_order("block.out", "block.skip")
    assert propose({**theirs, "block.out.n.bias": (31,)}, OURS) is None
    assert propose({**theirs, "block.out.c.running_mean": (31,)}, OURS) is not None
    del theirs["block.out.n.bias"]
    assert propose(theirs, OURS) is None
    assert propose(theirs, OURS, ["layer1.0.bn3.bias"]) is not None


THREE = {f"{layer}.x.w": f"{layer}.y.w" for layer in "abc"}
TWO = {f"{layer}.x.w": f"{layer}.y.w" for layer in "ab"}


@pytest.mark.parametrize(
    ("names", "others", "rules"),
    [
        (THREE, [], {r"(.*)\.x\.(.*)": r"\1.y.\2"}),
        (THREE, ["d.x"], {r"(.*)\.x\.(.*)": r"\1.y.\2"}),
        (THREE, ["d.x.w"], THREE),
        (TWO, [], TWO),
        ({f"{layer}.x1.w": f"{layer}.w" for layer in "abc"}, [], None),
        ({f"{layer}.w": f"{layer}.y.w" for layer in "abc"}, [], None),
        ({f"x.{layer}.w": f"y.{layer}.w" for layer in "abc"}, [], None),
        (
            {f"{layer}.x.y.w.b": f"{layer}.z.w.b" for layer in "abc"},
            [],
            {r"(.*)\.x\.y\.(.*)": r"\1.z.\2"},
        ),
    ],
    ids=str,
)
def test_renamings_become_few_rules(
    names: dict[str, str], others: list[str], rules: dict[str, str] | None
) -> None:
    """A pattern covers at least three names, and no other name of the file."""
    assert rules_of(names, [*names, *others]) == (names if rules is None else rules)


def test_convert_says_which_layers_could_be_each_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = {name: torch.ones(shape) for name, shape in in_order("block.x", "block.y").items()}
    torch.save(state, tmp_path / "mine.pth")
    command = ["convert", str(tmp_path / "mine.pth"), str(tmp_path / "out"), "--names", "auto"]
    command += ["--architecture", "resnet50", "--variant", json.dumps(ONE_BLOCK)]
    assert main([*command, "--preset", "IMAGENET1K_V1"]) == 0
    words = "block.x.c and block.y.c have the same shapes: their order decided"
    assert words in capsys.readouterr().err


def test_layers_without_a_place_are_not_left_out(own: Any) -> None:
    net = own.Basic()
    net.more = nn.Linear(5, 5)
    with pytest.raises(WeightsError, match="no names can be proposed"):
        proposed_rules(saved(net), **stated("Basic"))


def convert(*more: str, target: str = "out") -> int:
    variant = json.dumps(stated("Basic")["variant"])
    command = ["convert", "mine.pth", target, "--architecture", "resnet18", "--variant", variant]
    return main([*command, "--resize", "none", "--crop", "64", *more])


def test_convert_prints_names_that_can_be_given_back(
    own: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    net = own.Basic()
    saved(net)
    assert convert("--names", "auto") == 0
    printed = capsys.readouterr().out
    end = printed.index("\n}\n") + 2
    assert "which does not prove them: compare" in printed[end:]
    Path("names.json").write_text(printed[:end])
    assert convert("--names", "names.json", target="again") == 0
    first, again = (Path(folder, "model.safetensors") for folder in ("out", "again"))
    assert first.read_bytes() == again.read_bytes()
    assert relative_error(formats.read("out"), net) <= TOLERANCE
    remarks = json.loads(Path("out/config.json").read_text())["source"]["remarks"]
    assert any("proposed by order and shape" in remark for remark in remarks)


def test_convert_confirms_names_by_the_results_of_the_module(
    own: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(own.Basic())
    assert convert("--names", "auto", "--confirm", "mynet:Basic") == 0
    assert "are confirmed by the results of mynet:Basic" in capsys.readouterr().out
    assert convert("--names", "auto", "--confirm", "mynet:Other", target="wrong") == 1
    assert "not written, as the results differ" in capsys.readouterr().err
    assert not Path("wrong").exists()


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("mynet:Nothing", "expected MODULE:NAME of a function"),
        ("nowhere:Basic", "expected MODULE:NAME of a function"),
        ("mynet:SIZES", "expected MODULE:NAME"),
        ("mynet:number", "--confirm mynet:number: expected a torch module, got int"),
        ("mynet:MyResNet", "its tensors are not those of the module"),
        (
            "mynet:Longer",
            "mine.pth: its tensors are not those of the module of --confirm: "
            "missing ['more.weight', 'more.bias'], unexpected []",
        ),
        ("mynet:Shorter", "missing [], unexpected ['scores.weight', 'scores.bias']"),
    ],
)
def test_a_module_that_cannot_confirm_is_named(
    where: str, words: str, own: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(own.Basic())
    assert convert("--names", "auto", "--confirm", where) == 2
    assert words in capsys.readouterr().err


def test_layers_that_only_their_order_tells_apart_are_named(
    own: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    net = own.MyResNet()
    state = {}
    randomize(net)
    for key, tensor in net.state_dict().items():
        # Names without a word for the shortcut: they say the place alone.
        state[key.replace("way_round.0", "steps.3").replace("way_round.1", "norms.3")] = tensor
    torch.save(state, "mine.pth")
    assert convert_bottlenecks() == 0
    error = capsys.readouterr().err
    assert (
        "mine.pth: units.0.steps.2 and units.0.steps.3 have the same shapes: their order" in error
    )


def convert_bottlenecks() -> int:
    variant = json.dumps(stated("MyResNet")["variant"])
    command = ["convert", "mine.pth", "out", "--architecture", "resnet18", "--variant", variant]
    return main([*command, "--resize", "none", "--crop", "64", "--names", "auto"])


def test_known_names_are_not_proposed(own: Any, capsys: pytest.CaptureFixture[str]) -> None:
    import torchvision

    net = torchvision.models.resnet18(num_classes=4)
    torch.save(net.state_dict(), "mine.pth")
    command = ["convert", "mine.pth", "out", "--architecture", "resnet18", "--names", "auto"]
    assert main([*command, "--preset", "IMAGENET1K_V1"]) == 0
    assert "the names are known, so none are proposed" in capsys.readouterr().out

"""`convert --names auto`: names for hand-written networks, proposed by order and shape."""

from __future__ import annotations

import json
import sys
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
from resnet_rs.weights.formats.auto_names import proposed_rules

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


def test_unstated_networks_are_asked_for_with_those_that_fit(own: Any) -> None:
    path = saved(own.Basic())
    with pytest.raises(WeightsError, match=r"pass architecture\. Their order and shapes fit .*18"):
        proposed_rules(path, variant=SIZES)


def test_the_first_difference_is_named(own: Any) -> None:
    path = saved(own.Basic())
    with pytest.raises(WeightsError) as caught:
        proposed_rules(path, architecture="resnet34", variant=SIZES)
    assert "no names can be proposed: convolution 6 in the file" in str(caught.value)
    assert str(path) in str(caught.value)


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

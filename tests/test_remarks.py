"""A reader's remarks reach the user: warnings, `remarks`, config.json, `convert`."""

from __future__ import annotations

import copy
import json
import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import TOLERANCE, relative_error
from tiny_torch import TinyResNet, tiny_variant

import resnet_rs
from resnet_rs import WeightsError
from resnet_rs.cli import main
from resnet_rs.weights import formats
from resnet_rs.weights.formats.favourites import favourite
from resnet_rs.weights.remarks import Assumption, Note, warnings_of, without_stated

VARIANT = {"blocks": [1, 2, 1, 1], "widths": [4, 8, 12, 16], "stem_widths": [4]}
SPEC = {"resize": 64, "crop": 64}
STATED: dict[str, Any] = {
    "architecture": "resnet50",
    "variant": VARIANT,
    "preprocessing": SPEC,
}


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return TinyResNet().state_dict()


def other(state: dict[str, torch.Tensor], amount: float = 0.5) -> dict[str, torch.Tensor]:
    """Another network of the same shapes."""
    return {name: value + amount if name == "fc.bias" else value for name, value in state.items()}


def warnings_at_load(path: Path, **options: Any) -> tuple[resnet_rs.ResNet, list[str]]:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        model = resnet_rs.load(path, **options)
    assert all(issubclass(each.category, UserWarning) for each in seen)
    assert all(each.filename == __file__ for each in seen)
    return model, [str(each.message) for each in seen]


class TestTheWay:
    """From a reader to the user."""

    def test_a_choice_is_said_everywhere_in_the_same_words(
        self, state: dict[str, torch.Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "both.pth"
        torch.save({"model": state, "model_ema": other(state)}, path)
        model, (warning,) = warnings_at_load(path, **STATED)
        (remark,) = model.remarks
        assert model.config.source == {"remarks": [remark]}
        assert "under 'model', not model_ema (key='model_ema' chooses)" in remark
        assert warning == f"{path}: {remark}"

        model.save(tmp_path / "saved")
        variant = json.dumps(VARIANT)
        arguments = [str(path), str(tmp_path / "converted"), "--architecture", "resnet50"]
        sizes = ["--resize", "64", "--crop", "64", "--preset", "IMAGENET1K_V1"]
        assert main(["convert", *arguments, "--variant", variant, *sizes]) == 0
        assert f"{path}: {remark}\n" in capsys.readouterr().out
        for name in ("saved", "converted"):
            again, seen = warnings_at_load(tmp_path / name)
            assert seen == []
            assert again.config.source is not None
            assert again.config.source["remarks"] == [remark]
            again.save(tmp_path / f"{name}-again")
            config = json.loads((tmp_path / f"{name}-again" / "config.json").read_text())
            assert config["source"]["remarks"] == [remark]

    def test_a_fact_is_a_remark_and_no_warning(
        self, state: dict[str, torch.Tensor], tmp_path: Path
    ) -> None:
        path = tmp_path / "parallel.pth"
        torch.save({"state_dict": {f"module.{n}": t for n, t in state.items()}, "epoch": 3}, path)
        model, seen = warnings_at_load(path, **STATED)
        assert seen == []
        assert model.remarks == (
            "took the state dict under 'state_dict'",
            'stripped "module." from the network\'s names',
        )

    def test_heads_that_were_left_out_are_warned_of(
        self, state: dict[str, torch.Tensor], tmp_path: Path
    ) -> None:
        body = {name: t for name, t in state.items() if not name.startswith("fc.")}
        path = tmp_path / "heads.pth"
        head = {"fc.0.weight": torch.ones(8, 64), "fc.2.weight": torch.ones(4, 8)}
        torch.save({**body, **head}, path)
        model, (warning,) = warnings_at_load(path, **STATED, num_classes=0)
        assert warning.endswith("num_classes is 0, so left out: fc.0.weight, fc.2.weight")
        assert warning == f"{path}: {model.remarks[0]}"
        torch.save(state, path)
        model, seen = warnings_at_load(path, **STATED, num_classes=0)
        assert seen == []  # the last layer is what num_classes=0 is about
        assert model.remarks == ("num_classes is 0, so left out: fc.weight, fc.bias",)

    def test_an_assumed_preprocessing_is_warned_of_unless_it_is_stated(
        self, state: dict[str, torch.Tensor], tmp_path: Path
    ) -> None:
        path = tmp_path / "bare.pth"
        torch.save(state, path)
        rest = {name: value for name, value in STATED.items() if name != "preprocessing"}
        model, (warning,) = warnings_at_load(path, **rest)
        assert f"{path}: there is no config.json beside it: assuming" in warning
        assert "IMAGENET1K_V2" in warning
        model.save(tmp_path / "saved")
        config = json.loads((tmp_path / "saved" / "config.json").read_text())
        assert config["source"]["remarks"] == list(model.remarks)
        assert warnings_at_load(path, **STATED)[1] == []

    def test_copies_and_pickles_keep_remarks_and_are_silent(
        self, state: dict[str, torch.Tensor], tmp_path: Path
    ) -> None:
        path = tmp_path / "both.pth"
        torch.save({"net": state, "ema": other(state)}, path)
        model, seen = warnings_at_load(path, **STATED)
        assert len(seen) == 1
        for twin in (copy.copy(model), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert twin.remarks == model.remarks

    def test_kinds(self) -> None:
        remarks = ["chosen", Note("stripped"), Assumption("guessed", about="labels"), "chosen"]
        assert warnings_of(remarks) == ["chosen", "guessed", "chosen"]
        assert without_stated(remarks, ["labels"]) == ("chosen", "stripped")
        assert without_stated(remarks, []) == ("chosen", "stripped", "guessed")
        for remark in remarks:
            twin = pickle.loads(pickle.dumps(remark))
            assert (type(twin), twin, vars(twin) if hasattr(twin, "__dict__") else {}) == (
                type(remark),
                remark,
                vars(remark) if hasattr(remark, "__dict__") else {},
            )


def test_the_rules_that_a_message_gives_for_a_layer_beside_the_network_work(
    tmp_path: Path,
) -> None:
    net = TinyResNet()
    state = {f"my.net.{k}": v for k, v in net.state_dict().items() if not k.startswith("fc.")}
    state |= {f"top.{k}": v for k, v in net.fc.state_dict().items()}
    torch.save(state, tmp_path / "x.pth")
    stated: dict[str, Any] = {"architecture": "resnet50", "variant": tiny_variant()}
    with pytest.raises(WeightsError, match=r"If top is the last layer, pass names=") as caught:
        formats.read(tmp_path / "x.pth", **stated)
    rules = json.loads(str(caught.value).split("pass names=")[1].split("; else ")[0])
    checkpoint = formats.read(tmp_path / "x.pth", **stated, names=rules)
    assert relative_error(checkpoint, net) <= TOLERANCE


class TestSeveralNetworks:
    """`key=` is asked for, unless one of them is the favourite."""

    @pytest.mark.parametrize(
        ("first", "second"),
        [
            ("student", "teacher"),
            ("base_encoder", "momentum_encoder"),
            ("online_network", "target_network"),
            ("netG", "netD"),
            ("model", "discriminator"),
            ("model", "teacher"),
            ("state_dict", "best_state_dict"),
            ("teacher", "ema"),
        ],
    )
    @pytest.mark.parametrize("way", ["keys", "nested", "prefixes", "modules"])
    def test_no_favourite(
        self, first: str, second: str, way: str, state: dict[str, torch.Tensor], tmp_path: Path
    ) -> None:
        path = tmp_path / "two.pth"
        pair = {first: state, second: other(state)}
        keys = [first, second]
        if way == "prefixes":
            names = {f"{key}.{name}": t for key, one in pair.items() for name, t in one.items()}
            torch.save({"checkpoint": names, "epoch": 1}, path)
        elif way == "nested":
            torch.save({"model": pair, "epoch": 1}, path)
            keys = [f"model/{key}" for key in keys]
        elif way == "modules":
            modules = {key: TinyResNet() for key in pair}
            for key, module in modules.items():
                module.load_state_dict(pair[key])
            torch.save({**modules, "loss": torch.nn.CrossEntropyLoss(torch.ones(5))}, path)
        else:
            torch.save({**pair, "criterion": {"weight": torch.ones(5)}, "epoch": 1}, path)
        with pytest.raises(WeightsError) as error:
            resnet_rs.load(path, **STATED)
        assert str(path) in str(error.value)
        for key, one in zip(keys, pair.values(), strict=True):
            assert f"key={key!r}" in str(error.value)
            model, seen = warnings_at_load(path, **STATED, key=key)
            assert seen == []
            assert (model.loaded.tensors()["fc.bias"] == one["fc.bias"].numpy()).all()

    @pytest.mark.parametrize(
        ("first", "second"), [("model", "model_ema"), ("state_dict", "ema"), ("net", "net_ema")]
    )
    @pytest.mark.parametrize("way", ["keys", "prefixes"])
    @pytest.mark.parametrize("swapped", [False, True])
    def test_the_trained_network_goes_before_its_average(
        self,
        first: str,
        second: str,
        way: str,
        swapped: bool,
        state: dict[str, torch.Tensor],
        tmp_path: Path,
    ) -> None:
        path = tmp_path / "two.pth"
        pair = {first: state, second: other(state)}
        pair = dict(reversed(pair.items())) if swapped else pair
        names = {f"{key}.{name}": t for key, one in pair.items() for name, t in one.items()}
        torch.save(pair if way == "keys" else names, path)
        model, (warning,) = warnings_at_load(path, **STATED)
        assert (model.loaded.tensors()["fc.bias"] == state["fc.bias"].numpy()).all()
        assert first in warning
        assert f"key={second!r}" in warning

    def test_tensors_beside_an_average_go_before_it(
        self, state: dict[str, torch.Tensor], tmp_path: Path
    ) -> None:
        path = tmp_path / "two.pth"
        for content in (
            {**state, "model_ema": other(state)},
            {**state, **{f"model_ema.{name}": t for name, t in other(state).items()}},
        ):
            torch.save(content, path)
            model, (warning,) = warnings_at_load(path, **STATED)
            assert (model.loaded.tensors()["fc.bias"] == state["fc.bias"].numpy()).all()
            assert "key='model_ema'" in warning
        torch.save({**state, "teacher": other(state)}, path)
        with pytest.raises(WeightsError, match=r"beside tensors of a network.*key='teacher'"):
            resnet_rs.load(path, **STATED)

    def test_what_is_no_network_is_no_rival(
        self, state: dict[str, torch.Tensor], tmp_path: Path
    ) -> None:
        path = tmp_path / "one.pth"
        optimizer = torch.optim.SGD(TinyResNet().parameters(), lr=0.1).state_dict()
        weights = {"weight": torch.ones(5), "queue": torch.ones(3, 4)}
        torch.save({"weights": weights, "net": state, "loss": weights, "optim": optimizer}, path)
        model, seen = warnings_at_load(path, **STATED)
        assert seen == []
        assert model.remarks[0] == "took the state dict under 'net'"

    def test_favourite(self) -> None:
        assert favourite(["anything"]) == "anything"
        assert favourite(["encoder_k", "encoder_q"]) == "encoder_q"
        assert favourite(["ema", "model", "model_ema"]) == "model"
        assert favourite(["ema", "model_ema"]) is None
        assert favourite(["model", "net"]) is None
        assert favourite(["model", "model"]) is None

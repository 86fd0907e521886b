"""Whole pickled models of timm and transformers: their structure, and their own settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
from checkpoints import TOLERANCE, relative_error, saved
from tiny_torch import randomize
from torch import nn
from transformers import ResNetConfig, ResNetForImageClassification

from resnet_rs import WeightsError
from resnet_rs.weights import formats


def timm_net(block: Any, **more: Any) -> nn.Module:
    net = timm.models.resnet.ResNet(
        block, [1, 1, 1, 1], channels=(8, 16, 24, 32), stem_width=8, num_classes=5, **more
    )
    randomize(net)
    return net


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"stem_type": "deep", "avg_down": True},
        {"output_stride": 16},
        {"output_stride": 8},
        {"global_pool": "max"},
    ],
    ids=str,
)
def test_timms_models_are_taken_as_they_are(more: dict[str, Any], tmp_path: Path) -> None:
    net = timm_net(timm.models.resnet.Bottleneck, **more)
    checkpoint = formats.read(saved(net, tmp_path / "net.pth"))
    assert relative_error(checkpoint, net) <= TOLERANCE


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"aa_layer": timm.layers.BlurPool2d}, r"BlurPool2d"),
        ({"aa_layer": nn.AvgPool2d}, r"layer2\.0\.aa \(AvgPool2d\)"),
        ({"act_layer": nn.SiLU}, r"act1 \(SiLU\)"),
        ({"global_pool": "avgmax"}, r"avgmax"),
        ({"block_args": {"attn_layer": "se"}}, r"\.se\."),
    ],
    ids=str,
)
def test_timms_relatives_are_refused_by_name(
    more: dict[str, Any], message: str, tmp_path: Path
) -> None:
    net = timm_net(timm.models.resnet.Bottleneck, **more)
    path = saved(net, tmp_path / "net.pth")
    stated = {"blocks": [1, 1, 1, 1], "widths": [8, 16, 24, 32], "stem_widths": [8]}
    with pytest.raises(WeightsError, match=message):
        formats.read(path, architecture="resnet50", variant=stated)


OF_TWO = "expected an AvgPool2d of 2 with stride 2"
OF_THE_INSIDE = "expected ceil_mode=True and count_include_pad=False, as timm has them"


@pytest.mark.parametrize(
    ("pool", "message"),
    [
        (nn.AvgPool2d(3, 2, ceil_mode=True, count_include_pad=False), OF_TWO),
        (nn.AvgPool2d(2, 1, ceil_mode=True, count_include_pad=False), OF_TWO),
        (nn.AdaptiveAvgPool2d(1), OF_TWO),
        (nn.AvgPool2d(2, 2, ceil_mode=False, count_include_pad=False), OF_THE_INSIDE),
        (nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=True), OF_THE_INSIDE),
    ],
    ids=str,
)
def test_another_pool_in_a_shortcut_is_refused(
    pool: nn.Module, message: str, tmp_path: Path
) -> None:
    net = timm_net(timm.models.resnet.Bottleneck, avg_down=True)
    net.layer3[0].downsample[0] = pool
    place = rf"module layer3\.0\.downsample\.0 \({type(pool).__name__}\)"
    with pytest.raises(WeightsError, match=f"{place}: {message}"):
        formats.read(saved(net, tmp_path / "net.pth"))


@pytest.mark.parametrize("on_first", [False, True])
@pytest.mark.parametrize("kind", ["basic", "bottleneck"])
def test_transformers_models_are_taken_as_they_are(
    kind: str, on_first: bool, tmp_path: Path
) -> None:
    config = ResNetConfig(
        embedding_size=8,
        hidden_sizes=[16, 32, 48, 64],
        depths=[1, 2, 1, 1],
        layer_type=kind,
        downsample_in_bottleneck=on_first,
        num_labels=4,
    )
    net = ResNetForImageClassification(config)
    randomize(net)
    checkpoint = formats.read(saved(net, tmp_path / "net.pth"))
    logits = nn.Sequential()
    logits.forward = lambda x: net(x).logits  # type: ignore[method-assign]
    logits.add_module("net", net)
    assert relative_error(checkpoint, logits) <= TOLERANCE


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize(
    ("problem", "labels", "activation"),
    [
        ("multi_label_classification", ["cat", "dog", "indoor"], "sigmoid"),
        ("single_label_classification", ["cat", "dog", "indoor"], "softmax"),
        ("regression", None, "none"),
        (None, None, "softmax"),
    ],
)
def test_the_config_of_transformers_models_is_taken(
    problem: str | None, labels: list[str] | None, activation: str, legacy: bool, tmp_path: Path
) -> None:
    names: dict[str, Any] = {} if labels is None else {"id2label": dict(enumerate(labels))}
    config = ResNetConfig(
        embedding_size=8,
        hidden_sizes=[16, 32, 48, 64],
        depths=[1, 1, 1, 1],
        problem_type=problem,
        **(names or {"num_labels": 3}),
    )
    path = saved(ResNetForImageClassification(config), tmp_path / "net.pth", legacy=legacy)
    found = formats.read(path).config
    assert (found["activation"], found.get("labels")) == (activation, labels)
    assert formats.read(path, activation="none", labels=["a", "b", "c"]).config["labels"][0] == "a"


def test_the_config_is_that_of_the_network_that_is_taken(tmp_path: Path) -> None:
    def net(labels: list[str], problem: str) -> ResNetForImageClassification:
        config = ResNetConfig(
            embedding_size=8,
            hidden_sizes=[16, 32, 48, 64],
            depths=[1, 1, 1, 1],
            id2label=dict(enumerate(labels)),
            problem_type=problem,
        )
        return ResNetForImageClassification(config)

    cats = net(["cat", "dog"], "multi_label_classification")
    days = net(["day", "dusk", "night"], "single_label_classification")
    path = saved(nn.ModuleDict({"cats": cats, "days": days}), tmp_path / "net.pth")
    for key, labels, activation in (
        ("cats", ["cat", "dog"], "sigmoid"),
        ("days", ["day", "dusk", "night"], "softmax"),
    ):
        config = formats.read(path, key=key).config
        assert (config["labels"], config["activation"]) == (labels, activation)


def test_a_problem_that_transformers_does_not_have_is_refused(tmp_path: Path) -> None:
    config = ResNetConfig(
        embedding_size=8, hidden_sizes=[16, 32, 48, 64], depths=[1, 1, 1, 1], num_labels=3
    )
    net = ResNetForImageClassification(config)
    net.config.problem_type = "segmentation"
    with pytest.raises(WeightsError, match=r"net\.pth: config: problem_type: expected one of"):
        formats.read(saved(net, tmp_path / "net.pth"))


class TestTimmsPreprocessing:
    """The `pretrained_cfg` of a pickled model of timm's is that of its saved directory."""

    @pytest.mark.parametrize("name", ["resnet18", "resnet50d"])
    def test_is_taken(self, name: str, tmp_path: Path) -> None:
        net = timm.create_model(name, num_classes=3).eval()
        checkpoint = formats.read(saved(net, tmp_path / "net.pth"))
        trained = timm.data.resolve_data_config({}, model=net)
        found = checkpoint.config["preprocessing"]
        assert found["crop"] == trained["input_size"][1]
        assert found["resize"] == int(trained["input_size"][1] / trained["crop_pct"])
        assert found["interpolation"] == trained["interpolation"]
        assert (found["mean"], found["std"]) == (list(trained["mean"]), list(trained["std"]))
        assert any("timm" in remark for remark in checkpoint.remarks)

    def test_gives_way_to_what_is_stated(self, tmp_path: Path) -> None:
        net = timm.create_model("resnet18", num_classes=3)
        net.pretrained_cfg = {**net.pretrained_cfg, "crop_mode": "border"}
        path = saved(net, tmp_path / "net.pth")
        with pytest.raises(WeightsError, match=r"pretrained_cfg: crop_mode: expected"):
            formats.read(path)
        stated = formats.read(path, preprocessing="IMAGENET1K_V1")
        assert stated.config["preprocessing"]["resize"] == 256

    def test_a_model_without_it_states_none(self, tmp_path: Path) -> None:
        net = timm_net(timm.models.resnet.BasicBlock)
        assert "preprocessing" not in formats.read(saved(net, tmp_path / "net.pth")).config

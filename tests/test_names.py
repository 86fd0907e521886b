"""Other projects' tensor names, users' own maps, and the prefixes around them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torchvision

from resnet_rs import WeightsError
from resnet_rs.weights.formats import names, prefixes
from resnet_rs.weights.formats.heads import with_usual_names
from resnet_rs.weights.formats.names import DETECTRON2, TORCHVISION, TRANSFORMERS, to_torchvision


def tensors(*names: str) -> dict[str, np.ndarray]:
    return {name: np.zeros(1, np.float32) for name in names}


ANCHORED = ("conv1.weight", "layer1.0.conv1.weight")


def prefixed(*starts: str) -> dict[str, np.ndarray]:
    return tensors(*(f"{start}{name}" for start in starts for name in ANCHORED))


@pytest.mark.parametrize(
    ("scheme", "theirs", "ours"),
    [
        (TORCHVISION, "layer1.0.conv1.weight", "layer1.0.conv1.weight"),
        (TRANSFORMERS, "resnet.embedder.embedder.convolution.weight", "conv1.weight"),
        (TRANSFORMERS, "embedder.embedder.normalization.running_var", "bn1.running_var"),
        (
            TRANSFORMERS,
            "resnet.encoder.stages.3.layers.2.layer.1.convolution.weight",
            "layer4.2.conv2.weight",
        ),
        (TRANSFORMERS, "encoder.stages.0.layers.0.layer.2.normalization.bias", "layer1.0.bn3.bias"),
        (
            TRANSFORMERS,
            "resnet.encoder.stages.1.layers.0.shortcut.convolution.weight",
            "layer2.0.downsample.0.weight",
        ),
        (
            TRANSFORMERS,
            "resnet.encoder.stages.1.layers.0.shortcut.normalization.running_mean",
            "layer2.0.downsample.1.running_mean",
        ),
        (TRANSFORMERS, "classifier.1.bias", "fc.bias"),
        (TRANSFORMERS, "classifier.2.bias", "classifier.2.bias"),
        (DETECTRON2, "stem.conv1.weight", "conv1.weight"),
        (DETECTRON2, "stem.conv1.norm.running_var", "bn1.running_var"),
        (DETECTRON2, "res5.2.conv3.norm.weight", "layer4.2.bn3.weight"),
        (DETECTRON2, "res2.0.shortcut.weight", "layer1.0.downsample.0.weight"),
        (DETECTRON2, "res2.0.shortcut.norm.bias", "layer1.0.downsample.1.bias"),
        (DETECTRON2, "linear.weight", "fc.weight"),
        (DETECTRON2, "linear.1.weight", "linear.1.weight"),
        (DETECTRON2, "res2.0.conv1.norm.deep.weight", "res2.0.conv1.norm.deep.weight"),
    ],
)
def test_a_name_becomes_torchvisions(scheme: str, theirs: str, ours: str) -> None:
    assert to_torchvision(theirs, scheme) == ours


@pytest.mark.parametrize("scheme", [TRANSFORMERS, DETECTRON2])
def test_every_name_of_a_resnet50_is_reached_once(scheme: str) -> None:
    ours = [
        name
        for name in torchvision.models.resnet50().state_dict()
        if not name.endswith("num_batches_tracked")
    ]
    theirs = [in_words_of(scheme, name) for name in ours]
    assert len(set(theirs)) == len(ours) == 267
    assert names.scheme_of(theirs) == scheme
    assert [to_torchvision(name, scheme) for name in theirs] == ours


def test_other_names_have_no_scheme() -> None:
    assert names.scheme_of(["conv1.weight", "layer1.0.conv1.weigh"]) is None
    bare = ["encoder.stages.0.layers.0.layer.0.convolution.weight"]
    assert names.scheme_of(bare) == names.scheme_of([f"resnet.{bare[0]}"]) == TRANSFORMERS
    assert names.scheme_of(["resnet.layer1.0.conv1.weight"]) is None


def in_words_of(scheme: str, name: str) -> str:
    """The way back, written from the other projects' modules and not from our patterns."""
    *where, what = name.split(".")
    if where == ["fc"]:
        return f"{'classifier.1' if scheme == TRANSFORMERS else 'linear'}.{what}"
    if len(where) == 1:
        if scheme == TRANSFORMERS:
            kind = "convolution" if where == ["conv1"] else "normalization"
            return f"resnet.embedder.embedder.{kind}.{what}"
        return f"stem.conv1.{what}" if where == ["conv1"] else f"stem.conv1.norm.{what}"
    stage, block, layer = int(where[0][5:]), where[1], ".".join(where[2:])
    shortcut = layer.startswith("downsample")
    norm = layer.startswith("bn") or layer == "downsample.1"
    if scheme == TRANSFORMERS:
        inside = "shortcut" if shortcut else f"layer.{int(layer[-1]) - 1}"
        kind = "normalization" if norm else "convolution"
        return f"resnet.encoder.stages.{stage - 1}.layers.{block}.{inside}.{kind}.{what}"
    inside = "shortcut" if shortcut else f"conv{layer[-1]}"
    return f"res{stage + 1}.{block}.{inside}.{'norm.' if norm else ''}{what}"


def test_rules_rename_by_name_by_pattern_and_leave_out() -> None:
    given = tensors("a+b.weight", "blk_3.c2.w", "blk_3.c1.w", "extra", "kept")
    rules = {
        "a+b.weight": "conv1.weight",  # no pattern that matches itself: the name itself counts
        r"blk_(\d+)\.c(\d)\.w": r"layer1.\1.conv\2.weight",
        "blk_3.c1.w": "special",
        "extra": None,
    }
    renamed, unused = names.apply_rules(given, rules, "here")
    assert unused == []
    assert set(renamed) == {"conv1.weight", "layer1.3.conv2.weight", "special", "kept"}
    assert renamed["special"] is given["blk_3.c1.w"]


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({".*": "conv1.weight"}, "tensors a and b would both be conv1.weight"),
        ({"(": "x"}, r"'\(' is no pattern"),
        ({"(a)": r"\2"}, "invalid group reference"),
    ],
)
def test_bad_rules_are_named(rules: dict[str, str | None], message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        names.apply_rules(tensors("a", "b"), rules, "here")


def test_rules_come_from_a_file_too(tmp_path: Path) -> None:
    rules = {"a": "conv1.weight", "b": None}
    path = tmp_path / "names.json"
    path.write_text(json.dumps(rules))
    assert names.read_rules(path) == names.read_rules(str(path)) == rules


@pytest.mark.parametrize(
    ("text", "message"),
    [("[1]", "expected an object"), ('{"a": 3}', "a: expected a tensor's name"), ("{", "no JSON")],
)
def test_a_bad_file_of_rules_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "names.json"
    path.write_text(text)
    with pytest.raises(WeightsError, match=message) as caught:
        names.read_rules(path)
    assert str(path) in str(caught.value)


def test_rules_of_the_wrong_kind_are_refused() -> None:
    with pytest.raises(TypeError, match="names must be a dict"):
        names.read_rules(["a"])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="names must map names to names"):
        names.read_rules({"a": 3})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    "start",
    ["module.", "module.module.", "_orig_mod.module.", "model.backbone.", "net.", "anything."],
)
def test_a_prefix_of_the_whole_network_is_stripped(start: str) -> None:
    found, remarks = prefixes.select(prefixed(start), key=None, drop_heads=False, origin="here")
    assert set(found) == set(ANCHORED)
    assert remarks == [f'stripped "{start}" from the network\'s names']


def test_names_without_a_prefix_stay() -> None:
    given = {**prefixed(""), **tensors("fc.weight")}
    assert prefixes.select(given, key=None, drop_heads=False, origin="here") == (given, [])


def test_transformers_names_keep_the_head_beside_the_network() -> None:
    anchor = "resnet.encoder.stages.0.layers.0.layer.0.convolution.weight"
    given = tensors(f"model.{anchor}", "model.classifier.1.weight")
    found, _ = prefixes.select(given, key=None, drop_heads=False, origin="here")
    assert set(found) == {anchor, "classifier.1.weight"}


@pytest.mark.parametrize(
    ("taken", "left"),
    [("module.encoder_q.", "module.encoder_k."), ("model.", "model_ema."), ("model.", "ema.")],
)
def test_of_two_networks_the_trained_one_is_taken_and_said(taken: str, left: str) -> None:
    given = {**prefixed(left), **prefixed(taken)}
    found, (remark,) = prefixes.select(given, key=None, drop_heads=False, origin="here")
    assert found["conv1.weight"] is given[f"{taken}conv1.weight"]
    assert taken[:-1] in remark
    assert left[:-1] in remark
    assert "key=" in remark


def test_of_two_networks_of_equal_rank_one_must_be_chosen() -> None:
    given = prefixed("student.", "teacher.")
    with pytest.raises(WeightsError, match=r"Pass one as key='student' or key='teacher'"):
        prefixes.select(given, key=None, drop_heads=False, origin="here")
    for key in ("teacher", "teacher."):
        found, _ = prefixes.select(given, key=key, drop_heads=False, origin="here")
        assert found["conv1.weight"] is given["teacher.conv1.weight"]
    with pytest.raises(WeightsError, match=r"starts with 'tutor\.'; there are student, teacher"):
        prefixes.select(given, key="tutor", drop_heads=False, origin="here")


def test_tensors_beside_the_network_are_refused_or_left_out() -> None:
    given = {**prefixed("encoder_q.", "encoder_k."), **tensors("queue", "head.0.weight")}
    with pytest.raises(WeightsError, match=r"beside the network.*queue, head\.0\.weight"):
        prefixes.select(given, key=None, drop_heads=False, origin="here")
    found, remarks = prefixes.select(given, key=None, drop_heads=True, origin="here")
    assert set(found) == set(ANCHORED)
    assert remarks[-1] == "left out, beside the network: queue, head.0.weight"
    found, _ = prefixes.select(given, key="encoder_k", drop_heads=False, origin="here")
    assert set(found) == set(ANCHORED)


def test_a_file_without_a_resnet_says_what_it_has() -> None:
    given = tensors("features.0.weight", "classifier.6.weight")
    with pytest.raises(WeightsError, match=r"found features\.0\.weight, classifier\.6\.weight"):
        prefixes.select(given, key=None, drop_heads=False, origin="here")
    with pytest.raises(WeightsError, match="found no tensors at all"):
        prefixes.select({}, key=None, drop_heads=False, origin="here")


def test_wrappers_that_every_name_has_are_found_from_outside_in() -> None:
    assert prefixes.shared_wrappers(["module.net.a", "module.net.b"]) == ["module.", "net."]
    assert prefixes.shared_wrappers(["module.a", "b"]) == []
    assert prefixes.shared_wrappers([]) == []


@pytest.mark.parametrize(
    "rules",
    [
        {"module.net.stage(.*)": r"layer\1"},
        {"module.net.stage(.*)": r"module.net.layer\1"},
        {"net.stage(.*)": r"layer\1"},
        {"net.stage(.*)": r"net.layer\1"},
        {"stage(.*)": r"layer\1"},
        {"module.net.stage1.w": "layer1.w"},
        {"stage1.w": "layer1.w"},
    ],
    ids=str,
)
def test_rules_match_with_and_without_shared_wrappers(rules: dict[str, str | None]) -> None:
    given = tensors("module.net.conv1.w", "module.net.stage1.w")
    renamed, unused = names.apply_rules(given, rules, "here", ["module.", "net."])
    assert set(renamed) == {"conv1.w", "layer1.w"}
    assert unused == []


def test_an_earlier_rule_for_a_short_name_goes_before_a_later_one_for_the_full_name() -> None:
    rules = {"a": "first", "net.(.*)": "second", "net.b": "third", "c": None}
    renamed, unused = names.apply_rules(tensors("net.a", "net.b"), rules, "here", ["net."])
    assert set(renamed) == {"first", "third"}
    assert unused == ["net.(.*)", "c"]


def test_names_that_become_one_without_their_wrapper_are_refused() -> None:
    with pytest.raises(WeightsError, match=r"net\.a and net\.b would both be b"):
        names.apply_rules(tensors("net.a", "net.b"), {"a": "b"}, "here", ["net."])


def test_shortcuts_by_their_other_name_are_remarked_on() -> None:
    stored = ["layer1.0.shortcut.0.weight", "layer1.0.conv1.weight"]
    tensors = {name: np.zeros((4, 4, 1, 1), np.float32) for name in stored}
    renamed, remarks = with_usual_names(tensors)
    assert list(renamed) == ["layer1.0.downsample.0.weight", stored[1]]
    assert remarks == ["the tensors called shortcut are the downsample layers"]

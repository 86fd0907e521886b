"""The structure that shapes show, and the words about shapes that fit no ResNet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import TOLERANCE, relative_error
from tiny_torch import TinyResNet, randomize, tiny_variant
from torch_variants import VariantResNet

from resnet_rs import WeightsError
from resnet_rs.weights import formats
from resnet_rs.weights.formats import fit, questions, shapes

Shapes = dict[str, shapes.Shape]


def shapes_of(architecture: str, **variant: Any) -> Shapes:
    config = {"architecture": architecture, "variant": variant, "num_classes": 5}
    return shapes.parameters(config).shapes


@pytest.mark.parametrize(
    ("variant", "shown"),
    [
        (
            {"expansion": 2, "widths": [8, 16]},
            {"expansion": 4, "widths": [4, 8], "width_per_group": 128},
        ),
        ({"expansion": 4, "widths": [8, 16]}, {"expansion": 4, "widths": [8, 16]}),
        ({"expansion": 3, "widths": [6, 10]}, {"expansion": 3, "widths": [6, 10]}),
        ({"expansion": 1, "widths": [6, 10]}, {"expansion": 1, "widths": [6, 10]}),
        ({"widths": [8, 16], "width_per_group": 128}, {"expansion": 4, "widths": [8, 16]}),
        # Twice as wide inside, and half as wide outside.
        (
            {"expansion": 2, "widths": [8, 16], "width_per_group": 128},
            {"expansion": 4, "widths": [4, 8], "width_per_group": 256},
        ),
    ],
    ids=str,
)
def test_widths_are_those_of_a_network_of_these_shapes(
    variant: dict[str, Any], shown: dict[str, Any]
) -> None:
    blocks = {"blocks": [1, 2], "stem_widths": [8]}
    given = shapes_of("resnet50", **blocks, **variant)
    found = shapes.structure(given).variant
    expected = {"block": "bottleneck", **blocks, "width_per_group": 64, **variant, **shown}
    assert found.items() >= expected.items()
    # These fields describe the same network.
    config = {"architecture": "resnet18", "variant": found, "num_classes": 5}
    assert shapes.parameters(config).shapes == given


def test_basic_blocks_have_the_widths_of_their_stages() -> None:
    found = shapes.structure(shapes_of("resnet18", blocks=[1, 2], widths=[6, 10])).variant
    shown = {"block": "basic", "blocks": [1, 2], "widths": [6, 10]}
    assert found.items() >= {**shown, "expansion": 1, "width_per_group": 64, "groups": 1}.items()


def without(given: Shapes, *names: str) -> Shapes:
    return {name: shape for name, shape in given.items() if name not in names}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"conv1.weight": (64, 3, 5, 5)},
            "tensor conv1.weight: expected a window of 7x7 or 3x3, not 5",
        ),
        (
            {"conv1.weight": (64, 3, 7)},
            "tensor conv1.weight: expected the four axes of a convolution, found [64, 3, 7]",
        ),
        (
            {"conv1.weight": (64, 0, 7, 7)},
            "tensor conv1.weight: expected the four axes of a convolution, found [64, 0, 7, 7]",
        ),
        (
            {"layer1.1.conv2.weight": (64, 64, 5, 5)},
            'the tensors\' shapes fit no ResNet: most like architecture="resnet18", but tensor '
            "layer1.1.conv2.weight: expected shape [64, 64, 3, 3], found [64, 64, 5, 5]",
        ),
        (
            {"layer1.1.conv9.weight": (64, 64, 3, 3)},
            'the tensors\' shapes fit no ResNet: most like architecture="resnet18", but tensor '
            "layer1.1.conv9.weight: not part of it",
        ),
        (
            {"layer1.9999.conv1.weight": (64, 64, 3, 3)},
            "variant.blocks: expected 1000 at most, found 10006",
        ),
    ],
    ids=str,
)
def test_shapes_of_no_resnet_are_described(change: Shapes, message: str) -> None:
    with pytest.raises(shapes.NotResNetError) as caught:
        shapes.fitting_config({**shapes_of("resnet18"), **change}, {})
    text = str(caught.value)
    assert text.startswith(("tensor conv1.weight", "the tensors' shapes fit no ResNet"))
    assert text.endswith(message)


def test_the_config_of_shapes_has_what_they_do_not_show() -> None:
    given = shapes_of("resnet18", blocks=[1, 2], widths=[8, 16], stem_widths=[8], in_channels=1)
    unseen = {"norm_epsilon": 1e-3, "head": "global_avg_pool"}
    assert shapes.fitting_config(given, unseen) == {
        "architecture": "resnet18",
        "variant": {
            "blocks": [1, 2],
            "widths": [8, 16],
            "stem_widths": [8],
            "in_channels": 1,
            "norm_epsilon": 1e-3,
        },
        "num_classes": 5,
    }
    headless = shapes.fitting_config(without(given, "fc.weight", "fc.bias"), unseen)
    assert headless["num_classes"] == 0


OPTION_A = {"pad": {"reduce": "slice", "zeros": "around"}}


@pytest.mark.parametrize(
    ("architecture", "variant", "implied"),
    [
        ("cifar_resnet20", {}, {}),
        ("cifar_resnet20", {"shortcut": "conv"}, {"shortcut": "conv"}),
        ("cifar_resnet20", {"shortcut": "conv_always"}, {"shortcut": "conv_always"}),
        ("cifar_resnet20", {"shortcut": "avg_pool_conv"}, {}),
        # Shortcuts without tensors, of which the shapes show no kind.
        ("cifar_resnet20", {"blocks": [1], "widths": [16]}, {}),
        ("cifar_resnet20", {"blocks": [1, 1], "widths": [16, 24]}, {}),
        ("resnet18", {"shortcut": OPTION_A}, {"shortcut": OPTION_A}),
        ("resnet18", {}, {}),
        ("resnet18d", {"shortcut": "conv"}, {}),
    ],
    ids=str,
)
def test_shortcuts_are_those_that_the_shapes_show(
    architecture: str, variant: dict[str, Any], implied: dict[str, Any]
) -> None:
    given = shapes_of(architecture, **variant)
    assert shapes.implied_shortcut(architecture, given) == implied


def test_shortcuts_without_tensors_stay_those_of_the_architecture(tmp_path: Path) -> None:
    """Of channels that are not doubled the shapes show no kind of shortcut."""
    sizes = {"blocks": [1, 1], "widths": [16, 24], "stem_widths": [16]}
    own = {"block": "basic", "stem": "conv3x3", "shortcut": OPTION_A}
    net = VariantResNet({**own, **sizes}, num_classes=3)
    randomize(net)
    torch.save(net.state_dict(), tmp_path / "net.pth")
    checkpoint = formats.read(tmp_path / "net.pth", architecture="cifar_resnet20", variant=sizes)
    assert "shortcut" not in checkpoint.config["variant"]
    assert relative_error(checkpoint, net) <= TOLERANCE


@pytest.mark.parametrize(
    ("architecture", "more", "variant", "is_open"),
    [
        ("resnet18", {}, {}, False),
        ("cifar_resnet20", {}, {}, True),
        ("cifar_resnet20", {}, {"shortcut": OPTION_A}, False),
        ("resnet18", {"aux_classifier.0.weight": (4, 64, 3, 3)}, {}, True),
        ("resnet18", {"bottleneck.weight": (9,)}, {}, True),
        # Also if it is answered, as there are tensors beside the network.
        ("resnet18", {"bottleneck.weight": (9,)}, {"last_stride": 1, "shortcut": "conv"}, True),
        ("resnet18", {"conv1.weight": (64,)}, {}, False),
    ],
    ids=str,
)
def test_a_network_is_open_if_more_than_its_statements_is_needed(
    architecture: str, more: Shapes, variant: dict[str, Any], is_open: bool
) -> None:
    given = {**shapes_of(architecture), **more}
    assert questions.is_open(given, architecture, variant) is is_open


@pytest.mark.parametrize("variant", [{"widths": []}, {"blocks": [10**6]}, {"head": "none"}])
def test_a_variant_of_no_network_adds_nothing_to_the_missing_tensor(
    variant: dict[str, Any], tmp_path: Path
) -> None:
    state = TinyResNet().state_dict()
    state["first.weight"] = state.pop("conv1.weight")
    path = tmp_path / "net.pth"
    torch.save(state, path)
    missing = f"{path}: tensor conv1.weight: expected in the file, not found"
    for given, more in (
        (tiny_variant(), ". The file's tensors without a place are first.weight"),
        (variant, ""),
    ):
        with pytest.raises(WeightsError) as caught:
            formats.read(path, architecture="resnet50", variant=given)
        assert str(caught.value).startswith(f"{missing}{more}")
        assert bool(more) or str(caught.value) == missing
    assert fit.left_over_of({"a": (1,)}, {"architecture": None}) == ""
    complete = shapes_of("resnet18")
    assert fit.left_over_of(complete, {"architecture": "resnet18", "variant": {}}) == ""

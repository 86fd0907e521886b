"""Whole pickled models: strides, dilations, epsilons, pools and activations are the file's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import HEIGHT, TOLERANCE, relative_error, saved
from tiny_torch import TinyResNet, randomize, tiny_variant
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from resnet_rs import WeightsError
from resnet_rs.weights import formats

Change = Callable[[ResNet], None]


def torchvision_net(**more: Any) -> ResNet:
    net = ResNet(Bottleneck, [1, 1, 1, 1], num_classes=6, width_per_group=16, **more)
    randomize(net)
    return net


def change_stride(net: ResNet) -> None:
    for stage in (net.layer2, net.layer3, net.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)


def set_epsilon(epsilon: float) -> Change:
    def change(net: ResNet) -> None:
        for layer in net.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.eps = epsilon

    return change


def change_last_stride(net: ResNet) -> None:
    net.layer4[0].conv2.stride = net.layer4[0].downsample[0].stride = (1, 1)


def set_pool(pool: nn.Module) -> Change:
    return lambda net: setattr(net, "maxpool", pool)


def set_head(pool: nn.Module) -> Change:
    return lambda net: setattr(net, "avgpool", pool)


def change_stem(net: ResNet) -> None:
    net.conv1.stride = (1, 1)


def put_in_sequential(net: ResNet) -> None:
    net.fc = nn.Sequential(nn.Dropout(0.5), net.fc).eval()


TAKEN: list[tuple[Any, dict[str, Any]]] = [
    (lambda net: None, {}),
    (change_stride, {"stride_on": "conv1"}),
    (set_epsilon(0.1), {"norm_epsilon": 0.1}),
    (change_last_stride, {"last_stride": 1}),
    (set_pool(nn.Identity()), {"stem_pool": "none"}),
    (set_pool(nn.MaxPool2d(3, 2, 0, ceil_mode=True)), {"stem_pool": "max_ceil"}),
    (set_head(nn.AdaptiveMaxPool2d(1)), {"head": "global_max_pool"}),
    (change_stem, {"stem_stride": 1}),
    (put_in_sequential, {}),
]
IDS = ["plain", "v1", "epsilon", "last_stride", "no pool", "ceil", "max head", "stem", "sequential"]


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize(("change", "variant"), TAKEN, ids=IDS)
def test_the_files_own_attributes_are_taken(
    change: Change, variant: dict[str, Any], legacy: bool, tmp_path: Path
) -> None:
    """With the network stated, and without anything: torchvision's forward is known."""
    net = torchvision_net()
    change(net)
    path = saved(net, tmp_path / "net.pth", legacy=legacy)
    own = {"blocks": [1, 1, 1, 1], "width_per_group": 16}
    for stated in ({"architecture": "resnet50", "variant": own}, {}):
        checkpoint = formats.read(path, **stated)
        assert checkpoint.config["variant"].items() >= variant.items()
        assert checkpoint.config["num_classes"] == 6
        assert relative_error(checkpoint, net) <= TOLERANCE


@pytest.mark.parametrize(
    "dilate", [(False, True, True), (False, False, True), (False, True, False)]
)
def test_dilations_are_taken_or_refused(dilate: tuple[bool, ...], tmp_path: Path) -> None:
    net = torchvision_net(replace_stride_with_dilation=dilate)
    checkpoint = formats.read(saved(net, tmp_path / "net.pth"))
    assert relative_error(checkpoint, net) <= TOLERANCE


def set_activation(make: Callable[[], nn.Module]) -> Change:
    def change(net: ResNet) -> None:
        for block in net.modules():
            if isinstance(block, Bottleneck):
                block.relu = make()

    return change


class GeM(nn.Module):
    """A pool of one's own."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.clamp(min=1e-6).pow(3).mean((2, 3), keepdim=True).pow(1 / 3)


def set_attribute(place: str, **values: Any) -> Change:
    def change(net: ResNet) -> None:
        for name, value in values.items():
            setattr(net.get_submodule(place), name, value)

    return change


def double(module: nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
    return 2 * output


def add_hook(net: ResNet) -> None:
    net.avgpool.register_forward_hook(double)


def add_hook_before(net: ResNet) -> None:
    net.register_forward_pre_hook(identity)


def identity(module: nn.Module, inputs: Any) -> Any:
    return inputs


def add_tanh(net: ResNet) -> None:
    net.fc = nn.Sequential(net.fc, nn.Tanh())


REFUSED: list[tuple[Any, str]] = [
    (set_activation(lambda: nn.LeakyReLU(0.2)), r"layer1\.0\.relu \(LeakyReLU\).*ReLU"),
    (set_activation(nn.GELU), r"layer1\.0\.relu \(GELU\)"),
    (set_activation(nn.Identity), r"layer1\.0\.relu \(Identity\): a ResNet has a ReLU there"),
    (set_head(GeM()), r"avgpool \(GeM\)"),
    (set_head(nn.AdaptiveAvgPool2d(2)), r"avgpool \(AdaptiveAvgPool2d\).*1 x 1"),
    (
        set_pool(nn.MaxPool2d(2, 2)),
        r"maxpool \(MaxPool2d\): a window of 2 with stride 2, padding 0",
    ),
    (set_pool(nn.MaxPool2d(3, 2, 0)), r"maxpool \(MaxPool2d\)"),
    (set_attribute("layer1.0.conv2", padding_mode="reflect"), r"layer1\.0\.conv2.*padding_mode"),
    (set_attribute("layer1.0.conv2", padding=(0, 0)), r"layer1\.0\.conv2.*padding is \(0, 0\)"),
    (set_attribute("layer3.0.conv2", stride=(1, 1)), r"layer3\.0\.conv2.*stride is \(1, 1\)"),
    (set_attribute("layer3.0.conv2", stride=(2, 1)), r"layer3\.0\.conv2.*stride is \(2, 1\)"),
    (
        set_attribute("layer3.0.bn2", eps=1e-3),
        r"layer3\.0\.bn2 \(BatchNorm2d\): eps is 0\.001, and",
    ),
    (set_attribute("layer1.0.bn2", track_running_stats=False), r"layer1\.0\.bn2.*track_running"),
    (add_hook, r"module avgpool \(AdaptiveAvgPool2d\): a hook .*\.double runs with its forward"),
    (add_hook_before, r"module itself \(ResNet\): a hook .*\.identity runs with its forward"),
    (add_tanh, r"fc\.1 \(Tanh\)"),
    (
        set_attribute("avgpool", forward=identity),
        r"avgpool \(AdaptiveAvgPool2d\): it has a forward of its own, which is not in the file",
    ),
    (
        set_epsilon(1),
        r"module bn1 \(BatchNorm2d\): eps is 1, and no number between 0 and 1",
    ),
    (
        set_pool(nn.Sequential(nn.MaxPool2d(3, 2, 1), nn.MaxPool2d(3, 2, 1))),
        r"maxpool\.1 \(MaxPool2d\): a ResNet has one max pool, behind its stem",
    ),
    (
        set_head(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.AdaptiveMaxPool2d(1))),
        r"avgpool\.1 \(AdaptiveMaxPool2d\): a ResNet has one pool before its last layer",
    ),
    (
        set_head(nn.AvgPool2d(7, ceil_mode=True)),
        r"avgpool \(AvgPool2d\): ceil_mode and divisor_override are not supported",
    ),
    (
        set_head(nn.AvgPool2d(7, divisor_override=2)),
        r"avgpool \(AvgPool2d\): ceil_mode and divisor_override are not supported",
    ),
    (
        set_head(nn.AvgPool2d(7, padding=1, count_include_pad=False)),
        r"avgpool \(AvgPool2d\): expected count_include_pad=True beside a padding of 1",
    ),
]


@pytest.mark.parametrize(("change", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_modules_that_no_resnet_has_are_refused_by_name(
    change: Change, message: str, tmp_path: Path
) -> None:
    net = torchvision_net()
    change(net)
    path = saved(net, tmp_path / "net.pth")
    own = {"blocks": [1, 1, 1, 1], "width_per_group": 16}
    for stated in ({"architecture": "resnet50", "variant": own}, {}):
        with pytest.raises(WeightsError, match=message) as caught:
            formats.read(path, **stated)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [("stride_on", "conv1"), ("norm_epsilon", 1e-3), ("head", "global_max_pool")],
)
def test_a_statement_that_contradicts_the_file_is_refused(
    field: str, value: Any, tmp_path: Path
) -> None:
    path = saved(torchvision_net(), tmp_path / "net.pth")
    variant = {"blocks": [1, 1, 1, 1], "width_per_group": 16, field: value}
    with pytest.raises(WeightsError, match=f"variant: {field} is .* in the file's own modules"):
        formats.read(path, architecture="resnet50", variant=variant)


@pytest.mark.parametrize(
    ("pool", "stem", "stated", "message"),
    [
        (True, "conv7x7", "none", "has a max pool behind its stem, and .* stated has none"),
        (True, "conv3x3", "none", "stem_pool is 'max' in the file's own modules, and 'none' was"),
        (False, "conv7x7", "max", "stem_pool is 'none' in the file's own modules, and 'max' was"),
        (False, "conv3x3", "max", "has no max pool behind its stem, and .* stated has one"),
    ],
)
def test_a_pool_that_is_stated_must_be_the_files(
    pool: bool, stem: str, stated: str, message: str, tmp_path: Path
) -> None:
    net = torchvision_net()
    if stem == "conv3x3":
        net.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    if not pool:
        net.maxpool = nn.Identity()
    path = saved(net, tmp_path / "net.pth")
    variant = {"blocks": [1, 1, 1, 1], "width_per_group": 16, "stem": stem, "stem_pool": stated}
    with pytest.raises(WeightsError, match=rf"net\.pth: .*{message}"):
        formats.read(path, architecture="resnet50", variant=variant)


@pytest.mark.parametrize(
    ("pool", "features"),
    [
        (nn.AvgPool2d(3), 1),
        (nn.AvgPool2d(2, 1), 4),
        (nn.AvgPool2d(2, 2, 1), 4),
        (nn.AvgPool2d((3, 3), stride=(1, 1), count_include_pad=False), 1),
    ],
    ids=str,
)
def test_a_pool_of_a_window_is_taken(pool: nn.Module, features: int, tmp_path: Path) -> None:
    net = torchvision_net()
    net.avgpool, net.fc = pool, nn.Linear(2048 * features, 6)
    randomize(net)
    path = saved(net, tmp_path / "net.pth")
    checkpoint = formats.read(path, preprocessing={"crop": HEIGHT})
    assert relative_error(checkpoint, net) <= TOLERANCE


def test_a_layer_without_a_module_is_refused_with_the_way_out(tmp_path: Path) -> None:
    """A parameter whose name has a dot: its module's stride is not in the file."""
    net = torchvision_net()
    weight = net._modules.pop("conv1").weight
    net._parameters["conv1.weight"] = weight
    path = saved(net, tmp_path / "net.pth")
    words = (
        r"net\.pth: tensor conv1\.weight is in no module, .*: save torch\.save\(model\.state_dict"
    )
    for stated in ({"architecture": "resnet50"}, {}):
        with pytest.raises(WeightsError, match=words):
            formats.read(path, **stated)


def test_a_norm_of_no_known_place_is_refused(tmp_path: Path) -> None:
    net = torchvision_net()
    for module in net.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, nn.Identity())
            elif isinstance(child, nn.Conv2d):
                child.bias = nn.Parameter(torch.zeros(child.out_channels))
    own = {"blocks": [1, 1, 1, 1], "width_per_group": 16}
    folded = formats.read(saved(net, tmp_path / "net.pth"), architecture="resnet50", variant=own)
    assert folded.config["variant"]["batch_norm"] is False
    assert relative_error(folded, net) <= TOLERANCE
    net.more_bn1 = nn.Linear(2, 2)
    with pytest.raises(WeightsError, match=r"without a place are more_bn1\.weight"):
        formats.read(saved(net, tmp_path / "net.pth"), architecture="resnet50", variant=own)


class WithoutPool(TinyResNet):
    """A mean that is no module."""

    def __init__(self) -> None:
        super().__init__()
        del self.avgpool

    def avgpool(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return x.mean((2, 3))


def test_a_mean_without_a_module_is_the_usual_head(tmp_path: Path) -> None:
    net = WithoutPool()
    path = saved(net, tmp_path / "net.pth")
    checkpoint = formats.read(path, architecture="resnet50", variant=tiny_variant())
    assert "head" not in checkpoint.config["variant"]
    assert relative_error(checkpoint, net) <= TOLERANCE


def test_a_class_of_ones_own_has_its_attributes_and_is_asked_for(tmp_path: Path) -> None:
    """Its forward is not in the file, so the network must be stated."""
    net = TinyResNet(stride_on_conv1=True)
    path = saved(net, tmp_path / "net.pth")
    with pytest.raises(WeightsError, match="does not say which network"):
        formats.read(path)
    checkpoint = formats.read(path, architecture="resnet50", variant=tiny_variant())
    assert checkpoint.config["variant"]["stride_on"] == "conv1"
    assert relative_error(checkpoint, net) <= TOLERANCE


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda net: nn.Sequential(*net.children())])
def test_wrapped_models_have_their_attributes(wrap: Any, tmp_path: Path) -> None:
    net = torchvision_net()
    change_stride(net)
    body = wrap(net)
    path = saved(body, tmp_path / "net.pth")
    own = {"blocks": [1, 1, 1, 1], "width_per_group": 16}
    checkpoint = formats.read(path, architecture="resnet50", variant=own)
    assert checkpoint.config["variant"]["stride_on"] == "conv1"
    assert relative_error(checkpoint, net) <= TOLERANCE


def test_a_model_beside_others_is_judged_alone(tmp_path: Path) -> None:
    detector = nn.ModuleDict({"backbone": torchvision_net(), "head": nn.Sequential(nn.GELU())})
    detector["head"].append(nn.Conv2d(8, 8, 1))
    path = saved(detector, tmp_path / "net.pth")
    own = {"blocks": [1, 1, 1, 1], "width_per_group": 16}
    checkpoint = formats.read(path, architecture="resnet50", variant=own, key="backbone")
    assert relative_error(checkpoint, detector["backbone"]) <= TOLERANCE


def test_basic_blocks_are_taken_as_they_are(tmp_path: Path) -> None:
    net = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=3)
    randomize(net)
    checkpoint = formats.read(saved(net, tmp_path / "net.pth"))
    assert relative_error(checkpoint, net) <= TOLERANCE

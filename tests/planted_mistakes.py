"""Networks in torch with one mistake each, and what must be said of them."""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from tiny_torch import TinyResNet
from torch import Tensor, nn
from torch.nn import functional


def network(*arguments: Any, **options: Any) -> TinyResNet:
    """The right network, or one that differs as `TinyResNet`'s arguments say."""
    torch.manual_seed(0)  # of fc's bias, which `randomize` leaves alone
    return TinyResNet(*arguments, **options)


def with_weights(name: str, change: Callable[[Tensor], Tensor]) -> nn.Module:
    """The right network with one tensor changed."""
    module = network()
    tensor = module.get_parameter(name)
    tensor.data = change(tensor.data).contiguous()
    return module


def with_module(name: str, change: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """The right network with one module replaced, its tensors kept."""
    module = network()
    old = module.get_submodule(name)
    new = change(old)
    new.load_state_dict(old.state_dict())
    parent, _, last = name.rpartition(".")
    setattr(module.get_submodule(parent), last, new)
    return module.eval()


def with_block(name: str, forward: Callable[[nn.Module, Tensor], Tensor]) -> nn.Module:
    """The right network with one block's forward rewritten."""
    module = network()
    block = module.get_submodule(name)
    block.forward = types.MethodType(forward, block)
    return module


def oihw_as_ohwi(w: Tensor) -> Tensor:
    out, group_in, height, width = w.shape
    return w.reshape(out, height, width, group_in).permute(0, 3, 1, 2)


def branch(block: nn.Module, x: Tensor, *, relu1: bool = True) -> Tensor:
    """A bottleneck's convolutions."""
    y = block.bn1(block.conv1(x))
    y = block.relu(y) if relu1 else y
    y = block.relu(block.bn2(block.conv2(y)))
    return block.bn3(block.conv3(y))


def shortcut(block: nn.Module, x: Tensor) -> Tensor:
    return x if block.downsample is None else block.downsample(x)


class SameConv(nn.Conv2d):
    """A convolution padded as TensorFlow pads: the odd row and column after the picture."""

    def forward(self, x: Tensor) -> Tensor:
        sides = []
        for size in (x.shape[3], x.shape[2]):
            total = max((-(-size // 2) - 1) * 2 + 7 - size, 0)
            sides += [total // 2, total - total // 2]
        return functional.conv2d(functional.pad(x, sides), self.weight, stride=2)


def epsilon(value: float, *names: str) -> nn.Module:
    module = network()
    for name, part in module.named_modules():
        if isinstance(part, nn.BatchNorm2d) and (not names or name in names):
            part.eps = value
    return module


def without_residual(block: nn.Module, x: Tensor) -> Tensor:
    shortcut(block, x)
    return block.relu(branch(block, x))


def scaled_fc(module: nn.Module) -> nn.Module:
    module.fc.register_forward_hook(lambda _m, _i, output: output * 3)
    return module


def softmaxed(module: nn.Module) -> nn.Module:
    module.fc.register_forward_hook(lambda _m, _i, output: output.softmax(1))
    return module


def swapped_norms() -> nn.Module:
    module = network()
    block = module.layer3[0]
    block.bn1, block.bn2 = block.bn2, block.bn1
    # As a loader does that mixes up two names: the modules are in place, their tensors are not.
    return module


@dataclass(frozen=True)
class Plant:
    """A mistake: how it is made, and what must be said of it."""

    name: str
    make: Callable[[], nn.Module]
    layer: str
    mistake: str
    text: str


PLANTS = [
    Plant(
        "kernels transposed",
        lambda: with_weights("layer2.0.conv2.weight", lambda w: w.transpose(2, 3)),
        "layer2.0.conv2",
        "transposed weights",
        "height and width of the kernels",
    ),
    Plant(
        "in and out swapped",
        lambda: with_weights("layer3.0.conv2.weight", lambda w: w.transpose(0, 1)),
        "layer3.0.conv2",
        "transposed weights",
        "input and output channels",
    ),
    Plant(
        "OIHW read as OHWI",
        lambda: with_weights("conv1.weight", oihw_as_ohwi),
        "conv1",
        "transposed weights",
        "are OIHW, and were read as OHWI",
    ),
    Plant(
        "OHWI read as OIHW",
        lambda: with_weights(
            "layer1.0.conv2.weight", lambda w: w.permute(0, 2, 3, 1).reshape(w.shape)
        ),
        "layer1.0.conv2",
        "transposed weights",
        "are OHWI, and were read as OIHW",
    ),
    Plant(
        "Keras kernel",
        lambda: with_weights("conv1.weight", lambda w: w.permute(2, 3, 1, 0).reshape(w.shape)),
        "conv1",
        "transposed weights",
        "HWIO (Keras), and were read as OIHW",
    ),
    Plant(
        "Keras 1x1 kernel",
        lambda: with_weights("layer2.0.conv3.weight", lambda w: w[..., 0, 0].T.reshape(w.shape)),
        "layer2.0.conv3",
        "transposed weights",
        "HWIO (Keras), and were read as OIHW",
    ),
    Plant(
        "mirrored",
        lambda: with_weights("layer4.0.conv2.weight", lambda w: w.flip(2, 3)),
        "layer4.0.conv2",
        "mirrored kernels",
        "correlate",
    ),
    Plant(
        "padding of the stem",
        lambda: with_module("conv1", lambda m: nn.Conv2d(3, 4, 7, 2, padding=2, bias=False)),
        "conv1",
        "wrong padding",
        "the padding is 2, not 3",
    ),
    Plant(
        "TensorFlow's same",
        lambda: with_module("conv1", lambda m: SameConv(3, 4, 7, 2, bias=False)),
        "conv1",
        "wrong padding",
        "TensorFlow",
    ),
    Plant(
        "reflected border",
        lambda: with_module(
            "layer1.0.conv2",
            lambda m: nn.Conv2d(4, 4, 3, 1, padding=1, bias=False, padding_mode="reflect"),
        ),
        "layer1.0.conv2",
        "wrong padding",
        "mirrors the picture",
    ),
    Plant(
        "v1",
        lambda: network(stride_on_conv1=True),
        "layer2.0.conv1",
        "stride on the other convolution",
        "on conv1 (v1: the paper, Keras, detectron2), not on conv2",
    ),
    Plant(
        "stride of the stem",
        lambda: with_module("conv1", lambda m: nn.Conv2d(3, 4, 7, 1, padding=3, bias=False)),
        "conv1",
        "wrong stride",
        "the stride is 1, not 2",
    ),
    Plant(
        "no residual",
        lambda: with_block("layer2.1", without_residual),
        "layer2.1.add",
        "missing residual",
        "the shortcut is not added",
    ),
    Plant(
        "no residual where there is a projection",
        lambda: with_block("layer3.0", without_residual),
        "layer3.0.add",
        "missing residual",
        "the shortcut is not added",
    ),
    Plant(
        "the shortcut alone",
        lambda: with_block("layer2.1", lambda b, x: b.relu(shortcut(b, x) + 0 * branch(b, x))),
        "layer2.1.add",
        "missing residual",
        "only the shortcut is there, not the block",
    ),
    Plant(
        "added to itself",
        lambda: with_block("layer3.0", lambda b, x: b.relu(2 * branch(b, x) + 0 * shortcut(b, x))),
        "layer3.0.add",
        "wrong shortcut",
        "the block's result is added to itself",
    ),
    Plant(
        "no ReLU after the addition",
        lambda: with_block("layer1.0", lambda b, x: branch(b, x) + shortcut(b, x)),
        "layer1.0",
        "missing ReLU",
        "the ReLU is missing",
    ),
    Plant(
        "no ReLU within a block",
        lambda: with_block(
            "layer2.0", lambda b, x: b.relu(branch(b, x, relu1=False) + shortcut(b, x))
        ),
        "layer2.0.relu1",
        "missing ReLU",
        "the ReLU is missing",
    ),
    Plant(
        "ReLU before the addition",
        lambda: with_block("layer1.0", lambda b, x: b.relu(branch(b, x)) + shortcut(b, x)),
        "layer1.0.add",
        "ReLU in the wrong place",
        "before the addition, and none after it",
    ),
    Plant(
        "leaky ReLU",
        lambda: with_module("relu", lambda m: nn.LeakyReLU(0.01)),
        "relu",
        "another activation",
        "leaky ReLU with slope 0.01",
    ),
    Plant(
        "TensorFlow's epsilon",
        lambda: epsilon(1e-3),
        "bn1",
        "wrong epsilon",
        "epsilon is 0.001, not 1e-05",
    ),
    Plant(
        "an epsilon of one's own",
        lambda: epsilon(0.0123, "layer1.0.bn2"),
        "layer1.0.bn2",
        "wrong epsilon",
        "epsilon is about 0.0123, not 1e-05",
    ),
    Plant(
        "training mode",
        lambda: network().train(),
        "bn1",
        "batch norm in training mode",
        "model.eval() is missing",
    ),
    Plant(
        "the scale is missing",
        lambda: with_weights("layer1.0.bn3.weight", torch.ones_like),
        "layer1.0.bn3",
        "batch norm incomplete",
        "the scale (weight) is missing",
    ),
    Plant(
        "tensors of another layer",
        swapped_norms,
        "layer3.0.bn1",
        "another layer's tensors",
        "it uses the tensors of layer3.0.bn2",
    ),
    Plant(
        "max pool without padding",
        lambda: with_module("maxpool", lambda m: nn.MaxPool2d(3, 2, ceil_mode=True)),
        "maxpool",
        "max pool's padding",
        "the padding is 0, not 1, and the size is rounded up",
    ),
    Plant(
        "another window",
        lambda: with_module("maxpool", lambda m: nn.MaxPool2d(2, 2)),
        "maxpool",
        "wrong pool",
        "2 x 2, not 3 x 3",
    ),
    Plant(
        "global max pool",
        lambda: with_module("avgpool", lambda m: nn.AdaptiveMaxPool2d(1)),
        "avgpool",
        "wrong pool",
        "the largest value, not the mean",
    ),
    Plant(
        "fc without bias",
        lambda: with_weights("fc.bias", torch.zeros_like),
        "fc",
        "missing bias",
        "the bias is not added",
    ),
    Plant(
        "fc transposed",
        lambda: with_weights("fc.weight", lambda w: w.T.reshape(w.shape)),
        "fc",
        "transposed weights",
        "are [in, out], and were read as [out, in]",
    ),
    Plant("softmax", lambda: softmaxed(network()), "fc", "softmax", "probabilities"),
    Plant(
        "a factor",
        lambda: scaled_fc(network()),
        "fc",
        "wrong scale",
        "every value is 3 times the right one",
    ),
    Plant(
        "weights of another training",
        lambda: with_weights("layer2.1.conv1.weight", lambda w: w + 0.1 * w.sin()),
        "layer2.1.conv1",
        "other weights",
        "layer2.1.conv1.weight is another tensor",
    ),
]

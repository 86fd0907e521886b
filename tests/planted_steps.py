"""Training steps in torch with one mistake each, and what must be said of them."""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from planted_mistakes import network
from torch import Tensor, nn
from torch.nn import functional

LABELS = (1, 3, 0)
Entries = dict[str, Any]


def step(
    image: Tensor,
    module: nn.Module | None = None,
    *,
    loss: Callable[[Tensor, Tensor], Tensor] = functional.cross_entropy,
    labels: tuple[int, ...] = LABELS,
    train: bool = True,
    double: bool = True,
) -> Entries:
    """Gradients and running statistics after a step of torch.

    Args:
        image: `[batch, 3, height, width]`.
        module: the network; None for the right one.
        loss: of logits and labels.
        labels: of the images.
        train: run in training mode.
        double: compute in float64.
    """
    module = (network() if module is None else module).train(train)
    if double:
        module, image = module.double(), image.double()
    loss(module(image), torch.tensor(labels)).backward()
    gradients = {name: parameter.grad for name, parameter in module.named_parameters()}
    return {**gradients, **dict(module.named_buffers())}


@dataclass(frozen=True)
class StepPlant:
    """A mistake, and the diagnosis that it must get.

    Attributes:
        name: for the test's id.
        make: takes images, gives entries.
        layer: where it was made.
        mistake: its class.
        text: what the diagnosis must say.
    """

    name: str
    make: Callable[[Tensor], Entries]
    layer: str
    mistake: str
    text: str


def changed(name: str, change: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Entries]:
    """A right step with one entry changed."""

    def make(image: Tensor) -> Entries:
        entries = step(image)
        return {**entries, name: change(entries[name])}

    return make


def all_changed(change: Callable[[str, Tensor], Tensor]) -> Callable[[Tensor], Entries]:
    """A right step with all gradients changed."""

    def make(image: Tensor) -> Entries:
        entries = step(image)
        return {
            name: value if "running" in name or "num_" in name else change(name, value)
            for name, value in entries.items()
        }

    return make


def with_loss(loss: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor], Entries]:
    return lambda image: step(image, loss=loss)


def with_norms(forward: Callable[[nn.BatchNorm2d, Tensor], Tensor]) -> Callable[[Tensor], Entries]:
    """A step with another forward of all batch norms."""

    def make(image: Tensor) -> Entries:
        module = network()
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.forward = types.MethodType(forward, part)
        entries = step(image, module)
        return {name: value for name, value in entries.items() if "running" not in name}

    return make


def normalised(norm: nn.BatchNorm2d, x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    def axis(values: Tensor) -> Tensor:
        return values[:, None, None]

    root = (axis(variance) + norm.eps).sqrt()
    return (x - axis(mean)) / root * axis(norm.weight) + axis(norm.bias)


def constant_statistics(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
    return normalised(norm, x, mean.detach(), variance.detach())


def constant_variance(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
    return normalised(norm, x, mean, variance.detach())


def unbiased_variance(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    return normalised(norm, x, x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=True))


class PassingReLU(torch.autograd.Function):
    """A ReLU whose gradient goes through everywhere."""

    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        return x.clamp(min=0)

    @staticmethod
    def backward(_: Any, dy: Tensor) -> Tensor:
        return dy


class GuidedReLU(PassingReLU):
    """A ReLU that passes positive gradients on."""

    @staticmethod
    def backward(_: Any, dy: Tensor) -> Tensor:
        return dy.clamp(min=0)


def with_relus(function: type[torch.autograd.Function]) -> Callable[[Tensor], Entries]:
    """A step with other ReLUs in the last block."""

    def make(image: Tensor) -> Entries:
        module = network()
        module.layer4[0].relu.forward = lambda x: function.apply(x)
        return step(image, module)

    return make


def without_shortcut_gradient(image: Tensor) -> Entries:
    module = network()

    def forward(block: nn.Module, x: Tensor) -> Tensor:
        y = block.relu(block.bn1(block.conv1(x)))
        y = block.bn3(block.conv3(block.relu(block.bn2(block.conv2(y)))))
        return block.relu(y + x.detach())

    block = module.layer2[1]  # a block without a convolution in its shortcut
    block.forward = types.MethodType(forward, block)
    return step(image, module)


def biased_running_variance(image: Tensor) -> Entries:
    """After the last stride, where maps have 2 x 2 pixels."""
    entries = step(image)
    before = network().double().state_dict()
    count = image.shape[0] * 2 * 2
    for name, value in entries.items():
        if name in ("layer4.0.bn2.running_var", "layer4.0.bn3.running_var"):
            share = value - 0.9 * before[name]
            entries[name] = value - share / count
    return entries


def reversed_momentum(image: Tensor) -> Entries:
    module = network()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = 0.9
    return step(image, module)


def mirrored_inputs(image: Tensor) -> Entries:
    """The gradient by the input of the last 3x3 takes mirrored kernels."""
    module = network()
    conv = module.layer4[0].conv2

    class Mirrored(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, x: Tensor, w: Tensor) -> Tensor:
            context.save_for_backward(x, w)
            return functional.conv2d(x, w, None, conv.stride, conv.padding)

        @staticmethod
        def backward(context: Any, dy: Tensor) -> tuple[Tensor, Tensor]:
            x, w = context.saved_tensors
            window = conv.stride, conv.padding
            dx = torch.nn.grad.conv2d_input(x.shape, w.flip(2, 3), dy, *window)
            return dx, torch.nn.grad.conv2d_weight(x, w.shape, dy, *window)

    conv.forward = lambda x: Mirrored.apply(x, conv.weight)
    return step(image, module)


def weights(name: str) -> Tensor:
    return network().double().get_parameter(name).detach()


def reshaped_as_ohwi(gradient: Tensor) -> Tensor:
    return gradient.permute(0, 2, 3, 1).reshape(gradient.shape)


SUM = "the loss is the sum over 3 images, not their mean"
PLANTS = [
    StepPlant(
        "sum",
        with_loss(lambda x, y: functional.cross_entropy(x, y, reduction="sum")),
        "loss",
        "sum instead of mean",
        SUM,
    ),
    StepPlant(
        "mean twice",
        with_loss(lambda x, y: functional.cross_entropy(x, y) / 3),
        "loss",
        "mean taken twice",
        "divided by 3 images twice",
    ),
    StepPlant(
        "sign",
        with_loss(lambda x, y: -functional.cross_entropy(x, y)),
        "loss",
        "wrong sign",
        "uphill",
    ),
    StepPlant(
        "no zero_grad", all_changed(lambda _, g: 2 * g), "loss", "gradients added up", "set to 0"
    ),
    StepPlant("another factor", all_changed(lambda _, g: 7 * g), "loss", "wrong scale", "7 times"),
    StepPlant(
        "labels from 1",
        lambda image: step(image, labels=tuple(y + 1 for y in LABELS)),
        "loss",
        "labels off by one",
        "one too large",
    ),
    StepPlant(
        "softmax twice",
        with_loss(lambda x, y: functional.cross_entropy(x.softmax(1), y)),
        "loss",
        "softmax twice",
        "it expects logits",
    ),
    StepPlant(
        "smoothing",
        with_loss(lambda x, y: functional.cross_entropy(x, y, label_smoothing=0.15)),
        "loss",
        "label smoothing",
        "smoothed by 0.15 more",
    ),
    StepPlant(
        "squared error",
        with_loss(
            lambda x, y: ((x.softmax(1) - functional.one_hot(y, 5)) ** 2).sum() / len(y),
        ),
        "loss",
        "another loss",
        "squared error",
    ),
    StepPlant(
        "eval mode",
        lambda image: {n: g for n, g in step(image, train=False).items() if "running" not in n},
        "bn1",
        "batch norm in eval mode",
        "the network ran in eval mode",
    ),
    StepPlant(
        "eval mode, by the statistics",
        lambda image: step(image, train=False),
        "bn1.running_mean",
        "batch norm in eval mode",
        "did not change",
    ),
    StepPlant(
        "momentum", reversed_momentum, "bn1.running_mean", "momentum", "0.1 is the share of the new"
    ),
    StepPlant(
        "biased running variance",
        biased_running_variance,
        "layer4.0.bn2.running_var",
        "biased variance",
        "the unbiased one (m - 1) is right",
    ),
    StepPlant(
        "unbiased variance",
        with_norms(unbiased_variance),
        "bn1",
        "unbiased variance",
        "the biased one (m) is right",
    ),
    StepPlant(
        "constant statistics",
        with_norms(constant_statistics),
        "layer4.0.downsample.1",
        "batch norm's statistics as constants",
        "the mean and the variance",
    ),
    StepPlant(
        "constant variance",
        with_norms(constant_variance),
        "layer4.0.downsample.1",
        "batch norm's statistics as constants",
        "through the variance",
    ),
    StepPlant(
        "ReLU passes",
        with_relus(PassingReLU),
        "layer4.0",
        "ReLU's gradient",
        "where the result is 0",
    ),
    StepPlant(
        "ReLU by the gradient",
        with_relus(GuidedReLU),
        "layer4.0",
        "ReLU's gradient",
        "the sign of the gradient decides",
    ),
    StepPlant(
        "no gradient into the shortcut",
        without_shortcut_gradient,
        "layer2.1.add",
        "shortcut",
        "no gradient goes into the shortcut",
    ),
    StepPlant(
        "mirrored kernels",
        mirrored_inputs,
        "layer4.0.conv2",
        "mirrored kernels",
        "once too often",
    ),
    StepPlant(
        "weight decay in the gradients",
        all_changed(lambda name, g: g + 0.25 * weights(name)),
        "fc.weight",
        "weight decay",
        "0.25 times the weights is in the gradients; 0 was expected",
    ),
    StepPlant(
        "fc transposed",
        changed("fc.weight", lambda g: g.T),
        "fc.weight",
        "transposed weights",
        "in and out are swapped",
    ),
    StepPlant(
        "kernels transposed",
        changed("layer3.0.conv2.weight", lambda g: g.transpose(2, 3)),
        "layer3.0.conv2.weight",
        "transposed weights",
        "height and width",
    ),
    StepPlant(
        "OHWI by reshape",
        changed("conv1.weight", reshaped_as_ohwi),
        "conv1.weight",
        "transposed weights",
        "OHWI became OIHW by reshape",
    ),
    StepPlant(
        "mirrored",
        changed("layer2.0.conv2.weight", lambda g: g.flip(2, 3)),
        "layer2.0.conv2.weight",
        "mirrored kernels",
        "the kernels are mirrored",
    ),
    StepPlant(
        "another tensor",
        lambda image: {**(e := step(image)), "layer1.0.bn1.bias": e["layer1.0.bn1.weight"]},
        "layer1.0.bn1.bias",
        "another tensor",
        "the gradient by layer1.0.bn1.weight",
    ),
    StepPlant(
        "no gradient", changed("bn1.bias", torch.zeros_like), "bn1.bias", "no gradient", "is 0"
    ),
    StepPlant(
        "NaN", changed("fc.bias", lambda g: g * torch.nan), "fc.bias", "not finite", "5 of 5 values"
    ),
    StepPlant(
        "scale of one tensor",
        changed("layer4.0.bn1.weight", lambda g: 3 * g),
        "layer4.0.bn1.weight",
        "wrong scale",
        "3 times the right one",
    ),
]

"""The gradients of `resnet_rs.reference`: against torch's autograd in float64, and differences.

Each operation's loss is `sum(dy * result)` with random dy. Its gradient by the result is dy, and
every element of the result matters with its own factor.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from finite_differences import TOLERANCE as DIFFERENCES
from finite_differences import slopes
from network_pairs import Array, nchw, relative_l2
from torch import nn
from torch.nn import functional

from resnet_rs import reference

pytestmark = pytest.mark.usefixtures("one_torch_thread")

TOLERANCE = 1e-10
"""Largest relative L2 error against autograd; both are float64 and differ in rounding only."""

SIZES = [(1, 7, 5), (3, 6, 9)]
"""Batch, height and width of inputs."""

CONVOLUTIONS = [
    # in, out, kernel, stride, padding, groups, dilation
    (2, 3, 3, 1, 1, 1, 1),
    (2, 3, 3, 2, 1, 1, 1),
    (2, 3, 3, 3, 0, 1, 1),
    (2, 3, 1, 1, 0, 1, 1),
    (2, 3, 1, 2, 0, 1, 1),
    (3, 2, 5, 2, 2, 1, 1),
    (1, 2, 7, 2, 3, 1, 1),
    (4, 6, 3, 1, 1, 2, 1),
    (4, 4, 3, 2, 1, 4, 1),
    (2, 3, 3, 1, 2, 1, 2),
    (4, 2, 3, 2, 2, 2, 2),
    (2, 2, 2, 3, 1, 1, 1),
]


def random(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape)


def autograd(f: Callable[..., torch.Tensor], dy: Array | None, *inputs: Array) -> list[Array]:
    """The result of a function of NCHW tensors, and its gradients; arrays of 4 axes are NHWC."""

    def back(tensor: torch.Tensor) -> Array:
        array = tensor.detach().numpy()
        return array.transpose(0, 2, 3, 1) if array.ndim == 4 else array

    leaves = [
        (nchw(x) if x.ndim == 4 else torch.from_numpy(x.copy())).requires_grad_() for x in inputs
    ]
    result = f(*leaves)
    if dy is None:
        dy = np.random.default_rng(99).standard_normal(back(result).shape)
    result.backward(nchw(dy) if dy.ndim == 4 else torch.from_numpy(dy))
    return [back(result), dy, *(back(leaf.grad) for leaf in leaves)]


@pytest.mark.parametrize("numbers", CONVOLUTIONS, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_convolution(numbers: tuple[int, ...], size: tuple[int, ...]) -> None:
    channels, out, kernel, stride, padding, groups, dilation = numbers
    x = random(*size, channels)
    weights = random(out, kernel, kernel, channels // groups)  # OHWI, as everything here
    bias = random(out)
    window = {"stride": stride, "padding": padding, "groups": groups, "dilation": dilation}

    # `autograd` turns the weights from OHWI to OIHW as it turns NHWC to NCHW.
    result, dy, dx, dweights, dbias = autograd(
        lambda x, w, b: functional.conv2d(x, w, b, **window), None, x, weights, bias
    )

    ours = [
        reference.conv2d_input_gradient(dy, weights, *size[1:], **window),
        reference.conv2d_weight_gradient(dy, x, kernel, kernel, **window),
        reference.conv2d_bias_gradient(dy),
    ]
    for actual, expected in zip(ours, (dx, dweights, dbias), strict=True):
        assert relative_l2(actual, expected) <= TOLERANCE

    def loss(x: Array, weights: Array, bias: Array) -> float:
        return float((dy * reference.conv2d(x, weights, bias=bias, **window)).sum())

    assert relative_l2(reference.conv2d(x, weights, bias=bias, **window), result) <= TOLERANCE
    assert relative_l2(ours[0], slopes(lambda v: loss(v, weights, bias), x)) <= DIFFERENCES
    assert relative_l2(ours[1], slopes(lambda v: loss(x, v, bias), weights)) <= DIFFERENCES
    assert relative_l2(ours[2], slopes(lambda v: loss(x, weights, v), bias)) <= DIFFERENCES


def test_kernels_that_are_not_square() -> None:
    x, weights = random(2, 7, 6, 2), random(3, 3, 2, 2)
    _, dy, dx, dweights = autograd(
        lambda x, w: functional.conv2d(x, w, stride=2, padding=1), None, x, weights
    )
    window = {"stride": 2, "padding": 1}
    assert relative_l2(reference.conv2d_input_gradient(dy, weights, 7, 6, **window), dx) < TOLERANCE
    actual = reference.conv2d_weight_gradient(dy, x, 3, 2, **window)
    assert relative_l2(actual, dweights) < TOLERANCE


@pytest.mark.parametrize("dilation", [1, 2])
def test_an_input_gradient_at_stride_1_is_a_convolution_with_the_turned_kernel(
    dilation: int,
) -> None:
    dy, weights = random(2, 6, 5, 3), random(3, 3, 3, 2)
    turned = weights[:, ::-1, ::-1].transpose(3, 1, 2, 0)  # in and out exchanged
    padding = dilation  # the result has the size of the input
    actual = reference.conv2d_input_gradient(dy, weights, 6, 5, padding=padding, dilation=dilation)
    expected = reference.conv2d(dy, turned, padding=2 * dilation - padding, dilation=dilation)
    assert relative_l2(actual, expected) <= TOLERANCE


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("epsilon", [1e-5, 1e-3])
@pytest.mark.parametrize("momentum", [0.1, 0.3])
def test_batch_norm_in_training(size: tuple[int, ...], epsilon: float, momentum: float) -> None:
    x, scale, shift = random(*size, 4) * 2 + 1, random(4) + 2, random(4)
    mean, variance = random(4), random(4) ** 2 + 0.1
    theirs = [torch.from_numpy(mean.copy()), torch.from_numpy(variance.copy())]

    result, dy, *expected = autograd(
        lambda x, scale, shift: functional.batch_norm(
            x, *theirs, scale, shift, training=True, momentum=momentum, eps=epsilon
        ),
        None,
        x,
        scale,
        shift,
    )

    ours = reference.batch_norm_training(x, mean, variance, scale, shift, epsilon, momentum)
    for actual, wanted in zip(ours, [result, *(t.numpy() for t in theirs)], strict=True):
        assert relative_l2(actual, wanted) <= TOLERANCE
    gradients = reference.batch_norm_training_gradients(dy, x, scale, epsilon)
    for actual, wanted in zip(gradients, expected, strict=True):
        assert relative_l2(actual, wanted) <= TOLERANCE

    def loss(x: Array, scale: Array, shift: Array) -> float:
        return float((dy * reference.batch_norm_training(x, mean, variance, scale, shift)[0]).sum())

    if epsilon == 1e-5 and momentum == 0.1:
        dx, dscale, dshift = gradients
        assert relative_l2(dx, slopes(lambda v: loss(v, scale, shift), x)) <= DIFFERENCES
        assert relative_l2(dscale, slopes(lambda v: loss(x, v, shift), scale)) <= DIFFERENCES
        assert relative_l2(dshift, slopes(lambda v: loss(x, scale, v), shift)) <= DIFFERENCES


def test_a_channel_of_a_single_value_has_no_statistics() -> None:
    ones = np.ones(3)
    with pytest.raises(ValueError, match=r"at least 2 values .* x is \[1, 1, 1, 3\] .* larger"):
        reference.batch_norm_training(random(1, 1, 1, 3), ones, ones, ones, ones)
    with pytest.raises(ValueError, match="more than 1 value"):  # torch's words
        functional.batch_norm(torch.zeros(1, 3, 1, 1), None, None, training=True)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_frozen_batch_norm(size: tuple[int, ...]) -> None:
    x, scale, shift = random(*size, 4), random(4) + 2, random(4)
    mean, variance = random(4), random(4) ** 2 + 0.1
    statistics = [torch.from_numpy(mean), torch.from_numpy(variance)]
    _, dy, *expected = autograd(
        lambda x, scale, shift: functional.batch_norm(x, *statistics, scale, shift, eps=1e-3),
        None,
        x,
        scale,
        shift,
    )

    gradients = reference.batch_norm_gradients(dy, x, mean, variance, scale, 1e-3)

    for actual, wanted in zip(gradients, expected, strict=True):
        assert relative_l2(actual, wanted) <= TOLERANCE

    def loss(x: Array, scale: Array, shift: Array) -> float:
        return float((dy * reference.batch_norm(x, mean, variance, scale, shift, 1e-3)).sum())

    dx, dscale, dshift = gradients
    assert relative_l2(dx, slopes(lambda v: loss(v, scale, shift), x)) <= DIFFERENCES
    assert relative_l2(dscale, slopes(lambda v: loss(x, v, shift), scale)) <= DIFFERENCES
    assert relative_l2(dshift, slopes(lambda v: loss(x, scale, v), shift)) <= DIFFERENCES


def test_relu() -> None:
    x = np.array([-2.0, -0.0, 0.0, 1e-300, 3.0, np.nan, np.inf, -np.inf])
    dy = np.arange(1.0, 9.0)
    _, _, dx = autograd(functional.relu, dy, x)
    np.testing.assert_array_equal(reference.relu_gradient(dy, reference.relu(x)), dx)

    x, dy = random(3, 5, 4, 2), random(3, 5, 4, 2) + 1
    actual = reference.relu_gradient(dy, reference.relu(x))
    expected = slopes(lambda v: float((dy * reference.relu(v)).sum()), x)
    assert relative_l2(actual, expected) <= DIFFERENCES


def test_addition() -> None:
    x, shortcut = random(2, 3, 4, 2), random(2, 4, 3, 2).reshape(2, 3, 4, 2)
    _, dy, *expected = autograd(torch.add, None, x, shortcut)
    for actual, wanted in zip(reference.add_gradient(dy), expected, strict=True):
        np.testing.assert_array_equal(actual, wanted)


MAX_POOLS = [(3, 2, 1), (2, 2, 0), (3, 1, 1), (3, 3, 1), (5, 3, 2), (2, 3, 0)]


@pytest.mark.parametrize("numbers", MAX_POOLS, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("values", ["distinct", "ties", "nan", "infinite"])
def test_max_pool(
    numbers: tuple[int, int, int], size: tuple[int, ...], ceil_mode: bool, values: str
) -> None:
    x = random(*size, 2) - 5  # all negative: a border of zeros would win
    if values == "ties":
        x = np.round(x / 2)
    elif values == "nan":
        x[np.random.default_rng(1).random(x.shape) < 0.3] = np.nan
    elif values == "infinite":
        x[np.random.default_rng(1).random(x.shape) < 0.8] = -np.inf

    result, dy, dx = autograd(
        lambda x: functional.max_pool2d(x, *numbers, ceil_mode=ceil_mode), None, x
    )

    np.testing.assert_array_equal(reference.max_pool(x, *numbers, ceil_mode), result)
    actual = reference.max_pool_gradient(dy, x, *numbers)
    np.testing.assert_allclose(actual, dx, rtol=TOLERANCE, atol=TOLERANCE)
    if values == "distinct" and size == SIZES[0]:
        expected = slopes(
            lambda v: float((dy * reference.max_pool(v, *numbers, ceil_mode)).sum()), x
        )
        assert relative_l2(actual, expected) <= DIFFERENCES


def test_the_first_of_equal_pixels_wins() -> None:
    x, dy = np.zeros((1, 2, 2, 1)), np.ones((1, 1, 1, 1))
    assert reference.max_pool_gradient(dy, x, 2, 2).ravel().tolist() == [1, 0, 0, 0]
    assert reference.global_max_pool_gradient(dy, x).ravel().tolist() == [1, 0, 0, 0]


AVERAGE_POOLS = [(2, 2, 0), (2, 1, 0), (3, 2, 1), (2, 2, 1), (3, 3, 1), (5, 5, 0)]


@pytest.mark.parametrize("numbers", AVERAGE_POOLS, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("count_include_pad", [False, True])
def test_average_pool(
    numbers: tuple[int, int, int], size: tuple[int, ...], ceil_mode: bool, count_include_pad: bool
) -> None:
    x = random(*size, 2)
    switches = {"ceil_mode": ceil_mode, "count_include_pad": count_include_pad}

    _, dy, dx = autograd(lambda x: functional.avg_pool2d(x, *numbers, **switches), None, x)

    actual = reference.avg_pool_gradient(dy, *size[1:], *numbers, **switches)
    assert relative_l2(actual, dx) <= TOLERANCE
    if size == SIZES[0]:
        expected = slopes(
            lambda v: float((dy * reference.avg_pool(v, *numbers, **switches)).sum()), x
        )
        assert relative_l2(actual, expected) <= DIFFERENCES


def test_average_pool_with_rows_of_zeros_below() -> None:
    x = random(3, 5, 6, 2)
    _, dy, dx = autograd(
        lambda x: functional.avg_pool2d(functional.pad(x, (0, 1, 0, 1)), 2, 1), None, x
    )
    actual = reference.avg_pool_gradient(dy, 5, 6, 2, 1, extra=1)
    assert relative_l2(actual, dx) <= TOLERANCE


def test_defaults_are_torchs() -> None:
    x, weights = random(2, 6, 5, 2), random(3, 3, 3, 2)
    result, dy, dx = autograd(lambda x: functional.avg_pool2d(x, 2, 2, 1), None, x)
    assert relative_l2(reference.avg_pool(x, 2, 2, 1), result) <= TOLERANCE
    assert relative_l2(reference.avg_pool_gradient(dy, 6, 5, 2, 2, 1), dx) <= TOLERANCE
    result, dy, dx = autograd(lambda x: functional.max_pool2d(x, 2, 2), None, x)
    np.testing.assert_array_equal(reference.max_pool_gradient(dy, x, 2, 2), dx)
    result, dy, dx, dweights = autograd(functional.conv2d, None, x, weights)
    assert relative_l2(reference.conv2d_input_gradient(dy, weights, 6, 5), dx) <= TOLERANCE
    assert relative_l2(reference.conv2d_weight_gradient(dy, x, 3, 3), dweights) <= TOLERANCE
    norm = nn.BatchNorm2d(2).double()
    result, dy, dx = autograd(norm, None, x)
    ours = reference.batch_norm_training(x, np.zeros(2), np.ones(2), np.ones(2), np.zeros(2))
    for actual, expected in zip(
        ours, (result, norm.running_mean.numpy(), norm.running_var.numpy()), strict=True
    ):
        assert relative_l2(actual, expected) <= TOLERANCE
    actual = reference.batch_norm_training_gradients(dy, x, np.ones(2))[0]
    assert relative_l2(actual, dx) <= TOLERANCE
    _, dy, dx = autograd(norm.eval(), None, x)
    actual = reference.batch_norm_gradients(dy, x, ours[1], ours[2], np.ones(2))[0]
    assert relative_l2(actual, dx) <= TOLERANCE


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("values", ["distinct", "ties", "nan", "infinite"])
def test_global_pools(size: tuple[int, ...], values: str) -> None:
    x = random(*size, 3)
    _, dy, dx = autograd(lambda x: functional.adaptive_avg_pool2d(x, 1), None, x)
    assert relative_l2(reference.global_avg_pool_gradient(dy, *size[1:]), dx) <= TOLERANCE

    if values == "ties":
        x = np.round(x)
    elif values == "nan":
        x[:, 2:4, 1:3, :2] = np.nan
    elif values == "infinite":
        x[..., 1] = -np.inf
    _, dy, dx = autograd(lambda x: functional.adaptive_max_pool2d(x, 1), None, x)
    np.testing.assert_array_equal(reference.global_max_pool_gradient(dy, x), dx)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("kernel", [1, 2])
@pytest.mark.parametrize("zeros", [(0, 3), (1, 2), (2, 0), (0, 0)], ids=str)
def test_shortcut_without_weights(
    size: tuple[int, ...], kernel: int, zeros: tuple[int, int]
) -> None:
    x = random(*size, 3)

    def option_a(x: torch.Tensor) -> torch.Tensor:
        if kernel == 1:
            fewer = x[:, :, ::2, ::2]
        else:
            fewer = functional.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False)
        return functional.pad(fewer, (0, 0, 0, 0, *zeros))

    result, dy, dx = autograd(option_a, None, x)

    assert relative_l2(reference.pad_shortcut(x, kernel, 2, *zeros), result) <= TOLERANCE
    actual = reference.pad_shortcut_gradient(dy, *size[1:], kernel, 2, *zeros)
    assert relative_l2(actual, dx) <= TOLERANCE
    if size == SIZES[0]:
        expected = slopes(
            lambda v: float((dy * reference.pad_shortcut(v, kernel, 2, *zeros)).sum()), x
        )
        assert relative_l2(actual, expected) <= DIFFERENCES


@pytest.mark.parametrize("batch", [1, 3])
def test_fully_connected_and_flatten(batch: int) -> None:
    x, weights, bias = random(batch, 3, 2, 2), random(5, 12), random(5)

    _, dy, dx, dweights, dbias = autograd(
        lambda x, w, b: functional.linear(torch.flatten(x, 1), w, b), None, x, weights, bias
    )

    flat = reference.flatten(x)
    ours = reference.fully_connected_gradients(dy, flat, weights)
    assert relative_l2(reference.flatten_gradient(ours[0], 3, 2), dx) <= TOLERANCE
    assert relative_l2(ours[1], dweights) <= TOLERANCE
    assert relative_l2(ours[2], dbias) <= TOLERANCE

    def loss(x: Array, weights: Array, bias: Array) -> float:
        return float((dy * reference.fully_connected(x, weights, bias)).sum())

    assert relative_l2(ours[0], slopes(lambda v: loss(v, weights, bias), flat)) <= DIFFERENCES
    assert relative_l2(ours[1], slopes(lambda v: loss(flat, v, bias), weights)) <= DIFFERENCES
    assert relative_l2(ours[2], slopes(lambda v: loss(flat, weights, v), bias)) <= DIFFERENCES


def test_layouts_of_weights_are_reversible() -> None:
    weights = random(2, 3, 4, 5)
    np.testing.assert_array_equal(reference.oihw(reference.ohwi(weights)), weights)

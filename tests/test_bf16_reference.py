"""The definition of bf16 arithmetic: its roundings against torch's, its network against float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_model import write_tiny_model

import resnet_rs
from resnet_rs.reference import bf16, conv2d, run, run_bf16

RANDOM = np.random.default_rng(3)


def test_values_are_rounded_as_torch_rounds_them() -> None:
    bits = RANDOM.integers(0, 1 << 32, 100_000, np.uint64).astype(np.uint32)
    ties = np.arange(0x3F800000, 0x3F900000, 0x8000, np.uint32)  # every other one lies between two
    special = np.array([0, 1 << 31, 0x7F800000, 0x7F800001, 0x7F7FFFFF], np.uint32)
    values = np.concatenate([bits, ties, special]).view(np.float32)
    found = bf16.rounded(values)
    expected = torch.from_numpy(values).bfloat16().float().numpy()
    assert np.array_equal(found, expected, equal_nan=True)
    assert not (found.view(np.uint32) & 0xFFFF).any()


def test_sums_are_those_of_a_convolution() -> None:
    x = bf16.rounded(RANDOM.standard_normal((2, 7, 6, 9)).astype(np.float32))
    for groups, stride, dilation in ((1, 1, 1), (3, 2, 1), (1, 1, 2)):
        weights = bf16.rounded(RANDOM.standard_normal((6, 3, 3, 9 // groups)).astype(np.float32))
        window = {"stride": stride, "padding": 2, "groups": groups, "dilation": dilation}
        expected = conv2d(x, weights, **window)
        found = bf16.add_products(np.zeros(expected.shape, np.float32), x, weights, **window)
        assert found.dtype == np.float32
        assert np.abs(found - expected).max() < 1e-4


def test_one_sum_takes_the_second_of_each_pair_first() -> None:
    # 2^24 + 1 - 2^24 is 0 or 1, as the order is.
    x = np.array([1.0, 2.0**24, -(2.0**24), 0], np.float32).reshape(1, 1, 1, 4)
    ones = np.ones((1, 1, 1, 4), np.float32)
    zero = np.zeros((1, 1, 1, 1), np.float32)
    assert bf16.add_products(zero, x, ones)[0, 0, 0, 0] == 0  # (2^24 + 1) is 2^24
    swapped = np.ascontiguousarray(x[..., [1, 0, 2, 3]])
    assert bf16.add_products(zero, swapped, ones)[0, 0, 0, 0] == 0
    later = np.ascontiguousarray(x[..., [1, 2, 0, 3]])
    assert bf16.add_products(zero, later, ones)[0, 0, 0, 0] == 1


def test_a_layer_is_rounded_once() -> None:
    sums = np.array([1.0 + 2**-9], np.float32)  # rounds to 1
    assert bf16.finished(sums)[0] == 1
    assert bf16.finished(sums, np.array([2.0**-8], np.float32))[0] == np.float32(1 + 2**-7)
    assert bf16.finished(-sums, relu=True)[0] == 0
    assert np.isnan(bf16.finished(np.array([np.nan], np.float32), relu=True)[0])


def test_means_are_near_those_of_float64() -> None:
    x = bf16.rounded(RANDOM.random((2, 7, 5, 3)).astype(np.float32))
    mean = x.astype(np.float64).mean(axis=(1, 2), keepdims=True)
    assert np.abs(bf16.global_avg_pool(x) / mean - 1).max() <= 2**-8
    pooled = bf16.avg_pool(x, 2, 2)
    expected = x[:, :6, :4].astype(np.float64).reshape(2, 3, 2, 2, 2, 3).mean(axis=(2, 4))
    assert np.abs(pooled / expected - 1).max() <= 2**-8


@pytest.mark.parametrize("architecture", ["resnet18", "resnet50"])
def test_a_network_is_near_that_of_float64(architecture: str, tmp_path: Path) -> None:
    model = resnet_rs.load(write_tiny_model(tmp_path / "weights", architecture=architecture))
    x = RANDOM.standard_normal((2, 32, 32, 3)).astype(np.float32)
    operations = model.loaded.network.operations(32, 32)
    exact = dict(run(operations, model.loaded.tensors(), x))
    for name, found in run_bf16(operations, model.loaded.tensors(), x):
        error = np.linalg.norm(found - exact[name]) / np.linalg.norm(exact[name])
        assert error < 2e-2, name

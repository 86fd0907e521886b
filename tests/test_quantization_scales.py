"""The range of 8 bits, chosen from a histogram: each method against its definition."""

from __future__ import annotations

import numpy as np
import pytest
from layer_statistics import histogram
from numpy.typing import NDArray

from resnet_rs.quantization.clipping import METHODS, clip_of, divergences, squared_errors
from resnet_rs.quantization.histogram import BINS, edges, quantile
from resnet_rs.quantization.statistics import LayerStatistics

RNG = np.random.default_rng(11)


def statistics_of(values: NDArray[np.float32]) -> LayerStatistics:
    return LayerStatistics(float(values.max()), histogram(values), values.sum(keepdims=True))


def activations(count: int = 50_000) -> NDArray[np.float32]:
    """Half of them zeros, the others with a long tail, as after ReLU."""
    values = np.maximum(RNG.standard_normal(count), 0) * RNG.gamma(1.0, 1.0, count)
    return (values * 3.7).astype(np.float32)


def squared_error(values: NDArray[np.float32], clip: float) -> float:
    step = clip / 255
    levels = np.clip(np.rint(values / step), 0, 255) * step
    return float(np.square(levels - values.astype(np.float64)).sum())


def test_bins_are_the_upper_bits_of_float32() -> None:
    bounds = edges()
    assert len(bounds) == BINS + 1
    values = np.abs(activations(2000))
    values = values[values > 0]
    bins = values.view(np.uint32) >> 16
    assert (bounds[bins] <= values).all()
    assert (values < bounds[bins + 1]).all()
    assert np.diff(bounds[1:32640]).min() > 0
    # 128 bins of equal width for each power of two.
    one = int(np.float32(1).view(np.uint32)) >> 16
    assert bounds[one : one + 129].tolist() == [1 + k / 128 for k in range(129)]


def test_quantiles_are_those_of_the_values() -> None:
    values = activations()
    for share in (0.6, 0.9, 0.99, 0.999):
        found = quantile(histogram(values), float(values.max()), share)
        assert found == pytest.approx(np.quantile(values, share), rel=0.02)
    assert quantile(histogram(values), float(values.max()), 1.0) == values.max()


def test_squared_errors_are_those_of_the_rounded_values() -> None:
    values = activations()
    clips = np.linspace(0.1, 1.0, 12) * float(values.max())
    found = squared_errors(histogram(values), float(values.max()), clips)
    expected = [squared_error(values, clip) for clip in clips]
    assert found == pytest.approx(expected, rel=0.02)


def test_the_clip_of_mse_has_the_least_error() -> None:
    values = activations()
    clip = clip_of("mse", statistics_of(values))
    assert 0.1 * values.max() < clip < values.max()
    tried = [squared_error(values, x) for x in np.linspace(0.05, 1, 200) * float(values.max())]
    assert squared_error(values, clip) <= min(tried) * 1.02


def test_divergences_are_least_where_the_tail_is_rare() -> None:
    values = activations()
    values[:3] = 40 * values.max()
    clip = clip_of("kl", statistics_of(values))
    assert np.quantile(values, 0.9) < clip < 0.5 * values.max()
    # Of values that fill 256 levels alike, nothing is cut off.
    even = (np.arange(1, 256 * 64 + 1) / 64).astype(np.float32)
    assert clip_of("kl", statistics_of(even)) > 0.9 * even.max()
    assert (divergences(histogram(even), 256.0, np.array([100.0, 256.0])) >= -1e-12).all()


def test_minmax_and_percentile() -> None:
    values = activations(1_000_000)
    one = statistics_of(values)
    assert clip_of("minmax", one) == values.max()
    found = clip_of("percentile", one, percentile=99.99)
    assert found == pytest.approx(np.quantile(values, 0.9999), rel=0.02)
    assert clip_of("percentile", one, percentile=100) == values.max()
    assert clip_of("percentile", one, percentile=99) < clip_of("percentile", one)


@pytest.mark.parametrize("method", METHODS)
def test_odd_layers_have_a_clip_above_zero(method: str) -> None:
    zeros = np.zeros(100, np.float32)
    assert clip_of(method, statistics_of(zeros)) == 1
    lonely = zeros.copy()
    lonely[7] = 2.5
    assert 0 < clip_of(method, statistics_of(lonely)) <= 2.5
    # A power of two is the first value of its bin.
    assert 0 < clip_of(method, statistics_of(np.full(9, 2, np.float32))) <= 2
    tiny = np.array([0, 3e-40, 1e-39], np.float32)
    assert 0 < clip_of(method, statistics_of(tiny)) <= tiny.max()
    huge = np.array([0, 1, 3e38], np.float32)
    assert 0 < clip_of(method, statistics_of(huge)) <= huge.max()


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one of minmax, percentile, mse, kl; got 'best'"):
        clip_of("best", statistics_of(activations(10)))


def test_statistics_of_parts_add_up() -> None:
    first, second = activations(1000).reshape(-1, 4), 2 * activations(2000).reshape(-1, 4)
    both = np.concatenate([first, second])

    def of(values: NDArray[np.float32]) -> LayerStatistics:
        sums = values.sum(axis=0, dtype=np.float64)
        return LayerStatistics(float(values.max()), histogram(values), sums)

    together = of(first).with_more(of(second))
    assert together.largest == both.max()
    assert np.array_equal(together.counts, histogram(both))
    assert together.means == pytest.approx(both.mean(axis=0, dtype=np.float64), rel=1e-12)

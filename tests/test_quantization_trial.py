"""The trial of `auto`: which images it takes, how it adds up errors, and what it chooses."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_model import write_tiny_model

import resnet_rs
from resnet_rs import ResNet
from resnet_rs.quantization.trial import CLEARLY, FEWEST, MOST, SIDE, Trial, best_of


@pytest.fixture
def model(tmp_path: Path) -> ResNet:
    return resnet_rs.load(write_tiny_model(tmp_path / "weights"))


class Shifted:
    """A network whose logits are those of another one, times a factor for each image."""

    def __init__(self, network: Any, factors: list[float]) -> None:
        self._network = network
        self._factors = iter(factors)

    def logits(self, x: NDArray[Any]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = self._network.logits(x) * np.float32(next(self._factors))
        return found


def images(count: int, side: int) -> list[NDArray[np.uint8]]:
    random = np.random.default_rng(1)
    return [random.integers(0, 256, (1, side, side, 3), np.uint8) for _ in range(count)]


class TestChoice:
    @pytest.mark.parametrize(
        ("minmax", "mse", "chosen"),
        [
            (0.010, 0.011, "minmax"),
            (0.010, 0.009, "minmax"),
            (0.010, 0.0061, "minmax"),
            (0.010, 0.0059, "mse"),
            (math.inf, 0.5, "mse"),
            (math.inf, math.inf, "minmax"),
            (1e-9, 1e-9, "minmax"),
        ],
    )
    def test_clipping_must_be_clearly_better(self, minmax: float, mse: float, chosen: str) -> None:
        assert CLEARLY == 0.6
        assert best_of({"minmax": minmax, "mse": mse}) == chosen


class TestImages:
    def test_small_images_are_taken_whole(self, model: ResNet) -> None:
        sample = images(20, 32)
        trial = Trial(model.loaded.network, sample)
        assert len(trial.images) == MOST
        places = [0, 2, 5, 7, 10, 12, 15, 17]
        for place, x in zip(places, trial.images, strict=True):
            assert np.array_equal(x, sample[place])

    def test_large_images_are_cropped_to_their_centre(self, model: ResNet) -> None:
        sample = images(6, 200)
        trial = Trial(model.loaded.network, sample)
        assert [x.shape for x in trial.images] == [(1, SIDE, SIDE, 3)] * 4
        assert np.array_equal(trial.images[0], sample[0][:, 44:156, 44:156])
        assert all(x.flags.c_contiguous for x in trial.images)

    def test_a_network_of_one_size_gets_whole_images(self, tmp_path: Path) -> None:
        model = resnet_rs.load(
            write_tiny_model(
                tmp_path / "flat",
                crop=160,
                architecture="resnet18",
                head={"avg_pool": {"kernel": 2, "stride": 1}},
            )
        )
        sample = images(5, 160)
        trial = Trial(model.loaded.network, sample)
        assert len(trial.images) == FEWEST
        assert trial.images[1].shape == (1, 160, 160, 3)

    def test_one_image_is_enough(self, model: ResNet) -> None:
        assert len(Trial(model.loaded.network, images(1, 32)).images) == 1


class TestError:
    def test_it_is_the_geometric_mean_over_images(self, model: ResNet) -> None:
        network = model.loaded.network
        trial = Trial(network, images(4, 32))
        found = trial.error(Shifted(network, [1.01, 1.01, 1.01, 2.0]))
        assert found == pytest.approx((0.01**3 * 1.0) ** 0.25, rel=1e-3)

    def test_odd_errors_have_a_mean(self, model: ResNet) -> None:
        network = model.loaded.network
        trial = Trial(network, images(2, 32))
        assert trial.error(network) == pytest.approx(1e-9)
        assert trial.error(Shifted(network, [1.0, math.nan])) == math.inf

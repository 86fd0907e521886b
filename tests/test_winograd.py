"""Winograd's algorithm on and off: how far apart the logits are, and that the switch switches."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from resnet_rs import ResNet50

# Relative L2. f32 rounds to 6e-8 and a layer adds some hundreds of products; the transforms of
# F(4x4) multiply a layer's rounding error by a few units. A wrong tap gives more than 1e-2.
LOGITS_RTOL = 2e-5


def algorithms(model: ResNet50) -> set[str]:
    return {step["algorithm"] for step in model.loaded.network.plan(1, 64, 64)}


def relative_l2(ours: np.ndarray, other: np.ndarray) -> float:
    return float(np.linalg.norm(ours - other) / np.linalg.norm(other))


class TestLogits:
    def test_on_and_off_agree_on_the_photos(
        self, isa: str, demo_dir: Path, demo_photos: list[Path]
    ) -> None:
        on = ResNet50(demo_dir, isa=isa).logits(demo_photos)
        off = ResNet50(demo_dir, isa=isa, winograd=False).logits(demo_photos)
        for ours, other, path in zip(on, off, demo_photos, strict=True):
            assert relative_l2(ours, other) <= LOGITS_RTOL, path.name
        np.testing.assert_array_equal(on.argmax(axis=1), off.argmax(axis=1))
        assert (on != off).any(), "rounding differs, so the two cannot be the same computation"

    @pytest.mark.parametrize("size", [(224, 224), (65, 97), (32, 32), (1, 1)])
    def test_on_and_off_agree_at_other_sizes(
        self, size: tuple[int, int], isa: str, demo_dir: Path
    ) -> None:
        x = np.random.default_rng(0).standard_normal((2, *size, 3), dtype=np.float32)
        on = ResNet50(demo_dir, isa=isa).forward(x)
        off = ResNet50(demo_dir, isa=isa, winograd=False).forward(x)
        assert relative_l2(on, off) <= LOGITS_RTOL


class TestSwitch:
    def test_on_is_the_default(self, demo_dir: Path) -> None:
        model = ResNet50(demo_dir)
        assert model.winograd
        assert "winograd" in algorithms(model)

    def test_off_leaves_no_layer_with_it(self, demo_dir: Path) -> None:
        model = ResNet50(demo_dir, winograd=False)
        assert not model.winograd
        assert "winograd" not in algorithms(model)

    def test_repr_tells_only_that_it_is_off(self, demo_dir: Path) -> None:
        assert "winograd" not in repr(ResNet50(demo_dir))
        assert repr(ResNet50(demo_dir, winograd=False)).endswith(", winograd=False)")

    @pytest.mark.parametrize("winograd", [True, False])
    def test_pickle_keeps_it(self, winograd: bool, demo_dir: Path) -> None:
        twin = pickle.loads(pickle.dumps(ResNet50(demo_dir, winograd=winograd)))
        assert twin.winograd is winograd

    def test_numpy_bool_is_a_bool(self, demo_dir: Path) -> None:
        assert not ResNet50(demo_dir, winograd=np.bool_(False)).winograd

    @pytest.mark.parametrize("value", [0, "no", None])
    def test_anything_else_is_refused(self, value: object, demo_dir: Path) -> None:
        with pytest.raises(TypeError, match="winograd must be True or False; got"):
            ResNet50(demo_dir, winograd=value)

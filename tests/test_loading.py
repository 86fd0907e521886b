"""Weights from memory and from files of others, and the tensors read once more."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mutations import mutations
from safetensors.numpy import load_file
from tiny_model import write_tiny_model

import resnet_rs
from resnet_rs import ResNet, ResNet50, WeightsError, _core

PHOTO = np.random.default_rng(5).integers(0, 256, (40, 52, 3), np.uint8)


def config_of(directory: Path) -> dict[str, Any]:
    """What a directory's config.json says."""
    config: dict[str, Any] = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    return config


@pytest.fixture(scope="module")
def tiny_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def tiny(tiny_dir: Path) -> ResNet:
    return resnet_rs.load(tiny_dir)


class TestBytes:
    def test_same_as_the_file(self, tiny_dir: Path, tiny: ResNet) -> None:
        data = (tiny_dir / "model.safetensors").read_bytes()
        for weights in (data, bytearray(data), memoryview(data)):
            model = ResNet50(weights, config=config_of(tiny_dir))
            assert model.predict(PHOTO) == tiny.predict(PHOTO)
        assert "bytes" in repr(model)

    def test_arguments_go_before_the_config(self, tiny_dir: Path) -> None:
        data = (tiny_dir / "model.safetensors").read_bytes()
        model = resnet_rs.load(data, config=config_of(tiny_dir), labels=list("vwxyz"))
        assert model.labels == tuple("vwxyz")

    def test_without_a_config_it_is_asked_for(self, tiny_dir: Path) -> None:
        data = (tiny_dir / "model.safetensors").read_bytes()
        with pytest.raises(ValueError, match=r"\(bytes\).*architecture="):
            resnet_rs.load(data)

    @pytest.mark.parametrize(
        ("spoil", "message"),
        [
            (lambda data: data[:5], "too few"),
            (lambda data: data[:300], "header should have"),
            (lambda data: data[:-4], "does not fit"),
            (lambda data: data[:8] + b"x" + data[9:], "no JSON"),
            (lambda data: data.replace(b'"F32"', b'"F99"', 1), "F32 or F16, found F99"),
            (lambda data: (2).to_bytes(8, "little") + b"[]", "no JSON object"),
        ],
    )
    def test_damage_is_named(
        self, spoil: Callable[[bytes], bytes], message: str, tiny_dir: Path
    ) -> None:
        data = (tiny_dir / "model.safetensors").read_bytes()
        with pytest.raises(WeightsError, match=message):
            ResNet50(spoil(data), config=config_of(tiny_dir))

    def test_mutated_files_end_in_an_error_or_load(self, tiny_dir: Path) -> None:
        data = (tiny_dir / "model.safetensors").read_bytes()
        config = config_of(tiny_dir)
        loaded = 0
        for mutated in mutations(data, 500, seed=11):
            try:
                model = ResNet50(mutated, config=config, threads=1)
            except ValueError:
                continue
            loaded += 1
            assert model.logits(PHOTO).shape == (5,)
        assert 0 < loaded < 500  # some bits are weights, some are structure


class TestOtherFormats:
    def test_state_dict_of_torch(self, tmp_path: Path, tiny_dir: Path, tiny: ResNet) -> None:
        import torch

        state = {
            name: torch.from_numpy(array)
            for name, array in load_file(tiny_dir / "model.safetensors").items()
        }
        torch.save(state, tmp_path / "best.pth")
        model = ResNet50(
            tmp_path / "best.pth",
            variant=tiny.config.variant,
            preprocessing=tiny.config.preprocessing,
            labels=tiny.labels,
        )
        assert model.predict(PHOTO) == tiny.predict(PHOTO)

    def test_preset_that_nothing_states_is_warned_of(
        self, tmp_path: Path, tiny_dir: Path, tiny: ResNet
    ) -> None:
        import torch

        state = {
            name: torch.from_numpy(array)
            for name, array in load_file(tiny_dir / "model.safetensors").items()
        }
        torch.save({"state_dict": state, "epoch": 3}, tmp_path / "best.pth")
        with pytest.warns(UserWarning, match="IMAGENET1K_V2"):
            resnet_rs.load(
                tmp_path / "best.pth", architecture="resnet50", variant=tiny.config.variant
            )

    def test_names_of_ones_own(self, tmp_path: Path, tiny_dir: Path, tiny: ResNet) -> None:
        path = tmp_path / "mine.safetensors"
        tensors = {
            f"net/{name}": array
            for name, array in load_file(tiny_dir / "model.safetensors").items()
        }
        _core.write_safetensors(str(path), tensors, {})
        for names in ({"net/(.*)": r"\1"}, tmp_path / "names.json"):
            if isinstance(names, Path):
                names.write_text(json.dumps({"net/(.*)": r"\1"}))
            model = ResNet50(path, config=config_of(tiny_dir), names=names)
            assert model.predict(PHOTO) == tiny.predict(PHOTO)


class TestCheckpoint:
    def test_tensors_are_those_of_the_file(self, tiny_dir: Path, tiny: ResNet) -> None:
        expected = load_file(tiny_dir / "model.safetensors")
        found = tiny._checkpoint()
        assert found.keys() == expected.keys()
        for name, array in expected.items():
            np.testing.assert_array_equal(found[name], array, err_msg=name)

    def test_changed_file_is_refused(self, tmp_path: Path) -> None:
        write_tiny_model(tmp_path)
        model = resnet_rs.load(tmp_path)
        write_tiny_model(tmp_path, seed=1)
        with pytest.raises(WeightsError, match="have changed"):
            model._checkpoint()

    def test_saved_model_is_the_same(self, tiny: ResNet, tmp_path: Path) -> None:
        tiny.save(tmp_path / "copy")
        copy = ResNet50(tmp_path / "copy")
        assert copy.predict(PHOTO) == tiny.predict(PHOTO)
        assert copy.config.preprocessing == tiny.config.preprocessing
        assert copy.labels == tiny.labels

    def test_saved_model_can_have_half_the_size(self, tiny: ResNet, tmp_path: Path) -> None:
        tiny.save(tmp_path / "half", dtype="f16")
        half = ResNet50(tmp_path / "half")
        change = half.logits(PHOTO) - tiny.logits(PHOTO)
        # 11 bits of precision, some dozen layers one after the other.
        assert 0 < np.linalg.norm(change) / np.linalg.norm(tiny.logits(PHOTO)) < 0.02

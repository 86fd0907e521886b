"""Weights from memory and from files of others, and the tensors read once more."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import TOLERANCE
from mutations import mutations
from safetensors.numpy import load_file
from safetensors.torch import save
from telling_rows import assert_telling
from tiny_model import write_tiny_model
from tiny_torch import randomize
from torch_variants import VariantResNet

import resnet_rs
from resnet_rs import ResNet, ResNet50, WeightsError, _core

PHOTO = np.random.default_rng(5).integers(0, 256, (40, 52, 3), np.uint8)


def config_of(directory: Path) -> dict[str, Any]:
    """Read a directory's config.json."""
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

    @pytest.mark.parametrize(
        ("spec", "text"),
        [
            ({"resize": None, "crop": None}, "any size"),
            ({"resize": 40, "crop": None}, "short side 40"),
            ({"resize": 40, "crop": 32}, "32x32"),
            ({"resize": [48, 36], "crop": None}, "48x36"),
            ({"resize": 64, "crop": [48, 32]}, "48x32"),
        ],
    )
    def test_repr_names_the_size_of_its_input(
        self, spec: dict[str, Any], text: str, tiny_dir: Path
    ) -> None:
        model = resnet_rs.load(tiny_dir, preprocessing=spec)
        assert f", input={text!r}, " in repr(model)

    def test_arguments_go_before_the_config(self, tiny_dir: Path) -> None:
        data = (tiny_dir / "model.safetensors").read_bytes()
        model = resnet_rs.load(data, config=config_of(tiny_dir), labels=list("vwxyz"))
        assert model.labels == tuple("vwxyz")

    def test_names_are_read_as_a_file_s_are(
        self, tiny_dir: Path, tiny: ResNet, tmp_path: Path
    ) -> None:
        tensors = load_file(tiny_dir / "model.safetensors")
        state = {f"net.{name}": torch.from_numpy(array) for name, array in tensors.items()}
        rules = {r"net\.(.*)": r"\1"}
        config = config_of(tiny_dir)
        (tmp_path / "names.json").write_text(json.dumps(rules))
        for names in (rules, tmp_path / "names.json"):
            model = resnet_rs.load(save(state), config=config, names=names)
            assert model.predict(PHOTO) == tiny.predict(PHOTO)
        with pytest.raises(ValueError, match="names"):
            resnet_rs.load(save(state), config=config, names={"(": ""})

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
            (lambda data: data.replace(b'"F32"', b'"F99"', 1), "F32, F16, BF16 or F64, found F99"),
            (lambda data: data.replace(b'"shape":[', b'"shape":[-', 1), r"no shape: \[-"),
            (lambda data: (2).to_bytes(8, "little") + b"[]", "no JSON object"),
            (lambda data: (7).to_bytes(8, "little") + b'{"w":1}', "w: expected dtype, shape and"),
        ],
    )
    def test_damage_is_named(
        self, spoil: Callable[[bytes], bytes], message: str, tiny_dir: Path
    ) -> None:
        data = (tiny_dir / "model.safetensors").read_bytes()
        with pytest.raises(WeightsError, match=message):
            ResNet50(spoil(data), config=config_of(tiny_dir))

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    def test_every_type_that_a_file_may_have(
        self, dtype: torch.dtype, tiny_dir: Path, tmp_path: Path
    ) -> None:
        tensors = load_file(tiny_dir / "model.safetensors")
        state = {name: torch.from_numpy(array).to(dtype) for name, array in tensors.items()}
        for counter in (torch.int32, torch.int64):
            state[f"bn1.{counter}.num_batches_tracked"] = torch.zeros((), dtype=counter)
        data = save(state)
        (tmp_path / "x.safetensors").write_bytes(data)
        config = config_of(tiny_dir)
        expected = ResNet50(tmp_path / "x.safetensors", config=config).logits(PHOTO)
        assert_telling([expected])
        np.testing.assert_array_equal(ResNet50(data, config=config).logits(PHOTO), expected)

    def test_a_number_that_f32_cannot_hold_is_refused(self, tiny_dir: Path) -> None:
        tensors = load_file(tiny_dir / "model.safetensors")
        state = {name: torch.from_numpy(array).double() for name, array in tensors.items()}
        state["fc.bias"][0] = 1e300
        with pytest.raises(WeightsError, match=r"fc\.bias.*finite"):
            ResNet50(save(state), config=config_of(tiny_dir))

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
        found = tiny.loaded.tensors()
        assert found.keys() == expected.keys()
        for name, array in expected.items():
            np.testing.assert_array_equal(found[name], array, err_msg=name)

    def test_changed_file_is_refused(self, tmp_path: Path) -> None:
        write_tiny_model(tmp_path)
        model = resnet_rs.load(tmp_path)
        write_tiny_model(tmp_path, seed=1)
        with pytest.raises(WeightsError, match="have changed"):
            model.loaded.tensors()

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


RULES = {
    r"stage(\d)\.(\d)\.skip\.(.+)": r"layer\1.\2.downsample.\3",
    r"stage(.+)": r"layer\1",  # matches the shortcuts too: the order decides
    r"head\.(.+)": r"fc.\1",
    "ema_decay": None,
}
"""From the names of `hand_written` to torchvision's."""

OWN_VARIANT: dict[str, Any] = {
    "blocks": [2, 1, 1, 1],
    "widths": [4, 4, 8, 8],
    "stem_widths": [4],
    "stride_on": "conv1",
    "relu_before_add": True,
    "conv_bias": True,
    "head": {"avg_pool": {"kernel": 2, "stride": 2, "padding": 1}},
}
SIDE = 64
OWN = {
    "architecture": "resnet50",
    "variant": OWN_VARIANT,
    "preprocessing": {"resize": SIDE, "crop": SIDE},
}


@pytest.fixture(scope="module")
def hand_written() -> VariantResNet:
    """A v1.0 bottleneck network as people write it: biases, a ReLU more, a pool that pads."""
    module = VariantResNet(OWN_VARIANT, num_classes=6, side=SIDE)
    randomize(module)
    return module


@pytest.fixture(scope="module")
def own_state(hand_written: VariantResNet) -> dict[str, Any]:
    """Its state dict under its author's names."""
    state = {
        name.replace("layer", "stage").replace("downsample", "skip").replace("fc.", "head."): tensor
        for name, tensor in hand_written.state_dict().items()
    }
    return {**state, "ema_decay": torch.ones(1)}


def expected_logits(module: VariantResNet, x: np.ndarray) -> np.ndarray:
    """Run torch in f64 on `[batch, height, width, 3]`."""
    with torch.inference_mode():
        expected: np.ndarray = module.double()(torch.from_numpy(x).permute(0, 3, 1, 2).double())
    module.float()
    return np.asarray(expected)


class TestHandWrittenNetwork:
    """A network that someone wrote by hand loads too."""

    @pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
    @pytest.mark.parametrize("names", ["dict", "file"])
    def test_logits_are_torchs(
        self,
        names: str,
        legacy: bool,
        hand_written: VariantResNet,
        own_state: dict[str, Any],
        tmp_path: Path,
    ) -> None:
        torch.save(own_state, tmp_path / "x.pth", _use_new_zipfile_serialization=not legacy)
        (tmp_path / "names.json").write_text(json.dumps(RULES))
        rules = RULES if names == "dict" else tmp_path / "names.json"
        model = resnet_rs.load(tmp_path / "x.pth", **OWN, names=rules)
        copy = pickle.loads(pickle.dumps(model))
        x = np.random.default_rng(3).standard_normal((2, SIDE, SIDE, 3), dtype=np.float32)
        expected = expected_logits(hand_written, x)
        assert expected.shape == (2, 6)
        for network in (model, copy):
            error = np.linalg.norm(network.forward(x) - expected) / np.linalg.norm(expected)
            assert error <= TOLERANCE

    def test_a_rules_place_survives_a_pickle_in_another_process(
        self, own_state: dict[str, Any], tmp_path: Path
    ) -> None:
        torch.save(own_state, tmp_path / "x.pth")
        model = resnet_rs.load(tmp_path / "x.pth", **OWN, names=RULES)
        (tmp_path / "model.pickle").write_bytes(pickle.dumps(model))
        script = (
            "import pickle, sys, numpy as np\n"
            "model = pickle.load(open(sys.argv[1], 'rb'))\n"
            "np.save(sys.argv[2], model.logits(np.zeros((9, 9, 3), np.uint8)))"
        )
        arguments = [str(tmp_path / "model.pickle"), str(tmp_path / "logits.npy")]
        subprocess.run([sys.executable, "-c", script, *arguments], check=True)
        expected = model.logits(np.zeros((9, 9, 3), np.uint8))
        np.testing.assert_allclose(np.load(arguments[1]), expected, rtol=TOLERANCE)

    def test_order_of_the_rules_decides(self, own_state: dict[str, Any], tmp_path: Path) -> None:
        torch.save(own_state, tmp_path / "x.pth")
        turned = dict(reversed(RULES.items()))
        with pytest.raises(WeightsError, match=r"downsample|skip"):
            resnet_rs.load(tmp_path / "x.pth", **OWN, names=turned)

    def test_rules_may_have_the_prefix_that_all_names_share(
        self, own_state: dict[str, Any], tmp_path: Path
    ) -> None:
        torch.save(own_state, tmp_path / "x.pth")
        plain = resnet_rs.load(tmp_path / "x.pth", **OWN, names=RULES)
        assert_telling([plain.logits(PHOTO)])
        torch.save({f"net.{n}": t for n, t in own_state.items()}, tmp_path / "net.pth")
        for start in ("", r"net."):
            rules = {f"{start}{left}": right for left, right in RULES.items()}
            model = resnet_rs.load(tmp_path / "net.pth", **OWN, names=rules)
            np.testing.assert_array_equal(model.logits(PHOTO), plain.logits(PHOTO))


class TestOwnFiles:
    """Files under our names may have other contents."""

    def test_a_pipe_is_refused_at_once(self, tiny_dir: Path, tmp_path: Path) -> None:
        for name in ("config.json", "model.safetensors"):
            directory = tmp_path / name.replace(".", "_")
            shutil.copytree(tiny_dir, directory)
            (directory / name).unlink()
            os.mkfifo(directory / name)
            with pytest.raises(WeightsError, match=rf"{name}: expected a regular file"):
                resnet_rs.load(directory)
        os.mkfifo(tmp_path / "x.safetensors")
        with pytest.raises(WeightsError, match=r"x\.safetensors: expected a regular file"):
            ResNet50(tmp_path / "x.safetensors")

    @pytest.mark.parametrize("content", ["", "{}", "[]", "no JSON", "null"])
    @pytest.mark.parametrize("options", [{}, {"architecture": "resnet50", "num_classes": 5}])
    def test_a_config_that_says_nothing_is_refused_by_name(
        self, content: str, options: dict[str, Any], tiny_dir: Path, tmp_path: Path
    ) -> None:
        """Arguments do not stand in for a file that is damaged."""
        shutil.copytree(tiny_dir, tmp_path / "x")
        (tmp_path / "x" / "config.json").write_text(content)
        for path in (tmp_path / "x", tmp_path / "x" / "model.safetensors"):
            with pytest.raises(WeightsError, match=r"config\.json: "):
                resnet_rs.load(path, **options)

    def test_stated_fields_leave_the_others_as_they_are(
        self, tiny_dir: Path, tmp_path: Path
    ) -> None:
        shutil.copytree(tiny_dir, tmp_path / "x")
        config = config_of(tiny_dir)
        config["preprocessing"] |= {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
        config["variant"] |= {"norm_epsilon": 0.01}
        (tmp_path / "x" / "config.json").write_text(json.dumps(config))
        whole = resnet_rs.load(tmp_path / "x").config
        for stated in (
            {"preprocessing": {"resize": 40}},
            {"config": {"preprocessing": {"resize": 40}}},
            {"config": {"preprocessing": {"resize": 50}}, "preprocessing": {"resize": 40}},
        ):
            spec = resnet_rs.load(tmp_path / "x", **stated).config.preprocessing
            assert spec == dataclasses.replace(whole.preprocessing, resize=40)
            assert spec.mean == (0.1, 0.2, 0.3)
        changed = resnet_rs.load(tmp_path / "x", variant={"stride_on": "conv1"}).config
        assert changed.variant == {**whole.variant, "stride_on": "conv1"}
        assert changed.labels == whole.labels
        fewer = resnet_rs.load(tmp_path / "x", num_classes=0).config
        assert (fewer.num_classes, fewer.labels) == (0, None)

    def test_a_config_of_gigabytes_is_not_read(self, tiny_dir: Path, tmp_path: Path) -> None:
        shutil.copytree(tiny_dir, tmp_path / "x")
        os.truncate(tmp_path / "x" / "config.json", 1 << 40)  # takes no room on the disk
        with pytest.raises(WeightsError, match=r"config\.json: 1099511627776 bytes are too many"):
            resnet_rs.load(tmp_path / "x")

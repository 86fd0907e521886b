"""Damaged files of the formats that are read here: a clear error or a right load, nothing else.

1,000 each of `.safetensors`, of a text directory's files, of the configs of transformers, timm and
ours, and of a file of names.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mutations
import numpy as np
import pytest

from resnet_rs import _core
from resnet_rs.weights import formats
from resnet_rs.weights.formats import Checkpoint, shapes

COUNT = 1000

WIDTHS = [4, 8]
VARIANT = {"blocks": [1, 1], "widths": WIDTHS, "stem_widths": [4]}
NETWORK = {"architecture": "resnet50", "variant": VARIANT, "num_classes": 3}

TRANSFORMERS_CONFIG = {
    "architectures": ["ResNetForImageClassification"],
    "model_type": "resnet",
    "depths": [1, 1],
    "hidden_sizes": [16, 32],
    "embedding_size": 4,
    "layer_type": "bottleneck",
    "hidden_act": "relu",
    "num_channels": 3,
    "downsample_in_first_stage": False,
    "downsample_in_bottleneck": False,
    "id2label": {"0": "cat", "1": "dog", "2": "bird"},
}
PROCESSOR_CONFIG = {
    "image_processor_type": "ConvNextImageProcessor",
    "size": {"shortest_edge": 224},
    "crop_pct": 0.875,
    "do_resize": True,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "resample": 3,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}
TIMM_CONFIG = {
    "architecture": "resnet50",
    "num_classes": 3,
    "global_pool": "avg",
    "model_args": {"in_chans": 3},
    "pretrained_cfg": {
        "input_size": [3, 224, 224],
        "test_input_size": [3, 288, 288],
        "crop_pct": 0.95,
        "interpolation": "bicubic",
        "crop_mode": "center",
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "label_names": ["cat", "dog", "bird"],
    },
}
OUR_CONFIG = {
    "format_version": 1,
    **NETWORK,
    "labels": ["cat", "dog", "bird"],
    "preprocessing": {"resize": 40, "crop": 32, "interpolation": "bicubic"},
}
NAMES = {r"layer(\d)\.(.*)": r"layer\1.\2", "fc.weight": "fc.weight", "extra": None}


def tensors() -> dict[str, np.ndarray]:
    """The network's tensors, random; variances are above 0."""
    random = np.random.default_rng(0)
    return {
        name: random.uniform(0.1, 1.0, shape).astype(np.float32)
        for name, shape in shapes.parameters(NETWORK).shapes.items()
    }


def write_tensors(path: Path) -> None:
    _core.write_safetensors(str(path), tensors(), {"format": "pt"})


def folder_of(path: Path) -> Path:
    """A directory named after a damaged file, so that errors name the file."""
    folder = path.with_name(f"{path.name}-folder")
    folder.mkdir(exist_ok=True)
    return folder


def use(checkpoint: Checkpoint) -> None:
    """Touch every number, as whoever loads a network does."""
    with np.errstate(invalid="ignore"):  # damage can make both infinities
        for tensor in checkpoint.tensors.values():
            tensor.sum(dtype=np.float64)
    json.dumps(checkpoint.config)


def read_safetensors(path: Path) -> None:
    use(formats.read(path, **NETWORK))


def read_with_config(path: Path, config: str = "config.json", **overrides: Any) -> None:
    """Read a directory, prepared by the test, with the damaged file as one of its configs."""
    folder = folder_of(path)
    shutil.copy(path, folder / config)
    use(formats.read(folder, **overrides))


def read_config(path: Path) -> None:
    read_with_config(path)


def read_timm(path: Path) -> None:
    read_with_config(path, variant=VARIANT)


def read_processor(path: Path) -> None:
    read_with_config(path, "preprocessor_config.json")


def read_names(path: Path) -> None:
    use(formats.read(folder_of(path) / "net.safetensors", names=path, **NETWORK))


def read_text(path: Path, name: str) -> None:
    folder = folder_of(path)
    shutil.copy(path, folder / f"mine_{name}.txt")
    use(formats.read(folder, **NETWORK))


def read_text_weight(path: Path) -> None:
    read_text(path, "layer1_bottleneck0_conv2_weight")


def read_text_bias(path: Path) -> None:
    read_text(path, "fc_bias")


def read_text_conv_param(path: Path) -> None:
    read_text(path, "layer2_bottleneck0_conv2_param")


def read_text_norm_param(path: Path) -> None:
    read_text(path, "bn1_param")


def survives(
    read: Callable[[Path], Any], data: bytes, tmp_path: Path, *, suffix: str, count: int = COUNT
) -> mutations.Outcome:
    outcome = mutations.assert_survives(read, data, suffix, count, tmp_path)
    assert outcome.loaded > 0
    assert outcome.refused > count // 10
    return outcome


def test_safetensors(tmp_path: Path) -> None:
    write_tensors(tmp_path / "sound.safetensors")
    data = (tmp_path / "sound.safetensors").read_bytes()
    survives(read_safetensors, data, tmp_path, suffix=".safetensors")


@pytest.mark.parametrize(
    ("read", "damaged", "others"),
    [
        (read_config, TRANSFORMERS_CONFIG, {}),
        (read_processor, PROCESSOR_CONFIG, {"config.json": TRANSFORMERS_CONFIG}),
        (read_timm, TIMM_CONFIG, {}),
        (read_config, OUR_CONFIG, {}),
    ],
    ids=["transformers", "processor", "timm", "ours"],
)
def test_configs(
    tmp_path: Path, read: Callable[[Path], Any], damaged: object, others: dict[str, object]
) -> None:
    folder = folder_of(tmp_path / "damaged.json")
    write_tensors(folder / "model.safetensors")
    for name, config in others.items():
        (folder / name).write_text(json.dumps(config))
    survives(read, json.dumps(damaged, indent=1).encode(), tmp_path, suffix=".json")


def test_names(tmp_path: Path) -> None:
    write_tensors(folder_of(tmp_path / "damaged.json") / "net.safetensors")
    survives(read_names, json.dumps(NAMES).encode(), tmp_path, suffix=".json")


@pytest.mark.parametrize(
    ("read", "name", "count"),
    [
        (read_text_weight, "layer1_bottleneck0_conv2_weight", 400),
        (read_text_bias, "fc_bias", 200),
        (read_text_conv_param, "layer2_bottleneck0_conv2_param", 200),
        (read_text_norm_param, "bn1_param", 200),
    ],
)
def test_text_directory(tmp_path: Path, read: Callable[[Path], Any], name: str, count: int) -> None:
    import torch
    from text_directory_writer import write_text_directory
    from tiny_torch import TinyResNet

    folder = folder_of(tmp_path / "damaged.txt")
    torch.manual_seed(0)
    module = TinyResNet(blocks=VARIANT["blocks"], widths=WIDTHS, num_classes=3)
    write_text_directory(folder, module, "mine")
    data = (folder / f"mine_{name}.txt").read_bytes()
    survives(read, data, tmp_path, suffix=".txt", count=count)

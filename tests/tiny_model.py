"""A tiny random model as a weights directory, for tests that are not about the network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from resnet_rs import _core

BLOCKS = [1, 1, 1, 1]
WIDTHS = [4, 8, 8, 16]


def write_tiny_model(
    directory: Path,
    *,
    seed: int = 0,
    num_classes: int = 5,
    crop: int = 32,
    architecture: str = "resnet50",
    preprocessing: Mapping[str, Any] | None = None,
    **variant: Any,
) -> Path:
    """Write `model.safetensors` and `config.json` of a network with random weights.

    It has one narrow block in each stage, takes milliseconds, and tells images apart. Its embedding
    has 64 features.

    Args:
        directory: where to write; made where it is not there.
        seed: of the weights.
        num_classes: the number of logits; 0 for none.
        crop: the side of the input; images are resized to it on their short side.
        architecture: what `variant` changes.
        preprocessing: fields of config.json's `preprocessing`, beside the size.
        variant: fields of config.json's `variant`, in place of the narrow ones.

    Returns:
        The directory.
    """
    directory.mkdir(parents=True, exist_ok=True)
    config = {
        "format_version": 1,
        "architecture": architecture,
        "variant": {"blocks": BLOCKS, "widths": WIDTHS, **variant},
        "num_classes": num_classes,
        "labels": [f"class {i}" for i in range(num_classes)] or None,
        "preprocessing": {"resize": crop, "crop": crop, **(preprocessing or {})},
    }
    text = json.dumps(config)
    (directory / "config.json").write_text(text, encoding="utf-8")
    random = np.random.default_rng(seed)
    tensors = {
        name: _values(random, kind, shape)
        for operation in _core.operations(text, crop, crop)
        for kind, (name, shape) in operation["parameters"].items()
    }
    _core.write_safetensors(str(directory / "model.safetensors"), tensors, {})
    return directory


def _values(random: np.random.Generator, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    """Values that keep activations near 1 however deep the network is."""
    if kind == "running_var":
        values = random.uniform(0.5, 1.5, shape)
    elif kind == "weight" and len(shape) == 2:
        values = random.standard_normal(shape) * 0.1  # scores that are neither 0 nor 1
    elif kind == "weight" and len(shape) == 4:
        values = random.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
    elif kind == "weight":
        values = random.uniform(0.5, 1.5, shape)
    else:
        values = random.standard_normal(shape) * 0.2
    return values.astype(np.float32)

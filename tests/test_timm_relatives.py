"""Every row of the table of timm's relatives, beside timm's own network of that name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from checkpoints import TOLERANCE
from telling_rows import assert_telling
from timm.models import save_for_hf
from tiny_torch import randomize

import resnet_rs
from resnet_rs.weights.formats import shapes
from resnet_rs.weights.timm_relatives import RELATIVES

# Stated again: a row that is lost must not take its test along.
NAMES = (
    *("resnet50c", "resnet101c", "resnet152c"),
    *("resnet50s", "resnet101s", "resnet152s"),
    *("resnet10t", "resnet14t", "resnet26t", "resnet50t"),
)

X = np.random.default_rng(0).standard_normal((2, 45, 33, 3), dtype=np.float32)


def test_every_row_is_tried() -> None:
    assert sorted(RELATIVES) == sorted(NAMES)


def own_shapes(architecture: str, variant: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    config = {"architecture": architecture, "variant": variant, "num_classes": 3}
    return {name: tuple(shape) for name, shape in shapes.parameters(config).shapes.items()}


@pytest.mark.parametrize("name", NAMES)
def test_tensors_are_timms(name: str) -> None:
    with torch.device("meta"):
        state = timm.create_model(name, num_classes=3).state_dict()
    theirs = {key: tuple(t.shape) for key, t in state.items() if not key.endswith("_tracked")}
    assert own_shapes(*RELATIVES[name]) == theirs


@pytest.mark.parametrize("name", NAMES)
def test_logits_are_timms(name: str, tmp_path: Path) -> None:
    """With one block in each stage, which is quick; the blocks are counted by the test above."""
    model = timm.create_model(name, num_classes=3, layers=(1, 1, 1, 1))
    randomize(model)
    model.eval()
    save_for_hf(model, str(tmp_path), safe_serialization=True)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["model_args"]  # the layers, which are stated below
    (tmp_path / "config.json").write_text(json.dumps(config))
    ours = resnet_rs.load(tmp_path, variant={"blocks": [1, 1, 1, 1]}, threads=1)
    with torch.inference_mode():
        expected = model.double()(torch.from_numpy(X).double().permute(0, 3, 1, 2)).numpy()
    found = ours.forward(X)
    assert_telling(found)
    assert np.linalg.norm(found - expected) <= TOLERANCE * np.linalg.norm(expected)

"""Helpers for tests of the formats: logits beside torch's, and small files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import nn

from resnet_rs._core import Network
from resnet_rs.weights.formats import Checkpoint

TOLERANCE = 1e-5
"""Largest relative L2 error of logits against torch in f64.

Rounding to f32 gives some 1e-7 a layer; a tensor in the wrong place, a stride on the wrong
convolution or another epsilon gives more than 1e-3.
"""

HEIGHT, WIDTH = 65, 81
"""Odd, so that every stride and padding shows, and not square."""


def network_of(checkpoint: Checkpoint) -> Network:
    """The core's network of a checkpoint."""
    config = json.dumps(checkpoint.config)
    return Network.from_tensors(checkpoint.tensors, config, origin=checkpoint.origin, threads=1)


def relative_error(checkpoint: Checkpoint, module: nn.Module) -> float:
    """The relative L2 error of a checkpoint's logits (or features) against a module's in f64.

    Args:
        checkpoint: what was read.
        module: in evaluation mode; gives `[batch, ...]`, of which only the values count.
    """
    channels = network_of(checkpoint).in_channels
    shape = (2, HEIGHT, WIDTH, channels)
    x = np.random.default_rng(1).standard_normal(shape, dtype=np.float32)
    ours = network_of(checkpoint).logits(x).astype(np.float64)
    with torch.no_grad():
        theirs = module.double()(torch.from_numpy(x).double().permute(0, 3, 1, 2))
    module.float()
    expected = theirs.reshape(ours.shape).numpy()
    return float(np.linalg.norm(ours - expected) / np.linalg.norm(expected))


def assert_same_tensors(checkpoint: Checkpoint, state: dict[str, torch.Tensor]) -> None:
    """Check that every floating-point tensor of a state dict arrived, bit for bit."""
    expected = {name: t for name, t in state.items() if t.is_floating_point()}
    assert set(checkpoint.tensors) == set(expected)
    for name, tensor in expected.items():
        np.testing.assert_array_equal(checkpoint.tensors[name], tensor.numpy(), err_msg=name)


def rewrite_json(path: Path, **changes: object) -> None:
    """Set fields of a JSON file; a field set to `...` goes."""
    values = json.loads(path.read_text())
    values.update(changes)
    values = {name: value for name, value in values.items() if value is not ...}
    path.write_text(json.dumps(values))


def saved(net: nn.Module, path: Path, *, legacy: bool = False) -> Path:
    """Let torch save a whole model; returns the path."""
    torch.save(net, path, _use_new_zipfile_serialization=not legacy)
    return path

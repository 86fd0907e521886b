"""Confirms a converted network by the results of the torch module that the weights come from."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..inspect.compare import Comparison, compare
from ..model import ResNet

if TYPE_CHECKING:
    from torch import nn


def confirmed(model: ResNet, where: str, source: str, key: str | None) -> Comparison:
    """Compare a network with a torch module that has the same weights, on random numbers.

    Args:
        model: the network.
        where: `MODULE:NAME`, a function without arguments, or a class, that makes the module;
            MODULE is imported, from the current directory too.
        source: the file of weights, which the module gets by its own names.
        key: which network of the file.

    Raises:
        ValueError: there is no such function, or the module's tensors are not the file's.
    """
    module = _made(where)
    _load(module, Path(source), key)
    height, width = model.config.preprocessing.input_size
    channels = len(model.config.preprocessing.mean)
    shape = (1, height, width, channels)
    x = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    return compare(module, model, x)


def _made(where: str) -> nn.Module:
    """Import a function, and call it."""
    from torch import nn

    name, _, attribute = where.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        make: Any = getattr(importlib.import_module(name), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"--confirm {where}: expected MODULE:NAME of a function that makes the torch module: "
            f"{error}"
        ) from error
    finally:
        sys.path.pop(0)
    module = make if isinstance(make, nn.Module) else make()
    if not isinstance(module, nn.Module):
        raise ValueError(f"--confirm {where}: expected a torch module, got {type(module).__name__}")
    return module.eval()


def _load(module: nn.Module, source: Path, key: str | None) -> None:
    """Give a module the file's tensors, by the names that both have."""
    import torch

    from ..weights.formats.detect import read_raw
    from ..weights.formats.prefixes import shared_wrappers

    tensors = read_raw(source, key)[0].tensors
    start = "".join(shared_wrappers(tensors))
    state = {n.removeprefix(start): torch.from_numpy(np.array(t)) for n, t in tensors.items()}
    try:
        outcome = module.load_state_dict(state, strict=False)
    except RuntimeError as error:  # shapes differ
        raise ValueError(
            f"{source}: its tensors are not those of the module of --confirm: {error}"
        ) from error
    missing = [n for n in outcome.missing_keys if not n.endswith("num_batches_tracked")]
    if missing or outcome.unexpected_keys:
        raise ValueError(
            f"{source}: its tensors are not those of the module of --confirm: "
            f"missing {missing[:3]}, unexpected {outcome.unexpected_keys[:3]}"
        )

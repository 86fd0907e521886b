"""The options of a quantised network, from those of the f32 network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..options import Options

# The config of quantised weights states all of these.
_STATED = (
    *("architecture", "variant", "num_classes", "labels", "activation", "preprocessing"),
    *("names", "key", "precision"),
)


def options_of_quantized(
    options: Options, weights: str | bytes, config: Mapping[str, Any] | None = None
) -> Options:
    """The same choices about running and pictures, for quantised weights.

    Args:
        options: those of the f32 network.
        weights: the path or the bytes of the quantised weights.
        config: their config; None for that of a directory.
    """
    stated: dict[str, Any] = dict.fromkeys(_STATED)
    return replace(options, weights=weights, config=config and dict(config), **stated)

"""Reads ONNX files of ResNets from any exporter: by the graph's structure, not by names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..._core import WeightsError
from . import shapes
from .checkpoint import RawCheckpoint
from .files import require_regular
from .onnx_graph import Flow
from .onnx_network import tensors
from .onnx_proto import read_graph
from .onnx_walk import Walk

# bfloat16 takes twice the memory as float32; a graph may also share the arrays of its norms.
_ROOM = 2
_SPARE_BYTES = 1 << 20


def read_onnx(path: Path) -> RawCheckpoint:
    """Read a ResNet of the family from an ONNX file.

    Batch norms may be folded into the convolutions or not. The blocks, strides, groups, stem,
    shortcuts, epsilon and head come from the graph. The labels and the preprocessing, which the
    file does not state, are left out of the config.

    Args:
        path: the `.onnx` file; files that it names for its tensors must lie beside it.

    Returns:
        The arrays under torchvision's names, and a config with architecture, variant and
        num_classes.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: the onnx package is not installed.
        WeightsError: the file is damaged, or its graph is not a ResNet; the first node that does
            not fit is named.
    """
    require_regular(path)
    try:
        return _checkpoint(path)
    except (WeightsError, shapes.NotResNetError) as error:
        raise WeightsError(f"{path}: {error}") from None


def _checkpoint(path: Path) -> RawCheckpoint:
    graph = read_graph(path)
    network = Walk(Flow(graph)).network
    arrays, remarks = tensors(network, _ROOM * graph.file_bytes + _SPARE_BYTES)
    found = {name: array.shape for name, array in arrays.items()}
    candidates = shapes.candidates(found)
    if not candidates:
        structure = shapes.structure(found)
        raise WeightsError(
            f"the tensors' shapes fit no ResNet ({structure.block} blocks {list(structure.blocks)})"
        )
    variant: dict[str, Any] = {
        **candidates[0].variant,
        **shapes.implied_variant(found),
        **network.variant,
    }
    config: dict[str, Any] = {
        "architecture": candidates[0].architecture,
        "variant": shapes.differing(candidates[0].architecture, variant),
        "num_classes": 0 if network.fc is None else len(arrays["fc.weight"]),
    }
    return RawCheckpoint(arrays, config, (*network.remarks, *remarks))

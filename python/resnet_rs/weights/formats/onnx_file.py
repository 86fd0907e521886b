"""Reads ONNX files of ResNets from any exporter: by the graph's structure, not by names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..._core import WeightsError
from . import shapes
from .checkpoint import RawCheckpoint
from .files import require_regular
from .onnx_arrays import tensors
from .onnx_graph import Flow
from .onnx_match import Match, image_size
from .onnx_network import find_network
from .onnx_proto import read_graph
from .preparation import preprocessing_of

CONFIG_KEY = "resnet_rs.config"
"""The key of the metadata under which `ResNet.export_onnx` keeps a config.json."""

_STATED: dict[str, tuple[type, str]] = {
    "labels": (list, "a list of texts"),
    "activation": (str, "a text"),
    "preprocessing": (dict, "an object"),
}
"""Fields of that config that the graph does not show, with their types."""

# bfloat16 takes twice the memory as float32; a graph may also share the arrays of its norms.
_ROOM = 2
_SPARE_BYTES = 1 << 20


def read_onnx(path: Path) -> RawCheckpoint:
    """Read a ResNet of the family from an ONNX file.

    Batch norms may be folded into the convolutions or not. The blocks, strides, groups, stem,
    shortcuts, epsilon and head come from the graph, and so do a mean and std that it has itself.
    Labels, the activation and the preprocessing are taken from the metadata of a file that
    `ResNet.export_onnx` has written. Other files state no labels.

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
    flow = Flow(graph)
    network = find_network(flow)
    arrays, remarks = tensors(network, _ROOM * graph.file_bytes + _SPARE_BYTES)
    found = {name: array.shape for name, array in arrays.items()}
    config = shapes.fitting_config(found, network.variant)
    match = Match(flow, network, shapes.operations(config, image_size(flow)))
    if match.activation is not None:
        config["activation"] = match.activation
    config["variant"] |= shapes.differing(config["architecture"], {"head": match.head})
    remarks = [*flow.remarks, *match.remarks, *remarks]
    if flow.preparation is not None:
        node, affine = flow.preparation
        channels = found["conv1.0.weight" if "conv1.0.weight" in found else "conv1.weight"][1]
        config["preprocessing"], remark = preprocessing_of(
            str(node), affine.factor, affine.summand, channels
        )
        remarks.append(remark)
    config |= _stated(graph.metadata.get(CONFIG_KEY))
    return RawCheckpoint(arrays, config, tuple(remarks), input_size=image_size(flow))


def _stated(text: str | None) -> dict[str, Any]:
    """Read the fields that the metadata state besides the graph.

    Raises:
        WeightsError: the metadata are no JSON object.
    """
    if text is None:
        return {}
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"the metadata {CONFIG_KEY} are no JSON: {error}") from None
    if not isinstance(config, dict):
        raise WeightsError(f"the metadata {CONFIG_KEY} are no JSON object")
    found = {field: config[field] for field in _STATED if config.get(field) is not None}
    for field, value in found.items():
        kind, expected = _STATED[field]
        is_right = isinstance(value, kind)
        if field == "labels" and is_right:
            is_right = all(isinstance(label, str) for label in value)
        if not is_right:
            raise WeightsError(f"the metadata {CONFIG_KEY}: {field}: expected {expected}")
    return found

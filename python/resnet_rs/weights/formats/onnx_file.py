"""Reads ONNX files of ResNets from any exporter: by the graph's structure, not by names."""

from __future__ import annotations

from pathlib import Path

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

# bfloat16 takes twice the memory as float32; a graph may also share the arrays of its norms.
_ROOM = 2
_SPARE_BYTES = 1 << 20


def read_onnx(path: Path) -> RawCheckpoint:
    """Read a ResNet of the family from an ONNX file.

    Batch norms may be folded into the convolutions or not. The blocks, strides, groups, stem,
    shortcuts, epsilon and head come from the graph, and so do a mean and std that it has itself.
    The labels, which the file does not state, are left out of the config.

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
    return RawCheckpoint(arrays, config, tuple(remarks), input_size=image_size(flow))

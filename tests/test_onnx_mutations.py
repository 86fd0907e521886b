"""A thousand damaged ONNX files of each kind: a clear error or a right load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import onnx_cases
import pytest
from mutations import assert_survives
from onnx import TensorProto

from resnet_rs import _core
from resnet_rs.weights import formats

COUNT = 1000
FEWER = [200, pytest.param(COUNT, marks=pytest.mark.slow)]
"""For kinds that share most of their reader with one that has its thousand always."""

SMALL: dict[str, Any] = {"blocks": [1, 2], "widths": [4, 8], "stem_widths": [4]}


def load(path: Path) -> None:
    """Read a file as far as a network that could run."""
    checkpoint = formats.read(path)
    _core.Network.from_tensors(
        checkpoint.tensors, json.dumps(checkpoint.config), origin=checkpoint.origin, threads=1
    )


def typed(folder: Path) -> Path:
    """Weights as varints of their bits, in a graph by hand."""
    model = onnx_cases.variant(**SMALL)
    builder = onnx_cases.Builder(model, dtype=TensorProto.FLOAT16, typed=True)
    value = builder.node("GlobalAveragePool", [builder.body("image")])
    value = builder.classes(builder.node("Flatten", [value], axis=1))
    onnx.save(builder.model(value), folder / "x.onnx")
    return folder / "x.onnx"


def external(folder: Path) -> Path:
    """Weights in a file beside the model, which stays as it is."""
    graph = onnx.load(onnx_cases.export(onnx_cases.variant(**SMALL), folder / "whole.onnx"))
    path = folder / "x.onnx"
    onnx.save(graph, path, save_as_external_data=True, location="x.data", size_threshold=0)
    return path


def write(kind: str, folder: Path) -> Path:
    if kind == "typed":
        return typed(folder)
    if kind == "external":
        return external(folder)
    return onnx_cases.export(onnx_cases.variant(**SMALL), folder / "x.onnx", kind)


def test_damaged_exports(tmp_path: Path) -> None:
    survive("script", COUNT, tmp_path)


@pytest.mark.parametrize("count", FEWER)
@pytest.mark.parametrize("kind", ["dynamo-unfolded", "typed", "external"])
def test_damaged_files(kind: str, count: int, tmp_path: Path) -> None:
    survive(kind, count, tmp_path)


def survive(kind: str, count: int, tmp_path: Path) -> None:
    data = write(kind, tmp_path).read_bytes()
    outcome = assert_survives(load, data, ".onnx", count, tmp_path)
    # Neither is everything refused, nor does damage go unnoticed.
    assert outcome.refused > count / 10
    assert outcome.loaded > count / 100

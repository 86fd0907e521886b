"""Directories with a `config.json`: our own, those of Hugging Face transformers and timm."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..._core import WeightsError
from . import shapes
from .checkpoint import RawCheckpoint
from .files import Fields, read_object

CONFIG = "config.json"
TENSOR_FILES = ("model.safetensors", "pytorch_model.bin")
"""The names of a directory's file of tensors, in order of preference."""

INDEX_SUFFIX = ".index.json"


def describe(directory: Path) -> RawCheckpoint | None:
    """Read a directory's `config.json`, without the tensors.

    Returns:
        The config; None if there is no such file, or if it does not describe a network.

    Raises:
        WeightsError: it is malformed, or of a network that is not supported.
    """
    path = directory / CONFIG
    if not path.is_file():
        return None
    fields = read_object(path)
    if "format_version" in fields:
        return _ours(fields)
    if "pretrained_cfg" in fields or "architecture" in fields:
        from .timm_directory import describe_timm

        return describe_timm(fields)
    if "model_type" in fields:
        from .hf_directory import describe_transformers

        return describe_transformers(fields, directory)
    return None


def joined(raw: RawCheckpoint, described: RawCheckpoint | None) -> RawCheckpoint:
    """Join one reader's tensors with the config that another reader found beside them."""
    if described is None:
        return raw
    config = {**described.config, **raw.config}
    return replace(raw, config=config, remarks=(*described.remarks, *raw.remarks))


def shard_files(directory: Path) -> list[Path]:
    """List the files of a network that is split over several; empty if it is not.

    Raises:
        WeightsError: the index is malformed, or names a file outside the directory.
    """
    for name in TENSOR_FILES:
        path = directory / f"{name}{INDEX_SUFFIX}"
        if (directory / name).is_file() or not path.is_file():
            continue
        return listed_shards(path)
    return []


def listed_shards(index: Path) -> list[Path]:
    """List the files that an index of shards names.

    Raises:
        WeightsError: the index is malformed, or names a file that is not beside it.
    """
    fields = read_object(index)
    files = sorted({str(file) for file in fields.inner("weight_map").values.values()})
    if not files:
        raise fields.error("weight_map", "the shard of each tensor")
    for file in files:
        if Path(file).name != file or not (index.parent / file).is_file():
            raise WeightsError(
                f"{index}: there is no file {file!r} in {index.parent}: put all shards beside the "
                "index"
            )
    return [index.parent / file for file in files]


def _ours(fields: Fields) -> RawCheckpoint:
    config = {name: value for name, value in fields.values.items() if value is not None}
    try:
        shapes.parameters(config)  # has the core check every field
    except ValueError as error:
        raise WeightsError(f"{fields.origin}: {error}") from error
    config.pop("format_version")
    return RawCheckpoint({}, config)

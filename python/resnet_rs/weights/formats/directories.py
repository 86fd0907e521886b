"""Directories with a `config.json`: ours, Hugging Face transformers', timm's."""

from __future__ import annotations

from pathlib import Path

from ..._core import WeightsError
from . import shapes
from .checkpoint import RawCheckpoint
from .files import Fields, read_object

CONFIG = "config.json"
TENSOR_FILES = ("model.safetensors", "pytorch_model.bin")
"""Where a directory's tensors are, best first."""

_INDEX_SUFFIX = ".index.json"


def describe(directory: Path) -> RawCheckpoint | None:
    """What a directory's `config.json` says of the network, without its tensors.

    Returns:
        None where there is no such file, or one that says nothing of a network.

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
    """One reader's tensors with the config that another has read beside them."""
    if described is None:
        return raw
    config = {**described.config, **raw.config}
    return RawCheckpoint(raw.tensors, config, (*described.remarks, *raw.remarks))


def shard_files(directory: Path) -> list[Path]:
    """The files of a network that is split over several; none where it is not.

    Raises:
        WeightsError: the index is malformed, or names a file outside the directory.
    """
    for name in TENSOR_FILES:
        path = directory / f"{name}{_INDEX_SUFFIX}"
        if (directory / name).is_file() or not path.is_file():
            continue
        fields = read_object(path)
        files = sorted({str(file) for file in fields.inner("weight_map").values.values()})
        for file in files:
            if Path(file).name != file or not (directory / file).is_file():
                raise WeightsError(f"{path}: there is no file {file!r} in {directory}")
        return [directory / file for file in files]
    return []


def _ours(fields: Fields) -> RawCheckpoint:
    config = {name: value for name, value in fields.values.items() if value is not None}
    try:
        shapes.parameters(config)  # has the core check every field
    except ValueError as error:
        raise WeightsError(f"{fields.origin}: {error}") from error
    config.pop("format_version")
    return RawCheckpoint({}, config)

"""A thousand damaged files of each of Keras' layouts: a clear error or a right load."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import keras_cases
import pytest
from mutations import assert_survives

from resnet_rs import WeightsError, _core
from resnet_rs.weights import formats

COUNT = 1000
FEWER = [200, pytest.param(COUNT, marks=pytest.mark.slow)]
"""For layouts that share most of their reader with one that has its thousand always."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keras")
    keras_cases.write(folder, "tiny")
    return folder


def load(path: Path) -> None:
    """Read a file as far as a network that could run."""
    checkpoint = formats.read(path)
    _core.Network.from_tensors(
        checkpoint.tensors, json.dumps(checkpoint.config), origin=checkpoint.origin, threads=1
    )


def load_inner(path: Path) -> None:
    """Read damaged weights in an archive whose checksums are right, as a hostile author would."""
    archive = path.with_suffix(".keras")
    config = (path.parent / "config.json").read_text()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("config.json", config)
        file.write(path, "model.weights.h5")
    try:
        load(archive)
    except WeightsError as error:
        raise WeightsError(f"{path.name}: {error}") from None


def test_damaged_archives(files: Path, tmp_path: Path) -> None:
    survive(".keras", COUNT, files, tmp_path)


@pytest.mark.parametrize("count", FEWER)
@pytest.mark.parametrize("ending", [".h5", ".weights.h5", "_legacy.h5"])
def test_damaged_files(ending: str, count: int, files: Path, tmp_path: Path) -> None:
    survive(ending, count, files, tmp_path)


def survive(ending: str, count: int, files: Path, tmp_path: Path) -> None:
    data = (files / f"tiny{ending}").read_bytes()
    outcome = assert_survives(load, data, ending.replace("_", "."), count, tmp_path)
    # Neither is everything refused, nor does damage go unnoticed.
    assert outcome.refused > count / 10
    assert outcome.loaded > count / 100


@pytest.mark.parametrize("count", FEWER)
def test_damaged_weights_in_a_sound_archive(count: int, files: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(files / "tiny.keras") as archive:
        archive.extract("config.json", tmp_path)
        data = archive.read("model.weights.h5")
    outcome = assert_survives(load_inner, data, ".weights.h5", count, tmp_path)
    assert outcome.loaded > count / 100

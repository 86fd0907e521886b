"""Fixtures for the tests of pretrained weights: a server with one file, and an empty cache.

A test module takes them by `pytest_plugins = ["pretrained_fixtures"]`, without an import.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import huggingface_hub.file_download
import pytest
from file_server import FileServer, file_server
from pretrained_case import CONTENT, HUB_BLOCK_BYTES, PATH, ROW

from resnet_rs.weights import torchvision_weights
from resnet_rs.weights.pretrained import download

VARIABLES = (
    "RESNET_RS_CACHE",
    "RESNET_RS_OFFLINE",
    "RESNET_RS_MIRROR",
    "XDG_CACHE_HOME",
    "HF_HUB_OFFLINE",
    "HF_ENDPOINT",
    "HF_TOKEN",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HUGGINGFACE_HUB_CACHE",
)


class NoPauses:
    """Stands for the module `time` in a module that waits between attempts."""

    sleep = staticmethod(lambda seconds: None)


@pytest.fixture
def empty_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The cache folder, which is not there yet; no variable says anything else."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RESNET_RS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, empty_cache: Path) -> Iterator[FileServer]:
    """Stands for torchvision's server, which has one file, and for the hub."""
    monkeypatch.setattr(torchvision_weights, "TORCHVISION_WEIGHTS", (ROW,))
    monkeypatch.setattr(download, "_FIRST_PAUSE_S", 0.0)
    # The library's settings, which it reads when it is imported: no user's token, no request beside
    # those for files, blocks that are smaller than the files here, and no pauses.
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(empty_cache / "no_token"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", HUB_BLOCK_BYTES)
    for module in (huggingface_hub.file_download, huggingface_hub.utils._http):
        monkeypatch.setattr(module, "time", NoPauses)
    monkeypatch.setenv("NO_PROXY", "*")
    with file_server() as server:
        server.files[PATH] = CONTENT
        monkeypatch.setenv("RESNET_RS_MIRROR", server.url)
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


@pytest.fixture
def folder(empty_cache: Path) -> Path:
    """Make the directory of torchvision's files."""
    folder = empty_cache / "torchvision"
    folder.mkdir(parents=True)
    return folder

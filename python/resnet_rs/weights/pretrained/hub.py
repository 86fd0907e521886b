"""A repository of a model hub into the cache: its config, its preprocessing and its weights.

A hub answers `<endpoint>/<owner>/<name>/resolve/<revision>/<file>`. It names the commit that it
sent in a header, and the first file's commit is asked for in all that follow, so that they belong
together. Weights in git's large-file storage come with their sha256 in a header.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ... import _core
from .cache import locked, sha256_of
from .download import Downloaded, DownloadError, NotFoundError, download
from .names import HubRepository, near
from .timm_weights import timm_names

_ENDPOINT = "https://huggingface.co"
_CONFIG = "config.json"
_PREPROCESSING = "preprocessor_config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class HubFiles:
    """A repository's files in the cache.

    Attributes:
        folder: where they lie.
        weights: the file with the tensors.
        sha256: of that file, in hex.
        revision: the commit, or what was asked for where the hub tells no commit.
        unchecked: whether the weights came just now and the hub stated no sha256 for them.
    """

    folder: Path
    weights: Path
    sha256: str
    revision: str
    unchecked: bool


def fetch_repository(
    repository: HubRepository,
    cache: Path,
    *,
    architecture: str | None,
    offline: bool,
    progress: bool,
) -> HubFiles:
    """Find a repository in the cache, or download it.

    Args:
        repository: which.
        cache: the cache folder.
        architecture: what the network must be; None accepts all of the family.
        offline: look at the cache alone.
        progress: whether to show bars on a terminal.

    Raises:
        FileNotFoundError: offline, and the cache lacks it.
        DownloadError: it cannot be fetched.
        ValueError: its config describes a network of another kind.
    """
    folder = (
        cache / "hub" / repository.name.replace("/", "--") / repository.revision.replace("/", "--")
    )
    commit = folder / ".commit"
    unchecked = False
    if _weights_in(folder) is None:
        if offline:
            raise FileNotFoundError(_missing_offline(repository, folder))
        with locked(folder / "repository"):
            if _weights_in(folder) is None:
                got = _download(repository, folder, commit, architecture, progress)
                unchecked = not got.checked
    _check_config(repository, folder / _CONFIG, architecture)
    weights = _weights_in(folder)
    assert weights is not None
    revision = commit.read_text("ascii") if commit.is_file() else repository.revision
    return HubFiles(folder, weights, sha256_of(weights), revision, unchecked)


def _weights_in(folder: Path) -> Path | None:
    """The weights of a complete repository; None where something is missing."""
    if not (folder / _CONFIG).is_file():
        return None
    return next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)


def _download(
    repository: HubRepository,
    folder: Path,
    commit: Path,
    architecture: str | None,
    progress: bool,
) -> Downloaded:
    """Fetch what is missing, the small files first; returns how the weights came."""
    token = os.environ.get("HF_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    revision = commit.read_text("ascii") if commit.is_file() else repository.revision

    def fetch(name: str) -> Downloaded:
        url = _address(repository, revision, name)
        return download(url, folder / name, headers=headers, progress=progress)

    if not (folder / _CONFIG).is_file():
        try:
            got = fetch(_CONFIG)
        except NotFoundError as error:
            raise NotFoundError(f"{error}{_nearest(repository)}") from None
        if got.revision:
            revision = got.revision
            commit.write_text(revision, "ascii")
    # Before a hundred megabytes come for nothing.
    _check_config(repository, folder / _CONFIG, architecture)
    if not (folder / _PREPROCESSING).is_file():
        # timm's repositories have none: their config says it.
        with contextlib.suppress(NotFoundError):
            fetch(_PREPROCESSING)
    for name in WEIGHTS:
        try:
            return fetch(name)
        except NotFoundError:
            continue
    raise NotFoundError(
        f"{_address(repository, revision, '')}: expected {' or '.join(WEIGHTS)}; the repository "
        "has neither"
    )


def _address(repository: HubRepository, revision: str, name: str) -> str:
    endpoint = (os.environ.get("HF_ENDPOINT") or _ENDPOINT).rstrip("/")
    return f"{endpoint}/{repository.name}/resolve/{quote(revision, safe='')}/{name}"


def _check_config(repository: HubRepository, path: Path, architecture: str | None) -> None:
    """Refuse a network that is none of ours, or not the one that is wanted.

    What a config leaves open is the reader's to decide.
    """
    try:
        config = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise DownloadError(
            f"{path}: expected a JSON file ({error}); remove it to have it fetched again"
        ) from None
    found: Any = config.get("architecture") if isinstance(config, dict) else None
    if isinstance(found, str):
        from ..timm_relatives import RELATIVES

        known = _core.architectures()
        found, _ = RELATIVES.get(found, (found, {}))
        if found not in known:
            raise ValueError(
                f"{repository.name}: architecture {found!r}; expected one of "
                f"{', '.join([*known, *RELATIVES])}"
            )
        if architecture not in (None, found):
            raise ValueError(f"{repository.name} are weights of {found}; expected {architecture}")
        return
    kind: Any = config.get("model_type", "resnet") if isinstance(config, dict) else None
    if kind != "resnet":
        raise ValueError(f"{repository.name}: model_type {kind!r}; expected 'resnet'")


def _nearest(repository: HubRepository) -> str:
    owner, _, model = repository.name.partition("/")
    matches = near(model, timm_names()) if owner == "timm" else []
    return f". The nearest names: {', '.join(f'timm/{name}' for name in matches)}" * bool(matches)


def _missing_offline(repository: HubRepository, folder: Path) -> str:
    return (
        f"{repository.name} is not in the cache, and the network is not to be used "
        f"(offline). Fetch {_address(repository, repository.revision, _CONFIG)}, "
        f"{WEIGHTS[0]} (else {WEIGHTS[1]}) and, if there is one, {_PREPROCESSING} elsewhere and "
        f"put them into {folder}"
    )

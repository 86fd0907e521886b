"""A repository of the Hugging Face hub: its config, its preprocessing and its weights.

The cache is laid out as `huggingface_hub` does it: a branch or tag names a commit, and a commit has
a folder. All files are taken from one commit, even if the branch moves meanwhile.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import warnings
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ... import _core
from ..small_files import read_text
from ..timm_relatives import RELATIVES
from .cache import PretrainedFile, cache_folder, hub_folder, sha256_of
from .errors import DownloadError, NotFoundError, named_extra
from .names import HubRepository, near
from .timm_weights import timm_names

_ENDPOINT = "https://huggingface.co"
_CONFIG = "config.json"
_PREPROCESSING = "preprocessor_config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def fetch_repository(
    repository: HubRepository,
    cache_dir: str | os.PathLike[str] | None,
    *,
    architecture: str | None,
    offline: bool,
    progress: bool,
) -> PretrainedFile:
    """Find a repository in the cache, or download it.

    Args:
        repository: the repository and its revision.
        cache_dir: the cache folder; None takes the usual one.
        architecture: the network that is wanted; None accepts all of the family.
        offline: look at the cache alone.
        progress: whether to show bars on a terminal.

    Raises:
        FileNotFoundError: offline, and the cache lacks it.
        ImportError: it must be downloaded, and `huggingface_hub` is not installed.
        DownloadError: it cannot be fetched.
        ValueError: its config describes a network of another kind.
    """
    folder = _folder(repository, hub_folder(cache_dir))
    if offline and _weights_in(folder) is None:
        raise FileNotFoundError(_missing_offline(repository, folder))
    if not offline and not _is_complete(folder):
        folder = _download(repository, folder, cache_dir, architecture, progress)
    _check_config(repository, folder / _CONFIG, architecture)
    weights = _weights_in(folder)
    assert weights is not None
    source = {
        "repository": repository.name,
        "revision": folder.name if _COMMIT.fullmatch(folder.name) else repository.revision,
        "file": weights.name,
        "sha256": sha256_of(weights, cache_folder(cache_dir)),
    }
    named = {} if repository.architecture is None else {"architecture": repository.architecture}
    return PretrainedFile(folder, {**named, "source": source})


def _folder(repository: HubRepository, hub: Path) -> Path:
    """The folder of the commit that the cache knows for the revision; it need not exist."""
    storage = hub / f"models--{repository.name.replace('/', '--')}"
    reference = storage / "refs" / repository.revision
    commit = reference.read_text("ascii").strip() if reference.is_file() else repository.revision
    return storage / "snapshots" / commit


def _weights_in(folder: Path) -> Path | None:
    """The weights of a repository; None if they or the config are missing."""
    if not (folder / _CONFIG).is_file():
        return None
    return next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)


def _is_complete(folder: Path) -> bool:
    """True if nothing is left to ask the hub for.

    Another program may have fetched the weights without the preprocessing. timm's repositories have
    none, because their config says it, and files that were put there by hand are all there is.
    """
    if _weights_in(folder) is None:
        return False
    # The Hugging Face cache remembers in this way that a commit lacks a file.
    absent = folder.parent.parent / ".no_exist" / folder.name / _PREPROCESSING
    return (
        not _COMMIT.fullmatch(folder.name)
        or (folder / _PREPROCESSING).is_file()
        or absent.is_file()
        or "architecture" in _read_config(folder / _CONFIG)
    )


def _download(
    repository: HubRepository,
    folder: Path,
    cache_dir: str | os.PathLike[str] | None,
    architecture: str | None,
    progress: bool,
) -> Path:
    """Fetch what `folder` lacks, the small files first; returns the folder of the commit."""
    with named_extra():
        from .hub_download import fetch_file, stated_sha256
    hub = hub_folder(cache_dir)
    if not (folder / _CONFIG).is_file():
        try:
            path = fetch_file(repository.name, _CONFIG, repository.revision, hub, progress=progress)
        except NotFoundError as error:
            raise NotFoundError(f"{error}{_nearest(repository)}") from None
        folder = path.parent
    # Checked before a hundred megabytes come for nothing.
    _check_config(repository, folder / _CONFIG, architecture)
    if not _is_complete(folder) and "architecture" not in _read_config(folder / _CONFIG):
        with contextlib.suppress(NotFoundError):
            fetch_file(repository.name, _PREPROCESSING, folder.name, hub, progress=progress)
    if _weights_in(folder) is not None:
        return folder
    for name in WEIGHTS:
        try:
            stated = stated_sha256(repository.name, name, folder.name)
        except NotFoundError:
            continue
        weights = fetch_file(repository.name, name, folder.name, hub, progress=progress)
        found = sha256_of(weights, cache_folder(cache_dir))
        if stated is None:
            warnings.warn(
                f"{repository.name}: the server stated no sha256 for {name}, so the download "
                f"could not be checked; its sha256 is {found}",
                UserWarning,
                stacklevel=4,
            )
        elif found != stated:
            weights.unlink()
            (folder.parent.parent / "blobs" / stated).unlink(missing_ok=True)
            raise DownloadError(
                f"{_address(repository, folder.name, name)}: expected a file whose sha256 is "
                f"{stated}; got {found}. The download was removed: try again later, or from "
                "another mirror"
            )
        return folder
    raise NotFoundError(
        f"{_address(repository, folder.name, '')}: expected {' or '.join(WEIGHTS)}; the repository "
        "has neither"
    )


def _address(repository: HubRepository, revision: str, name: str) -> str:
    endpoint = (os.environ.get("HF_ENDPOINT") or _ENDPOINT).rstrip("/")
    return f"{endpoint}/{repository.name}/resolve/{quote(revision, safe='')}/{name}"


def _read_config(path: Path) -> dict[str, Any]:
    """The fields of a config.

    Raises:
        DownloadError: the file is not JSON.
    """
    try:
        config = json.loads(read_text(path))
    except ValueError as error:
        raise DownloadError(
            f"{path}: expected a JSON file ({error}); remove it to have it fetched again"
        ) from None
    return config if isinstance(config, dict) else {}


def _check_config(repository: HubRepository, path: Path, architecture: str | None) -> None:
    """Refuse a network of another family, or another one than is wanted.

    What a config leaves open is the reader's to decide.
    """
    config = _read_config(path)
    found: Any = config.get("architecture")
    if isinstance(found, str):
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
    kind: Any = config.get("model_type", "resnet")
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

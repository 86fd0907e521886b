"""The folders of downloads, and the hashes of files that have been read before.

    <cache>/torchvision/resnet50-11ad3fa6.pth
    <hub>/models--timm--resnet50.a1_in1k/snapshots/<commit>/{config.json, model.safetensors, ...}

`<cache>` is the argument `cache_dir`, else `RESNET_RS_CACHE`, else `$XDG_CACHE_HOME/resnet_rs`,
else `~/.cache/resnet_rs`. `<hub>` is `<cache>/hub` if one of the first two is given, and otherwise
the user's Hugging Face cache, which timm and transformers fill as well. A file that was put there
by hand counts as much as a downloaded one.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files import digest_of

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"", "0", "false", "no", "off"}


@dataclass(frozen=True)
class PretrainedFile:
    """Weights on this machine.

    Attributes:
        path: torchvision's `.pth` file, or the folder of a hub's repository.
        config: the fields of `config.json` that the name implies. For torchvision's weights that is
            all of them. A repository has its own config, which its reader reads; for it this is the
            architecture, if the name says it. `source` is the file's origin.
    """

    path: Path
    config: dict[str, Any]


def cache_folder(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """The folder that downloads go to; it need not exist yet."""
    if cache_dir is not None:
        return Path(cache_dir).expanduser()
    if chosen := os.environ.get("RESNET_RS_CACHE"):
        return Path(chosen).expanduser()
    # The XDG rules say that a relative path counts as unset.
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "resnet_rs"


def hub_folder(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """The folder that holds the hub's repositories; it need not exist yet.

    The variables and their order are those of `huggingface_hub`, which need not be installed to
    find what is cached.
    """
    if cache_dir is not None or os.environ.get("RESNET_RS_CACHE"):
        return cache_folder(cache_dir) / "hub"
    variables = os.environ
    home = variables.get("HF_HOME") or os.path.join(
        variables.get("XDG_CACHE_HOME") or "~/.cache", "huggingface"
    )
    chosen = variables.get("HF_HUB_CACHE") or variables.get("HUGGINGFACE_HUB_CACHE")
    return Path(os.path.expandvars(chosen or os.path.join(home, "hub"))).expanduser()


def is_offline(offline: bool | None = None) -> bool:
    """True if only the cache is to be used: the argument decides, else either variable.

    Raises:
        ValueError: a variable says neither yes nor no.
    """
    if offline is not None:
        return offline
    return any(_switch(name) for name in ("RESNET_RS_OFFLINE", "HF_HUB_OFFLINE"))


def _switch(variable: str) -> bool:
    value = os.environ.get(variable, "")
    if value.lower() not in _TRUE | _FALSE:
        raise ValueError(f"{variable} must be 1 (use the cache alone) or 0; got {value!r}")
    return value.lower() in _TRUE


def sha256_of(path: Path, cache: Path) -> str:
    """A file's SHA-256 in hex.

    It is kept under `cache` and computed anew only if the file's size or time of change differs.
    """
    name = hashlib.sha256(os.fsencode(path.absolute())).hexdigest()
    mark = cache / "sha256" / name
    status = path.stat()
    state = f"{status.st_size} {status.st_mtime_ns}"
    with contextlib.suppress(OSError, ValueError):
        kept, _, kept_state = mark.read_text("ascii").partition(" ")
        if kept_state == state:
            return kept
    digest = digest_of(path)
    # A read-only cache keeps nothing: the hash is then computed each time.
    with contextlib.suppress(OSError):
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.write_text(f"{digest} {state}", "ascii")
    return digest

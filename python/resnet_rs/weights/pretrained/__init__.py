"""Pretrained weights by name: found in the cache, or downloaded, checked and kept there.

```python
from resnet_rs.weights.pretrained import TORCHVISION_WEIGHTS

for row in TORCHVISION_WEIGHTS:
    print(f"{row.full_name:32} {row.parameters:12,} {row.top_1:6.2f} %")
```

`ResNet50.from_pretrained("IMAGENET1K_V2")` is what most programs want; `fetch` is below it and
gives the file. The names are those of torchvision, of timm and of the Hugging Face hub (`names`
lists the forms). What the cache has is never asked of the network.
"""

from __future__ import annotations

import os
from pathlib import Path

from ..torchvision_weights import NUM_CLASSES, TORCHVISION_WEIGHTS, TorchvisionWeights, weights_of
from .cache import PretrainedFile, cache_folder, is_offline, sha256_of
from .errors import DownloadError, named_extra
from .names import resolve
from .timm_weights import TIMM_WEIGHTS, TimmPreset, timm_names, timm_preset

__all__ = [
    "TIMM_WEIGHTS",
    "TORCHVISION_WEIGHTS",
    "DownloadError",
    "PretrainedFile",
    "TimmPreset",
    "TorchvisionWeights",
    "fetch",
    "timm_names",
    "timm_preset",
    "torchvision_path",
    "weights_of",
]

_TORCHVISION_SERVER = "https://download.pytorch.org/models"


def fetch(
    name: str,
    *,
    architecture: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    offline: bool | None = None,
    progress: bool = True,
) -> PretrainedFile:
    """Find pretrained weights in the cache, or download them.

    Args:
        name: a name such as `IMAGENET1K_V2` (with an architecture), `resnet50.IMAGENET1K_V2`,
            `timm/resnet50.a1_in1k` or `microsoft/resnet-50`; `resnet_rs.weights.pretrained.names`
            lists the forms.
        architecture: the network that is wanted; weights of another are refused.
        cache_dir: the folder of downloads; by default `RESNET_RS_CACHE`, else
            `$XDG_CACHE_HOME/resnet_rs`, else `~/.cache/resnet_rs`, and for the hub's repositories
            the Hugging Face cache (`HF_HUB_CACHE`, `HF_HOME`).
        offline: True looks at the cache alone; by default so do `RESNET_RS_OFFLINE=1` and
            `HF_HUB_OFFLINE=1`.
        progress: whether to show a bar while downloading, if stderr is a terminal.

    Returns:
        The weights' place and the fields of their config.

    Warns:
        UserWarning: the server stated no hash, so the download could not be checked.

    Raises:
        ValueError: the name is unknown, or of another architecture.
        FileNotFoundError: offline, and the cache lacks the file.
        ImportError: it must be downloaded, and the extra `pretrained` is not installed.
        DownloadError: an OSError; no network, the server refuses, or the file's hash is wrong.
    """
    found = resolve(name, architecture)
    offline = is_offline(offline)
    if isinstance(found, TorchvisionWeights):
        return _fetch_torchvision(
            found, cache_folder(cache_dir), offline=offline, progress=progress
        )
    from .hub import fetch_repository

    return fetch_repository(
        found, cache_dir, architecture=architecture, offline=offline, progress=progress
    )


def torchvision_path(
    weights: TorchvisionWeights, cache_dir: str | os.PathLike[str] | None = None
) -> Path:
    """The place of one of torchvision's files in the cache; it need not exist."""
    return cache_folder(cache_dir) / "torchvision" / weights.file


def _fetch_torchvision(
    weights: TorchvisionWeights, cache: Path, *, offline: bool, progress: bool
) -> PretrainedFile:
    target = torchvision_path(weights, cache)
    server = (os.environ.get("RESNET_RS_MIRROR") or _TORCHVISION_SERVER).rstrip("/")
    url = f"{server}/{weights.file}"
    if not target.is_file():
        if offline:
            raise FileNotFoundError(
                f"{weights.full_name} is not in the cache, and the network is not to be used "
                f"(offline). Fetch {url} elsewhere and put it at {target}"
            )
        with named_extra():
            from .download import download
        download(url, target, sha256=weights.sha256_prefix, progress=progress)
    sha256 = sha256_of(target, cache)
    if not sha256.startswith(weights.sha256_prefix):
        raise DownloadError(
            f"{target}: expected a file whose sha256 begins with {weights.sha256_prefix}; got "
            f"{sha256}. It is damaged or another file: remove it to have it fetched again"
        )
    source = {
        "weights": f"torchvision {weights.full_name}",
        "url": url,
        "sha256": sha256,
        "top_1": weights.top_1,
        "top_5": weights.top_5,
    }
    return PretrainedFile(
        target,
        {
            "architecture": weights.architecture,
            "num_classes": NUM_CLASSES,
            "preprocessing": weights.preprocessing(),
            "source": source,
        },
    )

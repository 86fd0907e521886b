"""Files of the Hugging Face hub, downloaded by `huggingface_hub`.

The library keeps the cache and its locks, resumes after cuts, and finds the user's token.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
from huggingface_hub import utils

from ..._core import __version__
from .errors import DownloadError, NotFoundError

_SHA256 = re.compile(r"[0-9a-f]{64}")


def fetch_file(repository: str, name: str, revision: str, hub: Path, *, progress: bool) -> Path:
    """Download a file into the cache folder `hub`; returns its place in its commit's folder.

    Raises:
        NotFoundError: the repository, the revision or the file does not exist.
        DownloadError: it cannot be fetched.
        OSError: it cannot be written.
    """
    with _errors_of(_url(repository, name, revision)), _bars(progress):
        path: str = huggingface_hub.hf_hub_download(
            repository,
            name,
            revision=revision,
            cache_dir=hub,
            endpoint=_endpoint(),
            library_name="resnet_rs",
            library_version=__version__,
        )
    return Path(path)


def stated_sha256(repository: str, name: str, revision: str) -> str | None:
    """The SHA-256 that the hub states for a file, in hex; None if it states none.

    Raises:
        NotFoundError, DownloadError: as `fetch_file` does.
    """
    url = _url(repository, name, revision)
    with _errors_of(url):
        tag: str = huggingface_hub.get_hf_file_metadata(url).etag or ""
    return tag if _SHA256.fullmatch(tag) else None


def _endpoint() -> str | None:
    # The library reads the variable once, when it is imported.
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or None


def _url(repository: str, name: str, revision: str) -> str:
    url: str = huggingface_hub.hf_hub_url(repository, name, revision=revision, endpoint=_endpoint())
    return url


@contextlib.contextmanager
def _errors_of(url: str) -> Iterator[None]:
    """Turn the library's errors into those of this package."""
    try:
        yield
    except Exception as error:  # its HTTP client, and thus the errors, differ by version
        # The cache could not help either: the cause is what went wrong with the network.
        is_miss = isinstance(error, utils.LocalEntryNotFoundError)
        cause = error.__cause__ if is_miss and error.__cause__ else error
        if isinstance(cause, ValueError) or getattr(cause, "errno", None) is not None:
            raise  # a malformed name, or the disk
        status = getattr(getattr(cause, "response", None), "status_code", None)
        if status in (404, 410):
            raise NotFoundError(f"{url}: the server has no such file (HTTP {status})") from None
        if status in (401, 403):
            raise DownloadError(
                f"{url}: the server refuses (HTTP {status}): there is no such file, or it is not "
                "public; for a private or gated repository set HF_TOKEN or run `hf auth login`"
            ) from error
        reason = " ".join(str(cause).split())
        raise DownloadError(
            f"{url}: cannot be fetched ({reason}). Without a network, offline=True or "
            "RESNET_RS_OFFLINE=1 says where to put files that were fetched elsewhere"
        ) from error


@contextlib.contextmanager
def _bars(shown: bool) -> Iterator[None]:
    """Let the library show its bars, or keep it quiet."""
    if shown or utils.are_progress_bars_disabled():
        yield
        return
    utils.disable_progress_bars()
    try:
        yield
    finally:
        utils.enable_progress_bars()

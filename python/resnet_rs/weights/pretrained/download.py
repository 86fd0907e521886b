"""Download one file with requests: resumed after a cut, and checked before it gets its name.

The bytes go to `<name>.part`, which is renamed to `<name>` once it is complete and its SHA-256 is
right, so a file under its own name is always whole. A `.part` that an earlier run left is continued
if the server allows it.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import filelock
import requests
from requests.exceptions import ChunkedEncodingError
from tqdm import tqdm
from urllib3.exceptions import MaxRetryError

from ..._core import __version__
from ...file_errors import names_file
from ..files import digest_of
from .errors import DownloadError, NotFoundError

_TIMEOUT_S = 30.0
# A connection that breaks loses the block that was being read.
_BLOCK_BYTES = 1 << 16

# A connection that breaks is tried again after 1, 2, 4, 8 s. If one got this much further than the
# last, counting starts anew: a large file over a bad line then takes as many as it needs.
_ATTEMPTS = 5
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0
_PROGRESS_BYTES = 1 << 20


class _Cut(Exception):
    """A connection failed in a way that may pass by itself; `wait_s` is what the server asks."""

    def __init__(self, reason: str, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


def download(url: str, target: Path, *, sha256: str, progress: bool = True) -> None:
    """Download a file, unless another process or thread does so at the same time.

    Args:
        url: http or https.
        target: the file to write; nothing happens if it exists.
        sha256: the first hex digits of the file's SHA-256, or all of them.
        progress: whether to show a bar on a terminal.

    Raises:
        NotFoundError: the server has no such file.
        DownloadError: no network, the server refuses, or the hash differs.
        OSError: the file cannot be written.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise DownloadError(f"{url}: expected an address that starts with https:// or http://")
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    with filelock.FileLock(target.with_name(f".{target.name}.lock")):
        while not target.is_file():
            resumed = _size(part) > 0
            _receive(url, target, part, progress)
            found = digest_of(part)
            if found.startswith(sha256):
                os.replace(part, target)
                return
            part.unlink()
            # An old part may have been of another file. From the first byte the server is at fault.
            if not resumed:
                raise DownloadError(
                    f"{url}: expected a file whose sha256 begins with {sha256}; got {found}. "
                    "The download was removed: try again later, or from another mirror"
                )


def _receive(url: str, target: Path, part: Path, progress: bool) -> None:
    """Complete `part`, with new attempts after cuts."""
    begun = _size(part)
    attempt = 0
    while True:
        before = _size(part)
        try:
            return _one_connection(url, target, part, progress, was_reached=before != begun)
        except _Cut as cut:
            attempt = 1 if _size(part) - before >= _PROGRESS_BYTES else attempt + 1
            if attempt == _ATTEMPTS:
                kept = (
                    f"{_size(part) / 1e6:.1f} MB are kept and the next attempt continues there"
                    if _size(part)
                    else f"fetch it elsewhere and put it at {target}, or try again later"
                )
                raise DownloadError(
                    f"{url}: given up after {_ATTEMPTS} attempts, the last one: {cut}; {kept}"
                ) from cut
            pause = min(max(cut.wait_s, _FIRST_PAUSE_S * 2 ** (attempt - 1)), _LONGEST_PAUSE_S)
            if progress and sys.stderr.isatty():
                tqdm.write(f"{target.name}: {cut}; again in {pause:.0f} s", file=sys.stderr)
            time.sleep(pause)


def _one_connection(
    url: str, target: Path, part: Path, progress: bool, *, was_reached: bool
) -> None:
    """Ask once for what `part` lacks, and append it.

    A server that cannot be reached is not tried again, unless this run has reached it before.
    """
    # A body that is compressed on the way has another length and other byte ranges.
    headers = {"Accept-Encoding": "identity", "User-Agent": f"resnet_rs/{__version__}"}
    if start := _size(part):
        headers["Range"] = f"bytes={start}-"
    try:
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT_S) as reply:
            _refuse_open_line(url, reply)
            if reply.ok:
                _append(reply, part, target.name, progress)
            elif not (start and reply.status_code == 416):
                _refuse(url, reply)
            # Otherwise nothing follows what is there, and the hash will tell.
    except requests.Timeout as error:
        raise _Cut(f"no answer for {_TIMEOUT_S:g} s") from error
    except requests.ConnectionError as error:
        cause = error.args[0] if error.args else error
        if isinstance(cause, MaxRetryError) and not was_reached:  # no connection came about
            raise DownloadError(
                f"{url}: cannot be reached ({cause.reason}). Without a network, fetch this file "
                f"elsewhere and put it at {target}; with offline=True or RESNET_RS_OFFLINE=1 only "
                "the cache is looked at"
            ) from error
        raise _Cut(str(error) or "the connection failed") from error
    except requests.RequestException as error:
        raise DownloadError(f"{url}: the server refuses ({error})") from error


def _append(reply: requests.Response, part: Path, name: str, progress: bool) -> None:
    """Write a reply's body behind what `part` has, or in its place."""
    # A server that cannot continue a file sends the whole.
    with open(part, "wb" if reply.status_code == 200 else "ab") as file:
        length = reply.headers.get("Content-Length", "")
        total = file.tell() + int(length) if length.isdecimal() else None
        if total is not None:
            _check_space(part, int(length))
        bar = tqdm(
            desc=name,
            initial=file.tell(),
            total=total,
            unit="B",
            unit_scale=True,
            leave=False,
            disable=None if progress else True,
        )
        try:
            with bar:
                for block in reply.iter_content(_BLOCK_BYTES):
                    with names_file(part):
                        file.write(block)
                    bar.update(len(block))
        except ChunkedEncodingError as error:
            if total is None:  # else the length says what is missing
                raise _Cut(str(error)) from error
        done = file.tell()
    if total not in (None, done):
        raise _Cut(f"the connection ended after {done} of {total} bytes")


def _refuse(url: str, reply: requests.Response) -> None:
    """Raise what an HTTP status from 400 up means."""
    status, reason = reply.status_code, f"HTTP {reply.status_code} {reply.reason}"
    if status in (404, 410):
        raise NotFoundError(f"{url}: the server has no such file ({reason})")
    if status in (408, 429) or status >= 500:
        after = reply.headers.get("Retry-After", "")
        raise _Cut(reason, float(after) if after.isdecimal() else 0.0)
    raise DownloadError(f"{url}: the server refuses ({reason})")


def _refuse_open_line(url: str, reply: requests.Response) -> None:
    """Refuse a redirect from https to http, on which anybody could change the file."""
    for hop in [*reply.history, reply]:
        if url.startswith("https:") and hop.url.startswith("http:"):
            raise DownloadError(f"{url}: redirected from https to {hop.url}: refused")


def _check_space(part: Path, length: int) -> None:
    """Refuse a file for which the disk has no room, before the disk is full."""
    free = shutil.disk_usage(part.parent).free
    if length > free:
        raise DownloadError(
            f"{part.parent}: the download needs {length / 1e6:.1f} MB and the disk has "
            f"{free / 1e6:.1f} MB free; make room, or choose another folder with RESNET_RS_CACHE"
        )


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0

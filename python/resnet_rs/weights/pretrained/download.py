"""A file from a server into the cache: resumed after a cut, checked before it gets its name.

The bytes go to `<name>.part`, and to `<name>` by one rename when they are complete and their
sha256 is right, so a file under its own name is always whole. A `.part` that an earlier run left is
continued where the server allows it (`Range` with `If-Range`) and begun anew where it does not.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ...terminal.progress import BYTES, Meter, Progress
from .cache import digest_of, remember
from .connection import InterruptedDownload, RangeRefused, Reply, get
from .errors import DownloadError, NotFoundError

__all__ = ["DownloadError", "Downloaded", "NotFoundError", "download"]

_BLOCK_BYTES = 1 << 18

# A connection that breaks is tried again after 1, 2, 4, 8 s. One that got this much further than
# the last starts counting anew: a large file over a bad line then takes as many as it needs.
_ATTEMPTS = 5
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0
_PROGRESS_BYTES = 1 << 20

_SHA256 = re.compile(r"[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


@dataclass(frozen=True)
class Downloaded:
    """What came.

    Attributes:
        sha256: the file's, in hex.
        checked: whether anybody stated a sha256 to compare with.
        revision: the commit that a hub says it sent; None where it says none.
    """

    sha256: str
    checked: bool
    revision: str | None


@dataclass(frozen=True)
class _Received:
    """What the headers told: each None where they did not."""

    stated_sha256: str | None
    revision: str | None


def download(
    url: str,
    target: Path,
    *,
    sha256: str | None = None,
    headers: Mapping[str, str] | None = None,
    progress: bool = True,
) -> Downloaded:
    """Fetch one file. Hold `cache.locked(target)` meanwhile.

    Args:
        url: where it is.
        target: where it goes; its folder exists.
        sha256: the file's, in hex, or how it starts; None takes what the server states.
        headers: sent along, for a token.
        progress: whether to show a bar on a terminal.

    Raises:
        NotFoundError: the server has no such file.
        DownloadError: no network, the server refuses, or the hash is another.
        OSError: the file cannot be written.
    """
    part = target.with_name(f"{target.name}.part")
    while True:
        resumed = _size(part) > 0
        received = _receive(url, target, part, headers or {}, progress, known=sha256 is not None)
        expected = sha256 or received.stated_sha256
        found = digest_of(part)
        if expected is None or found.startswith(expected):
            break
        _forget(part)
        # The old part may have been of another file. From the first byte it is the server's fault.
        if not resumed:
            raise DownloadError(
                f"{url}: expected a file whose sha256 {_begins(expected)}; got {found}. "
                "The download was removed: try again later, or from another mirror"
            )
    os.replace(part, target)
    _forget(part)
    remember(target, found)
    return Downloaded(found, expected is not None, received.revision)


def _receive(
    url: str,
    target: Path,
    part: Path,
    headers: Mapping[str, str],
    progress: bool,
    *,
    known: bool,
) -> _Received:
    """Fill `part` up, with new attempts after cuts."""
    attempt = 0
    with Progress() as line:
        if not progress:
            line.turn_off()
        meter = Meter(line, BYTES, name=target.name)
        while True:
            before = _size(part)
            try:
                return _one_connection(url, part, headers, meter, known=known)
            except InterruptedDownload as cut:
                if cut.unreachable and not meter.advanced:
                    raise DownloadError(_no_network(url, target, cut)) from cut
                attempt = 1 if _size(part) - before >= _PROGRESS_BYTES else attempt + 1
                if attempt == _ATTEMPTS:
                    raise DownloadError(_given_up(url, target, part, cut)) from cut
                pause = min(max(cut.wait_s, _FIRST_PAUSE_S * 2 ** (attempt - 1)), _LONGEST_PAUSE_S)
                meter.say(f"{cut}; again in {pause:.0f} s")
                time.sleep(pause)


def _one_connection(
    url: str, part: Path, headers: Mapping[str, str], meter: Meter, *, known: bool
) -> _Received:
    """Ask once, for the rest of `part` where it can be continued, and read to the end."""
    start = _size(part)
    version = _version_of(part)
    wanted = dict(headers)
    # Without a version only the hash can tell whether the rest belongs to what is there.
    if start and (version or known):
        wanted["Range"] = f"bytes={start}-"
        if version:
            wanted["If-Range"] = version
    try:
        reply = get(url, wanted)
    except RangeRefused as refused:
        if refused.total == start and known:
            return _Received(None, None)  # nothing is missing, and the hash will tell
        _forget(part)
        raise InterruptedDownload("an old part of the file did not fit") from None
    with reply.response, open(part, "ab") as file:
        total = _position(reply, file, start)
        _keep_version(part, reply)
        _check_space(part, total, file.tell())
        done = file.tell()
        meter.begin(done, total)
        while block := reply.read(_BLOCK_BYTES):
            file.write(block)
            done += len(block)
            meter.show(done)
    if total is not None and done != total:
        raise InterruptedDownload(f"the connection ended after {done} of {total} bytes")
    commit = reply.first_header("X-Repo-Commit") or ""
    return _Received(_stated_sha256(reply), commit if _COMMIT.fullmatch(commit) else None)


def _position(reply: Reply, file: BinaryIO, start: int) -> int | None:
    """Put `file` where the body belongs; returns the whole file's length, None if not told."""
    length = reply.header("Content-Length")
    if reply.status == 206:
        match = _CONTENT_RANGE.fullmatch(reply.header("Content-Range") or "")
        if match and int(match[1]) == start:
            return int(match[2]) if match[2] != "*" else None
        _empty(file)
        raise InterruptedDownload("the server sent another range than it was asked for")
    # The whole file: another version, or a server without ranges.
    _empty(file)
    return int(length) if length and length.isdecimal() else None


def _empty(file: BinaryIO) -> None:
    file.seek(0)
    file.truncate()


def _stated_sha256(reply: Reply) -> str | None:
    """The sha256 that the server gives as the file's tag, where the tag is one."""
    for name in ("X-Linked-ETag", "ETag"):
        tag = (reply.first_header(name) or "").removeprefix("W/").strip('"').lower()
        if _SHA256.fullmatch(tag):
            return tag
    return None


def _version_file(part: Path) -> Path:
    return part.with_name(f".{part.name}.version")


def _keep_version(part: Path, reply: Reply) -> None:
    """Remember which version of the file the part is of, for `If-Range`."""
    tag = reply.header("ETag")
    # A weak tag may name files that differ in their bytes.
    strong = tag if tag and not tag.startswith("W/") else None
    version = strong or reply.header("Last-Modified")
    if version:
        _version_file(part).write_text(version, "utf-8")
    else:
        _version_file(part).unlink(missing_ok=True)


def _version_of(part: Path) -> str | None:
    try:
        return _version_file(part).read_text("utf-8").strip() or None
    except (OSError, ValueError):
        return None


def _forget(part: Path) -> None:
    """Remove the part and what is known of it."""
    part.unlink(missing_ok=True)
    _version_file(part).unlink(missing_ok=True)


def _size(part: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        return part.stat().st_size
    return 0


def _check_space(part: Path, total: int | None, done: int) -> None:
    """Refuse a file that the disk has no room for, before it is full."""
    free = shutil.disk_usage(part.parent).free
    if total is not None and total - done > free:
        raise DownloadError(
            f"{part.parent}: the download needs {(total - done) / 1e6:.1f} MB and the disk has "
            f"{free / 1e6:.1f} MB free; make room, or choose another folder with RESNET_RS_CACHE"
        )


def _begins(expected: str) -> str:
    return f"is {expected}" if len(expected) == 64 else f"begins with {expected}"


def _no_network(url: str, target: Path, cut: InterruptedDownload) -> str:
    return (
        f"{url}: cannot be reached ({cut}). Without a network, fetch this file elsewhere and put "
        f"it at {target}; with offline=True or RESNET_RS_OFFLINE=1 only the cache is looked at"
    )


def _given_up(url: str, target: Path, part: Path, cut: InterruptedDownload) -> str:
    kept = (
        f"{_size(part) / 1e6:.1f} MB are kept and the next attempt continues there"
        if _size(part)
        else f"fetch it elsewhere and put it at {target}, or try again later"
    )
    return f"{url}: given up after {_ATTEMPTS} attempts, the last one: {cut}; {kept}"

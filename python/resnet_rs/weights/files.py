"""The files that a network is read from, their stamps and their hashes."""

from __future__ import annotations

import errno
import os
from typing import TypeAlias

from .._core import WeightsError

Stamp: TypeAlias = tuple[tuple[int, int, int], ...]
"""The inode, the size in bytes and the time of the last change of each file."""

Fingerprint: TypeAlias = tuple[tuple[str, str], ...]
"""Names of files and their SHA-256 in hexadecimal."""

# A directory with more files than this (the text format has hundreds) gets one hash for all.
_MAX_NAMED = 4
_OWN_SUFFIXES = (".safetensors", ".json")
_OTHER_SUFFIXES = (*_OWN_SUFFIXES, ".bin", ".pt", ".pth", ".txt")


def config_beside(path: str) -> str:
    """Return the path at which a weights directory or file has its config, if it has one."""
    directory = path if os.path.isdir(path) else os.path.dirname(path)
    return os.path.join(directory, "config.json")


def files_of(path: str) -> list[str]:
    """List the files that decide the network at a path, in order.

    Args:
        path: a weights file or directory; an index of shards stands for its directory.

    Returns:
        The file, with the `config.json` beside a `.safetensors` file; or the files of a directory
        that have a suffix of weights or configs.

    Raises:
        FileNotFoundError: there is nothing at `path`.
        WeightsError: it is a symbolic link that leads back to itself.
    """
    try:
        os.stat(path)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise WeightsError(f"{path}: a symbolic link that leads back to itself") from None
        raise
    if path.endswith(".index.json"):
        path = os.path.dirname(path)
    if not os.path.isdir(path):
        config = config_beside(path)
        has_config = path.endswith(".safetensors") and os.path.exists(config)
        return [path, config] if has_config else [path]
    names = sorted(os.listdir(path))
    suffixes = _OWN_SUFFIXES if "model.safetensors" in names else _OTHER_SUFFIXES
    found = [os.path.join(path, name) for name in names if name.endswith(suffixes)]
    return [file for file in found if os.path.isfile(file)]


def stamp_of(path: str) -> Stamp:
    """Return a stamp that changes when a file is written or replaced.

    Raises:
        FileNotFoundError: there is nothing at `path`.
    """
    statuses = [os.stat(file) for file in files_of(path)]
    return tuple((status.st_ino, status.st_size, status.st_mtime_ns) for status in statuses)


def fingerprint_of(path: str) -> Fingerprint:
    """Hash the files, at about a gigabyte a second.

    Raises:
        FileNotFoundError: there is nothing at `path`.
    """
    hashes = tuple((os.path.basename(file), digest_of(file)) for file in files_of(path))
    if len(hashes) <= _MAX_NAMED:
        return hashes
    return ((f"{os.path.basename(path)}/ ({len(hashes)} files)", sha256_of(repr(hashes).encode())),)


def sha256_of(data: bytes) -> str:
    """Return the SHA-256 of bytes in hexadecimal."""
    import hashlib

    return hashlib.sha256(data).hexdigest()


def digest_of(path: str | os.PathLike[str]) -> str:
    """Hash a file; returns its SHA-256 in hexadecimal."""
    import hashlib

    digest = hashlib.sha256()
    buffer = memoryview(bytearray(1 << 20))
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
    return digest.hexdigest()

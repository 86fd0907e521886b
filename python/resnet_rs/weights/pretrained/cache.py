"""Where downloads are kept, and how processes that want the same file keep out of each other's way.

    <cache>/torchvision/resnet50-11ad3fa6.pth
    <cache>/hub/timm--resnet50.a1_in1k/main/{config.json, model.safetensors, ...}

`<cache>` is the argument `cache_dir`, else `RESNET_RS_CACHE`, else `$XDG_CACHE_HOME/resnet_rs`,
else `~/.cache/resnet_rs`. A file that was put there by hand counts as much as a downloaded one.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"", "0", "false", "no", "off"}
_BLOCK_BYTES = 1 << 20


def cache_folder(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """The folder that downloads go to; it need not exist yet."""
    if cache_dir is not None:
        return Path(cache_dir).expanduser()
    if chosen := os.environ.get("RESNET_RS_CACHE"):
        return Path(chosen).expanduser()
    # The XDG rules say that a relative path counts as unset.
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "resnet_rs"


def is_offline(offline: bool | None = None) -> bool:
    """Whether the network is left alone: the argument, else either environment variable.

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


@contextlib.contextmanager
def locked(target: Path) -> Iterator[None]:
    """Hold the right to write `target`; another process or thread that asks meanwhile waits.

    The lock is the operating system's, on a hidden file beside the target, so a process that ends
    gives it back however it ends. The hidden file stays: deleting it would let a third process
    lock a new file of the same name while a second one waits for the old.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target.with_name(f".{target.name}.lock"), "ab") as file:
        _take(file.fileno())
        yield


if sys.platform == "win32":

    def _take(descriptor: int) -> None:
        import msvcrt

        while True:
            try:
                msvcrt.locking(descriptor, msvcrt.LK_LOCK, 1)
                return
            except OSError:  # it gives up after ten seconds
                continue

else:

    def _take(descriptor: int) -> None:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX)


def sha256_of(path: Path) -> str:
    """The file's sha256 in hex, computed anew only when its size or time of change is another."""
    with contextlib.suppress(OSError, ValueError):
        kept, _, state = _mark_of(path).read_text("ascii").partition(" ")
        if state == _state_of(path):
            return kept
    digest = digest_of(path)
    remember(path, digest)
    return digest


def digest_of(path: Path) -> str:
    """Read the file and compute its sha256 in hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def remember(path: Path, digest: str) -> None:
    """Keep the file's sha256 in a hidden file beside it, for `sha256_of`."""
    # In a cache that is read-only the sum is computed each time.
    with contextlib.suppress(OSError):
        _mark_of(path).write_text(f"{digest} {_state_of(path)}", "ascii")


def _mark_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.sha256")


def _state_of(path: Path) -> str:
    status = path.stat()
    return f"{status.st_size} {status.st_mtime_ns}"

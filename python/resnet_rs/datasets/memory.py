"""The memory that the process may still take."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_UNKNOWN_BYTES = 2 << 30

# The files of a control group: its limit, its use, and the name in memory.stat of cached files,
# which count as use and are given back.
_VERSION_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_VERSION_2 = ("memory.max", "memory.current", "inactive_file")


def available_bytes(root: Path = Path("/")) -> int:
    """The memory that the process may still take, in bytes.

    It is that of the machine, or less if a control group of Linux limits it, as in containers. On
    systems that do not say, it is half of the machine's memory, or 2 GiB.

    Args:
        root: the folder of `proc` and `sys`.
    """
    machine = _of_machine(root)
    return max(0, min([machine, *_left_in_groups(root)]))


def _of_machine(root: Path) -> int:
    for line in _read(root / "proc/meminfo").splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) << 10
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, ValueError, OSError):
        return _UNKNOWN_BYTES


def _left_in_groups(root: Path) -> Iterator[int]:
    """The memory left in each group that the process is in, and in those around it."""
    mount = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if controllers and "memory" not in controllers.split(","):
            continue
        place, names = (mount / "memory", _VERSION_1) if controllers else (mount, _VERSION_2)
        path = PurePosixPath(group.lstrip("/"))
        for around in (path, *path.parents):
            left = _left(place / around, *names)
            if left is not None:
                yield left


def _left(group: Path, limit_name: str, used_name: str, cached_name: str) -> int | None:
    limit, used = _read(group / limit_name).strip(), _read(group / used_name).strip()
    if not limit.isdigit() or not used.isdigit():
        return None  # no limit, or no such group in this container
    cached = 0
    for line in _read(group / "memory.stat").splitlines():
        name, _, value = line.partition(" ")
        if name == cached_name:
            cached = int(value)
    return int(limit) - int(used) + cached


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""

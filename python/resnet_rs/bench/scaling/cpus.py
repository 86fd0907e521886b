"""The CPUs that a measurement divides, and the reason for their number."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...terminal.tables import plural
from ..system import threads_variable


@dataclass(frozen=True, slots=True)
class Cpus:
    """A number of CPUs, and what limits it.

    Attributes:
        counted: the number of CPUs that are divided: the threads that the model has.
        machine: the number of CPUs of the machine.
        affinity: the number of them that this process may run on.
        quota: the CPU time that the cgroup allows in each second, in seconds; None for any.
        asked_by: the flag or variable that states the number; None if it was counted.
    """

    counted: int
    machine: int
    affinity: int
    quota: float | None
    asked_by: str | None

    def __str__(self) -> str:
        limits = []
        if self.affinity < self.machine:
            limits.append(f"the affinity mask has {self.affinity}")
        if self.quota is not None:
            limits.append(f"the cgroup's quota is the time of {_cpus(self.quota)}")
        reason = f" ({'; '.join(limits)})" if limits else ""
        if self.asked_by is not None:
            usable = self.affinity
            if self.quota is not None:
                usable = min(usable, max(1, int(self.quota)))
            return f"{self.counted} by {self.asked_by}; usable: {usable} of {self.machine}{reason}"
        if self.counted == self.machine and not limits:
            return f"{self.counted}, all that this machine has"
        return f"{self.counted} of {self.machine}{reason}"


def count_cpus(threads: int, *, is_option: bool) -> Cpus:
    """Find out why a model has so many threads.

    Args:
        threads: the number of its threads.
        is_option: True if `--threads` stated it.
    """
    machine = os.cpu_count() or 1
    variable = threads_variable()
    return Cpus(
        counted=threads,
        machine=machine,
        affinity=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else machine,
        quota=cgroup_quota(),
        asked_by="--threads" if is_option else variable,
    )


def cgroup_quota(root: Path = Path("/")) -> float | None:
    """The CPU time that this process's cgroups allow in each second, in seconds; None for any.

    Args:
        root: the directory that has `proc` and `sys`.
    """
    quotas: list[float] = []
    with contextlib.suppress(OSError, UnicodeDecodeError):
        for line in (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, _, rest = line.partition(":")
            controllers, _, group = rest.partition(":")
            quotas += _quotas(root / "sys/fs/cgroup", controllers, group)
    return min(quotas, default=None)


def _quotas(mount: Path, controllers: str, group: str) -> Iterator[float]:
    """The quotas of a group and of those that it is in."""
    version_2 = not controllers
    if not version_2:
        if "cpu" not in controllers.split(","):
            return
        mount = next(
            (mount / name for name in (controllers, "cpu") if (mount / name).is_dir()), mount
        )
    relative = Path(group.lstrip("/"))
    for directory in (relative, *relative.parents):
        with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
            if version_2:
                limit, period = (mount / directory / "cpu.max").read_text("ascii").split()
            else:
                limit = (mount / directory / "cpu.cfs_quota_us").read_text("ascii")
                period = (mount / directory / "cpu.cfs_period_us").read_text("ascii")
            # No limit is the word `max`, or -1.
            if (quota := int(limit) / int(period)) > 0:
                yield quota


def _cpus(number: float) -> str:
    """Write a number of CPUs, which may have decimals: `1 CPU`, `2.5 CPUs`."""
    return plural(int(number), "CPU") if number == int(number) else f"{number:.3g} CPUs"

"""The CPUs that a measurement divides, and the reason for their number."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

from ..._core import cgroup_quota
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
                usable = min(usable, math.ceil(self.quota))
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


def _cpus(number: float) -> str:
    """Write a number of CPUs, which may have decimals: `1 CPU`, `2.5 CPUs`."""
    return plural(int(number), "CPU") if number == int(number) else f"{number:.3g} CPUs"

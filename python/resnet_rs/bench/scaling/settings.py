"""The ways to divide a machine's CPUs among calls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ...terminal.tables import plural

BATCHES_OF_ONE = (1, 8, 32)
"""The batches of one caller that has all threads."""

BATCHES_OF_SEVERAL = (1, 8)
"""The batches of several callers or processes: those of one photo, and those of folders."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to run a network's forwards.

    Attributes:
        processes: the number of processes.
        callers: the Python threads of each process that call the model, side by side.
        threads: the threads of a call, the caller's own included.
        batch: the images in a call.
    """

    processes: int
    callers: int
    threads: int
    batch: int

    @property
    def busy(self) -> int:
        """The number of threads that the setting may keep busy."""
        return self.processes * self.callers * self.threads

    @property
    def takes_turns(self) -> bool:
        """True if only one of a process's callers computes at a time.

        Calls of several threads share one team of threads; a call of one thread needs no team.
        """
        return self.callers > 1 and self.threads > 1

    @property
    def side(self) -> str:
        """The processes or the callers, as words: `4 processes`, `1 caller`."""
        if self.processes > 1:
            return plural(self.processes, "process", "processes")
        return plural(self.callers, "caller")

    def __str__(self) -> str:
        return f"{self.side} of {plural(self.threads, 'thread')}, batch {self.batch}"


def counts(cpus: int) -> list[int]:
    """The numbers 1, 2, 4, ... below `cpus`, and `cpus`."""
    found = []
    count = 1
    while count < cpus:
        found.append(count)
        count *= 2
    return [*found, cpus]


def latency_settings(cpus: int) -> list[Setting]:
    """One caller with one image, on ever more threads."""
    return [Setting(1, 1, threads, 1) for threads in counts(cpus)]


def throughput_settings(cpus: int, *, processes: bool) -> list[Setting]:
    """Ways to work on many images, each once.

    Args:
        cpus: the number of CPUs to divide.
        processes: False to leave out the settings of several processes.
    """
    return list(dict.fromkeys(_throughput_settings(cpus, processes=processes)))


def _throughput_settings(cpus: int, *, processes: bool) -> Iterator[Setting]:
    several = counts(cpus)[1:]
    for batch in BATCHES_OF_ONE:
        yield Setting(1, 1, cpus, batch)
    for callers in several:
        for batch in BATCHES_OF_SEVERAL:
            yield Setting(1, callers, 1, batch)
    for callers in several:
        yield Setting(1, callers, cpus // callers, 1)
    # A server with a model of default threads, and a request for each CPU.
    yield Setting(1, cpus, cpus, 1)
    if processes:
        for count in several:
            for batch in BATCHES_OF_SEVERAL:
                yield Setting(count, 1, cpus // count, batch)

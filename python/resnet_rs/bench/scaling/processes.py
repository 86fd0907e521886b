"""Processes that call a network side by side, as the workers of a server do.

They are forked from this one after the weights are loaded, so all of them share one copy.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..._core import Network
from .callers import timed_calls
from .figures import Call
from .settings import Setting

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import ForkProcess


def can_fork() -> bool:
    """Tell if a process of this system can be forked when it has threads."""
    return sys.platform == "linux"


class Processes:
    """Forked processes that wait until a turn is run on them; a context manager.

    Args:
        network: the network, which the processes share with this one.
        inputs: the batches by their number of images, likewise.
        count: the number of processes.

    Raises:
        OSError: the system has no room for them.
    """

    def __init__(
        self, network: Network, inputs: Mapping[int, NDArray[np.float32]], count: int
    ) -> None:
        self._processes: list[tuple[ForkProcess, Connection]] = []
        context = multiprocessing.get_context("fork")
        try:
            for _ in range(count):
                ours, theirs = context.Pipe()
                # A child holds the ends of this process that were open when it was forked.
                inherited = [ours, *(connection for _, connection in self._processes)]
                process = context.Process(
                    target=_serve, args=(network, inputs, theirs, inherited), daemon=True
                )
                with warnings.catch_warnings(), _interrupts_wait():
                    # Python warns of a fork with threads; the core is made for it.
                    warnings.simplefilter("ignore", DeprecationWarning)
                    process.start()
                theirs.close()
                self._processes.append((process, ours))
        except BaseException:
            self.close()
            raise

    def run(self, setting: Setting, seconds: float) -> list[list[Call]]:
        """Let the first processes call side by side; each makes one call first that is not timed.

        Args:
            setting: the number of processes, and the threads and the batch of their calls.
            seconds: how long each process goes on; it makes at least one call.

        Returns:
            The start and end of each process's calls.

        Raises:
            MemoryError: a process has too little memory.
            RuntimeError: a process has ended.
        """
        chosen = self._processes[: setting.processes]
        for _, connection in chosen:
            connection.send((setting.batch, setting.threads, seconds))
        for process, connection in chosen:
            _answer(process, connection)
        for _, connection in chosen:
            connection.send(None)
        return [_answer(process, connection) for process, connection in chosen]

    def close(self) -> None:
        """End the processes."""
        for process, _ in self._processes:
            process.kill()
        for process, connection in self._processes:
            process.join()
            connection.close()
        self._processes.clear()

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Keep Ctrl-C back, also in a child that is forked meanwhile."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _answer(process: ForkProcess, connection: Connection) -> Any:
    try:
        answer = connection.recv()
    except (EOFError, OSError):
        process.join()
        raise RuntimeError(
            f"a process that measured has ended with status {process.exitcode}: there may be too "
            "little memory for as many processes as there are CPUs. Measure fewer with --threads N"
        ) from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _serve(
    network: Network,
    inputs: Mapping[int, NDArray[np.float32]],
    connection: Connection,
    inherited: list[Connection],
) -> None:
    """Run turns until the parent process is gone."""
    # Ctrl-C reaches all processes of a terminal; the parent ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for other in inherited:
        other.close()
    with contextlib.suppress(EOFError, OSError):
        while True:
            batch, threads, seconds = connection.recv()
            try:
                network.logits(inputs[batch], threads=threads)
                connection.send(None)
                connection.recv()
                calls = timed_calls(network, inputs[batch], threads, seconds)
            except (MemoryError, RuntimeError, ValueError) as error:
                connection.send(error)
            else:
                connection.send(calls)

"""Callers: Python threads of this process that call one network side by side."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from ..._core import Network
from .figures import Call


def timed_calls(
    network: Network,
    x: NDArray[np.float32],
    threads: int,
    seconds: float,
    ended: threading.Event | None = None,
) -> list[Call]:
    """Call the network again and again, at least once.

    Args:
        network: the network.
        x: the batch of each call.
        threads: the threads of each call.
        seconds: how long to go on; the last call ends after that time.
        ended: ends the calls early.

    Returns:
        The start and end of each call by `time.perf_counter`.
    """
    calls = []
    start = time.perf_counter()
    stop = start + seconds
    while True:
        network.logits(x, threads=threads)
        end = time.perf_counter()
        calls.append((start, end))
        if end >= stop or (ended is not None and ended.is_set()):
            return calls
        start = time.perf_counter()


def run_callers(
    network: Network, x: NDArray[np.float32], *, callers: int, threads: int, seconds: float
) -> list[list[Call]]:
    """Let callers call one network side by side; first, each makes one call that is not timed.

    Args:
        network: the network that all of them share.
        x: the batch of each call.
        callers: the number of callers. One caller is the calling thread itself.
        threads: the threads of each call.
        seconds: how long each caller goes on; it makes at least one call.

    Returns:
        The start and end of each caller's calls.

    Raises:
        MemoryError, RuntimeError: there is too little memory, or the system starts no more threads.
    """
    if callers == 1:
        network.logits(x, threads=threads)
        return [timed_calls(network, x, threads, seconds)]
    all_ready = threading.Barrier(callers)
    ended = threading.Event()

    def work() -> list[Call]:
        try:
            network.logits(x, threads=threads)
            all_ready.wait()
            return timed_calls(network, x, threads, seconds, ended)
        except BaseException:
            # Nobody waits for this caller.
            ended.set()
            all_ready.abort()
            raise

    with ThreadPoolExecutor(callers, "resnet_rs-caller") as pool:
        futures: list[Future[list[Call]]] = []
        try:
            futures += [pool.submit(work) for _ in range(callers)]
            return [future.result() for future in futures]
        except threading.BrokenBarrierError:
            # The error of another caller has broken it.
            errors = (future.exception() for future in futures)
            raise next(
                error
                for error in errors
                if error is not None and not isinstance(error, threading.BrokenBarrierError)
            ) from None
        finally:
            # After Ctrl-C, and if the system starts no more threads.
            ended.set()
            all_ready.abort()

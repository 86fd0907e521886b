"""The measurement: every setting in turn, round after round."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Sequence

from ..._core import __version__
from ...options import Options
from ...terminal.progress import Progress, duration_text
from ..run import load_network, noise, warm_up
from ..system import cpu_model
from .callers import run_callers
from .cpus import count_cpus
from .figures import Turn, row_of
from .processes import Processes, can_fork
from .result import Scaling
from .settings import Setting, latency_settings, throughput_settings

TURN_SECONDS = 1.0
"""The time of a setting's calls in one round, at most; each caller makes at least one call."""

FEWEST_ROUNDS = 3


def measure_scaling(
    options: Options,
    *,
    size: tuple[int, int] | None = None,
    seconds: float = 5.0,
    progress: Progress,
) -> Scaling:
    """Measure latency over threads, and throughput over callers, processes, threads and batches.

    All settings run on one network: a call states its number of threads, and processes are forked
    from this one. Settings take turns, round after round, so that a slow phase of the machine
    slows all of them.

    Args:
        options: the weights, and how to load them. Its threads are the CPUs to divide.
        size: the height and width of the images; by default the size that the weights'
            preprocessing makes.
        seconds: how long to measure each setting.
        progress: where to show what is being done.

    Raises:
        FileNotFoundError, WeightsError, UnsupportedIsaError, ValueError: as `load_network` does.
        MemoryError: the activations do not fit in memory.
        OSError, RuntimeError: the system has no room for as many threads or processes.
    """
    progress.say("loading ...")
    loaded = load_network(options)
    network = loaded.network
    cpus = network.threads
    with_processes = can_fork() and cpus > 1
    latency = latency_settings(cpus)
    throughput = throughput_settings(cpus, processes=with_processes)
    settings = list(dict.fromkeys([*latency, *throughput]))
    largest = max(setting.batch for setting in settings)
    x = noise(largest, size or loaded.input_size, loaded.config.in_channels)
    inputs = {setting.batch: x[: setting.batch] for setting in settings}
    rounds = max(FEWEST_ROUNDS, math.ceil(seconds / TURN_SECONDS))

    with contextlib.ExitStack() as stack:
        # They are forked first, so that they share all that is in memory.
        processes = (
            stack.enter_context(Processes(network, inputs, cpus)) if with_processes else None
        )

        def run(setting: Setting, seconds: float) -> Turn:
            if setting.processes > 1:
                assert processes is not None
                return processes.run(setting, seconds)
            return run_callers(
                network,
                inputs[setting.batch],
                callers=setting.callers,
                threads=setting.threads,
                seconds=seconds,
            )

        progress.say("warming up ...")
        warm_up(network, inputs[1])
        turns = take_turns(
            run, settings, rounds=rounds, seconds=seconds / rounds, progress=progress
        )
    return Scaling(
        version=__version__,
        cpu=cpu_model(),
        cpus=count_cpus(cpus, is_option=options.threads is not None),
        precision=network.precision,
        isa=network.isa,
        winograd=network.winograd,
        height=x.shape[1],
        width=x.shape[2],
        rounds=rounds,
        seconds=seconds,
        rows=tuple(row_of(setting, turns[setting]) for setting in settings),
        latency=tuple(latency),
        throughput=tuple(throughput),
    )


def take_turns(
    run: Callable[[Setting, float], Turn],
    settings: Sequence[Setting],
    *,
    rounds: int,
    seconds: float,
    progress: Progress,
) -> dict[Setting, list[Turn]]:
    """Run every setting once in each round.

    Args:
        run: runs one turn of a setting, for some seconds.
        settings: the settings, in the order of a round.
        rounds: the number of rounds.
        seconds: the time of a turn.
        progress: where to show which setting runs, and the time that is left.

    Returns:
        Each setting's turns, one for each round.
    """
    turns: dict[Setting, list[Turn]] = {setting: [] for setting in settings}
    begin = time.perf_counter()
    done = 0
    for number in range(1, rounds + 1):
        for setting in settings:
            left = rounds * len(settings) - done
            # A turn takes longer than its seconds: it has a call that is not timed.
            each = (time.perf_counter() - begin) / done if done else seconds
            progress.say(
                f"round {number} of {rounds}, {duration_text(left * each)} left: {setting} ..."
            )
            turns[setting].append(run(setting, seconds))
            done += 1
    return turns

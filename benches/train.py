r"""Time steps of training beside torch: same network, first weights, batch, recipe and threads.

A step is forward, loss, gradients and SGD with momentum. Ours runs in f32 and, if the processor
multiplies bf16, with precision="bf16". torch runs contiguous and with channels
last, in f32 and, if the processor multiplies bf16, under bf16 autocast. The first step is
compared with torch in f64 before anything is timed. All trainers take turns in one process; memory
is measured in a process for each. What the columns mean is in benches/README.md.

Examples:
  python benches/train.py
  python benches/train.py --architecture resnet50 --task 64x32 --threads 2 --rounds 10
  python benches/train.py --only torch-channels-last --steps
  python benches/train.py --only --steps --task 224x16     # ours alone, step by step
"""

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))

from peer_runtimes.arguments import positive
from peer_runtimes.report import machine_line, write_csv
from peer_runtimes.rounds import Timing, time_interleaved
from resnet_rs import _core
from training_runtimes import memory, steps
from training_runtimes.ours import Ours
from training_runtimes.report import Row, table
from training_runtimes.runtime import Runtime
from training_runtimes.runtimes import NAMES, OURS, TORCH, default_names, make
from training_runtimes.task import Task

RESULTS = Path(__file__).resolve().parent / "results"

CHECKED_STEPS = 2

LARGEST_ERROR = {"f32": 5e-2, "bf16": 5e-2}
"""A trainer that is further from torch in f64 does not train the same network. Networks with random
weights enlarge roundings: in f32 the fall of the loss by a step differs by a thousandth."""

LARGEST_LOSS_ERROR = {"f32": 1e-4, "bf16": 5e-2}
"""Of the first loss, which no step has changed."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure as the arguments say; return 1 if ours did not run or computed wrong losses."""
    arguments = parse_arguments(argv)
    machine = machine_line()
    print(machine)
    rows: list[Row] = []
    for task, threads in tasks(arguments):
        runtimes = [
            make(name, arguments.isa, not arguments.no_winograd) for name in arguments.names
        ]
        measured = measure(runtimes, task, threads, arguments)
        print(f"\n{table(measured)}", flush=True)
        rows += measured
        if arguments.steps:
            print_steps(runtimes, task, threads, arguments.rounds)
    write_csv(arguments.csv, rows, machine)
    print(f"\nwrote {arguments.csv}")
    return int(any(row.runtime in OURS and row.images_per_s is None for row in rows))


def tasks(arguments: argparse.Namespace) -> Iterator[tuple[Task, int]]:
    """Every network at every size and batch, with every number of threads."""
    settings = product(arguments.architecture, arguments.task, arguments.threads)
    for architecture, (size, batch), threads in settings:
        yield Task(architecture, batch, size), threads


def measure(
    runtimes: Sequence[Runtime], task: Task, threads: int, arguments: argparse.Namespace
) -> list[Row]:
    """Load, check and time trainers: a row for each."""
    has_peers = any(runtime.name not in OURS for runtime in runtimes)
    expected = expected_losses(task, threads) if has_peers else None
    errors: dict[str, float | None] = {}
    notes: dict[str, str] = {}
    for runtime in runtimes:
        progress(f"loading {runtime.name}, {task.architecture}, {threads} thread(s) ...")
        try:
            runtime.load(task, threads)
            losses = [runtime() for _ in range(CHECKED_STEPS)]
            errors[runtime.name] = checked_error(runtime.precision, losses, expected)
        except ModuleNotFoundError as missing:
            notes[runtime.name] = f"missing: {missing.name} is not installed"
        except Exception as failure:  # A peer that breaks must not end the comparison.
            first_line = (str(failure).splitlines() or [""])[0]
            notes[runtime.name] = f"failed: {type(failure).__name__}: {first_line}"

    ready = [runtime for runtime in runtimes if runtime.name in errors]
    progress(f"timing {arguments.rounds} rounds of {len(ready)} trainers ...")
    timings = time_interleaved(ready, arguments.rounds, arguments.calls)
    rows = []
    for runtime in runtimes:
        name = runtime.name
        setting = (runtime.precision, getattr(runtime, "version", ""), task.batch, task.size)
        if name in notes:
            rows.append(Row(task.architecture, name, *setting, threads, note=notes[name]))
            continue
        used = None if arguments.no_memory else memory_of(name, task, threads, arguments)
        rows.append(
            Row(
                task.architecture,
                name,
                *setting,
                threads,
                images_per_s=task.batch / timings[name].median_s,
                best_images_per_s=task.batch / timings[name].min_s,
                ours_over_best=ratio_to_best(runtime, ready, timings),
                error=errors[name],
                peak_mb=used.peak_mb if used else None,
                own_mb=used.peak_mb - used.imported_mb if used else None,
            )
        )
    return rows


def memory_of(
    name: str, task: Task, threads: int, arguments: argparse.Namespace
) -> memory.Memory | None:
    """The memory of a trainer with the choices that it is timed with."""
    return memory.measure(name, task, threads, arguments.isa, not arguments.no_winograd)


def expected_losses(task: Task, threads: int) -> list[float] | None:
    """The losses of the first steps by torch in f64; None if torch is not installed."""
    progress(f"{task.architecture}, {task.size} x {task.size}: losses by torch in f64 ...")
    try:
        yardstick = make("torch-f64")
    except ModuleNotFoundError:
        return None
    yardstick.load(task, threads)
    return [yardstick() for _ in range(CHECKED_STEPS)]


def checked_error(
    precision: str, losses: Sequence[float], expected: Sequence[float] | None
) -> float | None:
    """The relative error of the fall of the loss by the first step; in bf16, of the first loss.

    The fall depends on every gradient and on the optimiser. In bf16 it says too little. Without
    losses to compare with, the error is None.

    Raises:
        ValueError: the losses are too far from those that are expected, or no numbers.
    """
    if not all(map(math.isfinite, losses)):
        raise ValueError(f"wrong losses: {', '.join(map(str, losses))}")
    if expected is None:
        return None
    first = abs(losses[0] / expected[0] - 1)
    fall, right = losses[0] - losses[1], expected[0] - expected[1]
    error = abs(fall / right - 1) if precision == "f32" else first
    if not (first <= LARGEST_LOSS_ERROR[precision] and error <= LARGEST_ERROR[precision]):
        raise ValueError(f"wrong losses: relative errors {first:.1e} and {error:.1e}")
    return error


def ratio_to_best(
    runtime: Runtime, ready: Sequence[Runtime], timings: dict[str, Timing]
) -> float | None:
    """How many times the speed of the fastest peer of its precision ours has."""
    peers = [
        timings[peer.name]
        for peer in ready
        if peer.name in TORCH and peer.precision == runtime.precision
    ]
    if runtime.name not in OURS or not peers:
        return None
    return min(peers, key=lambda timing: timing.median_s).ratio_to(timings[runtime.name])


def print_steps(runtimes: Sequence[Runtime], task: Task, threads: int, rounds: int) -> None:
    """Print what each kind of step, each stage and each layer of ours takes."""
    for runtime in runtimes:
        if not isinstance(runtime, Ours):
            continue
        plan, seconds = steps.measure(task, runtime.trainer, rounds)
        # The share of a peak in f32: products in bf16 may take twice as much.
        peak = steps.peak_of(runtime.trainer.isa, threads)
        print(
            f"\n{runtime.name}, {runtime.precision}: peak {peak / 1e9:.1f} GMAC/s on {threads} "
            "thread(s); a median of each step, without the optimiser"
        )
        for title, key in (
            ("kind of step", steps.kind_of),
            ("stage", steps.stage_of),
            ("layer", steps.layer_of),
        ):
            print(steps.table(steps.grouped(plan, seconds, key), title, peak))
            print()


def progress(text: str) -> None:
    """Say on stderr what takes time, so that stdout holds results alone."""
    print(text, file=sys.stderr, flush=True)


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; `--help` describes it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "--architecture",
        nargs="+",
        choices=_core.architectures(),
        default=["resnet50", "resnet18"],
        metavar="NAME",
        help="networks (default: resnet50 resnet18)",
    )
    add(
        "--task",
        type=size_and_batch,
        nargs="+",
        default=[(64, 32), (224, 16)],
        metavar="SIZExBATCH",
        help="side of the images and images in a step (default: 64x32 224x16)",
    )
    add("--threads", type=positive, nargs="+", default=[2], metavar="N", help="(default: 2)")
    add("--rounds", type=positive, default=7, metavar="N", help="(default: 7)")
    add("--calls", type=positive, default=2, metavar="N", help="timed steps in a turn (default: 2)")
    add("--only", nargs="*", choices=TORCH, metavar="PEER", help=f"of {', '.join(TORCH)}; or none")
    tiers = ("portable", "avx2", "avx512")
    add("--isa", choices=tiers, help="the tier of resnet_rs (default: the fastest)")
    add("--no-winograd", action="store_true", help="ours without Winograd's algorithm")
    add("--no-memory", action="store_true", help="do not measure memory")
    add(
        "--steps",
        action="store_true",
        help="also the time of each kind of step, stage and layer of ours",
    )
    add("--csv", type=Path, default=RESULTS / "train.csv", metavar="FILE", help="(%(default)s)")
    arguments = parser.parse_args(argv)
    names = default_names(arguments.isa)
    ours = [name for name in names if name in OURS]
    chosen = names if arguments.only is None else [*ours, *arguments.only]
    arguments.names = [name for name in NAMES if name in chosen]
    return arguments


def size_and_batch(text: str) -> tuple[int, int]:
    """Parse `64x32`: images of 64 x 64 pixels, 32 in a step.

    Raises:
        ValueError: anything else, or a number below 1.
    """
    size, batch = map(positive, text.split("x"))
    return size, batch


if __name__ == "__main__":
    sys.exit(main())

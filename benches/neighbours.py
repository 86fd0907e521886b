r"""Measure forwards on a machine that others want too: too many threads, quotas, busy programs.

- one process that has all CPUs;
- two and four processes that each have as many threads as there are CPUs;
- a process beside a neighbour, a program that keeps one CPU busy;
- a process under a quota of half the CPUs, as a container has it: with a thread for each CPU, with
  the quota rounded down, and with the number that it chooses by itself. This takes the right to
  make control groups (root).

All settings take turns, so that a change of the machine's speed hits them alike. *of its share* is
the images a second of all processes of a setting, by those that one process makes with the same
part of the CPUs, the median over rounds: 1.00 means that nothing is lost. Beside a neighbour there
is no such figure, because the system divides the CPUs. *p99* is that of the slowest process.

`--before` names the directory `python/` of another checkout, its core built: both are measured, in
turns.

Examples:
  python benches/neighbours.py
  python benches/neighbours.py --batch 8 --seconds 6
  python benches/neighbours.py --quota 1.5
  python benches/neighbours.py --before ../before/python
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import resnet_rs
from neighbour_processes.quota import NoQuotaError, quota
from peer_runtimes.arguments import add_weights, positive
from peer_runtimes.report import machine_line
from resnet_rs._core import default_threads
from resnet_rs.terminal.tables import text_table

CHILD = Path(__file__).resolve().parent / "neighbour_processes" / "child.py"
SPIN = "while True: pass"
HEADER = ["setting", "batch", "images/s", "of its share", "p50 ms", "p99 ms"]


@dataclass(frozen=True)
class Turn:
    """The result of a setting in one round.

    Attributes:
        images_s: images a second of all its processes.
        p50_s: seconds of a call, the median over the processes.
        p99_s: of the slowest process.
    """

    images_s: float
    p50_s: float
    p99_s: float


@dataclass
class Setting:
    """Some processes that run at the same time.

    Attributes:
        name: of the setting, as the table has it.
        processes: its children, which wait.
        share: the part of the machine that it may use; None if others decide.
        neighbour: True if another program is busy meanwhile.
        turns: what it made in each round.
    """

    name: str
    processes: list[subprocess.Popen[str]]
    share: float | None = 1.0
    neighbour: bool = False
    turns: list[Turn] = field(default_factory=list)

    def take_turn(self, seconds: float) -> None:
        """Let all its processes run."""
        with busy_neighbour() if self.neighbour else contextlib.nullcontext():
            for process in self.processes:
                tell(process, f"{seconds}")
            said = [list(map(float, hear(process).split())) for process in self.processes]
        images_s, p50_s, p99_s = zip(*said, strict=True)
        self.turns.append(Turn(sum(images_s), median(p50_s), max(p99_s)))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure as the arguments say, and print a table for each checkout."""
    arguments = parse_arguments(argv)
    print(machine_line())
    here = Path(resnet_rs.__file__).resolve().parents[1]
    checkouts = [arguments.before.resolve(), here] if arguments.before else [here]
    for batch in arguments.batch:
        measure(checkouts, batch, arguments)
    return 0


def measure(checkouts: list[Path], batch: int, arguments: argparse.Namespace) -> None:
    """Measure every setting of every checkout in turns; print the results."""
    with contextlib.ExitStack() as stack:
        try:
            group = stack.enter_context(quota(quota_of(arguments)))
        except NoQuotaError as error:
            print(f"no settings with a quota: {error}", file=sys.stderr)
            group = None
        of_checkout = [settings(stack, each, batch, group, arguments) for each in checkouts]
        every = [setting for each in of_checkout for setting in each]
        for number in range(arguments.rounds):
            print(f"batch {batch}: round {number + 1} of {arguments.rounds}", file=sys.stderr)
            for setting in every if number % 2 else every[::-1]:
                setting.take_turn(arguments.seconds)
        for checkout, measured in zip(checkouts, of_checkout, strict=True):
            print(f"\n{checkout}" if arguments.before else "")
            print(
                text_table([HEADER, *(row(each, measured[0], batch) for each in measured)], left=1)
            )


def settings(
    stack: contextlib.ExitStack,
    checkout: Path,
    batch: int,
    group: Path | None,
    arguments: argparse.Namespace,
) -> list[Setting]:
    """The settings of one checkout, their processes ready; the first one is one process."""
    cpus = arguments.threads

    def child(threads: int, group: Path | None = None) -> tuple[subprocess.Popen[str], int]:
        command = [sys.executable, str(CHILD), str(arguments.weights), str(threads), str(batch)]
        process = subprocess.Popen(
            [*command, str(arguments.size)],
            env={**os.environ, "PYTHONPATH": str(checkout)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        stack.callback(end, process)
        hear(process)
        if group is not None:
            group.write_text(str(process.pid))
        tell(process, "load")
        threads_taken, _, file = hear(process).partition(" ")
        if not file.startswith(str(checkout)):
            raise SystemExit(f"{file} was imported, not the package in {checkout}")
        return process, int(threads_taken)

    processes = [child(cpus)[0] for _ in range(4)]
    threads = f"{cpus} thread{'s' * (cpus > 1)}"
    found = [
        Setting(f"1 process, {threads}", processes[:1]),
        Setting(f"2 processes, {threads} each", processes[:2]),
        Setting(f"4 processes, {threads} each", processes),
        Setting(f"1 process, {threads}, a busy neighbour", processes[:1], None, neighbour=True),
    ]
    if group is not None:
        allowed = quota_of(arguments)
        process, default = child(0, group)
        of_threads = {default: process}
        for wanted in {max(1, int(allowed)), cpus} - {default}:
            of_threads[wanted], _ = child(wanted, group)
        for taken in sorted(of_threads):
            chosen = " (the default)" if taken == default else ""
            name = f"a quota of {allowed:g} CPU{'s' * (allowed != 1)}, threads={taken}{chosen}"
            found.append(Setting(name, [of_threads[taken]], allowed / cpus))
    return found


def quota_of(arguments: argparse.Namespace) -> float:
    """The CPUs that a quota allows."""
    return float(arguments.quota or arguments.threads / 2)


@contextlib.contextmanager
def busy_neighbour() -> Iterator[None]:
    """A program of one thread that computes all the time."""
    process = subprocess.Popen([sys.executable, "-c", SPIN])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def row(setting: Setting, one: Setting, batch: int) -> list[str]:
    """One line of the table: medians over the rounds."""
    share = "-"
    if setting.share is not None:
        pairs = zip(setting.turns, one.turns, strict=True)
        ratios = [own.images_s / (whole.images_s * setting.share) for own, whole in pairs]
        share = f"{median(ratios):.2f}"
    return [
        setting.name,
        f"{batch}",
        f"{median(turn.images_s for turn in setting.turns):.1f}",
        share,
        f"{median(turn.p50_s for turn in setting.turns) * 1e3:.1f}",
        f"{median(turn.p99_s for turn in setting.turns) * 1e3:.1f}",
    ]


def end(process: subprocess.Popen[str]) -> None:
    """End a child; its control group can be removed then."""
    process.kill()
    process.wait()


def tell(process: subprocess.Popen[str], line: str) -> None:
    """Write a line to a child."""
    assert process.stdin is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


def hear(process: subprocess.Popen[str]) -> str:
    """Read a line of a child; its traceback is on stderr if it has ended."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"a process ended with status {process.wait()}")
    return line.strip()


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; `--help` describes it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    cpus = default_threads()
    add(
        "--threads",
        type=positive,
        default=cpus,
        metavar="N",
        help="(default: the CPUs, %(default)s)",
    )
    add("--batch", type=positive, nargs="+", default=[1, 8], metavar="N", help="(default: 1 8)")
    add("--quota", type=float, metavar="CPUS", help="(default: half the CPUs)")
    add("--size", type=positive, default=224, metavar="N", help="the images' side (default: 224)")
    add("--seconds", type=float, default=4.0, metavar="S", help="of a turn (default: 4)")
    add("--rounds", type=positive, default=5, metavar="N", help="(default: 5)")
    add("--before", type=Path, metavar="DIR", help="`python/` of a checkout to compare with")
    add_weights(parser)
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())

r"""Measure what int8 costs and saves beside f32: calibration, size, start of a process, memory.

Calibration and the forwards of its photos take turns in one process, with the photos decoded
before. Start and memory are those of new processes, f32 and int8 in turns: import, load, decode a
photo, run it once (`cold_start.py` is the same beside other runtimes). Files are in the page cache.

This process imports nothing large: on Linux a child's peak memory counts from its fork on, so no
child could seem smaller than its parent.

Examples:
  python benches/int8.py
  python benches/int8.py --quick
  python benches/int8.py --photos photos/ --weights weights/ --threads 1
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from cold_start import HERE, PHOTO, run_child
from peer_runtimes.arguments import positive
from peer_runtimes.report import machine_line

ASKED = {"calibration": 1.5, "size": 0.27, "start": 0.75, "memory": 0.5}
"""The largest ratios that are asked for."""

COUNT, ROUNDS, STARTS = 300, 3, 10
QUICK_COUNT, QUICK_ROUNDS, QUICK_STARTS = 32, 1, 3


@dataclass(frozen=True)
class Figure:
    """One ratio.

    Attributes:
        name: a key of `ASKED`.
        what: the line's text, with the unit.
        f32: the figure that divides.
        int8: the figure that is divided.
        ratio: of them, or the median over rounds.
    """

    name: str
    what: str
    f32: float
    int8: float
    ratio: float

    @property
    def is_met(self) -> bool:
        """True if the ratio is at most the one that is asked for."""
        return self.ratio <= ASKED[self.name]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure as the arguments say; returns 0 whether or not the ratios are met."""
    arguments = parse_arguments(argv)
    print(machine_line())
    with tempfile.TemporaryDirectory(prefix="resnet_rs-int8-") as scratch:
        say("making the models ...")
        photos = str(arguments.photos.resolve())
        weights = [] if arguments.weights is None else [str(arguments.weights.resolve())]
        files = child("files", scratch, photos, *weights)
        timed = child(
            "calibration",
            *(files["f32"], photos, arguments.count, arguments.rounds, arguments.threads),
        )
        figures = [
            calibration(timed, arguments.count),
            size(files),
            *starts(files, arguments.threads, arguments.starts),
        ]
    print_table(figures, arguments, timed["method"])
    return 0


def child(module: str, *arguments: object) -> Any:
    """Run a module of `int8_processes` and parse what it prints."""
    command = [sys.executable, "-m", f"int8_processes.{module}", *map(str, arguments)]
    result = subprocess.run(command, cwd=HERE, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(result.stdout)


def calibration(timed: dict[str, Any], count: int) -> Figure:
    """The time of a calibration by that of its photos' forwards, round by round."""
    pairs = list(zip(timed["forwards"], timed["quantize"], strict=True))
    return Figure(
        "calibration",
        f"calibration of {count} photos, s",
        median(timed["forwards"]),
        median(timed["quantize"]),
        median(whole / forwards for forwards, whole in pairs),
    )


def size(files: dict[str, str]) -> Figure:
    """The sizes of the directories."""
    f32, int8 = (
        sum(file.stat().st_size for file in Path(files[name]).iterdir()) / 1e6
        for name in ("f32", "int8")
    )
    return Figure("size", "directory, MB", f32, int8, int8 / f32)


def starts(files: dict[str, str], threads: int, rounds: int) -> list[Figure]:
    """Start a process of each precision in every round, after one that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in files}
    peaks: dict[str, list[float]] = {name: [] for name in files}
    for turn in range(rounds + 1):
        say(f"starts, round {turn} of {rounds} ...")
        # The order changes, so that neither always follows the other.
        for name in sorted(files, reverse=turn % 2 == 1):
            _, took, peak_mb = run_child("resnet_rs", {"weights": files[name]}, threads)
            if turn > 0:
                seconds[name].append(took)
                peaks[name].append(peak_mb)
    return [
        _pair("start", "process start to first prediction, ms", seconds, 1e3),
        _pair("memory", "peak memory of that process, MB", peaks, 1.0),
    ]


def _pair(name: str, what: str, values: dict[str, list[float]], unit: float) -> Figure:
    f32, int8 = (median(values[precision]) * unit for precision in ("f32", "int8"))
    return Figure(name, what, f32, int8, int8 / f32)


def print_table(figures: Sequence[Figure], arguments: argparse.Namespace, method: str) -> None:
    """Print a row for each figure beside what is asked, and all ratios in one line."""
    print(
        f"\n{arguments.threads} thread(s), medians of {arguments.rounds} calibration(s) "
        f"(auto took {method}) and {arguments.starts} starts"
    )
    print(f"{'':<38} {'f32':>8} {'int8':>8} {'ratio':>6}  {'asked':<8}")
    for one in figures:
        print(
            f"{one.what:<38} {one.f32:8.1f} {one.int8:8.1f} {one.ratio:6.3f}  "
            f"<= {ASKED[one.name]:<5g} {'met' if one.is_met else 'MISSED'}"
        )
    print("f32 of the calibration: the forwards of the same photos")
    by_name = {one.name: one for one in figures}

    def beside(name: str) -> str:
        return f"{by_name[name].ratio:.2f} (<= {ASKED[name]:g})"

    print(
        f"\nCalibration of {arguments.count} photos {beside('calibration')} x forwards; quantised "
        f"directory {beside('size')} of f32's; process start to first prediction in int8 "
        f"{beside('start')} of f32's; peak memory {beside('memory')}"
    )


def say(text: str) -> None:
    """Say on stderr what takes time, so that stdout holds results alone."""
    print(text, file=sys.stderr, flush=True)


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; `--help` describes it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    add = parser.add_argument
    add("--threads", type=positive, default=cores, metavar="N", help="(default: %(default)s)")
    add("--weights", type=Path, metavar="DIR", help="f32 weights (default: random weights)")
    add(
        "--photos",
        type=Path,
        default=PHOTO.parent,
        metavar="FOLDER",
        help="photos to calibrate with (default: those of the demo model)",
    )
    add("--count", type=positive, metavar="N", help=f"photos (default: {COUNT})")
    add("--rounds", type=positive, metavar="N", help=f"calibrations (default: {ROUNDS})")
    add("--starts", type=positive, metavar="N", help=f"starts (default: {STARTS})")
    add(
        "--quick",
        action="store_true",
        help=f"a try: by default {QUICK_COUNT} photos, {QUICK_ROUNDS} calibration and "
        f"{QUICK_STARTS} starts. What `auto` does once counts for more beside fewer photos",
    )
    arguments = parser.parse_args(argv)
    quick = arguments.quick
    arguments.count = arguments.count or (QUICK_COUNT if quick else COUNT)
    arguments.rounds = arguments.rounds or (QUICK_ROUNDS if quick else ROUNDS)
    arguments.starts = arguments.starts or (QUICK_STARTS if quick else STARTS)
    return arguments


if __name__ == "__main__":
    sys.exit(main())

r"""Time a process from its start to its first prediction, and its memory, beside other runtimes.

Every run is a new process that imports a runtime, loads an ImageNet-size model, decodes and
preprocesses a photo to 224 x 224, and runs it once. Files are in the page cache.

This process imports nothing large: on Linux a child's peak memory counts from its fork on, so no
child could seem smaller than its parent.

Examples:
  python benches/cold_start.py
  python benches/cold_start.py --threads 1 --rounds 20
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from cold_start_runtimes.child import MISSING, RUNTIMES
from peer_runtimes.arguments import positive
from peer_runtimes.report import machine_line

HERE = Path(__file__).resolve().parent
CHILD = HERE / "cold_start_runtimes" / "child.py"
PHOTO = HERE.parent / "examples" / "sign-digits" / "photos" / "5_IMG_4418.jpg"

YARDSTICK = "onnxruntime"
MODEL_FILES = {"onnxruntime": "onnx", "openvino": "onnx", "ncnn": "ncnn"}
"""Which file a runtime loads; the others take the weights directory."""

LOGIT_TOLERANCE = 1e-3
"""Relative: f32 in another order gives 1e-6, narrower types or another resize give more."""

ORDER_SEED = 0
RSS_UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes of a unit of `ru_maxrss`."""


@dataclass
class Runs:
    """The runs of one runtime; `note` says why there are none."""

    seconds: list[float] = field(default_factory=list)
    peak_mb: list[float] = field(default_factory=list)
    answer: str = ""
    note: str = ""


class RunError(Exception):
    """A child that made no prediction; the message says why."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure as the arguments say; return 1 if ours failed or the answers differ."""
    arguments = parse_arguments(argv)
    print(machine_line())
    with tempfile.TemporaryDirectory(prefix="resnet_rs-cold-start-") as scratch:
        print("making the models ...", file=sys.stderr, flush=True)
        files = make_files(scratch, arguments.weights)
        runs = measure(files, arguments.threads, arguments.rounds)
    print_table(runs, arguments.threads, arguments.rounds)
    wrong = disagreeing(runs)
    if wrong:
        print(f"these do not predict what resnet_rs does: {', '.join(wrong)}", file=sys.stderr)
    return int(bool(wrong) or not runs["resnet_rs"].seconds)


def make_files(scratch: str, weights: Path | None) -> dict[str, str | None]:
    """Make the models in a process of its own: format to path, None where it cannot be made."""
    command = [sys.executable, "-m", "cold_start_runtimes.files", scratch]
    if weights is not None:
        command.append(str(weights.resolve()))
    result = subprocess.run(command, cwd=HERE, stdout=subprocess.PIPE, text=True, check=True)
    files: dict[str, str | None] = json.loads(result.stdout)
    return files


def measure(files: dict[str, str | None], threads: int, rounds: int) -> dict[str, Runs]:
    """Start every runtime in every round, in an order that changes, after a run not counted."""
    runs = {name: Runs() for name in RUNTIMES}
    shuffler = random.Random(ORDER_SEED)
    for turn in range(rounds + 1):
        print(f"round {turn} of {rounds} ...", file=sys.stderr, flush=True)
        for name in shuffler.sample(list(runs), len(runs)):
            if runs[name].note:
                continue
            try:
                answer, seconds, peak_mb = run_child(name, files, threads)
            except RunError as error:
                runs[name] = Runs(note=str(error))
                continue
            runs[name].answer = answer
            if turn > 0:
                runs[name].seconds.append(seconds)
                runs[name].peak_mb.append(peak_mb)
    return runs


def run_child(name: str, files: dict[str, str | None], threads: int) -> tuple[str, float, float]:
    """Run one process.

    Returns:
        The line that it prints, the seconds from its start to that line, and its peak resident
        memory in 10^6 bytes.

    Raises:
        RunError: the runtime or its converter is missing, or it failed.
    """
    model = files[MODEL_FILES.get(name, "weights")]
    if model is None:
        raise RunError("missing: what converts the model is not installed")
    with tempfile.TemporaryFile("w+") as errors:
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, str(CHILD), name, model, str(PHOTO), str(threads)],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        assert process.stdout is not None
        answer = process.stdout.readline().strip()
        seconds = time.perf_counter() - start
        process.stdout.close()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode == MISSING:
            raise RunError(f"missing: {answer}")
        if process.returncode != 0:
            errors.seek(0)
            last = (errors.read().strip().splitlines() or [""])[-1]
            raise RunError(f"failed with status {process.returncode}: {last}")
    return answer, seconds, usage.ru_maxrss * RSS_UNIT / 1e6


def disagreeing(runs: dict[str, Runs]) -> list[str]:
    """The runtimes whose best class or its logit is not ours."""
    told = {name: run.answer.split() for name, run in runs.items() if run.seconds}
    told.pop("numpy and Pillow", None)
    ours = told.get("resnet_rs")
    if ours is None:
        return []
    logit = float(ours[1])
    return [
        name
        for name, (index, value) in told.items()
        if index != ours[0] or abs(float(value) - logit) > LOGIT_TOLERANCE * abs(logit)
    ]


def print_table(runs: dict[str, Runs], threads: int, rounds: int) -> None:
    """Print a row for each runtime, fastest first."""
    print(f"\nprocess start to first prediction, {threads} thread(s), median of {rounds} processes")
    print(
        f"{'runtime':<18} {'ms':>7} {'min ms':>7} {'ratio':>6} {'peak MB':>8} {'ratio':>6}  version"
    )
    yardstick = runs[YARDSTICK]
    for name, run in sorted(runs.items(), key=lambda item: min(item[1].seconds, default=1e9)):
        if not run.seconds:
            print(f"{name:<18} {run.note}")
            continue
        ms, peak = statistics.median(run.seconds) * 1e3, statistics.median(run.peak_mb)
        slower, larger = "", ""
        if yardstick.seconds:
            slower = f"{ms / 1e3 / statistics.median(yardstick.seconds):.2f}"
            larger = f"{peak / statistics.median(yardstick.peak_mb):.2f}"
        print(
            f"{name:<18} {ms:7.0f} {min(run.seconds) * 1e3:7.0f} {slower:>6} {peak:8.0f} "
            f"{larger:>6}  {version_of(name)}"
        )
    print(f"ratio: to {YARDSTICK}; peak MB: resident memory, 10^6 bytes")


def version_of(name: str) -> str:
    """The installed version of the runtime's package."""
    package = "numpy" if name == "numpy and Pillow" else name.split()[0]
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; `--help` describes it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    add = parser.add_argument
    add("--threads", type=positive, default=cores, metavar="N", help="(default: %(default)s)")
    add("--rounds", type=positive, default=10, metavar="N", help="(default: %(default)s)")
    add("--weights", type=Path, metavar="DIR", help="weights directory (default: random weights)")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())

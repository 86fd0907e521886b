"""Feed damaged input to every reader for a given time, and count what happens.

    python tools/fuzz.py --time 1h --seed 100

Half of the time goes to the core: cargo-fuzz runs each target of fuzz/ (config.json, a
.safetensors file up to the logits, text files of numbers), beginning with fuzz/seeds/ and the
inputs that earlier runs have found. The other half goes to the package: the tests of damaged files,
again and again with further seeds.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FUZZ = ROOT / "fuzz"
TARGETS = ("config", "network", "numbers")
UNITS = {"s": 1, "m": 60, "h": 3600}
LIMITS = ["-rss_limit_mb=2048", "-timeout=20", "-max_len=8192", "-print_final_stats=1"]
_EXECUTED = re.compile(r"stat::number_of_executed_units:\s*(\d+)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run for the given time; returns 1 if anything crashed or failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--time", type=seconds, default="10m", help="such as 90s, 10m or 1h")
    parser.add_argument("--seed", type=int, default=1, help="the first seed of the package's tests")
    parser.add_argument("--only", choices=("core", "package"), help="one of the two halves")
    arguments = parser.parse_args(argv)
    share = arguments.time / (2 if arguments.only is None else 1)
    lines, failures = [], 0
    if arguments.only != "package":
        for target in TARGETS:
            line, failed = fuzz_core(target, max(1, round(share / len(TARGETS))), arguments.seed)
            lines.append(line)
            failures += failed
    if arguments.only != "core":
        line, failed = fuzz_package(share, arguments.seed)
        lines.append(line)
        failures += failed
    print("\n" + "\n".join(lines))
    return 1 if failures else 0


def seconds(text: str) -> float:
    """Read a time such as `90s`, `10m` or `1h`; a plain number is seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"expected a time such as 90s, 10m or 1h; got {text!r}")
    return float(match[1]) * UNITS[match[2] or "s"]


def fuzz_core(target: str, limit: int, seed: int) -> tuple[str, bool]:
    """Run one target for `limit` seconds; returns a line of counts, and True if it crashed."""
    build = ["cargo", "+nightly", "fuzz", "build", "--fuzz-dir", str(FUZZ), target]
    subprocess.run(build, cwd=FUZZ, check=True)
    corpus = FUZZ / "corpus" / target
    corpus.mkdir(parents=True, exist_ok=True)
    command = ["cargo", "+nightly", "fuzz", "run", "--fuzz-dir", str(FUZZ), target, str(corpus)]
    command += [str(FUZZ / "seeds" / target), "--", f"-max_total_time={limit}", f"-seed={seed}"]
    command += LIMITS
    dictionary = FUZZ / f"{target}.dict"
    if dictionary.exists():
        command.append(f"-dict={dictionary}")
    done = subprocess.run(
        command, cwd=FUZZ, stderr=subprocess.PIPE, text=True, errors="replace", check=False
    )
    for left in Path("/dev/shm").glob("resnet_rs-fuzz-*"):
        left.unlink()
    executed = _EXECUTED.findall(done.stderr)
    if done.returncode:
        print(done.stderr[-4000:])
    crashes = "no crash" if done.returncode == 0 else f"CRASHED, see fuzz/artifacts/{target}"
    count = f"{int(executed[-1]):,}" if executed else "unknown"
    inputs = sum(1 for _ in corpus.iterdir())
    return (
        f"core, {target}: {count} executions in {limit} s, {inputs} inputs kept, {crashes}",
        done.returncode != 0,
    )


def fuzz_package(limit: float, seed: int) -> tuple[str, bool]:
    """Run the tests of damaged files, seed after seed; returns counts, and True if one failed."""
    files = sorted((ROOT / "tests").glob("test_*_mutations.py"))
    counts = ROOT / "target" / "fuzz-counts.txt"
    counts.parent.mkdir(exist_ok=True)
    counts.unlink(missing_ok=True)
    end = time.monotonic() + limit
    runs, failed = 0, []
    while time.monotonic() < end:
        path = files[runs % len(files)]
        this = seed + runs // len(files)
        runs += 1
        environment = {**os.environ, "MUTATIONS_SEED": str(this), "MUTATIONS_COUNTS": str(counts)}
        command = [sys.executable, "-m", "pytest", "-q", "--timeout=1800", str(path)]
        done = subprocess.run(command, cwd=ROOT, env=environment, check=False)
        if done.returncode:
            failed.append(f"MUTATIONS_SEED={this} {path.relative_to(ROOT)}")
    rows = [line.split() for line in counts.read_text().splitlines()] if counts.exists() else []
    loaded = sum(int(row[1]) for row in rows)
    refused = sum(int(row[2]) for row in rows)
    crashes = "no failure" if not failed else f"FAILED: {', '.join(failed)}"
    return (
        f"package: {loaded + refused:,} damaged files ({loaded:,} loaded, {refused:,} refused) in "
        f"{runs} runs of {len(files)} files of tests, seeds from {seed}, {crashes}",
        bool(failed),
    )


if __name__ == "__main__":
    sys.exit(main())

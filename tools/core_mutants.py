"""Put small faults into the core, one at a time, and count those that its tests notice.

    python tools/core_mutants.py --count 150 --seed 1

cargo-mutants lists them, makes them in a copy of the repository, and runs `cargo test --lib` on
each. Those that live then meet the package's tests of the network, with a core that has the mutant.
The Python binding is left out.
"""

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence

from repository_copy import CORE, ROOT, copy_repository

OUT = ROOT / "target" / "mutants" / "core"
TREE = OUT / "tree"
CARGO = ["cargo", "mutants", "--exclude", "rust/python/**"]
PACKAGE_TESTS = (
    *("family_parity", "parity", "threads", "winograd", "loading", "options", "profile"),
    *("background", "engine", "little_memory", "features", "summary"),
)
"""The files of tests/ that run networks in every way."""

SECONDS = 900
"""The longest that the package's tests may take, which is several times what they need."""

_DIFF_LINE = re.compile(r"^[-+](?![-+]{2})", re.MULTILINE)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a sample; returns 0 whatever survives, because some mutants change nothing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=150, help="the number of mutants")
    parser.add_argument("--seed", type=int, default=1, help="of the sample")
    parser.add_argument("--only", default="", help="a regular expression for mutants' names")
    arguments = parser.parse_args(argv)

    names = [name for name in listed() if re.search(arguments.only, name)]
    sample = random.Random(arguments.seed).sample(names, min(arguments.count, len(names)))
    if not sample:
        parser.error(f"no mutant's name matches {arguments.only!r}")
    chosen = "|".join(map(re.escape, sample))
    OUT.mkdir(parents=True, exist_ok=True)
    command = [*CARGO, "--re", f"^({chosen})$", "--output", str(OUT), "--no-shuffle", "--jobs", "1"]
    command += ["--cargo-arg=--lib", "--colors", "never"]
    # cargo-mutants applies the expression to most mutants, and the choice of files to all.
    command += [part for name in sample for part in ("--file", name.partition(":")[0])]
    # Compiling takes most of the time: optimisation and debug information would take far more.
    profile = {"CARGO_PROFILE_TEST_DEBUG": "0", "CARGO_PROFILE_TEST_OPT_LEVEL": "1"}
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **profile}, check=False)
    # 0: all were noticed; 2: some were missed; 3: some ran out of time.
    if done.returncode not in (0, 2, 3):
        return done.returncode
    report(sample, arguments.seed)
    return 0


def listed() -> list[str]:
    """The names of all mutants, such as `rust/shape.rs:12:5: replace + with -`."""
    done = subprocess.run(
        [*CARGO, "--list"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    )
    return sorted(done.stdout.splitlines())


def report(sample: Sequence[str], seed: int) -> None:
    """Give the survivors a second look; print those that live, with their diffs, and the counts."""
    verdicts = outcomes(sample)
    alive: dict[str, str] = {}
    if any(verdict == "MissedMutant" for verdict, _ in verdicts.values()) and is_noticed(""):
        raise SystemExit("the package's tests fail without a mutant")
    for name, (verdict, diff) in verdicts.items():
        if verdict == "MissedMutant":
            noticed = is_noticed(diff)
            print(f"second look: {'killed' if noticed else 'alive':6}  {name}", flush=True)
            alive |= {} if noticed else {name: diff}
    for name, diff in alive.items():
        print(f"\n{name}")
        print("\n".join(line for line in diff.splitlines() if _DIFF_LINE.match(line)))
    counts = Counter(verdict for verdict, _ in verdicts.values())
    first = counts["CaughtMutant"] + counts["Timeout"]
    viable = first + counts["MissedMutant"]
    killed = viable - len(alive)
    print(
        f"\n{len(sample)} mutants of seed {seed}: {len(sample) - viable} do not compile; of the "
        f"others, cargo test notices {first} ({counts['Timeout']} by its time) and the package's "
        f"tests {killed - first} more; {len(alive)} live ({killed / max(viable, 1):.1%} noticed)"
    )


def outcomes(sample: Sequence[str]) -> dict[str, tuple[str, str]]:
    """The verdict and the diff of each mutant of the sample, as cargo-mutants wrote them."""
    results = OUT / "mutants.out"
    found: dict[str, tuple[str, str]] = {}
    for outcome in json.loads((results / "outcomes.json").read_text())["outcomes"]:
        if isinstance(outcome["scenario"], dict):
            diff = (results / outcome["diff_path"]).read_text()
            found[outcome["scenario"]["Mutant"]["name"]] = (outcome["summary"], diff)
    return {name: found[name] for name in sample}


def is_noticed(diff: str) -> bool:
    """Compile the core with a mutant; run the package's tests of the network until one fails."""
    copy_repository(TREE)
    if diff:
        subprocess.run(["patch", "-p0", "--silent"], cwd=TREE, input=diff, text=True, check=True)
    build = {"CARGO_TARGET_DIR": str(OUT / "build"), "CARGO_PROFILE_DEV_OPT_LEVEL": "1"}
    build |= {"CARGO_PROFILE_DEV_DEBUG": "0", "PYO3_PYTHON": sys.executable}
    cargo = ["cargo", "build", "--quiet", "--lib", "--features", "python"]
    subprocess.run(cargo, cwd=TREE, env={**os.environ, **build}, check=True)
    shutil.copy2(OUT / "build" / "debug" / "libresnet_rs.so", TREE / CORE)
    tests = [f"tests/test_{name}.py" for name in PACKAGE_TESTS]
    pytest = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, "PYTHONPATH": str(TREE / "python")}
    try:
        done = subprocess.run(
            pytest,
            cwd=TREE,
            env=environment,
            stdout=subprocess.DEVNULL,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return True
    if done.returncode not in (0, 1):
        raise SystemExit(f"pytest ended with {done.returncode}")
    return done.returncode == 1


if __name__ == "__main__":
    sys.exit(main())

"""Put small faults into the core, one at a time, and count those that its tests notice.

    python tools/core_mutants.py --count 150 --seed 1

cargo-mutants lists them, makes them in a copy of the repository, and runs `cargo test --lib` on
each. The Python binding is left out: tests/ covers it, and `cargo test` does not compile it.
"""

import argparse
import os
import random
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "target" / "mutants"
CARGO = ["cargo", "mutants", "--exclude", "rust/python/**"]
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
    environment = {**os.environ, **profile}
    done = subprocess.run(command, cwd=ROOT, env=environment, check=False)
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
    """Print the sample's survivors with their diffs, and the counts."""
    results = OUT / "mutants.out"
    found = {
        outcome: [
            name for name in (results / f"{outcome}.txt").read_text().splitlines() if name in sample
        ]
        for outcome in ("caught", "missed", "timeout", "unviable")
    }
    diffs = [path.read_text() for path in (results / "diff").glob("*.diff")]
    if found["missed"]:
        print("\nalive:")
    for name in found["missed"]:
        print(f"\n{name}")
        # The first line of a diff names the file, and its second the file with the mutant.
        text = next((text for text in diffs if name.split(":", 3)[3].strip() in text), "")
        print("\n".join(line for line in text.splitlines() if _DIFF_LINE.match(line)))
    noticed = len(found["caught"]) + len(found["timeout"])
    viable = noticed + len(found["missed"])
    print(
        f"\n{len(sample)} mutants of seed {seed}: {len(found['unviable'])} do not compile, "
        f"{len(found['caught'])} killed, {len(found['timeout'])} timeouts, "
        f"{len(found['missed'])} alive ({noticed / max(viable, 1):.1%} noticed)"
    )


if __name__ == "__main__":
    sys.exit(main())

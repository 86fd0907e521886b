"""Put small faults into the package, one at a time, and count those that the tests notice.

    python tools/mutants.py --count 200 --seed 1
    python tools/mutants.py --only 'stream/*.py' --tests tests/test_stream.py tests/test_engine.py
    python tools/mutants.py --count 200 --share 1/2    # and, beside it or elsewhere, --share 2/2

Lines are drawn at random from the package, and for each line one of its mutants (those that
`python_mutations.py` lists). Each mutant meets the tests that reach its statement, until one fails.
A first run, under coverage.py, finds out which those are; it is repeated when a file has changed.
Everything happens in a copy under target/mutants/. Each run of the tests is a fork of one process
which has imported the heavy libraries, but not the package.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib
import os
import random
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from python_mutations import Mutant, bodies_of, mutants_of
from reached_lines import Reached, Recorder
from repository_copy import ROOT, copy_repository

WORK = ROOT / "target" / "mutants"
RECORDED = WORK / "tree"
HEAVY = ("numpy", "PIL.Image", "onnx", "torch", "torchvision", "h5py", "pyarrow")
LEAST_SECONDS, TIMES = 90.0, 4.0
"""A mutant is given this many times what its tests took, and at least so long."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a sample; returns 0 whatever survives, because some mutants change nothing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_formatter)
    parser.add_argument("--count", type=int, default=200, help="the number of mutants")
    parser.add_argument("--seed", type=int, default=1, help="of the sample")
    parser.add_argument("--only", default="**/*.py", help="a pattern for files of the package")
    parser.add_argument("--tests", nargs="*", default=[], help="files of tests; by default all")
    parser.add_argument("--share", default="1/1", help="a share of the sample: K/N, K from 1 to N")
    arguments = parser.parse_args(argv)
    share, shares = map(int, arguments.share.split("/"))

    # Each share changes the files of a copy of its own; the lines are recorded in the first.
    tree = Tree(RECORDED if share == 1 else WORK / f"tree-{share}")
    tree.prepare()
    reached = recorded(tree, arguments.tests)
    sample = drawn(tree, arguments.only, arguments.count, arguments.seed)[share - 1 :: shares]
    verdicts: Counter[str] = Counter()
    survivors = []
    for number, mutant in enumerate(sample, 1):
        verdict, detail = judged(mutant, reached, tree)
        verdicts[verdict] += 1
        place = f"{mutant.path.relative_to(tree.path)}:{line_of(mutant)}"
        print(f"{number}/{len(sample)} {verdict:8} {place} {detail}", flush=True)
        if verdict == "alive":
            survivors.append(f"{place} ({detail})\n{mutant.diff()}")
    print("\nalive:\n\n" + "\n\n".join(survivors) if survivors else "\nnothing is alive")
    noticed = verdicts["killed"] + verdicts["timeout"]
    print(
        f"\n{len(sample)} mutants of seed {arguments.seed}: {verdicts['killed']} killed, "
        f"{verdicts['timeout']} timeouts, {verdicts['alive']} alive "
        f"({noticed / max(len(sample), 1):.1%} noticed)"
    )
    return 0


def _formatter(prog: str) -> argparse.HelpFormatter:
    return argparse.RawDescriptionHelpFormatter(prog)


@dataclass(frozen=True)
class Tree:
    """A copy of the repository's files, in which mutants are made."""

    path: Path

    @property
    def package(self) -> Path:
        """The folder whose files get mutants."""
        return self.path / "python" / "resnet_rs"

    def prepare(self) -> None:
        """Copy the files, with the compiled core, and let every import find them."""
        copy_repository(self.path)
        os.environ["PYTHONPATH"] = str(self.path / "python")
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"  # two mutants of a second look the same to it
        sys.dont_write_bytecode = True
        sys.path.insert(0, str(self.path / "python"))
        for name in HEAVY:
            importlib.import_module(name)

    def arguments(self) -> list[str]:
        """The arguments of every run of pytest."""
        temporary = self.path.with_name(f"{self.path.name}-tmp")
        return ["-q", "--tb=line", "-p", "no:cacheprovider", f"--basetemp={temporary}"]


def recorded(tree: Tree, tests: Sequence[str]) -> Reached:
    """Return which tests reach which lines; runs the tests once if a file has changed."""
    digest = hashlib.sha256(repr(sorted(tests)).encode())
    for folder in ("python", "tests", "tools"):
        for path in sorted((tree.path / folder).rglob("*")):
            if path.is_file():
                digest.update(path.read_bytes())
    records = WORK / f"reached-{digest.hexdigest()[:16]}"
    if not (records / "tests.json").exists():
        if tree.path != RECORDED:
            raise SystemExit(
                "no record of which tests reach which lines: let share 1 make it first"
            )
        print("recording which tests reach which lines: one run of the tests", flush=True)
        records.mkdir(parents=True, exist_ok=True)
        forked(tree, lambda: _record(tree, records, tests), records / "record.log", timeout=7200)
    reached = Reached(Tree(RECORDED).package, records)
    skipped = f"; left out, because skipped or failed without a mutant: {len(reached.left_out)}"
    print(f"{len(reached.seconds)} tests{skipped}", flush=True)
    return reached


def _record(tree: Tree, folder: Path, tests: Sequence[str]) -> int:
    recorder = Recorder(tree.package, folder)
    pytest.main([*tree.arguments(), *tests], plugins=[recorder])
    recorder.save()
    return 0


def drawn(tree: Tree, pattern: str, count: int, seed: int) -> list[Mutant]:
    """Draw lines, and one mutant for each; no line is drawn twice."""
    lines: dict[tuple[Path, int], list[Mutant]] = defaultdict(list)
    for path in sorted(tree.package.glob(pattern)):
        for mutant in mutants_of(path):
            lines[path, line_of(mutant)].append(mutant)
    source = random.Random(seed)
    places = sorted(lines)
    source.shuffle(places)
    sample: list[Mutant] = []
    for place in places:
        mutant = source.choice(lines[place])
        if len(sample) < count and mutant.compiles():
            sample.append(mutant)
    return sample


def line_of(mutant: Mutant) -> int:
    """The line, from 1, at which the fault begins."""
    return mutant.path.read_bytes().count(b"\n", 0, mutant.begin) + 1


def judged(mutant: Mutant, reached: Reached, tree: Tree) -> tuple[str, str]:
    """Run the tests that reach a mutant; returns `killed`, `timeout` or `alive`, and details."""
    tests = tests_of(mutant, reached, tree)
    if not tests:
        return "alive", "no test reaches it"
    expected = sum(reached.seconds[test] for test in tests)
    sound = mutant.path.read_bytes()
    mutant.path.write_bytes(mutant.applied())
    log = tree.path.with_name(f"{tree.path.name}.log")
    try:
        begin = time.monotonic()
        code = forked(
            tree, lambda: _judge(tree, tests, reached), log, LEAST_SECONDS + TIMES * expected
        )
        took = f"{time.monotonic() - begin:.0f} s"
    finally:
        mutant.path.write_bytes(sound)
    if code is None:
        return "timeout", took
    if code == 0:
        return "alive", f"{len(tests)} tests passed, {took}"
    lines = log.read_text(errors="replace").splitlines()
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    return "killed", f"{(failed or [f'exit status {code}'])[0][:120]}, {took}"


def tests_of(mutant: Mutant, reached: Reached, tree: Tree) -> set[str]:
    """The tests that reach a statement.

    A default or a field runs at import: the tests of its function or class count. A table's are
    those of all functions in its file, and in the files that name its module.
    """
    package, path, (first, last) = tree.package, mutant.path, mutant.owner
    if not mutant.at_import:
        return reached.tests(path.relative_to(package), mutant.first, mutant.last)
    tests = _tests_of_bodies(package, path, reached, first, last or 1 << 16)
    if last == 0:
        for other in package.rglob("*.py"):
            if other != path and path.stem in other.read_text():
                tests |= _tests_of_bodies(package, other, reached, 1, 1 << 16)
    return tests or _tests_of_bodies(package, path, reached, 1, 1 << 16)


def _tests_of_bodies(
    package: Path, path: Path, reached: Reached, first: int, last: int
) -> set[str]:
    """The tests that run any function between two lines."""
    bodies = [body for body in bodies_of(path) if first <= body[0] and body[1] <= last]
    name = path.relative_to(package)
    return set().union(*(reached.tests(name, *body) for body in bodies))


class _Chosen:
    """Keeps the chosen tests, those of the quickest files first."""

    def __init__(self, tests: Iterable[str], reached: Reached) -> None:
        self.tests = set(tests)
        self.known = reached.seconds.keys()
        self.families = {test.partition("[")[0] for test in self.tests}
        self.cost: Counter[str] = Counter()
        for test in self.tests:
            self.cost[test.partition("::")[0]] += round(1e6 * reached.seconds[test])

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Sort by file, and leave the others out."""
        # A table's mutant may give a test another name: `test_row[a_]` for `test_row[a]`.
        chosen = [
            item
            for item in items
            if item.nodeid in self.tests
            or (item.nodeid not in self.known and item.nodeid.partition("[")[0] in self.families)
        ]
        items[:] = sorted(chosen, key=lambda item: self.cost[item.nodeid.partition("::")[0]])


def _judge(tree: Tree, tests: set[str], reached: Reached) -> int:
    chosen = _Chosen(tests, reached)
    arguments = [*tree.arguments(), "-x", "--timeout=60", *sorted(chosen.cost)]
    return int(pytest.main(arguments, plugins=[chosen]))


def forked(tree: Tree, run: Callable[[], int], log: Path, timeout: float) -> int | None:
    """Run a function in a child, with its output in a file; None if it took too long."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        status = 70
        try:
            os.setsid()
            out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(out, 1)
            os.dup2(out, 2)
            os.chdir(tree.path)
            status = run()
        finally:
            sys.stdout.flush()
            os._exit(status)
    end = time.monotonic() + timeout
    code: int | None = None
    while time.monotonic() < end and code is None:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
        else:
            time.sleep(0.05)
    if code is None:
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # what it has left behind
    return code


if __name__ == "__main__":
    sys.exit(main())

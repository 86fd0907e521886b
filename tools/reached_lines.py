"""The tests that reach each line of the package, as coverage.py recorded them.

`Recorder` is a plugin of pytest: it tells coverage which test runs, and notes how each one ends. A
process that a test starts, such as a command, records its lines under that test too.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import coverage
import pytest

# PYTEST_CURRENT_TEST holds the test in its children; in pytest itself the recorder sets it.
_CONFIG = """\
[run]
source = {package}
data_file = {data}
parallel = true
context = ${{PYTEST_CURRENT_TEST-}}
"""
_PHASE = re.compile(r"^(.*) \((setup|call|teardown)\)$")


class Recorder:
    """Record a run of pytest: lines by test, durations, and the tests that pass.

    Args:
        package: the folder whose lines count.
        folder: where the records go.
    """

    def __init__(self, package: Path, folder: Path) -> None:
        self.folder = folder
        self.seconds: dict[str, float] = defaultdict(float)
        self.failed: set[str] = set()
        rc = folder / "coverage.ini"
        rc.write_text(_CONFIG.format(package=package, data=folder / "lines"))
        os.environ["COVERAGE_PROCESS_START"] = str(rc)  # for children
        self.coverage = coverage.Coverage(config_file=str(rc))
        self.coverage.start()

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Begin with the fixtures of a test."""
        self.coverage.switch_context(f"{item.nodeid} (setup)")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> None:
        """Begin with the test itself."""
        self.coverage.switch_context(f"{item.nodeid} (call)")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note how a test ended."""
        self.seconds[report.nodeid] += report.duration
        if report.outcome != "passed":
            self.failed.add(report.nodeid)

    def save(self) -> None:
        """Write everything, children's lines included."""
        self.coverage.stop()
        self.coverage.save()
        del os.environ["COVERAGE_PROCESS_START"]
        together = coverage.CoverageData(basename=str(self.folder / "lines"))
        for path in sorted(self.folder.glob("lines.*")):
            part = coverage.CoverageData(basename=str(path))
            # A child whose disk was full, or that was killed, leaves no record that can be read.
            with contextlib.suppress(coverage.exceptions.DataError):
                part.read()
                together.update(part)
            path.unlink()
        together.write()
        passed = {test: s for test, s in self.seconds.items() if test not in self.failed}
        record = {"seconds": passed, "left_out": sorted(self.failed)}
        (self.folder / "tests.json").write_text(json.dumps(record))


class Reached:
    """A record, to be asked.

    Args:
        package: the folder whose lines count.
        folder: where `Recorder` has written.

    Attributes:
        seconds: the tests that passed, and what each took.
        left_out: those that failed or were skipped.
    """

    def __init__(self, package: Path, folder: Path) -> None:
        record: dict[str, Any] = json.loads((folder / "tests.json").read_text())
        self.seconds: dict[str, float] = record["seconds"]
        self.left_out: list[str] = record["left_out"]
        self._package = package
        self._tests: dict[str, dict[int, set[str]]] = {}
        self._data = coverage.CoverageData(basename=str(folder / "lines"))
        self._data.read()
        self._of_file: dict[str, list[str]] = defaultdict(list)
        for test in self.seconds:
            self._of_file[test.partition("::")[0]].append(test)

    def tests(self, path: Path, first: int, last: int) -> set[str]:
        """The tests that reach any line from `first` to `last` of a file, named in the package."""
        lines = self._lines_of(path)
        return {test for line in range(first, last + 1) for test in lines.get(line, ())}

    def _lines_of(self, path: Path) -> dict[int, set[str]]:
        name = str(self._package / path)
        if name not in self._tests:
            self._tests[name] = {
                line: self._named(contexts)
                for line, contexts in self._data.contexts_by_lineno(name).items()
            }
        return self._tests[name]

    def _named(self, contexts: Iterable[str]) -> set[str]:
        found = set[str]()
        for context in contexts:
            # A child's context and the recorder's stand beside each other with a bar.
            for part in context.split("|"):
                match = _PHASE.match(part)
                if match is None:
                    continue
                test, phase = match.groups()
                # Tests beside the first one may look at what a shared fixture made.
                shared = phase == "setup"
                found.update(self._of_file[test.partition("::")[0]] if shared else (test,))
        return found & self.seconds.keys()

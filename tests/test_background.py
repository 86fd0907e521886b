"""The tests pass where SIGINT is ignored, as it is in the background of a shell and under nohup."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent
# Every test that sends an interrupt.
INTERRUPTED = (
    "test_folders.py::TestKill::test_interrupt_says_how_to_go_on",
    "test_stream.py::TestThreads::test_interrupt_while_waiting_stops_them",
)


def ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def test_interrupts_arrive_in_the_background() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout=50"]
    result = subprocess.run(
        [*command, *(str(TESTS / name) for name in INTERRUPTED)],
        preexec_fn=ignore_interrupts,
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{len(INTERRUPTED)} passed" in result.stdout

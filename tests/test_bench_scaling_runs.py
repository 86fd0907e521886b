"""`resnet-rs bench --scale` runs: callers, processes, the command, and its end by a signal."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from resnet_rs import __version__
from resnet_rs._core import Network
from resnet_rs.bench import run as bench
from resnet_rs.bench.scaling import measure
from resnet_rs.bench.scaling.callers import run_callers, timed_calls
from resnet_rs.bench.scaling.figures import calls_per_second
from resnet_rs.bench.scaling.processes import Processes, can_fork
from resnet_rs.bench.scaling.settings import Setting, latency_settings, throughput_settings
from resnet_rs.cli import main

FORKS = pytest.mark.skipif(not can_fork(), reason="processes are measured on Linux")

# No machine needs this long for what the tests do.
HANG_SECONDS = 60


@pytest.fixture(autouse=True)
def short_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "WARM_UP_SECONDS", 0.0)


class Stub:
    """A network whose calls last a moment; `act` may do something in each."""

    def __init__(self, act: Callable[[int], None] = lambda number: None) -> None:
        self._act = act
        self._numbers = itertools.count()

    def logits(self, x: Any, *, threads: int | None = None) -> Any:
        self._act(next(self._numbers))
        time.sleep(0.001)


def stub(act: Callable[[int], None] = lambda number: None) -> Network:
    return cast(Network, Stub(act))


X = np.zeros((1, 1, 1, 3), np.float32)


class TestCallers:
    @pytest.mark.parametrize("callers", [1, 3])
    def test_each_calls_at_least_once_and_until_the_time_is_over(self, callers: int) -> None:
        for seconds in (1e-9, 0.02):
            turn = run_callers(stub(), X, callers=callers, threads=1, seconds=seconds)
            assert len(turn) == callers
            for calls in turn:
                assert calls[-1][1] - calls[0][0] >= seconds
                assert all(start < end for start, end in calls)
                assert all(a[1] <= b[0] for a, b in itertools.pairwise(calls))
            assert calls_per_second(turn) > 0

    def test_error_of_one_caller_ends_all_and_is_told(self) -> None:
        def act(number: int) -> None:
            if number == 2:
                raise MemoryError("too large")

        with pytest.raises(MemoryError, match="too large"):
            run_callers(stub(act), X, callers=3, threads=1, seconds=HANG_SECONDS)

    def test_ctrl_c_ends_the_callers(self) -> None:
        def act(number: int) -> None:
            if number == 30:
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

        before = threading.active_count()
        with pytest.raises(KeyboardInterrupt):
            run_callers(stub(act), X, callers=3, threads=1, seconds=HANG_SECONDS)
        assert threading.active_count() == before

    def test_an_event_ends_the_calls_early(self) -> None:
        ended = threading.Event()
        ended.set()
        assert len(timed_calls(stub(), X, 1, HANG_SECONDS, ended)) == 1


@FORKS
class TestProcesses:
    def test_all_run_at_once_and_end(self) -> None:
        with Processes(stub(), {1: X}, 3) as processes:
            pids = [process.pid for process, _ in processes._processes]
            for count in (2, 3):
                turn = processes.run(Setting(count, 1, 1, 1), 0.02)
                assert len(turn) == count
                assert max(calls[0][0] for calls in turn) < min(calls[-1][1] for calls in turn)
        for pid in pids:
            with pytest.raises(ProcessLookupError):
                os.kill(cast(int, pid), 0)

    def test_error_in_one_is_told(self) -> None:
        def act(number: int) -> None:
            raise MemoryError("too large")

        with (
            Processes(stub(act), {1: X}, 2) as processes,
            pytest.raises(MemoryError, match="too large"),
        ):
            processes.run(Setting(2, 1, 1, 1), 0.01)

    def test_one_that_is_killed_is_told(self) -> None:
        def act(number: int) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        with (
            Processes(stub(act), {1: X}, 2) as processes,
            pytest.raises(RuntimeError, match=r"ended with status -9: .* --threads N"),
        ):
            processes.run(Setting(2, 1, 1, 1), 0.01)


def arguments(weights: Path, *more: object) -> list[str]:
    head = ["bench", "--weights", weights, "--scale", "--size", 32, 32, "--seconds", 0.01]
    return [str(argument) for argument in (*head, *more)]


class TestCommand:
    """The real thing; no figure is compared with another."""

    def test_json_of_two_cpus(
        self, demo_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        plot = tmp_path / "scaling.svg"
        more = ("--threads", 2, "--format", "json", "--plot", plot)
        assert main(arguments(demo_dir, *more)) == 0
        output = capsys.readouterr()
        assert output.err == f"wrote {plot}\n"
        result = json.loads(output.out)
        assert result["version"] == __version__
        assert (result["height"], result["width"], result["rounds"]) == (32, 32, 3)
        assert result["cpus"]["counted"] == 2
        assert result["cpus"]["asked_by"] == "--threads"

        def settings(rows: list[dict[str, Any]]) -> list[Setting]:
            names = ("processes", "callers", "threads", "batch")
            return [Setting(*(row[name] for name in names)) for row in rows]

        assert settings(result["latency"]) == latency_settings(2)
        assert settings(result["throughput"]) == throughput_settings(2, processes=can_fork())
        for one in (*result["latency"], *result["throughput"]):
            assert one["calls"] >= 3 * one["callers"] * one["processes"]
            assert 0 < one["p50_ms"] <= one["p99_ms"]
            assert one["images_per_second"] > 0
            assert one["spread"] >= 0
        assert result["advice"]["latency"] in result["latency"]
        assert result["advice"]["throughput"] in result["latency"] + result["throughput"]
        assert "1 caller of 2 threads, batch 8" in plot.read_text(encoding="utf-8")

    def test_text_of_one_cpu(self, demo_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(arguments(demo_dir, "--threads", 1)) == 0
        output = capsys.readouterr()
        assert output.err == ""
        parts = [part.splitlines() for part in output.out.split("\n\n")]
        assert [len(part) for part in parts[1:3]] == [3, 5]
        assert parts[3][0] == "For the lowest latency: 1 thread."
        assert parts[4][0].startswith("For the highest throughput: 1 caller of 1 thread, ")

    def test_variable_is_named(
        self,
        demo_dir: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setenv("RESNET_RS_NUM_THREADS", "1")
        assert main(arguments(demo_dir)) == 0
        text = capsys.readouterr().out
        assert "CPUs         1 by RESNET_RS_NUM_THREADS; usable: " in text
        assert "It is the default here" in text

    def test_weights_are_loaded_once_for_all_settings(
        self, demo_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        loads = []
        load_network = measure.load_network

        def counted(options: Any) -> Any:
            loads.append(options)
            return load_network(options)

        monkeypatch.setattr(measure, "load_network", counted)
        assert main(arguments(demo_dir, "--threads", 2)) == 0
        assert len(loads) == 1

    @pytest.mark.parametrize(
        ("more", "message"),
        [
            (["--batch", "2"], "--scale measures several batches: leave out --batch"),
            (["--ladder"], "not allowed with"),
            (["--profile"], "not allowed with"),
        ],
    )
    def test_bad_usage_exits_with_2(
        self, more: list[str], message: str, demo_dir: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as caught:
            main(arguments(demo_dir, *more))
        assert caught.value.code == 2
        assert message in capsys.readouterr().err


def members(group: int) -> set[int]:
    """The processes of a group that have not ended."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, of_group = path.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(of_group) == group and state != "Z":
            found.add(int(path.parent.name))
    return found


def wait_until(is_true: Callable[[], bool]) -> None:
    end = time.monotonic() + HANG_SECONDS
    while not is_true():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.02)


@FORKS
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_of_a_run_that_is_ended(how: signal.Signals, demo_dir: Path) -> None:
    """Ctrl-C goes to the whole group of a terminal; a kill to the one process."""
    command = [sys.executable, "-m", "resnet_rs", *arguments(demo_dir, "--threads", 2)]
    command[command.index("--seconds") + 1] = str(HANG_SECONDS)
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    group = process.pid
    try:
        wait_until(lambda: len(members(group)) == 3)
        time.sleep(0.2)  # they are measuring
        if how == signal.SIGINT:
            os.killpg(group, how)
        else:
            process.kill()
        out, err = process.communicate(timeout=HANG_SECONDS)
        assert process.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL)
        assert (out, err) == ("", "")
        wait_until(lambda: not members(group))
    finally:
        for pid in members(group):
            os.kill(pid, signal.SIGKILL)

"""`benches/train.py`: its checks, its ratios, its memory and its steps, on a tiny network."""

from __future__ import annotations

import csv
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benches"))

import train
from peer_runtimes.rounds import Timing
from training_runtimes import memory, runtimes, steps
from training_runtimes.ours import Ours
from training_runtimes.task import Task

TINY = Task("cifar_resnet20", batch=4, size=16)


def test_it_trains_beside_torch_and_lists_steps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "train.csv"
    words = "--architecture cifar_resnet20 --task 16x4 --threads 1 --rounds 1 --calls 1 --no-memory"
    only = ["--only", "torch", "torch-channels-last", "torch-bf16"]
    assert train.main([*words.split(), "--steps", "--csv", str(table), *only]) == 0
    with table.open(encoding="utf-8") as file:
        rows = {row["runtime"]: row for row in csv.DictReader(file)}
    ours = [name for name in runtimes.default_names() if name in runtimes.OURS]
    assert list(rows) == [*ours, *only[1:]]
    for name, row in rows.items():
        assert float(row["images_per_s"]) > 0, row["note"]
        limit = train.LARGEST_ERROR["bf16" if "bf16" in name else "f32"]
        assert float(row["error"]) <= limit
    assert float(rows["resnet_rs"]["ours_over_best"]) > 0
    assert rows["torch"]["ours_over_best"] == ""
    out = capsys.readouterr().out
    assert "share of peak" in out
    for step in (
        "weight_gradient  backward",
        "layer1  forward",
        "layer1.0.conv1  forward",
        "layer1.0.conv1  backward",
    ):
        assert step.split() in [line.split()[:2] for line in out.splitlines()]


def test_wrong_losses_are_not_timed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "expected_losses", lambda *_: [3.0, 2.0])
    words = "--architecture cifar_resnet20 --task 16x4 --threads 1 --rounds 1 --calls 1 --no-memory"
    csv_file = str(tmp_path / "train.csv")
    assert train.main([*words.split(), "--only", "torch", "--csv", csv_file]) == 1
    assert "resnet_rs: failed: ValueError: wrong losses: relative errors " in (
        capsys.readouterr().out
    )


def test_alone_there_is_nothing_to_compare_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "--architecture cifar_resnet20 --task 16x4 --threads 1 --rounds 1 --calls 1 --no-memory"
    table = tmp_path / "train.csv"
    assert train.main([*words.split(), "--only", "--csv", str(table)]) == 0
    with table.open(encoding="utf-8") as file:
        assert {row["error"] for row in csv.DictReader(file)} == {""}
    lines = capsys.readouterr().out.splitlines()
    row = next(line for line in lines if line.startswith("resnet_rs "))
    assert row.split()[-4:] == ["-"] * 4


def test_the_fall_of_the_loss_is_checked() -> None:
    assert train.checked_error("f32", [2.0, 1.5], None) is None
    with pytest.raises(ValueError, match="wrong losses"):
        train.checked_error("f32", [2.0, math.inf], None)
    assert train.checked_error("f32", [2.0, 1.5], [2.0, 1.5]) == 0
    assert train.checked_error("f32", [2.0, 1.51], [2.0, 1.5]) == pytest.approx(0.02)
    assert train.checked_error("bf16", [2.02, 3.0], [2.0, 1.5]) == pytest.approx(0.01)
    wrong = {"f32": ([2.0, 1.6], [2.001, 1.5], [math.nan, 1.5]), "bf16": ([2.2, 1.5],)}
    for precision, cases in wrong.items():
        for losses in cases:
            with pytest.raises(ValueError, match="wrong losses"):
                train.checked_error(precision, losses, [2.0, 1.5])


def test_steps_add_up_to_the_plan() -> None:
    ours = Ours()
    ours.load(TINY, 1)
    plan, seconds = steps.measure(TINY, ours.trainer, rounds=1)
    for key in (steps.kind_of, steps.layer_of):
        works = steps.grouped(plan, seconds, key)
        assert sum(work.count for work in works) == len(plan)
        assert sum(work.macs for work in works) == sum(step["macs"] for step in plan)
        assert sum(work.seconds for work in works) == pytest.approx(sum(seconds))
    assert ours.trainer.steps == 0


def test_the_best_peer_has_the_same_precision() -> None:
    timings = {
        "resnet_rs": Timing([[1.0], [1.0]]),
        "resnet_rs-bf16": Timing([[0.25], [0.25]]),
        "torch": Timing([[4.0], [4.0]]),
        "torch-channels-last": Timing([[3.0], [3.0]]),
        "torch-bf16": Timing([[0.5], [0.5]]),
    }
    ready = [runtimes.make(name) for name in timings]
    assert train.ratio_to_best(ready[0], ready, timings) == 3.0
    assert train.ratio_to_best(ready[1], ready, timings) == 2.0
    assert train.ratio_to_best(ready[2], ready, timings) is None
    assert train.ratio_to_best(ready[0], ready[:1], timings) is None


def test_memory_is_measured_with_the_choices_that_are_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[object, ...]] = []
    commands: list[list[str]] = []

    def in_this_process(command: list[str], **_: object) -> SimpleNamespace:
        commands.append(command)
        return SimpleNamespace(returncode=memory.main(command[3:]), stdout="null")

    def make(*choices: object) -> Ours:
        made.append(choices)
        return Ours(*choices[1:])  # type: ignore[arg-type]

    monkeypatch.setattr(memory.subprocess, "run", in_this_process)
    monkeypatch.setattr(memory, "make", make)
    words = "--architecture cifar_resnet20 --task 16x4 --threads 1 --rounds 1 --calls 1 --only"
    words += f" --csv {tmp_path / 'train.csv'}"
    assert train.main([*words.split(), "--isa", "portable", "--no-winograd"]) == 0
    assert train.main(words.split()) == 0
    choices = [choice for choice in made if choice[0] == "resnet_rs"]
    assert choices == [("resnet_rs", "portable", False), ("resnet_rs", None, True)]
    # In bf16 on its own tier only.
    assert made[0] == choices[0]
    assert all(choice[1:] == (None, True) for choice in made[1:])
    assert len(commands) == len(made)


def test_memory_is_that_of_a_process_of_its_own() -> None:
    used = memory.measure("resnet_rs", TINY, threads=1)
    if not Path("/proc/self/status").exists():
        assert used is None
        return
    assert used is not None
    # The package and NumPy without torch, which takes some 600 MB.
    assert 10 < used.imported_mb < used.peak_mb < 400

"""The experiment with plain and residual networks, in its smallest size."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

from conftest import ROOT
from PIL import Image

EXAMPLE = ROOT / "examples" / "residual-experiment" / "experiment.py"


def test_experiment_writes_tables_and_pictures(tmp_path: Path) -> None:
    networks = ["plain-20", "A-20", "C-20"]
    sizes = ["--photos", "40", "--size", "8", "--epochs", "2", "--batch", "16"]
    done = subprocess.run(
        [sys.executable, str(EXAMPLE), "-o", str(tmp_path), *sizes, "--only", *networks],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "32 photos to learn from, 8 to measure on" in done.stdout
    with (tmp_path / "curves.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["network"] for row in rows] == [name for name in networks for _ in range(2)]
    assert all(0 < float(row["train_loss"]) < 10 for row in rows)
    with (tmp_path / "gradients.csv").open() as file:
        norms = list(csv.DictReader(file))
    # The convolutions on the way from input to output: one, and six of each of three stages.
    assert [row["network"] for row in norms] == [name for name in networks for _ in range(19)]
    assert all(float(row["before"]) > 0 and float(row["after"]) > 0 for row in norms)
    for name in ("curves.png", "gradients.png"):
        with Image.open(tmp_path / name) as picture:
            assert len(picture.getcolors(1 << 16) or []) > 3

"""The example of new classes from a few photos runs, and measures every way."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

EXAMPLE = ROOT / "examples" / "few-photos" / "few_photos.py"
COLOURS = {"red": 0, "green": 1, "blue": 2}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Noise in which one or two colours are brighter."""
    random = np.random.default_rng(0)
    classes = {**{name: (i,) for name, i in COLOURS.items()}, "yellow": (0, 1)}
    for part, count in (("train", 8), ("val", 3)):
        for name, channels in classes.items():
            folder = tmp_path / "photos" / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 128, (16, 16, 3))
                pixels[..., channels] += 127
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    return tmp_path / "photos"


def run(*arguments: object) -> str:
    command = [sys.executable, EXAMPLE, *arguments, "--architecture", "cifar_resnet20"]
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_new_classes_are_learnt_in_every_way(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "few"
    small = ("--size", 16, "--epochs", 2, "--tune-epochs", 1, "--photos", 2, 4, "--draws", 2)
    shown = run(photos, "-o", out, "--known", "red", "blue", *small)
    assert "known: red, blue; new: green, yellow" in shown
    with (out / "few-photos.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    ways = {"nearest neighbours", "linear probe", "frozen backbone", "fine-tuning", "from scratch"}
    assert {row["way"] for row in rows} == ways
    assert len(rows) == 2 * 2 * len(ways)
    assert all(0 <= float(row["accuracy"]) <= 1 for row in rows)
    # Colours are easily told apart by any embedding.
    probes = [float(row["accuracy"]) for row in rows if row["way"] == "linear probe"]
    assert min(probes) > 0.8
    head = next(line for line in shown.splitlines() if line.startswith("| | "))
    assert head == "| | 2 photos | 4 photos |"

    again = run(photos, "-o", out, "--known", "red", "blue", *small, "--ways", "nearest neighbours")
    assert "is there already" in again

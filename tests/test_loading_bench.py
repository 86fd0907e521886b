"""`benches/loading.py`: its rows are those of the table in docs/datasets.md."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from labelled_photos import write_classes

sys.path.insert(0, str(ROOT / "benches"))

import loading


def test_the_documented_rows_are_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = write_classes(tmp_path, {"cat": 3, "dog": 3})
    loading.main([str(photos), "--size", "8", "16", "--batch", "4", "--repeats", "1"])
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.startswith("ms a photo ")
    rows = [re.fullmatch(r"(.*?)  +\d+\.\d\d  +\d+\.\d\d", line) for line in lines]
    _, table = (ROOT / "docs" / "datasets.md").read_text().split("| `python benches/loading.py")
    documented = [line.split(" | ")[0] for line in table.splitlines()[2:8]]
    assert [f"| {row[1]}" for row in rows if row] == documented


def test_help_has_the_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        loading.main(["--help"])
    assert "  python benches/loading.py photos/ --size 64 224\n" in capsys.readouterr().out

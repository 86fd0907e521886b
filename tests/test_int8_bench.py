"""`benches/int8.py`: it measures all four ratios, and says which of them are met."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from conftest import DEMO, ROOT
from tiny_model import write_tiny_model

sys.path.insert(0, str(ROOT / "benches"))

import int8 as bench


def test_every_figure_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # `ResNet50`, which the starts load, takes a narrow one too.
    weights = write_tiny_model(tmp_path / "weights", widths=[16, 32, 32, 64])
    command = ["--weights", str(weights), "--photos", str(DEMO / "photos"), "--threads", "1"]
    assert bench.main([*command, "--count", "22", "--rounds", "2", "--starts", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("1 thread(s), medians of 2 calibration(s) (auto took m")
    rows = {line[:38].strip(): line[38:].split() for line in lines[4:8]}
    assert list(rows) == [
        "calibration of 22 photos, s",
        "directory, MB",
        "process start to first prediction, ms",
        "peak memory of that process, MB",
    ]
    for (_, _, ratio, sign, asked, verdict), most in zip(
        rows.values(), bench.ASKED.values(), strict=True
    ):
        assert (sign, float(asked)) == ("<=", most)
        # Three decimals say nothing of a ratio that is very near.
        if abs(float(ratio) - most) > 0.001:
            assert verdict == ("met" if float(ratio) < most else "MISSED")
        assert float(ratio) > 0
    starts, peaks = (rows[name][:3] for name in list(rows)[2:])
    assert float(starts[2]) == pytest.approx(float(starts[1]) / float(starts[0]), rel=0.01)
    # Not less than this process had when it forked: it may have imported torch.
    assert float(peaks[1]) > 20
    assert lines[-1].startswith("Calibration of 22 photos ")
    assert lines[-1].count("<= ") == 4


def test_ratios_of_rounds_have_a_median() -> None:
    timed = {"forwards": [1.0, 2.0, 4.0], "quantize": [1.5, 2.0, 10.0]}
    figure = bench.calibration(timed, 3)
    assert (figure.f32, figure.int8, figure.ratio) == (2.0, 2.0, 1.5)
    assert figure.is_met


def test_a_quick_try_has_fewer_photos() -> None:
    whole, quick = bench.parse_arguments([]), bench.parse_arguments(["--quick", "--starts", "7"])
    assert (whole.count, whole.rounds, whole.starts) == (300, 3, 10)
    assert (quick.count, quick.rounds, quick.starts) == (32, 1, 7)

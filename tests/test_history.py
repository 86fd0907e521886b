"""results.csv: rows that survive a kill, torn lines, full disks, and files of other kinds."""

from __future__ import annotations

import errno
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from resnet_rs.evaluation.history import COLUMNS, History, read_history


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results.csv"


def row(epoch: int, **more: object) -> dict[str, object]:
    return {"epoch": epoch, "train_loss": 1 / epoch, "learning_rate": 0.1, **more}


def test_rows_are_read_back_to_the_bit(path: Path) -> None:
    history = History(path)
    history.append(row(1, val_accuracy=np.float32(0.1), seconds=3))
    history.append(row(2, val_loss=math.inf, train_loss=math.nan))
    assert path.read_text().splitlines()[0] == ",".join(COLUMNS)
    first, second = read_history(path)
    assert first == {
        "epoch": 1,
        "train_loss": 1.0,
        "train_accuracy": None,
        "val_loss": None,
        "val_accuracy": float(np.float32(0.1)),
        "learning_rate": 0.1,
        "seconds": 3,
    }
    assert second["val_loss"] == math.inf
    assert math.isnan(second["train_loss"])
    assert history.rows[0] == first


def test_another_writer_goes_on(path: Path) -> None:
    History(path).append(row(1))
    history = History(path)
    history.append(row(2))
    assert [one["epoch"] for one in read_history(path)] == [1, 2]
    assert [one["epoch"] for one in history.rows] == [1, 2]


def test_rows_after_a_checkpoint_are_dropped(path: Path) -> None:
    history = History(path)
    for epoch in range(1, 6):
        history.append(row(epoch))
    history = History(path, last_epoch=3)
    assert [one["epoch"] for one in read_history(path)] == [1, 2, 3]
    history.append(row(4, train_loss=9.0))
    assert read_history(path)[-1]["train_loss"] == 9.0


@pytest.mark.parametrize("cut", range(1, 12))
def test_torn_last_line_is_left_out_and_cut_off(path: Path, cut: int) -> None:
    history = History(path)
    for epoch in (1, 2, 3):
        history.append(row(epoch))
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    assert [one["epoch"] for one in read_history(path)] == [1, 2]
    History(path).append(row(3))
    assert path.read_bytes() == whole


def test_torn_header_is_an_empty_history(path: Path) -> None:
    path.write_bytes(b"epoch,train_l")
    assert read_history(path) == []
    History(path).append(row(1))
    assert len(read_history(path)) == 1


def test_kill_at_any_time_loses_no_row(path: Path) -> None:
    """A writer is killed in the middle of its work; every row that it has told of is there."""
    code = (
        "import sys\n"
        "from resnet_rs.evaluation.history import History\n"
        "history = History(sys.argv[1])\n"
        "for epoch in range(1, 10**6):\n"
        "    history.append({'epoch': epoch, 'train_loss': 1 / epoch})\n"
        "    print(epoch, flush=True)\n"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    writer.stdout.readline()
    time.sleep(0.2)
    writer.send_signal(signal.SIGKILL)
    told = [int(line) for line in writer.communicate()[0].splitlines() if line.strip()]
    epochs = [one["epoch"] for one in read_history(path)]
    assert epochs == list(range(1, len(epochs) + 1))
    assert len(epochs) >= max(told)


def test_full_disk_leaves_the_file_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    history = History(path)
    history.append(row(1))
    before = path.read_bytes()
    real = os.write

    def write(descriptor: int, data: object) -> int:
        if len(data) > 3:
            return real(descriptor, bytes(data)[:3])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", write)
    # The first writes take three bytes each, and the last one fails.
    with pytest.raises(OSError, match=r"results\.csv") as caught:
        history.append(row(2))
    assert caught.value.errno == errno.ENOSPC
    monkeypatch.undo()
    assert path.read_bytes() == before
    history.append(row(2))
    assert len(read_history(path)) == 2


class TestBadInput:
    @pytest.mark.parametrize(
        ("values", "error", "message"),
        [
            ({"train_loss": 1.0}, TypeError, "epoch must be an int; got None"),
            ({"epoch": 1.0}, TypeError, "epoch must be an int"),
            ({"epoch": 3, "los": 1.0}, ValueError, "no column 'los'; expected epoch, train_loss"),
            ({"epoch": 3, "train_loss": "1"}, TypeError, "train_loss must be a number or None"),
            ({"epoch": 2}, ValueError, "epoch must be above 2, the last one"),
        ],
    )
    def test_rows(
        self, path: Path, values: dict[str, object], error: type[Exception], message: str
    ) -> None:
        history = History(path)
        history.append(row(2))
        before = path.read_bytes()
        with pytest.raises(error, match=message):
            history.append(values)
        assert path.read_bytes() == before

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (b"path,label\na.jpg,3\n", "first column is 'epoch'; found 'path,label'"),
            (b"epoch,train_loss\n1,2,3\n", "line 2: expected 2 fields; found 3"),
            (b"epoch,train_loss\n1,much\n", "line 2: expected numbers"),
            (b"epoch,\xff\n", "a CSV file in UTF-8"),
            (b'epoch,loss\n1,"' + b"0" * 200_000 + b'"\n', "expected a CSV file: field"),
        ],
    )
    def test_files(self, path: Path, text: bytes, message: str) -> None:
        path.write_bytes(text)
        with pytest.raises(ValueError, match=message) as caught:
            read_history(path)
        assert str(path) in str(caught.value)
        with pytest.raises(ValueError, match=message):
            History(path)
        assert path.read_bytes() == text

    def test_other_columns_are_kept_safe(self, path: Path) -> None:
        History(path, ["epoch", "loss"]).append({"epoch": 1, "loss": 2.0})
        before = path.read_bytes()
        with pytest.raises(ValueError, match=r"the columns epoch, train_loss.*found epoch"):
            History(path)
        assert path.read_bytes() == before

    def test_columns_begin_with_the_epoch(self, path: Path) -> None:
        for columns in (["loss"], ["epoch", "loss", "loss"], []):
            with pytest.raises(ValueError, match="columns must begin with 'epoch'"):
                History(path, columns)
        with pytest.raises(TypeError, match="columns must be a list of str"):
            History(path, "epoch")
        assert not path.exists()

    def test_missing_folder_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"results\.csv"):
            History(tmp_path / "no" / "results.csv")

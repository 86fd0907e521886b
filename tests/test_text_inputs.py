"""Text files that users write: encodings, byte order marks, and the order of class names."""

from __future__ import annotations

import json
import os
import shutil
import threading
from pathlib import Path

import pytest

import resnet_rs
from resnet_rs import WeightsError
from resnet_rs.cli import main
from resnet_rs.weights.labels import order_remark, read_labels
from resnet_rs.weights.small_files import MAX_SMALL_BYTES

NAMES = [f"größe {index}" for index in range(10)]


def convert_with(demo_dir: Path, out: Path, labels: Path | str) -> int:
    return main(["convert", str(demo_dir), str(out), "--labels", str(labels), "--force"])


class TestLabels:
    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
    @pytest.mark.parametrize("mark", ["", "\ufeff"])
    def test_mark_and_line_ends_are_no_part_of_a_name(
        self, mark: str, end: str, tmp_path: Path
    ) -> None:
        (tmp_path / "labels.txt").write_bytes((mark + end.join(NAMES) + end).encode())
        assert read_labels(tmp_path / "labels.txt") == NAMES

    def test_first_name_has_no_mark_after_convert(self, demo_dir: Path, tmp_path: Path) -> None:
        (tmp_path / "labels.txt").write_bytes(("\ufeff" + "\n".join(NAMES)).encode())
        assert convert_with(demo_dir, tmp_path / "out", tmp_path / "labels.txt") == 0
        assert resnet_rs.load(tmp_path / "out").labels == tuple(NAMES)

    ENCODINGS = (
        ("latin-1", r"expected UTF-8, found the byte 0xf6 in line 1, .*: save it as UTF-8"),
        ("utf-16", r"expected UTF-8, found UTF-16: save it as UTF-8"),
        ("utf-16-be", r"expected UTF-8, found UTF-16: save it as UTF-8"),
        ("utf-32", r"expected UTF-8, found UTF-32: save it as UTF-8"),
    )

    @pytest.mark.parametrize(("encoding", "message"), ENCODINGS)
    def test_another_encoding_is_named_with_the_file(
        self, encoding: str, message: str, tmp_path: Path
    ) -> None:
        mark = "\ufeff" if encoding.endswith("-be") else ""  # the others write it themselves
        (tmp_path / "labels.txt").write_bytes((mark + "\n".join(NAMES)).encode(encoding))
        with pytest.raises(WeightsError, match=message) as caught:
            read_labels(tmp_path / "labels.txt")
        assert str(caught.value).startswith(f"{tmp_path / 'labels.txt'}: ")

    def test_command_prints_it_in_one_line(
        self, demo_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "labels.txt").write_bytes("\n".join(NAMES).encode("latin-1"))
        assert convert_with(demo_dir, tmp_path / "out", tmp_path / "labels.txt") == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "labels.txt: expected UTF-8" in line

    def test_a_pipe_is_read(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        writer = threading.Thread(target=(tmp_path / "pipe").write_text, args=("a\nb\n",))
        writer.start()
        assert read_labels(tmp_path / "pipe") == ["a", "b"]
        writer.join()

    def test_an_endless_file_is_read_up_to_the_bound(self) -> None:
        with pytest.raises(WeightsError, match=f"/dev/zero: {MAX_SMALL_BYTES + 1} bytes"):
            read_labels("/dev/zero")


class TestOrder:
    """Class names that are numbers, in the order of numbers or of text."""

    def test_numbers_in_their_own_order_are_doubted(self) -> None:
        remark = order_remark([str(index) for index in range(12)])
        assert remark is not None
        assert "0, 1, 10, 11, ..." in remark

    @pytest.mark.parametrize(
        "labels",
        [
            sorted(str(index) for index in range(12)),
            [str(index) for index in range(10)],
            [f"{index:02}" for index in range(12)],
            ["cat", "dog"],
        ],
        ids=["text", "one-digit", "padded", "words"],
    )
    def test_other_orders_are_not(self, labels: list[str]) -> None:
        assert order_remark(labels) is None


class TestJson:
    """config.json, and a file of `names=`."""

    def directory(self, demo_dir: Path, tmp_path: Path, encoding: str) -> Path:
        shutil.copytree(demo_dir, tmp_path / "model", ignore=shutil.ignore_patterns("photos"))
        path = tmp_path / "model" / "config.json"
        config = json.loads(path.read_text("utf-8"))
        config["labels"], config["source"] = NAMES, None
        path.write_bytes(json.dumps(config, ensure_ascii=False).encode(encoding))
        return tmp_path / "model"

    def test_mark_before_a_config_is_dropped(self, demo_dir: Path, tmp_path: Path) -> None:
        directory = self.directory(demo_dir, tmp_path, "utf-8-sig")
        assert resnet_rs.load(directory).labels == tuple(NAMES)
        assert resnet_rs.load(directory, num_classes=10).labels == tuple(NAMES)

    @pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
    def test_config_in_another_encoding_is_named(
        self, encoding: str, demo_dir: Path, tmp_path: Path
    ) -> None:
        directory = self.directory(demo_dir, tmp_path, encoding)
        with pytest.raises(WeightsError, match=r"config\.json: expected UTF-8, found"):
            resnet_rs.load(directory)

    def test_rules_of_names(self, demo_dir: Path, tmp_path: Path) -> None:
        rules = tmp_path / "names.json"
        rules.write_bytes('{"conv1": "conv1"}'.encode("utf-16"))
        with pytest.raises(WeightsError, match=r"names\.json: expected UTF-8, found UTF-16"):
            resnet_rs.load(demo_dir, names=rules)

    def test_a_crop_of_gigabytes_is_refused(self, demo_dir: Path) -> None:
        with pytest.raises(WeightsError, match=r"preprocessing\.crop: expected at most 134217728"):
            resnet_rs.load(demo_dir, preprocessing={"crop": 65536})

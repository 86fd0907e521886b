"""Records that are kept: every format, and every output cut off at every byte and completed."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resnet_rs import ImageError, Prediction
from resnet_rs.stream import Result
from resnet_rs.stream.folder.outputs import (
    NpyFile,
    OutputError,
    Paths,
    RecordFile,
    npy_header,
    paths_of,
)
from resnet_rs.stream.folder.records import Format, JsonLines, Rows, Table
from resnet_rs.stream.folder.resume import difference

# Possible names: bytes that are not UTF-8, and all separators of fields and records.
NAMES = ["a.jpg", "字 é.jpg", "new\nline.jpg", 'q"uo,te\t.jpg', "c\rr.jpg", "caf\udce9.jpg", " "]


def predictions(i: int) -> list[Prediction]:
    return [Prediction(f'class "{i}",\n', 0.75, i), Prediction("字", 1 / 3, i + 1)]


def results(kind: str) -> list[Result]:
    """A result for each of `NAMES`, the third and the last of them errors."""
    made = []
    for i, name in enumerate(NAMES):
        if i in (2, len(NAMES) - 1):
            made.append(Result(i, name, error=ImageError('broken,\n"very"')))
        elif kind == "embed":
            made.append(Result(i, name, vector=np.array([i, 1 / 3, -2.5], np.float32)))
        else:
            made.append(Result(i, name, predictions=predictions(i)))
    return made


KINDS: dict[str, tuple[str, Callable[[], Format]]] = {
    "predict-jsonl": ("predict", lambda: JsonLines("predictions", 2)),
    "predict-csv": ("predict", lambda: Table.of_predictions(",", 2)),
    "predict-tsv": ("predict", lambda: Table.of_predictions("\t", 2)),
    "embed-jsonl": ("embed", lambda: JsonLines("embedding", 3)),
    "embed-csv": ("embed", lambda: Table.of_embeddings(",", 3)),
}


class TestPaths:
    def test_holds_what_was_added(self) -> None:
        paths = Paths()
        for name in NAMES:
            paths.add(name)
        assert all(name in paths for name in NAMES)
        assert "b.jpg" not in paths

    def test_empty(self) -> None:
        assert "a.jpg" not in Paths()


class TestFormats:
    @pytest.mark.parametrize("name", KINDS)
    def test_records_are_read_back(self, name: str) -> None:
        what, make = KINDS[name]
        kind = make()
        for result in results(what):
            entry = kind.decode(kind.encode(result))
            assert (entry.path, entry.failed) == (result.path, result.error is not None)
            if result.error is None:
                found = kind.result(kind.encode(result))
                assert (found.path, found.predictions) == (result.path, result.predictions)
                np.testing.assert_array_equal(found.vector, result.vector)

    def test_json_lines_hold_the_numbers(self) -> None:
        records = [json.loads(JsonLines("predictions", 2).encode(r)) for r in results("predict")]
        assert records[0] == {
            "path": "a.jpg",
            "predictions": [
                {"label": 'class "0",\n', "score": 0.75, "index": 0},
                {"label": "字", "score": 1 / 3, "index": 1},
            ],
        }
        assert records[2] == {"path": NAMES[2], "error": 'broken,\n"very"'}
        vector = json.loads(JsonLines("embedding", 3).encode(results("embed")[1]))["embedding"]
        assert np.array_equal(np.array(vector, np.float32), np.array([1, 1 / 3, -2.5], np.float32))

    @pytest.mark.parametrize("separator", [",", "\t"])
    def test_tables_are_what_csv_readers_take(self, separator: str, tmp_path: Path) -> None:
        kind = Table.of_predictions(separator, 2)
        path = tmp_path / "out"
        path.write_bytes(kind.header + b"".join(map(kind.encode, results("predict"))))
        with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
            rows = list(csv.DictReader(file, delimiter=separator))
        assert [row["path"] for row in rows] == NAMES
        assert rows[0]["label_1"] == 'class "0",\n'
        assert float(rows[0]["score_2"]) == 1 / 3
        assert rows[2] == {
            **dict.fromkeys(rows[2], ""),
            "path": NAMES[2],
            "error": 'broken,\n"very"',
        }

    @pytest.mark.parametrize(
        ("kind", "record"),
        [
            (JsonLines("predictions", 2), b"[1]\n"),
            (JsonLines("predictions", 2), b"nonsense\n"),
            (JsonLines("predictions", 2), b'{"path": "a"}\n'),
            (JsonLines("predictions", 2), b'{"path": 3, "error": "x"}\n'),
            (JsonLines("predictions", 2), b'{"path": "a", "predictions": [1, 2, 3]}\n'),
            (JsonLines("predictions", 2), b'{"path": "a", "predictions": [1, 2], "error": ""}\n'),
            (JsonLines("embedding", 1), b'{"path": "a", "predictions": [1]}\n'),
            (Rows(lambda row: np.zeros(3, np.float32)), b'{"path": "a", "row": "1"}\n'),
            (Table.of_predictions(",", 1), b"a,,b,1,2,3\n"),
            (Table.of_predictions(",", 1), b"a\n"),
        ],
    )
    def test_other_records_are_refused(self, kind: Format, record: bytes) -> None:
        with pytest.raises(ValueError, match=r"[Ee]xpect"):
            kind.decode(record)

    @pytest.mark.parametrize(
        ("kind", "value"),
        [
            (JsonLines("predictions", 2), "[1, 2]"),
            (JsonLines("predictions", 1), '[{"label": "a", "score": 0.5}]'),
            (JsonLines("embedding", 2), "[1, {}]"),
        ],
    )
    def test_other_values_are_refused(self, kind: JsonLines, value: str, tmp_path: Path) -> None:
        """They are read only if the image is still there."""
        path, image = tmp_path / "out", tmp_path / "a.jpg"
        key = "embedding" if "embedding" in str(vars(kind)) else "predictions"
        path.write_text(f'{{"path": "{tmp_path}/gone.jpg", "{key}": {value}}}\n')
        RecordFile(path, kind, "resume", check=list).close()
        path.write_text(f'{{"path": "{image}", "{key}": {value}}}\n')
        image.touch()
        content = path.read_bytes()
        with pytest.raises(OutputError) as caught:
            RecordFile(path, kind, "resume", check=list)
        assert str(caught.value) == (
            f"{path}: cannot be continued, the record of {image}: expected numbers or classes for "
            f"{key}. Give the options that it was begun with, another --out, or --overwrite"
        )
        assert path.read_bytes() == content


class TestDifference:
    """The rounding of another machine does not make another run."""

    @pytest.mark.parametrize(("factor", "same"), [(1.0, True), (1 + 1e-5, True), (0.998, False)])
    def test_numbers(self, factor: float, same: bool) -> None:
        scores = [0.9, 1e-4]
        before, now = (
            Result(0, "a", predictions=[Prediction("cat", s * f, 1) for s in scores])
            for f in (1.0, factor)
        )
        assert (difference(before, now) is None) == same
        vector = np.array([0, 1e-9, -2.5], np.float32)
        before, now = (Result(0, "a", vector=vector * f) for f in (1.0, factor))
        assert (difference(before, now) is None) == same

    def test_numbers_near_zero(self) -> None:
        before, now = (Result(0, "a", vector=np.array([x, 1], np.float32)) for x in (0, 1e-7))
        assert difference(before, now) is None

    def test_plain_values_near_zero(self) -> None:
        """The rounding of a regression's value depends on the largest, not on the value itself."""
        before, now = (
            Result(0, "a", predictions=[Prediction("x", 40.0, 0), Prediction("y", y, 1)])
            for y in (1e-5, 1.5e-5)
        )
        assert difference(before, now) is not None
        assert difference(before, now, plain=True) is None

    def test_counts(self) -> None:
        one = Prediction("cat", 0.5, 1)
        before, now = (Result(0, "a", predictions=[one] * count) for count in (2, 1))
        assert difference(before, now) == "it has 2 classes there and 1 now"
        assert difference(now, now) is None

    @pytest.mark.parametrize("other", [("dog", 0.5, 1), ("cat", 0.5, 2), ("cat", 0.4, 1)])
    def test_classes(self, other: tuple[str, float, int]) -> None:
        before = Result(0, "a", predictions=[Prediction("cat", 0.5, 1)])
        now = Result(0, "a", predictions=[Prediction(*other)])
        assert f"class 1 is cat (0.5) there and {other[0]}" in str(difference(before, now))


def write_all(output: Any, made: list[Result]) -> None:
    for result in made:
        if result.path not in output:
            output.write(result)
    output.finish()


class TestRecordFile:
    @pytest.mark.parametrize("name", KINDS)
    def test_run_cut_at_any_byte_is_completed(self, name: str, tmp_path: Path) -> None:
        what, make = KINDS[name]
        whole, cut = tmp_path / "whole", tmp_path / "cut"
        write_all(RecordFile(whole, make(), "new"), results(what))
        data = whole.read_bytes()
        for end in range(len(data)):
            cut.write_bytes(data[:end])
            output = RecordFile(cut, make(), "resume")
            assert output.done <= len(NAMES)
            write_all(output, results(what))
            assert cut.read_bytes() == data, f"cut at byte {end}"
            assert (output.done, output.failed) == (len(NAMES), 2)

    def test_resume_starts_what_is_not_there(self, tmp_path: Path) -> None:
        output = RecordFile(tmp_path / "out", JsonLines("predictions", 2), "resume")
        write_all(output, results("predict"))
        again = RecordFile(tmp_path / "out", JsonLines("predictions", 2), "resume")
        assert (again.done, again.failed) == (len(NAMES), 2)
        assert all(name in again for name in NAMES)
        again.close()

    def test_what_is_there_is_kept(self, tmp_path: Path) -> None:
        path = tmp_path / "out"
        path.write_bytes(b"hours of work")
        with pytest.raises(OutputError, match=r"--resume .* --overwrite"):
            RecordFile(path, JsonLines("predictions", 2), "new")
        assert path.read_bytes() == b"hours of work"
        RecordFile(path, JsonLines("predictions", 2), "overwrite").close()
        assert path.read_bytes() == b""

    @pytest.mark.parametrize("name", KINDS)
    @pytest.mark.parametrize(
        "content",
        [b"hours of work", b"hours\nof work\n", b"\x89PNG", b'{"path": 1}\n', b"path,other\na,b\n"],
    )
    def test_file_of_another_program_is_not_touched(
        self, name: str, content: bytes, tmp_path: Path
    ) -> None:
        path = tmp_path / "out"
        path.write_bytes(content)
        with pytest.raises(OutputError, match="cannot be continued"):
            RecordFile(path, KINDS[name][1](), "resume")
        assert path.read_bytes() == content

    def test_output_of_other_options_is_not_touched(self, tmp_path: Path) -> None:
        for name, (what, make) in KINDS.items():
            path = tmp_path / name
            write_all(RecordFile(path, make(), "new"), results(what))
            content = path.read_bytes()
            other = Table.of_predictions(",", 3) if "sv" in name else JsonLines("predictions", 3)
            with pytest.raises(OutputError, match=str(path)):
                RecordFile(path, other, "resume")
            assert path.read_bytes() == content

    def test_second_run_on_one_file_is_refused(self, tmp_path: Path) -> None:
        pytest.importorskip("fcntl")
        first = RecordFile(tmp_path / "out", JsonLines("predictions", 2), "new")
        with pytest.raises(OutputError, match="another process writes to it"):
            RecordFile(tmp_path / "out", JsonLines("predictions", 2), "resume")
        first.close()
        RecordFile(tmp_path / "out", JsonLines("predictions", 2), "resume").close()

    @pytest.mark.parametrize("what", ["no module", "a file system without locks"])
    def test_systems_without_locks_do_without(
        self, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fcntl = pytest.importorskip("fcntl")

        def refuse(*_: object) -> None:
            raise OSError(errno.ENOLCK, "No locks available")

        if what == "no module":
            monkeypatch.setitem(sys.modules, "fcntl", None)
        else:
            monkeypatch.setattr(fcntl, "flock", refuse)
        path = tmp_path / "out"
        write_all(RecordFile(path, JsonLines("predictions", 2), "new"), results("predict"))
        assert path.read_bytes().count(b"\n") == len(NAMES)

    def test_record_is_there_when_write_returns(self, tmp_path: Path) -> None:
        path = tmp_path / "out"
        output = RecordFile(path, JsonLines("predictions", 2), "new")
        for count, result in enumerate(results("predict"), start=1):
            output.write(result)
            assert path.read_bytes().count(b"\n") == count
        output.close()


class TestNpyFile:
    def test_rows_and_records_belong_together(self, tmp_path: Path) -> None:
        path = tmp_path / "e.npy"
        made = results("embed")
        write_all(NpyFile(path, 3, "new"), made)
        good = [result for result in made if result.error is None]
        array = np.load(path)
        np.testing.assert_array_equal(array, np.stack([r.vector for r in good]), strict=True)
        lines = (tmp_path / "e.paths.jsonl").read_text(encoding="utf-8").splitlines()
        records = [json.loads(line) for line in lines]
        assert [record["path"] for record in records] == NAMES
        assert [record["row"] for record in records if "row" in record] == list(range(len(good)))

    def test_it_can_be_loaded_after_every_row(self, tmp_path: Path) -> None:
        path = tmp_path / "e.npy"
        output = NpyFile(path, 3, "new")
        assert np.load(path).shape == (0, 3)
        for result in results("embed"):
            output.write(result)
            assert np.load(path).shape == (output.done - output.failed, 3)
        output.close()

    def test_run_cut_anywhere_is_completed(self, tmp_path: Path) -> None:
        """Either file may have lost any number of bytes at its end, as after a power cut."""
        whole, cut = tmp_path / "whole.npy", tmp_path / "cut.npy"
        write_all(NpyFile(whole, 3, "new"), results("embed"))
        rows, records = whole.read_bytes(), paths_of(whole).read_bytes()
        for rows_end in [*range(0, 128, 40), *range(128, len(rows) + 1, 5), len(rows)]:
            for records_end in range(1, len(records) + 1, 7):
                cut.write_bytes(rows[:rows_end])
                paths_of(cut).write_bytes(records[:records_end])
                write_all(NpyFile(cut, 3, "resume"), results("embed"))
                assert cut.read_bytes() == rows, (rows_end, records_end)
                assert paths_of(cut).read_bytes() == records, (rows_end, records_end)

    def test_array_without_its_records_is_not_touched(self, tmp_path: Path) -> None:
        path = tmp_path / "e.npy"
        np.save(path, np.ones((2, 3), np.float32))
        content = path.read_bytes()
        with pytest.raises(OutputError, match=r"without e\.paths\.jsonl"):
            NpyFile(path, 3, "resume")
        assert path.read_bytes() == content
        assert os.listdir(tmp_path) == ["e.npy"]

    def test_array_of_another_width_is_not_touched(self, tmp_path: Path) -> None:
        path = tmp_path / "e.npy"
        for content in (npy_header(2, 4) + bytes(32), b"hours of work" * 20):
            path.write_bytes(content)
            paths_of(path).write_bytes(b'{"path": "a.jpg", "row": 0}\n')
            with pytest.raises(OutputError, match="no array of 3 columns"):
                NpyFile(path, 3, "resume")
            with pytest.raises(OutputError, match="--overwrite"):
                NpyFile(path, 3, "new")
            assert path.read_bytes() == content

    @pytest.mark.parametrize("rows", [0, 1, 10**6, 10**15])
    def test_header_is_numpys(self, rows: int) -> None:
        header = npy_header(rows, 2048)
        assert len(header) == 128
        file = io.BytesIO(header)
        assert np.lib.format.read_magic(file) == (1, 0)
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        assert (shape, fortran, dtype) == ((rows, 2048), False, np.dtype("<f4"))
        assert file.tell() == 128

    def test_rows_that_were_lost_are_not_compared(self, tmp_path: Path) -> None:
        path = tmp_path / "e.npy"
        made = [Result(i, str(tmp_path / f"{i}"), vector=np.full(3, i, "f4")) for i in range(4)]
        for one in made:
            Path(one.path).touch()
        write_all(NpyFile(path, 3, "new"), made)
        with open(path, "r+b") as file:
            file.truncate(128 + 12 * 2)
        seen: list[Result] = []
        NpyFile(path, 3, "resume", check=seen.extend).close()
        assert [(one.path, list(one.vector)) for one in seen if one.vector is not None] == [
            (one.path, [i] * 3) for i, one in enumerate(made[:2])
        ]

    def test_records_are_free_again_if_the_array_cannot_be_opened(self, tmp_path: Path) -> None:
        path = tmp_path / "e.npy"
        path.mkdir()
        with pytest.raises(IsADirectoryError) as caught:
            NpyFile(path, 3, "overwrite")
        assert caught.value.filename in (path, str(path))
        RecordFile(paths_of(path), Rows(lambda row: np.zeros(3, np.float32)), "overwrite").close()


class TestParquet:
    @pytest.fixture(params=["predict", "embed"])
    def what(self, request: pytest.FixtureRequest) -> str:
        what: str = request.param
        return what

    @staticmethod
    def open(path: Path, what: str, mode: str) -> Any:
        from resnet_rs.stream.folder.parquet import ParquetFile

        embeds = what == "embed"
        return ParquetFile(path, 3 if embeds else 2, mode, embeds=embeds)

    @staticmethod
    def read(path: Path) -> list[dict[str, Any]]:
        import pyarrow.parquet

        rows: list[dict[str, Any]] = pyarrow.parquet.read_table(path).to_pylist()
        return rows

    def check(self, path: Path, what: str, made: list[Result]) -> None:
        rows = self.read(path)
        assert [row["path"] for row in rows] == [
            result.path.replace("\udce9", r"\udce9") for result in made
        ]
        for row, result in zip(rows, made, strict=True):
            assert row["error"] == result.reason
            if result.error is not None:
                assert row["embedding" if what == "embed" else "predictions"] is None
            elif what == "embed":
                assert row["embedding"] == result.vector.tolist()
            else:
                found = [
                    (p["label"], np.float32(p["score"]), p["index"]) for p in row["predictions"]
                ]
                assert found == [
                    (p.label, np.float32(p.score), p.index) for p in result.predictions
                ]

    def test_rows_are_the_results(self, what: str, tmp_path: Path) -> None:
        path = tmp_path / "out.parquet"
        write_all(self.open(path, what, "new"), results(what))
        self.check(path, what, results(what))
        assert os.listdir(tmp_path) == ["out.parquet"]

    def test_no_results(self, what: str, tmp_path: Path) -> None:
        path = tmp_path / "out.parquet"
        write_all(self.open(path, what, "new"), [])
        assert self.read(path) == []

    def test_nothing_but_errors(self, what: str, tmp_path: Path) -> None:
        path = tmp_path / "out.parquet"
        errors = [result for result in results(what) if result.error is not None]
        write_all(self.open(path, what, "new"), errors)
        self.check(path, what, errors)

    def test_run_that_was_cut_is_completed(self, what: str, tmp_path: Path) -> None:
        path = tmp_path / "out.parquet"
        for count in range(len(NAMES)):
            output = self.open(path, what, "overwrite")
            for result in results(what)[:count]:
                output.write(result)
            output.close()
            write_all(self.open(path, what, "resume"), results(what))
            self.check(path, what, results(what))

    def test_whole_file_is_added_to(self, what: str, tmp_path: Path) -> None:
        path = tmp_path / "out.parquet"
        write_all(self.open(path, what, "new"), results(what)[:4])
        before = path.stat()
        again = self.open(path, what, "resume")
        write_all(again, results(what)[:4])
        assert (again.done, again.failed) == (4, 1)
        assert path.stat().st_ino == before.st_ino, "it was rewritten for nothing"
        write_all(self.open(path, what, "resume"), results(what))
        self.check(path, what, results(what))

    def test_whole_file_outlives_a_kill_while_it_is_added_to(
        self, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from resnet_rs.stream.folder import parquet

        path = tmp_path / "out.parquet"
        made = results(what)
        write_all(self.open(path, what, "new"), made[:4])
        read_back = parquet._result
        for count in range(4):
            left = [count]

            def killed(row: dict[str, Any], left: list[int] = left) -> Result:
                left[0] -= 1
                if left[0] < 0:
                    raise KeyboardInterrupt
                return read_back(row)

            with monkeypatch.context() as patch:
                patch.setattr(parquet, "_result", killed)
                output = self.open(path, what, "resume")
                with pytest.raises(KeyboardInterrupt):
                    output.write(made[4])
                output.close()
            assert self.open(path, what, "resume").done == 4
        write_all(self.open(path, what, "resume"), made)
        self.check(path, what, made)
        assert os.listdir(tmp_path) == ["out.parquet"]

    def test_journal_that_became_shorter(self, tmp_path: Path) -> None:
        """It was mapped once, and reading it then ended the process."""
        output = self.open(tmp_path / "out.parquet", "embed", "new")
        for result in results("embed"):
            output.write(result)
        os.truncate(tmp_path / "out.partial.npy", 140)
        with pytest.raises(OutputError, match=r"out\.partial\.npy: has become shorter"):
            output.finish()

    def test_what_is_there_is_kept(self, what: str, tmp_path: Path) -> None:
        path = tmp_path / "out.parquet"
        write_all(self.open(path, what, "new"), results(what))
        with pytest.raises(OutputError, match="--overwrite"):
            self.open(path, what, "new")
        other = "predict" if what == "embed" else "embed"
        with pytest.raises(OutputError, match="other columns"):
            self.open(path, other, "resume")
        self.check(path, what, results(what))

    def test_without_pyarrow_the_extra_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("pyarrow", "pyarrow.parquet"):
            monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(ImportError, match=r"resnet_rs\[parquet\]"):
            self.open(tmp_path / "out.parquet", "predict", "new")
        assert os.listdir(tmp_path) == []

"""`resnet-rs predict` and `embed` on folders: killed and resumed, every file exactly once."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from photo_folder import BROKEN, PHOTOS, command, photos_in, start, write_photo_folder
from telling_rows import assert_telling
from tiny_model import write_tiny_model

import resnet_rs
from resnet_rs import ResNet
from resnet_rs.cli import main

# These time limits catch a hang; nothing here takes this long.
HANG_SECONDS = 60
FORMATS = [
    ("predict", "jsonl"),
    ("predict", "csv"),
    ("predict", "tsv"),
    ("predict", "parquet"),
    ("embed", "jsonl"),
    ("embed", "csv"),
    ("embed", "npy"),
    ("embed", "parquet"),
]


@pytest.fixture(scope="module")
def tiny_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photo_folder(tmp_path_factory.mktemp("folder"))


@pytest.fixture(scope="module")
def photos(folder: Path) -> list[Path]:
    return photos_in(folder)


@pytest.fixture(scope="module")
def tiny(tiny_dir: Path) -> ResNet:
    return resnet_rs.load(tiny_dir)


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + HANG_SECONDS
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def journal_of(out: Path) -> Path:
    """Return the place of an output's records while it is written."""
    if out.suffix == ".npy":
        return out.with_suffix(".paths.jsonl")
    if out.suffix == ".parquet":
        embeds = out.name.startswith("embed")
        return out.with_suffix(".partial.paths.jsonl" if embeds else ".partial.jsonl")
    return out


def records_of(out: Path) -> list[tuple[str, Any]]:
    """Paths and results of an output; None for an error."""
    if out.suffix == ".parquet":
        import pyarrow.parquet

        rows = pyarrow.parquet.read_table(out).to_pylist()
        return [(row["path"], row.get("predictions") or row.get("embedding")) for row in rows]
    if out.suffix in (".csv", ".tsv"):
        separator = "," if out.suffix == ".csv" else "\t"
        rows = list(csv.reader(io.StringIO(out.read_text("utf-8")), delimiter=separator))[1:]
        return [(path, None if error else values) for path, error, *values in rows]
    lines = [json.loads(line) for line in journal_of(out).read_text("ascii").splitlines()]
    if out.suffix == ".npy":
        array = np.load(out)
        assert len(array) == sum("row" in line for line in lines)
        return [
            (one["path"], array[one["row"]].tolist() if "row" in one else None) for one in lines
        ]
    return [(one["path"], one.get("predictions") or one.get("embedding")) for one in lines]


class TestKill:
    @pytest.mark.parametrize(("what", "suffix"), FORMATS)
    def test_killed_run_is_completed_with_every_file_once(
        self,
        what: str,
        suffix: str,
        tiny_dir: Path,
        folder: Path,
        photos: list[Path],
        tmp_path: Path,
    ) -> None:
        out, whole = tmp_path / f"{what}.{suffix}", tmp_path / f"{what}-whole.{suffix}"
        model = ["--weights", tiny_dir]

        # It is given half of the paths and waits for more, so that the kill comes in the middle.
        process = start(what, "-", *model, "-o", out)
        assert process.stdin is not None
        process.stdin.write("".join(f"{path}\n" for path in photos[: PHOTOS // 2]).encode())
        process.stdin.flush()
        journal = journal_of(out)
        wait_until(lambda: journal.exists() and journal.read_bytes().count(b"\n") > PHOTOS // 4)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        # The remains of a kill in the middle of a write.
        with open(journal, "ab") as file:
            file.write(b'{"path": "/som' if journal.suffix == ".jsonl" else b'/some/"path')

        before = journal.read_bytes()
        resumed = subprocess.run(
            command(what, folder, *model, "-o", out, "--resume"), capture_output=True, timeout=120
        )
        assert resumed.returncode == 1, resumed.stderr
        assert b"2 could not be read" in resumed.stderr
        found = records_of(out)
        assert [path for path, _ in found] == [str(path) for path in photos]
        assert [Path(path).name for path, value in found if value is None] == sorted(
            BROKEN, key=[path.name for path in photos].index
        )
        if out == journal:
            kept = before.rindex(b"\n")
            assert out.read_bytes()[:kept] == before[:kept], "records of the first run were lost"

        # And it is what one run writes.
        assert main([what, str(folder), "--weights", str(tiny_dir), "-o", str(whole)]) == 1
        assert records_of(whole) == found

    def test_resuming_what_is_complete_changes_nothing(
        self, tiny_dir: Path, folder: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "out.jsonl"
        arguments = ["predict", str(folder), "--weights", str(tiny_dir), "-o", str(out), "--resume"]
        assert main(arguments) == 1
        content = out.read_bytes()
        # The status still says that images failed.
        assert main(arguments) == 1
        assert out.read_bytes() == content

    def test_interrupt_says_how_to_go_on(
        self, tiny_dir: Path, photos: list[Path], tmp_path: Path
    ) -> None:
        out = tmp_path / "out.jsonl"
        process = start("predict", "-", "--weights", tiny_dir, "-o", out)
        assert process.stdin is not None
        process.stdin.write(f"{photos[0]}\n".encode())
        process.stdin.flush()
        wait_until(lambda: out.exists() and out.read_bytes().endswith(b"\n"))
        process.send_signal(signal.SIGINT)
        assert process.wait(HANG_SECONDS) == 130
        assert process.stderr is not None
        assert process.stderr.read().decode() == f"resnet-rs: {out}: add --resume to continue\n"
        process.stdin.close()
        process.stderr.close()


class TestOtherRun:
    """A run that goes on with other weights or options is refused, and the file is left alone."""

    @pytest.fixture
    def other_dir(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return write_tiny_model(tmp_path_factory.mktemp("other"), seed=1)

    @pytest.mark.parametrize(("what", "suffix"), FORMATS)
    def test_other_weights(
        self,
        what: str,
        suffix: str,
        tiny_dir: Path,
        other_dir: Path,
        folder: Path,
        photos: list[Path],
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        out = tmp_path / f"{what}.{suffix}"
        arguments = [what, "-o", str(out), "--resume", "--weights"]
        assert main([*arguments, str(tiny_dir), *map(str, photos[:3])]) == 0
        if suffix == "jsonl":
            out.write_bytes(out.read_bytes() + b'{"path": "/so')  # a torn record is left, too
        error = self.refused([*arguments, str(other_dir), str(folder)], tmp_path, capsys)
        assert str(out) in error
        assert str(photos[0]) in error
        assert main([*arguments, str(tiny_dir), str(folder)]) == 1
        assert len(records_of(out)) == PHOTOS

    @pytest.mark.parametrize("before_the_end", [False, True])
    @pytest.mark.parametrize(
        ("what", "suffix", "other"),
        [
            ("predict", "jsonl", ["--tta", "hflip"]),
            ("predict", "csv", ["--tta", "hflip"]),
            ("predict", "parquet", ["--tta", "hflip"]),
            ("embed", "npy", ["--normalize"]),
            ("embed", "parquet", ["--normalize"]),
            ("embed", "csv", ["--normalize"]),
        ],
    )
    def test_other_options(
        self,
        what: str,
        suffix: str,
        other: list[str],
        before_the_end: bool,
        tiny_dir: Path,
        photos: list[Path],
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        out = tmp_path / f"{what}.{suffix}"
        arguments = [what, "--weights", str(tiny_dir), "-o", str(out), "--resume"]
        broken = next(path for path in photos if path.name in BROKEN)
        inputs = [str(broken), *map(str, photos[:3])]
        if before_the_end:
            # The last argument ends the run, and a Parquet file is not made.
            inputs = [*inputs[1:], str(tmp_path / "missing.png")]
            assert main([*arguments, "--on-error", "fail", *inputs]) == 1
        else:
            assert main([*arguments, *inputs]) == 1
        error = self.refused([*arguments, *other, *inputs], tmp_path, capsys)
        assert str(out) in error
        assert str(photos[0]) in error

    def refused(
        self, arguments: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> str:
        """Run a command that is to be refused and to leave a folder alone; returns its error."""
        before = {path: path.read_bytes() for path in folder.iterdir()}
        capsys.readouterr()
        assert main(arguments) == 2
        assert {path: path.read_bytes() for path in folder.iterdir()} == before
        error = capsys.readouterr().err
        assert len(error.splitlines()) == 1
        assert "was begun with other weights or options" in error
        return error

    @pytest.mark.parametrize(("what", "suffix"), FORMATS)
    def test_first_image_that_is_there_is_compared(
        self,
        what: str,
        suffix: str,
        tiny_dir: Path,
        other_dir: Path,
        photos: list[Path],
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        out = tmp_path / f"{what}.{suffix}"
        copies = [tmp_path / name for name in ("a.png", "b.png", "c.png")]
        for copy, photo in zip(copies, photos, strict=False):
            copy.write_bytes(photo.read_bytes())
        arguments = [what, "-o", str(out), "--resume", *map(str, copies), "--weights"]
        assert main([*arguments, str(tiny_dir)]) == 0
        copies[0].unlink()
        copies[1].write_bytes(b"no image any more")
        assert main([*arguments, str(tiny_dir)]) == 0
        assert str(copies[2]) in self.refused([*arguments, str(other_dir)], tmp_path, capsys)
        # Without any there is nothing to compare.
        copies[2].unlink()
        assert main([*arguments, str(other_dir)]) == 0

    def test_top_k_of_a_whole_parquet_file_whose_images_are_gone(
        self, tiny_dir: Path, photos: list[Path], tmp_path: Path, capsys: Any
    ) -> None:
        out, copy = tmp_path / "out.parquet", tmp_path / "a.png"
        copy.write_bytes(photos[0].read_bytes())
        arguments = ["predict", "--weights", str(tiny_dir), "-o", str(out), "--resume", str(copy)]
        assert main(arguments) == 0
        copy.unlink()
        error = self.refused([*arguments, "--top-k", "1"], tmp_path, capsys)
        assert "5 classes for each image, and this run gives 1" in error
        assert main(arguments) == 0

    def test_top_k_of_a_whole_parquet_file_without_results(
        self, tiny_dir: Path, tmp_path: Path
    ) -> None:
        """No row tells how many classes there were, so that any number may follow."""
        out, broken = tmp_path / "out.parquet", tmp_path / "a.png"
        broken.write_bytes(b"no image")
        arguments = ["predict", "--weights", str(tiny_dir), "-o", str(out), str(broken)]
        assert main(arguments) == 1
        assert main([*arguments, "--resume", "--top-k", "1"]) == 1
        assert len(records_of(out)) == 1


class TestResults:
    def test_they_are_those_of_predict(
        self, tiny: ResNet, tiny_dir: Path, folder: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "out.jsonl"
        main(["predict", str(folder), "--weights", str(tiny_dir), "-o", str(out), "--top-k", "2"])
        for path, found in records_of(out):
            if found is not None:
                expected = tiny.predict(path, top_k=2)
                assert [(p["label"], p["score"], p["index"]) for p in found] == [
                    (p.label, p.score, p.index) for p in expected
                ]

    @pytest.mark.parametrize("options", [[], ["--normalize"], ["--pool", "catavgmax"]])
    def test_they_are_those_of_embed(
        self, options: list[str], tiny: ResNet, tiny_dir: Path, folder: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "out.npy"
        main(["embed", str(folder), "--weights", str(tiny_dir), "-o", str(out), *options])
        paths = [path for path, value in records_of(out) if value is not None]
        assert len(paths) == PHOTOS - len(BROKEN)
        pool = "catavgmax" if "--pool" in options else "avg"
        expected = tiny.embed(paths, pool=pool, normalize="--normalize" in options)
        assert_telling(expected)
        np.testing.assert_array_equal(np.load(out), expected, strict=True)

    def test_augmentation(
        self, tiny: ResNet, tiny_dir: Path, photos: list[Path], capsys: pytest.CaptureFixture[str]
    ) -> None:
        arguments = ["predict", str(photos[0]), "--weights", str(tiny_dir), "--tta", "hflip"]
        assert main([*arguments, "--format", "json"]) == 0
        (found,) = json.loads(capsys.readouterr().out)
        expected = tiny.predict(photos[0], tta="hflip")
        assert [p["score"] for p in found["predictions"]] == [p.score for p in expected]

    def test_formats_on_stdout_are_those_in_files(
        self, tiny_dir: Path, folder: Path, tmp_path: Path, capfdbinary: Any
    ) -> None:
        for what, form in (("predict", "jsonl"), ("predict", "tsv"), ("embed", "csv")):
            arguments = [what, str(folder), "--weights", str(tiny_dir)]
            assert main([*arguments, "--format", form]) == 1
            assert main([*arguments, "-o", str(tmp_path / f"{what}.{form}")]) == 1
            assert capfdbinary.readouterr().out == (tmp_path / f"{what}.{form}").read_bytes()


class TestInputs:
    @pytest.fixture(autouse=True)
    def options(self, tiny_dir: Path) -> None:
        self.model = ["--weights", str(tiny_dir), "--format", "jsonl", "--top-k", "1"]

    def paths(self, output: str) -> list[str]:
        return [json.loads(line)["path"] for line in output.splitlines()]

    def test_list_pattern_and_directory(
        self,
        folder: Path,
        photos: list[Path],
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        names = [str(path) for path in photos if path.name not in BROKEN]
        listed = tmp_path / "list.txt"
        listed.write_text("\n".join(names), encoding="utf-8")
        assert main(["predict", f"@{listed}", *self.model]) == 0
        assert self.paths(capsys.readouterr().out) == names
        assert main(["predict", f"{folder}/*.png", *self.model]) == 0
        assert self.paths(capsys.readouterr().out) == list(map(str, sorted(folder.glob("*.png"))))
        assert main(["predict", str(folder), "--no-recursive", *self.model]) == 0
        assert self.paths(capsys.readouterr().out) == list(map(str, sorted(folder.glob("*.png"))))

    @pytest.mark.parametrize("nul", [False, True])
    def test_stdin_and_names_of_any_kind(
        self, nul: bool, photos: list[Path], tmp_path: Path
    ) -> None:
        names = [os.fsencode(tmp_path) + b"/" + n for n in (b"\xe5\xad\x97.png", b"caf\xe9.png")]
        if nul:
            names.append(os.fsencode(tmp_path) + b"/new\nline.png")
        for name in names:
            Path(os.fsdecode(name)).write_bytes(photos[0].read_bytes())
        separator = b"\0" if nul else b"\n"
        result = subprocess.run(
            command("predict", "-", *(["-0"] if nul else []), *self.model),
            input=separator.join(names),
            capture_output=True,
            timeout=120,
        )
        assert (result.returncode, result.stderr) == (0, b"")
        found = [os.fsencode(path) for path in self.paths(result.stdout.decode("ascii"))]
        assert found == names

    def test_results_come_while_the_list_goes_on(self, photos: list[Path]) -> None:
        process = start("predict", "-", *self.model, stdout=subprocess.PIPE)
        assert process.stdin is not None
        assert process.stdout is not None
        for path in photos[:3]:
            process.stdin.write(f"{path}\n".encode())
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["path"] == str(path)
        assert process.communicate()[1] == b""
        assert process.returncode == 0

    def test_empty_directory_is_a_warning(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["predict", str(tmp_path), *self.model]) == 0
        assert capsys.readouterr() == ("", f"resnet-rs: warning: no images in {tmp_path}\n")
        assert main(["predict", str(tmp_path), *self.model, "--format", "json"]) == 0
        assert json.loads(capsys.readouterr().out) == []

    def test_files_that_are_not_read_are_counted_at_the_end(
        self, photos: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        folder = tmp_path / "folder"
        (folder / "sub").mkdir(parents=True)
        shutil.copy(photos[0], folder)
        for name in ("a.ico", "b.ICO", "sub/c.ico", "sub/notes.txt", "LICENSE"):
            (folder / name).write_bytes(b"")
        kinds = "3 .ico, 1 without a suffix, 1 .txt"
        expected = f"resnet-rs: not read: {kinds}. A pattern names such files: 'DIR/**/*.ico'\n"
        assert main(["predict", str(folder), *self.model]) == 0
        assert sorted(capsys.readouterr().err.split(", ")) == sorted(expected.split(", "))
        # A run that is continued has nothing left to do, and says the same.
        out = ["-o", str(tmp_path / "out.jsonl"), "--resume"]
        for _ in range(2):
            assert main(["predict", str(folder), *self.model, *out]) == 0
            assert "not read: 3 .ico" in capsys.readouterr().err

    def test_eight_kinds_of_files_that_are_not_read_are_named(
        self, photos: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        shutil.copy(photos[0], tmp_path)
        for kind in "abcdefgh":
            for number in "12":
                (tmp_path / f"{number}.{kind}x").write_bytes(b"")
        (tmp_path / "1.ix").write_bytes(b"")
        assert main(["predict", str(tmp_path), *self.model]) == 0
        named, rest = capsys.readouterr().err.split(". A pattern")[0].rsplit(", ", 1)
        assert sorted(named.split(": ")[-1].split(", ")) == [f"2 .{kind}x" for kind in "abcdefgh"]
        assert rest == "1 of other kinds"

    def test_directory_that_cannot_be_listed_is_a_record(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        scandir = os.scandir

        def refuse(path: str) -> Any:
            if os.fspath(path).endswith("sub"):
                raise PermissionError(13, "Permission denied", path)
            return scandir(path)

        monkeypatch.setattr(os, "scandir", refuse)
        assert main(["predict", str(folder), *self.model]) == 1
        records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        failed = [record for record in records if "error" in record]
        assert failed == [{"path": str(folder / "sub"), "error": "Permission denied"}]
        assert len(records) == len(list(folder.glob("*.png"))) + 1

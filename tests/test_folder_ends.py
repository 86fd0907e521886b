"""Endings of `resnet-rs predict` on a folder: status, messages, a terminal, a full disk."""

from __future__ import annotations

import json
import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from photo_folder import BROKEN, PHOTOS, command, photos_in, start, write_photo_folder
from tiny_model import write_tiny_model

from resnet_rs.cli import main

# These time limits catch a hang; nothing here takes this long.
HANG_SECONDS = 60


@pytest.fixture(scope="module")
def tiny_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photo_folder(tmp_path_factory.mktemp("folder"))


@pytest.fixture(scope="module")
def photos(folder: Path) -> list[Path]:
    return photos_in(folder)


def records_of(out: Path) -> list[tuple[str, Any]]:
    """Paths and predictions of JSON Lines; None for an error."""
    lines = [json.loads(line) for line in out.read_text("ascii").splitlines()]
    return [(line["path"], line.get("predictions")) for line in lines]


class TestEnds:
    def test_first_error_ends_the_run_if_asked(
        self,
        tiny_dir: Path,
        folder: Path,
        photos: list[Path],
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        out = tmp_path / "out.jsonl"
        arguments = ["predict", str(folder), "--weights", str(tiny_dir), "-o", str(out)]
        assert main([*arguments, "--on-error", "fail"]) == 1
        names = [path.name for path in photos]
        first = min(names.index(name) for name in BROKEN)
        assert [path for path, _ in records_of(out)] == list(map(str, photos[:first]))
        error = capsys.readouterr().err
        assert error.startswith(f"resnet-rs: {photos[first]}: cannot be decoded")
        # Once it is mended the run goes on with it.
        broken = photos[first].read_bytes()
        photos[first].write_bytes(photos[0].read_bytes())
        try:
            assert main([*arguments, "--resume"]) == 1
        finally:
            photos[first].write_bytes(broken)
        assert [path for path, _ in records_of(out)] == list(map(str, photos))
        assert records_of(out)[first][1] is not None

    def test_a_directory_that_cannot_be_listed_ends_the_run_if_asked(
        self,
        tiny_dir: Path,
        photos: list[Path],
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """As an image that cannot be read; otherwise it is recorded, and the run goes on."""
        closed = tmp_path / "closed"
        closed.mkdir()
        scandir = os.scandir

        def refuse(path: Any) -> Any:
            if path == str(closed):
                raise PermissionError(13, "Permission denied", path)
            return scandir(path)

        monkeypatch.setattr("resnet_rs.stream.folder.paths.os.scandir", refuse)
        arguments = ["predict", str(closed), str(photos[0]), "--weights", str(tiny_dir), "-o"]
        stopped, whole = tmp_path / "stopped.jsonl", tmp_path / "whole.jsonl"
        assert main([*arguments, str(stopped), "--on-error", "fail"]) == 1
        assert capsys.readouterr().err == f"resnet-rs: {closed}: Permission denied\n"
        assert stopped.read_bytes() == b""
        assert main([*arguments, str(whole)]) == 1
        assert [path for path, _ in records_of(whole)] == [str(closed), str(photos[0])]

    def test_array_is_ended_however_the_run_ends(
        self, tiny_dir: Path, photos: list[Path], capsys: pytest.CaptureFixture[str]
    ) -> None:
        inputs = [str(photos[0]), "missing.png", str(photos[1])]
        model = ["--weights", str(tiny_dir), "--format", "json"]
        assert main(["predict", *inputs, *model, "--on-error", "fail"]) == 1
        output = capsys.readouterr()
        assert [entry["path"] for entry in json.loads(output.out)] == inputs[:1]
        assert output.err == "resnet-rs: missing.png: No such file or directory\n"

    def test_reader_that_goes_away(self, tiny_dir: Path, folder: Path) -> None:
        for form in ("text", "json", "jsonl", "csv"):
            reader, writer = os.pipe()
            os.close(reader)
            process = start(
                "predict", folder, "--weights", tiny_dir, "--format", form, stdout=writer
            )
            os.close(writer)
            _, error = process.communicate(timeout=120)
            assert (process.returncode, error) == (141, b"")  # 128 + SIGPIPE

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--format", "parquet"], "add --out"),
            (["--resume"], "add --out"),
            (["--overwrite"], "add --out"),
            (["-o", "x.dat"], "names no format: add --format (text, json, jsonl"),
            (["-o", "x.npy"], "names no format"),
            (["-o", "x.json", "--resume"], "such as jsonl"),
            (["-o", "x.txt", "--resume"], "such as jsonl"),
            (["-o", "x.csv", "--resume", "--overwrite"], "leave one out"),
            (["--batch-size", "0"], "whole number from 1 up"),
        ],
    )
    def test_bad_usage(
        self, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as caught:
            main(["predict", "x.jpg", "--weights", ".", *arguments])
        assert caught.value.code == 2
        assert message in " ".join(capsys.readouterr().err.split())

    def test_what_cannot_be_written_or_read_is_one_line(
        self, tiny_dir: Path, photos: list[Path], tmp_path: Path, capsys: Any
    ) -> None:
        there = tmp_path / "there.csv"
        there.write_bytes(b"hours of work\n")
        model = ["--weights", str(tiny_dir)]
        for arguments, message in (
            (["-o", str(there)], "--resume"),
            (["-o", str(there), "--resume"], "cannot be continued"),
            (["-o", str(tmp_path), "--format", "csv"], "is there already"),
            (["-o", str(tmp_path / "no/such/directory.csv")], "No such file or directory"),
            (["-o", os.devnull, "--format", "csv", "--resume"], "is no regular file"),
            (["@" + str(tmp_path / "missing.txt")], "missing.txt"),
        ):
            assert main(["predict", *model, "--top-k", "1", str(photos[0]), *arguments]) == 2
            out, error = capsys.readouterr()
            assert out == ""
            assert len(error.splitlines()) == 1
            assert error.startswith("resnet-rs: error: ")
            assert message in error
        assert there.read_bytes() == b"hours of work\n"
        assert main(["predict", str(photos[0]), *model, "-o", str(there), "--overwrite"]) == 0
        assert there.read_bytes().startswith(b"path,error,label_1")

    @pytest.mark.parametrize(("name", "start"), [("out.json", b"["), ("out.txt", b"/")])
    def test_texts_and_arrays_go_to_new_files_only(
        self,
        name: str,
        start: bytes,
        tiny_dir: Path,
        photos: list[Path],
        tmp_path: Path,
        capsys: Any,
    ) -> None:
        out = tmp_path / name
        arguments = ["predict", str(photos[0]), "--weights", str(tiny_dir), "-o", str(out)]
        assert main(arguments) == 0
        content = out.read_bytes()
        assert content.startswith(start)
        assert main(arguments) == 2
        assert f"{out}: is there already. Add --resume to continue it" in capsys.readouterr().err
        assert out.read_bytes() == content
        out.write_bytes(b"of another program")
        assert main([*arguments, "--overwrite"]) == 0
        assert out.read_bytes() == content
        assert main([*arguments[:-1], os.devnull, "--format", "json"]) == 0

    def test_progress_is_off_where_the_results_are_shown(
        self, tiny_dir: Path, photos: list[Path], capsys: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        arguments = ["predict", str(photos[0]), "--weights", str(tiny_dir)]
        for stdout, shown in ((True, False), (False, True)):
            monkeypatch.setattr("sys.stdout.isatty", lambda stdout=stdout: stdout)
            monkeypatch.setattr("sys.stderr.isatty", lambda: True)
            assert main(arguments) == 0
            output = capsys.readouterr()
            assert output.out.startswith(str(photos[0]))
            assert ("images/s" in output.err) == shown
            assert ("\x1b" in output.err) == shown

    def test_full_disk_is_one_line(
        self, tiny_dir: Path, photos: list[Path], capsys: pytest.CaptureFixture[str]
    ) -> None:
        if not os.path.exists("/dev/full"):
            pytest.skip("this system has no /dev/full")
        arguments = ["predict", str(photos[0]), "--weights", str(tiny_dir), "-o", "/dev/full"]
        assert main([*arguments, "--format", "jsonl", "--overwrite"]) == 2
        assert "No space left" in capsys.readouterr().err

    def test_disk_that_fills_up_in_the_middle(
        self, tiny_dir: Path, folder: Path, photos: list[Path], tmp_path: Path
    ) -> None:
        out = tmp_path / "out.jsonl"
        arguments = command("predict", folder, "--weights", tiny_dir, "-o", out, "--resume")
        # In the middle of a record: Python turns the limit into an error of the write.
        limit = 3001
        result = subprocess.run(
            arguments,
            capture_output=True,
            text=True,
            timeout=120,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        )
        assert (result.returncode, result.stderr) == (
            2,
            f"resnet-rs: error: [Errno 27] File too large: {str(out)!r}\n",
        )
        assert out.stat().st_size == limit
        assert subprocess.run(arguments, capture_output=True, timeout=120).returncode == 1
        assert [path for path, _ in records_of(out)] == list(map(str, photos))

    @pytest.mark.parametrize("ending", [".csv", ".npy", ".json", ".txt", ".parquet"])
    def test_file_that_grows_too_large_is_named(
        self, ending: str, tiny_dir: Path, folder: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / f"out{ending}"
        what = "embed" if ending == ".npy" else "predict"
        arguments = command(what, folder, "--weights", tiny_dir, "-o", out)
        if ending == ".txt":
            arguments += ["--format", "text"]
        result = subprocess.run(
            arguments,
            capture_output=True,
            text=True,
            timeout=120,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (150, 150)),
        )
        assert result.returncode == 2
        first, *_ = result.stderr.splitlines()
        assert "[Errno 27] File too large: " in first
        assert str(out.with_suffix("")) in first

    def test_model_without_classes_has_no_output(
        self, tmp_path: Path, photos: list[Path], capsys: pytest.CaptureFixture[str]
    ) -> None:
        headless = write_tiny_model(tmp_path / "headless", num_classes=0)
        out = tmp_path / "out.csv"
        model = ["--weights", str(headless)]
        assert main(["predict", str(photos[0]), *model, "-o", str(out)]) == 2
        assert "no classes" in capsys.readouterr().err
        assert not out.exists()
        assert main(["embed", str(photos[0]), *model, "-o", str(out)]) == 0


class TestTerminal:
    """A run whose stderr is a terminal."""

    @pytest.fixture
    def terminal(self) -> Iterator[tuple[int, int]]:
        pty = pytest.importorskip("pty")
        ours, theirs = pty.openpty()
        yield ours, theirs
        os.close(ours)

    def test_progress_and_summary(
        self, terminal: tuple[int, int], tiny_dir: Path, folder: Path, tmp_path: Path
    ) -> None:
        ours, theirs = terminal
        arguments = ["predict", folder, "--weights", tiny_dir, "-o", tmp_path / "out.jsonl"]
        process = subprocess.Popen(command(*arguments), stderr=theirs)
        os.close(theirs)
        text = b""
        while True:
            try:
                chunk = os.read(ours, 65536)
            except OSError:  # how Linux tells that the other side is closed
                break
            if not chunk:
                break
            text += chunk
        assert process.wait(HANG_SECONDS) == 1
        lines = text.decode().replace("\r\n", "\n").split("\n")
        assert "images/s" in lines[0]
        # The line is cleared before the summary.
        assert "\r\x1b[Kresnet-rs: " in lines[0]
        assert f"{PHOTOS} images in 0:0" in lines[0].rpartition("resnet-rs: ")[2]

"""`resnet-rs` on the command line: output, exit status, errors without tracebacks."""

from __future__ import annotations

import io
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import resnet_rs
from resnet_rs import ResNet50, __version__
from resnet_rs._core import available_isas, cpu_features, default_threads
from resnet_rs.bench.system import cpu_model
from resnet_rs.cli import main
from resnet_rs.options import PRECISIONS


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RESNET_RS_ISA", raising=False)


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    path = tmp_path / "broken.jpg"
    path.write_bytes(b"\xff\xd8\xff\xe0 not really")
    return path


def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    command = [sys.executable, "-m", "resnet_rs", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


def usage_error(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Return argparse's complaint about refused arguments."""
    with pytest.raises(SystemExit) as caught:
        main([str(a) for a in arguments])
    assert caught.value.code == 2
    return capsys.readouterr().err


class TestPredict:
    def test_text_shows_each_photo_with_its_best_classes(
        self,
        demo_dir: Path,
        demo_photos: list[Path],
        model: ResNet50,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        paths = demo_photos[:3]
        assert main(["predict", *map(str, paths), "--weights", str(demo_dir), "--top-k", "2"]) == 0
        output = capsys.readouterr()
        lines = iter(output.out.splitlines())
        for path in paths:
            assert next(lines) == str(path)
            for prediction in model.predict(path, top_k=2):
                assert next(lines) == f"  {prediction.score:7.2%}  {prediction.label}"
        assert list(lines) == []
        assert output.err == ""

    def test_json_holds_the_same_predictions(
        self,
        demo_dir: Path,
        demo_photos: list[Path],
        model: ResNet50,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        paths = [str(path) for path in demo_photos[:3]]
        assert main(["predict", *paths, "--weights", str(demo_dir), "--format", "json"]) == 0
        output = capsys.readouterr()
        assert json.loads(output.out) == [
            {
                "path": path,
                "predictions": [
                    {"label": p.label, "score": p.score, "index": p.index}
                    for p in model.predict(path)
                ],
            }
            for path in paths
        ]
        assert output.err == ""

    def test_bad_image_costs_one_line_and_the_others_go_on(
        self,
        demo_dir: Path,
        demo_photos: list[Path],
        broken: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        good = [str(demo_photos[0]), str(demo_photos[1])]
        paths = [good[0], str(broken), "missing.jpg", good[1]]
        assert main(["predict", *paths, "--weights", str(demo_dir), "--top-k", "1"]) == 1
        output = capsys.readouterr()
        assert [line for line in output.out.splitlines() if not line.startswith(" ")] == good
        errors = output.err.splitlines()
        assert len(errors) == 2
        assert errors[0].startswith(f"resnet-rs: {broken}: ")
        assert errors[1] == "resnet-rs: missing.jpg: No such file or directory"

    def test_control_characters_of_file_names_are_escaped(
        self,
        demo_dir: Path,
        demo_photo: Path,
        broken: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        good = shutil.copy(demo_photo, tmp_path / "\x1b[2Ja\nb.jpg")
        bad = broken.rename(tmp_path / "bad\r.jpg")
        assert main(["predict", str(good), str(bad), "--weights", str(demo_dir)]) == 1
        output = capsys.readouterr()
        assert output.out.startswith(rf"{tmp_path}/\x1b[2Ja\nb.jpg")
        assert output.err.startswith(rf"resnet-rs: {tmp_path}/bad\r.jpg: ")
        assert not {"\x1b", "\r"} & set(output.out + output.err)

    def test_bad_image_is_an_error_object_in_json(
        self,
        demo_dir: Path,
        demo_photo: Path,
        broken: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        paths = [str(broken), str(demo_photo)]
        arguments = ["predict", *paths, "--weights", str(demo_dir), "--format", "json"]
        assert main(arguments) == 1
        output = capsys.readouterr()
        bad, good = json.loads(output.out)
        assert bad.keys() == {"path", "error"}
        assert "truncated or damaged" in bad["error"]
        assert str(broken) not in bad["error"]
        assert len(good["predictions"]) == 5
        assert output.err == ""

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "INPUT"),
            (["x.jpg"], "--weights"),
            (["x.jpg", "--weights", ".", "--top-k", "0"], "whole number from 1 up"),
            (["x.jpg", "--weights", ".", "--threads", "two"], "whole number from 1 up"),
            (["x.jpg", "--weights", ".", "--isa", "sse9"], "portable"),
            (["x.jpg", "--weights", ".", "--format", "xml"], "json"),
        ],
    )
    def test_bad_usage_exits_with_2(
        self, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert message in usage_error(capsys, "predict", *arguments)

    def test_bad_weights_exit_with_2(
        self, tmp_path: Path, demo_photo: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        weights = tmp_path / "bad.safetensors"
        weights.write_bytes(b"no header")
        for path in (weights, tmp_path / "missing"):
            assert main(["predict", str(demo_photo), "--weights", str(path)]) == 2
            output = capsys.readouterr()
            assert output.out == ""
            assert output.err.startswith("resnet-rs: error: ")
            assert str(path) in output.err
            assert len(output.err.splitlines()) == 1

    def test_isa_and_threads_are_passed_on(
        self, demo_dir: Path, demo_photo: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        arguments = ["predict", str(demo_photo), "--weights", str(demo_dir), "--format", "json"]
        assert main([*arguments, "--isa", "portable", "--threads", "2"]) == 0
        portable = json.loads(capsys.readouterr().out)
        expected = ResNet50(demo_dir, isa="portable", threads=2).predict(demo_photo)
        assert [p["score"] for p in portable[0]["predictions"]] == [p.score for p in expected]

    def test_assumed_config_is_one_plain_line(
        self,
        demo_dir: Path,
        demo_photo: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        bare = tmp_path / "bare.safetensors"
        bare.symlink_to(demo_dir / "model.safetensors")
        arguments = ["predict", str(demo_photo), "--weights", str(bare)]
        assert main([*arguments, "--architecture", "resnet50"]) == 0
        error = capsys.readouterr().err
        assert error.startswith(f"resnet-rs: warning: {bare}: there is no config.json")
        assert len(error.splitlines()) == 1
        # The architecture is asked for, never assumed.
        assert main(arguments) == 2
        assert "resnet50" in capsys.readouterr().err


class TestInfo:
    def test_text_names_everything(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["info"]) == 0
        lines = capsys.readouterr().out.splitlines()
        rows = dict(re.split("  +", line, maxsplit=1) for line in lines)
        assert rows["version"] == __version__
        assert rows["cpu features"].split() == cpu_features()
        assert rows["isas"].split() == available_isas()
        assert rows["isa"] == available_isas()[-1]
        assert rows["precisions"].split() == list(PRECISIONS)
        assert int(rows["threads"]) == default_threads()

    def test_json_holds_the_same(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("RESNET_RS_NUM_THREADS", "3")
        assert main(["info", "--format", "json"]) == 0
        info = json.loads(capsys.readouterr().out)
        assert info["version"] == __version__
        assert info["cpu_features"] == cpu_features()
        assert info["isas"] == available_isas()
        assert info["isa"] == available_isas()[-1]
        assert (info["threads"], info["threads_from"]) == (3, "RESNET_RS_NUM_THREADS")

    def test_weights_add_the_precision_and_every_kernel(
        self, demo_dir: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        command = ["info", "--weights", str(demo_dir), "--isa", "portable", "--threads", "3"]
        assert main([*command, "--format", "json"]) == 0
        info = json.loads(capsys.readouterr().out)
        assert (info["isa"], info["isa_from"]) == ("portable", "--isa")
        assert (info["threads"], info["threads_from"]) == (3, "--threads")
        assert (info["architecture"], info["precision"]) == ("resnet50", "f32")
        model = resnet_rs.load(demo_dir, isa="portable")
        assert sum(info["kernels"].values()) == len(model.layer_names)
        assert info["kernels"].keys() == {
            row.kernel for row in model.summary().rows if row.kernel is not None
        }
        assert main(command) == 0
        lines = capsys.readouterr().out.splitlines()
        assert "precision     f32" in lines
        kernel, layers = next(iter(info["kernels"].items()))
        assert lines[-1].startswith(f"kernels       {kernel} ({layers} layers), ")

    def test_flags_of_a_model_need_weights(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as caught:
            main(["info", "--isa", "portable"])
        assert caught.value.code == 2
        assert "need --weights" in capsys.readouterr().err
        assert main(["info", "--weights", str(tmp_path / "missing")]) == 2
        assert "missing" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("variables", "threads", "origin"),
        [
            ({"RAYON_NUM_THREADS": "5", "OMP_NUM_THREADS": "7"}, 5, "RAYON_NUM_THREADS"),
            ({"RAYON_NUM_THREADS": "0", "OMP_NUM_THREADS": "7,2"}, 7, "OMP_NUM_THREADS"),
            ({"OMP_NUM_THREADS": "many"}, None, "the CPUs that this process may use"),
        ],
    )
    def test_origin_of_the_thread_count(
        self,
        variables: dict[str, str],
        threads: int | None,
        origin: str,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.delenv("RESNET_RS_NUM_THREADS", raising=False)
        monkeypatch.delenv("RAYON_NUM_THREADS", raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        assert main(["info", "--format", "json"]) == 0
        info = json.loads(capsys.readouterr().out)
        assert info["threads"] == (default_threads() if threads is None else threads)
        assert info["threads_from"] == origin

    def test_origin_of_the_tier(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        best = available_isas()[-1]
        for named, isa, origin in (
            (None, best, "the best that this machine has"),
            ("", best, "the best that this machine has"),
            ("portable", "portable", "RESNET_RS_ISA"),
        ):
            if named is not None:
                monkeypatch.setenv("RESNET_RS_ISA", named)
            assert main(["info", "--format", "json"]) == 0
            info = json.loads(capsys.readouterr().out)
            assert (info["isa"], info["isa_from"]) == (isa, origin)

    @pytest.mark.parametrize(
        ("text", "processor", "name"),
        [
            ("cpu\t: 0\nmodel name\t: Some: CPU\nmodel name\t: Other\n", "x", "Some: CPU"),
            ("processor\t: 0\nBogoMIPS\t: 243.75\n", "arm", "arm"),
            ("", "", platform.machine()),
            (None, "arm", "arm"),
        ],
    )
    def test_name_of_the_processor(
        self, text: str | None, processor: str, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def opened(path: str, **_: object) -> io.StringIO:
            assert path == "/proc/cpuinfo"
            if text is None:
                raise FileNotFoundError(path)
            return io.StringIO(text)

        monkeypatch.setattr("resnet_rs.bench.system.open", opened, raising=False)
        monkeypatch.setattr(platform, "processor", lambda: processor)
        assert cpu_model() == name

    def test_impossible_wishes_are_shown_not_raised(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("RESNET_RS_ISA", "sse9")
        monkeypatch.setenv("RESNET_RS_NUM_THREADS", "many")
        assert main(["info", "--format", "json"]) == 0
        info = json.loads(capsys.readouterr().out)
        assert info["isa"] is None
        assert "sse9" in info["isa_from"]
        assert info["threads"] is None
        assert "RESNET_RS_NUM_THREADS" in info["threads_from"]


class TestProgram:
    def test_module_prints_the_version(self) -> None:
        result = run("--version")
        assert (result.returncode, result.stdout.strip()) == (0, f"resnet-rs {__version__}")

    def test_script_is_the_module(self) -> None:
        script = Path(sys.executable).with_name("resnet-rs")
        if not script.exists():
            pytest.skip("the package runs from its source tree, not from an installed wheel")
        result = subprocess.run([script, "--version"], capture_output=True, text=True, timeout=60)
        assert result.stdout == run("--version").stdout

    @pytest.mark.parametrize("command", [[], ["predict"], ["info"]])
    def test_help_shows_examples_and_exit_status(
        self, command: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as caught:
            main([*command, "--help"])
        assert caught.value.code == 0
        text = capsys.readouterr().out
        if command != ["info"]:
            assert "resnet-rs predict cat.jpg --weights weights/" in text
            assert "exit status" in text

    def test_no_command_is_bad_usage(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert "COMMAND" in usage_error(capsys)

    def test_reader_that_goes_away_is_no_error(self, demo_dir: Path, demo_photo: Path) -> None:
        reader, writer = os.pipe()
        os.close(reader)
        command = [sys.executable, "-m", "resnet_rs", "predict", *[demo_photo] * 3]
        command += ["--weights", demo_dir, "--threads", "1"]
        result = subprocess.run(
            list(map(str, command)), stdout=writer, stderr=subprocess.PIPE, text=True, timeout=120
        )
        os.close(writer)
        assert result.stderr == ""
        assert result.returncode == 141  # 128 + SIGPIPE

    def test_interrupt_leaves_no_traceback(
        self, demo_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def interrupt(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("resnet_rs.stream.folder.run.stream", interrupt)
        assert main(["predict", "x.jpg", "--weights", str(demo_dir)]) == 130
        assert capsys.readouterr() == ("", "")

    def test_names_that_the_terminal_cannot_show(
        self, demo_dir: Path, demo_photo: Path, tmp_path: Path
    ) -> None:
        path = os.fsencode(tmp_path) + b"/caf\xe9 \xe5\xad\x97.jpg"
        with Image.open(demo_photo) as image, open(path, "wb") as file:
            image.save(file, "jpeg")
        environment = dict(os.environ, PYTHONIOENCODING="ascii")
        for form in ("text", "json"):
            command = [sys.executable, "-m", "resnet_rs", "predict", path, "--format", form]
            command += ["--weights", str(demo_dir), "--threads", "1"]
            result = subprocess.run(command, capture_output=True, timeout=120, env=environment)
            assert (result.returncode, result.stderr) == (0, b"")
            assert b"caf" in result.stdout


class TestBrokenOutput:
    def test_full_disk_behind_stdout_is_one_line(self) -> None:
        if not os.path.exists("/dev/full"):
            pytest.skip("this system has no /dev/full")
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                [sys.executable, "-m", "resnet_rs", "info"],
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
            )
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1
        assert "No space left" in done.stderr

    def test_a_daemon_without_stderr(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Otherwise `print` writes errors to stdout."""
        monkeypatch.setattr(sys, "stderr", None)
        assert main(["predict", "x.jpg", "--weights", str(tmp_path / "missing")]) == 2
        assert capsys.readouterr().out == ""
        sys.stderr.close()

    def test_closed_stdout_is_no_error(self) -> None:
        command = f"{sys.executable} -m resnet_rs info >&-"
        done = subprocess.run(command, shell=True, stderr=subprocess.PIPE, text=True)
        assert (done.returncode, done.stderr) == (0, "")

"""`resnet-rs bench`: its figures fit each other, the ladder's stages agree, bad usage is told."""

from __future__ import annotations

import io
import itertools
import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_channels import write_planes_model
from tiny_model import write_tiny_model

import resnet_rs
from resnet_rs import ResNet50, __version__
from resnet_rs._core import available_isas
from resnet_rs.bench import plots
from resnet_rs.bench import run as bench
from resnet_rs.bench.ladder import Ladder, Rung, Stage, climb_ladder, stages
from resnet_rs.bench.ladder_plot import plot_ladder
from resnet_rs.bench.run import run_bench
from resnet_rs.cli import main
from resnet_rs.images.spec import Preprocessing
from resnet_rs.options import Options
from resnet_rs.terminal.progress import Progress
from resnet_rs.terminal.tables import plural, text_table

BENCH_FIELDS = [
    "version",
    "cpu",
    "precision",
    "kernel",
    "isa",
    "threads",
    "winograd",
    "batch",
    "height",
    "width",
    "load_ms",
    "resident_mb",
    "peak_resident_mb",
    "calls",
    "seconds",
    "min_ms",
    "median_ms",
    "p90_ms",
    "p99_ms",
    "images_per_second",
    "profile",
]

# Relative L2 of a stage's logits against naive loops in f64: f32 through 53 layers gives below
# 1e-6, with Winograd too; a wrong tap gives more than 1e-2.
LOGITS_RTOL = 2e-5


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RESNET_RS_ISA", raising=False)
    monkeypatch.delenv("RESNET_RS_PROFILE", raising=False)


@pytest.fixture(autouse=True)
def short_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "WARM_UP_SECONDS", 0.0)


def arguments(weights: Path, *more: object) -> list[str]:
    """A run on small images that is over soon."""
    head = ["bench", "--weights", weights, "--size", 32, 32, "--seconds", 0.01]
    return [str(argument) for argument in (*head, *more)]


def told(capsys: pytest.CaptureFixture[str], weights: Path, *more: object) -> dict[str, Any]:
    """Run the command and parse its JSON."""
    assert main([*arguments(weights, *more), "--format", "json"]) == 0
    output = capsys.readouterr()
    assert output.err == "", "nothing but results, where nobody watches"
    result: dict[str, Any] = json.loads(output.out)
    return result


@pytest.fixture(scope="module")
def ladder(demo_dir: Path) -> Ladder:
    """All stages of this machine, with two threads in the last one."""
    return climb_ladder(
        Options(demo_dir, threads=2), size=(32, 32), seconds=0.01, progress=Progress()
    )


class TestBench:
    def test_json_has_every_field(self, demo_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
        result = told(capsys, demo_dir, "--batch", 3, "--threads", 2)
        assert list(result) == BENCH_FIELDS
        assert result["version"] == __version__
        assert result["isa"] == available_isas()[-1]
        shape = {name: result[name] for name in ("threads", "batch", "height", "width")}
        assert shape == {"threads": 2, "batch": 3, "height": 32, "width": 32}
        assert result["winograd"] is True
        assert result["precision"] == "f32"
        assert result["kernel"].startswith("f32_conv_")
        assert result["profile"] is None
        assert result["calls"] >= 3
        assert result["load_ms"] > 0
        # The packed weights alone are 94 MB.
        assert result["peak_resident_mb"] >= result["resident_mb"] > 94
        times = [result[name] for name in ("min_ms", "median_ms", "p90_ms", "p99_ms")]
        assert times == sorted(times)
        assert result["images_per_second"] == pytest.approx(3 * result["calls"] / result["seconds"])

    def test_figures_are_those_of_the_calls(
        self, demo_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The first call warms up; the eleven after it take 1 to 11 ms."""
        seconds = itertools.chain([1.0], (ms / 1e3 for ms in itertools.count(1)))
        monkeypatch.setattr(bench, "seconds_of_call", lambda network, x: next(seconds))
        result = run_bench(
            Options(demo_dir), batch=2, seconds=0.066, progress=Progress(io.StringIO())
        )
        assert result.calls == 11
        assert result.seconds == pytest.approx(0.066)
        assert result.min_ms == pytest.approx(1)
        assert result.median_ms == pytest.approx(6)
        assert result.p90_ms == pytest.approx(10)
        assert result.p99_ms == pytest.approx(10.9)
        assert result.images_per_second == pytest.approx(22 / 0.066)
        assert (result.height, result.width) == (64, 64), "what the demo model is made for"

    def test_text_shows_the_same_lines(
        self, demo_dir: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(arguments(demo_dir, "--isa", "portable", "--threads", 1, "--no-winograd")) == 0
        output = capsys.readouterr()
        assert output.err == ""
        lines = output.out.splitlines()
        assert lines[0] == f"resnet_rs    {__version__}, portable, 1 thread, Winograd off"
        names = [line.split()[0] for line in lines]
        assert names == [
            *("resnet_rs", "processor", "precision", "input", "load"),
            *("memory", "calls", "latency", "throughput"),
        ]
        assert lines[2].startswith("precision    f32, f32_conv_")
        assert "batch 1, 32 x 32" in lines[3]
        assert all(word in lines[7] for word in ("min", "median", "p90", "p99", "ms"))

    def test_profile_adds_the_layers(
        self, demo_dir: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        rows = told(capsys, demo_dir, "--profile")["profile"]["rows"]
        assert [rows[0]["name"], rows[1]["name"], rows[-1]["name"]] == ["input", "relu", "fc"]
        assert main(arguments(demo_dir, "--profile")) == 0
        assert "layer4.2.relu2" in capsys.readouterr().out

    def test_no_winograd_is_passed_on(
        self, demo_dir: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        result = told(capsys, demo_dir, "--no-winograd", "--profile")
        assert result["winograd"] is False
        assert {row["algorithm"] for row in result["profile"]["rows"]}.isdisjoint(
            {"winograd F(2x2)", "winograd F(4x4)"}
        )

    @pytest.mark.parametrize(
        ("more", "message"),
        [
            (["--batch", "0"], "whole number from 1 up"),
            (["--size", "32"], "expected 2 arguments"),
            (["--size", "32", "no"], "whole number from 1 up"),
            (["--seconds", "0"], "a number above 0"),
            (["--seconds", "inf"], "a number above 0"),
            (["--seconds", "soon"], "expected seconds, a number above 0; got 'soon'"),
            (["--isa", "sse9"], "portable"),
            (["--format", "csv"], "json"),
            (["--plot", "x.png"], "add --ladder"),
            (["--ladder", "--batch", "2"], "leave out --batch"),
            (["--ladder", "--profile"], "not allowed with"),
        ],
    )
    def test_bad_usage_exits_with_2(
        self, more: list[str], message: str, demo_dir: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as caught:
            main(arguments(demo_dir, *more))
        assert caught.value.code == 2
        assert message in capsys.readouterr().err

    @pytest.mark.parametrize("more", [[], ["--ladder"]])
    def test_bad_weights_exit_with_2(
        self, more: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(arguments(tmp_path / "missing", *more)) == 2
        output = capsys.readouterr()
        assert output.out == ""
        assert output.err.startswith("resnet-rs: error: ")
        assert len(output.err.splitlines()) == 1

    def test_weights_are_needed(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as caught:
            main(["bench"])
        assert caught.value.code == 2
        assert "--weights" in capsys.readouterr().err

    def test_help_shows_examples_and_exit_status(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as caught:
            main(["bench", "--help"])
        assert caught.value.code == 0
        text = capsys.readouterr().out
        assert "resnet-rs bench --weights weights/" in text
        assert "exit status" in text

    @pytest.mark.parametrize(("resize", "size"), [(40, (40, 40)), ((40, 56), (40, 56))])
    def test_default_size_is_the_summary_s(
        self,
        resize: int | tuple[int, int],
        size: tuple[int, int],
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        directory = write_tiny_model(tmp_path)
        path = directory / "config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        config["preprocessing"] = {"resize": resize, "crop": None}
        path.write_text(json.dumps(config), encoding="utf-8")
        result = run_bench(Options(directory), seconds=0.01, progress=Progress(io.StringIO()))
        summary = resnet_rs.load(directory).summary()
        assert (result.height, result.width) == (summary.height, summary.width) == size

    @pytest.mark.parametrize("channels", [1, 2, 4])
    def test_networks_of_other_channels_are_measured_too(
        self, channels: int, tmp_path: Path
    ) -> None:
        directory = write_planes_model(tmp_path, channels)
        result = run_bench(
            Options(directory), seconds=0.01, with_profile=True, progress=Progress(io.StringIO())
        )
        assert result.calls >= 3
        model = resnet_rs.load(directory)
        assert model.summary().rows[0].input_shape[-1] == channels
        x = np.zeros((1, 32, 32, channels), np.float32)
        for profile in (result.profile, model.profile(x, rounds=1)):
            assert profile is not None
            conv1 = profile.height * profile.width // 4 * 64 * 49 * channels
            assert conv1 in [row.macs for row in profile.rows]
        ladder = climb_ladder(
            Options(directory, isa="portable", threads=1),
            seconds=0.01,
            progress=Progress(io.StringIO()),
        )
        assert ladder.agrees

    @pytest.mark.parametrize(
        ("crop", "resize", "size"),
        [
            (64, 80, (64, 64)),
            ((48, 96), 80, (48, 96)),
            (None, (40, 30), (40, 30)),
            (None, 232, (232, 232)),
            (None, None, (224, 224)),
        ],
    )
    def test_input_size_is_what_the_network_is_prepared_for(
        self,
        crop: int | tuple[int, int] | None,
        resize: int | tuple[int, int] | None,
        size: tuple[int, int],
    ) -> None:
        spec = Preprocessing(resize, crop, "bilinear", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
        assert spec.input_size == size


class TestPredict:
    def test_no_winograd_is_passed_on(
        self, demo_dir: Path, demo_photo: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        command = ["predict", str(demo_photo), "--weights", str(demo_dir), "--format", "json"]
        assert main([*command, "--no-winograd"]) == 0
        scores = [p["score"] for p in json.loads(capsys.readouterr().out)[0]["predictions"]]
        expected = ResNet50(demo_dir, winograd=False).predict(demo_photo)
        assert scores == [prediction.score for prediction in expected]


class TestStages:
    """The stages and their order."""

    @pytest.mark.parametrize(
        ("isas", "threads", "winograd", "expected"),
        [
            (
                ["portable", "avx2", "avx512"],
                4,
                True,
                [
                    Stage("portable", "portable"),
                    Stage("AVX2", "avx2"),
                    Stage("AVX-512", "avx512"),
                    Stage("+ Winograd", "avx512", winograd=True),
                    Stage("+ threads", "avx512", threads=4, winograd=True),
                ],
            ),
            (
                ["portable", "avx2"],
                2,
                False,
                [
                    Stage("portable", "portable"),
                    Stage("AVX2", "avx2"),
                    Stage("+ threads", "avx2", threads=2),
                ],
            ),
            (["portable"], 1, False, [Stage("portable", "portable")]),
        ],
    )
    def test_order(
        self, isas: list[str], threads: int, winograd: bool, expected: list[Stage]
    ) -> None:
        naive = Stage("naive loops, f64", None)
        assert stages(isas, threads, winograd=winograd) == [naive, *expected]


class TestLadder:
    def test_stages_are_the_machines(self, ladder: Ladder) -> None:
        climbed = [Stage(r.name, r.isa, r.threads, r.winograd) for r in ladder.rungs]
        assert climbed == stages(available_isas(), 2, winograd=True)

    def test_logits_of_all_stages_agree(self, ladder: Ladder) -> None:
        naive, *others = ladder.rungs
        assert naive.relative_error == 0
        for rung in others:
            # f32 cannot be exact: 0 would mean that nothing was compared.
            assert 0 < rung.relative_error <= LOGITS_RTOL, rung.name
        assert ladder.agrees

    def test_agreement_is_of_all_rungs(self) -> None:
        def rung(error: float) -> Rung:
            return Rung("x", None, 1, False, 1.0, 1, 1.0, 1.0, error)

        def agrees(*errors: float) -> bool:
            return Ladder("1", "cpu", 32, 32, tuple(map(rung, errors))).agrees

        assert agrees(0, 1e-6)
        assert not agrees(0, 1e-6, 1e-3)
        assert not agrees(0, float("nan"))

    def test_gains_fit_the_times(self, ladder: Ladder) -> None:
        assert (ladder.rungs[0].gain, ladder.rungs[0].gain_in_all) == (1, 1)
        in_all = 1.0
        for before, rung in itertools.pairwise(ladder.rungs):
            assert rung.gain == pytest.approx(before.ms / rung.ms)
            in_all *= rung.gain
            assert rung.gain_in_all == pytest.approx(in_all)

    def test_naive_loops_run_once_and_the_others_often(self, ladder: Ladder) -> None:
        calls = [rung.calls for rung in ladder.rungs]
        assert calls[0] == 1
        assert min(calls[1:]) >= 3

    def test_text_has_a_line_for_each_rung(self, ladder: Ladder) -> None:
        head, table = str(ladder).split("\n\n")
        assert "32 x 32" in head
        header, *lines = table.splitlines()
        assert header.startswith("stage")
        assert header.endswith("rel. error")
        assert [line.split("  ")[0] for line in lines] == [rung.name for rung in ladder.rungs]

    def test_json_up_to_a_tier(self, demo_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
        result = told(capsys, demo_dir, "--ladder", "--isa", "portable", "--threads", 1)
        assert list(result) == ["version", "cpu", "height", "width", "rungs"]
        names = [rung["name"] for rung in result["rungs"]]
        assert names == ["naive loops, f64", "portable", "+ Winograd"]
        assert all(rung["ms"] > 0 for rung in result["rungs"])

    def test_json_without_winograd(
        self, demo_dir: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        more = ("--ladder", "--isa", "portable", "--threads", 2, "--no-winograd")
        rungs = told(capsys, demo_dir, *more)["rungs"]
        assert [rung["name"] for rung in rungs] == ["naive loops, f64", "portable", "+ threads"]
        assert not any(rung["winograd"] for rung in rungs)
        # One tier without Winograd computes the same bits on one thread and on two.
        assert rungs[1]["relative_error"] == rungs[2]["relative_error"]

    def test_stages_that_disagree_exit_with_1(
        self,
        demo_dir: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setattr("resnet_rs.bench.ladder.TOLERANCE", 1e-9)
        assert main(arguments(demo_dir, "--ladder", "--isa", "portable")) == 1
        output = capsys.readouterr()
        assert "rel. error" in output.out
        assert "do not agree" in output.err

    def test_warning_is_told_once(
        self, demo_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Every stage loads the model anew."""
        bare = tmp_path / "bare.safetensors"
        bare.symlink_to(demo_dir / "model.safetensors")
        options = ("--architecture", "resnet50", "--isa", "portable", "--threads", 1)
        assert main(arguments(bare, "--ladder", *options)) == 0
        assert len(capsys.readouterr().err.splitlines()) == 1


class TestPlot:
    @pytest.mark.parametrize("mode", ["--ladder", "--scale"])
    def test_missing_matplotlib_is_told_before_measuring(
        self,
        mode: str,
        demo_dir: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setattr(plots, "find_spec", lambda name: None)
        assert main(arguments(demo_dir, mode, "--plot", tmp_path / "x.png")) == 2
        output = capsys.readouterr()
        assert output.out == ""
        assert output.err.startswith("resnet-rs: error: a plot needs matplotlib: pip install")

    def test_is_written(self, ladder: Ladder, tmp_path: Path) -> None:
        plot_ladder(ladder, tmp_path / "ladder.png", note="2000-01-01")
        assert (tmp_path / "ladder.png").read_bytes().startswith(b"\x89PNG")
        plot_ladder(ladder, tmp_path / "ladder.svg")
        # Text is drawn as outlines, and named in comments.
        picture = (tmp_path / "ladder.svg").read_text(encoding="utf-8")
        for rung in ladder.rungs:
            assert rung.name in picture

    def test_the_command_says_what_it_wrote(
        self,
        ladder: Ladder,
        demo_dir: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setattr("resnet_rs.bench.ladder.climb_ladder", lambda *_, **__: ladder)
        path = tmp_path / "ladder.svg"
        assert main(arguments(demo_dir, "--ladder", "--plot", path)) == 0
        output = capsys.readouterr()
        assert output.out == f"{ladder}\n"
        assert output.err == f"wrote {path}\n"
        assert datetime.now(timezone.utc).strftime("%Y-") in path.read_text(encoding="utf-8")

    def test_unwritable_file_exits_with_2(
        self, demo_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "missing" / "x.png"
        more = ("--ladder", "--isa", "portable", "--plot", path)
        assert main(arguments(demo_dir, *more)) == 2
        assert str(path) in capsys.readouterr().err


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class TestOutput:
    def test_progress_is_for_terminals_alone(self) -> None:
        for stream, expected in (
            (Terminal(), "\r\x1b[Kone\r\x1b[Ktwo\r\x1b[K"),
            (io.StringIO(), ""),
        ):
            with Progress(stream) as progress:
                progress.say("one")
                progress.say("two")
            assert stream.getvalue() == expected

    def test_table_pads_each_column_to_its_widest_cell(self) -> None:
        rows = [("layer", "ms", ""), ("a", "1.5", "x"), ("longer", "10.25", "")]
        assert text_table(rows, left=1).splitlines() == [
            "layer      ms",
            "a         1.5  x",
            "longer  10.25",
        ]

    def test_plural(self) -> None:
        assert plural(1, "thread") == "1 thread"
        assert plural(2, "thread") == "2 threads"

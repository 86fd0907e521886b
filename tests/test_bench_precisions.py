"""`resnet-rs bench --compare-precisions`: figures that are true, and a choice that follows them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_bench import arguments
from test_quantization import IMAGES, photo_folder
from tiny_model import write_tiny_model

import resnet_rs
from resnet_rs import WeightsError, quantization
from resnet_rs.bench import run as bench
from resnet_rs.bench.precisions import measure, memory, networks
from resnet_rs.bench.precisions.advice import advise
from resnet_rs.bench.precisions.measure import compare_precisions
from resnet_rs.bench.precisions.result import PrecisionComparison, PrecisionRow
from resnet_rs.cli import main
from resnet_rs.options import Options
from resnet_rs.quantization.errors import relative_error
from resnet_rs.terminal.progress import Progress

VNNI, PLAIN = ("avx2", "avxvnni"), ("avx2", "fma")


@pytest.fixture(autouse=True)
def short_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "WARM_UP_SECONDS", 0.0)


@pytest.fixture(autouse=True)
def no_process(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """A process for each network takes half a second; only one test looks at the memory."""
    if "memory" not in request.node.name:
        monkeypatch.setattr(networks, "weights_mb", lambda options: 1.5)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "weights")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return photo_folder(tmp_path / "photos", 6)


@pytest.fixture
def int8(weights: Path, tmp_path: Path) -> Path:
    resnet_rs.load(weights).quantize(IMAGES, method="minmax").save(tmp_path / "int8")
    return tmp_path / "int8"


def compared(weights: Path, **more: Any) -> PrecisionComparison:
    return compare_precisions(Options(weights), seconds=0.001, progress=Progress(), **more)


def told(capsys: pytest.CaptureFixture[str], weights: Path, *more: object) -> dict[str, Any]:
    command = arguments(weights, "--compare-precisions", "--format", "json", *more)
    assert main(command) == 0
    output = capsys.readouterr()
    assert output.err == ""
    result: dict[str, Any] = json.loads(output.out)
    return result


class TestFigures:
    def test_int8_of_a_directory_beside_f32(self, weights: Path, int8: Path, photos: Path) -> None:
        result = compared(weights, int8=int8, images=photos)
        f32, half, small = result.rows
        assert [row.precision for row in result.rows] == ["f32", "bf16", "int8"]
        assert f32.kernel.startswith("f32_conv_")
        assert half.kernel.startswith("bf16_conv_")
        assert small.kernel.startswith("int8_conv_")
        assert f32.speedup == 1
        assert small.speedup == pytest.approx(f32.median_ms / small.median_ms)
        assert min(f32.calls, half.calls, small.calls) >= 3
        assert not result.calibrated_here
        for row, folder in ((f32, weights), (half, weights), (small, int8)):
            files = [folder / "model.safetensors", folder / "config.json"]
            assert row.disk_bytes == sum(file.stat().st_size for file in files)

        assert (f32.agreement, f32.relative_error) == (None, None)
        before, after = resnet_rs.load(weights), resnet_rs.load(int8)
        paths = sorted(photos.iterdir())
        expected, found = before.logits(paths), after.logits(paths)
        assert result.photos == len(paths)
        assert small.relative_error == pytest.approx(relative_error([found], [expected]))
        assert small.agreement == np.mean(found.argmax(axis=1) == expected.argmax(axis=1))
        rounded = resnet_rs.load(weights, precision="bf16", strict=True).logits(paths)
        assert half.relative_error == pytest.approx(relative_error([rounded], [expected]))

    def test_int8_is_made_of_the_photos(self, weights: Path, photos: Path) -> None:
        result = compared(weights, images=photos, count=4)
        assert result.calibrated_here
        assert result.photos == 4
        assert "4, which calibrated int8 too" in str(result)
        small = resnet_rs.load(weights).quantize(photos, count=4)
        paths = sorted(photos.iterdir())
        paths = [paths[place] for place in (0, 1, 3, 4)]
        expected = resnet_rs.load(weights).logits(paths)
        found = relative_error([small.logits(paths)], [expected])
        assert result.rows[2].relative_error == pytest.approx(found)

    def test_photos_that_cannot_be_read_are_counted(self, weights: Path, photos: Path) -> None:
        (photos / "0a.png").write_bytes(b"no picture")
        result = compared(weights, images=photos)
        assert (result.photos, result.skipped) == (6, 1)
        assert "6, which calibrated int8 too; 1 could not be read\n" in str(result)

    def test_memory_is_that_of_the_packed_weights(self, demo_dir: Path, tmp_path: Path) -> None:
        model = resnet_rs.load(demo_dir)
        model.quantize(demo_dir / "photos", method="minmax", count=2).save(tmp_path / "int8")
        f32, half, small = compared(demo_dir, int8=tmp_path / "int8", size=(32, 32)).rows
        assert f32.memory_mb is not None
        assert half.memory_mb is not None
        assert small.memory_mb is not None
        # 23.5 million weights of four bytes; of two bytes; of one byte, or two without VNNI.
        assert 94 < f32.memory_mb < 160
        assert 46 < half.memory_mb < 60
        assert 23 < small.memory_mb < 60

    def test_every_network_gets_the_same_pixels(
        self, weights: Path, int8: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen = []

        def note(networks: Any, x: Any, seconds: float, progress: Progress) -> list[list[float]]:
            seen.append((len(networks), x.shape, x.dtype, seconds))
            return [[0.001, 0.002, 0.009], [0.001], [0.004, 0.008, 0.001]]

        monkeypatch.setattr(measure, "time_in_turns", note)
        result = compared(weights, int8=int8, batch=3, size=(40, 24))
        assert seen == [(3, (3, 40, 24, 3), np.uint8, 0.001)]
        assert [row.median_ms for row in result.rows] == pytest.approx([2, 1, 4])
        assert result.rows[2].speedup == pytest.approx(0.5)
        assert (result.batch, result.height, result.width) == (3, 40, 24)

    def test_a_network_without_classes_has_no_labels(self, photos: Path, tmp_path: Path) -> None:
        weights = write_tiny_model(tmp_path / "features", num_classes=0)
        row = compared(weights, images=photos).rows[1]
        assert row.agreement is None
        assert row.relative_error is not None
        assert 0 < row.relative_error < 0.2


def test_memory_that_cannot_be_measured_is_none(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert memory.weights_mb(Options(weights / "missing")) is None
    monkeypatch.setattr("sys.executable", "no such program")
    assert memory.weights_mb(Options(weights)) is None


class TestOthers:
    """Precisions that are left out, with the reason."""

    def test_int8_needs_scales(self, weights: Path) -> None:
        result = compared(weights)
        assert [row.precision for row in result.rows] == ["f32", "bf16"]
        assert "--int8 DIR" in result.left_out["int8"]
        assert "--images FOLDER" in result.left_out["int8"]
        assert "int8 is left out: its scales come from photos" in str(result)

    def test_int8_weights_are_no_f32_weights(self, int8: Path) -> None:
        with pytest.raises(ValueError, match=r"needs f32 weights, .* these as --int8"):
            compared(int8)

    def test_f32_weights_are_no_int8_weights(self, weights: Path) -> None:
        with pytest.raises(WeightsError, match="f32"):
            compared(weights, int8=weights)

    def test_another_network_is_refused(self, int8: Path, tmp_path: Path) -> None:
        other = write_tiny_model(tmp_path / "other", num_classes=7)
        with pytest.raises(ValueError, match=r"expected the num_classes of .*other, 7; got 5"):
            compared(other, int8=int8)


class TestAdvice:
    @pytest.mark.parametrize(
        ("speedup", "agreement", "features", "words"),
        [
            (1.5, 1.0, VNNI, "int8 pays here: 1.50 times as fast as f32, with 100.0% of the"),
            (1.5, None, VNNI, "int8 pays here: 1.50 times as fast as f32."),
            (1.5, 0.9, VNNI, "as fast as f32, but 10.0% of the labels are others: see with"),
            (1.0, 1.0, VNNI, "int8 is as fast as f32 here: it pays for its size only, with 100"),
            (0.98, None, PLAIN, "its size only, for this processor has no VNNI."),
            (0.8, 1.0, PLAIN, "f32 pays here: int8 takes 1.25 times as long, for this processor "),
            (0.8, 1.0, VNNI, "f32 pays here: int8 takes 1.25 times as long."),
        ],
    )
    def test_one_sentence(
        self, speedup: float, agreement: float | None, features: tuple[str, ...], words: str
    ) -> None:
        sentence = advise([("f32", 1.0, None), ("int8", speedup, agreement)], features)
        assert words in sentence
        assert sentence.endswith(".")

    def test_the_fastest_is_advised(self) -> None:
        rows = [("f32", 1.0, None), ("bf16", 1.4, 1.0), ("int8", 1.9, 1.0)]
        assert advise(rows, VNNI).startswith("int8 pays here: 1.90")
        rows = [("f32", 1.0, None), ("bf16", 0.5, 1.0), ("int8", 0.8, 1.0)]
        assert advise(rows, VNNI) == (
            "f32 pays here: bf16 takes 2.00 times as long, for this processor has no bf16 "
            "products, and int8 takes 1.25 times as long."
        )


class TestText:
    def test_a_line_for_each_precision(self) -> None:
        result = PrecisionComparison(
            version="1",
            cpu="a processor",
            isa="avx2",
            threads=2,
            batch=1,
            height=224,
            width=224,
            photos=0,
            skipped=0,
            calibrated_here=False,
            rows=(
                PrecisionRow("f32", "k", 20.0, 9, 1.0, None, None, None, None),
                PrecisionRow("int8", "k8", 10.0, 9, 2.0, 26.04, 25_700_000, 0.995, np.inf),
            ),
            left_out={"bf16": "no such instruction"},
        )
        head, table, end = str(result).split("\n\n")
        assert head.splitlines()[-1] == (
            "photos       none, so no labels were compared: give --images FOLDER"
        )
        assert [line.split() for line in table.splitlines()[1:]] == [
            ["f32", "k", "20.00", "1.00", "x", "-", "-", "-", "-"],
            ["int8", "k8", "10.00", "2.00", "x", "26.0", "25.7", "99.5%", "inf%"],
        ]
        assert end == f"bf16 is left out: no such instruction\n{result.advice}"
        assert result.as_dict()["rows"][1]["relative_error"] is None

    def test_json_has_every_figure(
        self, weights: Path, photos: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        result = told(capsys, weights, "--images", photos, "--count", 3)
        assert list(result) == [
            *("version", "cpu", "isa", "threads", "batch", "height", "width", "photos"),
            *("skipped", "calibrated_here", "rows", "left_out", "advice"),
        ]
        assert result["photos"] == 3
        assert (result["height"], result["width"]) == (32, 32)
        assert list(result["rows"][1]) == [
            *("precision", "kernel", "median_ms", "calls", "speedup", "memory_mb"),
            *("disk_bytes", "agreement", "relative_error"),
        ]

    def test_the_table_ends_with_the_choice(
        self, weights: Path, int8: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(arguments(weights, "--compare-precisions", "--int8", int8)) == 0
        last = capsys.readouterr().out.splitlines()[-1]
        assert " here: " in last

    @pytest.mark.parametrize(
        ("more", "message"),
        [
            (["--int8", "x"], "add --compare-precisions"),
            (["--images", "x"], "add --compare-precisions"),
            (["--count", "3"], "add --compare-precisions"),
            (["--compare-precisions", "--count", "3"], "add --images FOLDER"),
            (["--compare-precisions", "--precision", "int8"], "leave out --precision"),
            (["--compare-precisions", "--profile"], "not allowed with"),
            (["--compare-precisions", "--plot", "x.png"], "add --ladder or --scale"),
        ],
    )
    def test_bad_usage_exits_with_2(
        self, more: list[str], message: str, weights: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as caught:
            main(arguments(weights, *more))
        assert caught.value.code == 2
        assert message in capsys.readouterr().err

    def test_a_folder_that_is_not_there(
        self, weights: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(arguments(weights, "--compare-precisions", "--images", "nowhere")) == 2
        assert "--images: expected a folder of images; got nowhere" in capsys.readouterr().err


def test_quantised_options_keep_how_to_run(weights: Path) -> None:
    given = Options(weights, threads=1, architecture="resnet50", labels=list("abcde"), draft=True)
    own = quantization.options_of_quantized(given, "elsewhere")
    assert (own.threads, own.draft) == (1, True)
    assert own.architecture is own.labels is own.config is None
    assert own.path is not None
    assert own.path.endswith("elsewhere")

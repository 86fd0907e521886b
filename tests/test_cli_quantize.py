"""`resnet-rs quantize`: what it writes, what it says, and what it refuses before any work."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_model import write_tiny_model

import resnet_rs
from resnet_rs.cli import main

PHOTOS = np.random.default_rng(7).integers(0, 256, (10, 40, 36, 3), np.uint8)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "weights")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Ten photos in a folder for each of the model's five classes."""
    from PIL import Image

    folder = tmp_path / "photos"
    for place, photo in enumerate(PHOTOS):
        here = folder / f"class {place % 5}"
        here.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo).save(here / f"{place}.png")
    return folder


def test_a_model_is_written_and_reported(
    weights: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "int8"
    picture = tmp_path / "noise.png"
    command = ["quantize", str(weights), str(out), "--images", str(photos)]
    assert main([*command, "--evaluate", str(photos), "--plot", str(picture)]) == 0
    told = capsys.readouterr().out
    model = resnet_rs.load(out)
    record = model.config.quantization
    assert record is not None
    assert record["images"] == 10
    assert f"scales by {record['method']} from 10 images" in told
    assert "the layers with the most noise" in told
    assert f"\n{record['method']} was taken" in told
    assert "; relative errors: minmax " in told
    assert "top-1 on 10 labelled photos: " in told
    assert f"wrote {out}" in told
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert main(["predict", str(photos / "class 0"), "--weights", str(out)]) == 0


def test_the_report_as_json(
    weights: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "int8"
    command = ["quantize", str(weights), str(out), "--images", str(photos), "--json"]
    assert main([*command, "--method", "kl", "--count", "3", "--evaluate", str(photos)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["target"] == str(out)
    assert told["quantization"]["method"] == "kl"
    assert told["images"] == told["quantization"]["images"] == 3
    assert [layer["name"] for layer in told["layers"]][-2:] == ["avgpool", "fc"]
    assert (told["skipped"], told["calibration_skipped"]) == ([], 0)
    assert told["bytes_after"] < told["bytes_before"]
    assert told["speedup"] > 0
    assert told["top1"]["images"] == 10
    assert 0 <= told["top1"]["int8"] <= 1


def test_a_photo_that_cannot_be_read_is_named_and_left_out(
    weights: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "class 1" / "bad.png").write_bytes(b"no picture")
    command = ["quantize", str(weights), str(tmp_path / "int8"), "--images", str(photos)]
    command += ["--method", "minmax"]
    assert main([*command, "--on-error", "fail"]) == 2
    assert "bad.png" in capsys.readouterr().err
    assert not (tmp_path / "int8").exists()
    assert main(command) == 1
    output = capsys.readouterr()
    (line,) = output.err.splitlines()
    assert line.startswith(f"resnet-rs: note: {photos / 'class 1' / 'bad.png'}: ")
    assert line.endswith("; left out")
    assert "scales by minmax from 10 images; 1 image could not be read\n" in output.out
    assert main([*command, "--force", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["calibration_skipped"] == told["quantization"]["skipped"] == 1
    (skipped,) = told["skipped"]
    assert skipped["image"].endswith("bad.png")
    assert skipped["reason"]


def test_every_layer_is_listed_if_asked_for(
    weights: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["quantize", str(weights), str(tmp_path / "int8"), "--images", str(photos)]
    assert main([*command, "--layers", "--method", "minmax"]) == 0
    told = capsys.readouterr().out
    for name in resnet_rs.load(tmp_path / "int8").layer_names:
        assert f"\n{name} " in told


def test_weights_that_are_there_are_kept(
    weights: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["quantize", str(weights), str(tmp_path / "int8"), "--images", str(photos)]
    command += ["--method", "minmax"]
    assert main(command) == 0
    assert main(command) == 2
    assert "holds model.safetensors and config.json already" in capsys.readouterr().err
    assert main([*command, "--force"]) == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"--images": "nowhere"}, "--images: expected a folder of images; got nowhere"),
        ({"--images": "empty"}, "empty: expected images to calibrate with; there is none"),
        ({"--images": "grey"}, "each of the 2 image(s) is of a single colour"),
        ({"--images": "broken"}, "broken.png"),
        ({"out": "file"}, "file is a file: expected a directory to write to"),
        ({"out": "file/out"}, "file is a file: expected a directory"),
        ({"weights": "none"}, "none"),
        ({"--evaluate": "none"}, "none"),
        ({"--plot": "nowhere/noise.png"}, "there is no such folder"),
        ({"--percentile": "101"}, "percentile: expected more than 0, at most 100"),
    ],
)
def test_what_cannot_be_done_writes_nothing(
    weights: Path,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    change: dict[str, str],
    words: str,
) -> None:
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    for name in ("empty", "grey", "broken"):
        (tmp_path / name).mkdir()
    for place in range(2):
        Image.new("RGB", (40, 40), (place * 90,) * 3).save(tmp_path / "grey" / f"{place}.png")
    (tmp_path / "broken" / "broken.png").write_bytes(b"no picture")
    given = {"weights": str(weights), "out": "int8", "--images": str(photos), **change}
    before = sorted(tmp_path.rglob("*"))
    flags = [word for pair in given.items() if pair[0].startswith("--") for word in pair]
    assert main(["quantize", given["weights"], given["out"], *flags]) == 2
    assert words in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_quantised_model_is_not_quantised_again(
    weights: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "int8", tmp_path / "again"
    images = ["--images", str(photos), "--method", "minmax"]
    assert main(["quantize", str(weights), str(first), *images]) == 0
    assert main(["quantize", str(first), str(second), *images]) == 2
    assert "quantising needs f32 weights, and these are int8" in capsys.readouterr().err
    assert not second.exists()


@pytest.mark.parametrize("command", ["predict", "embed", "bench", "summary", "trace", "evaluate"])
def test_commands_can_insist_on_a_precision(
    command: str, weights: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = [] if command in ("bench", "summary") else [str(photos)]
    assert main([command, *source, "--weights", str(weights), "--precision", "int8"]) == 2
    assert "f32" in capsys.readouterr().err

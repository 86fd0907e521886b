"""`resnet-rs explain` and `resnet-rs features`: what they write, and how they fail."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from tiny_model import write_tiny_model

from resnet_rs.cli import main
from resnet_rs.inspect.pictures import style


class TestCommands:
    @pytest.fixture
    def weights(self, tmp_path: Path) -> Path:
        return write_tiny_model(tmp_path / "tiny")

    @pytest.mark.parametrize(
        "command",
        [
            ["explain", "PHOTO", "--top-k", "2", "--shifts", "2"],
            ["features", "PHOTO", "--layer", "layer2.0", "--max", "4", "--strongest"],
            ["features", "--stem-filters"],
        ],
    )
    def test_picture_is_written(
        self,
        command: list[str],
        weights: Path,
        demo_photo: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        out = tmp_path / "out.png"
        words = [str(demo_photo) if word == "PHOTO" else word for word in command]
        assert main([*words, "--weights", str(weights), "-o", str(out), "--dpi", "50"]) == 0
        assert capsys.readouterr() == ("", "")
        with Image.open(out) as picture:
            assert picture.format == "PNG"
            assert picture.width > 200

    @pytest.mark.parametrize(
        ("command", "status", "message"),
        [
            (["explain", "missing.jpg"], 1, "missing.jpg"),
            (["features", "missing.jpg", "--layer", "layer1"], 1, "missing.jpg"),
            (["features", "PHOTO", "--layer", "layer9"], 2, "there is no layer 'layer9'"),
            (["explain", "PHOTO", "--weights", "nowhere"], 2, "nowhere"),
            (["explain", "PHOTO", "-o", "out.xyz"], 2, "out.xyz: "),
            (["explain", "PHOTO", "-o", "no/such/folder/out.png"], 2, "no/such/folder/out.png"),
        ],
    )
    def test_failure_is_one_line(
        self,
        command: list[str],
        status: int,
        message: str,
        weights: Path,
        demo_photo: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.chdir(tmp_path)
        words = [str(demo_photo) if word == "PHOTO" else word for word in command]
        for option, value in (("-o", "out.png"), ("--weights", str(weights))):
            words += [] if option in words else [option, value]
        assert main(words) == status
        output = capsys.readouterr()
        assert output.out == ""
        assert output.err.startswith("resnet-rs: error: ")
        assert message in output.err
        assert output.err.count("\n") == 1

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["--layer", "layer1"], "name one"),
            (["photo.jpg", "--stem-filters"], "leave out the image"),
            (["photo.jpg"], "one of the arguments --layer --stem-filters is required"),
        ],
    )
    def test_bad_usage_exits_with_2(
        self, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as caught:
            main(["features", *words, "--weights", "x", "-o", "out.png"])
        assert caught.value.code == 2
        assert message in capsys.readouterr().err

    def test_missing_matplotlib_is_told_before_the_model_is_loaded(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(style, "find_spec", lambda name: None)
        assert main(["explain", "photo.jpg", "--weights", "nowhere", "-o", "out.png"]) == 2
        assert 'pip install "resnet_rs[pictures]"' in capsys.readouterr().err

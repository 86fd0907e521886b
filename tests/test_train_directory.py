"""The directory of a run: what it removes, what it refuses, and names that are not UTF-8."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labelled_photos import write_classes, write_photo
from test_train_choices import interrupt_after
from test_train_resume import CHOICES, rows

import resnet_rs
from resnet_rs import Trainer, TrainingError, train
from resnet_rs.cli import main
from resnet_rs.datasets import DataError
from resnet_rs.training.directory import RunDirectory


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_classes(tmp_path_factory.mktemp("photos"), {"cat": 6, "dog": 6})


@pytest.fixture(scope="module")
def whole(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    train(folder, out, epochs=1, **CHOICES)
    return out


@pytest.fixture
def out(whole: Path, tmp_path: Path) -> Path:
    """A copy of a run."""
    return Path(shutil.copytree(whole, tmp_path / "run"))


def begin(path: Path, **choices: bool) -> None:
    RunDirectory(path, **{"resume": False, "force": False, **choices}).begin()


class TestRemoved:
    LEFT = ("args.12.tmp.json", "results.7.tmp.csv", "checkpoint.123.tmp.safetensors")

    def leave(self, path: Path) -> None:
        """Write files as a killed run leaves them."""
        for name in self.LEFT:
            (path / name).write_bytes(b"")
        for name in (".best-ab_1c2d3", ".last-00000000"):
            (path / name).mkdir()
            (path / name / "model.safetensors").write_bytes(b"")

    def users(self, path: Path) -> list[Path]:
        """Files of the user with names that are almost those."""
        files = [
            path / name
            for name in (
                "notes.tmp.txt",
                "thesis.12.tmp.json",
                "args.x.tmp.json",
                "args.12.tmp.json.bak",
                ".best-photos/a.jpg",
                ".last-ab_1c2d3/a.jpg",
                ".best-ab_1c2d34/model.safetensors",
            )
        ]
        for file in files:
            file.parent.mkdir(exist_ok=True)
            file.write_text("mine")
        return files

    @pytest.mark.parametrize("how", ["resume", "force"])
    def test_only_what_a_killed_run_leaves(self, how: str, out: Path) -> None:
        self.leave(out)
        files = self.users(out)
        begin(out, **{how: True})
        assert all(file.exists() for file in files)
        assert not any((out / name).exists() for name in (*self.LEFT, ".best-ab_1c2d3"))

    def test_nothing_where_no_run_was(self, tmp_path: Path) -> None:
        files = self.users(tmp_path)
        names = ("results.7.tmp.csv", ".best-ab_1c2d3")
        (tmp_path / names[0]).write_text("mine")
        (tmp_path / names[1]).mkdir()
        begin(tmp_path)
        assert all(file.exists() for file in files)
        assert all((tmp_path / name).exists() for name in names)


class TestForce:
    def test_the_old_weights_stay_until_new_ones_take_their_place(
        self, folder: Path, out: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = {name: (out / name).read_bytes() for name in self.weights()}
        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "update", _killed)
            with pytest.raises(InterruptedError):
                train(folder, out, epochs=1, force=True, **{**CHOICES, "weights": out / "last"})
        assert {name: (out / name).read_bytes() for name in self.weights()} == before
        assert not (out / "checkpoint.safetensors").exists()
        assert not rows(out)
        # The run may have replaced what it began with, so that nobody can say how it goes on.
        with pytest.raises(ValueError, match=r"began with .*last.*--force"):
            train(folder, out, resume=True)
        choices = {**CHOICES, "weights": out / "last"}
        assert train(folder, out, epochs=1, force=True, **choices).trainer.steps == 3
        assert (out / "last/model.safetensors").read_bytes() != before["last/model.safetensors"]

    @staticmethod
    def weights() -> list[str]:
        return ["best/model.safetensors", "last/model.safetensors", "best/config.json"]

    def test_old_weights_are_named_as_such(
        self, folder: Path, out: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        choices: dict[str, Any] = {**CHOICES, "lr": 1e30, "schedule": "constant"}
        with pytest.raises(TrainingError, match=r"of this run; .*in .*best and .*last"):
            train(folder, out, epochs=2, force=True, **choices)
        with monkeypatch.context() as patch:
            interrupt_after(1, patch)
            run = train(folder, out, epochs=2, force=True, **CHOICES)
        assert run.interrupted
        directory = RunDirectory(out, resume=True, force=False)
        assert directory.of_run_before(epoch_ended=False) == (
            f"; those of the run before are still in {out / 'best'}"
        )

    def test_a_fitted_layer_has_no_last_weights(self, folder: Path, out: Path) -> None:
        train(folder, out, force=True, weights=out / "best", freeze="backbone")
        assert not (out / "last").exists()
        resnet_rs.load(out / "best")


def _killed(*_: Any, **__: Any) -> None:
    raise InterruptedError


class TestRefused:
    """Places where no run can be, said before a photo is read."""

    @pytest.fixture
    def unreadable(self, tmp_path: Path) -> Path:
        folder = write_classes(tmp_path / "photos", {"cat": 2, "dog": 2})
        for path in folder.rglob("*.png"):
            path.write_bytes(b"no photo")
        return folder

    @pytest.mark.parametrize("place", ["afile", "afile/run", "afile/a/b"])
    def test_below_a_file(self, place: str, unreadable: Path, tmp_path: Path) -> None:
        (tmp_path / "afile").write_text("mine")
        with pytest.raises(NotADirectoryError, match="afile is no directory"):
            train(unreadable, tmp_path / place, **CHOICES)

    def test_where_nothing_may_be_written(
        self, unreadable: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "locked").mkdir()
        # Root may write anywhere, so that the mode of the folder would not do.
        monkeypatch.setattr(os, "access", lambda path, _: "locked" not in os.fspath(path))
        with pytest.raises(PermissionError, match="locked"):
            train(unreadable, tmp_path / "locked" / "run", **CHOICES)

    @pytest.mark.parametrize("place", ["train/run", "val/run", "test/run", "train/cat/run"])
    def test_in_a_part(self, place: str, tmp_path: Path) -> None:
        for part in ("train", "val", "test"):
            write_classes(tmp_path / part, {"cat": 2, "dog": 2})
        with pytest.raises(ValueError, match=rf"outside of \S*{place.split('/')[0]}, whose"):
            train(tmp_path, tmp_path / place, **CHOICES)

    def test_in_the_photos_for_validation(self, folder: Path, tmp_path: Path) -> None:
        val = write_classes(tmp_path / "val", {"cat": 2, "dog": 2}, start=50)
        with pytest.raises(ValueError, match=r"outside of \S*val, whose"):
            train(folder, val / "run", val=val, **CHOICES)
        assert not (val / "run").exists()


class TestNames:
    """Names of files that are not UTF-8, as Linux allows."""

    PHOTO = os.fsdecode(b"caf\xe9.png")

    def folder(self, tmp_path: Path) -> Path:
        folder = write_classes(tmp_path / "photos", {"cat": 6, "dog": 6})
        for name in ("cat", "dog"):
            try:
                write_photo(folder / name / self.PHOTO, 70 + len(os.listdir(folder / "cat")))
            except OSError:
                pytest.skip("this file system takes UTF-8 only")
        return folder

    def test_of_a_photo(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        folder, out = self.folder(tmp_path), tmp_path / "run"
        broken = folder / "dog" / os.fsdecode(b"\xff.png")
        broken.write_bytes(b"no photo")
        # A network that has learnt nothing, and so makes mistakes.
        flags = ["--architecture", "cifar_resnet20", "--size", "16", "--batch-size", "4"]
        flags += ["--epochs", "1", "--val", str(folder), "--lr", "1e-9"]
        assert main(["train", str(folder), "-o", str(out), *flags, "--quiet"]) == 0
        report = json.loads((out / "report.json").read_text("ascii"))
        assert any(str(one["image"]).endswith(self.PHOTO) for one in report["mistakes"])
        dropped = json.loads((out / "args.json").read_text("ascii"))["dropped"]
        assert str(broken) in {one["name"] for one in dropped}
        train(folder, out, resume=True)

    def test_of_a_class(self, tmp_path: Path) -> None:
        folder = self.folder(tmp_path)
        name = os.fsdecode(b"caf\xe9")
        write_classes(folder, {name: 2}, start=80)
        with pytest.raises(DataError, match=r"UTF-8.*caf\\udce9"):
            train(folder, tmp_path / "run", **CHOICES)
        assert not (tmp_path / "run").exists()
        images = np.zeros((4, 16, 16, 3), np.uint8)
        with pytest.raises(DataError, match="UTF-8"):
            train((images, ["cat", name, "cat", name]), **CHOICES)

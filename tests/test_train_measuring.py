"""How a run measures: with the network's own preprocessing, and the best weights."""

from __future__ import annotations

import signal
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labelled_photos import write_classes
from PIL import Image
from test_train_choices import interrupt_after
from test_train_resume import CHOICES, assert_same_run

import resnet_rs
from resnet_rs import Trainer, TrainingError, train
from resnet_rs.cli import main
from resnet_rs.datasets import Loader, read
from resnet_rs.evaluation import evaluate
from resnet_rs.images.spec import Preprocessing
from resnet_rs.training.interrupt import Interrupt
from resnet_rs.training.show import Show

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_classes(tmp_path_factory.mktemp("photos"), {"cat": 10, "dog": 10})


class TestPreprocessing:
    """Photos of 24 x 18 pixels, which a pair as the size distorts."""

    SPECS = (
        Preprocessing((40, 40), None, "bicubic", MEAN, STD),
        Preprocessing((40, 40), 32, "bicubic", MEAN, STD),
        Preprocessing(50, (32, 32), "nearest", MEAN, STD),
    )

    def weights(self, spec: Preprocessing, tmp_path: Path) -> Path:
        path = tmp_path / "weights"
        Trainer("cifar_resnet20", labels=["cat", "dog"], preprocessing=spec).save(path)
        return path

    @pytest.mark.parametrize("spec", SPECS, ids=str)
    @pytest.mark.parametrize("freeze", [(), "backbone"])
    def test_that_of_the_weights_measures(
        self, spec: Preprocessing, freeze: Any, folder: Path, tmp_path: Path
    ) -> None:
        val = write_classes(tmp_path / "val", {"cat": 4, "dog": 4}, start=50)
        weights = self.weights(spec, tmp_path)
        more = {} if freeze else {"epochs": 1}
        run = train(folder, tmp_path / "run", val=val, weights=weights, freeze=freeze, **more)
        assert run.best is not None
        assert run.evaluation is not None
        model = resnet_rs.load(run.best)
        assert model.config.preprocessing == spec
        photos = read(folder, val=val).val
        again = evaluate(model, photos.images, photos.labels, photos.classes)
        assert run.evaluation.loss == pytest.approx(again.loss, rel=1e-5)
        np.testing.assert_allclose(run.evaluation.scores, again.scores, rtol=1e-5)
        if not freeze:
            assert run.history[0]["val_loss"] == pytest.approx(again.loss, rel=1e-5)

    def test_one_that_does_not_fit_a_loader(self, folder: Path) -> None:
        photos = read(folder).val
        spec = self.SPECS[0]
        with pytest.raises(ValueError, match="32 x 32"):
            Loader(photos, batch_size=4, size=32, preprocessing=spec)
        loose = Preprocessing(40, None, "bilinear", MEAN, STD)
        with pytest.raises(ValueError, match="preprocessing must make"):
            Loader(photos, batch_size=4, size=40, preprocessing=loose)
        with pytest.raises(ValueError, match="in place of resize, mean and std"):
            Loader(photos, batch_size=4, size=40, preprocessing=spec, mean=MEAN)


class TestBest:
    def test_without_a_directory_the_evaluation_is_that_of_the_best_weights(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The second epoch is a bad one: it answers everything with the first class."""
        logits = Trainer.logits

        def spoilt(self: Trainer, x: Any, **options: Any) -> Any:
            found = logits(self, x, **options)
            return found if self.steps <= 4 else found * 0 + [100.0, 0.0]

        monkeypatch.setattr(Trainer, "logits", spoilt)
        run = train(folder, epochs=2, **CHOICES)
        assert run.best_epoch == 1
        assert run.evaluation is not None
        assert run.evaluation.loss == run.history[0]["val_loss"] != run.history[1]["val_loss"]

    def test_mistakes_of_pixels_in_memory_are_drawn(self, tmp_path: Path) -> None:
        """All photos are red, so that each second one is a mistake."""
        red = np.zeros((8, 16, 16, 3), np.uint8)
        red[..., 0] = 250
        red[::3, :2] = 40  # No two photos are the same in both parts.
        for freeze in ((), "backbone"):
            run = train(
                (red, [0, 1] * 4),
                tmp_path / f"run{len(freeze)}",
                val=(red[:4], [0, 1] * 2),
                duplicates="keep",
                freeze=freeze,
                **CHOICES,
                **({} if freeze else {"epochs": 1}),
            )
            assert run.directory is not None
            with Image.open(run.directory / "mistakes.jpg") as picture:
                pixels = np.asarray(picture.convert("RGB")).astype(int)
            assert ((pixels[..., 0] > 200) & (pixels[..., 1:].max(axis=2) < 50)).sum() > 5000


class TestDivergence:
    """A training that diverges only when it is measured: the steps themselves are finite."""

    def spoil(self, after: int, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
        logits = Trainer.logits

        def spoilt(self: Trainer, x: Any, **options: Any) -> Any:
            if self.steps <= after:
                return logits(self, x, **options)
            if how == "weights":
                raise resnet_rs.WeightsError("layer1: too large to fold")
            return np.full((len(x), 2), np.nan, np.float32)

        monkeypatch.setattr(Trainer, "logits", spoilt)

    @pytest.mark.parametrize(
        ("how", "words"), [("weights", "layer1: too large"), ("outputs", "outputs are not finite")]
    )
    def test_the_epoch_and_the_weights_are_named(
        self, how: str, words: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        out = tmp_path / "run"
        whole = tmp_path / "whole"
        train(folder, whole, epochs=2, **CHOICES)
        with monkeypatch.context() as patch:
            self.spoil(4, how, patch)
            with pytest.raises(TrainingError, match=words) as caught:
                train(folder, out, epochs=2, **CHOICES)
        message = str(caught.value)
        assert message.startswith("epoch 2, after step 8: ")
        assert "smaller learning rate" in message
        assert f"after the last epoch in {out / 'last'}, the best ones in {out / 'best'}" in message
        train(folder, out, resume=True)
        assert_same_run(out, whole)

    @pytest.mark.parametrize("flags", [["--lr", "1e30"], ["--lr", "1e30", "--val-fraction", "0"]])
    def test_the_exit_status(
        self, flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The loss of the first step is finite still."""
        folder = write_classes(tmp_path / "photos", {"cat": 2, "dog": 2})
        val = write_classes(tmp_path / "val", {"cat": 2, "dog": 2}, start=9)
        command = ["train", str(folder), "-o", str(tmp_path / "run"), "--quiet", "--size", "16"]
        command += ["--architecture", "cifar_resnet20", "--batch-size", "4", "--epochs", "9"]
        if "--val-fraction" not in flags:
            command += ["--val", str(val)]
        assert main([*command, "--schedule", "constant", *flags]) == 1
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith("resnet-rs: error: epoch 1, after step 1: ")
        assert "smaller learning rate" in error
        assert "No epoch has ended" in error


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


class TestShown:
    @pytest.mark.parametrize("freeze", [(), "backbone"])
    def test_the_progress_of_measuring(self, freeze: Any, folder: Path, tmp_path: Path) -> None:
        terminal = Terminal()
        val = write_classes(tmp_path / "val", {"cat": 4, "dog": 3}, start=50)
        more = {} if freeze else {"epochs": 1}
        show = Show(True, terminal)
        train(folder, tmp_path / "run", val=val, progress=show, freeze=freeze, **CHOICES, **more)
        # Once for the epoch, and once for the best weights at the end.
        assert terminal.getvalue().count("7/7 images") == (1 if freeze else 2)

    def test_ctrl_c_while_it_measures_ends_the_run_before_the_next_step(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        out, whole, terminal = tmp_path / "run", tmp_path / "whole", Terminal()
        train(folder, whole, epochs=2, **CHOICES)
        logits = Trainer.logits

        def interrupted(self: Trainer, x: Any, **options: Any) -> Any:
            if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
                signal.raise_signal(signal.SIGINT)
            return logits(self, x, **options)

        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "logits", interrupted)
            run = train(folder, out, epochs=2, progress=Show(True, terminal), **CHOICES)
        assert run.interrupted
        assert run.trainer.steps == 4
        assert "ending after measuring; press Ctrl-C again" in terminal.getvalue()
        assert not train(folder, out, resume=True).interrupted
        assert_same_run(out, whole)

    def test_ctrl_c_in_a_step_is_acknowledged(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        terminal = Terminal()
        interrupt_after(2, monkeypatch)
        run = train(folder, epochs=1, progress=Show(True, terminal), **CHOICES)
        assert run.trainer.steps == 2
        assert "ending after this step; press Ctrl-C again" in terminal.getvalue()

    def test_ctrl_c_in_the_middle_of_a_line_is_noted(self) -> None:
        """A stream raises RuntimeError if a signal's handler writes in the middle of a write."""

        def write() -> None:
            raise RuntimeError("reentrant call")

        with Interrupt(write) as interrupt:
            signal.raise_signal(signal.SIGINT)
            assert interrupt.is_set

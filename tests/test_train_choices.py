"""The choices of `train`: Ctrl-C at any step with each of them, and kinds of photos and weights."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labelled_photos import write_classes
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from test_train_resume import CHOICES, assert_same_run, rows

import resnet_rs
from resnet_rs import Trainer, train
from resnet_rs.cli import main
from resnet_rs.datasets import DataError
from resnet_rs.datasets.augment import Augment
from resnet_rs.training import trainer as trainer_module

RECIPES: dict[str, dict[str, Any]] = {
    "sgd": {},
    "adamw": {"optimizer": "adamw", "lr": 1e-3, "average": 0.9, "clip_norm": 1.0},
    "mixed": {"augment": Augment(flip=True, mixup=0.5, erasing=0.5), "schedule": "step"},
    "frozen": {"frozen_epochs": 1, "backbone_lr": 0.3, "balanced": True},
    "plain": {"augment": Augment(scale=None), "schedule": "constant", "warmup": 0.2},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_classes(tmp_path_factory.mktemp("photos"), {"cat": 7, "dog": 5})


def interrupt_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Send Ctrl-C in the middle of a step."""
    update = Trainer.update

    def interrupting(self: Trainer, **options: Any) -> None:
        if self.steps == steps - 1:
            signal.raise_signal(signal.SIGINT)
        update(self, **options)

    monkeypatch.setattr(Trainer, "update", interrupting)


@pytest.mark.parametrize("name", RECIPES)
def test_ctrl_c_at_every_step(
    name: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run of two epochs of three steps, ended at each of its steps, once after the other."""
    choices = {**CHOICES, **RECIPES[name], "epochs": 2}
    whole, out = tmp_path / "whole", tmp_path / "run"
    assert train(folder, whole, **choices).trainer.steps == 6
    for steps in range(1, 7):
        with monkeypatch.context() as patch:
            interrupt_after(steps, patch)
            more = choices if steps == 1 else {"resume": True}
            run = train(folder, out, threads=1 + steps % 2, workers=1 + steps % 3, **more)
        assert run.interrupted
        assert run.trainer.steps == steps
        resnet_rs.load(out / "last")
    run = train(folder, out, resume=True)
    assert not run.interrupted
    assert_same_run(out, whole)


def test_a_second_ctrl_c_ends_the_run_at_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "run"
    train(folder, whole, epochs=2, **CHOICES)
    update = Trainer.update

    def interrupting(self: Trainer, **options: Any) -> None:
        if self.steps == 4:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        update(self, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "update", interrupting)
        with pytest.raises(KeyboardInterrupt):
            train(folder, out, epochs=2, **CHOICES)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert [row["epoch"] for row in rows(out)] == [1]
    train(folder, out, resume=True)
    assert_same_run(out, whole)


def test_a_thread_that_is_not_the_main_one_trains_too(folder: Path, tmp_path: Path) -> None:
    runs: list[resnet_rs.Run] = []
    thread = threading.Thread(
        target=lambda: runs.append(train(folder, tmp_path / "run", epochs=1, **CHOICES))
    )
    thread.start()
    thread.join()
    assert runs[0].trainer.steps == 3


def test_a_photo_that_vanishes_is_named(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "photos", {"cat": 7, "dog": 5})
    whole, out = tmp_path / "whole", tmp_path / "run"
    train(folder, whole, epochs=2, **CHOICES)
    photos = {path: path.read_bytes() for path in folder.rglob("*.png")}

    def lose(_: object) -> None:
        for path in photos:
            path.unlink()

    with pytest.raises(FileNotFoundError) as caught:
        train(folder, out, epochs=2, cache=0, on_epoch=lose, **CHOICES)
    assert Path(caught.value.filename) in photos
    for path, content in photos.items():
        path.write_bytes(content)
    train(folder, out, resume=True)
    assert_same_run(out, whole)


def shapes(count: int, seed: int, side: int = 24) -> tuple[NDArray[np.uint8], list[str]]:
    """Bright discs, squares and crosses of any size and place on dark grounds."""
    random = np.random.default_rng(seed)
    images, labels = [], []
    for number in range(count):
        ground = tuple(random.integers(0, 80, 3).tolist())
        colour = tuple(random.integers(150, 256, 3).tolist())
        picture = Image.new("RGB", (4 * side, 4 * side), ground)
        draw = ImageDraw.Draw(picture)
        radius = int(random.integers(20, 36))
        x, y = (int(random.integers(radius, 4 * side - radius)) for _ in range(2))
        box = (x - radius, y - radius, x + radius, y + radius)
        label = ("cross", "disc", "square")[number % 3]
        if label == "disc":
            draw.ellipse(box, fill=colour)
        elif label == "square":
            draw.rectangle(box, fill=colour)
        else:
            draw.line((x - radius, y, x + radius, y), fill=colour, width=radius // 2)
            draw.line((x, y - radius, x, y + radius), fill=colour, width=radius // 2)
        pixels = np.asarray(picture.resize((side, side), Image.Resampling.BOX), np.float64)
        images.append((pixels + random.normal(0, 8, pixels.shape)).clip(0, 255).astype(np.uint8))
        labels.append(label)
    return np.stack(images), labels


def test_shapes_are_learnt() -> None:
    """Random weights, a few seconds, and a task that needs more than the mean colour."""
    run = train(
        shapes(360, 0),
        val=shapes(120, 1),
        weights="cifar_resnet20",
        size=24,
        epochs=7,
        augment=Augment(scale=(0.7, 1.0), flip=True),
    )
    assert run.evaluation is not None
    assert run.evaluation.top1 > 0.95
    assert run.history[-1]["train_loss"] < 0.6 * run.history[0]["train_loss"]


class TestData:
    def test_a_table(self, folder: Path, tmp_path: Path) -> None:
        table = tmp_path / "photos.csv"
        paths = sorted(folder.rglob("*.png"))
        lines = [f"{path},{path.parent.name}" for path in paths]
        table.write_text("path,label\n" + "\n".join(lines) + "\n")
        run = train(table, tmp_path / "a", epochs=1, **CHOICES)
        assert run.evaluation is not None
        assert run.evaluation.classes == ("cat", "dog")
        assert run.evaluation.count + 10 == len(paths)

    def test_grey_photos_in_memory(self, tmp_path: Path) -> None:
        images, labels = shapes(24, 0)
        grey = images.mean(axis=3).astype(np.uint8)
        run = train((grey, labels), tmp_path / "run", epochs=1, **{**CHOICES, "size": 24})
        assert run.best is not None
        model = resnet_rs.load(run.best)
        (score, *_) = model.predict(grey[0])
        assert score.label in labels
        # Weights of one channel go on with photos of files, which become grey.
        folder = write_classes(tmp_path / "photos", {"cross": 4, "disc": 4, "square": 4})
        again = train(folder, weights=run.best, epochs=1, batch_size=4)
        assert again.trainer.config["variant"]["in_channels"] == 1

    def test_grey_photos_in_memory_for_a_network_of_colours(self, tmp_path: Path) -> None:
        images, labels = shapes(12, 0)
        first = train((images, labels), tmp_path / "run", epochs=1, **{**CHOICES, "size": 24})
        grey = images.mean(axis=3).astype(np.uint8)
        with pytest.raises((DataError, ValueError), match="channel") as caught:
            train((grey, labels), weights=first.best, epochs=1, batch_size=4)
        assert "3" in str(caught.value)

    def test_weights_without_names_of_classes(self, folder: Path, tmp_path: Path) -> None:
        trainer = Trainer("cifar_resnet20", num_classes=2)
        trainer.save(tmp_path / "weights")
        run = train(folder, weights=tmp_path / "weights", epochs=1, size=16, batch_size=4)
        assert any("no names of classes" in remark for remark in run.remarks)
        assert run.trainer.config["labels"] == ["cat", "dog"]

    def test_names_that_come_twice_are_no_order(self, tmp_path: Path) -> None:
        """The rows of a layer that has a name twice cannot follow the names."""
        names = ["crane", "dog", "crane"]
        Trainer("cifar_resnet20", labels=names).save(tmp_path / "weights")
        kept = Trainer(tmp_path / "weights", labels=names)
        assert not kept.remarks
        other = Trainer(tmp_path / "weights", labels=["dog", "crane", "crane"])
        assert "the last layer is new" in other.remarks[0]

    def test_the_time_that_steps_wait_is_recorded(self, folder: Path, tmp_path: Path) -> None:
        run = train(folder, tmp_path / "run", epochs=2, **CHOICES)
        for row in run.history:
            assert 0 <= row["waited_seconds"] <= run.seconds
            assert row["images_per_second"] > 0
        assert run.history[0]["seconds"] < run.history[1]["seconds"] <= run.seconds


@pytest.mark.parametrize(
    ("architecture", "choice", "expected"),
    [
        ("resnet18", None, False),
        ("resnet50", None, True),
        ("cifar_resnet20", True, True),
        ("resnext50_32x4d", False, False),
    ],
)
def test_blocks_that_begin_as_the_identity(
    architecture: str, choice: bool | None, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default those of bottlenecks."""
    found: list[bool] = []

    def begin(*_: Any, zero_last: bool, **__: Any) -> None:
        found.append(zero_last)
        raise InterruptedError

    monkeypatch.setattr(trainer_module, "start", begin)
    with pytest.raises(InterruptedError):
        train(shapes(6, 0), weights=architecture, size=24, zero_last=choice)
    assert found == [expected]


class TestBeginning:
    """Mistakes that are said before a photo is read."""

    @pytest.mark.parametrize(
        ("choices", "words"),
        [
            ({"freeze": "layer9"}, "^freeze: expected backbone"),
            ({"freeze": ("backbone", "fc")}, "^freeze: expected parameters that learn"),
            ({"schedule": "cosine", "warmup": 1.0}, "^warmup"),
            ({"warmup": 0.1}, "^warmup: expected with another schedule"),
            ({"average": 1}, "^average: expected a number from 0 up to 1, 1 excluded; got 1"),
            ({"momentum": 1.0}, "^momentum: expected a number from 0 up to 1, 1 excluded"),
            ({"resume": True, "force": True}, "^resume, force"),
        ],
        ids=["name", "all", "warmup", "rise", "average", "momentum", "both"],
    )
    def test_wrong_choices(self, choices: dict[str, Any], words: str, tmp_path: Path) -> None:
        folder = write_classes(tmp_path / "photos", {"cat": 2, "dog": 2})
        for path in folder.rglob("*.png"):
            path.write_bytes(b"no photo")
        with pytest.raises(ValueError, match=words):
            train(folder, tmp_path / "run", epochs=1, **{**CHOICES, **choices})
        assert not (tmp_path / "run").exists()

    def test_blocks_of_weights_that_exist_do_not_begin_anew(
        self, folder: Path, demo_dir: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(ValueError, match=r"^zero_last: expected with an architecture only"):
            train(folder, tmp_path / "run", weights=demo_dir, zero_last=True, epochs=1)
        out = tmp_path / "resumed"
        train(folder, out, zero_last=True, epochs=1, **CHOICES)
        train(folder, out, resume=True)

    @pytest.mark.parametrize(
        ("flags", "words"),
        [
            (["--crop", "2"], "argument --crop: expected a number above 0, up to 1; got '2'"),
            (["--crop", "0"], "argument --crop: expected a number above 0, up to 1; got '0'"),
            (["--jitter", "2"], "argument --jitter: expected a number from 0 to 1; got '2'"),
            (["--jitter", "much"], "argument --jitter: expected a number from 0 to 1; got 'much'"),
        ],
        ids=str,
    )
    def test_flags_are_named(
        self, flags: list[str], words: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit):
            main(["train", "photos", "-o", "run", *flags])
        assert words in capsys.readouterr().err

    def test_one_remark_on_no_photos_for_validation(self, folder: Path, tmp_path: Path) -> None:
        run = train(folder, tmp_path / "run", val_fraction=0, epochs=1, **CHOICES)
        (remark,) = (one for one in run.remarks if "val" in one)
        assert remark.startswith("there are no validation photos")

    def test_a_run_among_the_classes_is_refused(self, folder: Path, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="outside of"):
            train(folder, folder / "run", epochs=1, **CHOICES)
        assert not (folder / "run").exists()

    def test_a_run_beside_train_and_val_is_none_of_the_photos(self, tmp_path: Path) -> None:
        write_classes(tmp_path / "train", {"cat": 4, "dog": 4})
        write_classes(tmp_path / "val", {"cat": 1, "dog": 1}, start=20)
        train(tmp_path, tmp_path / "run", epochs=1, **CHOICES)
        again = train(tmp_path, tmp_path / "run", resume=True)
        assert again.trainer.steps == 2

    def test_flags_that_a_resumed_run_does_not_take(
        self, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = tmp_path / "run"
        train(folder, out, epochs=1, **CHOICES)
        command = ["train", str(folder), "-o", str(out), "--resume", "--quiet"]
        flags = ["--epochs", "9", "--architecture", "resnet18", "--freeze", "norms", "--crop", "1"]
        assert main([*command, *flags]) == 2
        error = capsys.readouterr().err
        assert "--architecture, --freeze, --crop, --epochs: --resume goes on with" in error
        assert main([*command, "--threads", "1", "--workers", "2"]) == 0
        assert f"weights: {out / 'best'}" in capsys.readouterr().out


def test_a_recipe_of_numpys_numbers_is_resumed(folder: Path, tmp_path: Path) -> None:
    numbers: dict[str, Any] = {"lr": np.float32(0.02), "epochs": np.int64(1), "seed": np.uint8(3)}
    numbers["augment"] = Augment(erasing=np.float32(0.5))
    run = train(folder, tmp_path / "run", **{**CHOICES, **numbers})
    again = train(folder, tmp_path / "run", resume=True)
    assert again.trainer.steps == run.trainer.steps == 3


class TestHead:
    def test_without_photos_for_validation(self, folder: Path, tmp_path: Path) -> None:
        run = train(
            folder, tmp_path / "run", freeze="backbone", val_fraction=0, weights="cifar_resnet20"
        )
        assert run.evaluation is None
        assert any("no validation photos" in remark for remark in run.remarks)
        resnet_rs.load(tmp_path / "run" / "best")

    def test_it_is_fitted_again_when_it_is_resumed(self, folder: Path, tmp_path: Path) -> None:
        out = tmp_path / "run"
        choices = {"freeze": "backbone", "weights": "cifar_resnet20", "size": 16}
        train(folder, out, **choices)
        before = (out / "best" / "model.safetensors").read_bytes()
        with pytest.raises(FileExistsError, match="--resume"):
            train(folder, out, **choices)
        train(folder, out, resume=True)
        assert (out / "best" / "model.safetensors").read_bytes() == before

    def test_the_directory_predicts_what_was_measured(self, tmp_path: Path) -> None:
        val = shapes(30, 1)
        run = train(
            shapes(60, 0),
            tmp_path / "run",
            val=val,
            freeze="backbone",
            weights="cifar_resnet20",
            size=24,
        )
        assert run.evaluation is not None
        model = resnet_rs.load(tmp_path / "run" / "best")
        given = [model.predict(image, top_k=1)[0].label for image in val[0]]
        assert given == [run.evaluation.classes[i] for i in run.evaluation.predicted]

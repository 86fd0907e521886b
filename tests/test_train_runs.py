"""Whole runs of `train`: files, bits after a kill, Ctrl-C, and everything that can go wrong."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import resnet_rs
from resnet_rs import Recipe, Run, train
from resnet_rs.cli import main
from resnet_rs.datasets import DataError, Labelled
from resnet_rs.datasets.augment import Augment
from resnet_rs.evaluation import read_history

SIDE = 24
TINY = "cifar_resnet20"
COLORS = {"blue": (40, 60, 200), "green": (50, 170, 60), "red": (200, 50, 40)}
FAST: dict[str, Any] = {"size": SIDE, "batch_size": 8, "lr": 0.05}


def photos(count: int, side: int = SIDE, seed: int = 0) -> tuple[NDArray[np.uint8], list[str]]:
    """Noisy pictures of three colours."""
    random = np.random.default_rng(seed)
    labels = [list(COLORS)[i % 3] for i in range(count)]
    pixels = np.stack([COLORS[name] + random.normal(0, 40, (side, side, 3)) for name in labels])
    return pixels.clip(0, 255).astype(np.uint8), labels


def write_photos(folder: Path, count: int, seed: int = 0) -> Path:
    images, labels = photos(count, seed=seed)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        place = folder / label
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{number:03}.png")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos")
    write_photos(root / "train", 36)
    write_photos(root / "val", 12, seed=1)
    return root


def tensors(directory: Path) -> dict[str, NDArray[Any]]:
    return resnet_rs.load(directory).loaded.tensors()


def same_weights(a: Path, b: Path) -> bool:
    ours, theirs = tensors(a), tensors(b)
    return all(np.array_equal(ours[n], theirs[n]) for n in ours) and ours.keys() == theirs.keys()


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("run") / "run"
    return train(folder, out, weights=TINY, epochs=4, zero_last=True, **FAST)


class TestRun:
    def test_it_learns(self, run: Run) -> None:
        assert run.evaluation is not None
        assert run.evaluation.top1 == 1.0
        assert run.evaluation.classes == tuple(sorted(COLORS))
        assert not run.interrupted
        assert 1 <= run.best_epoch <= 4

    def test_its_files(self, run: Run) -> None:
        assert run.directory is not None
        assert sorted(path.name for path in run.directory.iterdir()) == [
            "args.json",
            "batches.jpg",
            "best",
            "checkpoint.safetensors",
            "confusion.png",
            "curves.png",
            "last",
            "mistakes.jpg",
            "report.json",
            "results.csv",
        ]
        rows = read_history(run.directory / "results.csv")
        assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
        assert all(row["images_per_second"] > 0 for row in rows)
        assert rows[-1]["val_accuracy"] == 1.0
        for name in ("batches.jpg", "confusion.png", "curves.png", "mistakes.jpg"):
            with Image.open(run.directory / name) as picture:
                assert min(picture.size) > 100
        arguments = json.loads((run.directory / "args.json").read_text())
        assert arguments["recipe"]["epochs"] == 4
        assert arguments["photos"] == {"train": 36, "val": 12}

    def test_the_best_weights_predict_what_was_measured(self, run: Run, folder: Path) -> None:
        assert run.best is not None
        assert run.evaluation is not None
        model = resnet_rs.load(run.best)
        assert model.config.preprocessing.crop == SIDE
        for path, given, score in zip(
            run.evaluation.images, run.evaluation.predicted, run.evaluation.scores, strict=True
        ):
            (best,) = model.predict(path, top_k=1)
            assert best.label == run.evaluation.classes[given]
            assert best.score == pytest.approx(score, rel=1e-5)

    def test_a_run_is_not_overwritten(self, run: Run, folder: Path) -> None:
        with pytest.raises(FileExistsError, match=r"--resume.*--force"):
            train(folder, run.directory, weights=TINY, epochs=1, **FAST)
        with pytest.raises(ValueError, match="resumed with its own choices"):
            train(folder, run.directory, resume=True, epochs=9)

    def test_a_run_that_has_ended_is_resumed_without_a_step(self, run: Run, folder: Path) -> None:
        again = train(folder, run.directory, resume=True)
        assert again.trainer.steps == run.trainer.steps
        assert [row["epoch"] for row in again.history] == [1, 2, 3, 4]

    def test_the_same_seed_gives_the_same_bits_for_any_workers_and_threads(
        self, run: Run, folder: Path, tmp_path: Path
    ) -> None:
        again = {"weights": TINY, "epochs": 4, "zero_last": True, **FAST}
        train(folder, tmp_path / "b", threads=1, workers=1, **again)
        assert run.directory is not None
        assert same_weights(run.directory / "last", tmp_path / "b" / "last")
        train(folder, tmp_path / "c", seed=1, **again)
        assert not same_weights(run.directory / "last", tmp_path / "c" / "last")


class TestWeights:
    def test_other_classes_get_a_new_last_layer_that_learns_first(
        self, demo_dir: Path, folder: Path
    ) -> None:
        seen: list[int] = []
        run = train(
            folder,
            weights=demo_dir,
            epochs=2,
            size=32,
            batch_size=12,
            on_epoch=lambda result: seen.append(result.epoch),
        )
        assert any("last layer is new" in remark for remark in run.remarks)
        assert run.trainer.config["labels"] == sorted(COLORS)
        assert seen == [1, 2]

    def test_a_frozen_backbone_gets_a_fitted_last_layer(
        self, demo_dir: Path, folder: Path, tmp_path: Path
    ) -> None:
        run = train(folder, tmp_path / "run", weights=demo_dir, freeze="backbone", size=32)
        assert run.evaluation is not None
        assert run.evaluation.top1 > 0.9
        before, after = resnet_rs.load(demo_dir).loaded.tensors(), tensors(tmp_path / "run/best")
        changed = {n for n in after if not np.array_equal(before.get(n), after[n])}
        assert changed == {"fc.weight", "fc.bias"}

    def test_classes_in_another_order_keep_their_rows(self, tmp_path: Path, folder: Path) -> None:
        first = train(folder, tmp_path / "first", weights=TINY, epochs=3, **FAST)
        assert first.best is not None
        images, labels = photos(18)
        order = ["red", "green", "blue"]
        data = Labelled(images, np.array([order.index(name) for name in labels]), tuple(order))
        run = train(data, weights=first.best, epochs=1, lr=1e-6, batch_size=9, frozen_epochs=0)
        assert run.trainer.config["labels"] == order
        rows = tensors(first.best)["fc.weight"][::-1]
        np.testing.assert_allclose(run.trainer.state_dict()["fc.weight"], rows, atol=1e-4)

    def test_other_names_are_other_classes(self, run: Run) -> None:
        assert run.best is not None
        images, labels = photos(18)
        other = {"blue": "sky", "green": "grass", "red": "rose"}
        data = (images, [other[name] for name in labels])
        again = train(data, weights=run.best, epochs=1, batch_size=9)
        assert "the last layer is new" in " ".join(again.remarks)
        assert "others: blue, green, red" in " ".join(again.remarks)

    def test_grey_arrays(self) -> None:
        images, labels = photos(18)
        grey = images.mean(axis=3, keepdims=True).astype(np.uint8)
        run = train((grey, labels), weights=TINY, epochs=1, **FAST)
        assert run.trainer.config["variant"]["in_channels"] == 1


class TestData:
    def test_one_class(self, tmp_path: Path) -> None:
        write_photos(tmp_path, 9)
        for name in ("green", "red"):
            for path in (tmp_path / name).iterdir():
                path.unlink()
            (tmp_path / name).rmdir()
        with pytest.raises(DataError, match="two classes"):
            train(tmp_path, weights=TINY, epochs=1, **FAST)

    def test_an_empty_class(self, tmp_path: Path) -> None:
        write_photos(tmp_path, 9)
        (tmp_path / "black").mkdir()
        with pytest.raises(DataError, match="black"):
            train(tmp_path, weights=TINY, epochs=1, **FAST)

    def test_a_class_with_one_photo_is_remarked_on(self, tmp_path: Path) -> None:
        write_photos(tmp_path, 12)
        (tmp_path / "white").mkdir()
        Image.new("RGB", (SIDE, SIDE), "white").save(tmp_path / "white" / "0.png")
        run = train(tmp_path, weights=TINY, epochs=1, **FAST)
        assert any("white" in remark for remark in run.remarks)

    def test_nothing_can_be_read(self, tmp_path: Path) -> None:
        for path in write_photos(tmp_path, 9).rglob("*.png"):
            path.write_bytes(b"no picture")
        with pytest.raises(DataError, match="read"):
            train(tmp_path, weights=TINY, epochs=1, **FAST)

    def test_labels_out_of_range(self) -> None:
        images, _ = photos(4)
        with pytest.raises(ValueError, match="label"):
            train((images, [0, 1, -1, 1]), weights=TINY, epochs=1, **FAST)

    def test_a_last_batch_of_one_photo_is_left_out(self) -> None:
        images, labels = photos(17)
        run = train((images, labels), weights=TINY, epochs=1, val=photos(3), **FAST)
        # Of 17 photos to learn from, two batches of 8.
        assert run.trainer.steps == 2
        assert any("last batch of one photo" in remark for remark in run.remarks)


class TestTrouble:
    def test_time_ends_a_run(self, folder: Path, tmp_path: Path) -> None:
        run = train(folder, tmp_path / "run", weights=TINY, time="2s", **FAST)
        assert 1 < run.seconds < 30
        assert run.history

    def test_patience_ends_a_run(self, folder: Path) -> None:
        run = train(folder, weights=TINY, epochs=50, patience=2, **{**FAST, "lr": 1e-9})
        assert len(run.history) < 50

    @pytest.mark.parametrize(
        ("choices", "words"),
        [
            ({"epochs": 0}, "epochs"),
            ({"epochs": 2, "time": "1m"}, "time"),
            ({"time": "soon"}, "time"),
            ({"size": 4}, "size"),
            ({"batch_size": 1}, "batch_size"),
            ({"optimizer": "adam"}, "optimizer"),
            ({"schedule": "linear"}, "schedule"),
            ({"augment": 3}, "augment"),
            ({"lr": "x"}, "lr"),
            ({"patience": 0}, "patience"),
        ],
        ids=str,
    )
    def test_wrong_choices_are_named(self, choices: dict[str, Any], words: str) -> None:
        with pytest.raises((TypeError, ValueError), match=words):
            Recipe(**choices)

    def test_a_recipe_survives_json(self) -> None:
        recipe = Recipe(
            epochs=3, freeze="norms", augment=Augment(scale=None, mixup=0.2), balanced=True
        ).completed(fresh=True, new_head=True, size=None)
        assert Recipe.from_dict(json.loads(json.dumps(recipe.as_dict()))) == recipe


SCRIPT = """
import sys
from resnet_rs import train
from resnet_rs.training.show import Show

data, out, resume = sys.argv[1:]
choices = {} if resume == "yes" else dict(
    weights="cifar_resnet20", epochs=4, size=24, batch_size=4, lr=0.05
)
run = train(data, out, resume=resume == "yes", threads=1, progress=Show(True), **choices)
print("ended", run.interrupted)
"""


def start(folder: Path, out: Path, resume: bool = False) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", SCRIPT, str(folder), str(out), "yes" if resume else "no"]
    environment = {**os.environ, "PYTHONPATH": str(Path(resnet_rs.__file__).parents[1])}
    return subprocess.Popen(
        arguments,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for_rows(out: Path, count: int) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        path = out / "results.csv"
        if path.exists() and len(read_history(path)) >= count:
            return
        time.sleep(0.01)
    raise AssertionError("the run did not come that far")


@pytest.fixture(scope="module")
def undisturbed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run from beginning to end in a process of its own."""
    out = tmp_path_factory.mktemp("whole") / "run"
    process = start(folder, out)
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 0, text
    return out


class TestInterrupted:
    def check(self, out: Path, undisturbed: Path) -> None:
        for name in ("last", "best"):
            assert same_weights(out / name, undisturbed / name), name
        times = {"seconds", "images_per_second", "waited_seconds"}
        ours, theirs = (
            [{k: v for k, v in row.items() if k not in times} for row in read_history(path)]
            for path in (out / "results.csv", undisturbed / "results.csv")
        )
        assert ours == theirs

    def test_a_killed_run_goes_on_to_the_bit(
        self, folder: Path, tmp_path: Path, undisturbed: Path
    ) -> None:
        out = tmp_path / "run"
        process = start(folder, out)
        wait_for_rows(out, 2)
        process.kill()
        process.communicate()
        resumed = start(folder, out, resume=True)
        text, _ = resumed.communicate(timeout=120)
        assert resumed.returncode == 0, text
        assert "going on with epoch" in text
        self.check(out, undisturbed)

    def test_ctrl_c_keeps_the_step_and_goes_on_to_the_bit(
        self, folder: Path, tmp_path: Path, undisturbed: Path
    ) -> None:
        out = tmp_path / "run"
        process = start(folder, out)
        wait_for_rows(out, 1)
        process.send_signal(signal.SIGINT)
        text, _ = process.communicate(timeout=60)
        assert process.returncode == 0, text
        assert "ended by Ctrl-C" in text
        assert "--resume" in text
        assert "ended True" in text
        assert (out / "last" / "model.safetensors").exists()
        resumed = start(folder, out, resume=True)
        text, _ = resumed.communicate(timeout=120)
        assert resumed.returncode == 0, text
        self.check(out, undisturbed)


class TestCommand:
    def test_train_and_evaluate(
        self, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = tmp_path / "run"
        flags = ["--architecture", TINY, "--size", "24", "--epochs", "3", "--batch-size", "8"]
        assert main(["train", str(folder), "-o", str(out), *flags, "--lr", "0.05"]) == 0
        output = capsys.readouterr()
        assert f"weights: {out / 'best'}" in output.out
        assert "val acc" in output.err
        assert main(["evaluate", str(folder), "--weights", str(out / "best")]) == 0
        output = capsys.readouterr()
        assert "top-1" in output.out
        assert "learnt" not in output.err  # Its photos are divided.

    def test_photos_that_the_run_has_learnt_from_are_remarked_on(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        photos, out = write_photos(tmp_path / "photos", 30), tmp_path / "run"
        flags = ["--architecture", TINY, "--size", "24", "--epochs", "1", "--batch-size", "8"]
        assert main(["train", str(photos), "-o", str(out), *flags]) == 0
        for weights in (out / "best", out / "last" / "model.safetensors"):
            capsys.readouterr()
            assert main(["evaluate", str(photos), "--weights", str(weights)]) == 0
            assert (
                f"note: 24 of these 30 photos are among those that {out} has learnt from, so the "
                f"figures are too good: {out / 'report.json'} has those of the photos that were "
                "held back"
            ) in capsys.readouterr().err
        other = write_photos(tmp_path / "other", 6)
        assert main(["evaluate", str(other), "--weights", str(out / "best")]) == 0
        assert capsys.readouterr().err == ""
        (out / "args.json").write_text("[]")  # Somebody else's.
        assert main(["evaluate", str(photos), "--weights", str(out / "best")]) == 0
        assert capsys.readouterr().err == ""

    def test_the_directory_of_a_run_is_no_weights(
        self, run: Run, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        words = f"{run.directory}: this is the directory of a training: pass {run.best}"
        with pytest.raises(ValueError, match=re.escape(words)):
            resnet_rs.load(run.directory)
        for command in (
            ["evaluate", str(folder), "--weights", str(run.directory)],
            ["convert", str(run.directory), str(tmp_path / "converted")],
            ["train", str(folder), "-o", str(tmp_path / "run"), "--weights", str(run.directory)],
        ):
            assert main(command) == 2
            assert words in capsys.readouterr().err

    def test_control_characters_of_names_are_escaped(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        photos = write_photos(tmp_path / "photos", 27)
        (photos / "red").rename(photos / "\x1b[31mr\ned")
        flags = ["--architecture", TINY, "--size", "24", "--epochs", "1", "--batch-size", "4"]
        assert main(["train", str(photos), "-o", str(tmp_path / "run"), *flags]) == 0
        output = capsys.readouterr()
        for text in (output.out, output.err):
            assert r"\x1b[31mr\ned" in text
            assert "\x1b" not in text

    @pytest.mark.parametrize(
        ("flags", "words"),
        [
            (["missing"], "missing"),
            (["photos", "--time", "soon"], "time"),
            (["photos", "--architecture", "resnet51"], "resnet51"),
            (["photos", "--resume"], "checkpoint"),
        ],
        ids=str,
    )
    def test_errors_are_one_line(
        self,
        flags: list[str],
        words: str,
        folder: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        (tmp_path / "photos").symlink_to(folder)
        monkeypatch.chdir(tmp_path)
        try:
            status = main(["train", *flags, "-o", "run", "--quiet"])
        except SystemExit as exit:
            status = exit.code
        assert status == 2
        assert words in capsys.readouterr().err.splitlines()[-1]

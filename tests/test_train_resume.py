"""A run that ends in its middle, at any place, and is resumed."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labelled_photos import write_classes, write_photo

import resnet_rs
from resnet_rs import Recipe, TrainingError, train
from resnet_rs.evaluation import read_history
from resnet_rs.training.show import Show
from resnet_rs.training.trainer import Trainer

CHOICES: dict[str, Any] = {"weights": "cifar_resnet20", "size": 16, "batch_size": 4, "lr": 0.02}
TIMES = {"seconds", "images_per_second", "waited_seconds"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos")
    return write_classes(root, {"cat": 6, "dog": 6})


@pytest.fixture(scope="module")
def whole(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run from beginning to end."""
    out = tmp_path_factory.mktemp("whole") / "run"
    train(folder, out, epochs=2, **CHOICES)
    return out


def rows(out: Path) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in row.items() if name not in TIMES}
        for row in read_history(out / "results.csv")
    ]


def assert_same_run(out: Path, whole: Path) -> None:
    """Compare everything that two runs leave, but for times."""
    for name in ("best/model.safetensors", "last/model.safetensors"):
        assert (out / name).read_bytes() == (whole / name).read_bytes(), name
    assert rows(out) == rows(whole)
    reports = [json.loads((run / "report.json").read_text()) for run in (out, whole)]
    assert reports[0] == reports[1]
    assert {path.name for path in out.iterdir()} == {path.name for path in whole.iterdir()}


KILLED_EVERYWHERE = """
import os, shutil, signal, sys
from pathlib import Path
from resnet_rs import train

data, out = sys.argv[1], Path(sys.argv[2])
choices = dict(weights="cifar_resnet20", size=16, batch_size=4, lr=0.02, epochs=2)
choices |= dict(threads=1, workers=1, progress=False)

def in_child(work):
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException as error:
            print("error", repr(error), flush=True)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def killed_before(number):
    calls = 0
    def patched(function):
        def wrapper(*arguments, **named):
            nonlocal calls
            calls += 1
            if calls == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **named)
        return wrapper
    for name in ("replace", "fsync", "write"):
        setattr(os, name, patched(getattr(os, name)))
    train(data, out / str(number), **choices)

begin, step = int(sys.argv[3]), int(sys.argv[4])
for number in range(begin, 1000, step):
    status = in_child(lambda: killed_before(number))
    if status == 0:
        break
    assert status == -signal.SIGKILL, status
    there = (out / str(number) / "args.json").exists()
    more = dict(resume=True, threads=1, workers=1, progress=False) if there else choices
    assert in_child(lambda: train(data, out / str(number), **more)) == 0, number
shutil.rmtree(out / str(number))
print("ended", number)
"""


SLOW = [pytest.param(part, marks=pytest.mark.slow) for part in (0, 2)]


@pytest.mark.parametrize("part", [1, *SLOW])
def test_a_kill_at_any_file_loses_nothing(
    part: int, folder: Path, whole: Path, tmp_path: Path
) -> None:
    """The process is killed before each of its renames, syncs and rows of results, and resumed.

    The default suite takes every third place.
    """
    environment = {**os.environ, "PYTHONPATH": str(Path(resnet_rs.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", KILLED_EVERYWHERE, folder, tmp_path, str(1 + part), "3"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    outs = list(tmp_path.iterdir())
    assert len(outs) > 5
    for out in outs:
        assert_same_run(out, whole)


def test_a_run_that_was_killed_before_its_first_checkpoint(
    folder: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    for name in ("checkpoint.safetensors", "results.csv", "report.json"):
        (out / name).unlink()
    train(folder, out, resume=True)
    assert_same_run(out, whole)


class TestResume:
    @pytest.fixture
    def out(self, whole: Path, tmp_path: Path) -> Path:
        """A copy of a run."""
        return Path(shutil.copytree(whole, tmp_path / "run"))

    def test_the_photos_for_validation_are_those_of_the_run(
        self, folder: Path, tmp_path: Path
    ) -> None:
        first = train(folder, tmp_path / "run", epochs=1, val_fraction=0.5, **CHOICES)
        again = train(folder, tmp_path / "run", resume=True)
        assert first.evaluation is not None
        assert again.evaluation is not None
        assert first.evaluation.count == 6
        assert first.evaluation.images == again.evaluation.images

    def test_photos_of_validation_elsewhere(self, folder: Path, tmp_path: Path) -> None:
        val = write_classes(tmp_path / "val", {"cat": 2, "dog": 2}, start=50)
        first = train(folder, tmp_path / "run", val=val, epochs=1, **CHOICES)
        again = train(folder, tmp_path / "run", resume=True)
        assert first.evaluation is not None
        assert again.evaluation is not None
        assert again.evaluation.images == first.evaluation.images
        assert again.trainer.steps == first.trainer.steps == 3

    def test_the_first_weights_may_be_gone(self, folder: Path, whole: Path, tmp_path: Path) -> None:
        weights = shutil.copytree(whole / "best", tmp_path / "weights")
        out = tmp_path / "run"
        train(folder, out, epochs=1, batch_size=4, weights=weights)
        shutil.rmtree(weights)
        assert train(folder, out, resume=True).trainer.steps == 3

    def test_a_model_in_memory(self, folder: Path, whole: Path, tmp_path: Path) -> None:
        out = tmp_path / "run"
        train(folder, out, epochs=1, batch_size=4, weights=resnet_rs.load(whole / "best"))
        assert train(folder, out, resume=True).trainer.steps == 3
        (out / "checkpoint.safetensors").unlink()
        with pytest.raises(ValueError, match="model in memory: begin anew"):
            train(folder, out, resume=True)

    def test_other_classes_are_refused(self, out: Path, tmp_path: Path) -> None:
        other = write_classes(tmp_path / "other", {"bird": 6, "cat": 6})
        words = "began with, 'cat', 'dog'; found 'bird', 'cat'.*run.last"
        with pytest.raises(ValueError, match=words):
            train(other, out, resume=True)

    def test_other_photos_are_refused(self, out: Path, folder: Path, tmp_path: Path) -> None:
        more = tmp_path / "more"
        shutil.copytree(folder, more)
        write_photo(more / "cat" / "new.png", 99)
        with pytest.raises(ValueError, match=r"10 for training and 2.*found 10 and 3"):
            train(more, out, resume=True)

    def test_others_of_the_same_number_are_refused(
        self, out: Path, folder: Path, tmp_path: Path
    ) -> None:
        other = Path(shutil.copytree(folder, tmp_path / "other"))
        photo = other / "cat" / "000.png"
        photo.rename(photo.with_name("new.png"))
        with pytest.raises(ValueError, match=r"found as many, with other names.*run.last"):
            train(other, out, resume=True)
        photo.with_name("new.png").rename(photo)
        train(other, out, resume=True)  # The same photos in another place.

    def test_other_pixels_in_memory_are_refused(self, tmp_path: Path) -> None:
        random = np.random.default_rng(0)
        images = random.integers(0, 256, (12, 16, 16, 3), np.uint8)
        train((images, [0, 1] * 6), tmp_path / "run", epochs=1, **CHOICES)
        train((images, [0, 1] * 6), tmp_path / "run", resume=True)
        for other in ((images[::-1], [0, 1] * 6), (images, [1, 0] * 6)):
            with pytest.raises(ValueError, match="found as many"):
                train(other, tmp_path / "run", resume=True)

    def test_a_run_of_an_older_version(self, out: Path, folder: Path) -> None:
        """It does not know the photos' names."""
        path = out / "args.json"
        saved = json.loads(path.read_text())
        del saved["fingerprint"]
        path.write_text(json.dumps(saved))
        train(folder, out, resume=True)

    def test_from_another_working_directory(
        self, folder: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_classes(tmp_path / "val", {"cat": 2, "dog": 2}, start=50)
        shutil.copytree(whole / "best", tmp_path / "weights")
        monkeypatch.chdir(tmp_path)
        choices = {"val": "val", "weights": "weights", "batch_size": 4}
        train(folder, "run", epochs=1, **choices)
        steps = 3
        (tmp_path / "run" / "checkpoint.safetensors").unlink()  # The first weights are read again.
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        assert train(folder, "../run", resume=True).trainer.steps == steps

    def test_an_architecture_is_no_place(self, folder: Path, tmp_path: Path) -> None:
        """Not even if the run is the working directory."""
        train(folder, tmp_path / "run", epochs=1, **CHOICES)
        (tmp_path / "run" / "checkpoint.safetensors").unlink()
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(tmp_path / "run")
            assert train(folder, ".", resume=True).trainer.steps == 3

    def test_a_run_that_has_ended_says_so(self, out: Path, folder: Path) -> None:
        stream = StringIO()
        train(folder, out, resume=True, progress=Show(True, stream))
        assert "the run has ended already, after epoch 2" in stream.getvalue()
        assert "going on" not in stream.getvalue()

    @pytest.mark.parametrize(
        ("choices", "names"),
        [
            ({"weights": "resnet18"}, "weights"),
            ({"val_fraction": 0.5, "duplicates": "keep"}, "val_fraction, duplicates"),
            ({"zero_last": False, "epochs": 3}, "zero_last, epochs"),
            ({"recipe": Recipe()}, "recipe"),
        ],
        ids=str,
    )
    def test_choices_that_are_the_runs_own(
        self, choices: dict[str, Any], names: str, out: Path, folder: Path
    ) -> None:
        with pytest.raises(ValueError, match=f"^{names}: a run is resumed with its own choices"):
            train(folder, out, resume=True, **choices)

    @pytest.mark.parametrize(
        ("text", "words"),
        [("{", "expected JSON"), ("{}", "expected the choices"), ("[]", "expected")],
    )
    def test_a_file_of_choices_that_is_spoilt(
        self, text: str, words: str, out: Path, folder: Path
    ) -> None:
        (out / "args.json").write_text(text)
        with pytest.raises(ValueError, match=rf"args\.json: {words}"):
            train(folder, out, resume=True)

    def test_a_checkpoint_that_is_cut(self, out: Path, folder: Path) -> None:
        path = out / "checkpoint.safetensors"
        path.write_bytes(path.read_bytes()[:5000])
        with pytest.raises(ValueError, match=r"checkpoint\.safetensors"):
            train(folder, out, resume=True)

    def test_without_a_run(self, folder: Path, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match="no such run"):
            train(folder, tmp_path / "run", resume=True)
        assert not (tmp_path / "run").exists()


class TestForce:
    def test_an_old_run_is_replaced(self, folder: Path, whole: Path, tmp_path: Path) -> None:
        out = Path(shutil.copytree(whole, tmp_path / "run"))
        (out / "notes.txt").write_text("mine")
        seen: list[list[str]] = []
        train(
            folder,
            out,
            epochs=1,
            force=True,
            on_epoch=lambda _: seen.append(sorted(path.name for path in out.iterdir())),
            **CHOICES,
        )
        assert "report.json" not in seen[0]  # That of the old run is gone.
        assert [row["epoch"] for row in rows(out)] == [1]
        assert (out / "notes.txt").read_text() == "mine"

    @pytest.mark.parametrize(
        "wrong", [{"lr": -1}, {"weights": "resnet51"}, {"val": "missing"}], ids=str
    )
    def test_an_old_run_stays_if_the_new_one_cannot_begin(
        self, wrong: dict[str, Any], folder: Path, whole: Path, tmp_path: Path
    ) -> None:
        out = Path(shutil.copytree(whole, tmp_path / "run"))
        with pytest.raises((ValueError, OSError)):
            train(folder, out, force=True, **{**CHOICES, **wrong})
        assert_same_run(out, whole)

    def test_a_run_that_cannot_begin_leaves_no_directory(self, tmp_path: Path) -> None:
        with pytest.raises(OSError, match="missing"):
            train(tmp_path / "missing", tmp_path / "run", **CHOICES)
        assert not (tmp_path / "run").exists()

    def test_files_of_a_run_are_not_overwritten(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "best").mkdir()
        (tmp_path / "best" / "model.safetensors").write_bytes(b"mine")
        with pytest.raises(FileExistsError, match=r"best/model\.safetensors"):
            train(folder, tmp_path, **CHOICES)


class TestFullDisk:
    """A limit on the size of files stands for the full disk: the same calls fail."""

    @pytest.mark.parametrize(
        ("limit", "name"),
        [
            (1_500_000, "checkpoint.safetensors"),
            (500_000, "model.safetensors"),
            (200, "results.csv"),
        ],
    )
    def test_the_file_is_named_and_the_last_epoch_stays(
        self, limit: int, name: str, folder: Path, whole: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "run"
        _, hard = before = resource.getrlimit(resource.RLIMIT_FSIZE)
        old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        kept: dict[Path, bytes] = {}

        def fill_the_disk(_: object) -> None:
            kept.update({path: path.read_bytes() for path in out.rglob("*") if path.is_file()})
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))

        try:
            with pytest.raises(OSError, match="File too large") as caught:
                train(folder, out, epochs=2, on_epoch=fill_the_disk, **CHOICES)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, old)
        named = Path(caught.value.filename)
        assert named.name == name
        assert named.is_relative_to(out)
        assert named in kept
        checkpoint = out / "checkpoint.safetensors"
        assert checkpoint.read_bytes() == kept[checkpoint]
        assert {path for path in out.rglob("*") if path.is_file()} == set(kept)
        for place in ("best", "last"):
            resnet_rs.load(out / place)
        train(folder, out, resume=True)
        assert_same_run(out, whole)


class TestNoNumber:
    @pytest.fixture
    def failing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The fifth step sees a pixel that is no number."""
        backward = Trainer.backward

        def spoilt(self: Trainer, x: Any, y: Any, **options: Any) -> Any:
            x = np.array(x)
            if self.steps == 4:
                x[0, 0, 0, 0] = np.nan
            return backward(self, x, y, **options)

        monkeypatch.setattr(Trainer, "backward", spoilt)

    @pytest.mark.usefixtures("failing")
    def test_the_weights_of_the_last_epoch_are_kept(
        self, folder: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        out = tmp_path / "run"
        with pytest.raises(TrainingError) as caught:
            train(folder, out, epochs=2, **CHOICES)
        message = str(caught.value)
        assert message.startswith("epoch 2, step 5: the loss is nan, and x has values")
        assert f"after the last epoch in {out / 'last'}, the best ones in {out / 'best'}" in message
        for name in ("best", "last"):
            resnet_rs.load(out / name)
        assert [row["epoch"] for row in rows(out)] == [1]
        # Without the pixel the run goes on as if nothing had been.
        monkeypatch.undo()
        train(folder, out, resume=True)
        assert_same_run(out, whole)

    def test_in_the_first_epoch(self, folder: Path, tmp_path: Path) -> None:
        out = tmp_path / "run"
        choices = {**CHOICES, "lr": 1e30, "schedule": "constant"}
        with pytest.raises(
            TrainingError, match=r"epoch 1, step \d.*smaller learning rate.*holds no"
        ):
            train(folder, out, epochs=2, **choices)
        assert not (out / "last").exists()

    def test_without_a_directory(self, folder: Path) -> None:
        choices = {**CHOICES, "lr": 1e30, "schedule": "constant"}
        with pytest.raises(TrainingError, match=r"epoch 1, step \d.*smaller learning rate"):
            train(folder, epochs=2, **choices)

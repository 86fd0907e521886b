"""Remarks of a run: on choices, on memory and on the fitted layer, also if it is quiet."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labelled_photos import write_classes
from test_train_resume import CHOICES

from resnet_rs import Recipe, train
from resnet_rs.cli import main
from resnet_rs.datasets.photos import Prepared, Reduced
from resnet_rs.evaluation import linear_probe
from resnet_rs.training import head
from resnet_rs.training.head import without_effect


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_classes(tmp_path_factory.mktemp("photos"), {"cat": 10, "dog": 10})


def remarks_of(out: Path) -> list[str]:
    found: list[str] = json.loads((out / "args.json").read_text())["remarks"]
    return found


class TestQuiet:
    COMMAND = ("--architecture", "cifar_resnet20", "--size", "16", "--batch-size", "4")

    @pytest.mark.parametrize("flags", [["--epochs", "1"], ["--freeze", "backbone"]], ids=str)
    def test_only_remarks_are_written(
        self, flags: list[str], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        broken = tmp_path / "photos" / "cat" / "broken.png"
        write_classes(tmp_path / "photos", {"cat": 6, "dog": 6})
        broken.write_bytes(b"no photo")
        command = ["train", str(tmp_path / "photos"), "-o", str(tmp_path / "run"), *self.COMMAND]
        assert main([*command, *flags, "--quiet"]) == 0
        lines = capsys.readouterr().err.splitlines()
        assert all(line.startswith("resnet-rs: note: ") for line in lines)
        assert any(str(broken) in line for line in lines)
        found = [line.removeprefix("resnet-rs: note: ") for line in lines]
        assert found == remarks_of(tmp_path / "run")


class TestMemory:
    """Photos of 24 x 18 pixels, 1296 bytes, and crops of 16 x 16, 768 bytes."""

    @pytest.fixture
    def read(self, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
        """How often each kind of photo is decoded."""
        counts: Counter[str] = Counter()
        for reader in (Prepared, Reduced):
            call = reader.__call__

            def counting(self: Any, source: Any, call: Any = call) -> Any:
                counts[type(self).__name__] += 1
                return call(self, source)

            monkeypatch.setattr(reader, "__call__", counting)
        return counts

    def test_photos_to_measure_on_have_room_in_any_case(
        self, folder: Path, read: Counter[str]
    ) -> None:
        run = train(folder, epochs=3, cache=4 * 768 + 5 * 1296, **CHOICES)
        assert read["Prepared"] == 4
        # The check reads all 20; each epoch those of 16 that are not kept.
        assert read["Reduced"] == 20 + 3 * 11
        (remark,) = [text for text in run.remarks if "not kept in memory" in text]
        assert remark.startswith("11 photos of 20 not kept in memory")

    def test_there_is_room_for_all(self, folder: Path, read: Counter[str]) -> None:
        run = train(folder, epochs=3, cache=4 * 768 + 16 * 1296, **CHOICES)
        assert (read["Prepared"], read["Reduced"]) == (4, 20)
        assert not [text for text in run.remarks if "memory" in text]

    def test_no_room_for_those_to_measure_on(self, folder: Path) -> None:
        run = train(folder, epochs=1, cache=2 * 768, **CHOICES)
        assert any(text.startswith("18 photos of 20 not kept") for text in run.remarks)

    def test_none_is_the_users_choice(self, folder: Path, read: Counter[str]) -> None:
        run = train(folder, epochs=2, cache=0, **CHOICES)
        assert (read["Prepared"], read["Reduced"]) == (2 * 4, 20 + 2 * 16)
        assert not [text for text in run.remarks if "memory" in text]

    def test_pixels_in_memory_need_none(self) -> None:
        images = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), np.uint8)
        run = train((images, [0, 1] * 6), epochs=1, cache=1, **CHOICES)
        assert not [text for text in run.remarks if "kept in memory" in text]


HEAD: dict[str, Any] = {"freeze": "backbone", "weights": "cifar_resnet20", "size": 16}


class TestHead:
    def test_choices_without_effect(self, folder: Path, tmp_path: Path) -> None:
        run = train(
            folder,
            tmp_path / "run",
            **HEAD,
            lr=0.1,
            label_smoothing=0,
            on_epoch=lambda _: None,
        )
        (remark,) = [text for text in run.remarks if "without effect" in text]
        assert remark.endswith(": lr, label_smoothing, on_epoch")
        again = train(folder, tmp_path / "run", resume=True)
        assert not [text for text in again.remarks if "without effect" in text]

    def test_defaults_have_no_remark(self) -> None:
        usual = Recipe(freeze="backbone", seed=3, size=32, balanced=True)
        assert without_effect(usual, None) is None

    def test_the_precision_of_steps_has_no_effect_without_steps(self) -> None:
        remark = without_effect(Recipe(freeze="backbone", precision="bf16"), None)
        assert remark is not None
        assert remark.endswith(": precision")
        text = without_effect(Recipe(freeze="backbone", time="1m", patience=3), None)
        assert text is not None
        assert text.endswith(": time, patience")

    def test_remarks_on_the_fit_are_kept(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = train(folder, tmp_path / "run", **HEAD)
        assert any("the L2 penalty" in text for text in run.remarks)
        assert not any("converge" in text for text in run.remarks)
        assert list(run.remarks) == remarks_of(tmp_path / "run")

        def unfinished(*arguments: Any, **options: Any) -> Any:
            probe = linear_probe(*arguments, **options)
            object.__setattr__(probe, "converged", False)
            return probe

        monkeypatch.setattr(head, "linear_probe", unfinished)
        run = train(folder, tmp_path / "run", force=True, **HEAD)
        assert any("did not converge" in text for text in run.remarks)
        assert list(run.remarks) == remarks_of(tmp_path / "run")

    def test_a_balanced_fit_is_one_with_weights(self, tmp_path: Path) -> None:
        folder = write_classes(tmp_path / "photos", {"cat": 5, "dog": 30})
        plain, balanced = (
            train(folder, val=folder, balanced=choice, **HEAD) for choice in (False, True)
        )
        heads = [run.trainer.state_dict()["fc.bias"] for run in (plain, balanced)]
        # The rare class gets more.
        assert heads[1][0] - heads[1][1] > heads[0][0] - heads[0][1]

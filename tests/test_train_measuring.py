"""How a run measures: with the network's own preprocessing, and the best weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labelled_photos import write_classes

import resnet_rs
from resnet_rs import Trainer, train
from resnet_rs.datasets import Loader, read
from resnet_rs.evaluation import evaluate
from resnet_rs.images.spec import Preprocessing

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

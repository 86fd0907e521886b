"""`ResNet50` as its users see it: every kind of input, shapes, types, labels, copies."""

from __future__ import annotations

import copy
import io
import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from telling_rows import assert_telling

import resnet_rs
from resnet_rs import Config, Prediction, Preprocessing, ResNet50
from resnet_rs._core import top_k
from resnet_rs.images.batches import Views, stack_batch
from resnet_rs.stream.tasks import Logits
from resnet_rs.weights.labels import imagenet_labels

# A dot product of 2048 f32 terms, summed in another order than ours: a few times
# sqrt(2048) * 2^-24 of the terms' size, which the embedding's norm times the row's bounds.
DOT_RTOL = 1e-5

SOURCES: dict[str, Callable[[Path], object]] = {
    "str": str,
    "Path": lambda path: path,
    "bytes": lambda path: path.read_bytes(),
    "bytearray": lambda path: bytearray(path.read_bytes()),
    "memoryview": lambda path: memoryview(path.read_bytes()),
    "BytesIO": lambda path: io.BytesIO(path.read_bytes()),
    "file": lambda path: path.open("rb"),
    "PIL": Image.open,
    "PIL RGB": lambda path: Image.open(path).convert("RGB"),
    "array": lambda path: np.array(Image.open(path).convert("RGB")),
    "read-only array": lambda path: np.asarray(Image.open(path).convert("RGB")),
    "strided array": lambda path: np.array(Image.open(path).convert("RGB"))[::-1].copy()[::-1],
    "RGBA array": lambda path: np.array(Image.open(path).convert("RGBA")),
}


def read_tensor(path: Path, name: str) -> np.ndarray:
    """One f16 or f32 tensor of a safetensors file."""
    with path.open("rb") as file:
        (header_bytes,) = struct.unpack("<Q", file.read(8))
        entry = json.loads(file.read(header_bytes))[name]
        begin, end = entry["data_offsets"]
        file.seek(8 + header_bytes + begin)
        data = file.read(end - begin)
    dtype = {"F16": "<f2", "F32": "<f4"}[entry["dtype"]]
    return np.frombuffer(data, dtype).reshape(entry["shape"]).astype(np.float32)


def noted(sizes: list[tuple[int, ...]], batch: list[Views]) -> tuple[np.ndarray, ...]:
    """Note a batch's shape in place of computing it."""
    sizes.append(stack_batch(batch).shape)
    return (np.zeros((len(batch), 10), np.float32),)


@pytest.fixture(scope="module")
def varied_dir(demo_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo weights, told to keep every image's own size."""
    directory = tmp_path_factory.mktemp("varied")
    (directory / "model.safetensors").symlink_to(demo_dir / "model.safetensors")
    config = {
        "format_version": 1,
        "architecture": "resnet50",
        "num_classes": 10,
        "preprocessing": {
            "resize": None,
            "crop": None,
            "interpolation": "bilinear",
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
        },
    }
    (directory / "config.json").write_text(json.dumps(config))
    return directory


class TestDemoModel:
    def test_reads_the_digit_on_every_photo(self, model: ResNet50, demo_photos: list[Path]) -> None:
        best = [predictions[0].label for predictions in model.predict(demo_photos)]
        assert best == [path.name[0] for path in demo_photos]

    def test_config_is_what_the_file_says(self, model: ResNet50, demo_dir: Path) -> None:
        told = json.loads((demo_dir / "config.json").read_text(encoding="utf-8"))
        assert model.config == Config(
            architecture="resnet50",
            num_classes=10,
            labels=tuple("0123456789"),
            preprocessing=Preprocessing(
                resize=64,
                crop=64,
                interpolation="bilinear",
                mean=(0.485, 0.456, 0.406),
                std=(0.229, 0.224, 0.225),
            ),
            source=told["source"],
        )
        assert model.labels == tuple("0123456789")


class TestSources:
    @pytest.mark.parametrize("kind", SOURCES)
    def test_every_kind_of_source_gives_identical_logits(
        self, kind: str, model: ResNet50, demo_photo: Path
    ) -> None:
        source = SOURCES[kind](demo_photo)
        logits = model.logits(source)
        assert_telling([logits])
        np.testing.assert_array_equal(logits, model.logits(demo_photo))
        if isinstance(source, (io.IOBase, Image.Image)):
            source.close()

    def test_mixed_list_keeps_its_order(self, model: ResNet50, demo_photos: list[Path]) -> None:
        kinds = [str, lambda p: p, lambda p: p.read_bytes(), lambda p: np.asarray(Image.open(p))]
        sources = [kinds[i % len(kinds)](path) for i, path in enumerate(demo_photos)]
        expected = np.stack([model.logits(path) for path in demo_photos])
        assert_telling(expected)
        np.testing.assert_array_equal(model.logits(sources), expected)
        np.testing.assert_array_equal(model.logits(tuple(sources)), expected)

    def test_array_of_images_is_a_list_of_them(
        self, model: ResNet50, demo_photos: list[Path]
    ) -> None:
        images = [np.asarray(Image.open(path)) for path in demo_photos[:3]]
        expected = model.predict(images)
        assert_telling([[p.score for p in predictions] for predictions in expected])
        assert model.predict(np.stack(images)) == expected
        objects = np.empty(3, object)
        objects[:] = images
        assert model.predict(objects) == expected
        assert model.predict(np.stack(images)[:1]) == expected[:1]


class TestResults:
    def test_one_image_gives_predictions_best_first(
        self, model: ResNet50, demo_photo: Path
    ) -> None:
        predictions = model.predict(demo_photo)
        assert len(predictions) == 5
        assert all(type(p) is Prediction for p in predictions)
        best = predictions[0]
        assert (type(best.label), type(best.score), type(best.index)) == (str, float, int)
        assert best.label == model.labels[best.index] == demo_photo.name[0]
        scores = [p.score for p in predictions]
        assert scores == sorted(scores, reverse=True)
        assert len({p.index for p in predictions}) == 5

    def test_scores_are_the_softmax_of_the_logits(self, model: ResNet50, demo_photo: Path) -> None:
        logits = model.logits(demo_photo).astype(np.float64)
        assert_telling([logits])
        softmax = np.exp(logits - logits.max())
        softmax /= softmax.sum()
        predictions = model.predict(demo_photo, top_k=10)
        assert sum(p.score for p in predictions) == pytest.approx(1, rel=1e-6)
        for p in predictions:
            # exp of an f32 logit near -20: the argument's rounding, 20 * 2^-24, is relative.
            assert p.score == pytest.approx(softmax[p.index], rel=1e-5)

    @pytest.mark.parametrize(("top_k", "expected"), [(1, 1), (3, 3), (10, 10), (11, 10), (999, 10)])
    def test_top_k_is_clamped_to_the_classes(
        self, top_k: int, expected: int, model: ResNet50, demo_photo: Path
    ) -> None:
        assert len(model.predict(demo_photo, top_k=top_k)) == expected
        assert len(model.predict(demo_photo, top_k=np.int64(top_k))) == expected

    def test_equal_scores_are_ordered_by_index(self) -> None:
        scores, indices = top_k(np.zeros((2, 6), np.float32), 4, "softmax")
        np.testing.assert_array_equal(indices, [[0, 1, 2, 3]] * 2)
        np.testing.assert_array_equal(scores, np.full((2, 4), np.float32(1 / 6)))

    def test_list_gives_a_list_of_lists(self, model: ResNet50, demo_photos: list[Path]) -> None:
        several = model.predict(demo_photos[:4], top_k=2)
        assert_telling([[p.score for p in predictions] for predictions in several])
        assert several == [model.predict(path, top_k=2) for path in demo_photos[:4]]
        assert model.predict([demo_photos[0]], top_k=2) == several[:1]

    def test_empty_list_gives_empty_results(self, model: ResNet50) -> None:
        assert model.predict([]) == []
        assert model.predict(()) == []
        assert model.logits([]).shape == (0, 10)
        assert model.embed([]).shape == (0, 2048)

    @pytest.mark.parametrize(("method", "columns"), [("logits", 10), ("embed", 2048)])
    def test_shapes_and_dtypes(
        self, method: str, columns: int, model: ResNet50, demo_photos: list[Path]
    ) -> None:
        run = getattr(model, method)
        one, three = run(demo_photos[0]), run(demo_photos[:3])
        assert_telling(three)
        assert (one.shape, one.dtype) == ((columns,), np.float32)
        assert (three.shape, three.dtype) == ((3, columns), np.float32)
        np.testing.assert_array_equal(one, three[0])

    def test_more_images_than_one_batch(
        self, model: ResNet50, demo_photos: list[Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        expected = model.logits(demo_photos)
        assert_telling(expected)
        for images_a_batch in (1, 3, 7):
            monkeypatch.setattr(
                "resnet_rs.images.batches.MAX_BATCH_PIXELS", images_a_batch * 64 * 64
            )
            np.testing.assert_array_equal(model.logits(demo_photos), expected)

    def test_batches_stay_small(self, model: ResNet50, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("resnet_rs.images.batches.MAX_BATCH_PIXELS", 3 * 64 * 64)
        images = [np.zeros((80, 80, 3), np.uint8)] * 7
        sizes: list[tuple[int, ...]] = []
        monkeypatch.setattr(Logits, "compute", lambda self, batch: noted(sizes, batch))
        model.logits(images)
        assert sizes == [(3, 64, 64, 3), (3, 64, 64, 3), (1, 64, 64, 3)]


class TestForward:
    def test_forward_of_preprocess_equals_logits(
        self, model: ResNet50, demo_photos: list[Path]
    ) -> None:
        x = model.preprocess(demo_photos[:3])
        assert (x.shape, x.dtype) == ((3, 64, 64, 3), np.float32)
        assert_telling(model.forward(x))
        np.testing.assert_array_equal(model.forward(x), model.logits(demo_photos[:3]))
        assert model.preprocess(demo_photos[0]).shape == (1, 64, 64, 3)

    def test_embedding_times_fc_is_the_logits(
        self, model: ResNet50, demo_photos: list[Path], demo_dir: Path
    ) -> None:
        weight = read_tensor(demo_dir / "model.safetensors", "fc.weight").astype(np.float64)
        bias = read_tensor(demo_dir / "model.safetensors", "fc.bias").astype(np.float64)
        embedding = model.embed(demo_photos)
        assert embedding.min() >= 0
        expected = embedding @ weight.T + bias
        error = np.linalg.norm(model.logits(demo_photos) - expected) / np.linalg.norm(expected)
        assert error < DOT_RTOL

    @pytest.mark.parametrize("shape", [(1, 1, 1), (1, 7, 300), (2, 33, 65), (1, 96, 64)])
    def test_any_height_and_width(self, shape: tuple[int, int, int], model: ResNet50) -> None:
        x = np.random.default_rng(0).standard_normal((*shape, 3), np.float32)
        logits = model.forward(x)
        assert logits.shape == (shape[0], 10)
        assert_telling(logits)

    def test_no_images_give_no_rows(self, model: ResNet50) -> None:
        assert model.forward(np.zeros((0, 64, 64, 3), np.float32)).shape == (0, 10)

    def test_strided_and_read_only_input(self, model: ResNet50) -> None:
        x = np.random.default_rng(0).standard_normal((2, 40, 48, 3), np.float32)
        expected = model.forward(x)
        assert_telling(expected)
        nchw = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
        np.testing.assert_array_equal(model.forward(nchw.transpose(0, 2, 3, 1)), expected)
        np.testing.assert_array_equal(model.forward(x[::-1])[::-1], expected)
        x.flags.writeable = False
        np.testing.assert_array_equal(model.forward(x), expected)

    def test_input_is_not_written_to(self, model: ResNet50) -> None:
        x = np.random.default_rng(0).standard_normal((1, 40, 48, 3), np.float32)
        before = x.copy()
        model.forward(x)
        np.testing.assert_array_equal(x, before)

    def test_images_of_many_sizes_without_a_crop(self, varied_dir: Path) -> None:
        model = ResNet50(varied_dir)
        sizes = [(40, 50), (40, 50), (64, 33), (40, 50), (1, 1)]
        rng = np.random.default_rng(0)
        images = [rng.integers(0, 256, (*size, 3), np.uint8) for size in sizes]
        expected = np.stack([model.logits(image) for image in images])
        assert_telling(expected)
        np.testing.assert_array_equal(model.logits(images), expected)
        assert model.preprocess(images[2]).shape == (1, 64, 33, 3)
        with pytest.raises(ValueError, match="differ in size"):
            model.preprocess(images)

    def test_release_changes_no_result(self, model: ResNet50, demo_photo: Path) -> None:
        before = model.logits(demo_photo)
        assert_telling([before])
        model.release()
        model.release()
        np.testing.assert_array_equal(model.logits(demo_photo), before)


class TestBareFile:
    @pytest.fixture
    def bare(self, demo_dir: Path, tmp_path: Path) -> Path:
        path = tmp_path / "bare.safetensors"
        path.symlink_to(demo_dir / "model.safetensors")
        return path

    def test_missing_config_warns_and_says_what_is_assumed(self, bare: Path) -> None:
        with pytest.warns(UserWarning, match="IMAGENET1K_V2") as caught:
            model = ResNet50(bare)
        assert len(caught) == 1
        assert caught[0].filename == __file__  # it points at the caller's line
        message = str(caught[0].message)
        for part in [str(bare), "resize 232", "crop 224", "class indices", "config.json"]:
            assert part in message
        assert model.labels == tuple("0123456789")
        assert model.config.labels is None
        assert model.config.preprocessing.resize == 232

    def test_file_with_a_config_beside_it_is_quiet(
        self, model: ResNet50, demo_dir: Path, demo_photo: Path
    ) -> None:
        same = ResNet50(demo_dir / "model.safetensors")
        assert same.config == model.config
        assert_telling([model.logits(demo_photo)])
        np.testing.assert_array_equal(same.logits(demo_photo), model.logits(demo_photo))


class TestLabels:
    def config(self, classes: int, labels: tuple[str, ...] | None) -> Config:
        preprocessing = Preprocessing(232, 224, "bilinear", (0, 0, 0), (1, 1, 1))
        return Config("resnet50", classes, labels, preprocessing, None)

    def test_imagenet_labels_are_torchvision_s(self) -> None:
        from torchvision.models import ResNet50_Weights

        categories = ResNet50_Weights.IMAGENET1K_V2.meta["categories"]
        assert imagenet_labels() == tuple(categories)

    def test_labels_come_from_config_then_imagenet_then_indices(self) -> None:
        from resnet_rs.weights.labels import class_labels

        assert class_labels(self.config(2, ("cat", "dog"))) == ("cat", "dog")
        assert class_labels(self.config(1000, None))[134] == "crane bird"
        assert class_labels(self.config(3, None)) == ("0", "1", "2")


class TestObject:
    def test_repr_tells_what_matters(self, model: ResNet50, demo_dir: Path) -> None:
        text = repr(model)
        for part in [str(demo_dir), "classes=10", "64x64", "23.5M", model.isa, "threads="]:
            assert part in text

    def test_config_repr_abbreviates_a_thousand_labels(self) -> None:
        preprocessing = Preprocessing(232, 224, "bilinear", (0, 0, 0), (1, 1, 1))
        config = Config("resnet50", 1000, imagenet_labels(), preprocessing, None)
        assert "'tench', 'goldfish', 'great white shark', ... 1000 in all" in repr(config)
        assert len(repr(config)) < 400

    def test_prediction_is_frozen_and_compares(self) -> None:
        prediction = Prediction("cat", 0.5, 3)
        assert prediction == Prediction(label="cat", score=0.5, index=3)
        with pytest.raises(AttributeError):
            prediction.score = 1.0  # type: ignore[misc]

    def test_config_is_frozen(self, model: ResNet50) -> None:
        with pytest.raises(AttributeError):
            model.config.num_classes = 3  # type: ignore[misc]
        assert hash(model.config) == hash(copy.deepcopy(model.config))

    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_pickle_is_small_and_gives_the_same_model(
        self, protocol: int, demo_dir: Path, demo_photo: Path
    ) -> None:
        model = ResNet50(demo_dir, isa="portable", threads=1)
        data = pickle.dumps(model, protocol)
        assert len(data) < 1000
        twin = pickle.loads(data)
        assert (twin.isa, twin.threads, twin.config) == ("portable", 1, model.config)
        assert_telling([model.logits(demo_photo)])
        np.testing.assert_array_equal(twin.logits(demo_photo), model.logits(demo_photo))

    def test_pickle_survives_a_change_of_directory(
        self, demo_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(demo_dir.parent)
        data = pickle.dumps(ResNet50(demo_dir.name, threads=1))
        monkeypatch.chdir(tmp_path)
        assert pickle.loads(data).labels == tuple("0123456789")

    def test_pickle_leaves_the_choice_of_isa_to_the_reader(
        self, demo_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data = pickle.dumps(ResNet50(demo_dir))
        monkeypatch.setenv("RESNET_RS_ISA", "portable")
        monkeypatch.setenv("RESNET_RS_NUM_THREADS", "3")
        twin = pickle.loads(data)
        assert (twin.isa, twin.threads) == ("portable", 3)

    @pytest.mark.parametrize("copier", [copy.copy, copy.deepcopy])
    def test_copies_share_the_weights(
        self, copier: Callable[[ResNet50], ResNet50], model: ResNet50, demo_photo: Path
    ) -> None:
        twin = copier(model)
        assert twin is not model
        assert twin.loaded.network is model.loaded.network
        assert_telling([model.logits(demo_photo)])
        np.testing.assert_array_equal(twin.logits(demo_photo), model.logits(demo_photo))

    def test_model_outlives_its_files(
        self, demo_dir: Path, demo_photo: Path, tmp_path: Path, model: ResNet50
    ) -> None:
        directory = tmp_path / "moved"
        shutil.copytree(demo_dir, directory, ignore=shutil.ignore_patterns("photos"))
        moved = ResNet50(directory)
        shutil.rmtree(directory)
        assert_telling([model.logits(demo_photo)])
        np.testing.assert_array_equal(moved.logits(demo_photo), model.logits(demo_photo))

    def test_arguments_are_taken(self, isa: str, demo_dir: Path) -> None:
        model = ResNet50(os.fspath(demo_dir), isa=isa, threads=3)
        assert (model.isa, model.threads) == (isa, 3)


class TestPackage:
    def test_all_is_complete(self) -> None:
        assert len(set(resnet_rs.__all__)) == len(resnet_rs.__all__)
        for name in resnet_rs.__all__:
            assert getattr(resnet_rs, name) is not None

    @pytest.mark.parametrize("name", ["ImageError", "WeightsError", "UnsupportedIsaError"])
    def test_errors_pickle_and_have_a_real_home(self, name: str) -> None:
        error = getattr(resnet_rs, name)("what was wrong")
        twin = pickle.loads(pickle.dumps(error))
        assert (type(twin), str(twin)) == (type(error), "what was wrong")

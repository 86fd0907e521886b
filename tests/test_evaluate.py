"""`evaluate`: a model over labelled photos, classes matched by name, photos that cannot be read."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnet_rs import ImageError, ResNet50
from resnet_rs.evaluation import evaluate
from resnet_rs.evaluation.classes import match_classes
from resnet_rs.terminal.progress import Progress
from resnet_rs.weights.labels import imagenet_labels

DIGITS = tuple(map(str, range(10)))


@pytest.fixture(scope="module")
def paths(demo_photos: list[Path]) -> list[str]:
    return [str(path) for path in demo_photos]


@pytest.fixture(scope="module")
def labels(demo_photos: list[Path]) -> list[int]:
    return [int(path.name[0]) for path in demo_photos]


@pytest.fixture(scope="module")
def unnamed(demo_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> ResNet50:
    """The demo model without its config's names."""
    directory = tmp_path_factory.mktemp("unnamed")
    (directory / "model.safetensors").symlink_to(demo_dir / "model.safetensors")
    config = json.loads((demo_dir / "config.json").read_text(encoding="utf-8"))
    del config["labels"]
    (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return ResNet50(directory)


class _Thousand:
    """A stand-in for a model of ImageNet, of which only the classes are looked at."""

    class loaded:
        labels = imagenet_labels()

        class config:
            labels = imagenet_labels()

        class network:
            num_classes = 1000

        class options:
            origin = "imagenet"


@pytest.fixture(scope="module")
def thousand() -> _Thousand:
    return _Thousand()


class TestNumbers:
    def test_answers_are_those_of_predict(
        self, model: ResNet50, paths: list[str], labels: list[int]
    ) -> None:
        labels = [(label + 1) % 10 if place < 4 else label for place, label in enumerate(labels)]
        evaluation = evaluate(model, paths, labels)
        best = [model.predict(path, top_k=1)[0] for path in paths]
        assert evaluation.predicted.tolist() == [one.index for one in best]
        assert evaluation.scores.tolist() == [one.score for one in best]
        assert evaluation.classes == model.labels
        assert evaluation.images == tuple(paths)
        assert evaluation.top1 == 16 / 20
        assert {one.image for one in evaluation.mistakes()} == set(paths[:4])
        assert evaluation.remarks == ()

    def test_batches_and_workers_change_nothing(
        self, model: ResNet50, paths: list[str], labels: list[int]
    ) -> None:
        one = evaluate(model, paths[:6], labels[:6], batch_size=1, workers=1)
        other = evaluate(model, paths[:6], labels[:6], batch_size=4, workers=3)
        assert one.to_dict() == other.to_dict()

    def test_array_of_images(self, model: ResNet50, paths: list[str], labels: list[int]) -> None:
        array = np.stack([np.asarray(Image.open(path)) for path in paths[:4]])
        evaluation = evaluate(model, array, labels[:4])
        assert evaluation.scores.tolist() == evaluate(model, paths[:4], labels[:4]).scores.tolist()

    def test_sigmoid_takes_the_largest_output(
        self, demo_dir: Path, model: ResNet50, paths: list[str], labels: list[int]
    ) -> None:
        sigmoid = ResNet50(demo_dir, activation="sigmoid")
        evaluation = evaluate(sigmoid, paths[:5], labels[:5])
        assert evaluation.activation == "sigmoid"
        assert evaluation.scores[0] == sigmoid.predict(paths[0], top_k=1)[0].score
        z = model.logits(paths[:5]).astype(np.float64)
        truth = np.eye(10)[labels[:5]]
        expected = (np.log1p(np.exp(z)) - truth * z).mean()
        assert evaluation.loss == pytest.approx(expected, rel=1e-9)


class TestClasses:
    def test_names_in_another_order(
        self, model: ResNet50, paths: list[str], labels: list[int]
    ) -> None:
        backwards = DIGITS[::-1]
        evaluation = evaluate(model, paths, [9 - label for label in labels], backwards)
        assert evaluation.to_dict() == evaluate(model, paths, labels, DIGITS).to_dict()
        assert evaluation.labels.tolist() == labels

    def test_data_may_lack_classes(self, model: ResNet50, paths: list[str]) -> None:
        evaluation = evaluate(model, [paths[14], paths[6]], [0, 1], ["7", "3"])
        assert evaluation.labels.tolist() == [7, 3]
        assert evaluation.top1 == 1.0
        assert len(evaluation.classes) == 10

    def test_other_names_are_an_error_with_both_lists(
        self, model: ResNet50, paths: list[str]
    ) -> None:
        with pytest.raises(ValueError, match="expects names among '0', '1'") as caught:
            evaluate(model, paths[:2], [0, 1], ["3", "seven"])
        assert "'5', ... (10 in all); found 'seven' and 1 that agree" in str(caught.value)
        assert model.loaded.options.origin in str(caught.value)

    def test_close_name_is_suggested(self, demo_dir: Path) -> None:
        named = ResNet50(demo_dir, labels=[*map(str, range(9)), "thumbs up"])
        with pytest.raises(ValueError, match="Is 'thumbs_up' the model's 'thumbs up'"):
            match_classes(named.loaded, ["0", "thumbs_up"])

    def test_repeated_name_is_ambiguous(self, demo_dir: Path) -> None:
        named = ResNet50(demo_dir, labels=[*map(str, range(8)), "crane", "crane"])
        assert match_classes(named.loaded, ["7", "3"]).indices.tolist() == [7, 3]
        with pytest.raises(ValueError, match="2 classes named 'crane'"):
            match_classes(named.loaded, ["7", "crane"])

    def test_model_without_names_goes_by_order(self, unnamed: ResNet50) -> None:
        names = list("abcdefghij")
        matched = match_classes(unnamed.loaded, names)
        assert matched.indices.tolist() == list(range(10))
        assert matched.names == tuple(names)
        assert "state no names of classes" in matched.remarks[0]

    def test_model_without_names_needs_as_many(self, unnamed: ResNet50) -> None:
        with pytest.raises(
            ValueError, match=r"has 2 classes .'a', 'b'.*has 10 and states no names"
        ):
            match_classes(unnamed.loaded, ["a", "b"])

    def test_synsets_go_by_their_order(self, thousand: _Thousand) -> None:
        synsets = [f"n{number:08}" for number in range(1000)]
        matched = match_classes(thousand.loaded, synsets[::-1])
        assert matched.indices.tolist() == list(range(999, -1, -1))
        assert matched.names == imagenet_labels()
        assert "synsets" in matched.remarks[0]
        with pytest.raises(ValueError, match="They look like ImageNet's synsets"):
            match_classes(thousand.loaded, synsets[:10])

    def test_thousand_classes_without_names_are_imagenets(self, thousand: _Thousand) -> None:
        nameless = _Thousand()
        nameless.loaded.config.labels = None
        names = [f"class {index}" for index in range(999)]
        try:
            with pytest.raises(ValueError, match="expects names among 'tench'"):
                match_classes(nameless.loaded, names)
            assert match_classes(nameless.loaded, [*names, "last"]).names[999] == "last"
            assert match_classes(nameless.loaded, ["goldfish"]).indices.tolist() == [1]
        finally:
            nameless.loaded.config.labels = imagenet_labels()

    def test_model_without_classes(self, demo_dir: Path, paths: list[str]) -> None:
        headless = ResNet50(demo_dir, num_classes=0)
        with pytest.raises(ValueError, match="this model has no classes"):
            evaluate(headless, paths[:1], [0])


class TestUnreadable:
    @pytest.fixture
    def broken(self, tmp_path: Path) -> str:
        path = tmp_path / "broken.jpg"
        path.write_bytes(b"\xff\xd8\xff\xe0 not really")
        return str(path)

    def test_is_skipped_and_told(self, model: ResNet50, paths: list[str], broken: str) -> None:
        images = [paths[2], broken, paths[4], "missing.jpg"]
        evaluation = evaluate(model, images, [1, 5, 2, 6])
        assert evaluation.count == 2
        assert evaluation.top1 == 1.0
        assert evaluation.images == (paths[2], paths[4])
        assert [one.image for one in evaluation.skipped] == [broken, "missing.jpg"]
        assert "truncated or damaged" in evaluation.skipped[0].reason
        assert evaluation.skipped[1].reason == "No such file or directory"
        text = str(evaluation)
        assert "not read" in text
        assert "  missing.jpg: No such file or directory" in text
        assert len(evaluation.to_dict()["skipped"]) == 2

    def test_is_raised_on_request(self, model: ResNet50, paths: list[str], broken: str) -> None:
        with pytest.raises(ImageError, match=r"broken\.jpg"):
            evaluate(model, [paths[0], broken], [0, 0], on_error="raise")

    def test_nothing_left_is_an_error(self, model: ResNet50, broken: str) -> None:
        with pytest.raises(ValueError, match=r"none of the 2 images.*broken\.jpg: cannot be deco"):
            evaluate(model, [broken, "missing.jpg"], [0, 1])


class TestArguments:
    @pytest.mark.parametrize(
        ("images", "labels", "options", "error", "message"),
        [
            ([], [], {}, ValueError, "no image to evaluate"),
            ("photo.jpg", [0], {}, TypeError, "a list of images"),
            (np.zeros((4, 4, 3), np.uint8), [0], {}, ValueError, r"\[n, height, width, channels\]"),
            (["a.jpg"], [10], {}, ValueError, "from 0 to 9.*got 10 for image 0"),
            (["a.jpg"], [2], {"classes": ["1", "2"]}, ValueError, "from 0 to 1.*got 2"),
            (["a.jpg"], [0, 1], {}, ValueError, r"labels must be \[1\]"),
            (["a.jpg"], [0], {"on_error": "stop"}, ValueError, "on_error must be one of"),
            (["a.jpg"], [0], {"batch_size": 0}, ValueError, "batch_size must be at least 1"),
        ],
    )
    def test_messages(
        self,
        model: ResNet50,
        images: object,
        labels: list[int],
        options: dict[str, object],
        error: type[Exception],
        message: str,
    ) -> None:
        with pytest.raises(error, match=message):
            evaluate(model, images, labels, **options)

    def test_progress_is_shown_and_cleared(self, model: ResNet50, paths: list[str]) -> None:
        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        terminal = Terminal()
        evaluate(model, paths[:3], [0, 0, 1], progress=Progress(terminal))
        assert "/3 images" in terminal.getvalue()
        assert terminal.getvalue().endswith("\x1b[K")

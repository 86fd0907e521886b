"""Class activation maps, feature grids and filters: the numbers, the places, the figures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image
from tiny_model import write_tiny_model

import resnet_rs
from resnet_rs import ResNet50, _core
from resnet_rs.images.preprocess import load_pixels
from resnet_rs.images.spec import Preprocessing
from resnet_rs.inspect.pictures import (
    activation_maps,
    explain,
    feature_grid,
    grids,
    stem_filters,
)
from resnet_rs.inspect.pictures.geometry import Box, crop_box, enlarge, stride

# Sums of some thousand float32 products in another order than the core's, relative to the largest.
RELATIVE = 1e-5

Make = Callable[..., resnet_rs.ResNet]


@pytest.fixture
def tiny(tmp_path: Path) -> Make:
    """Makes a tiny random network; arguments are those of `write_tiny_model`."""

    def make(**options: Any) -> resnet_rs.ResNet:
        return resnet_rs.load(write_tiny_model(tmp_path / "tiny", **options), threads=1)

    return make


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (70, 90, 3), np.uint8)


def of_channels(directory: Path, channels: int, std: list[float]) -> resnet_rs.ResNet:
    """A tiny network for images of fewer channels than three."""
    write_tiny_model(directory)
    tensors = resnet_rs.load(directory).loaded.tensors()
    tensors["conv1.weight"] = np.ascontiguousarray(tensors["conv1.weight"][:, :channels])
    _core.write_safetensors(str(directory / "model.safetensors"), tensors, {})
    path = directory / "config.json"
    config = json.loads(path.read_text())
    config["variant"]["in_channels"] = channels
    config["preprocessing"] |= {"mean": [0.5] * channels, "std": std}
    path.write_text(json.dumps(config))
    return resnet_rs.load(directory)


class TestActivationMaps:
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"crop": 224},
            {"crop": 75},
            {"architecture": "resnet18"},
            {"shortcut": "avg_pool_conv", "stem": "deep", "stem_widths": [4, 4, 8]},
            {"stem": "conv3x3", "blocks": [1, 1, 1], "widths": [4, 8, 8]},
            {"head": {"avg_pool": {"kernel": 2, "stride": 2, "padding": 1}}, "crop": 64},
            {"head": {"avg_pool": {"kernel": 3, "stride": 1, "padding": 0}}, "crop": 96},
            {"head": "global_max_pool", "crop": 96},
            {"dilation": [1, 1, 2, 4], "stem_pool": "max_ceil"},
        ],
        ids=str,
    )
    def test_mean_plus_bias_is_the_logit(
        self, options: dict[str, Any], tiny: Make, noise: np.ndarray
    ) -> None:
        model = tiny(**options)
        logits = model.logits(noise)
        maps = activation_maps(model, noise, range(5), shifts=1)
        found = [each.values.mean(dtype=np.float64) + each.bias for each in maps]
        np.testing.assert_allclose(found, logits, rtol=0, atol=RELATIVE * np.abs(logits).max())
        assert [each.logit for each in maps] == logits.tolist()
        assert [each.label for each in maps] == list(model.labels)

    def test_mean_over_shifts_is_the_mean_of_the_moved_photos_logits(
        self, tiny: Make, noise: np.ndarray
    ) -> None:
        model = tiny(crop=64)
        (each,) = activation_maps(model, noise, [2], shifts=4)
        assert each.values.shape == (8, 8)
        crop = load_pixels(noise, model.config.preprocessing)
        logits = []
        for down in (-16, -8, 0, 8):
            for right in (-16, -8, 0, 8):
                padded = np.pad(crop, ((16, 16), (16, 16), (0, 0)), mode="edge")
                moved = padded[16 + down :][:64, 16 + right :][:, :64]
                logits.append(model.logits(np.ascontiguousarray(moved))[2])
        expected = np.mean(logits, dtype=np.float64)
        assert each.logit == pytest.approx(expected, rel=RELATIVE)
        assert each.values.mean() + each.bias == pytest.approx(expected, rel=RELATIVE, abs=1e-6)

    def test_shifted_maps_lie_between_each_other(self, tiny: Make, noise: np.ndarray) -> None:
        model = tiny(crop=64)
        (plain,) = activation_maps(model, noise, [1], shifts=1)
        (fine,) = activation_maps(model, noise, [1], shifts=4)
        # The third of four offsets is none: those cells are the photo's as it is.
        np.testing.assert_array_equal(fine.values[2::4, 2::4], plain.values)
        np.testing.assert_array_equal(fine.rows[2::4], plain.rows)
        np.testing.assert_allclose(np.diff(fine.rows), 8 / 64)
        assert plain.cell == fine.cell == (0.5, 0.5)

    def test_default_refines_small_maps_only(self, tiny: Make, noise: np.ndarray) -> None:
        for crop, shifts in ((64, 8), (96, 6), (224, 1)):
            (each,) = activation_maps(tiny(crop=crop), noise, [0])
            assert each.shifts == shifts

    @pytest.mark.parametrize(("y", "x"), [(0, 0), (32, 96), (64, 32), (96, 64)])
    def test_cell_lies_where_it_looks(self, y: int, x: int, tiny: Make) -> None:
        model = tiny(crop=128)
        grey = np.full((128, 128, 3), 128, np.uint8)
        spot = grey.copy()
        spot[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3] = 255
        change = np.abs(model.features(spot, ["layer4"])["layer4"] - model.features(
            grey, ["layer4"]
        )["layer4"]).sum(axis=2)  # fmt: skip
        row, column = np.unravel_index(change.argmax(), change.shape)
        (each,) = activation_maps(model, grey, [0], shifts=1)
        assert each.rows[row] * 128 == y + 0.5
        assert each.columns[column] * 128 == x + 0.5

    def test_grey_networks_have_maps_too(self, tmp_path: Path, noise: np.ndarray) -> None:
        model = of_channels(tmp_path, 1, [0.5])
        photo = Image.fromarray(noise)
        (each,) = activation_maps(model, photo, [4], shifts=1)
        assert each.logit == model.logits(photo)[4]
        assert len(explain(model, photo).axes) == 6

    def test_what_cannot_be_is_refused(self, tiny: Make, noise: np.ndarray) -> None:
        model = tiny(crop=64)
        with pytest.raises(ValueError, match="expected classes from 0 to 4; got 5"):
            activation_maps(model, noise, [5])
        with pytest.raises(ValueError, match="shifts must be from 1 to 32"):
            activation_maps(model, noise, [0], shifts=33)
        with pytest.raises(ValueError, match="no last layer"):
            activation_maps(tiny(num_classes=0), noise, [0])

    def test_demo_models_map_lies_on_the_hand(
        self, model: ResNet50, demo_photos: list[Path]
    ) -> None:
        for photo in demo_photos:
            (each,) = activation_maps(model, photo, [int(photo.name[0])], shifts=4)
            drawn = enlarge(each.values, each.rows, each.columns, each.cell, 64)
            hottest = drawn >= np.quantile(drawn, 0.9)
            pixels = load_pixels(photo, model.config.preprocessing).astype(int)
            # Skin is redder than the grey wall.
            hand = pixels[..., 0] - pixels[..., 2] > 25
            assert 0.15 < hand.mean() < 0.4, "the hand is not where this test looks for it"
            # By chance it would be the hand's own share of the photo.
            assert hand[hottest].mean() > 2 * hand.mean(), photo.name

    @pytest.mark.parametrize("axis", [0, 1], ids="yx")
    def test_demo_models_map_moves_with_the_hand(
        self, axis: int, model: ResNet50, demo_photos: list[Path]
    ) -> None:
        """A map follows the photo's content; a blob in the middle would not.

        Every second photo for each axis, because a map is 16 forwards.
        """
        for photo in demo_photos[axis::2]:
            pixels = load_pixels(photo, model.config.preprocessing)
            padded = np.pad(pixels, ((12, 12), (12, 12), (0, 0)), mode="edge")
            centres = []
            for offset in (24, 0):  # 12 pixels back and 12 forth
                begin = [12, 12]
                begin[axis] = offset
                moved = padded[begin[0] :, begin[1] :][:64, :64]
                (each,) = activation_maps(
                    model, np.ascontiguousarray(moved), [int(photo.name[0])], shifts=4
                )
                drawn = enlarge(each.values, each.rows, each.columns, each.cell, 64)
                centres.append(np.argwhere(drawn >= np.quantile(drawn, 0.9)).mean(axis=0)[axis])
            # The photo moves by 24; its edges, which are repeated, hold the map back.
            assert centres[1] - centres[0] > 8, photo.name


class TestGeometry:
    @pytest.mark.parametrize("size", [(90, 70), (70, 90), (343, 200), (224, 224), (30, 50)])
    @pytest.mark.parametrize(
        ("resize", "crop"), [(64, 64), (60, 33), (40, 64), ((50, 80), (41, 61)), (None, 48)]
    )
    def test_crop_box_is_what_the_network_sees(
        self, size: tuple[int, int], resize: Any, crop: Any
    ) -> None:
        spec = Preprocessing(resize, crop, "bilinear", (0.5,) * 3, (0.5,) * 3)
        # The colour of a pixel is its place of origin.
        y, x = np.mgrid[: size[1], : size[0]]
        photo = np.stack([x * 255 / size[0], y * 255 / size[1], 0 * x + 255], axis=2)
        seen = load_pixels(photo.astype(np.uint8), spec)
        box = crop_box(size, spec)
        height, width = seen.shape[:2]
        inside = seen[..., 2] == 255
        columns = box.left + (np.arange(width) + 0.5) * (box.right - box.left) / width
        rows = box.top + (np.arange(height) + 0.5) * (box.bottom - box.top) / height
        # Zeros are where the box reaches beyond the photo, but for the pixel on its edge.
        for outside, places, side in (
            (~inside.any(axis=0), columns, size[0]),
            (~inside.any(axis=1), rows, size[1]),
        ):
            step = abs(places[1] - places[0])
            assert not outside[(places > step) & (places < side - step)].any()
            assert outside[(places < -step) | (places > side + step)].all()
        # A filter smears colours along the photo's edges.
        middle = (seen[..., 0] > 30) & (seen[..., 0] < 225) & inside
        found = np.broadcast_to(columns, middle.shape)[middle] * 255 / size[0]
        np.testing.assert_allclose(seen[..., 0][middle], found, atol=255 / size[0] + 1.5)

    def test_extent_has_pixel_centres_at_whole_numbers(self) -> None:
        assert Box(0, 0, 10, 20).extent == (-0.5, 9.5, 19.5, -0.5)

    @pytest.mark.parametrize(
        ("side", "cells", "step"), [(64, 2, 32), (224, 7, 32), (225, 8, 32), (32, 8, 4), (5, 5, 1)]
    )
    def test_stride(self, side: int, cells: int, step: int) -> None:
        assert stride(side, cells) == step

    def test_enlarged_map_has_its_values_at_their_places(self) -> None:
        values = np.array([[1, 2], [3, 8]], np.float32)
        places = (np.array([0, 4]) + 0.5) / 8
        drawn = enlarge(values, places, places, (0.5, 0.5), 8)
        assert drawn[0, 0] == 1
        assert drawn[0, 4] == 2
        assert drawn[4, 0] == 3
        assert drawn[4, 4] == 8
        assert drawn[2, 2] == pytest.approx(3.5)
        # Half a distance further the last value holds, and then it fades.
        assert drawn[4, 6] == 8
        assert drawn[4, 7] == pytest.approx(4)

    def test_single_cell_covers_its_place(self) -> None:
        drawn = enlarge(
            np.array([[2]], np.float32), np.array([0.25]), np.array([0.25]), (0.5, 0.5), 8
        )
        assert drawn[0, 0] == drawn[3, 3] == 2
        assert drawn[7, 7] == 0


def boxes(figure: Any) -> list[tuple[float, float, float, float]]:
    """Left, top, right and bottom of all axes, in inches from the page's upper left corner."""
    width, height = figure.get_size_inches()
    places = [axes.get_position() for axes in figure.axes]
    return [
        (place.x0 * width, (1 - place.y1) * height, place.x1 * width, (1 - place.y0) * height)
        for place in places
    ]


def extents(images: Any) -> list[tuple[float, float, float, float]]:
    """Left, top, right and bottom of pictures on a sheet that is measured in inches."""
    found = (image.get_extent() for image in images)
    return [(left, top, right, bottom) for left, right, bottom, top in found]


def assert_apart(rectangles: list[tuple[float, float, float, float]], figure: Any) -> None:
    """Hold that all of them have an area, lie on the page, and do not overlap."""
    width, height = figure.get_size_inches()
    for index, (left, top, right, bottom) in enumerate(rectangles):
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        for other in rectangles[:index]:
            beside = right <= other[0] or other[2] <= left
            above = bottom <= other[1] or other[3] <= top
            assert beside or above, (rectangles[index], other)


def fit_the_page(figure: Any) -> bool:
    """Tell if every text lies on the page, as it is drawn."""
    FigureCanvasAgg(figure).draw()
    texts = [*figure.texts]
    for axes in figure.axes:
        texts += [*axes.texts, axes.title]
        if axes.axison:
            for axis in (axes.xaxis, axes.yaxis):
                texts += [axis.label, *axis.get_ticklabels()]
    boxes_of_texts = [text.get_window_extent() for text in texts if text.get_text()]
    assert boxes_of_texts
    page = figure.bbox
    return all(
        box.x0 >= page.x0 and box.y0 >= page.y0 and box.x1 <= page.x1 and box.y1 <= page.y1
        for box in boxes_of_texts
    )


class TestExplain:
    def test_shows_what_predict_says(self, model: ResNet50, demo_photo: Path) -> None:
        predictions = model.predict(demo_photo)
        figure = explain(model, demo_photo)
        texts = [text.get_text() for text in figure.texts]
        best = predictions[0]
        assert texts[0] == f"{best.label}, {best.score:.1%}"
        photo, *maps, _, bars = figure.axes
        assert photo.get_title() == demo_photo.name
        assert [axes.get_title() for axes in maps] == [
            f"{each.label}, {each.score:.1%}" for each in predictions[:3]
        ]
        assert [bar.get_width() for bar in bars.patches] == [each.score for each in predictions]
        assert [label.get_text() for label in bars.get_yticklabels()] == [
            each.label for each in predictions
        ]

    def test_maps_lie_on_the_crop_and_share_a_scale(self, tiny: Make, noise: np.ndarray) -> None:
        model = tiny(crop=32)
        figure = explain(model, noise, 2)
        _, *maps, _, _ = figure.axes
        assert len(maps) == 2
        box = crop_box((90, 70), model.config.preprocessing)
        for axes in maps:
            photo, heat = axes.images
            assert tuple(heat.get_extent()) == pytest.approx(box.extent)
            assert tuple(photo.get_extent()) == (-0.5, 89.5, 69.5, -0.5)
            # A map over the photo is drawn on grey, so that no colour is the photo's own.
            pixels = photo.get_array()
            assert (pixels[..., 0] == pixels[..., 2]).all()
        assert len({axes.images[1].get_clim() for axes in maps}) == 1

    @pytest.mark.parametrize("shape", [(70, 90), (90, 70), (50, 200), (200, 50)])
    @pytest.mark.parametrize("top_k", [1, 2, 5])
    def test_page_has_room_for_everything(
        self, shape: tuple[int, int], top_k: int, tiny: Make
    ) -> None:
        photo = np.random.default_rng(1).integers(0, 256, (*shape, 3), np.uint8)
        figure = explain(tiny(crop=32), photo, top_k)
        found = boxes(figure)
        assert_apart(found, figure)
        assert fit_the_page(figure)
        *panels, bar, bars = found
        for left, top, right, bottom in panels:
            assert (bottom - top) / (right - left) == pytest.approx(shape[0] / shape[1])
            assert (top, bottom) == pytest.approx((bar[1], bar[3]))
        assert bars[1] > panels[0][3], "the bars lie below the pictures"
        # Nothing is far from everything else: the page is as large as its content, or a title.
        width, height = figure.get_size_inches()
        assert width <= max(max(right for _, _, right, _ in found) + 1, 7.2)
        assert height <= bars[3] + 0.6
        # A bar takes a third of an inch.
        assert bars[3] - bars[1] == pytest.approx(0.34 * top_k, abs=0.11)

    @pytest.mark.parametrize(("crop", "whole"), [(32, (-0.5, 89.5, 69.5, -0.5)), (100, None)])
    def test_axes_show_the_photo_and_the_crop(
        self, crop: int, whole: tuple[float, ...] | None, tmp_path: Path, noise: np.ndarray
    ) -> None:
        """A crop that is larger than the photo is seen as a whole, too."""
        directory = write_tiny_model(tmp_path / "tiny")
        model = resnet_rs.load(directory, preprocessing={"resize": None, "crop": crop})
        *pictures, _, bars = explain(model, noise, 2).axes
        box = crop_box((90, 70), model.config.preprocessing)
        for axes in pictures:
            assert (*axes.get_xlim(), *axes.get_ylim()) == pytest.approx(whole or box.extent)
        assert bars.get_xlim() == (0, 1)
        bottom, top = bars.get_ylim()
        assert bottom > top, "the best class is on top"

    def test_one_class_and_long_labels_have_room(self, tmp_path: Path, noise: np.ndarray) -> None:
        directory = write_tiny_model(tmp_path / "one", num_classes=1)
        model = resnet_rs.load(directory, labels=["a very long label " * 20], activation="sigmoid")
        tall = np.ascontiguousarray(noise[:, :20])
        for image in (noise, tall, Image.fromarray(noise)):
            explain(model, image).savefig(tmp_path / "out.png")

    def test_reference_backend_draws_the_same(self, tmp_path: Path, noise: np.ndarray) -> None:
        directory = write_tiny_model(tmp_path / "tiny")
        fast, reference = (
            activation_maps(resnet_rs.load(directory, backend=backend), noise, [1], shifts=2)[0]
            for backend in ("fast", "reference")
        )
        largest = np.abs(fast.values).max()
        np.testing.assert_allclose(fast.values, reference.values, atol=1e-4 * largest)


class TestFeatureGrid:
    def drawn(self, figure: Any) -> tuple[list[np.ndarray], list[str]]:
        """The tiles and the numbers above them."""
        sheet = figure.axes[0]
        tiles = [np.asarray(image.get_array()) for image in sheet.images[1:]]
        return tiles, [text.get_text() for text in sheet.texts[-len(tiles) :]]

    def test_tiles_are_the_layers_maps(self, tiny: Make, noise: np.ndarray) -> None:
        model = tiny(crop=64)
        maps = model.features(noise, ["layer2.0"])["layer2.0"]
        figure = feature_grid(model, noise, "layer2.0", 10)
        tiles, numbers = self.drawn(figure)
        assert numbers == [str(channel) for channel in range(10)]
        for channel, tile in enumerate(tiles):
            np.testing.assert_array_equal(tile, maps[..., channel])
        clims = {image.get_clim() for image in figure.axes[0].images[1:]}
        assert clims == {(0.0, np.percentile(maps[..., :10], 99.5))}
        said = [text.get_text() for text in figure.axes[0].texts]
        assert said[0] == "layer2.0: the first 10 of 32 channels"
        assert "each map has 8 x 8 pixels" in said

    @pytest.mark.parametrize("count", [1, 7, 8, 9, 20])
    def test_page_has_room_for_every_tile(self, count: int, tiny: Make, noise: np.ndarray) -> None:
        figure = feature_grid(tiny(crop=64), noise, "layer2.0", count)
        width, height = figure.get_size_inches()
        sheet = figure.axes[0]
        # One unit of the sheet is an inch.
        assert (*sheet.get_xlim(), *sheet.get_ylim()) == pytest.approx((0, width, height, 0))
        assert boxes(figure)[0] == pytest.approx((0, 0, width, height))
        tiles = extents(sheet.images[1:])
        assert_apart([*extents(sheet.images), boxes(figure)[1]], figure)
        assert fit_the_page(figure)
        assert len({round(top, 6) for _, top, _, _ in tiles}) == -(-count // 8)
        assert len({round(left, 6) for left, _, _, _ in tiles}) == min(count, 8)
        for text, (left, top, _, _) in zip(sheet.texts[-count:], tiles, strict=True):
            x, y = text.get_position()
            assert x == left
            assert 0 < top - y < 0.1, "a tile's number stands right above it"
        assert height <= tiles[-1][3] + 0.5
        assert width <= max(boxes(figure)[1][2] + 0.9, 5.5)

    @pytest.mark.parametrize("crop", [(32, 96), (96, 32)])
    def test_tiles_have_the_maps_proportions(
        self, crop: tuple[int, int], tmp_path: Path, noise: np.ndarray
    ) -> None:
        directory = write_tiny_model(tmp_path / "tiny")
        model = resnet_rs.load(directory, preprocessing={"resize": crop, "crop": crop})
        figure = feature_grid(model, noise, "layer1", 3)
        picture, *tiles = extents(figure.axes[0].images)
        for left, top, right, bottom in (picture, *tiles):
            assert (bottom - top) / (right - left) == pytest.approx(crop[0] / crop[1])
        assert_apart([picture, *tiles, boxes(figure)[1]], figure)
        assert fit_the_page(figure)

    @pytest.mark.parametrize(("channels", "pictures"), [(1, 1), (2, 0), (3, 1)])
    def test_the_image_is_shown_if_its_channels_are_colours(
        self, channels: int, pictures: int, tmp_path: Path
    ) -> None:
        model = of_channels(tmp_path, channels, [0.5] * channels)
        pixels = np.random.default_rng(3).integers(0, 256, (32, 32, channels), np.uint8)
        figure = feature_grid(model, pixels, "layer1", 3)
        shown = [np.asarray(image.get_array()) for image in figure.axes[0].images]
        assert len(shown) == pictures + 3
        if pictures:
            np.testing.assert_array_equal(shown[0], np.broadcast_to(pixels, (32, 32, 3)))

    def test_strongest_come_first(self, tiny: Make, noise: np.ndarray) -> None:
        model = tiny(crop=64)
        means = model.features(noise, ["layer1"])["layer1"].mean(axis=(0, 1))
        _, numbers = self.drawn(feature_grid(model, noise, "layer1", 4, strongest=True))
        assert numbers == [str(channel) for channel in np.argsort(-means)[:4]]

    def test_single_operations_are_layers_too(self, tiny: Make, noise: np.ndarray) -> None:
        model = tiny(crop=64)
        expected = model.trace(noise)["layer2.0.bn1"][0]
        figure = feature_grid(model, noise, "layer2.0.bn1")
        tiles, _ = self.drawn(figure)
        np.testing.assert_array_equal(np.stack(tiles, axis=2), expected)
        low, high = figure.axes[0].images[1].get_clim()
        assert low == -high, "zero is in the middle of the colours"

    def test_map_without_a_value_is_drawn(self, tiny: Make, monkeypatch: Any) -> None:
        nothing = np.zeros((4, 4, 3), np.float32)
        monkeypatch.setattr(grids, "_maps_of", lambda *_: nothing)
        figure = feature_grid(tiny(), np.zeros((32, 32, 3), np.uint8), "layer1")
        assert figure.axes[0].images[1].get_clim() == (0.0, 1.0)

    @pytest.mark.parametrize(
        ("layer", "message"),
        [
            ("layer9", "there is no layer 'layer9'; expected a stage"),
            ("fc", "fc gives single numbers and no maps"),
            ("avgpool", "avgpool gives single numbers"),
        ],
    )
    def test_layers_without_maps_are_refused(
        self, layer: str, message: str, tiny: Make, noise: np.ndarray
    ) -> None:
        with pytest.raises(ValueError, match=message):
            feature_grid(tiny(crop=64), noise, layer)


class TestStemFilters:
    @pytest.mark.parametrize("channels", [1, 3])
    def test_tiles_are_stretched_weights_of_pixels(self, channels: int, tmp_path: Path) -> None:
        std = [0.2, 0.3, 0.4][:channels]
        model = of_channels(tmp_path, channels, std)
        figure = stem_filters(model)
        weights = model.loaded.tensors()["conv1.weight"]
        tiles = figure.axes[0].images
        assert len(tiles) == len(weights)
        for tile, weight in zip(tiles, weights, strict=True):
            of_pixels = weight / np.array(std, np.float32)[:, None, None]
            expected = 0.5 + 0.5 * of_pixels / np.abs(of_pixels).max()
            expected = np.broadcast_to(expected.transpose(1, 2, 0), (7, 7, 3))
            np.testing.assert_allclose(np.asarray(tile.get_array()), expected, atol=1e-6)

    def test_page_has_room_for_every_filter(self, tiny: Make) -> None:
        figure = stem_filters(tiny())
        tiles = extents(figure.axes[0].images)
        assert len(tiles) == 64
        assert_apart(tiles, figure)
        assert fit_the_page(figure)
        width, height = figure.get_size_inches()
        assert width <= tiles[-1][2] + 0.5
        assert height <= tiles[-1][3] + 0.5

    def test_deep_stem_shows_its_first_convolution(self, tiny: Make) -> None:
        figure = stem_filters(tiny(stem="deep", stem_widths=[4, 4, 8]))
        assert figure.axes[0].texts[0].get_text() == "conv1.0: 4 filters"

    def test_other_channels_have_no_colours(self, tmp_path: Path) -> None:
        model = of_channels(tmp_path, 2, [0.5, 0.5])
        with pytest.raises(ValueError, match="filters of 2 channels have no colours"):
            stem_filters(model)


def test_pictures_of_the_docs_are_small_and_whole() -> None:
    names = ["explain-2.jpg", "explain-5.jpg", "explain-8.jpg"]
    names += ["features-layer1.0.png", "stem-filters.png"]
    page = (ROOT / "docs" / "pictures.md").read_text(encoding="utf-8")
    for name in names:
        assert f"images/{name}" in page
        path = ROOT / "docs" / "images" / name
        assert path.stat().st_size < 200_000
        with Image.open(path) as picture:
            picture.load()
            assert picture.width > 700, "letters would be too small"


def test_pictures_are_named_by_their_file() -> None:
    assert grids._name_of(Path("/photos/cat.jpg")) == "cat.jpg"
    assert grids._name_of("dog.png") == "dog.png"
    assert grids._name_of(np.zeros((2, 2, 3), np.uint8)) == "image"

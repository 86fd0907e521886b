"""Feature maps: the right ones, of the right shapes, for any size and number of images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from telling_rows import assert_telling
from tiny_model import write_tiny_model

import resnet_rs
from resnet_rs import ResNet, reference

STAGES = ("layer1", "layer2", "layer3", "layer4")

# f32 sums of some hundred terms against the same in f64: a few times sqrt(500) * 2^-24.
F32_RTOL = 1e-5

IMAGES = np.random.default_rng(2).integers(0, 256, (3, 75, 97, 3), np.uint8)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ResNet:
    """Two blocks in a stage, and images at their own size."""
    directory = write_tiny_model(tmp_path_factory.mktemp("tiny"), blocks=[2, 1, 2, 1])
    return resnet_rs.load(directory, preprocessing={"resize": None, "crop": None})


class TestMaps:
    @pytest.mark.parametrize("size", [(75, 97), (64, 64), (33, 1)])
    def test_sides_are_the_image_s_by_the_stride_rounded_up(
        self, size: tuple[int, int], tiny: ResNet
    ) -> None:
        maps = tiny.features(np.zeros((*size, 3), np.uint8))
        assert list(maps) == list(STAGES)
        for name, stride, channels in zip(STAGES, (4, 8, 16, 32), (16, 32, 32, 64), strict=True):
            height, width = (-(-side // stride) for side in size)
            assert (maps[name].shape, maps[name].dtype) == ((height, width, channels), np.float32)

    def test_values_are_the_network_s(self, tiny: ResNet) -> None:
        x = tiny.preprocess(IMAGES)
        operations = tiny.loaded.network.operations(*x.shape[1:3])
        expected = dict(reference.run(operations, tiny.loaded.tensors(), x))
        names = [*STAGES, "relu", "maxpool", "layer1.0.relu2", "layer3.0", "avgpool", "fc"]
        last = {"layer1": "layer1.1", "layer2": "layer2.0", "layer3": "layer3.1"}
        for name, values in tiny.features(IMAGES, names).items():
            truth = expected[last.get(name, "layer4.0" if name == "layer4" else name)]
            error = np.linalg.norm(values - truth) / np.linalg.norm(truth)
            assert error < F32_RTOL, name

    def test_order_is_the_caller_s_and_any_layer_is_there(self, tiny: ResNet) -> None:
        names = tiny.layer_names[::-1]
        maps = tiny.features(IMAGES[0], names)
        assert tuple(maps) == names
        assert_telling(list(maps.values()))
        np.testing.assert_array_equal(maps["layer1.1"], tiny.features(IMAGES[0])["layer1"])

    def test_one_image_several_and_batches(
        self, tiny: ResNet, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        alone = [tiny.features(image) for image in IMAGES]
        for name in STAGES:
            assert_telling([one[name] for one in alone])
        for images_a_batch in (1, 2, 3):
            monkeypatch.setattr(
                "resnet_rs.images.batches.MAX_BATCH_PIXELS", images_a_batch * 75 * 97
            )
            maps = tiny.features(list(IMAGES))
            for name in STAGES:
                np.testing.assert_array_equal(
                    maps[name], np.stack([one[name] for one in alone]), err_msg=name
                )

    def test_other_numbers_of_stages(self, tmp_path: Path) -> None:
        write_tiny_model(tmp_path, blocks=[1, 1, 1], widths=[4, 8, 8], stem="conv3x3")
        maps = resnet_rs.load(tmp_path).features(IMAGES[0])
        assert {name: values.shape for name, values in maps.items()} == {
            "layer1": (32, 32, 16),
            "layer2": (16, 16, 32),
            "layer3": (8, 8, 32),
        }
        assert_telling(list(maps.values()))


class TestErrors:
    def test_unknown_layer_lists_those_there_are(self, tiny: ResNet) -> None:
        with pytest.raises(ValueError, match=r"'layer5'.* layer1, .*layer4\.0, avgpool"):
            tiny.features(IMAGES[0], ["layer5"])

    def test_fused_step_points_at_trace(self, tiny: ResNet) -> None:
        with pytest.raises(ValueError, match=r"trace\(\)"):
            tiny.features(IMAGES[0], ["layer1.0.conv1"])

    def test_a_str_is_no_list_of_names(self, tiny: ResNet) -> None:
        with pytest.raises(TypeError, match="stages must be a list of str"):
            tiny.features(IMAGES[0], "layer1")

    def test_no_image_and_images_of_two_sizes(self, tiny: ResNet) -> None:
        with pytest.raises(ValueError, match="at least one image"):
            tiny.features([])
        with pytest.raises(ValueError, match="differ in size"):
            tiny.features([IMAGES[0], IMAGES[0][:50]])
        with pytest.raises(ValueError, match="differ in size"):
            tiny.embed([IMAGES[0], IMAGES[0][:50]], pool="none")

"""Keras' files, written by Keras: the same logits, and what is no ResNet is refused by name."""

from __future__ import annotations

import json
import re
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras_cases
import numpy as np
import pytest
from numpy.typing import NDArray

from resnet_rs import Preprocessing, WeightsError, _core
from resnet_rs.images.preprocess import load_pixels
from resnet_rs.weights import formats
from resnet_rs.weights.formats.input_file import Unpacked
from resnet_rs.weights.formats.keras_file import read_keras
from resnet_rs.weights.formats.keras_hdf5 import _CountedFile

# Both sides compute in float32, in different orders.
TOLERANCE = 1e-5

FORMATS = (".keras", ".h5", ".weights.h5", "_legacy.h5")
CASES = (
    *("ResNet50", "tiny", "softmax", "no_top", "pooled", "max", "grey", "sequential"),
    *(
        "preprocessing",
        "rescaling",
        "normalization",
        "trained",
        "two_heads",
        "max_head",
        "float16",
        "bfloat16",
        "float64",
    ),
    *("ResNet50V2", "other"),
)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, demo_photos: list[Path]) -> Path:
    """A folder with every case in every format."""
    folder = tmp_path_factory.mktemp("keras")
    keras_cases.write(folder, *CASES, str(demo_photos[0]))
    return folder


def normalized(config: dict[str, Any]) -> NDArray[np.float32]:
    """The test's images as the config says to prepare them."""
    preprocessing = config["preprocessing"]
    images = keras_cases.pixels()[..., : len(preprocessing["mean"])] / 255
    normal = (images - preprocessing["mean"]) / preprocessing["std"]
    return normal.astype(np.float32)


def logits_of(path: Path, **stated: Any) -> NDArray[np.float32]:
    checkpoint = formats.read(path, **stated)
    network = _core.Network.from_tensors(
        checkpoint.tensors, json.dumps(checkpoint.config), origin=checkpoint.origin
    )
    return network.logits(normalized(checkpoint.config))


def error_of(got: NDArray[Any], expected: NDArray[Any]) -> float:
    difference: float = np.linalg.norm(got - expected) / np.linalg.norm(expected)
    return difference


class TestLogits:
    """Files that Keras wrote give the results of Keras."""

    @pytest.mark.parametrize("ending", FORMATS)
    @pytest.mark.parametrize(
        "case", ["ResNet50", "tiny", "sequential", "preprocessing", "trained", "float64"]
    )
    def test_logits_equal_keras(self, case: str, ending: str, files: Path) -> None:
        got = logits_of(files / f"{case}{ending}")
        assert error_of(got, np.load(files / f"{case}.npy")) <= TOLERANCE

    @pytest.mark.parametrize("ending", FORMATS)
    def test_no_top_gives_the_pooled_map(self, ending: str, files: Path) -> None:
        maps = np.load(files / "no_top.npy")
        for case in ("no_top", "pooled"):
            got = logits_of(files / f"{case}{ending}")
            assert error_of(got, maps.mean(axis=(1, 2))) <= TOLERANCE

    @pytest.mark.parametrize("ending", FORMATS)
    def test_maximum_over_the_map(self, ending: str, files: Path) -> None:
        path = files / f"max{ending}"
        assert error_of(logits_of(path), np.load(files / "max.npy")) <= TOLERANCE
        assert read_keras(path).config["variant"]["head"] == "global_max_pool"

    @pytest.mark.parametrize("ending", [".keras", ".h5", ".weights.h5"])
    def test_classes_from_maxima(self, ending: str, files: Path) -> None:
        got = logits_of(files / f"max_head{ending}")
        assert error_of(got, np.load(files / "max_head.npy")) <= TOLERANCE

    @pytest.mark.parametrize("ending", [".keras", ".h5"])
    @pytest.mark.parametrize("case", ["rescaling", "normalization"])
    def test_preprocessing_layers(self, case: str, ending: str, files: Path) -> None:
        """They become the preprocessing's, and the network takes R, G, B as Keras' does then."""
        path = files / f"{case}{ending}"
        assert error_of(logits_of(path), np.load(files / f"{case}.npy")) <= TOLERANCE
        remarks = " ".join(read_keras(path).remarks)
        assert "the network prepares images in 0 to 255 itself" in remarks
        assert "turned round" not in remarks

    @pytest.mark.parametrize("ending", FORMATS)
    def test_softmax_is_not_part_of_the_logits(self, ending: str, files: Path) -> None:
        logits = logits_of(files / f"softmax{ending}")
        got = np.exp(logits - logits.max(axis=1, keepdims=True))
        got /= got.sum(axis=1, keepdims=True)
        assert error_of(got, np.load(files / "softmax.npy")) <= TOLERANCE

    @pytest.mark.parametrize("ending", FORMATS)
    def test_one_channel_is_not_turned_round(self, ending: str, files: Path) -> None:
        path = files / f"grey{ending}"
        got = logits_of(path, preprocessing={"mean": [0.0], "std": [1 / 255]})
        assert error_of(got, np.load(files / "grey.npy")) <= TOLERANCE
        assert "preprocessing" not in read_keras(path).config

    # Keras computes these in half precision itself: numbers of 11 and 8 bits, in 15 layers.
    @pytest.mark.parametrize(("case", "tolerance"), [("float16", 1e-2), ("bfloat16", 6e-2)])
    @pytest.mark.parametrize("ending", FORMATS)
    def test_half_precision(self, case: str, tolerance: float, ending: str, files: Path) -> None:
        got = logits_of(files / f"{case}{ending}")
        assert error_of(got, np.load(files / f"{case}.npy")) <= tolerance

    @pytest.mark.slow
    @pytest.mark.parametrize("case", ["ResNet101", "ResNet152"])
    def test_deeper_networks(self, case: str, tmp_path: Path) -> None:
        keras_cases.write(tmp_path, case)
        for ending in FORMATS:
            path = tmp_path / f"{case}{ending}"
            assert formats.read(path).config["architecture"] == case.lower()
            assert error_of(logits_of(path), np.load(tmp_path / f"{case}.npy")) <= TOLERANCE


class TestConfig:
    """Statements of the file, and assumptions that are reported."""

    @pytest.mark.parametrize("ending", FORMATS)
    def test_resnet50(self, ending: str, files: Path) -> None:
        raw = read_keras(files / f"ResNet50{ending}")
        assert raw.config["architecture"] == "resnet50"
        assert raw.config["num_classes"] == 7
        assert raw.config["variant"] == {
            "stride_on": "conv1",
            "conv_bias": True,
            "norm_epsilon": 1.001e-5,
        }
        stated = ending in (".keras", ".h5")
        side = 64 if stated else 224
        assert raw.config["preprocessing"]["resize"] == [side, side]
        assert raw.config["preprocessing"]["crop"] is None
        assert any("does not state" in remark for remark in raw.remarks) != stated

    def test_own_depth_and_widths(self, files: Path) -> None:
        variant = read_keras(files / "tiny.keras").config["variant"]
        assert (variant["blocks"], variant["widths"]) == ([1, 2], [2, 4])

    def test_labels_of_1000_classes_are_imagenets(self, files: Path) -> None:
        """They come by default where a config has none."""
        assert "labels" not in formats.read(files / "tiny.keras").config

    def test_arrays_are_views_or_contiguous(self, files: Path) -> None:
        for array in read_keras(files / "tiny.h5").tensors.values():
            assert array.dtype == np.float32
            assert array.flags.c_contiguous
            assert array.flags.aligned

    def test_input_equals_preprocess_input(self, files: Path) -> None:
        """Ours in RGB is Keras' in BGR; float32 holds 255 to 3e-5."""
        config = formats.read(files / "tiny.keras").config
        theirs = keras_cases.pixels()[..., ::-1] - np.array([103.939, 116.779, 123.68])
        np.testing.assert_allclose(normalized(config)[..., ::-1], theirs, atol=3e-5)

    def test_photo_equals_load_img_and_preprocess_input(
        self, files: Path, demo_photos: list[Path]
    ) -> None:
        config = formats.read(
            files / "tiny.keras", preprocessing={"resize": keras_cases.PHOTO_SIZE}
        ).config["preprocessing"]
        spec = Preprocessing(**{**config, "resize": tuple(config["resize"])})
        ours = load_pixels(demo_photos[0], spec) / 255
        normal = (ours - config["mean"]) / config["std"]
        np.testing.assert_allclose(normal[..., ::-1], np.load(files / "photo.npy"), atol=3e-5)


class TestLayouts:
    """Files as other versions of Keras wrote them."""

    def without_names(self, source: Path, target: Path) -> Path:
        """As Keras 3's first versions wrote them: the layers have numbers only."""
        target.write_bytes(source.read_bytes())
        with h5py.File(target, "r+") as file:
            file.visititems(lambda _, item: item.attrs.pop("name", None) and None)
        return target

    @pytest.mark.parametrize("case", ["ResNet50", "tiny", "sequential"])
    def test_layers_without_names(self, case: str, files: Path, tmp_path: Path) -> None:
        path = self.without_names(files / f"{case}.weights.h5", tmp_path / "x.weights.h5")
        assert any("order" in remark for remark in read_keras(path).remarks)
        assert error_of(logits_of(path), np.load(files / f"{case}.npy")) <= TOLERANCE

    @pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    def test_layers_without_names_in_an_archive(
        self, compression: int, files: Path, tmp_path: Path
    ) -> None:
        inner = tmp_path / "model.weights.h5"
        with zipfile.ZipFile(files / "trained.keras") as archive:
            archive.extract("model.weights.h5", tmp_path)
            config = archive.read("config.json")
        self.without_names(inner, inner)
        with zipfile.ZipFile(tmp_path / "x.keras", "w", compression) as archive:
            archive.write(inner, "model.weights.h5")
            archive.writestr("config.json", config)
        got = logits_of(tmp_path / "x.keras")
        assert error_of(got, np.load(files / "trained.npy")) <= TOLERANCE

    def test_names_that_end_in_zero(self, files: Path, tmp_path: Path) -> None:
        """Keras 2 wrote `kernel:0`."""
        path = tmp_path / "x.h5"
        path.write_bytes((files / "tiny_legacy.h5").read_bytes())
        with h5py.File(path, "r+") as file:
            names: list[str] = []
            file.visititems(
                lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None
            )
            for name in names:
                file.move(name, f"{name}:0")
        assert error_of(logits_of(path), np.load(files / "tiny.npy")) <= TOLERANCE

    def test_newest_hdf5_layout(self, files: Path, tmp_path: Path) -> None:
        """Superblock 3 and links in object headers; few enough members stay out of heaps."""
        path = tmp_path / "x.h5"
        with (
            h5py.File(files / "tiny_legacy.h5") as old,
            h5py.File(path, "w", libver="latest") as new,
        ):
            for index, name in enumerate(sorted(old)):
                old.copy(name, new.require_group(f"part{index // 6}"))
        assert error_of(logits_of(path), np.load(files / "tiny.npy")) <= TOLERANCE


class TestRefusals:
    """Other networks and damaged files: the layer or the part is named."""

    def refuse(self, path: Path, *messages: str) -> None:
        with pytest.raises(WeightsError) as caught:
            read_keras(path)
        for message in [str(path), *messages]:
            assert message in str(caught.value)

    @pytest.mark.parametrize("ending", FORMATS)
    def test_other_networks(self, ending: str, files: Path) -> None:
        self.refuse(files / f"ResNet50V2{ending}", "ResNetV2")
        self.refuse(files / f"other{ending}", "conv2d", "ResNet50, ResNet101 and ResNet152")
        self.refuse(files / f"two_heads{ending}", "classes, hidden", "include_top=False")

    @pytest.mark.parametrize("ending", [".weights.h5", "_legacy.h5"])
    @pytest.mark.parametrize("case", ["rescaling", "normalization"])
    def test_weights_with_preprocessing_layers(self, case: str, ending: str, files: Path) -> None:
        """A file of weights does not state what they do."""
        self.refuse(files / f"{case}{ending}", f"layer {case}", "save the whole model as .keras")

    @pytest.mark.parametrize(
        ("layer", "fields", "message"),
        [
            ("rescaling", {"scale": [1, 2]}, "one number, or one for each channel"),
            ("rescaling", {"scale": "much"}, "as scale"),
            ("rescaling", {"scale": -1.0}, "a subtraction of a mean"),
            ("rescaling", {"scale": 1.0, "offset": 0.25}, "does not show whether"),
            ("normalization", {"mean": None}, "adapted to data"),
            ("normalization", {"axis": [1]}, "one mean for each channel"),
            ("normalization", {"invert": True}, "no inversion"),
            ("normalization", {"name": "conv1_pad"}, "(Normalization)"),
        ],
    )
    def test_preprocessing_layers_that_do_not_fit(
        self, layer: str, fields: dict[str, Any], message: str, files: Path, tmp_path: Path
    ) -> None:
        def change(name: str, own: dict[str, Any]) -> None:
            if name == layer:
                own |= fields

        self.refuse(self.changed(files, tmp_path, change, layer), message)

    def test_other_arithmetic_in_front(self, files: Path, tmp_path: Path) -> None:
        """As preprocess_input, but the channels are not turned round."""
        path = tmp_path / "x.h5"
        path.write_bytes((files / "preprocessing.h5").read_bytes())
        with h5py.File(path, "r+") as file:
            model = json.loads(file.attrs["model_config"])
            taken = [one for one in model["config"]["layers"] if one["class_name"] == "GetItem"]
            assert len(taken) == 3
            for channel, layer in enumerate(taken):
                layer["inbound_nodes"][0]["args"][1][1] = channel
            file.attrs["model_config"] = json.dumps(model)
        self.refuse(path, "expected keras.applications.resnet.preprocess_input or nothing")

    def changed(
        self,
        files: Path,
        tmp_path: Path,
        change: Callable[[str, dict[str, Any]], None],
        case: str = "tiny",
    ) -> Path:
        """A whole model whose description was changed, but not its weights."""
        path = tmp_path / "changed.h5"
        path.write_bytes((files / f"{case}.h5").read_bytes())
        with h5py.File(path, "r+") as file:
            model = json.loads(file.attrs["model_config"])
            for layer in model["config"]["layers"]:
                change(layer["config"]["name"], layer["config"])
            file.attrs["model_config"] = json.dumps(model)
        return path

    CHANGES = (
        ("conv3_block1_1_conv", "strides", [1, 1]),
        ("conv3_block1_2_conv", "strides", [2, 2]),
        ("conv2_block1_2_conv", "padding", "valid"),
        ("conv2_block1_2_conv", "dilation_rate", [2, 2]),
        ("conv1_conv", "activation", "relu"),
        ("conv1_pad", "padding", [[2, 3], [2, 3]]),
        ("pool1_pool", "pool_size", [2, 2]),
        ("conv2_block1_out", "activation", "elu"),
        ("conv2_block1_1_relu", "activation", "leaky_relu"),
        ("conv3_block2_3_bn", "epsilon", 1e-3),
    )

    @pytest.mark.parametrize(("layer", "field", "value"), CHANGES)
    def test_layer_that_computes_something_else(
        self, layer: str, field: str, value: Any, files: Path, tmp_path: Path
    ) -> None:
        def change(name: str, fields: dict[str, Any]) -> None:
            if name == layer:
                fields[field] = value

        self.refuse(self.changed(files, tmp_path, change), layer, field)

    def test_epsilon_is_read(self, files: Path, tmp_path: Path) -> None:
        def change(name: str, fields: dict[str, Any]) -> None:
            if name.endswith("_bn"):
                fields["epsilon"] = 1e-4

        path = self.changed(files, tmp_path, change)
        assert read_keras(path).config["variant"]["norm_epsilon"] == 1e-4

    def test_arrays_that_are_missing_or_too_many(self, files: Path, tmp_path: Path) -> None:
        path = tmp_path / "x.h5"
        path.write_bytes((files / "tiny_legacy.h5").read_bytes())
        with h5py.File(path, "r+") as file:
            name = "conv3_block2_2_bn"
            file.move(f"{name}/{name}/gamma", f"{name}/{name}/delta")
        self.refuse(path, "conv3_block2_2_bn/gamma", "not found")
        with h5py.File(path, "r+") as file:
            del file["conv3_block2_2_conv"]
            file["surplus/surplus/kernel"] = np.zeros((3, 3, 1, 1), np.float32)
        self.refuse(path, "conv3_block2_2_conv/kernel", "not found")

    def test_names_before_keras_2_2_5(self, tmp_path: Path) -> None:
        path = tmp_path / "old.h5"
        with h5py.File(path, "w") as file:
            file["res2a_branch2a/res2a_branch2a_W:0"] = np.zeros((1, 1, 64, 64), np.float32)
        self.refuse(path, "res2a_branch2a", "another epsilon")

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"compression": "gzip"}, "compressed"),
            ({"chunks": (1, 1, 64, 1)}, "in chunks"),
            ({"dtype": "i4"}, "not found"),
        ],
    )
    def test_storage_that_is_not_read(
        self, options: dict[str, Any], message: str, files: Path, tmp_path: Path
    ) -> None:
        path = tmp_path / "x.h5"
        path.write_bytes((files / "tiny_legacy.h5").read_bytes())
        name = "conv2_block1_1_conv/conv2_block1_1_conv/kernel"
        with h5py.File(path, "r+") as file:
            values = file[name][()]
            del file[name]
            file.create_dataset(name, data=values, **options)
        self.refuse(path, "conv2_block1_1_conv/kernel", message)

    def test_dataset_without_elements_at_all(self, files: Path, tmp_path: Path) -> None:
        """HDF5's null dataspace."""
        path = tmp_path / "x.h5"
        path.write_bytes((files / "tiny_legacy.h5").read_bytes())
        name = "conv2_block1_1_conv/conv2_block1_1_conv/kernel"
        with h5py.File(path, "r+") as file:
            del file[name]
            file[name] = h5py.Empty("f4")
        self.refuse(path, "conv2_block1_1_conv/kernel", "not found")

    def test_reading_up_to_the_end_and_beyond(self) -> None:
        file = _CountedFile(Unpacked(b"abcd"))
        file.allow(6)
        file.seek(2)
        assert file.read(2) == b"cd"
        with pytest.raises(WeightsError, match="ends before byte 5"):
            file.read(1)
        file.seek(0)
        assert file.read(1) == b"a"
        with pytest.raises(WeightsError, match="more or larger parts"):
            file.read(3)

    @pytest.mark.parametrize("kind", [h5py.SoftLink, lambda name: h5py.ExternalLink("x.h5", name)])
    def test_links_among_the_newest(
        self, kind: Callable[[str], Any], files: Path, tmp_path: Path
    ) -> None:
        """Links in object headers, whose flags tell their kind."""
        path = tmp_path / "x.h5"
        with (
            h5py.File(files / "tiny_legacy.h5") as old,
            h5py.File(path, "w", libver="latest") as new,
        ):
            for index, name in enumerate(sorted(old)):
                part = new.require_group(f"part{index // 6}")
                old.copy(name, part)
                if f"part{index // 6}/more" not in new:
                    part["more"] = kind(f"/part0/{name}")
        assert error_of(logits_of(path), np.load(files / "tiny.npy")) <= TOLERANCE

    def test_links_are_not_followed(self, files: Path, tmp_path: Path) -> None:
        """A link could lead to any file of the reader's."""
        path = tmp_path / "x.h5"
        path.write_bytes((files / "tiny_legacy.h5").read_bytes())
        name = "conv2_block1_1_conv/conv2_block1_1_conv/kernel"
        with h5py.File(path, "r+") as file:
            del file[name]
            file[name] = h5py.ExternalLink(str(files / "tiny_legacy.h5"), name)
        self.refuse(path, "conv2_block1_1_conv/kernel", "not found")

    def test_attribute_that_states_a_huge_size(self, files: Path, tmp_path: Path) -> None:
        """Of 2 ** 40 texts, of which three are there: nothing is allocated for them."""
        path = tmp_path / "x.h5"
        path.write_bytes((files / "tiny_legacy.h5").read_bytes())
        with h5py.File(path, "r+") as file:
            texts = np.array(["a", "b", "c"], dtype=h5py.string_dtype())
            file["conv1_bn"].attrs["hostile"] = texts
        data = path.read_bytes()
        begin = data.index(b"hostile\0")
        three, many = struct.pack("<Q", 3), struct.pack("<Q", 1 << 40)
        place = data.index(three, begin)
        path.write_bytes(data[:place] + many + data[place + 8 :])
        assert error_of(logits_of(path), np.load(files / "tiny.npy")) <= TOLERANCE

    def test_header_that_goes_on_with_itself(self, tmp_path: Path) -> None:
        path = tmp_path / "x.h5"
        with h5py.File(path, "w") as file:
            for index in range(60):
                file.attrs[f"attribute {index}"] = "x" * 50
        data = bytearray(path.read_bytes())
        # A message of type 16 with the place and length of the block where the header goes on.
        place = data.index(b"\x10\0\x10\0\0\0\0\0")
        struct.pack_into("<H", data, place - 14, 0xFFFF)  # how many messages the header has
        begin, length = struct.unpack_from("<QQ", data, place + 8)
        for at in range(begin, begin + length - 24, 24):
            data[at : at + 24] = data[place : place + 24]
        path.write_bytes(data)
        self.refuse(path, "larger parts than any network")

    def test_floats_of_other_formats_are_not_misread(self, files: Path, tmp_path: Path) -> None:
        """HDF5's own bfloat16 has two bytes, as float16 has."""
        path = tmp_path / "x.h5"
        path.write_bytes((files / "tiny_legacy.h5").read_bytes())
        name = "conv2_block1_1_conv/conv2_block1_1_conv/kernel"
        with h5py.File(path, "r+") as file:
            values = file[name][()]
            del file[name]
            bfloat16 = h5py.h5t.IEEE_F32LE.copy()
            bfloat16.set_fields(15, 7, 8, 0, 7)
            bfloat16.set_size(2)
            bfloat16.set_ebias(127)
            file.create_dataset(name, data=values, dtype=h5py.Datatype(bfloat16))
        self.refuse(path, "conv2_block1_1_conv/kernel", "not found")

    def test_without_pyfive_the_extra_is_named(
        self, files: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "pyfive", None)
        path = files / "tiny.keras"
        with pytest.raises(ImportError, match=r'needs pyfive: pip install "resnet_rs\[keras\]"$'):
            formats.read(path)
        with pytest.raises(ImportError, match=re.escape(str(path))):
            formats.read(path)

    def test_no_keras_file(self, tmp_path: Path) -> None:
        path = tmp_path / "x.h5"
        for content in (b"", b"\x89HDF", b"\x89HDF\r\n\x1a\n", b"PK\x03\x04", b"text" * 100):
            path.write_bytes(content)
            self.refuse(path)
        with pytest.raises(FileNotFoundError):
            read_keras(tmp_path / "absent.h5")
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("config.json", "{}")
        self.refuse(path, "model.weights.h5")

    def test_archive_whose_weights_are_a_bomb(self, files: Path, tmp_path: Path) -> None:
        path = tmp_path / "x.keras"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("config.json", "{}")
            archive.writestr("model.weights.h5", bytes(1 << 24))
        self.refuse(path, "model.weights.h5", "more than")

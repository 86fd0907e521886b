"""Arrays in HDF5 files as Keras lays them out, written by hand: names, storage, sizes, bounds."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from resnet_rs import WeightsError
from resnet_rs.weights.formats.input_file import Unpacked
from resnet_rs.weights.formats.keras_file import read_keras
from resnet_rs.weights.formats.keras_hdf5 import Hdf5, Object

Layers = dict[str, dict[str, NDArray[Any]]]

VARIABLES = {
    "conv": ("kernel", "bias"),
    "bn": ("gamma", "beta", "moving_mean", "moving_variance"),
}


def layers(first: int = 4, width: int = 2, fc: int = 5) -> Layers:
    """The arrays of a network of one bottleneck, in the order in which Keras makes them."""
    random = np.random.default_rng(0)
    found: Layers = {}

    def conv(name: str, *shape: int) -> None:
        kernel = random.standard_normal(shape).astype(np.float32)
        found[f"{name}_conv"] = {"kernel": kernel, "bias": np.full(shape[-1], 0.5, np.float32)}
        parts = random.uniform(1, 2, (4, shape[-1])).astype(np.float32)
        found[f"{name}_bn"] = dict(zip(VARIABLES["bn"], parts, strict=True))

    conv("conv1", 7, 7, 3, first)
    conv("conv2_block1_1", 1, 1, first, width)
    conv("conv2_block1_2", 3, 3, width, width)
    conv("conv2_block1_0", 1, 1, first, 4 * width)
    conv("conv2_block1_3", 1, 1, width, 4 * width)
    kernel = random.standard_normal((4 * width, fc)).astype(np.float32)
    found["predictions"] = {"kernel": kernel, "bias": np.ones(fc, np.float32)}
    return found


def legacy(path: Path, found: Layers, **options: Any) -> Path:
    """A group for each layer by its name, as Keras 2 wrote weights."""
    with h5py.File(path, "w") as file:
        for name, arrays in found.items():
            for variable, array in arrays.items():
                file.create_dataset(f"{name}/{name}/{variable}:0", data=array, **options)
    return path


CLASSES = {"conv": "conv2d", "bn": "batch_normalization", "predictions": "dense"}


def numbered(path: Path, found: Layers, *, named: bool = True) -> Path:
    """A group for each layer by its class and number, as Keras 3 writes weights."""
    counts: dict[str, int] = {}
    with h5py.File(path, "w") as file:
        for name, arrays in found.items():
            kind = CLASSES[name.rpartition("_")[2]]
            count = counts[kind] = counts.get(kind, -1) + 1
            group = file.create_group(f"layers/{kind}_{count}" if count else f"layers/{kind}")
            group = group.create_group("vars")
            if named:
                group.attrs["name"] = name
            for index, array in enumerate(arrays.values()):
                group[str(index)] = array
    return path


def refuse(path: Path, message: str) -> None:
    with pytest.raises(WeightsError) as caught:
        read_keras(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


def assert_read(path: Path, found: Layers, names: Any = None) -> None:
    """The file's arrays are these, in torch's layout and under torchvision's names."""
    tensors = read_keras(path).tensors
    assert len(tensors) == sum(len(arrays) for arrays in found.values())
    stem = found["conv1_conv"]["kernel"][:, :, ::-1].transpose(3, 2, 0, 1)
    np.testing.assert_array_equal(tensors["conv1.weight"], stem)
    block = {"0": "downsample.0", "1": "conv1", "2": "conv2", "3": "conv3"}
    for number, name in block.items():
        kernel = found[f"conv2_block1_{number}_conv"]["kernel"].transpose(3, 2, 0, 1)
        np.testing.assert_array_equal(tensors[f"layer1.0.{name}.weight"], kernel)
        norm = name.replace("conv", "bn").replace(".0", ".1")
        for variable, part in (("gamma", "weight"), ("moving_mean", "running_mean")):
            stored = found[f"conv2_block1_{number}_bn"][variable]
            np.testing.assert_array_equal(tensors[f"layer1.0.{norm}.{part}"], stored)
    np.testing.assert_array_equal(tensors["fc.weight"], found["predictions"]["kernel"].T)
    np.testing.assert_array_equal(tensors["fc.bias"], found["predictions"]["bias"])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.h5"


class TestLayouts:
    """Both layouts, with names and without."""

    def test_legacy(self, path: Path) -> None:
        assert_read(legacy(path, layers()), layers())

    @pytest.mark.parametrize("named", [True, False])
    def test_numbered(self, named: bool, path: Path) -> None:
        assert_read(numbered(path, layers(), named=named), layers())
        order = any("told apart by their order" in each for each in read_keras(path).remarks)
        assert order != named

    def test_names_of_a_fixed_length(self, path: Path) -> None:
        """h5py writes `np.bytes_` so, and str as strings of any length."""
        with h5py.File(numbered(path, layers()), "r+") as file:
            for group in file["layers"].values():
                group["vars"].attrs["name"] = np.bytes_(group["vars"].attrs["name"])
        assert_read(path, layers())
        assert not any("their order" in each for each in read_keras(path).remarks)

    def test_two_layers_of_one_name(self, path: Path) -> None:
        legacy(path, layers())
        with h5py.File(path, "r+") as file:
            file["more/conv1_bn/gamma:0"] = np.ones(4, np.float32)
        refuse(path, "more/conv1_bn/gamma:0: there are two layers of this name")
        with h5py.File(numbered(path, layers()), "r+") as file:
            file["layers/conv2d_1/vars"].attrs["name"] = "conv1_conv"
        refuse(path, "layers/conv2d_1/vars: there are two layers named conv1_conv")

    def test_layers_of_other_classes(self, path: Path) -> None:
        with h5py.File(numbered(path, layers()), "r+") as file:
            file["layers/depthwise_conv2d_3/vars/0"] = np.ones(4, np.float32)
            file["layers/depthwise_conv2d_3/vars"].attrs["name"] = "odd"
        refuse(path, "layer odd: depthwise_conv2d_3 is no part of a ResNet: this reader takes")

    def test_more_arrays_than_a_layer_has(self, path: Path) -> None:
        with h5py.File(numbered(path, layers()), "r+") as file:
            file["layers/dense/vars/2"] = np.ones(5, np.float32)
        refuse(path, "layer predictions: dense is no part of a ResNet")

    @pytest.mark.parametrize(
        ("removed", "message"),
        [
            ("batch_normalization_4", "expected 5 layers of class BatchNormalization, got 4"),
            # There are as many batch norms as convolutions.
            ("conv2d_4", "expected 4 layers of class BatchNormalization, got 5"),
        ],
    )
    def test_layers_without_names_that_are_missing(
        self, removed: str, message: str, path: Path
    ) -> None:
        with h5py.File(numbered(path, layers(), named=False), "r+") as file:
            del file[f"layers/{removed}"]
        refuse(path, message)

    def test_arrays_that_no_layer_has(self, path: Path) -> None:
        found = layers()
        found["conv1_bn"]["delta"] = np.ones(4, np.float32)
        refuse(legacy(path, found), "conv1_bn/delta: not part of a ResNet: this reader takes")
        found = layers()
        found["surplus"] = {"kernel": np.ones((1, 1, 4, 4), np.float32)}
        refuse(legacy(path, found), "layer surplus: not part of a ResNet: this reader takes")
        del found["surplus"], found["conv1_conv"]["bias"]
        assert "conv1.bias" not in read_keras(legacy(path, found)).tensors

    @pytest.mark.parametrize(
        ("layer", "variable", "shape", "rank"),
        [
            ("conv1_conv", "kernel", (7, 7, 12), 4),
            ("conv1_conv", "bias", (4, 1), 1),
            ("conv1_bn", "gamma", (1, 4), 1),
            ("predictions", "bias", (5, 1), 1),
        ],
    )
    def test_dimensions(
        self, layer: str, variable: str, shape: tuple[int, ...], rank: int, path: Path
    ) -> None:
        found = layers()
        found[layer][variable] = np.ones(shape, np.float32)
        message = f"{layer}/{variable}: expected {rank} dimensions, got {list(shape)}"
        refuse(legacy(path, found), message)

    def test_shapes_of_no_resnet(self, path: Path) -> None:
        found = layers()
        found["conv2_block1_1_conv"]["kernel"] = np.ones((1, 1, 3, 2), np.float32)
        refuse(legacy(path, found), "the tensors' shapes fit no ResNet")


class TestStorage:
    """The ways in which HDF5 keeps the elements of a dataset."""

    NAME = "conv2_block1_1_conv/conv2_block1_1_conv/kernel:0"

    def replaced(self, path: Path, make: Callable[[h5py.File, NDArray[Any]], object]) -> Path:
        with h5py.File(legacy(path, layers()), "r+") as file:
            values = file[self.NAME][()]
            del file[self.NAME]
            make(file, values)
        return path

    def test_compact(self, path: Path) -> None:
        """The elements lie in the object's header."""

        def make(file: h5py.File, values: NDArray[Any]) -> None:
            properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            properties.set_layout(h5py.h5d.COMPACT)
            space = h5py.h5s.create_simple(values.shape)
            group = file[self.NAME.rpartition("/")[0]].id
            made = h5py.h5d.create(group, b"kernel:0", h5py.h5t.IEEE_F32LE, space, properties)
            made.write(h5py.h5s.ALL, h5py.h5s.ALL, values)

        assert_read(self.replaced(path, make), layers())

    def test_never_written(self, path: Path) -> None:
        def make(file: h5py.File, values: NDArray[Any]) -> None:
            file.create_dataset(self.NAME, values.shape, "f4")

        message = "conv2_block1_1_conv/kernel: the shape [1, 1, 4, 2] needs 32 bytes of data, got 0"
        refuse(self.replaced(path, make), message)

    def test_other_file(self, path: Path) -> None:
        def make(file: h5py.File, values: NDArray[Any]) -> None:
            external = [(str(path.with_name("secret")), 0, values.nbytes)]
            file.create_dataset(self.NAME, values.shape, "f4", external=external)

        message = "conv2_block1_1_conv/kernel: the data is in another file: save the file again"
        refuse(self.replaced(path, make), message)

    def test_other_datasets(self, path: Path) -> None:
        def make(file: h5py.File, values: NDArray[Any]) -> None:
            layout = h5py.VirtualLayout(values.shape, "f4")
            layout[:] = h5py.VirtualSource(path, "other", values.shape)
            file.create_virtual_dataset(self.NAME, layout)

        message = "conv2_block1_1_conv/kernel: the data is made of other datasets"
        refuse(self.replaced(path, make), message)

    def test_group_with_many_members(self, path: Path) -> None:
        """With more than eight members, the newest layout keeps them in a heap."""
        with h5py.File(path, "w", libver="latest") as file:
            for index in range(20):
                file.create_group(str(index))
        refuse(path, "a group has its members in a fractal heap (HDF5's libver='latest'): save")

    def test_no_floats(self, path: Path) -> None:
        hdf5 = Hdf5(Unpacked(legacy(path, layers()).read_bytes()))
        for item in (Object(), Object(shape=(2,)), Object(dtype=np.dtype("<f4"))):
            with pytest.raises(WeightsError, match="a dataset of floats of 2, 4 or 8 bytes"):
                hdf5.array(item)

    def test_arrays_that_overlap(self, path: Path) -> None:
        """Two large arrays of the same bytes: more than the whole file has."""
        first, second = (f"conv2_block1_{each}_conv" for each in (0, 3))
        found = layers(first=64, width=64)
        size = found[first].pop("kernel").nbytes
        with h5py.File(legacy(path, found), "r+") as file:
            # Nothing is written to it, so that it has no place yet.
            file.create_dataset(f"{first}/{first}/kernel:0", (1, 1, 64, 256), "f4")
            place = file[f"{second}/{second}/kernel:0"].id.get_offset()
        data = path.read_bytes()
        nowhere, length = b"\xff" * 8, size.to_bytes(8, "little")
        assert data.count(nowhere + length) == 1
        path.write_bytes(data.replace(nowhere + length, place.to_bytes(8, "little") + length))
        refuse(path, "the arrays overlap: the file is damaged")


class TestRoom:
    """Arrays take the bytes of their file, and twice those of bfloat16."""

    def large(self) -> Layers:
        """So large that the names and headers hardly count."""
        return layers(first=64, width=64, fc=500)

    def test_bfloat16(self, path: Path) -> None:
        found = self.large()
        halves = {
            name: {
                variable: (array.view(np.uint32) >> 16).astype("<u2").view("V2")
                for variable, array in arrays.items()
            }
            for name, arrays in found.items()
        }
        rounded = {
            name: {
                variable: (array.view(np.uint32) >> 16 << 16).view(np.float32)
                for variable, array in arrays.items()
            }
            for name, arrays in found.items()
        }
        assert_read(legacy(path, halves), rounded)

    def test_compressed_archive(self, tmp_path: Path) -> None:
        found = self.large()
        for arrays in found.values():
            for variable in arrays:
                arrays[variable] = arrays[variable].astype(np.float16).astype(np.float32)
        inner = numbered(tmp_path / "model.weights.h5", found, named=False)
        path = archive(tmp_path / "x.keras", inner, described(found))
        needed = sum(array.nbytes for arrays in found.values() for array in arrays.values())
        assert path.stat().st_size < needed
        assert_read(path, found)

    def test_archive_that_describes_fewer_layers(self, tmp_path: Path) -> None:
        inner = numbered(tmp_path / "model.weights.h5", layers(), named=False)
        description = [each for each in described(layers()) if each["class_name"] != "Dense"]
        path = archive(tmp_path / "x.keras", inner, description)
        refuse(path, "expected 0 layers of class Dense, got 1: this reader takes")


def archive(path: Path, inner: Path, description: list[dict[str, Any]]) -> Path:
    """A whole model as Keras 3 saves it, but compressed."""
    model = {"class_name": "Functional", "config": {"layers": description}}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.write(inner, "model.weights.h5")
        file.writestr("config.json", json.dumps(model))
    return path


def described(found: Layers) -> list[dict[str, Any]]:
    """The layers of a description in which every field has its default."""
    kinds = {"conv": "Conv2D", "bn": "BatchNormalization", "predictions": "Dense"}
    classes = {"conv1_pad": "ZeroPadding2D", "pool1_pad": "ZeroPadding2D"}
    classes |= {"pool1_pool": "MaxPooling2D", "conv2_block1_add": "Add", "conv2_block1_out": "ReLU"}
    classes |= {name: kinds[name.rpartition("_")[2]] for name in found}
    return [{"class_name": kind, "config": {"name": name}} for name, kind in classes.items()]

"""Weights and configs that are wrong: `WeightsError`, naming the file and the tensor or field.

The files are made from the demo model's header and zeros, so they cost next to no disk.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resnet_rs import Preprocessing, ResNet50, WeightsError

Header = dict[str, dict[str, Any]]
ITEM_BYTES = {"F16": 2, "F32": 4, "I64": 8}


@pytest.fixture(scope="module")
def tensors(demo_dir: Path) -> dict[str, tuple[str, list[int]]]:
    """The dtype and shape of every tensor of the demo model."""
    with (demo_dir / "model.safetensors").open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header: Header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    return {name: (entry["dtype"], entry["shape"]) for name, entry in header.items()}


def header_of(tensors: dict[str, tuple[str, list[int]]]) -> Header:
    """A sound header that lays the tensors one behind the other."""
    header: Header = {}
    end = 0
    for name, (dtype, shape) in tensors.items():
        begin, end = end, end + ITEM_BYTES[dtype] * int(np.prod(shape))
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    return header


def write_weights(path: Path, header: Header | bytes, data_bytes: int | None = None) -> None:
    """A safetensors file of zeros, which the file system need not store."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    if data_bytes is None:
        assert not isinstance(header, bytes)
        data_bytes = max(entry["data_offsets"][1] for entry in header.values())
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + data_bytes)


class TestWeightsFile:
    """Safetensors files that are not a ResNet-50's, or no safetensors files."""

    def reject(self, path: Path, *messages: str) -> None:
        with pytest.raises(WeightsError) as caught:
            ResNet50(path)
        for message in [path.name, *messages]:
            assert message in str(caught.value)

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            pytest.param(b"", "", id="empty"),
            pytest.param(b"1234567", "", id="shorter-than-a-length"),
            pytest.param(struct.pack("<Q", 1 << 62) + b"{}", "header", id="huge-header"),
            pytest.param(struct.pack("<Q", 50) + b"{}", "header", id="header-past-the-end"),
            pytest.param(struct.pack("<Q", 4) + b"{no}", "header", id="header-no-json"),
            pytest.param(struct.pack("<Q", 2) + b"[]", "header", id="header-no-object"),
            pytest.param(struct.pack("<Q", 2) + b"\xff\xfe", "header", id="header-no-utf8"),
            pytest.param(struct.pack("<Q", 2) + b"{}", "fc.weight: expected", id="no-tensors"),
            pytest.param(b"PK\x03\x04" + bytes(200), "", id="pth"),
        ],
    )
    def test_not_safetensors(self, data: bytes, message: str, tmp_path: Path) -> None:
        path = tmp_path / "bad.safetensors"
        path.write_bytes(data)
        self.reject(path, message)

    def test_missing_tensor(self, tensors: dict[str, Any], tmp_path: Path) -> None:
        tensors = {k: v for k, v in tensors.items() if k != "layer2.1.conv2.weight"}
        write_weights(tmp_path / "w.safetensors", header_of(tensors))
        self.reject(tmp_path / "w.safetensors", "layer2.1.conv2.weight", "not found")

    def test_surplus_tensor(self, tensors: dict[str, Any], tmp_path: Path) -> None:
        header = header_of(tensors | {"layer4.3.conv1.weight": ("F32", [512, 2048, 1, 1])})
        write_weights(tmp_path / "w.safetensors", header)
        self.reject(tmp_path / "w.safetensors", "layer4.3.conv1.weight")

    @pytest.mark.parametrize(
        ("name", "shape"),
        [
            ("conv1.weight", [64, 7, 7, 3]),
            ("layer1.0.conv2.weight", [64, 64, 3, 3, 1]),
            ("layer3.0.downsample.0.weight", [1024, 256, 1, 1]),
            ("bn1.running_var", [65]),
            ("fc.weight", [10, 512]),
            ("fc.bias", [11]),
        ],
    )
    def test_tensor_of_another_shape(
        self, name: str, shape: list[int], tensors: dict[str, Any], tmp_path: Path
    ) -> None:
        write_weights(tmp_path / "w.safetensors", header_of(tensors | {name: ("F32", shape)}))
        self.reject(tmp_path / "w.safetensors", name, str(shape))

    def test_tensor_of_another_dtype(self, tensors: dict[str, Any], tmp_path: Path) -> None:
        header = header_of(tensors | {"bn1.weight": ("I64", [64])})
        write_weights(tmp_path / "w.safetensors", header)
        self.reject(tmp_path / "w.safetensors", "bn1.weight", "I64")

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("name", ["bn1.weight", "layer4.2.conv3.weight"])
    def test_value_that_is_not_finite(
        self, name: str, value: float, tensors: dict[str, Any], tmp_path: Path
    ) -> None:
        path = tmp_path / "w.safetensors"
        header = header_of(tensors)
        write_weights(path, header)
        begin, end = header[name]["data_offsets"]
        with path.open("r+b") as file:
            file.seek(8 + len(json.dumps(header)) + (begin + end) // 2)
            dtype = {"F16": "<f2", "F32": "<f4"}[header[name]["dtype"]]
            file.write(np.array(value, dtype).tobytes())
        self.reject(path, name)

    @pytest.mark.parametrize("lost_bytes", [1, 5000])
    def test_truncated_file(self, lost_bytes: int, tensors: dict[str, Any], tmp_path: Path) -> None:
        header = header_of(tensors)
        data_bytes = max(entry["data_offsets"][1] for entry in header.values())
        write_weights(tmp_path / "w.safetensors", header, data_bytes - lost_bytes)
        self.reject(tmp_path / "w.safetensors")

    @pytest.mark.parametrize(
        "offsets",
        [[0, 1], [8, 4], [-4, 252], [0, 1 << 40], [(1 << 64) - 256, 1 << 64], [1, 257], [0]],
        ids=str,
    )
    def test_offsets_that_lie(
        self, offsets: list[int], tensors: dict[str, Any], tmp_path: Path
    ) -> None:
        header = header_of(tensors)
        data_bytes = max(entry["data_offsets"][1] for entry in header.values())
        header["bn1.weight"]["data_offsets"] = offsets
        write_weights(tmp_path / "w.safetensors", header, data_bytes)
        self.reject(tmp_path / "w.safetensors")

    @pytest.mark.parametrize("shape", [[1 << 40, 1 << 40], [-64], [], ["64"], None], ids=str)
    def test_shapes_that_lie(self, shape: Any, tensors: dict[str, Any], tmp_path: Path) -> None:
        header = header_of(tensors)
        data_bytes = max(entry["data_offsets"][1] for entry in header.values())
        header["bn1.weight"]["shape"] = shape
        write_weights(tmp_path / "w.safetensors", header, data_bytes)
        self.reject(tmp_path / "w.safetensors")

    def test_directory_without_weights(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=rf"'{tmp_path}/\w+\.\w+'"):
            ResNet50(tmp_path)


SHORTEST_CONFIG = {"format_version": 1, "architecture": "resnet50"}
PREPROCESSING = {
    "resize": 64,
    "crop": 64,
    "interpolation": "bilinear",
    "mean": [0.5, 0.5, 0.5],
    "std": [0.2, 0.2, 0.2],
}


class TestConfigFile:
    """Mistakes in config.json."""

    @pytest.fixture
    def directory(self, demo_dir: Path, tmp_path: Path) -> Path:
        (tmp_path / "model.safetensors").symlink_to(demo_dir / "model.safetensors")
        return tmp_path

    def test_shortest_config_is_accepted(self, directory: Path) -> None:
        (directory / "config.json").write_text(json.dumps(SHORTEST_CONFIG))
        assert ResNet50(directory).config.preprocessing.resize == 232

    @pytest.mark.parametrize("field", PREPROCESSING)
    def test_preprocessing_that_leaves_a_field_out(self, field: str, directory: Path) -> None:
        """Only `null` means no resize and no crop; what is left out has torchvision's value."""
        some = {name: value for name, value in PREPROCESSING.items() if name != field}
        config = SHORTEST_CONFIG | {"preprocessing": some}
        (directory / "config.json").write_text(json.dumps(config))
        preset = Preprocessing(232, 224, "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        preprocessing = ResNet50(directory).config.preprocessing
        assert getattr(preprocessing, field) == getattr(preset, field)

    @pytest.mark.parametrize(
        "text", ["", "{", "[]", "null", '"resnet50"', "\ufeff{}", "{} {}", '{"labels": '], ids=repr
    )
    def test_not_a_json_object(self, text: str, directory: Path) -> None:
        (directory / "config.json").write_text(text)
        with pytest.raises(WeightsError, match=r"config\.json"):
            ResNet50(directory)

    def test_not_utf8(self, directory: Path) -> None:
        (directory / "config.json").write_bytes(b'{"labels": ["\xff"]}')
        with pytest.raises(WeightsError, match=r"config\.json"):
            ResNet50(directory)

    CASES = (
        ({"format_version": 2}, "format_version"),
        ({"format_version": "1"}, "format_version"),
        ({"architecture": "resnet18"}, "architecture"),
        ({"architecture": None}, "architecture"),
        ({"num_classes": 11}, "num_classes"),
        ({"num_classes": -1}, "num_classes"),
        ({"labels": ["a", "b"]}, "labels"),
        ({"labels": "0123456789"}, "labels"),
        ({"labels": [*range(10)]}, "labels"),
        ({"source": "somewhere"}, "source"),
        ({"preprocessing": []}, "preprocessing"),
        ({"preprocessing": {"resize": 0}}, "resize"),
        ({"preprocessing": {"resize": -5}}, "resize"),
        ({"preprocessing": {"resize": 2.5}}, "resize"),
        ({"preprocessing": {"resize": [1, 2, 3]}}, "resize"),
        ({"preprocessing": {"resize": [0, 5]}}, "resize"),
        ({"preprocessing": {"resize": 1 << 40}}, "resize"),
        ({"preprocessing": {"crop": 0}}, "crop"),
        ({"preprocessing": {"crop": "224"}}, "crop"),
        ({"preprocessing": {"crop": [224]}}, "crop"),
        ({"preprocessing": {"interpolation": "cubic"}}, "bicubic"),
        ({"preprocessing": {"interpolation": 2}}, "interpolation"),
        ({"preprocessing": {"mean": [0.5, 0.5]}}, "mean"),
        ({"preprocessing": {"mean": 0.5}}, "mean"),
        ({"preprocessing": {"std": [0.2, 0.0, 0.2]}}, "std"),
        ({"preprocessing": {"std": [0.2, -1.0, 0.2]}}, "std"),
        ({"preprocessing": {"std": ["a", "b", "c"]}}, "std"),
        ({"preprocessing": {"mean": [1e300, 0.0, 0.0]}}, "mean"),
        ({"preprocessing": {"resise": 224}}, "resise"),
        ({"classes": 10}, "classes"),
    )

    @pytest.mark.parametrize(("change", "field"), CASES, ids=[str(row[0]) for row in CASES])
    def test_bad_field_is_named(self, change: dict[str, Any], field: str, directory: Path) -> None:
        if isinstance(change.get("preprocessing"), dict):
            change = {"preprocessing": PREPROCESSING | change["preprocessing"]}
        (directory / "config.json").write_text(json.dumps(SHORTEST_CONFIG | change))
        with pytest.raises(WeightsError) as caught:
            ResNet50(directory)
        assert "config.json" in str(caught.value)
        assert field in str(caught.value)

"""Files of other projects that are written to while they load: an ordinary error, never a signal.

`test_little_memory.py` does the same with the format that the core reads by itself.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from resnet_rs import WeightsError
from resnet_rs.weights.formats import input_file
from resnet_rs.weights.formats.input_file import InputFile, Part, Unpacked, reading

PROGRAM = """
    import os, shutil, sys, threading, time, warnings
    from resnet_rs import WeightsError
    from resnet_rs.weights import formats

    model, changing, original, architecture = sys.argv[1:]
    warnings.simplefilter("ignore")
    stated = {"architecture": architecture} if architecture else {}
    content = open(original, "rb").read()

    def truncate():
        os.truncate(changing, 0)

    def overwrite():
        # As `cp new file` does, and in place.
        with open(changing, "wb") as file:
            file.write(content[: len(content) // 2])

    def write_over():
        # The same length, with other numbers.
        with open(changing, "r+b") as file:
            file.seek(len(content) // 2)
            file.write(bytes(len(content) // 4))

    def read():
        begin = time.perf_counter()
        tensors = formats.read(model, **stated).tensors
        assert all(array.size and float(array.sum()) != -1.5 for array in tensors.values())
        return time.perf_counter() - begin

    shutil.copyfile(original, changing)
    read()
    whole = min(read() for _ in range(3))
    ends = {"read": 0, "refused": 0}
    for trial in range(30):
        shutil.copyfile(original, changing)
        change = (truncate, overwrite, write_over)[trial % 3]
        timer = threading.Timer(whole * trial / 30, change)
        timer.start()
        try:
            read()
            ends["read"] += 1
        except WeightsError as error:
            assert os.path.basename(changing) in str(error), error
            ends["refused"] += 1
        timer.join()
    print(ends)
    assert ends["refused"] > 0
"""


def torch_file(folder: Path, dtype: str = "float32", *, legacy: bool = False) -> Path:
    import torch
    import torchvision

    state = torchvision.models.resnet18().to(getattr(torch, dtype)).state_dict()
    path = folder / "x.pth"
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    return path


def safetensors_file(folder: Path) -> Path:
    """Numbers of bf16, which the core leaves to Python."""
    import safetensors.torch
    import torchvision

    path = folder / "x.safetensors"
    safetensors.torch.save_file(torchvision.models.resnet18().bfloat16().state_dict(), path)
    return path


@pytest.fixture(scope="module")
def keras_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both files, which Keras takes long to write."""
    import keras_cases

    folder = tmp_path_factory.mktemp("keras")
    keras_cases.write(folder, "ResNet50")
    return folder


def onnx_file(folder: Path) -> Path:
    """A model whose tensors lie in `x.data` beside it."""
    import onnx
    import onnx_cases

    model = onnx_cases.variant(blocks=[1, 1], widths=[64, 512], stem_widths=[64])
    whole = onnx_cases.export(model, folder / "whole.onnx")
    path = folder / "x.onnx"
    onnx.save_model(onnx.load(whole), path, save_as_external_data=True, location="x.data")
    return path


MAKERS: dict[str, Callable[[Path], Path]] = {
    "torch": torch_file,
    "torch, bf16": lambda folder: torch_file(folder, "bfloat16"),
    "torch, legacy": lambda folder: torch_file(folder, legacy=True),
    "safetensors": safetensors_file,
    "onnx": onnx_file,
}


@pytest.mark.parametrize("kind", MAKERS)
def test_weights_that_change_while_they_are_read(kind: str, tmp_path: Path) -> None:
    assert_errors_are_ordinary(MAKERS[kind](tmp_path), tmp_path)


@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_keras_files_that_change_while_they_are_read(
    ending: str, keras_files: Path, tmp_path: Path
) -> None:
    model = Path(shutil.copy(keras_files / f"ResNet50{ending}", tmp_path))
    assert_errors_are_ordinary(model, tmp_path)


def assert_errors_are_ordinary(model: Path, tmp_path: Path) -> None:
    """Truncate the file, cut it to half and write over it, at a later moment in each trial."""
    changing = tmp_path / "x.data" if model.suffix == ".onnx" else model
    original = tmp_path / "original"
    original.write_bytes(changing.read_bytes())
    architecture = "" if model.suffix in (".onnx", ".keras", ".h5") else "resnet18"
    program = [sys.executable, "-c", textwrap.dedent(PROGRAM)]
    command = [*program, str(model), str(changing), str(original), architecture]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, (result.returncode, result.stderr)


class TestInputFile:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        path = tmp_path / "weights"
        path.write_bytes(bytes(range(100)))
        return path

    def test_pieces(self, path: Path) -> None:
        with InputFile(path) as file:
            assert len(file) == 100
            assert file.read(98, 200) == b"bc"
            assert file.read(100, 200) == file.read(7, 7) == b""
            piece = file.take(10, 13)
            assert bytes(piece) == b"\x0a\x0b\x0c"
            assert piece.readonly
            assert file.take(10, 13) is piece
            file.require_unchanged()
        assert bytes(piece) == b"\x0a\x0b\x0c"

    def test_pieces_take_no_more_memory_than_the_file(self, path: Path) -> None:
        with InputFile(path) as file:
            file.take(0, 60)
            file.take(0, 60)
            with pytest.raises(WeightsError, match="overlap"):
                file.take(1, 60)
            file.take(60, 100)

    def test_parts(self, path: Path) -> None:
        with InputFile(path) as file:
            part = Part(file, 90, 120)
            inner = Part(part, 5, 8)
            assert len(part) == 10
            assert bytes(inner.whole()) == inner.read(0, 9) == b"\x5f\x60\x61"
            assert bytes(part.take(8, 20)) == b"bc"
        assert bytes(Part(Unpacked(b"abcd"), 1, 3).take(0, 9)) == b"bc"

    @pytest.mark.parametrize("read", [InputFile.read, InputFile.take])
    def test_file_that_becomes_shorter(self, read: Callable[..., object], path: Path) -> None:
        def truncated() -> None:
            with reading(path) as file:
                os.truncate(path, 50)
                read(file, 40, 60)

        with pytest.raises(WeightsError) as caught:
            truncated()
        assert str(caught.value).startswith(f"{path}: expected a file that stays as it is")
        assert f"(mv new.tmp {path})" in str(caught.value)

    def test_file_that_is_written_to(self, path: Path) -> None:
        """Whatever else goes wrong: that is the reason."""
        os.utime(path, ns=(1, 1))
        with pytest.raises(WeightsError, match="somebody has written to it"), reading(path):
            path.write_bytes(bytes(100))

        def damaged() -> None:
            os.utime(path, ns=(1, 1))
            with reading(path):
                path.write_bytes(bytes(100))
                raise WeightsError("a checksum is wrong")

        with pytest.raises(WeightsError, match="somebody has written to it"):
            damaged()

    def test_file_that_is_replaced_stays_what_it_was(self, path: Path, tmp_path: Path) -> None:
        status = path.stat()
        with reading(path) as file:
            file.require_same(status)
            (tmp_path / "new").write_bytes(bytes(100))
            os.replace(tmp_path / "new", path)
            assert file.read(1, 3) == b"\x01\x02"
        with pytest.raises(WeightsError, match="replaced by another one"), reading(path) as file:
            file.require_same(status)

    def test_nothing_to_read(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError), reading(tmp_path / "none"):
            pass
        with pytest.raises(WeightsError, match="regular file"), reading(tmp_path):
            pass
        (tmp_path / "empty").touch()
        with pytest.raises(WeightsError, match="empty: an empty file"), reading(tmp_path / "empty"):
            pass

    def test_error_of_the_system_names_the_file(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Broken(input_file.io.BufferedReader):
            def read(self, size: int | None = -1) -> bytes:
                raise OSError(5, "Input/output error")

        monkeypatch.setattr(input_file.io, "BufferedReader", Broken)
        with InputFile(path) as file, pytest.raises(OSError, match="Input/output") as caught:
            file.read(0, 1)
        assert caught.value.filename == str(path)

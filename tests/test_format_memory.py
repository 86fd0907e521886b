"""Reading a file takes at most twice its size, whatever its format.

Counted is the memory of the whole process, the mapped pages of the file among it.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mutations import reset_resident_peak, resident_peak

from resnet_rs.weights import formats

ALLOWANCE_BYTES = 8 << 20
"""For modules, threads and small objects: less than half of any file here."""


def memory(path: Path, **stated: Any) -> float:
    """Measure the growth of a process that reads a checkpoint and touches every value.

    Args:
        path: a file or a directory.
        stated: arguments of `formats.read`.

    Returns:
        The peak's growth over the size of what is read, the allowance taken off.
    """
    files = list(path.iterdir()) if path.is_dir() else [path]
    size = sum(file.stat().st_size for file in files)
    assert size > 2 * ALLOWANCE_BYTES
    command = [sys.executable, __file__, str(path), json.dumps(stated)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return (int(done.stdout) - ALLOWANCE_BYTES) / size


def main(path: str, stated: str) -> int:
    """Run in the process that `memory` starts; prints by how many bytes it grew."""
    # A library's own memory does not depend on the file.
    importlib.import_module({".onnx": "onnx"}.get(Path(path).suffix, "pyfive"))
    before = reset_resident_peak()
    checkpoint = formats.read(path, **json.loads(stated))
    assert all(np.isfinite(array.max()) for array in checkpoint.tensors.values())
    print(resident_peak() - before)
    return 0


@pytest.fixture(scope="module")
def keras_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small networks by Keras, made large by 300,000 classes: `tiny.weights.h5`, `tiny.keras`."""
    import h5py
    import keras_cases

    folder = tmp_path_factory.mktemp("keras")
    keras_cases.write(folder, "tiny")
    weights = folder / "tiny.weights.h5"
    with h5py.File(weights, "r+") as file:
        variables = file["layers/dense/vars"]
        for name, shape in (("0", (16, 300_000)), ("1", (300_000,))):
            del variables[name]
            variables[name] = np.ones(shape, np.float32)
    with zipfile.ZipFile(folder / "tiny.keras") as archive:
        config = archive.read("config.json").decode()
    assert config.count('"units": 5') == 1
    with zipfile.ZipFile(folder / "tiny.keras", "w") as archive:
        archive.writestr("config.json", config.replace('"units": 5', '"units": 300000'))
        archive.write(weights, "model.weights.h5")
    return folder


@pytest.mark.parametrize("ending", [".keras", ".weights.h5"])
def test_keras(ending: str, keras_files: Path) -> None:
    assert memory(keras_files / f"tiny{ending}") <= 2


def test_onnx(tmp_path: Path) -> None:
    import onnx_cases

    model = onnx_cases.variant(blocks=[1, 1], widths=[64, 576], stem_widths=[64])
    assert memory(onnx_cases.export(model, tmp_path / "x.onnx")) <= 2


def test_text(tmp_path: Path) -> None:
    from text_directory_writer import write_text_directory
    from tiny_torch import TinyResNet

    widths = (16, 32, 64, 192)
    write_text_directory(tmp_path, TinyResNet(widths=widths), "mine")
    variant = {"widths": widths, "stem_widths": widths[:1], "blocks": (1, 2, 1, 1)}
    assert memory(tmp_path, architecture="resnet50", variant=variant) <= 2


@pytest.mark.parametrize(("dtype", "most"), [("float32", 2), ("bfloat16", 3)])
def test_torch(dtype: str, most: int, tmp_path: Path) -> None:
    """Numbers of bf16 take twice the file as float32, and the file's mapped pages once."""
    import torch
    from tiny_torch import TinyResNet

    widths = (64, 128, 256, 640)
    state = TinyResNet(widths=widths).to(getattr(torch, dtype)).state_dict()
    torch.save(state, tmp_path / "x.pth")
    variant = {"widths": widths, "stem_widths": widths[:1], "blocks": (1, 2, 1, 1)}
    assert memory(tmp_path / "x.pth", architecture="resnet50", variant=variant) <= most


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

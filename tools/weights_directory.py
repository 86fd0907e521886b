"""Write a weights directory: `model.safetensors` and `config.json`."""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from safetensors_file import DTYPES, write_safetensors

TENSORS = "model.safetensors"
CONFIG = "config.json"
FORMAT_VERSION = 1

Size = int | list[int] | None
"""An int (short side, or a square), [height, width], or None for no such step."""


@dataclass(frozen=True)
class Preprocessing:
    """The preparation of a photo for the network; the defaults are IMAGENET1K_V2's.

    `mean` and `std` are per channel, RGB, of values in [0, 1].
    """

    resize: Size = 232
    crop: Size = 224
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Export:
    """The contents of a weights directory.

    Attributes:
        state: torchvision's names to f32 tensors, OIHW.
        labels: one per class, or None.
        preprocessing: of the photos that the weights were trained on.
        source: where the weights came from, free text.
        architecture: the network's name in config.json.
        activation: what turns logits into scores; None leaves it to the number of classes.
    """

    state: dict[str, torch.Tensor]
    labels: list[str] | None
    preprocessing: Preprocessing
    source: dict[str, str]
    architecture: str = "resnet50"
    activation: str | None = None

    @property
    def num_classes(self) -> int:
        """The number of logits."""
        return int(self.state["fc.weight"].shape[0])


def round_weights(state: Mapping[str, torch.Tensor], dtype: str) -> dict[str, torch.Tensor]:
    """Round convolution and fc weights to `f32`, `f16` or `bf16`; vectors stay f32.

    Vectors are 0.3 % of the bytes, and a batch norm's variance would suffer in f16.

    Raises:
        ValueError: a weight is too large for the dtype, or not finite to begin with.
    """
    rounded = {}
    for name, tensor in state.items():
        rounded[name] = tensor.to(DTYPES[dtype.upper()] if tensor.ndim > 1 else torch.float32)
        if not bool(torch.isfinite(rounded[name]).all()):
            largest = float(tensor.abs().max())
            raise ValueError(f"{name}: not finite in {dtype} (largest value {largest}): use f32")
    return rounded


def write_weights(directory: Path, export: Export, dtype: str) -> None:
    """Write both files into an existing directory, replacing what is there.

    Raises:
        ValueError: a weight is too large for `dtype` (`f32`, `f16` or `bf16`).
    """
    tensors = round_weights(export.state, dtype)
    write_safetensors(directory / TENSORS, tensors, {"format": "pt"})
    config = {
        "format_version": FORMAT_VERSION,
        "architecture": export.architecture,
        "num_classes": export.num_classes,
        "labels": export.labels,
        **({} if export.activation is None else {"activation": export.activation}),
        "preprocessing": asdict(export.preprocessing),
        "source": {**export.source, "dtype": dtype},
    }
    text = json.dumps(config, indent=2, ensure_ascii=False)
    (directory / CONFIG).write_text(text + "\n", encoding="utf-8")


def require_free(directory: Path, *, force: bool) -> None:
    """Check that an export may be written to `directory`.

    Raises:
        FileExistsError: it holds weights already, and `force` is not set.
        NotADirectoryError: it is a file.
    """
    if directory.exists() and not directory.is_dir():
        raise NotADirectoryError(f"{directory} is a file: --out takes a directory")
    existing = [name for name in (TENSORS, CONFIG) if (directory / name).exists()]
    if existing and not force:
        raise FileExistsError(
            f"{directory} holds {' and '.join(existing)} already: "
            "choose another --out, or pass --force to replace them"
        )


@contextmanager
def staged(directory: Path) -> Iterator[Path]:
    """Give an empty folder beside `directory` whose two files are moved into it at the end.

    On an exception nothing is moved and the folder goes: `directory` never holds half an export.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{directory.name}-"
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=prefix) as staging:
        yield Path(staging)
        directory.mkdir(exist_ok=True)
        for name in (TENSORS, CONFIG):
            os.replace(Path(staging) / name, directory / name)

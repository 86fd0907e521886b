"""The text directory of from-scratch projects: a file a tensor, a number a line.

```text
resnet50_conv1_{weight,param}.txt
resnet50_bn1_{weight,bias,running_mean,running_var,param}.txt
resnet50_layer1_bottleneck0_conv1_*.txt                    and bn1, conv2, bn2, conv3, bn3
resnet50_layer1_bottleneck0_downsample_conv2d_*.txt        and downsample_batchnorm
resnet50_fc_{weight,bias}.txt
```

A convolution's weights are in the order out, kernel y, kernel x, in (OHWI); its `param` is five
integers: channels in, channels out, kernel, stride, padding. A batch norm's `param` is epsilon and
momentum. fc's weights are `[classes, features]`. Blocks of two convolutions are `basicblock0`.

The `param` files state two things that a state dict cannot: which convolution of a block has the
stride, and the epsilon. A ResNet-50 is some 620 MB of text, so files are read in parallel, each
only after its size is found to suit the number of values that it should hold.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import _core
from ..._core import WeightsError
from ...terminal.progress import Progress
from .checkpoint import RawCheckpoint
from .files import listed
from .text_params import ConvParam, NormParam, read_conv_param, read_norm_param, variant_of

_STATISTICS = ("weight", "bias", "running_mean", "running_var")
_FILE = re.compile(
    r"(?P<arch>\w+?)_(?P<layer>"
    r"conv1|bn1|fc|layer\d{1,3}_(?:bottleneck|basicblock|block)\d{1,4}_"
    r"(?:conv\d|bn\d|downsample_conv2d|downsample_batchnorm)"
    rf")_(?P<what>{'|'.join(_STATISTICS)}|param)\.txt",
    re.ASCII,
)
_BLOCK_LAYER = re.compile(r"layer(\d+)_([a-z]+)(\d+)_(\w+)", re.ASCII)
_INSIDE = {"downsample_conv2d": "downsample.0", "downsample_batchnorm": "downsample.1"}

# Shapes of weights do not depend on the image's size.
_SIDE = 224

_LEAST_BYTES_PER_NUMBER = 2
_MOST_BYTES_PER_NUMBER = 64
"""`%.18e` and a line's end take 26; spaces and longer forms have room."""


@dataclass(frozen=True)
class LayerFiles:
    """The files of one layer.

    Attributes:
        start: what their names have in common, `resnet50_layer1_bottleneck0_conv1`.
        paths: by their content: `weight`, `param`, ...
    """

    start: str
    paths: dict[str, Path] = field(default_factory=dict)


Layers = dict[str, LayerFiles]
"""The files of a network by layer, in torchvision's words."""


def is_text_directory(directory: Path) -> bool:
    """Report whether a directory holds the first convolution of such a network."""
    return any(directory.glob("*_conv1_weight.txt"))


def read_text_directory(
    directory: Path, key: str | None = None, *, own_blocks: bool = False
) -> RawCheckpoint:
    """Read a network from a text directory, showing the progress on a terminal.

    Args:
        directory: the directory of the files.
        key: what the files' names start with, such as `resnet50`; None where all have one start.
        own_blocks: the network's blocks differ from those of the architecture in its names.

    Returns:
        torchvision's names, convolutions OIHW, float32. The config states the architecture where
        the files' names do, and the stride's place and the epsilon.

    Raises:
        WeightsError: a file is missing, surplus, too large, holds another number of values or
            text that is not a number, or a `param` file fits no ResNet.
    """
    arch, layers = _find(directory, key)
    known = arch in _core.architectures()
    _check_complete(directory, arch, layers, known=known and not own_blocks)
    convs: dict[str, ConvParam] = {}
    norms: dict[str, NormParam] = {}
    for layer, files in layers.items():
        if _is_norm(layer):
            norms[layer] = read_norm_param(files.paths["param"])
        elif layer != "fc":
            convs[layer] = read_conv_param(files.paths["param"])
    variant = variant_of(convs, norms)
    tensors = _read_files(_plan(layers, convs))
    config: dict[str, Any] = {"variant": variant, **({"architecture": arch} if known else {})}
    stated = ", ".join(f"{name} {value}" for name, value in variant.items())
    return RawCheckpoint(tensors, config, (f"read {len(tensors)} text files; {stated}",))


def _find(directory: Path, key: str | None) -> tuple[str, Layers]:
    """The files of one network, and what their names start with."""
    found: dict[str, Layers] = {}
    strange = []
    with os.scandir(directory) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            match = _FILE.fullmatch(entry.name)
            if match is None:
                strange.append(entry.name)
            elif not entry.is_file():
                raise WeightsError(f"{entry.path}: expected a regular file")
            else:
                layers = found.setdefault(match["arch"], {})
                files = LayerFiles(f"{match['arch']}_{match['layer']}")
                files = layers.setdefault(tensor_layer(match["layer"]), files)
                files.paths[match["what"]] = Path(entry)
    if key is None and len(found) == 1:
        (key,) = found
    if key not in found:
        raise WeightsError(
            f"{directory}: expected the files of one network, found those of "
            f"{listed(sorted(found))}: pass one as key="
        )
    surplus = [name for name in strange if name.startswith(f"{key}_") and name.endswith(".txt")]
    if surplus:
        raise WeightsError(f"{directory}: not part of a ResNet: {listed(surplus)}")
    return key, found[key]


def tensor_layer(layer: str) -> str:
    """A layer's name in torchvision's words: `layer1.0.downsample.0`, not ..._conv2d."""
    match = _BLOCK_LAYER.fullmatch(layer)
    if match is None:
        return layer
    stage, _word, block, what = match.groups()
    return f"layer{stage}.{block}.{_INSIDE.get(what, what)}"


def text_layer(name: str, block_word: str) -> str:
    """The other way round; the word for a block is `bottleneck` or `basicblock`."""
    stage, _, rest = name.partition(".")
    if not rest:
        return name
    block, _, what = rest.partition(".")
    inside = {theirs: ours for ours, theirs in _INSIDE.items()}
    return f"{stage}_{block_word}{block}_{inside.get(what, what)}"


def _is_norm(layer: str) -> bool:
    return re.search(r"(\bbn\d|downsample\.1)$", layer) is not None


def _required(layer: str) -> tuple[str, ...]:
    """List the files that a layer needs; a convolution may also have a bias."""
    if _is_norm(layer):
        return (*_STATISTICS, "param")
    return ("weight", "bias") if layer == "fc" else ("weight", "param")


def _check_complete(directory: Path, arch: str, layers: Layers, *, known: bool) -> None:
    """Check that no file is missing.

    Raises:
        WeightsError: naming those that are.
    """
    words = (_BLOCK_LAYER.search(files.start) for files in layers.values())
    word = next((match[2] for match in words if match), "bottleneck")
    wanted = dict(layers)
    if known:
        config = f'{{"format_version": 1, "architecture": "{arch}"}}'
        for operation in _core.operations(config, _SIDE, _SIDE):
            if operation["parameters"]:
                layer = operation["name"]
                wanted.setdefault(layer, LayerFiles(f"{arch}_{text_layer(layer, word)}"))
    missing = [
        f"{files.start}_{what}.txt"
        for layer, files in wanted.items()
        for what in _required(layer)
        if what not in files.paths
    ]
    if missing:
        raise WeightsError(f"{directory}: there is no {listed(missing)}")


@dataclass(frozen=True)
class _Part:
    """One file to read.

    Attributes:
        tensor: its tensor's name.
        path: the file.
        shape: of its values, in the file's order; None if it follows from their number.
        is_conv: whether that order is OHWI.
    """

    tensor: str
    path: Path
    shape: tuple[int, ...] | None
    is_conv: bool = False

    @property
    def bytes(self) -> int:
        """The file's size."""
        return self.path.stat().st_size


def _plan(layers: Layers, convs: dict[str, ConvParam]) -> list[_Part]:
    """The files to read, each checked to be of a size that suits its shape."""
    parts = []
    for layer, files in layers.items():
        param = convs.get(layer)
        for what, path in files.paths.items():
            if what == "param":
                continue
            shape: tuple[int, ...] | None = None
            if param is not None and what == "weight":
                side = param.kernel
                shape = (param.out_channels, side, side, param.in_channels)
            elif param is not None:
                shape = (param.out_channels,)
            parts.append(_Part(f"{layer}.{what}", path, shape, is_conv=len(shape or ()) == 4))
    for part in parts:
        if part.shape is not None:
            count = math.prod(part.shape)
            if not (
                _LEAST_BYTES_PER_NUMBER * count - 1
                <= part.bytes
                <= _MOST_BYTES_PER_NUMBER * (count + 1)
            ):
                raise WeightsError(
                    f"{part.path}: expected {count} numbers, as its param file says, found "
                    f"{part.bytes} bytes"
                )
    return parts


def _read_files(parts: Sequence[_Part]) -> dict[str, NDArray[Any]]:
    """Read the files, as many at a time as a network would take threads."""
    total = sum(part.bytes for part in parts)
    done = 0
    begin = time.monotonic()
    read: dict[str, NDArray[np.float32]] = {}
    with ThreadPoolExecutor(_core.default_threads()) as pool, Progress() as progress:
        # The largest first, so that no thread is left with one at the end.
        ordered = sorted(parts, key=lambda part: -part.bytes)
        pending = {pool.submit(_read_part, part): part for part in ordered}
        try:
            for future in as_completed(pending):
                part = pending[future]
                read[part.tensor] = future.result()
                done += part.bytes
                progress.say(_status(done, total, time.monotonic() - begin))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return _with_fc_shape({part.tensor: read[part.tensor] for part in parts}, parts)


def _read_part(part: _Part) -> NDArray[np.float32]:
    values: NDArray[np.float32] = _core.read_numbers(str(part.path))
    if part.shape is None:
        return values
    if values.size != math.prod(part.shape):
        raise WeightsError(
            f"{part.path}: expected {math.prod(part.shape)} numbers, {list(part.shape)} as its "
            f"param file says, found {values.size}"
        )
    array = values.reshape(part.shape)
    return ohwi_to_oihw(array) if part.is_conv else array


def ohwi_to_oihw(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Re-lay a convolution's weights from `[out, y, x, in]` to torch's `[out, in, y, x]`."""
    return np.ascontiguousarray(weights.transpose(0, 3, 1, 2))


def _with_fc_shape(
    tensors: dict[str, NDArray[np.float32]], parts: Sequence[_Part]
) -> dict[str, NDArray[Any]]:
    """Give fc's weights their shape, `[classes, features]`: the bias says how many classes."""
    weight, bias = tensors.get("fc.weight"), tensors.get("fc.bias")
    if weight is None or bias is None:
        return tensors
    paths = {part.tensor: part.path for part in parts}
    if bias.size == 0:
        raise WeightsError(f"{paths['fc.bias']}: expected a number for each class, found none")
    if weight.size % bias.size:
        raise WeightsError(
            f"{paths['fc.weight']}: expected a multiple of {bias.size} numbers, as many as there "
            f"are classes in {paths['fc.bias'].name}, found {weight.size}"
        )
    return {**tensors, "fc.weight": weight.reshape(bias.size, -1)}


def _status(done: int, total: int, seconds: float) -> str:
    rate = done / max(seconds, 1e-9)
    left = (total - done) / max(rate, 1.0)
    return (
        f"reading text: {done / 1e6:.0f} of {total / 1e6:.0f} MB, {rate / 1e6:.0f} MB/s, "
        f"{left:.0f} s left"
    )

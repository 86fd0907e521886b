"""Keras' files of keras.applications' ResNets: `.h5`, `.weights.h5` and `.keras`.

Keras' kernels are `[y, x, in, out]` and its dense layers `[in, out]`; the result has torch's
layout. Its ResNets take BGR: the first convolution's input channels are turned round here, so
that images remain RGB.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..._core import WeightsError
from ..remarks import Assumption, Note
from . import shapes
from .checkpoint import RawCheckpoint
from .files import listed, require_regular
from .input_file import reading
from .keras_hdf5 import Hdf5, Object
from .keras_layers import BGR_MEANS, Description, check
from .keras_layouts import TAKEN, VARIABLES, Stored, find_arrays, require_known_classes
from .libraries import require_extra
from .preparation import preprocessing_of

Array = NDArray[Any]

TENSORS = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}

MAX_POOLS = ("global_max_pooling2d", "max_pool")
"""The names of a global maximum: Keras' own for its class, and that of keras.applications."""

_BLOCK_LAYER = re.compile(r"conv([2-9])_block([1-9]\d?)_([0-3])_(conv|bn)")


def read_keras(path: Path) -> RawCheckpoint:
    """Read a ResNet-50, 101 or 152 of keras.applications, whole or its weights.

    Args:
        path: `.h5` (a whole model, or weights as keras.applications' downloads are),
            `.weights.h5` or `.keras`. The network may be part of a model that puts global pooling
            and one dense layer on it.

    Returns:
        The arrays under torchvision's names, and a config with everything but the labels.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: pyfive is not installed.
        WeightsError: the file is damaged, its network is another one, or somebody writes to it
            meanwhile.
    """
    require_regular(path)
    require_extra("pyfive", path, "keras")
    with reading(path) as file:
        try:
            return _checkpoint(find_arrays(file))
        except shapes.NotResNetError as error:
            raise WeightsError(str(error)) from None


def _checkpoint(stored: Stored) -> RawCheckpoint:
    """Name the arrays, check them, and convert them to torch's layout."""
    _refuse_other_networks(stored.layers)
    blocks = _blocks(stored.layers)
    description = Description((), max_pool=not stored.classes.isdisjoint(MAX_POOLS))
    if stored.description is None:
        require_known_classes(stored.classes)
    else:
        description = check(stored.description, blocks)
    names = {"conv1_conv": "conv1", "conv1_bn": "bn1"}
    for stage, count in enumerate(blocks):
        for block in range(count):
            names |= _block_names(stage, block)
    if dense := _dense_layer(stored.layers, names):
        names[dense] = "fc"
    _require_same_layers(stored.layers, names)

    left = len(stored.hdf5)
    tensors: dict[str, Array] = {}
    for layer, target in names.items():
        for variable, item in stored.layers[layer].items():
            array = _array(stored.hdf5, item, f"{layer}/{variable}")
            left -= item.stored_bytes
            if left < 0:
                raise WeightsError(f"{layer}/{variable}: the arrays overlap: the file is damaged")
            tensors[f"{target}.{TENSORS.get(variable, variable)}"] = array
    return _as_torch(tensors, description, stored.remarks)


def _as_torch(
    kernels: dict[str, Array], description: Description, remarks: tuple[str, ...]
) -> RawCheckpoint:
    """Convert Keras' layouts to torch's, and make the config."""
    rgb = kernels["conv1.kernel"].shape[2] == 3
    tensors: dict[str, Array] = {}
    for name, array in kernels.items():
        # Behind preprocessing of its own, a model gets its images as they come: R, G, B.
        if name == "conv1.kernel" and rgb and description.front is None:
            array = array[:, :, ::-1, :]
        if name.endswith(".kernel"):
            name = name.removesuffix("kernel") + "weight"
            array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
        tensors[name] = np.require(array, requirements=["C", "A"])

    found = {name: array.shape for name, array in tensors.items()}
    unseen = {"stride_on": "conv1", "norm_epsilon": description.epsilon}
    if description.max_pool:
        unseen["head"] = "global_max_pool"
    config = shapes.fitting_config(found, unseen)
    if description.activation is not None:
        config["activation"] = description.activation
    remarks += description.remarks
    if front := description.front:
        channels = kernels["conv1.kernel"].shape[2]
        inside, remark = preprocessing_of(front.where, front.factor, front.summand, channels)
        config["preprocessing"] = {**_preprocessing(description.input_size), **inside}
        remarks += (
            remark,
            Assumption(
                "assuming images in R, G, B, resized as load_img(target_size=...) does, whose "
                "filter is nearest. To state your own, pass preprocessing=",
                about="preprocessing",
            ),
        )
    elif rgb:
        config["preprocessing"] = _preprocessing(description.input_size)
        remarks += (
            Note(
                "the input channels of the first convolution were turned round: Keras' ResNets "
                "take BGR, here images are RGB"
            ),
            Assumption(
                "assuming the preprocessing of keras.applications.resnet.preprocess_input after "
                "load_img(target_size=...), whose filter is nearest, as the file states none. To "
                "state your own, pass preprocessing=",
                about="preprocessing",
            ),
        )
    if not description.layers:
        softmax = " and the softmax" if config["num_classes"] > 1 else ""
        average = "" if description.max_pool else ", the average over the map"
        remarks += (
            f"the epsilon, {description.epsilon}, the strides{average}{softmax} "
            "are keras.applications': a file of weights does not state them",
        )
    return RawCheckpoint(tensors, config, remarks)


def _preprocessing(input_size: tuple[int, int] | None) -> dict[str, Any]:
    """Express a subtraction of means from 0...255 in a config's terms: (p/255 - m/255) * 255."""
    return {
        "resize": list(input_size or (224, 224)),
        "crop": None,
        "interpolation": "nearest",
        "mean": [mean / 255 for mean in reversed(BGR_MEANS)],
        "std": [1 / 255] * 3,
    }


def _array(hdf5: Hdf5, item: Object, name: str) -> Array:
    """Read an array and check its rank; errors name it."""
    try:
        array = hdf5.array(item)
    except WeightsError as error:
        raise WeightsError(f"{name}: {error}") from None
    layer, _, variable = name.rpartition("/")
    rank = 1
    if variable == "kernel":
        rank = 4 if layer.endswith("_conv") else 2
    if array.ndim != rank:
        raise WeightsError(f"{name}: expected {rank} dimensions, got {list(array.shape)}")
    return array


# -- Names -------------------------------------------------------------------------------------


def _block_names(stage: int, block: int) -> dict[str, str]:
    """Keras' layer names of one block, and torchvision's."""
    ours = f"layer{stage + 1}.{block}"
    theirs = f"conv{stage + 2}_block{block + 1}"
    names = {}
    for index in (1, 2, 3):
        names[f"{theirs}_{index}_conv"] = f"{ours}.conv{index}"
        names[f"{theirs}_{index}_bn"] = f"{ours}.bn{index}"
    if block == 0:
        names[f"{theirs}_0_conv"] = f"{ours}.downsample.0"
        names[f"{theirs}_0_bn"] = f"{ours}.downsample.1"
    return names


def _blocks(layers: Mapping[str, Any]) -> list[int]:
    """Count the blocks of each stage."""
    counts: dict[int, int] = {}
    for name in layers:
        if match := _BLOCK_LAYER.fullmatch(name):
            stage, block = int(match[1]) - 2, int(match[2])
            counts[stage] = max(block, counts.get(stage, 0))
    if not counts or sorted(counts) != list(range(len(counts))):
        raise WeightsError(
            "expected layers conv1_conv, conv2_block1_1_conv and so on, got "
            f"{listed(sorted(layers)) or 'none with arrays'}: {TAKEN}"
        )
    return [counts[stage] for stage in range(len(counts))]


def _dense_layer(
    layers: Mapping[str, Mapping[str, Object]], known: Mapping[str, str]
) -> str | None:
    """Find the name of the dense layer on top of the known layers; None if there is none."""
    dense = [
        name
        for name, variables in layers.items()
        if name not in known and len(getattr(variables.get("kernel"), "shape", None) or ()) == 2
    ]
    if len(dense) > 1:
        raise WeightsError(
            f"expected one dense layer on top of the network, got {listed(sorted(dense))}: save "
            "the network without them (include_top=False) and use its embeddings"
        )
    return dense[0] if dense else None


def _require_same_layers(layers: Mapping[str, Mapping[str, Any]], names: Mapping[str, str]) -> None:
    """Check that the file has every layer with every array, and nothing else."""
    for layer in names:
        kind = layer.rpartition("_")[2]
        optional = {"bias"} if kind != "bn" else set()
        needed = VARIABLES.get(kind, VARIABLES["dense"])
        for variable in needed:
            if variable not in layers.get(layer, {}) and variable not in optional:
                raise WeightsError(f"{layer}/{variable}: not found")
        for variable in layers[layer]:
            if variable not in needed:
                raise WeightsError(f"{layer}/{variable}: not part of a ResNet: {TAKEN}")
    surplus = sorted(set(layers) - set(names))
    if surplus:
        raise WeightsError(f"layer {listed(surplus)}: not part of a ResNet: {TAKEN}")


def _refuse_other_networks(layers: Mapping[str, Any]) -> None:
    """Refuse related networks by name."""
    for name in layers:
        if name == "post_bn" or name.endswith("_preact_bn"):
            raise WeightsError(
                f"layer {name}: this is a ResNetV2, which normalises before each convolution: "
                + TAKEN
            )
        if re.fullmatch(r"(res|bn)[2-5][a-z]\d*_branch\w+", name):
            raise WeightsError(
                f"layer {name}: these are the names of Keras before 2.2.5, whose ResNet-50 has "
                f"another epsilon and pools without padding: {TAKEN} of later versions"
            )

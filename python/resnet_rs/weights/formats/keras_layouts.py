"""Finds a model's arrays in Keras' files, and identifies them.

Three layouts: the legacy one of `.h5` (a group for each layer by its name), the one of Keras 3
(`layers/conv2d_7/vars/0`, the layer's name in an attribute), and that of Keras 3's first versions,
in which only the order of the layers identifies them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..._core import WeightsError
from ..remarks import Note
from . import zip_members
from .input_file import Source
from .keras_hdf5 import SIGNATURE, Hdf5, Object
from .keras_layer import Layer
from .keras_layers import Description, parse

Names = tuple[str, ...]
"""The names of groups from an HDF5 file's root to an object."""

VARIABLES = {
    "conv": ("kernel", "bias"),
    "bn": ("gamma", "beta", "moving_mean", "moving_variance"),
    "dense": ("kernel", "bias"),
}
"""The names of a layer's arrays; Keras 3 numbers them in this order."""

TAKEN = "this reader takes keras.applications' ResNet50, ResNet101 and ResNet152"

_GROUPS = {"conv2d": "conv", "batch_normalization": "bn", "dense": "dense"}
_CLASSES = {"conv": "Conv2D", "bn": "BatchNormalization", "dense": "Dense"}
_NOT_OURS = frozenset(
    {"normalization", "rescaling", "resizing", "center_crop", "lambda", "tf_op_lambda"}
    | {"layer_normalization", "group_normalization", "unit_normalization", "multiply", "subtract"}
    | {"concatenate", "average", "maximum", "up_sampling2d", "cropping2d", "average_pooling2d"}
    | {"leaky_re_lu", "p_re_lu", "elu", "gelu", "prelu", "thresholded_re_lu", "permute"}
)
"""Keras' names for layers that change a result, and of which weights alone do not tell how."""

_NOT_THE_MODEL = ("optimizer", "optimizer_weights", "metrics", "seed_generator")

_WEIGHTS_MEMBER = "model.weights.h5"
_CONFIG_MEMBER = "config.json"
_MAX_CONFIG_BYTES = 16 << 20
# Keras stores weights as they are. Who compresses an archive gains a few percent, on weights of
# any size; beyond this it is not weights that grow.
_MAX_GROWTH = 1.5
_SPARE_BYTES = 1 << 20


@dataclass(frozen=True)
class Stored:
    """The content of a file, before any array is read.

    Attributes:
        hdf5: the file of arrays.
        layers: the arrays by layer and variable: `layers["conv1_conv"]["kernel"]`.
        description: the model's layers in order; None for a file of weights alone.
        remarks: what the user should know.
        classes: the names of the groups that are layers, without numbers, which are Keras' names
            of their classes unless the author chose others: `rescaling`, `dense`.
    """

    hdf5: Hdf5
    layers: dict[str, dict[str, Object]]
    description: tuple[Layer, ...] | None
    remarks: tuple[str, ...] = ()
    classes: frozenset[str] = frozenset()


def find_arrays(file: Source) -> Stored:
    """Find the arrays and the description in any of Keras' files.

    Args:
        file: the file.

    Raises:
        WeightsError: it is damaged, or Keras did not write it.
    """
    head = file.read(0, 8)
    if head[:4] == zip_members.SIGNATURE:
        members = zip_members.read_members(file)
        text = _member(members, _CONFIG_MEMBER, file, _MAX_CONFIG_BYTES)
        most_bytes = int(_MAX_GROWTH * len(file)) + _SPARE_BYTES
        data = _member(members, _WEIGHTS_MEMBER, file, most_bytes)
        return _by_layer(Hdf5(data), parse(text.read(0, len(text))))
    if head != SIGNATURE:
        raise WeightsError("neither an HDF5 file nor a .keras archive")
    return _by_layer(Hdf5(file), None)


def _member(members: zip_members.Members, name: str, file: Source, most_bytes: int) -> Source:
    """The content of a member of a `.keras` archive."""
    if name not in members:
        raise WeightsError(f"expected a .keras archive, got a zip file without {name}")
    if members[name].file_size > most_bytes:
        raise WeightsError(
            f"{name}: {members[name].file_size} bytes are more than it can have here"
        )
    return zip_members.source(file, members[name])


def _by_layer(hdf5: Hdf5, description: tuple[Layer, ...] | None) -> Stored:
    """Group the arrays by layer, in any of the layouts."""
    layers: dict[str, dict[str, Object]] = {}
    numbered: dict[Names, dict[str, Object]] = {}
    names: dict[Names, str] = {}
    groups: set[Names] = set()
    for path, item in hdf5.walk():
        if item.shape is None and item.dtype is None:
            groups.add(path)
        if not path:
            if "model_config" in item.texts:
                description = parse(item.texts["model_config"])
        elif path[0] in _NOT_THE_MODEL:
            continue
        elif path[-1] == "vars" and "name" in item.texts:
            names[path] = item.texts["name"]
        elif item.shape is None or item.dtype is None:
            continue  # a group, or the seed of a dropout
        elif path[-2:-1] == ("vars",) and len(path) >= 3:
            numbered.setdefault(path[:-1], {})[path[-1]] = item
        elif len(path) >= 2:
            # Legacy: the layer is the array's own group, whatever models are around it. Keras 2
            # writes `kernel:0`.
            variables = layers.setdefault(path[-2], {})
            if variables.setdefault(path[-1].partition(":")[0], item) is not item:
                raise WeightsError(f"{'/'.join(path)}: there are two layers of this name")
    stored = Stored(hdf5, layers, description)
    if numbered:
        stored = _by_number(hdf5, numbered, names, description)
    return replace(stored, classes=_classes(groups))


def _classes(groups: set[Names]) -> frozenset[str]:
    """Give the names of the groups that are layers, without the numbers at their ends."""
    by_number = {path[:-1] for path in groups if path[-1:] == ("vars",) and len(path) > 2}
    models = {path[:-1] for path in groups if path[-1:] == ("layers",)}
    leaves = by_number - models if by_number else groups
    return frozenset(re.sub(r"_\d+$", "", path[-1]) for path in leaves if path)


def require_known_classes(classes: frozenset[str]) -> None:
    """Refuse a file of weights with layers that compute something of their own.

    Raises:
        WeightsError: naming the first of them.
    """
    for name in sorted(classes):
        if name in _NOT_OURS or name.startswith("tf.math."):
            raise WeightsError(
                f"layer {name}: it is no part of a ResNet, and a file of weights does not state "
                "what it does: save the whole model as .keras, or the network without this layer"
            )


def _by_number(
    hdf5: Hdf5,
    groups: Mapping[Names, Mapping[str, Object]],
    names: Mapping[Names, str],
    description: tuple[Layer, ...] | None,
) -> Stored:
    """Keras 3: arrays by number, in groups by class and number, which may carry their name."""
    remarks: tuple[str, ...] = ()
    if not set(groups) <= set(names):
        names = _names_by_order(groups, description)
        remarks = (Note("the layers are told apart by their order, as Keras itself does"),)
    layers: dict[str, dict[str, Object]] = {}
    for path, arrays in groups.items():
        name, kind = names[path], _kind(path)
        if name in layers:
            raise WeightsError(f"{'/'.join(path)}: there are two layers named {name}")
        known = {str(index): variable for index, variable in enumerate(VARIABLES.get(kind, ()))}
        if not set(arrays) <= set(known):
            raise WeightsError(f"layer {name}: {path[-2]} is no part of a ResNet: {TAKEN}")
        layers[name] = {known[number]: item for number, item in arrays.items()}
    return Stored(hdf5, layers, description, remarks)


def _kind(path: Names) -> str:
    """`conv`, `bn` or `dense` for `.../conv2d_7/vars`; empty for any other class."""
    return _GROUPS.get(re.sub(r"_\d+$", "", path[-2]), "")


def _names_by_order(
    groups: Mapping[Names, Mapping[str, Object]], description: tuple[Layer, ...] | None
) -> dict[Names, str]:
    """Names for groups that are only numbered.

    Keras numbers the layers of a class in the model's order, which is in a whole model's
    description; otherwise it is keras.applications': in a block the convolutions 1, 2, then 0
    if the block has a shortcut, and 3. A shortcut begins a stage.
    """
    ordered: dict[str, list[Names]] = {"conv": [], "bn": [], "dense": []}
    for path in sorted(groups, key=_number):
        ordered.get(_kind(path), []).append(path)
    if description is not None:
        described = Description(description)
        names = {kind: described.names(keras) for kind, keras in _CLASSES.items()}
    else:
        kernels = [groups[path].get("0") for path in ordered["conv"]]
        sizes = [(kernel.shape or ())[:2] if kernel else () for kernel in kernels]
        convs = _application_names(sizes)
        names = {"conv": convs, "bn": [name.removesuffix("conv") + "bn" for name in convs]}
        names["dense"] = ["predictions"] * len(ordered["dense"])
    found = {path: "/".join(path[:-1]) for path in groups}
    for kind, paths in ordered.items():
        if len(paths) != len(names[kind]):
            raise WeightsError(
                f"expected {len(names[kind])} layers of class {_CLASSES[kind]}, "
                f"got {len(paths)}: {TAKEN}"
            )
        found |= dict(zip(paths, names[kind], strict=True))
    return found


def _number(path: Names) -> tuple[Names, int]:
    """The key that sorts `conv2d`, `conv2d_1` ... `conv2d_10` in their container."""
    match = re.search(r"_(\d{1,9})$", path[-2])
    return path[:-2], int(match[1]) if match else 0


def _application_names(kernels: list[tuple[int, ...]]) -> list[str]:
    """keras.applications' names for its convolutions in order, from their kernels' sizes."""
    names = ["conv1_conv"]
    threes = [index for index, size in enumerate(kernels) if size == (3, 3)]
    stage, block = 1, 0
    for index, end in zip(threes, [*threes[1:], len(kernels) + 1], strict=True):
        # From one 3x3 to the next: perhaps the shortcut's, this block's last, the next's first.
        shortcut = end - index == 4
        stage, block = (stage + 1, 1) if shortcut else (stage, block + 1)
        order = (1, 2, 0, 3) if shortcut else (1, 2, 3)
        names += [f"conv{stage}_block{block}_{part}_conv" for part in order]
    return names

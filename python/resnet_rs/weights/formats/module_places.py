"""The position of a module without tensors in a whole model: in the network, before or behind it.

The order in a `Sequential` is the order of its forward. The forward of torchvision's, timm's and
transformers' classes is known, and calls the modules that these classes make, and no others. The
forward of any other class is not in the file: its modules may be called in any order, or never.
"""

from __future__ import annotations

import enum

from .torch_modules import Module
from .whole_model import KNOWN_FORWARDS, WholeModel

_HARMLESS = frozenset(
    {"ReLU", "Identity", "Flatten", "Sequential", "ModuleList", "ModuleDict", "DataParallel"}
    | {"DistributedDataParallel", "Dropout", "Dropout1d", "Dropout2d", "DropPath", "DropBlock2d"}
    | {"FloatFunctional"}
)
"""Classes that do the same in every network, or nothing when it is evaluated."""

_CALLED = frozenset(
    {"conv1", "bn1", "relu", "act1", "maxpool", "avgpool", "global_pool", "fc", "drop_block"}
    | {"resnet", "embedder", "encoder", "pooler", "classifier"}
)
"""The modules that the known classes make themselves, beside `layer1` to `layer4`."""


class Position(enum.Enum):
    """The position of a module, as far as the file says it."""

    INSIDE = "in the network"
    BEFORE = "before the network"
    BEHIND = "behind the last layer"
    PERHAPS_BEHIND = "registered behind the last layer, in a class whose forward is not in the file"
    NOT_CALLED = "beside the network, in a class whose forward does not call it"
    APART = "in no module that the network is in"


def is_harmless(module: Module) -> bool:
    """Report whether a module changes no ResNet, wherever it stands in one; losses only train."""
    return module.kind in _HARMLESS or module.name.startswith("torch.nn.modules.loss.")


def unknown_layer(module: Module) -> str:
    """The words about a module that does something, in the network, that no ResNet does."""
    if module.name.startswith("torch.nn.modules.activation"):
        return "no ResNet here has it; activations are ReLU"
    return (
        "a layer that is not known here, whose result the file does not state. If it changes "
        "nothing in a ResNet, save torch.save(model.state_dict(), path) and state the network"
    )


def position(model: WholeModel, place: str) -> Position:
    """Find where a module stands.

    Args:
        model: the model.
        place: the place of a module without tensors.
    """
    inside = Position.INSIDE if place.startswith(model.root) else Position.APART
    own, last = place.split("."), model.last.split(".")
    shared = 0
    while shared < min(len(own), len(last)) and own[shared] == last[shared]:
        shared += 1
    around = model.modules.get(".".join(own[:shared]))
    if around is None or shared == min(len(own), len(last)):
        return inside
    if around.name in KNOWN_FORWARDS:
        called = own[shared] in _CALLED or own[shared].startswith("layer")
        return Position.INSIDE if called else Position.NOT_CALLED
    is_later = model.order[place] > model.order[model.last]
    if around.kind == "Sequential":
        if is_later:
            return Position.BEHIND
        return Position.BEFORE if inside is Position.APART else Position.INSIDE
    return Position.PERHAPS_BEHIND if is_later else inside

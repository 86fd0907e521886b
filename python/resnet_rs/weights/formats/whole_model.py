"""A whole saved model: its modules, and the place of each layer among them."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..._core import WeightsError
from .torch_modules import Module, Modules

Found = tuple[str, Module]
"""A module with its place in the model."""

TRANSFORMERS_MODELS = (
    "transformers.models.resnet.modeling_resnet.ResNetForImageClassification",
    "transformers.models.resnet.modeling_resnet.ResNetModel",
)
TIMM_MODEL = "timm.models.resnet.ResNet"
KNOWN_FORWARDS = ("torchvision.models.resnet.ResNet", TIMM_MODEL, *TRANSFORMERS_MODELS)
"""Classes whose forward is known, so that their modules say everything."""

ADAPTIVE_POOLS = {
    "AdaptiveAvgPool2d": "avg",
    "FastAdaptiveAvgPool2d": "avg",
    "FastAdaptiveAvgPool": "avg",
    "AdaptiveMaxPool2d": "max",
}
POOLS = frozenset({*ADAPTIVE_POOLS, "SelectAdaptivePool2d", "MaxPool2d", "AvgPool2d"})


@dataclass(frozen=True)
class WholeModel:
    """A whole model whose tensors have got torchvision's names.

    Attributes:
        modules: all its modules.
        layers: those with tensors, by torchvision's names of the layers.
        origin: the file, for messages.
        top: the place of the part that the caller asks for, with a dot behind it; "" for all of it.
    """

    modules: Modules
    layers: Mapping[str, Found]
    origin: str
    top: str = ""

    @functools.cached_property
    def root(self) -> str:
        """The place of the innermost module around all the layers, with a dot behind it."""
        places = [place.split(".")[:-1] for place, _ in self.layers.values()]
        shared = itertools.takewhile(lambda parts: len(set(parts)) == 1, zip(*places, strict=False))
        return "".join(f"{parts[0]}." for parts in shared)

    @functools.cached_property
    def around(self) -> list[Found]:
        """The modules around all the layers, the outermost first; none above `top`."""
        parts = self.root.split(".")[:-1]
        places = [".".join(parts[:count]) for count in range(len(parts) + 1)]
        return [
            (place, self.modules[place])
            for place in places
            if place in self.modules and f"{place}.".startswith(self.top)
        ]

    @property
    def is_known(self) -> bool:
        """The forward of a module around all its layers is known."""
        return any(module.name in KNOWN_FORWARDS for _, module in self.around)

    @functools.cached_property
    def order(self) -> dict[str, int]:
        """The number of each place, by which the modules of a module are in its own order."""
        return {place: number for number, place in enumerate(self.modules)}

    @functools.cached_property
    def last(self) -> str:
        """The place of the last layer; without fc, of the last part that has layers."""
        if "fc" in self.layers:
            return self.layers["fc"][0]
        last = [place for place, _ in self.layers.values()][-1]
        return self.root + last.removeprefix(self.root).split(".")[0]

    def error(self, place: str, module: Module, words: str) -> WeightsError:
        """The error for a module that no network here has."""
        return WeightsError(f"{self.origin}: module {place or 'itself'} ({module.kind}): {words}")


def whole_model(
    modules: Modules,
    places: Mapping[int, str],
    tensors: Mapping[str, Any],
    origin: str,
    key: str | None,
) -> WholeModel:
    """Find the module of each layer.

    Args:
        modules: the model's modules.
        places: for the `id` of each array its tensor's name in the file.
        tensors: the arrays by torchvision's names.
        origin: the file, for messages.
        key: the caller's, which may be the place of a module.

    Raises:
        WeightsError: a tensor of the file is in no module.
    """
    layers: dict[str, Found] = {}
    for name, array in tensors.items():
        if id(array) not in places:
            continue
        place = places[id(array)].rpartition(".")[0]
        if place not in modules:
            raise WeightsError(
                f"{origin}: tensor {places[id(array)][:80]} is in no module, so the file does not "
                "say what its layer does: save torch.save(model.state_dict(), path) and state the "
                "network"
            )
        layers.setdefault(name.rpartition(".")[0], (place, modules[place]))
    top = key.removesuffix(".") if key else ""
    return WholeModel(modules, layers, origin, f"{top}." if top in modules and top else "")


def plain(value: Any) -> Any:
    """A pair of equal numbers as one number."""
    if isinstance(value, (tuple, list)) and value and all(n == value[0] for n in value):
        return value[0]
    return value

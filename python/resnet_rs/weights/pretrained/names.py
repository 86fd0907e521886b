"""Names of pretrained weights: files of torchvision's and repositories of a model hub.

IMAGENET1K_V2, DEFAULT                        torchvision; the architecture is given separately
resnet50.IMAGENET1K_V2                        torchvision
ResNet50_Weights.IMAGENET1K_V2                torchvision
resnet50.a1_in1k, timm/resnet50.a1_in1k       timm
a1_in1k                                       timm; the architecture is given separately
timm/resnet50                                 timm, its default tag
hf-hub:timm/resnet50.a1_in1k                  timm
microsoft/resnet-50                           a repository on the Hugging Face hub
microsoft/resnet-50@v1.2                      the same, at a branch, tag or commit
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ..torchvision_weights import TORCHVISION_WEIGHTS, TorchvisionWeights, weights_of
from .timm_weights import TIMM_WEIGHTS, timm_names, timm_preset

_HUB_PREFIXES = ("hf-hub:", "hf_hub:")
# The characters that the hub allows in each half of a repository's name, and in a branch's name.
_REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_REVISION = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*")


@dataclass(frozen=True)
class HubRepository:
    """A repository on a model hub.

    Attributes:
        name: `owner/repository`.
        revision: a branch, a tag or a commit.
        architecture: the network, if the name says it; otherwise None, and the config must.
    """

    name: str
    revision: str = "main"
    architecture: str | None = None


def resolve(name: str, architecture: str | None = None) -> TorchvisionWeights | HubRepository:
    """Find out what a name means.

    Args:
        name: any of the forms that the module lists.
        architecture: the network that is wanted, such as `resnet50`; None accepts any.

    Raises:
        TypeError: `name` is not a str.
        ValueError: the name is unknown, with similar names; or it is of another architecture.
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be a str such as 'IMAGENET1K_V2'; got {type(name).__name__}")
    found: TorchvisionWeights | HubRepository | None
    if "/" in name or name.startswith(_HUB_PREFIXES):
        found = _hub(name)
    else:
        found = _torchvision(name, architecture) or _timm(name, architecture)
    if found is None:
        raise ValueError(_unknown(name, architecture))
    if architecture is not None and found.architecture not in (None, architecture):
        raise ValueError(f"{name!r} are weights of {found.architecture}; expected {architecture}")
    return found


def near(name: str, known: Iterable[str]) -> list[str]:
    """Up to five of the names in `known` that look like `name`, the nearest first."""
    from difflib import get_close_matches

    lower = {each.lower(): each for each in known}
    return [lower[match] for match in get_close_matches(name.lower(), lower, n=5, cutoff=0.5)]


def _torchvision(name: str, architecture: str | None) -> TorchvisionWeights | None:
    """A row of torchvision's table; None if the name is not of torchvision's form."""
    stated, _, weights = name.rpartition(".")
    if stated:
        # `ResNeXt50_32X4D_Weights` and `resnext50_32x4d` say the same.
        stated = stated.removesuffix("_Weights").lower()
    elif weights.upper() in {"DEFAULT", *(row.name for row in TORCHVISION_WEIGHTS)}:
        if architecture is None:
            raise ValueError(
                f"{name!r} is a name in every architecture: say which, as architecture='resnet50' "
                f"or in the name, as 'resnet50.{weights}'"
            )
        stated = architecture
    rows = weights_of(stated)
    if rows and weights.upper() == "DEFAULT":
        return rows[-1]
    return next((row for row in rows if row.name == weights.upper()), None)


def _timm(name: str, architecture: str | None) -> HubRepository | None:
    """A repository of timm's; None if the table has no such tag."""
    if "." not in name and architecture is not None:
        name = f"{architecture}.{name}"
    if timm_preset(name) is None:
        return None
    return HubRepository(f"timm/{name}", architecture=name.partition(".")[0])


def _hub(name: str) -> HubRepository:
    """A repository by its name on the hub.

    Raises:
        ValueError: it is not of the form `owner/repository` or `owner/repository@revision`.
    """
    for prefix in _HUB_PREFIXES:
        name = name.removeprefix(prefix)
    repository, at, revision = name.partition("@")
    revision = revision if at else "main"
    if not _REPOSITORY.fullmatch(repository) or not _REVISION.fullmatch(revision):
        raise ValueError(
            f"{name!r}: expected a repository as 'owner/repository', with '@revision' behind it "
            "for another revision than main; to load a file on this machine pass its path to "
            "resnet_rs.load"
        )
    owner, _, model = repository.partition("/")
    if owner != "timm":
        return HubRepository(repository, revision)
    if model in TIMM_WEIGHTS:
        model = f"{model}.{next(iter(TIMM_WEIGHTS[model]))}"
    stated = model.partition(".")[0]
    # timm's repositories of other networks are refused when their config has been read.
    return HubRepository(f"timm/{model}", revision, stated if stated in TIMM_WEIGHTS else None)


def _unknown(name: str, architecture: str | None) -> str:
    """The message for an unknown name."""
    all_names = [row.full_name for row in TORCHVISION_WEIGHTS] + timm_names()

    def names_of(network: str) -> list[str]:
        return [each for each in all_names if each.partition(".")[0] == network.lower()]

    if architecture in (None, name) and names_of(name):
        return f"{name!r} is an architecture; say which weights: {', '.join(names_of(name))}"
    if architecture is not None and not names_of(architecture):
        return f"there are no pretrained weights of {architecture}; {name!r} cannot be one"
    whole = name if architecture is None or "." in name else f"{architecture}.{name}"
    matches = near(whole, all_names if architecture is None else names_of(architecture))
    nearest = f" The nearest names: {', '.join(matches)}." * bool(matches)
    of_it = f" of {architecture}" if architecture else ""
    return (
        f"there are no pretrained weights {name!r}{of_it}.{nearest} "
        "`resnet-rs pretrained` lists all"
    )

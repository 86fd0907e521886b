"""From what a caller asks for to a network that runs.

Three ways lead there:

- a directory of ours, or a `.safetensors` file with such a `config.json` beside it or with
  torchvision's tensor names: the core reads it by itself;
- the bytes of a `.safetensors` file: the core is handed the tensors;
- any other file: `resnet_rs.weights.formats` reads it, and the core is handed the tensors.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from .. import _core
from .._core import Network, WeightsError
from ..images.spec import preset
from .config import Config, merged
from .files import Stamp, config_beside, files_of, stamp_of
from .loaded import Loaded
from .request import Request, json_of, to_json
from .small_files import read_small, require_regular

if TYPE_CHECKING:
    from .formats import Checkpoint

# What timm's and Hugging Face's config.json have, and ours does not.
_FIELDS_OF_OTHERS = frozenset({"model_type", "architectures", "pretrained_cfg", "input_size"})
# Types of tensors that formats converts, and the core does not read.
_CONVERTED = frozenset({"BF16", "F64"})
_FORMATS_ARGUMENTS = ("architecture", "variant", "num_classes", "labels", "preprocessing")


def load(request: Request, architecture: str | None) -> Loaded:
    """Read the weights and pack them.

    Args:
        request: what to load, and how.
        architecture: the only one that will do, a class's own; None takes what the weights are.

    Raises:
        FileNotFoundError: there is no such file or directory.
        WeightsError: the weights or the config are malformed, or of another architecture.
        UnsupportedIsaError: this machine lacks the tier.
        ValueError: the architecture is not known from anything.
    """
    overrides = json_of(request.overrides)
    _check_architecture("architecture", overrides.get("architecture"), architecture)
    # What to take where the weights do not say it themselves: a class's word is as good.
    stated = overrides if architecture is None else {"architecture": architecture, **overrides}
    if isinstance(request.weights, bytes):
        return _from_bytes(request, request.weights, stated, architecture)
    path = request.weights
    stamp = stamp_of(path)
    if request.names is None and request.key is None and _may_be_ours(path):
        weights = os.path.join(path, "model.safetensors") if os.path.isdir(path) else path
        if os.path.exists(weights):
            require_regular(weights)
        config_path = config_beside(path)
        config = _own_config(config_path)
        if config is not None:
            _check_architecture(
                f"{config_path}: architecture", config.get("architecture"), architecture
            )
            # Where it says nothing it is malformed, and the core names what is wrong with it.
            text = _with_overrides(config, overrides) if config and overrides else None
            return _by_the_core(request, stamp, text)
        if not os.path.exists(config_path):
            if os.path.isdir(path):
                if _lacks_only_config(path):
                    return _by_the_core(request, stamp, None)  # its error names what is missing
            elif _is_bare(path) and "architecture" in stated:
                assumed = None if "preprocessing" in stated else path
                text = _with_overrides({"format_version": 1}, stated)
                return _by_the_core(request, stamp, text, assumed)
    return _by_formats(request, stamp, stated, architecture)


def _by_the_core(
    request: Request, stamp: Stamp, config: str | None, assumed: str | None = None
) -> Loaded:
    """Let the core read the file; `config` stands in for its config.json."""
    path = request.weights
    assert isinstance(path, str)
    options = _options(request)
    if config is not None:
        options["config"] = config
    network = Network(path, **options)
    file = network.weights_path
    loaded = Loaded(request, network, lambda: _tensors_of(file), stamp=stamp)
    if assumed is not None:
        loaded.assumed = _no_config_message(path, loaded.config)
    return loaded


def _from_bytes(
    request: Request, data: bytes, stated: Mapping[str, Any], architecture: str | None
) -> Loaded:
    """Hand the core the tensors of a `.safetensors` file in memory."""
    from .formats import RawCheckpoint
    from .formats.complete import Wishes, complete
    from .formats.names import read_rules
    from .safetensors_bytes import tensors_in

    wishes = _wishes(request, stated)
    if wishes["names"] is not None:
        wishes["names"] = read_rules(wishes["names"])

    def read() -> Checkpoint:
        raw = RawCheckpoint(tensors_in(data))
        return complete(raw, request.origin, Wishes(**wishes))

    return _from_checkpoint(request, read, stated, architecture)


def _by_formats(
    request: Request, stamp: Stamp, stated: Mapping[str, Any], architecture: str | None
) -> Loaded:
    """Read a format that is not ours."""
    from . import formats

    path, wishes = request.weights, _wishes(request, stated)
    assert isinstance(path, str)

    def read() -> Checkpoint:
        return formats.read(path, **wishes)

    return _from_checkpoint(request, read, stated, architecture, stamp)


def _from_checkpoint(
    request: Request,
    read: Callable[[], Checkpoint],
    stated: Mapping[str, Any],
    architecture: str | None,
    stamp: Stamp = (),
) -> Loaded:
    """Hand the core what `read` gives; it says itself what is missing or does not fit."""
    checkpoint = read()
    further = {name: value for name, value in stated.items() if name not in _FORMATS_ARGUMENTS}
    config = {**checkpoint.config, **further}
    origin = request.origin
    _check_architecture(f"{origin}: architecture", checkpoint.config["architecture"], architecture)
    network = Network.from_tensors(
        checkpoint.tensors, to_json(config), origin=origin, **_options(request)
    )
    loaded = Loaded(request, network, lambda: read().tensors, stamp=stamp)
    if "preprocessing" not in config:
        loaded.assumed = _no_config_message(origin, loaded.config)
    return loaded


def _wishes(request: Request, stated: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `formats.read` beside the path."""
    wishes = {name: stated[name] for name in _FORMATS_ARGUMENTS if name in stated}
    names = None if request.names is None else json_of(request.names)
    return {**wishes, "names": names, "key": request.key}


def _options(request: Request) -> dict[str, Any]:
    """The core's keyword arguments."""
    return {"isa": request.isa, "threads": request.threads, "winograd": request.winograd}


def _may_be_ours(path: str) -> bool:
    return os.path.isdir(path) or path.endswith(".safetensors")


def _own_config(path: str) -> dict[str, Any] | None:
    """The fields of our config.json; none at all where it is malformed.

    Returns:
        None where there is no file, or where it is timm's or Hugging Face's.

    Raises:
        WeightsError: it is no regular file, or too large for a config.
    """
    import json

    try:
        content = read_small(path)
    except FileNotFoundError:
        return None
    try:
        config = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(config, dict):
        return {}
    is_theirs = "format_version" not in config and config.keys() & _FIELDS_OF_OTHERS
    return None if is_theirs else config


def _lacks_only_config(path: str) -> bool:
    """Whether a directory has our weights file or no weights at all."""
    return os.path.exists(os.path.join(path, "model.safetensors")) or not files_of(path)


def _is_bare(path: str) -> bool:
    """Whether this `.safetensors` file is one that the core reads by itself.

    Raises:
        WeightsError: it is a malformed one.
    """
    index = _core.safetensors_index(path)
    kinds = {entry[0] for entry in index.values()}
    # One without any tensor is for the core to refuse.
    return not index or ("layer1.0.conv1.weight" in index and not kinds & _CONVERTED)


def _tensors_of(path: str) -> dict[str, NDArray[Any]]:
    from pathlib import Path

    from .formats.safetensors_file import read_safetensors

    return read_safetensors(Path(path)).tensors


def _check_architecture(where: str, found: Any, expected: str | None) -> None:
    """Refuse the weights of one network for the class of another.

    A name that is none is left to the core, which lists those that are.
    """
    if expected is None or found == expected or found not in _core.architectures():
        return
    from ..family import CLASSES

    raise WeightsError(
        f"{where}: {CLASSES[expected].__name__} takes the weights of {expected}, and these are of "
        f"{found}: use {CLASSES[found].__name__} or resnet_rs.load"
    )


def _with_overrides(config: Mapping[str, Any], overrides: Mapping[str, Any]) -> str:
    """A config with overrides, as the core takes it."""
    spec = overrides.get("preprocessing")
    if isinstance(spec, str):
        architecture = overrides.get("architecture", config.get("architecture"))
        overrides = {**overrides, "preprocessing": preset(spec, architecture)}
    return to_json(merged(config, overrides))


def _no_config_message(path: str, config: Config) -> str:
    spec = config.preprocessing
    labels = "ImageNet's labels" if config.num_classes == 1000 else "the class indices as labels"
    return (
        f"there is no config.json beside {path}: assuming torchvision's IMAGENET1K_V2 "
        f"preprocessing (resize {spec.resize}, crop {spec.crop}, {spec.interpolation}) and "
        f"{labels}. To state your own, pass preprocessing= and labels=, or write a config.json "
        'with "preprocessing" and "labels" and pass the directory'
    )

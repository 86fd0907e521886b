"""Load a network: from the caller's options to a `Loaded` that runs.

Three ways lead there:

- a resnet_rs weights directory, or a `.safetensors` file with a `config.json` beside it or with
  torchvision's tensor names: the core reads it by itself;
- the bytes of a `.safetensors` file: the core is handed the tensors;
- any other file: `formats` reads it, and the core is handed the tensors.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from .._core import Network, WeightsError, architectures, safetensors_index
from ..images.spec import preset, usual_preset
from ..options import Options
from .config import CONFIG_OPTIONS, Config, merged, overrides_of, usual_activation
from .files import Stamp, config_beside, files_of, stamp_of
from .loaded import Loaded
from .small_files import read_text, require_regular

if TYPE_CHECKING:
    from .formats import Checkpoint

# Fields of the config.json of timm and Hugging Face that a resnet_rs config.json does not have.
_FIELDS_OF_OTHERS = frozenset({"model_type", "architectures", "pretrained_cfg", "input_size"})
_OWN_NAMES = ("conv1.", "bn1.", "layer", "fc.weight", "fc.bias")
# Tensors from which torch computes a weight end in something else, such as `weight_orig`.
_OWN_PARTS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
# Dtypes that `formats` converts, and the core does not read.
_CONVERTED = frozenset({"BF16", "F64"})


def load(options: Options, architecture: str | None = None) -> Loaded:
    """Read the weights and pack them.

    Args:
        options: the weights, and how to load and run them.
        architecture: the only architecture that is accepted, as a class such as `ResNet50` does;
            None accepts any.

    Raises:
        FileNotFoundError: there is no such file or directory.
        WeightsError: the weights or the config are malformed, or of another architecture.
        UnsupportedIsaError: this machine lacks the tier.
        ValueError: nothing states the architecture.
    """
    overrides = overrides_of(options)
    _check_architecture("architecture", overrides.get("architecture"), architecture)
    # The class's architecture counts as stated, for weights that do not state theirs.
    stated = overrides if architecture is None else {"architecture": architecture, **overrides}
    path = options.path
    if path is None:
        return _from_bytes(options, stated, architecture)
    stamp = stamp_of(path)
    if options.names is None and options.key is None and _may_be_ours(path):
        weights = os.path.join(path, "model.safetensors") if os.path.isdir(path) else path
        if os.path.exists(weights):
            require_regular(weights)
        config_path = config_beside(path)
        config = _own_config(config_path)
        if config is not None:
            _check_architecture(
                f"{config_path}: architecture", config.get("architecture"), architecture
            )
            # An empty config is a malformed one: the core reads it again and names the fault.
            text = _with_overrides(config, overrides) if config and overrides else None
            loaded = _by_the_core(options, path, stamp, text)
            return _with_activation(loaded, {**config, **overrides})
        if not os.path.exists(config_path):
            if os.path.isdir(path):
                if _lacks_only_config(path):
                    return _by_the_core(options, path, stamp, None)  # its error names the file
            elif _is_bare(path, stated):
                text = _with_overrides({"format_version": 1}, stated)
                loaded = _by_the_core(options, path, stamp, text)
                if "preprocessing" not in stated:
                    loaded.add_remarks(_no_config_message(loaded.config))
                return _with_activation(loaded, stated)
    return _by_formats(options, path, stamp, stated, architecture)


_WORDS = (("resnet", "ResNet"), ("resnext", "ResNeXt"), ("wide_", "Wide"), ("cifar_", "Cifar"))


def class_name(architecture: str) -> str:
    """The name of an architecture's class: `ResNet50` for `resnet50`."""
    for lower, name in _WORDS:
        architecture = architecture.replace(lower, name)
    return architecture


def _by_the_core(options: Options, path: str, stamp: Stamp, config: str | None) -> Loaded:
    """Let the core read the file; `config` replaces its config.json."""
    arguments = options.for_core()
    if config is not None:
        arguments["config"] = config
    with _explained(path):
        network = Network(path, **arguments)
    file = network.weights_path
    return Loaded(options, network, lambda: _tensors_of(file), stamp=stamp)


def _with_activation(loaded: Loaded, stated: Mapping[str, Any]) -> Loaded:
    """Remark on an activation that the core filled in, if it may be wrong."""
    if stated.get("activation") is None:
        loaded.add_remarks(*usual_activation(loaded.config.num_classes)[1])
    return loaded


def _from_bytes(options: Options, stated: Mapping[str, Any], architecture: str | None) -> Loaded:
    """Hand the core the tensors of a `.safetensors` file in memory."""
    from .formats import RawCheckpoint
    from .formats.complete import complete
    from .formats.names import read_rules
    from .formats.overrides import Overrides
    from .formats.safetensors_file import is_quantized
    from .safetensors_bytes import tensors_in

    data = options.weights
    assert isinstance(data, bytes)
    tensors = tensors_in(data)
    if is_quantized(tensors):
        return _from_quantized(options, tensors, stated, architecture)
    overrides = _overrides(options, stated)
    if overrides["names"] is not None:
        overrides["names"] = read_rules(overrides["names"])

    def read() -> Checkpoint:
        raw = RawCheckpoint(tensors_in(data))
        return complete(raw, options.origin, Overrides(**overrides))

    return _from_checkpoint(options, read, stated, architecture)


def _from_quantized(
    options: Options,
    tensors: dict[str, NDArray[Any]],
    stated: Mapping[str, Any],
    architecture: str | None,
) -> Loaded:
    """Hand the core the tensors of a quantised file in memory."""
    origin = options.origin
    if "quantization" not in stated:
        raise WeightsError(
            f"{origin}: these are quantised weights, which depend on their config.json: pass its "
            "fields as config="
        )
    _check_architecture(f"{origin}: architecture", stated.get("architecture"), architecture)
    network = Network.from_tensors(tensors, _to_json(stated), origin=origin, **options.for_core())
    return Loaded(options, network, lambda: tensors)


def _by_formats(
    options: Options, path: str, stamp: Stamp, stated: Mapping[str, Any], architecture: str | None
) -> Loaded:
    """Read a format of another project."""
    from . import formats

    overrides = _overrides(options, stated)

    def read() -> Checkpoint:
        return formats.read(path, **overrides)

    return _from_checkpoint(options, read, stated, architecture, stamp)


def _from_checkpoint(
    options: Options,
    read: Callable[[], Checkpoint],
    stated: Mapping[str, Any],
    architecture: str | None,
    stamp: Stamp = (),
) -> Loaded:
    """Hand the core the result of `read`, which itself complains of what is missing."""
    checkpoint = read()
    further = {name: value for name, value in stated.items() if name not in CONFIG_OPTIONS}
    config = {**checkpoint.config, **further}
    origin = options.origin
    _check_architecture(f"{origin}: architecture", checkpoint.config["architecture"], architecture)
    network = Network.from_tensors(
        checkpoint.tensors, _to_json(config), origin=origin, **options.for_core()
    )
    loaded = Loaded(options, network, lambda: read().tensors, stamp=stamp)
    loaded.add_remarks(*checkpoint.remarks)
    # A file may state the size of its images and nothing else of their preprocessing.
    known = config.get("preprocessing", {}).keys()
    if "preprocessing" not in stated and not {"mean", "std"} <= known:
        sized = " and the size of the file's input" if known else ""
        loaded.add_remarks(_no_config_message(loaded.config, sized))
    return loaded


def _overrides(options: Options, stated: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `formats.read` beside the path."""
    overrides = {name: stated[name] for name in CONFIG_OPTIONS if name in stated}
    return {**overrides, "names": options.names, "key": options.key}


def _may_be_ours(path: str) -> bool:
    return os.path.isdir(path) or path.endswith(".safetensors")


def _own_config(path: str) -> dict[str, Any] | None:
    """Read the fields of a resnet_rs config.json; a malformed one has none.

    Returns:
        None if there is no file, or if it is a config.json of timm or Hugging Face.

    Raises:
        WeightsError: it is no regular file, too large for a config, or not UTF-8.
    """
    import json

    try:
        content = read_text(path)
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
    """Tell whether a directory holds `model.safetensors`, or no weights at all."""
    return os.path.exists(os.path.join(path, "model.safetensors")) or not files_of(path)


def _is_bare(path: str, stated: Mapping[str, Any]) -> bool:
    """Tell whether the core can read this `.safetensors` file by itself.

    Raises:
        WeightsError: it is a malformed one.
    """
    from .formats.safetensors_file import is_quantized

    with _explained(path):
        index = safetensors_index(path)
    if is_quantized(index):
        raise WeightsError(
            f"{path}: these are quantised weights, which depend on their config.json, and there is "
            "none beside it"
        )
    kinds = {entry[0] for entry in index.values()}
    # The core knows torchvision's names alone, and no other name of the shortcut or the last layer.
    usual = all(
        name.startswith(_OWN_NAMES) and name.endswith(_OWN_PARTS) and ".shortcut." not in name
        for name in index
    )
    has_bias = "fc.weight" not in index or "fc.bias" in index
    known = usual and has_bias and "layer1.0.conv1.weight" in index and not kinds & _CONVERTED
    # A file without tensors goes to the core, which refuses it.
    is_read = known or not index
    return is_read and _is_told({name: tuple(e[1]) for name, e in index.items()}, stated)


def _is_told(shapes: Mapping[str, tuple[int, ...]], stated: Mapping[str, Any]) -> bool:
    """Tell whether the caller states all that the core needs to know beside the tensors."""
    from .formats.questions import is_open

    architecture, variant = stated.get("architecture"), stated.get("variant") or {}
    if architecture not in architectures() or not isinstance(variant, Mapping):
        return "architecture" in stated  # the core refuses it
    return not is_open(shapes, architecture, variant)


@contextmanager
def _explained(path: str) -> Iterator[None]:
    """Say what a file is that the core cannot read, if it is a well-known other one."""
    try:
        yield
    except WeightsError:
        from .strangers import meaning

        file = os.path.join(path, "model.safetensors") if os.path.isdir(path) else path
        if words := meaning(file):
            raise WeightsError(f"{file}: this is {words}") from None
        raise


def _tensors_of(path: str) -> dict[str, NDArray[Any]]:
    from pathlib import Path

    from .formats.safetensors_file import read_safetensors

    return read_safetensors(Path(path), quantized=True).tensors


def _check_architecture(where: str, found: Any, expected: str | None) -> None:
    """Refuse the weights of one network for the class of another.

    An unknown name passes: the core refuses it, and lists the known ones.
    """
    if expected is None or found == expected or found not in architectures():
        return
    raise WeightsError(
        f"{where}: {class_name(expected)} takes the weights of {expected}, and these are of "
        f"{found}: use {class_name(found)} or resnet_rs.load"
    )


def _with_overrides(config: Mapping[str, Any], overrides: Mapping[str, Any]) -> str:
    """Write a config with overrides as JSON, for the core."""
    spec = overrides.get("preprocessing")
    if isinstance(spec, str):
        architecture = overrides.get("architecture", config.get("architecture"))
        overrides = {**overrides, "preprocessing": preset(spec, architecture)}
    return _to_json(merged(config, overrides))


def _to_json(value: Mapping[str, Any]) -> str:
    import json

    return json.dumps(value)


def _no_config_message(config: Config, sized: str = "") -> str:
    spec = config.preprocessing
    labels = "ImageNet's labels" if config.num_classes == 1000 else "the class indices as labels"
    preset_name = usual_preset(config.architecture)
    if preset_name == "IMAGENET1K_V2":
        preset_name = "torchvision's IMAGENET1K_V2"
        values = f"resize {spec.resize}, crop {spec.crop}, {spec.interpolation}"
    else:
        values = f"crop {spec.crop}, mean {list(spec.mean)}, std {list(spec.std)}"
    return (
        f"there is no config.json beside it: assuming {preset_name} preprocessing{sized} "
        f"({values}) and {labels}. To state your own, pass preprocessing= and labels=, or write "
        'a config.json with "preprocessing" and "labels" and pass the directory'
    )

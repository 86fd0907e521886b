"""timm's `config.json`: the architecture and `pretrained_cfg`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..._core import WeightsError
from ..remarks import Note
from ..timm_relatives import RELATIVES
from .checkpoint import RawCheckpoint
from .files import Fields
from .hf_directory import activation, placeholders

# Arguments of a model that do not change a forward pass here.
_HARMLESS = frozenset({"num_classes", "in_chans", "img_size", "zero_init_last", "drop_rate"})

# A config's fields about images; without any of them it states no preprocessing.
_STATED = ("input_size", "crop_pct", "crop_mode", "interpolation", "mean", "std")

_DEFAULT_CROP_PCT = 0.875
_DEFAULT_SIZE = [3, 224, 224]
_FILTERS = frozenset({"nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"})


def describe_timm(fields: Fields) -> RawCheckpoint:
    """Read the config of a directory that timm's `save_for_hf` or `push_to_hf_hub` wrote.

    The images are prepared as timm's own pipeline does by default, at the size of the training. If
    the config states another size for testing, a remark says how to ask for it.

    Raises:
        WeightsError: a field is malformed, or the network or its preprocessing is not supported.
    """
    name = fields.text("architecture")
    if not name:
        raise fields.error("architecture", "a network's name")
    architecture, variant = RELATIVES.get(name, (name, {}))
    # The first configs had no pretrained_cfg: everything was on one level.
    weights = fields.inner("pretrained_cfg") if "pretrained_cfg" in fields else fields
    size = weights.integers("input_size", _DEFAULT_SIZE)
    arguments = fields.inner("model_args")
    _check_arguments(fields, arguments)
    in_channels = arguments.integer("in_chans", size[0])
    if in_channels != 3:
        variant = {**variant, "in_channels": in_channels}
    config: dict[str, Any] = {"architecture": architecture, "variant": variant}
    classes = fields.integer("num_classes", weights.integer("num_classes", -1))
    if classes >= 0:
        config["num_classes"] = classes
    # transformers' wrapper of timm's models writes its own fields into the same file.
    if function := activation(fields):
        config["activation"] = function
    if labels := _labels(fields, weights, classes):
        config["labels"] = labels
    remarks = []
    if any(field in weights for field in _STATED):
        config["preprocessing"], remark = _preprocessing(weights)
        remarks.append(remark)
    return RawCheckpoint({}, config, tuple(remarks))


def describe_model(settings: Mapping[Any, Any], origin: str) -> tuple[dict[str, Any], list[str]]:
    """Read the preprocessing that a pickled model's `pretrained_cfg` states, with a remark on it.

    Args:
        settings: the `pretrained_cfg`; empty if the model has none.
        origin: the file, for messages.

    Raises:
        WeightsError: a value is not one that timm writes, or not supported.
    """
    values = {k: list(v) if isinstance(v, tuple) else v for k, v in settings.items()}
    weights = Fields(f"{origin}: pretrained_cfg", values)
    if not any(field in weights for field in _STATED):
        return {}, []
    spec, remark = _preprocessing(weights)
    return {"preprocessing": spec}, [remark]


def _preprocessing(weights: Fields) -> tuple[dict[str, Any], str]:
    """The preprocessing that timm uses by default, and a remark on it."""
    trained, tested = preprocessing(weights), preprocessing(weights, test=True)
    if tested == trained:
        return trained, Note(f"preprocessing as timm's config says: {_sizes(trained)}")
    return trained, Note(
        f"preprocessing as timm's by default, at the size of the training: {_sizes(trained)}; "
        f"the config also states one for testing: {_sizes(tested)}. To use that, pass "
        f'preprocessing={{"resize": {tested["resize"]}, "crop": {tested["crop"]}}}'
    )


def preprocessing(fields: Fields, *, test: bool = False) -> dict[str, Any]:
    """Express timm's `create_transform` of a `pretrained_cfg` as a config's `preprocessing`.

    Args:
        fields: the `pretrained_cfg`.
        test: take the size and crop for testing, if they are stated.

    Raises:
        WeightsError: a way of cropping, or a filter, that is not supported.
    """
    size = fields.integers("input_size", _DEFAULT_SIZE)
    fraction = fields.fraction("crop_pct", _DEFAULT_CROP_PCT)
    if test:
        size = fields.integers("test_input_size", size)
        fraction = fields.fraction("test_crop_pct", fraction)
    if len(size) != 3 or min(size) < 1:
        raise fields.error("input_size", "[channels, height, width]")
    filter_name = fields.text("interpolation", "bicubic")
    if filter_name not in _FILTERS:
        raise fields.error("interpolation", f"one of {', '.join(sorted(_FILTERS))}")
    _, height, width = size
    scaled = [math.floor(height / fraction), math.floor(width / fraction)]
    mode = fields.text("crop_mode", "center")
    if mode not in ("center", "squash") or (mode == "center" and height != width):
        raise fields.error("crop_mode", '"center" with a square input_size, or "squash"')
    return {
        "resize": scaled if mode == "squash" else scaled[0],
        "crop": height if height == width else [height, width],
        "interpolation": filter_name,
        "mean": fields.numbers("mean", [0.485, 0.456, 0.406]),
        "std": fields.numbers("std", [0.229, 0.224, 0.225]),
    }


def _check_arguments(fields: Fields, arguments: Fields) -> None:
    """Refuse a network that was built with arguments of its own."""
    pools = {fields.text("global_pool", "avg"), arguments.text("global_pool", "avg")}
    if pools != {"avg"}:
        raise fields.error("global_pool", '"avg"')
    unknown = sorted(set(arguments.values) - _HARMLESS - {"global_pool"})
    if unknown:
        raise WeightsError(
            f"{fields.origin}: model_args: {', '.join(unknown)} cannot be taken into account: "
            "pass architecture= and variant= with the tensor file alone"
        )


def _labels(fields: Fields, weights: Fields, classes: int) -> list[str] | None:
    """The classes' names: their descriptions if there are any, else timm's own names."""
    source = fields if "label_names" in fields else weights
    names = source.values.get("label_names")
    if names is None:
        return None
    if isinstance(names, dict):
        names = [names.get(str(index)) for index in range(len(names))]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise source.error("label_names", "a list of names")
    if classes not in (-1, len(names)) or names == placeholders(len(names)):
        return None
    described = (fields if "label_descriptions" in fields else weights).inner("label_descriptions")
    return [described.text(name, name) for name in names]


def _sizes(spec: dict[str, Any]) -> str:
    return f"resize {spec['resize']}, crop {spec['crop']}, {spec['interpolation']}"

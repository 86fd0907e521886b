"""Hugging Face transformers' `config.json` and `preprocessor_config.json` of a ResNet."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..._core import WeightsError
from ..remarks import Note
from .checkpoint import RawCheckpoint
from .files import Fields, read_object

_PREPROCESSOR = "preprocessor_config.json"

_DEPTHS = [3, 4, 6, 3]
_HIDDEN_SIZES = [256, 512, 1024, 2048]
_EMBEDDING_SIZE = 64
_EXPANSION = 4

# The output function of transformers' own pipeline. Of a single-label model with one label it is a
# sigmoid all the same, so that problem says no more than the number of labels does.
_ACTIVATIONS = {
    "single_label_classification": None,
    "multi_label_classification": "sigmoid",
    "regression": "none",
}

# Pillow's constants, which `resample` is one of.
_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}

# Below this size ConvNext's processor resizes to more and crops; from it up it squeezes.
_CONVNEXT_SQUEEZES_FROM = 384


def describe_transformers(fields: Fields, directory: Path) -> RawCheckpoint:
    """Read the configs of a directory that transformers' `save_pretrained` wrote.

    Raises:
        WeightsError: the model is not a ResNet, or its kind or preprocessing is not supported.
    """
    model = fields.text("model_type")
    if model != "resnet":
        raise WeightsError(
            f'{fields.origin}: model_type: expected "resnet" or "timm_wrapper", found "{model}"'
        )
    if fields.text("hidden_act", "relu") != "relu":
        raise fields.error("hidden_act", '"relu"')
    if fields.flag("downsample_in_first_stage", False):
        raise fields.error("downsample_in_first_stage", "false")
    block = fields.text("layer_type", "bottleneck")
    if block not in ("basic", "bottleneck"):
        raise fields.error("layer_type", '"basic" or "bottleneck"')
    depths = fields.integers("depths", _DEPTHS)
    channels = fields.integers("hidden_sizes", _HIDDEN_SIZES)
    if len(depths) != len(channels):
        raise fields.error("hidden_sizes", f"as many as depths, {len(depths)}")
    if block == "bottleneck" and any(size % _EXPANSION for size in channels):
        raise fields.error("hidden_sizes", f"multiples of {_EXPANSION}")
    expansion = _EXPANSION if block == "bottleneck" else 1
    variant: dict[str, Any] = {
        "block": block,
        "blocks": depths,
        "widths": [size // expansion for size in channels],
        "stem_widths": [fields.integer("embedding_size", _EMBEDDING_SIZE)],
        "in_channels": fields.integer("num_channels", 3),
    }
    if block == "bottleneck" and fields.flag("downsample_in_bottleneck", False):
        variant["stride_on"] = "conv1"
    config: dict[str, Any] = {
        "architecture": _architecture(block, depths),
        "variant": variant,
    }
    if function := activation(fields):
        config["activation"] = function
    labels = _labels(fields)
    if labels is not None:
        config["labels"] = labels
    remarks: tuple[str, ...] = ()
    preprocessor = directory / _PREPROCESSOR
    if preprocessor.is_file():
        config["preprocessing"] = preprocessing(read_object(preprocessor))
        remarks = (Note(f"preprocessing as {_PREPROCESSOR} says"),)
    return RawCheckpoint({}, config, remarks)


def describe_model(settings: Mapping[Any, Any], origin: str) -> dict[str, Any]:
    """Read what a model's `config` says beyond its layers: the output function and the labels.

    Args:
        settings: the attributes of the config of a pickled model.
        origin: the file, for messages.

    Raises:
        WeightsError: a value is not one that transformers writes.
    """
    names = settings.get("id2label")
    if isinstance(names, Mapping):
        names = {str(index): name for index, name in names.items()}
    problem = settings.get("problem_type")
    fields = Fields(f"{origin}: config", {"problem_type": problem, "id2label": names})
    found = {"activation": activation(fields), "labels": _labels(fields)}
    return {name: value for name, value in found.items() if value is not None}


def activation(fields: Fields) -> str | None:
    """The output function that a config's `problem_type` asks for; None for the usual one.

    Raises:
        WeightsError: there is no such problem.
    """
    problem = fields.text("problem_type", "single_label_classification")
    if problem not in _ACTIVATIONS:
        raise fields.error("problem_type", f"one of {', '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[problem]


def preprocessing(fields: Fields) -> dict[str, Any]:
    """An image processor's settings as a config's `preprocessing`.

    Raises:
        WeightsError: it does something to images that is not supported.
    """
    kind = fields.text("image_processor_type", fields.text("feature_extractor_type"))
    kind = kind.removesuffix("Fast").removesuffix("Pil")
    family = kind.removesuffix("ImageProcessor").removesuffix("FeatureExtractor")
    rescale = fields.number("rescale_factor", 1 / 255)
    if not fields.flag("do_rescale", True) or not math.isclose(rescale, 1 / 255, rel_tol=1e-3):
        raise fields.error("rescale_factor", "do_rescale with 1/255")
    if fields.flag("do_pad", False):
        raise fields.error("do_pad", "false")
    geometry = _geometry(fields, family)
    for name in ("resample", "image_mean", "image_std"):
        # Their defaults have changed from version to version.
        if name not in fields:
            raise fields.error(name, "a value, which transformers always writes")
    filter_number = fields.integer("resample", -1)
    if filter_number not in _FILTERS:
        raise fields.error("resample", f"one of {', '.join(map(str, _FILTERS))}")
    mean, std = fields.numbers("image_mean", []), fields.numbers("image_std", [])
    normalized = fields.flag("do_normalize", True)
    return {
        **geometry,
        "interpolation": _FILTERS[filter_number],
        "mean": mean if normalized else [0.0] * len(mean),
        "std": std if normalized else [1.0] * len(std),
    }


def _geometry(fields: Fields, family: str) -> dict[str, Any]:
    """`resize` and `crop`, which each family of processors derives in its own way."""
    size = fields.values.get("size")
    short, exact = _sides(fields, "size")
    if not fields.flag("do_resize", True):
        short = exact = None
    elif size is None:
        raise fields.error("size", "a size to resize to")
    if family == "ConvNext":
        if exact is not None:
            raise fields.error("size", '{"shortest_edge": ...}, which this processor needs')
        if short is None:
            return {"resize": None, "crop": None}
        if short >= _CONVNEXT_SQUEEZES_FROM:
            return {"resize": [short, short], "crop": None}
        return {"resize": int(short / fields.fraction("crop_pct", 224 / 256)), "crop": short}
    if family == "ViT":
        return {"resize": exact or (None if short is None else [short, short]), "crop": None}
    if family in ("Bit", "CLIP"):
        crop = _sides(fields, "crop_size")
        cropped = fields.flag("do_center_crop", True)
        if cropped and crop == (None, None):
            raise fields.error("crop_size", "a size to crop to, which transformers always writes")
        return {
            "resize": short if short is not None else exact,
            "crop": (crop[1] or crop[0]) if cropped else None,
        }
    raise WeightsError(
        f"{fields.origin}: image_processor_type: expected that of ConvNext, ViT, Bit or CLIP, "
        f"found {family!r}: pass preprocessing= and remove the file"
    )


def _sides(fields: Fields, name: str) -> tuple[int | None, list[int] | None]:
    """A size as the short side or as `[height, width]`: one of them, or neither."""
    value = fields.values.get(name)
    if value is None:
        return None, None
    if isinstance(value, int):
        return _side(fields, name), None
    inner = fields.inner(name)
    if "shortest_edge" in inner:
        return _side(inner, "shortest_edge"), None
    return None, [_side(inner, "height"), _side(inner, "width")]


def _side(fields: Fields, name: str) -> int:
    side = fields.integer(name, 0)
    if side < 1:
        raise fields.error(name, "a number of pixels")
    return side


def _architecture(block: str, depths: list[int]) -> str:
    """The named network that the variant starts from; its blocks and widths are all stated."""
    if block == "basic":
        return "resnet34" if depths == [3, 4, 6, 3] else "resnet18"
    if depths == [3, 4, 23, 3]:
        return "resnet101"
    return "resnet152" if depths == [3, 8, 36, 3] else "resnet50"


def _labels(fields: Fields) -> list[str] | None:
    """The classes' names; None if they are only the placeholders that transformers writes."""
    names = fields.inner("id2label")
    if not names.values:
        return None
    labels = [names.text(str(index)) for index in range(len(names.values))]
    if labels == placeholders(len(labels)):
        return None
    if len(set(names.values)) != len(labels) or "" in labels:
        raise fields.error("id2label", "a name for each class from 0 up")
    return labels


def placeholders(count: int) -> list[str]:
    """The names that transformers gives to classes without names."""
    return [f"LABEL_{index}" for index in range(count)]

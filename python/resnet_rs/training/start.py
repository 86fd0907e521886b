"""The beginning of a training: a network with random weights, or one that exists."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core, arguments
from ..images.spec import Preprocessing
from ..options import Options
from ..reference.initial import initial_tensors
from ..weights.config import Config, merged
from ..weights.load import load
from ..weights.loaded import Loaded

Tensors = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Start:
    """A network before its first step.

    Attributes:
        config: the fields of its config.json.
        tensors: torchvision's names to float32 arrays, convolutions OIHW.
        origin: its name in messages.
        fresh: True for random weights.
        remarks: what was assumed or changed, as sentences.
    """

    config: dict[str, Any]
    tensors: Tensors
    origin: str
    fresh: bool
    remarks: tuple[str, ...] = ()

    @property
    def config_text(self) -> str:
        """config.json as the core takes it."""
        return json.dumps(self.config)


def start(
    weights: Any,
    *,
    num_classes: int | None,
    labels: Sequence[str] | None,
    seed: int,
    zero_last: bool,
    preprocessing: Preprocessing | None,
    variant: Mapping[str, Any] | None,
    options: Mapping[str, Any],
) -> Start:
    """Make the network that a training begins with.

    Args:
        weights: the name of an architecture, for random weights; or weights as `Options` takes
            them, or a loaded model.
        num_classes: the number of logits; None for as many as `labels`, else the weights' own.
        labels: the names of the classes; None for the weights' own.
        seed: the seed of random weights.
        zero_last: begin with the last scale of each block at 0, with an architecture.
        preprocessing: of the images; None for the weights' own.
        variant: fields of config.json's `variant`, for random weights.
        options: further arguments of `Options`, for weights that exist.

    Raises:
        TypeError, ValueError: an argument of another kind or out of range, or nothing states the
            number of classes.
        FileNotFoundError, WeightsError: as for `resnet_rs.load`.
    """
    count = _count(num_classes, labels)
    if is_architecture(weights):
        if options:
            raise ValueError(
                f"{', '.join(sorted(options))}: expected with weights only; {weights!r} is an "
                "architecture, whose weights are drawn"
            )
        if count is None:
            raise ValueError(
                f"num_classes: expected the number of classes to learn; {weights!r} is an "
                "architecture, and there are no weights that state it"
            )
        return _drawn(weights, count, labels, seed, zero_last, preprocessing, variant or {})
    if variant:
        raise ValueError("variant: expected with an architecture only; weights state their own")
    if zero_last:
        raise ValueError(
            "zero_last: expected with an architecture only, whose weights are random; weights that "
            "exist keep their scales"
        )
    loaded = open_weights(weights, options)
    return _existing(loaded, count, labels, seed, preprocessing)


def is_architecture(weights: Any) -> bool:
    """True for the name of a network of the family."""
    return isinstance(weights, str) and weights in _core.architectures()


def has_bottlenecks(architecture: str) -> bool:
    """True if the blocks of a network of the family are bottlenecks, False if they are basic."""
    config = {"format_version": 1, "architecture": architecture, "num_classes": 1}
    names = {operation["name"] for operation in _core.operations(json.dumps(config), 224, 224)}
    return "layer1.0.conv3" in names


def open_weights(weights: Any, options: Mapping[str, Any] | None = None) -> Loaded:
    """Load weights, or take those of a loaded model.

    Raises:
        ValueError: there are options, and the model is loaded already.
        FileNotFoundError, WeightsError, OSError: as for `resnet_rs.load`.
    """
    loaded = getattr(weights, "loaded", None)
    if not isinstance(loaded, Loaded):
        return _loaded(weights, options or {})
    if options:
        raise ValueError(
            f"{', '.join(sorted(options))}: expected with a path; this is a loaded model already"
        )
    return loaded


def _count(num_classes: int | None, labels: Sequence[str] | None) -> int | None:
    if labels is not None:
        labels = arguments.texts("labels", labels)
    if num_classes is None:
        return None if labels is None else len(labels)
    count = arguments.count("num_classes", num_classes)
    if labels is not None and len(labels) != count:
        raise ValueError(f"labels: expected {count}, the number of classes; found {len(labels)}")
    return count


def _loaded(weights: Any, options: Mapping[str, Any]) -> Loaded:
    try:
        return load(Options(weights, **options))
    except FileNotFoundError as error:
        if not isinstance(weights, (str, os.PathLike)) or os.sep in os.fspath(weights):
            raise
        names = ", ".join(_core.architectures())
        text = f"no such file or directory, and no architecture of that name (there are {names})"
        raise FileNotFoundError(2, text, os.fspath(weights)) from error


def _drawn(
    architecture: str,
    count: int,
    labels: Sequence[str] | None,
    seed: int,
    zero_last: bool,
    preprocessing: Preprocessing | None,
    variant: Mapping[str, Any],
) -> Start:
    config: dict[str, Any] = {
        "format_version": 1,
        "architecture": architecture,
        "variant": dict(variant),
        "num_classes": count,
        "labels": None if labels is None else list(labels),
    }
    if preprocessing is not None:
        config["preprocessing"] = preprocessing.as_dict()
    elif variant.get("in_channels", 3) != 3:
        channels = variant["in_channels"]
        config["preprocessing"] = {"mean": [0.5] * channels, "std": [0.5] * channels}
    height, width = 224, 224
    if preprocessing is not None:
        height, width = preprocessing.input_size
    operations = _core.operations(json.dumps(config), height, width)
    random = np.random.default_rng(np.random.SeedSequence([seed, 0x1217]))
    drawn = initial_tensors(operations, random, zero_last=zero_last)
    tensors = {name: _f32(array) for name, array in drawn.items()}
    return Start(config, tensors, architecture, fresh=True)


def _existing(
    loaded: Loaded,
    count: int | None,
    labels: Sequence[str] | None,
    seed: int,
    preprocessing: Preprocessing | None,
) -> Start:
    loaded.require_f32("training")
    tensors = {
        name: _f32(array)
        for name, array in loaded.tensors().items()
        if not name.endswith("num_batches_tracked")
    }
    config: Config = loaded.config
    if preprocessing is not None:
        config = replace(config, preprocessing=preprocessing)
    origin = loaded.options.origin
    fields = config.as_dict()
    remarks: tuple[str, ...] = ()
    if count is None and config.num_classes == 0:
        raise ValueError(
            f"num_classes: expected the number of classes to learn; {origin} has no last layer"
        )
    own = config.labels
    other_count = count is not None and count != config.num_classes
    if count is not None and (other_count or (labels and has_new_head(config, labels))):
        features = loaded.network.embedding_size
        random = np.random.default_rng(np.random.SeedSequence([seed, 0xFC]))
        bound = features**-0.5
        tensors["fc.weight"] = _f32(random.uniform(-bound, bound, (count, features)))
        tensors["fc.bias"] = _f32(random.uniform(-bound, bound, count))
        fields = merged(fields, {"num_classes": count, "activation": "softmax"})
        before = f"{config.num_classes} classes"
        if config.num_classes == 0:
            before = "no last layer"
        elif count == config.num_classes and own is not None:
            before = f"others: {', '.join(own[:5])}{', ...' if len(own) > 5 else ''}"
        remarks = (
            f"the last layer is new, with random weights for {count} classes: the weights have "
            f"{before}",
        )
    elif labels is not None and own is not None and tuple(labels) != own:
        # The same classes in another order: each keeps its row.
        rows = [own.index(name) for name in labels]
        tensors["fc.weight"] = _f32(tensors["fc.weight"][rows])
        tensors["fc.bias"] = _f32(tensors["fc.bias"][rows])
        remarks = ("the last layer's rows are in the order of the classes to learn",)
    elif labels is not None and own is None:
        remarks = (
            "the weights state no names of classes: the last layer's rows are taken to be "
            f"{', '.join(labels[:5])}{', ...' if len(labels) > 5 else ''}, in this order",
        )
    if labels is not None:
        fields["labels"] = list(labels)
    if fields["activation"] != "softmax":
        raise ValueError(
            f"{origin}: expected a network that names one class of several (activation softmax); "
            f"found activation {fields['activation']!r}, which training does not have. Pass "
            "num_classes for a new last layer"
        )
    return Start(fields, tensors, origin, fresh=False, remarks=remarks)


def has_new_head(config: Config, labels: Sequence[str]) -> bool:
    """True if a network's last layer is of no use for these classes."""
    own = config.labels
    if len(labels) != config.num_classes:
        return True
    if own is None or tuple(labels) == own:
        return False
    # Of a name that comes twice nobody knows which row is which.
    return set(labels) != set(own) or len(set(own)) < len(own)


def _f32(array: NDArray[Any]) -> NDArray[np.float32]:
    return np.ascontiguousarray(array, np.float32)

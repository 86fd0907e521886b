"""What a caller asks for, checked and in a form that can be hashed and pickled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .. import arguments
from ..images.spec import Preprocessing, preset
from .config import merged

BACKENDS = ("fast", "reference")


@dataclass(frozen=True)
class Request:
    """What a caller asked for: hashable, and small enough to be pickled.

    Attributes:
        weights: an absolute path, or the bytes of a `.safetensors` file.
        overrides: a JSON object of fields of config.json that are laid over the weights' own.
        names: a JSON object from the file's tensor names to torchvision's, in the caller's order,
            or a JSON string with the path of such a file; None for names that are known.
        key: which network of a file that holds several; None for the usual one.
        isa: the tier, None for the machine's choice.
        threads: how many, None for the machine's choice.
        winograd: whether Winograd's algorithm may be used.
        backend: one of `BACKENDS`.
        pretrained: the name that the weights were fetched by, and for which architecture.
    """

    weights: str | bytes
    overrides: str
    names: str | None
    key: str | None
    isa: str | None
    threads: int | None
    winograd: bool
    backend: str
    pretrained: tuple[str, str | None] | None = None

    @property
    def origin(self) -> str:
        """What messages call the weights."""
        from .safetensors_bytes import ORIGIN

        return self.weights if isinstance(self.weights, str) else ORIGIN


def request(
    weights: Any,
    *,
    architecture: Any = None,
    variant: Any = None,
    num_classes: Any = None,
    labels: Any = None,
    preprocessing: Any = None,
    names: Any = None,
    key: Any = None,
    config: Any = None,
    isa: Any = None,
    threads: Any = None,
    winograd: Any = True,
    backend: Any = "fast",
) -> Request:
    """Check a constructor's arguments.

    Raises:
        TypeError, ValueError: an argument of the wrong kind or out of range.
    """
    fields: dict[str, Any] = {} if config is None else arguments.mapping("config", config)
    stated: dict[str, Any] = {}
    if architecture is not None:
        stated["architecture"] = arguments.text("architecture", architecture)
    if variant is not None:
        stated["variant"] = arguments.mapping("variant", variant)
    if num_classes is not None:
        stated["num_classes"] = arguments.count("num_classes", num_classes, least=0)
    if labels is not None:
        stated["labels"] = arguments.texts("labels", labels)
    if preprocessing is not None:
        stated["preprocessing"] = _preprocessing(preprocessing)
    if names is not None:
        is_map = isinstance(names, Mapping)
        names = (arguments.mapping if is_map else arguments.path)("names", names)
    return Request(
        weights=bytes(weights)
        if isinstance(weights, (bytes, bytearray, memoryview))
        else arguments.path("weights", weights),
        overrides=to_json(merged(fields, stated)),
        # Of the rules that match a name the first one counts, so their order is part of them.
        names=None if names is None else to_json(names, sort_keys=False),
        key=None if key is None else arguments.text("key", key),
        isa=isa,
        threads=None if threads is None else arguments.count("threads", threads),
        winograd=arguments.flag("winograd", winograd),
        backend=arguments.choice("backend", backend, BACKENDS),
    )


def to_json(value: Any, *, sort_keys: bool = True) -> str:
    """JSON in which equal values have equal text; numpy's numbers and arrays are welcome.

    Args:
        value: what to write.
        sort_keys: whether dicts that differ in order alone have equal text; otherwise the order
            is kept.

    Raises:
        TypeError: something that JSON does not have.
    """
    import json

    return json.dumps(value, sort_keys=sort_keys, default=_plain)


def json_of(text: str) -> Any:
    """What `to_json` was given."""
    import json

    return json.loads(text)


def _preprocessing(value: Any) -> dict[str, Any] | str:
    """An argument's fields, or the name of a preset, which depends on the architecture."""
    if isinstance(value, Preprocessing):
        return value.as_dict()
    if isinstance(value, str):
        preset(value)
        return value
    return arguments.mapping("preprocessing", value)


def _plain(value: Any) -> Any:
    """Numbers and arrays of numpy as Python's."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"a config holds numbers, str, lists and dicts; got {value!r}")

"""`Options`: every choice that loading a network offers.

This file is the single statement of the options: names, types, defaults, checks, documentation and
command-line flags. The signatures of `ResNet` and `load` come from `Options` by `option_function`
and `option_method`, their documentation by `described`, the flags of the commands by `flags`.

To add an option, add a field. If the core takes it, mark it `core=True`.
"""

from __future__ import annotations

import functools
import inspect
import os
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, Field, dataclass, field, fields
from typing import Any, Concatenate, ParamSpec, TypeVar

from . import arguments
from .images.options import Decoding
from .images.spec import Preprocessing, preset
from .option_fields import Flag, option

_P = ParamSpec("_P")
_R = TypeVar("_R")
_Self = TypeVar("_Self")

BACKENDS = ("fast", "reference")

PRECISIONS = ("f32", "bf16", "int8")
"""The precisions of a network's arithmetic."""

ACTIVATIONS = ("softmax", "sigmoid", "none")
"""The functions that make scores of logits."""

BYTES_ORIGIN = "weights (bytes)"
"""The name of weights in memory in messages, in place of a path."""


def _weights(name: str, value: Any) -> str | bytes:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    return arguments.path(name, value)


def _preprocessing(name: str, value: Any) -> dict[str, Any] | str:
    """Fields, or the name of a preset, whose values depend on the architecture."""
    if isinstance(value, Preprocessing):
        return arguments.json_object(name, value.as_dict())
    if isinstance(value, str):
        preset(value)
        return value
    return arguments.json_object(name, value)


def _names(name: str, value: Any) -> dict[str, Any] | str:
    """Rules in the caller's order, or the path of a file with them."""
    check = arguments.json_object if isinstance(value, Mapping) else arguments.path
    return check(name, value)


def _num_classes(name: str, value: Any) -> int:
    return arguments.count(name, value, least=0)


def _activation(name: str, value: Any) -> str:
    activation: str = arguments.choice(name, value, ACTIVATIONS)
    return activation


def _precision(name: str, value: Any) -> str:
    precision: str = arguments.choice(name, value, PRECISIONS)
    return precision


def _backend(name: str, value: Any) -> str:
    backend: str = arguments.choice(name, value, BACKENDS)
    return backend


@dataclass(frozen=True)
class Options(Decoding):
    """The weights to load, and how to load and run them: checked, picklable, never changed.

    The choices about pictures are those of `Decoding`.

    Raises:
        TypeError, ValueError: an argument of the wrong type or out of range; the message begins
            with its name.
    """

    weights: str | os.PathLike[str] | bytes = field(
        metadata={
            "doc": "a directory with `model.safetensors` and `config.json`, a `.safetensors` "
            "file, or anything else that docs/formats.md lists (torch, Keras, ONNX, Hugging Face, "
            "timm, text); or the bytes of a `.safetensors` file.",
            "check": _weights,
            "flag": Flag(
                "a directory with model.safetensors and config.json, or any other file of weights "
                "that resnet-rs convert takes",
                metavar="DIR",
            ),
        }
    )
    _: KW_ONLY
    architecture: str | None = option(
        None,
        "the network's name, for weights that do not state it.",
        check=arguments.text,
        flag=Flag(
            "the network, such as resnet50, for weights that do not state it", metavar="NAME"
        ),
    )
    variant: Mapping[str, Any] | None = option(
        None,
        "the network's differences from that architecture (docs/weights.md); laid over those that "
        "the weights state.",
        check=arguments.json_object,
    )
    num_classes: int | None = option(
        None,
        "0 leaves the last layer out, so that `logits` gives the pooled features; any other number "
        "must be the weights' own.",
        check=_num_classes,
    )
    labels: Sequence[str] | None = option(
        None,
        "the classes' names by index, in place of the weights' own.",
        check=arguments.texts,
    )
    activation: str | None = option(
        None,
        "the function that makes scores of the logits, in place of the weights' own: `softmax` "
        "(one class of several), `sigmoid` (yes or no for each output), or `none` (plain values, "
        "as in regression).",
        check=_activation,
        flag=Flag(
            "the function that makes scores of the logits (default: the weights' own; none is for "
            "regression)",
            choices=ACTIVATIONS,
        ),
    )
    preprocessing: Preprocessing | Mapping[str, Any] | str | None = option(
        None,
        "a `Preprocessing`, some of its fields in a dict, or the name of a torchvision preset, "
        "such as `IMAGENET1K_V1`; laid over what the weights state.",
        check=_preprocessing,
    )
    names: Mapping[str, str | None] | str | os.PathLike[str] | None = option(
        None,
        "for a file with other tensor names, a map from them to torchvision's: a dict, or the path "
        "of a JSON file with one.",
        check=_names,
    )
    key: str | None = option(
        None,
        "the network to take from a file that holds several, such as `model` and `model_ema`.",
        check=arguments.text,
    )
    config: Mapping[str, Any] | None = option(
        None,
        "fields of a `config.json` for weights that come without one, such as bytes; laid over the "
        "weights' own, and under the arguments above.",
        check=arguments.json_object,
    )
    isa: str | None = option(
        None,
        "the kernels to use, `portable`, `avx2` or `avx512`; by default `RESNET_RS_ISA` if it is "
        "set, else the fastest that this machine has.",
        core=True,
        flag=Flag(
            "the kernels to use (default: RESNET_RS_ISA, else the fastest this machine has)",
            choices=("portable", "avx2", "avx512"),
        ),
    )
    threads: int | None = option(
        None,
        "the number of threads of a forward; by default `RESNET_RS_NUM_THREADS`, "
        "`RAYON_NUM_THREADS` or `OMP_NUM_THREADS`, the first that is set, else the CPUs that this "
        "process may use.",
        check=arguments.count,
        core=True,
        flag=Flag(
            "the number of threads (default: RESNET_RS_NUM_THREADS, RAYON_NUM_THREADS or "
            "OMP_NUM_THREADS, else the CPUs this process may use)",
            metavar="N",
            kind="count",
        ),
    )
    winograd: bool = option(
        True,
        "whether 3x3 convolutions may use Winograd's algorithm, which multiplies less: faster, "
        "with weights that take more memory, and other rounding.",
        check=arguments.flag,
        core=True,
        flag=Flag("compute every convolution directly: slower, with less memory", kind="off"),
    )
    precision: str | None = option(
        None,
        "the arithmetic: `f32`, `bf16` or `int8`. By default weights run in their own, f32 or "
        "int8. f32 weights also run in `bf16`, in half the memory and with about 3 digits; where "
        "the processor would be slower with it, they run in f32, with a warning (see `strict`). "
        "int8 weights run in int8 alone; `ResNet.quantize` makes them.",
        check=_precision,
        core=True,
        flag=Flag(
            "the arithmetic (default: the weights' own; bf16 runs f32 weights in half the memory, "
            "and resnet-rs quantize makes int8 ones)",
            choices=PRECISIONS,
        ),
    )
    strict: bool = option(
        False,
        "whether `precision='bf16'` runs in bf16 also where that is slower than f32.",
        check=arguments.flag,
        core=True,
        flag=Flag("run --precision bf16 also where it is slower than f32", kind="on"),
    )
    backend: str = option(
        "fast",
        "`fast`, or `reference` for plain NumPy in float64: the same results by the formulas of "
        "`resnet_rs.reference`, within the rounding of float32, in seconds an image.",
        check=_backend,
    )

    @property
    def path(self) -> str | None:
        """The absolute path of the weights; None for bytes."""
        return self.weights if isinstance(self.weights, str) else None

    @property
    def origin(self) -> str:
        """The name of the weights in messages: their path, if they have one."""
        return self.path or BYTES_ORIGIN

    def for_core(self) -> dict[str, Any]:
        """The keyword arguments of the core's `Network`."""
        values = {one.name: getattr(self, one.name) for one in fields(self) if _is_core(one)}
        if self.precision is None:
            del values["precision"]
        # NumPy is as slow in any precision.
        values["strict"] |= self.backend == "reference"
        return values

    def identity(self) -> str:
        """A text that is equal for equal options; it leaves the bytes of weights out."""
        import json

        values = {one.name: getattr(self, one.name) for one in fields(self)}
        values["weights"] = self.path
        if isinstance(self.names, Mapping):
            # Of several rules that match a name the first counts, so their order matters.
            values["names"] = list(self.names.items())
        return json.dumps(values, sort_keys=True)


def _is_core(one: Any) -> bool:
    return bool(one.metadata.get("core"))


def _in_order() -> list[Field[Any]]:
    """The fields in the order of the documentation: those about pictures come last."""
    pictures = {one.name for one in fields(Decoding)}
    return sorted(fields(Options), key=lambda one: one.name in pictures)


def _parameters() -> list[inspect.Parameter]:
    found = inspect.signature(Options).parameters
    return [found[one.name] for one in _in_order()]


def flags() -> dict[str, Flag]:
    """The options that every command which loads a model has, by name."""
    found = {one.name: one.metadata["flag"] for one in _in_order()}
    return {name: flag for name, flag in found.items() if flag is not None}


def option_function(
    make: Callable[_P, Options],
) -> Callable[[Callable[[Options], _R]], Callable[_P, _R]]:
    """Give a function of `Options` the signature of `Options` itself: pass `Options` for `make`."""

    def decorate(function: Callable[[Options], _R]) -> Callable[_P, _R]:
        @functools.wraps(function)
        def with_options(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            return function(make(*args, **kwargs))

        _sign(with_options, _parameters(), function)
        return with_options

    return decorate


def option_method(
    make: Callable[_P, Options],
) -> Callable[[Callable[[_Self, Options], _R]], Callable[Concatenate[_Self, _P], _R]]:
    """Do the same for a method."""

    def decorate(
        method: Callable[[_Self, Options], _R],
    ) -> Callable[Concatenate[_Self, _P], _R]:
        @functools.wraps(method)
        def with_options(self: _Self, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
            return method(self, make(*args, **kwargs))

        own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
        _sign(with_options, (own, *_parameters()), method)
        return with_options

    return decorate


def _sign(function: Any, parameters: Any, original: Any) -> None:
    """Set the signature that `help` and editors show."""
    returned = inspect.signature(original).return_annotation
    function.__signature__ = inspect.Signature(parameters, return_annotation=returned)


def described(documented: _R) -> _R:
    """Fill in the options where a docstring has the line `<options>` under `Args:`."""
    text = documented.__doc__
    if text is not None:  # it is None under python -OO
        place = next(line for line in text.splitlines() if line.strip() == "<options>")
        indent = place[: place.index("<")]
        items = (f"{one.name}: {one.metadata['doc']}" for one in _in_order())
        wrapped = (
            textwrap.fill(item, 100, initial_indent=indent, subsequent_indent=indent + "    ")
            for item in items
        )
        documented.__doc__ = text.replace(place, "\n".join(wrapped))
    return documented

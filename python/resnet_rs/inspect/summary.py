"""Summaries: the operations of a network, their shapes and their cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from typing import Any, TypeAlias

from .. import _core, arguments
from ..terminal.tables import text_table
from ..weights.config import usual_activation
from ..weights.loaded import HasLoaded
from .profile import algorithm_of

SIZE = 224
"""The side of the input, in pixels, that published numbers refer to."""

_BYTES = 4  # of a float32
# Of a value of a result, by precision; and by layer where that differs.
_BYTES_OF = {"f32": _BYTES, "bf16": 2, "int8": 1}
_BYTES_OF_LAYERS = {"bf16": {"fc": 4}, "int8": {"avgpool": 2, "fc": 4}}
_Routine: TypeAlias = "tuple[str | None, str | None, str | None]"


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """One operation, for a batch of one image.

    Attributes:
        name: torchvision's name.
        kind: `conv`, `batch_norm`, `relu`, `add`, `max_pool`, `avg_pool`, `global_avg_pool`,
            `global_max_pool`, `pad` (a shortcut without weights) or `linear`.
        input_shape: `(height, width, channels)` of its first input.
        output_shape: `(height, width, channels)` of its result.
        parameters: how many values training adjusts: weights, biases, and batch norm's scale and
            shift, but not its running mean and variance.
        macs: multiply-accumulates of convolutions and fc, the paper's FLOPs; 0 for all other
            operations.
        activation_bytes: the size of its result in memory.
        layer: the layer of a forward that computes it: the name of the last operation fused into
            that layer.
        algorithm: how the layer is computed (`gemm`, `indirect`, `winograd F(4x4)`, ...), stated
            at the layer's first operation. None for the operations that are fused with it, and
            without a model.
        kernel: the routine that computes the layer; None if `algorithm` is None.
        precision: of the layer's arithmetic, `f32`, `int8`, ...; None if `algorithm` is None.
    """

    name: str
    kind: str
    input_shape: tuple[int, int, int]
    output_shape: tuple[int, int, int]
    parameters: int
    macs: int
    activation_bytes: int
    layer: str
    algorithm: str | None
    kernel: str | None
    precision: str | None


@dataclass(frozen=True, slots=True)
class Summary:
    """Every operation of a network at one input size; `print` it for a table.

    Attributes:
        architecture: the network's name.
        height: of the input, in pixels.
        width: of the input, in pixels.
        rows: the operations in network order.
        parameters: the sum over all rows.
        macs: the sum over all rows.
        activation_bytes: the sum over all rows. A forward needs far less: it fuses operations and
            uses memory again.
        parameter_bytes: the size of the parameters as float32; in int8 that of the weights, with
            a scale and a bias for each channel.
        activation: the function that makes scores of the logits: `softmax`, `sigmoid` or `none`.
        precision: of the network's arithmetic: `f32`, `int8`, ...
    """

    architecture: str
    height: int
    width: int
    rows: tuple[SummaryRow, ...]
    parameters: int
    macs: int
    activation_bytes: int
    parameter_bytes: int
    activation: str = "softmax"
    precision: str = "f32"

    def as_dict(self) -> dict[str, Any]:
        """Return all fields by name, in types that JSON has."""
        return asdict(self)

    def __str__(self) -> str:
        header = ("name", "kind", "input", "output", "parameters", "MACs", "memory")
        last = (f"{self.parameters:,}", f"{self.macs:,}", _mib(self.activation_bytes))
        total = ("total", "", "", "", *last)
        lines = text_table([header, *map(_cells, self.rows), total], left=4).split("\n")
        if any(row.algorithm is not None for row in self.rows):
            routines = ("computed by", *self._routines(), "")
            lines = [
                f"{line}  {routine}".rstrip() for line, routine in zip(lines, routines, strict=True)
            ]
        has_scores = any(row.kind == "linear" for row in self.rows)
        usual = self.activation == "softmax" or not has_scores
        scores = "" if usual else f", activation {self.activation}"
        kind = "float32" if self.precision == "f32" else self.precision
        return (
            f"{self.architecture}, one image of {self.height} x {self.width}, {kind}{scores}\n"
            "shapes are height x width x channels; memory is the result's\n\n"
            + "\n".join(lines)
            + f"\n\n{self.parameters:,} parameters, {_mib(self.parameter_bytes)}\n"
            f"{self.macs / 1e9:.3f} billion multiply-accumulates "
            "(GMAC, often called GFLOPs) in convolutions and fc"
        )

    def _routines(self) -> list[str]:
        """Name each row's algorithm and kernel, or the operation that it is computed with."""
        first: dict[str, str] = {}
        return [
            f"with {first[row.layer]}"
            if first.setdefault(row.layer, row.name) != row.name
            else f"{row.algorithm}, {row.kernel}"
            for row in self.rows
        ]


def summarize(model: HasLoaded, size: int | tuple[int, int] | None = None) -> Summary:
    """Describe a model's network, as `ResNet.summary` does.

    Args:
        model: a model with weights.
        size: the input's side in pixels, or `(height, width)`; None for the size that the
            weights' preprocessing makes.

    Raises:
        TypeError, ValueError: not a size, or a size that this network cannot take.
    """
    loaded = model.loaded
    height, width = loaded.input_size if size is None else _size(size)
    operations = loaded.network.operations(height, width)
    # The reference computes each operation by itself, with none of the core's algorithms.
    fast = loaded.options.backend == "fast"
    steps = loaded.network.plan(1, height, width) if fast else []
    summary = _summary(loaded.config.architecture, operations, steps, height, width)
    summary = replace(summary, activation=loaded.config.activation)
    return _in_precision(loaded.precision, summary, operations)


def summarize_architecture(
    name: str,
    size: int | tuple[int, int] = SIZE,
    *,
    num_classes: int = 1000,
    variant: Mapping[str, Any] | None = None,
) -> Summary:
    """Describe a network of the family without weights.

    Args:
        name: `resnet50`, ...; `resnet_rs.load` knows the same names.
        size: the input's side in pixels, or `(height, width)`.
        num_classes: outputs of fc; 0 leaves fc out.
        variant: the differences from the architecture's definition, as in config.json.

    Raises:
        WeightsError: no such architecture or variant.
        TypeError, ValueError: not a size, or a size that this network cannot take.
    """
    import json

    height, width = _size(size)
    config = {
        "format_version": 1,
        "architecture": name,
        "variant": dict(variant or {}),
        "num_classes": num_classes,
    }
    operations = _core.operations(json.dumps(config), height, width)
    summary = _summary(name, operations, [], height, width)
    return replace(summary, activation=usual_activation(num_classes)[0])


def _summary(
    architecture: str,
    operations: Sequence[Mapping[str, Any]],
    steps: Sequence[Mapping[str, Any]],
    height: int,
    width: int,
) -> Summary:
    shapes: dict[str, tuple[int, int, int]] = {
        operation["name"]: tuple(operation["output_shape"]) for operation in operations
    }
    routines = _routines(steps)
    rows = []
    for operation in operations:
        source = operation["inputs"][0]
        output_shape = shapes[operation["name"]]
        # A layer's routine is stated once, at its first operation.
        none = (None, None, None)
        algorithm, kernel, precision = routines.pop(operation["fused_into"], none)
        rows.append(
            SummaryRow(
                name=operation["name"],
                kind=operation["kind"],
                input_shape=shapes.get(source, (height, width, _in_channels(operations))),
                output_shape=output_shape,
                parameters=_parameters(operation),
                macs=_macs(operation, output_shape),
                activation_bytes=_BYTES * math.prod(output_shape),
                layer=operation["fused_into"],
                algorithm=algorithm,
                kernel=kernel,
                precision=precision,
            )
        )
    parameters = sum(row.parameters for row in rows)
    return Summary(
        architecture=architecture,
        height=height,
        width=width,
        rows=tuple(rows),
        parameters=parameters,
        macs=sum(row.macs for row in rows),
        activation_bytes=sum(row.activation_bytes for row in rows),
        parameter_bytes=_BYTES * parameters,
    )


def _in_precision(
    precision: str, summary: Summary, operations: Sequence[Mapping[str, Any]]
) -> Summary:
    """The same network with the sizes of a precision in memory."""
    # An int8 network may have layers in bf16.
    of_layer = {row.layer: row.precision for row in summary.rows if row.precision is not None}

    def of(layer: str) -> str:
        return of_layer.get(layer, precision)

    rows = tuple(
        replace(
            row,
            activation_bytes=math.prod(row.output_shape)
            * _BYTES_OF_LAYERS.get(of(row.layer), {}).get(row.name, _BYTES_OF[of(row.layer)]),
        )
        for row in summary.rows
    )
    parameter_bytes = _BYTES_OF[precision] * summary.parameters
    if precision == "int8":
        parameter_bytes = sum(
            _folded_bytes(operation["parameters"]["weight"][1], of(operation["fused_into"]))
            for operation in operations
            if operation["kind"] in ("conv", "linear")
        )
    return replace(
        summary,
        rows=rows,
        activation_bytes=sum(row.activation_bytes for row in rows),
        parameter_bytes=parameter_bytes,
        precision=precision,
    )


def _folded_bytes(shape: Sequence[int], precision: str) -> int:
    """The size of a convolution's weights, with a bias and in int8 a scale for each channel."""
    values = 2 if precision == "int8" else 1
    return _BYTES_OF[precision] * math.prod(shape) + values * _BYTES * shape[0]


def _routines(steps: Sequence[Mapping[str, Any]]) -> dict[str, _Routine]:
    """Name each layer's algorithm, kernel and precision.

    A Winograd layer's kernel is its matrix product.
    """
    routines: dict[str, _Routine] = {}
    for name, group in groupby(steps, key=lambda step: step["name"]):
        layer = [dict(step) for step in group]
        kernel = next((step["kernel"] for step in layer if step["macs"]), layer[-1]["kernel"])
        routines[name] = algorithm_of(layer), kernel, layer[-1]["precision"]
    return routines


def _in_channels(operations: Sequence[Mapping[str, Any]]) -> int:
    """Return the channels of the image: the first operation is a convolution of it."""
    channels: int = operations[0]["in_channels"]
    return channels


def _parameters(operation: Mapping[str, Any]) -> int:
    trained = (
        shape for part, (_, shape) in operation["parameters"].items() if part in ("weight", "bias")
    )
    return sum(math.prod(shape) for shape in trained)


def _macs(operation: Mapping[str, Any], output_shape: tuple[int, int, int]) -> int:
    """Count multiply-accumulates; a convolution sums over its window and the group's channels."""
    if operation["kind"] == "conv":
        window = operation["kernel"] ** 2 * operation["in_channels"] // operation["groups"]
        return int(math.prod(output_shape) * window)
    if operation["kind"] == "linear":
        return int(operation["in_features"] * operation["out_features"])
    return 0


def _size(value: Any) -> tuple[int, int]:
    """Check a side or a pair, and return `(height, width)`."""
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise ValueError(f"size must be a side or (height, width); got {value!r}")
        height, width = (arguments.count("size", side) for side in value)
        return height, width
    side = arguments.count("size", value)
    return side, side


def _cells(row: SummaryRow) -> tuple[str, ...]:
    return (
        row.name,
        row.kind,
        " x ".join(map(str, row.input_shape)),
        " x ".join(map(str, row.output_shape)),
        f"{row.parameters:,}" if row.parameters else "-",
        f"{row.macs:,}" if row.macs else "-",
        _mib(row.activation_bytes),
    )


def _mib(count: int) -> str:
    """Write a number of bytes in MiB or KiB."""
    return f"{count / 2**20:.1f} MiB" if count >= 2**20 else f"{count / 2**10:.1f} KiB"

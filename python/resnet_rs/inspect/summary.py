"""What a network is made of and what it costs, operation by operation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from .. import _core, arguments
from ..terminal.tables import text_table

if TYPE_CHECKING:
    from ..model import ResNet

SIZE = 224
"""The side of the input, in pixels, that published numbers are for."""

_BYTES = 4  # of a float32


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """One operation, for a batch of one image.

    Attributes:
        name: torchvision's name.
        kind: `conv`, `batch_norm`, `relu`, `add`, `max_pool`, `avg_pool`, `global_avg_pool` or
            `linear`.
        input_shape: `(height, width, channels)` of its first input.
        output_shape: that of its result.
        parameters: how many values training adjusts: weights, biases, and batch norm's scale and
            shift, but not its running mean and variance.
        macs: multiply-accumulates, the paper's FLOPs: those of convolutions and fc; 0 for all
            others.
        activation_bytes: what its result takes in memory.
        layer: the layer of a forward that computes it: the name of the last operation fused into
            that layer.
        algorithm: how the layer is computed (`gemm`, `indirect`, `winograd F(4x4)`, ...), told
            where the layer's first operation is. None for the operations that are fused with it,
            and without a model.
        kernel: the routine that does it; None where `algorithm` is.
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


@dataclass(frozen=True, slots=True)
class Summary:
    """Every operation of a network at one input size; `print` it for a table.

    Attributes:
        architecture: the network's name.
        height: of the input, in pixels.
        width: of the input, in pixels.
        rows: the operations in network order.
        parameters: all rows' together.
        macs: all rows' together.
        activation_bytes: all rows' together. A forward needs far less: it fuses operations and
            uses memory again.
        parameter_bytes: what the parameters take as float32.
    """

    architecture: str
    height: int
    width: int
    rows: tuple[SummaryRow, ...]
    parameters: int
    macs: int
    activation_bytes: int
    parameter_bytes: int

    def as_dict(self) -> dict[str, Any]:
        """Everything by name, in types that JSON has."""
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
        return (
            f"{self.architecture}, one image of {self.height} x {self.width}, float32\n"
            "shapes are height x width x channels; memory is the result's\n\n"
            + "\n".join(lines)
            + f"\n\n{self.parameters:,} parameters, {_mib(self.parameter_bytes)}\n"
            f"{self.macs / 1e9:.3f} billion multiply-accumulates "
            "(GMAC, often called GFLOPs) in convolutions and fc"
        )

    def _routines(self) -> list[str]:
        """Of each row the algorithm and kernel, or the operation that it is computed with."""
        first: dict[str, str] = {}
        return [
            f"with {first[row.layer]}"
            if first.setdefault(row.layer, row.name) != row.name
            else f"{row.algorithm}, {row.kernel}"
            for row in self.rows
        ]


def summarize(model: ResNet, size: int | tuple[int, int] | None = None) -> Summary:
    """What `model.summary(size)` returns.

    Args:
        model: the network.
        size: the input's side in pixels, or `(height, width)`; None for the size that the
            weights' preprocessing makes.

    Raises:
        TypeError, ValueError: no size, or one that this network cannot take.
    """
    loaded = model.loaded
    height, width = loaded.input_size if size is None else _size(size)
    operations = model.loaded.network.operations(height, width)
    # The reference computes each operation as it stands, by no algorithm of the core's.
    fast = loaded.options.backend == "fast"
    steps = model.loaded.network.plan(1, height, width) if fast else []
    return _summary(loaded.config.architecture, operations, steps, height, width)


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
        num_classes: outputs of fc; 0 for none.
        variant: what differs from the architecture's definition, as in config.json.

    Raises:
        WeightsError: no such architecture or variant.
        TypeError, ValueError: no size, or one that this network cannot take.
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
    return _summary(name, operations, [], height, width)


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
        # A layer's routine is told once, at its first operation.
        algorithm, kernel = routines.pop(operation["fused_into"], (None, None))
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


def _routines(steps: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str | None, str | None]]:
    """Algorithm and kernel of each layer; of a Winograd layer that of its matrix products."""
    from .profile import algorithm_of

    routines: dict[str, tuple[str | None, str | None]] = {}
    for name, group in groupby(steps, key=lambda step: step["name"]):
        layer = [dict(step) for step in group]
        kernel = next((step["kernel"] for step in layer if step["macs"]), layer[-1]["kernel"])
        routines[name] = algorithm_of(layer), kernel
    return routines


def _in_channels(operations: Sequence[Mapping[str, Any]]) -> int:
    """The image's channels: the first operation is a convolution of it."""
    channels: int = operations[0]["in_channels"]
    return channels


def _parameters(operation: Mapping[str, Any]) -> int:
    trained = (
        shape for part, (_, shape) in operation["parameters"].items() if part in ("weight", "bias")
    )
    return sum(math.prod(shape) for shape in trained)


def _macs(operation: Mapping[str, Any], output_shape: tuple[int, int, int]) -> int:
    """Every output value of a convolution is a sum over its window and the group's channels."""
    if operation["kind"] == "conv":
        window = operation["kernel"] ** 2 * operation["in_channels"] // operation["groups"]
        return int(math.prod(output_shape) * window)
    if operation["kind"] == "linear":
        return int(operation["in_features"] * operation["out_features"])
    return 0


def _size(value: Any) -> tuple[int, int]:
    """`(height, width)` of a side or of such a pair."""
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
    """Bytes in the unit that suits them."""
    return f"{count / 2**20:.1f} MiB" if count >= 2**20 else f"{count / 2**10:.1f} KiB"

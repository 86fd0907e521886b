"""Profiles: how long each layer of a forward takes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import arguments
from .._core import Network, peak_macs_per_second
from ..terminal.tables import plural, text_table
from ..weights.loaded import Loaded
from .inputs import network_input

ROUNDS = 10
"""How often a profile runs the network, unless the caller asks for another number."""


@dataclass(frozen=True, slots=True)
class ProfileRow:
    """The time of one layer, or of one step of it.

    Attributes:
        name: torchvision's name of the last operation that is fused into the layer.
        algorithm: `gemm`, `indirect`, `winograd F(4x4)`, ...
        precision: of its arithmetic: `f32`, `int8`, ...
        kernel: the routine's name; for a Winograd layer that of its matrix products.
        output_shape: `(batch, height, width, channels)`; for a step between the others of a
            Winograd layer the shape of its scratch tensor.
        macs: the multiply-accumulates that `gflops` counts. For a layer they are those of the
            direct convolution, whatever the algorithm; for a step of a Winograd layer those that
            it does. 0 for anything but a matrix product.
        ms: milliseconds, the median over the faster half of the rounds.
        gflops: `2 * macs / time / 1e9`; None if `macs` is 0.
        share_of_peak: `gflops` by the profile's `peak_gflops`. In a Winograd layer's row it may
            exceed 1, for that layer multiplies less than is counted.
        share_of_total: `ms` by the profile's `total_ms`.
    """

    name: str
    algorithm: str
    precision: str
    kernel: str
    output_shape: tuple[int, int, int, int]
    macs: int
    ms: float
    gflops: float | None
    share_of_peak: float | None
    share_of_total: float


@dataclass(frozen=True, slots=True)
class Profile:
    """The time of every layer at one input shape; `str()` gives a table.

    Attributes:
        rows: the layers in the order that they run; with `detail`, the plan's steps.
        batch: images that ran at once.
        height: of the input, in pixels.
        width: of the input, in pixels.
        precision: of the network's arithmetic: `f32`, `int8`, ...
        isa: the tier of kernels.
        threads: the number of threads.
        rounds: how often the network ran; the slower half of them is not counted.
        detail: True if rows are steps.
        peak_gflops: the most that the threads can reach: their GFLOP/s in registers alone, all at
            the same time, the median of some measurements between the rounds. It is that of the
            network's precision.
        total_ms: the rows' milliseconds, added up.
        total_macs: the direct convolutions' multiply-accumulates, added up.
    """

    rows: tuple[ProfileRow, ...]
    batch: int
    height: int
    width: int
    precision: str
    isa: str
    threads: int
    rounds: int
    detail: bool
    peak_gflops: float
    total_ms: float
    total_macs: int

    @property
    def total_gflops(self) -> float:
        """GFLOP/s of the whole network, counted as direct convolutions."""
        return _gflops(self.total_macs, self.total_ms)

    def as_dict(self) -> dict[str, Any]:
        """Return all fields by name, in types that JSON has."""
        return asdict(self)

    def __str__(self) -> str:
        note = "GFLOP/s = 2 x multiply-accumulates"
        if any(row.algorithm.startswith("winograd") for row in self.rows):
            if self.detail:
                note += ": in the total those of direct convolutions, Winograd's rows their own"
            else:
                note += " of the direct convolution; Winograd does fewer, and may pass the peak"
        head = (
            f"batch {self.batch}, {self.height} x {self.width}, {self.precision}, {self.isa}, "
            f"{plural(self.threads, 'thread')}, faster half of {plural(self.rounds, 'round')}\n"
            f"{note}\n"
            f"peak: {self.peak_gflops:.1f} GFLOP/s in {self.precision}, "
            f"{plural(self.threads, 'thread')} in registers alone, measured between the rounds"
        )
        total = (
            "total",
            *("",) * 3,
            f"{self.total_ms:.3f}",
            f"{self.total_gflops:.1f}",
            f"{self.total_gflops / self.peak_gflops:.1%}",
            f"{1:.1%}",
        )
        return f"{head}\n\n{text_table([_HEADER, *map(_cells, self.rows), total], left=4)}"


PEAKS = 5
"""How often the peak is measured: heat and other programs change the clock within seconds."""

_HEADER = ("layer", "algorithm", "kernel", "output", "ms", "GFLOP/s", "of peak", "of total")


def profile(loaded: Loaded, images: Any, rounds: int, *, detail: bool) -> Profile:
    """Measure where the time of a forward goes, as `ResNet.profile` describes.

    Args:
        loaded: the network.
        images: one image or several, or what `ResNet.forward` takes.
        rounds: how often to run them.
        detail: give a row to every step of the plan, not to every layer.

    Raises:
        ImageError, OSError: as `ResNet.preprocess` does.
        TypeError, ValueError: as `ResNet.preprocess` or `ResNet.forward` does; also for `rounds`
            below 1.
    """
    rounds = arguments.count("rounds", rounds)
    detail = arguments.flag("detail", detail)
    x = network_input(loaded, images)
    return measure_profile(loaded.network, x, rounds=rounds, detail=detail)


def measure_profile(
    network: Network,
    x: NDArray[np.float32] | NDArray[np.uint8],
    *,
    rounds: int,
    detail: bool = False,
) -> Profile:
    """Run `x` as one batch, time every step, and add up the steps of each layer.

    Args:
        network: the network.
        x: `[batch, height, width, 3]`, C-contiguous: normalised float32 or uint8 pixels.
        rounds: how often to run it, after a run that is not counted; at least 1. The slower half
            is left out.
        detail: give a row to every step, not to every layer.

    Raises:
        TypeError, ValueError, MemoryError: as the core's for `x`.
        ValueError: the network computes with the backend `reference`, which has no steps to time.
    """
    if network.isa == "reference":
        raise ValueError(
            'profile: expected a model of backend="fast", found backend="reference", which has no '
            'kernels to time: load the model with backend="fast"'
        )
    seconds, peak_gflops = _measure(network, x, rounds)
    seconds = _faster_half(seconds)

    batch, height, width, _ = x.shape
    steps = network.plan(batch, height, width)
    layers = list(_layers(steps))
    groups = [[i] for i in range(len(steps))] if detail else layers
    group_ms = [float(np.median(seconds[:, group].sum(axis=1))) * 1e3 for group in groups]
    total_ms = sum(group_ms)
    rows = tuple(
        _row([steps[i] for i in group], detail, ms, total_ms, peak_gflops)
        for group, ms in zip(groups, group_ms, strict=True)
    )
    return Profile(
        rows=rows,
        batch=batch,
        height=height,
        width=width,
        precision=network.precision,
        isa=network.isa,
        threads=network.threads,
        rounds=rounds,
        detail=detail,
        peak_gflops=peak_gflops,
        total_ms=total_ms,
        total_macs=sum(direct_macs([steps[i] for i in layer]) for layer in layers),
    )


def _measure(
    network: Network, x: NDArray[np.float32] | NDArray[np.uint8], rounds: int
) -> tuple[NDArray[np.float64], float]:
    """Time the steps: seconds `[rounds, steps]`, and the peak in GFLOP/s at the same clock."""
    network.profile(x)
    seconds, peaks = [], []
    for turn in range(rounds):
        if turn % -(-rounds // PEAKS) == 0:
            peaks.append(_peak_gflops(network))
        seconds.append(network.profile(x))
    return np.array(seconds), float(np.median(peaks))


def _peak_gflops(network: Network) -> float:
    """Measure the GFLOP/s in registers of as many threads as the network has, run together.

    One thread alone may run at a higher clock than several at the same time.
    """
    macs_per_second: list[float] = []

    def measure() -> None:
        macs_per_second.append(peak_macs_per_second(network.isa, network.precision))

    threads = [threading.Thread(target=measure) for _ in range(network.threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 2 * sum(macs_per_second) / 1e9


def _faster_half(seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keep the faster half of `[rounds, steps]`: a disturbance only makes a round slower."""
    order = seconds.sum(axis=1).argsort(kind="stable")
    faster: NDArray[np.float64] = seconds[order[: (len(order) + 1) // 2]]
    return faster


def direct_macs(steps: list[dict[str, Any]]) -> int:
    """Count the multiply-accumulates of one layer if it were computed directly.

    Args:
        steps: all entries of `Network.plan` for the layer.
    """
    if steps[0]["algorithm"] != "winograd":
        return sum(step["macs"] for step in steps)
    # The first step gives the transformed inputs and the last step the layer's output. Winograd
    # layers have windows of 3 x 3.
    in_channels = steps[0]["output_shape"][3]
    batch, height, width, out_channels = steps[-1]["output_shape"]
    return int(batch * height * width * out_channels * 9 * in_channels)


def _layers(steps: list[dict[str, Any]]) -> Iterator[list[int]]:
    """Yield the indices of each layer's steps: consecutive steps of one name."""
    for _, group in groupby(range(len(steps)), key=lambda i: steps[i]["name"]):
        yield list(group)


def _row(
    steps: list[dict[str, Any]], detail: bool, ms: float, total_ms: float, peak_gflops: float
) -> ProfileRow:
    """Make the row of a layer's steps; with `detail` there is a single step."""
    last = steps[-1]
    macs = last["macs"] if detail else direct_macs(steps)
    gflops = _gflops(macs, ms) if macs else None
    return ProfileRow(
        name=last["name"],
        algorithm=last["algorithm"] if detail else algorithm_of(steps),
        precision=last["precision"],
        kernel=next((s["kernel"] for s in steps if s["macs"]), last["kernel"]),
        output_shape=last["output_shape"],
        macs=macs,
        ms=ms,
        gflops=gflops,
        share_of_peak=None if gflops is None else gflops / peak_gflops,
        share_of_total=ms / total_ms,
    )


def algorithm_of(steps: list[dict[str, Any]]) -> str:
    """Name a layer's algorithm: the plan's word, with the size of the tiles for Winograd."""
    algorithm: str = steps[0]["algorithm"]
    if algorithm == "winograd":
        # The kernel's name is like f32_winograd_f4x4_input_avx512.
        size = steps[0]["kernel"].split("_")[2]
        return f"winograd F({size.removeprefix('f')})"
    return algorithm


def _gflops(macs: int, ms: float) -> float:
    return 2 * macs / ms / 1e6


def _cells(row: ProfileRow) -> tuple[str, ...]:
    return (
        row.name,
        row.algorithm,
        row.kernel,
        "x".join(map(str, row.output_shape)),
        f"{row.ms:.3f}",
        "" if row.gflops is None else f"{row.gflops:.1f}",
        "" if row.share_of_peak is None else f"{row.share_of_peak:.1%}",
        f"{row.share_of_total:.1%}",
    )

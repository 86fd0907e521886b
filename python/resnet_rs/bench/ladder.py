"""The ladder: one network in stages, from naive loops to all optimisations, and their gains."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._core import __version__, available_isas
from ..options import Options
from ..terminal.progress import Progress
from ..terminal.tables import text_table
from .run import load_network, noise
from .system import cpu_model
from .turns import time_in_turns

TOLERANCE = 1e-4
"""The largest relative L2 error of a rung's logits against the naive loops in f64.

f32 rounding gives less than 1e-5, with Winograd and small weights too; a wrong tap or layout gives
more than 1e-2.
"""

_TIER_NAMES = {"portable": "portable", "avx2": "AVX2", "avx512": "AVX-512"}


@dataclass(frozen=True, slots=True)
class Stage:
    """One way to compute the network.

    Attributes:
        name: the name in tables and plots.
        isa: the tier of kernels; None for the naive loops.
        threads: the number of threads.
        winograd: True if Winograd's algorithm is allowed.
    """

    name: str
    isa: str | None
    threads: int = 1
    winograd: bool = False


@dataclass(frozen=True, slots=True)
class Rung:
    """A stage with its figures.

    Attributes:
        name: the stage's name.
        isa: the tier of kernels; None for the naive loops.
        threads: the number of threads.
        winograd: True if any layer ran with Winograd's algorithm.
        ms: milliseconds an image, the median over the calls.
        calls: the number of timed calls.
        gain: the `ms` of the rung before, divided by this rung's; 1 for the first rung.
        gain_in_all: the `ms` of the first rung, divided by this rung's.
        relative_error: the relative L2 error of the logits against the naive loops in f64.
    """

    name: str
    isa: str | None
    threads: int
    winograd: bool
    ms: float
    calls: int
    gain: float
    gain_in_all: float
    relative_error: float


@dataclass(frozen=True, slots=True)
class Ladder:
    """The rungs, slowest first; `str()` gives a table.

    Attributes:
        version: the version of this package.
        cpu: the processor's name.
        height: the height of the image in pixels.
        width: the width of the image in pixels.
        rungs: the measured stages.
    """

    version: str
    cpu: str
    height: int
    width: int
    rungs: tuple[Rung, ...]

    @property
    def agrees(self) -> bool:
        """True if the logits of every rung equal those of the naive loops up to rounding."""
        return all(rung.relative_error <= TOLERANCE for rung in self.rungs)

    def as_dict(self) -> dict[str, Any]:
        """Return all fields by name, in types that JSON has."""
        return asdict(self)

    def __str__(self) -> str:
        header = ("stage", "threads", "ms an image", "gain", "in all", "rel. error")
        rows = [
            (
                rung.name,
                str(rung.threads),
                f"{rung.ms:.1f}",
                f"{rung.gain:.2f} x",
                f"{rung.gain_in_all:.4g} x",
                f"{rung.relative_error:.1e}",
            )
            for rung in self.rungs
        ]
        return (
            f"resnet_rs {self.version}, {self.cpu}\n"
            f"one image of {self.height} x {self.width}, f32 from the second stage on\n\n"
            f"{text_table([header, *rows], left=1)}"
        )


def stages(isas: Sequence[str], threads: int, *, winograd: bool) -> list[Stage]:
    """List the stages of the ladder, slowest first.

    Args:
        isas: the tiers, slowest first.
        threads: the threads of the last stage; 1 leaves that stage out.
        winograd: True for a stage with Winograd's algorithm.
    """
    best = isas[-1]
    climb = [Stage("naive loops, f64", None)]
    climb += [Stage(_TIER_NAMES[isa], isa) for isa in isas]
    if winograd:
        climb.append(Stage("+ Winograd", best, winograd=True))
    if threads > 1:
        climb.append(Stage("+ threads", best, threads, winograd))
    return climb


def climb_ladder(
    options: Options,
    *,
    size: tuple[int, int] | None = None,
    seconds: float = 5.0,
    progress: Progress,
) -> Ladder:
    """Measure every stage on the same weights and the same image.

    The naive loops run once: for a network of ImageNet's size they take ten to thirty seconds. The
    other stages take turns, round after round, so that a slow phase of the machine slows all of
    them. All of their networks are in memory at once.

    Args:
        options: the weights, and how to load them. Tier and threads are those of the last stage;
            the stages before go up to that tier.
        size: the height and width of the image; by default the size that the weights'
            preprocessing makes.
        seconds: how long to measure each of the stages that take turns; each is timed at least
            three times.
        progress: where to show what is being done.

    Raises:
        FileNotFoundError, WeightsError, UnsupportedIsaError, ValueError: as `load_network` does.
        MemoryError: the networks do not fit in memory.
    """
    progress.say("loading ...")
    loaded = load_network(options)
    best = loaded.network
    isas = available_isas()
    climb = stages(
        isas[: isas.index(best.isa) + 1], best.threads, winograd=options.winograd and best.winograd
    )
    x = noise(1, size or loaded.input_size, loaded.config.in_channels)

    progress.say(f"{climb[0].name}, once ...")
    start = time.perf_counter()
    expected = np.array(best.reference_logits(x))
    naive_s = time.perf_counter() - start

    networks = [
        load_network(
            replace(options, isa=stage.isa, threads=stage.threads, winograd=stage.winograd)
        ).network
        for stage in climb[1:]
    ]
    errors = [0.0, *(_relative_l2(network.logits(x)[0], expected) for network in networks)]
    calls = [[naive_s], *time_in_turns(networks, x, seconds, progress)]

    ms = [float(np.median(seconds_of)) * 1e3 for seconds_of in calls]
    rungs = tuple(
        Rung(
            name=stage.name,
            isa=stage.isa,
            threads=stage.threads,
            winograd=stage.winograd,
            ms=ms[i],
            calls=len(calls[i]),
            gain=ms[max(i - 1, 0)] / ms[i],
            gain_in_all=ms[0] / ms[i],
            relative_error=errors[i],
        )
        for i, stage in enumerate(climb)
    )
    return Ladder(__version__, cpu_model(), x.shape[1], x.shape[2], rungs)


def _relative_l2(ours: NDArray[np.float32], expected: NDArray[np.float64]) -> float:
    return float(np.linalg.norm(ours - expected) / np.linalg.norm(expected))

"""From naive loops to all that we have: the same network in stages, each with what it gains."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import __version__
from .._core import available_isas
from ..model import ResNet
from ..terminal.progress import Progress
from ..terminal.tables import text_table
from .run import FEWEST_CALLS, ModelOptions, input_size, noise, seconds_of_call, warm_up
from .system import cpu_model

TURN_SECONDS = 0.1
"""What a rung's timed calls in one round take together, at least one call."""

TOLERANCE = 1e-4
"""Largest relative L2 error of a rung's logits against the naive loops in f64.

f32 rounding gives below 1e-5, with Winograd and small weights too; a wrong tap or layout gives
more than 1e-2.
"""

_TIER_NAMES = {"portable": "portable", "avx2": "AVX2", "avx512": "AVX-512"}


@dataclass(frozen=True, slots=True)
class Stage:
    """How a rung computes the network.

    Attributes:
        name: for tables and plots.
        isa: the tier of kernels; None for the naive loops.
        threads: the number of threads.
        winograd: whether Winograd's algorithm is allowed.
    """

    name: str
    isa: str | None
    threads: int = 1
    winograd: bool = False


@dataclass(frozen=True, slots=True)
class Rung:
    """A stage and what it reached.

    Attributes:
        name: of the stage.
        isa: the tier of kernels; None for the naive loops.
        threads: the number of threads.
        winograd: whether any layer ran with Winograd's algorithm.
        ms: milliseconds an image, the median over the calls.
        calls: how many calls were timed.
        gain: the rung before's `ms` by this one's; 1 for the first.
        gain_in_all: the first rung's `ms` by this one's.
        relative_error: L2, of the logits against the naive loops in f64.
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
    """The rungs, slowest first; `str()` of it is a table.

    Attributes:
        version: of this package.
        cpu: the processor's name.
        height: of the image, in pixels.
        width: of the image, in pixels.
        rungs: the measured stages.
    """

    version: str
    cpu: str
    height: int
    width: int
    rungs: tuple[Rung, ...]

    @property
    def agrees(self) -> bool:
        """Whether every rung's logits are the naive loops', but for rounding."""
        return all(rung.relative_error <= TOLERANCE for rung in self.rungs)

    def as_dict(self) -> dict[str, Any]:
        """Everything by name, in types that JSON has."""
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
    """The stages to climb, slowest first.

    Args:
        isas: the tiers, slowest first.
        threads: what the last stage may use; 1 leaves that stage out.
        winograd: whether there is a stage for Winograd's algorithm.
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
    options: ModelOptions,
    *,
    size: tuple[int, int] | None = None,
    seconds: float = 5.0,
    progress: Progress,
) -> Ladder:
    """Measure every stage on the same model and image.

    The naive loops run once: for an ImageNet-size model they take ten to thirty seconds. The
    others take turns, round after round, so that what slows the machine for a while slows all of
    them; all of their models are in memory at once.

    Args:
        options: the model; its tier and threads are those of the last stage, and the stages
            before go up to that tier.
        size: height and width of the image; by default what the preprocessing makes.
        seconds: how long to measure each of the stages that take turns; each is timed at least
            `FEWEST_CALLS` times.
        progress: where to say what goes on.

    Raises:
        FileNotFoundError, WeightsError, UnsupportedIsaError, ValueError: as `load` does.
        MemoryError: the models do not fit in memory.
    """
    progress.say("loading ...")
    best = options.load()
    isas = available_isas()
    climb = stages(
        isas[: isas.index(best.isa) + 1], best.threads, winograd=options.winograd and best.winograd
    )
    x = noise(1, size or input_size(best.config.preprocessing))

    progress.say(f"{climb[0].name}, once ...")
    start = time.perf_counter()
    expected = np.array(best.loaded.network.reference_logits(x))
    naive_s = time.perf_counter() - start

    models = [options.load(isa=s.isa, threads=s.threads, winograd=s.winograd) for s in climb[1:]]
    errors = [0.0, *(_relative_l2(model.forward(x)[0], expected) for model in models)]
    calls = [[naive_s], *_take_turns(models, x, seconds, progress)]

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


def _take_turns(
    models: Sequence[ResNet], x: NDArray[np.float32], seconds: float, progress: Progress
) -> list[list[float]]:
    """The seconds of each model's timed calls."""
    calls: list[list[float]] = [[] for _ in models]
    for model in models:
        progress.say("warming up ...")
        warm_up(model, x)
    while any(sum(timed) < seconds or len(timed) < FEWEST_CALLS for timed in calls):
        progress.say(f"measuring: {sum(map(sum, calls)):.0f} of {seconds * len(calls):.0f} s ...")
        for model, timed in zip(models, calls, strict=True):
            # Not timed: it brings the model's weights back into the caches.
            seconds_of_call(model, x)
            spent = 0.0
            while spent < TURN_SECONDS:
                timed.append(seconds_of_call(model, x))
                spent += timed[-1]
    return calls


def _relative_l2(ours: NDArray[np.float32], expected: NDArray[np.float64]) -> float:
    return float(np.linalg.norm(ours - expected) / np.linalg.norm(expected))

"""How fast a model runs on this machine: latency, throughput, load time, memory."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import __version__
from ..family import load
from ..images.spec import Preprocessing
from ..inspect.profile import Profile, measure_profile
from ..model import ResNet
from ..terminal.progress import Progress
from ..terminal.tables import plural
from .system import cpu_model, resident_mb

WARM_UP_SECONDS = 0.5
"""Long enough for a processor to leave its resting frequency; at least one call is made."""

FEWEST_CALLS = 3
PROFILE_ROUNDS = 20
NOISE_SEED = 0


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """How to load a model: the arguments of `resnet_rs.load`."""

    weights: str | os.PathLike[str]
    architecture: str | None = None
    isa: str | None = None
    threads: int | None = None
    winograd: bool = True

    def load(self, **changes: Any) -> ResNet:
        """Load the model, with some options changed.

        Raises:
            FileNotFoundError, WeightsError, UnsupportedIsaError, ValueError: as `load` does.
        """
        options = {
            "architecture": self.architecture,
            "isa": self.isa,
            "threads": self.threads,
            "winograd": self.winograd,
        }
        return load(self.weights, **{**options, **changes})


@dataclass(frozen=True, slots=True)
class BenchResult:
    """What was measured, and on what.

    Attributes:
        version: of this package.
        cpu: the processor's name.
        isa: the tier of kernels.
        threads: the number of threads.
        winograd: whether any layer ran with Winograd's algorithm.
        batch: images in a call.
        height: of the input, in pixels.
        width: of the input, in pixels.
        load_ms: milliseconds from the weights' path to a model that is ready; more where the file
            is not in the page cache.
        resident_mb: the process's resident memory after the calls, in 10^6 bytes; it counts the
            interpreter and numpy, and what the page cache shares of the weights file. None where
            the system does not tell.
        peak_resident_mb: the most that it has been.
        calls: how many calls of `forward` were timed.
        seconds: what they took together.
        min_ms: milliseconds of the fastest call, the whole batch.
        median_ms: of half of the calls at most this.
        p90_ms: of 90 % of the calls at most this.
        p99_ms: of 99 % of the calls at most this.
        images_per_second: `calls * batch / seconds`.
        profile: the layers' times, where they were asked for.
    """

    version: str
    cpu: str
    isa: str
    threads: int
    winograd: bool
    batch: int
    height: int
    width: int
    load_ms: float
    resident_mb: float | None
    peak_resident_mb: float | None
    calls: int
    seconds: float
    min_ms: float
    median_ms: float
    p90_ms: float
    p99_ms: float
    images_per_second: float
    profile: Profile | None = None

    def as_dict(self) -> dict[str, Any]:
        """Everything by name, in types that JSON has."""
        return asdict(self)

    def __str__(self) -> str:
        memory = "-"
        if self.resident_mb is not None:
            memory = f"{self.resident_mb:.0f} MB resident, at most {self.peak_resident_mb:.0f} MB"
        lines = [
            f"resnet_rs    {self.version}, {self.isa}, {plural(self.threads, 'thread')}, "
            f"Winograd {'on' if self.winograd else 'off'}",
            f"processor    {self.cpu}",
            f"input        batch {self.batch}, {self.height} x {self.width}, float32",
            f"load         {self.load_ms:.0f} ms",
            f"memory       {memory}",
            f"calls        {self.calls} in {self.seconds:.1f} s, after warm-up",
            f"latency      min {self.min_ms:.2f}  median {self.median_ms:.2f}  "
            f"p90 {self.p90_ms:.2f}  p99 {self.p99_ms:.2f} ms",
            f"throughput   {self.images_per_second:.1f} images/s",
        ]
        if self.profile is not None:
            lines += ["", str(self.profile)]
        return "\n".join(lines)


def run_bench(
    options: ModelOptions,
    *,
    batch: int = 1,
    size: tuple[int, int] | None = None,
    seconds: float = 5.0,
    with_profile: bool = False,
    progress: Progress,
) -> BenchResult:
    """Load a model and time calls of `forward` one after the other.

    Args:
        options: the model.
        batch: images in a call.
        size: height and width of the input; by default what the preprocessing makes.
        seconds: how long to measure; at least `FEWEST_CALLS` calls are timed.
        with_profile: measure the layers too.
        progress: where to say what goes on.

    Raises:
        FileNotFoundError, WeightsError, UnsupportedIsaError, ValueError: as `load` does.
        MemoryError: the activations do not fit in memory.
    """
    progress.say("loading ...")
    start = time.perf_counter()
    model = options.load()
    load_s = time.perf_counter() - start

    x = noise(batch, size or input_size(model.config.preprocessing))
    progress.say("warming up ...")
    warm_up(model, x)
    calls: list[float] = []
    spent = 0.0
    while spent < seconds or len(calls) < FEWEST_CALLS:
        progress.say(f"measuring: {spent:.0f} of {seconds:.0f} s ...")
        calls.append(seconds_of_call(model, x))
        spent += calls[-1]
    memory = resident_mb()
    profile = None
    if with_profile:
        progress.say("profiling ...")
        profile = measure_profile(model.loaded.network, x, rounds=PROFILE_ROUNDS)

    median, p90, p99 = (float(p) * 1e3 for p in np.percentile(calls, (50, 90, 99)))
    return BenchResult(
        version=__version__,
        cpu=cpu_model(),
        isa=model.isa,
        threads=model.threads,
        winograd=model.winograd,
        batch=batch,
        height=x.shape[1],
        width=x.shape[2],
        load_ms=load_s * 1e3,
        resident_mb=memory and memory[0],
        peak_resident_mb=memory and memory[1],
        calls=len(calls),
        seconds=spent,
        min_ms=min(calls) * 1e3,
        median_ms=median,
        p90_ms=p90,
        p99_ms=p99,
        images_per_second=len(calls) * batch / spent,
        profile=profile,
    )


def input_size(spec: Preprocessing) -> tuple[int, int]:
    """Height and width of what the preprocessing makes; 224 x 224 where that depends on the image.

    A crop decides, else a resize to an exact size.
    """
    if isinstance(spec.crop, int):
        return spec.crop, spec.crop
    if spec.crop is not None:
        return spec.crop
    return spec.resize if isinstance(spec.resize, tuple) else (224, 224)


def noise(batch: int, size: tuple[int, int]) -> NDArray[np.float32]:
    """Normal noise, float32 `[batch, height, width, 3]`: time does not depend on the values."""
    generator = np.random.default_rng(NOISE_SEED)
    return generator.standard_normal((batch, *size, 3), dtype=np.float32)


def warm_up(model: ResNet, x: NDArray[np.float32]) -> None:
    """Run until plans are made, caches filled and clocks up."""
    spent = seconds_of_call(model, x)
    while spent < WARM_UP_SECONDS:
        spent += seconds_of_call(model, x)


def seconds_of_call(model: ResNet, x: NDArray[np.float32]) -> float:
    """The seconds that one `forward` takes."""
    start = time.perf_counter()
    model.forward(x)
    return time.perf_counter() - start

"""The speed of a network on this machine: latency, throughput, load time, memory."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .._core import Network, __version__
from ..inspect.profile import Profile, measure_profile
from ..options import Options
from ..terminal.progress import Progress
from ..terminal.tables import plural
from ..weights.load import load
from ..weights.loaded import Loaded
from .system import cpu_model, resident_mb

Pixels: TypeAlias = "NDArray[np.float32] | NDArray[np.uint8]"
"""The input of a network: `[batch, height, width, channels]`, normalised or pixels."""

WARM_UP_SECONDS = 0.5
"""A time in which a processor leaves its idle frequency; at least one call is made."""

FEWEST_CALLS = 3
PROFILE_ROUNDS = 20
NOISE_SEED = 0


@dataclass(frozen=True, slots=True)
class BenchResult:
    """The figures of a benchmark, with the machine and the options that they are for.

    Attributes:
        version: the version of this package.
        cpu: the processor's name.
        precision: of the network's arithmetic: `f32`, `int8`, ...
        kernel: the routine that does most of the multiply-accumulates.
        isa: the tier of kernels.
        threads: the number of threads.
        winograd: True if any layer ran with Winograd's algorithm.
        batch: the images in a call.
        height: the height of the input in pixels.
        width: the width of the input in pixels.
        load_ms: milliseconds from the weights' path to a network that is ready. Loading takes
            longer if the file is not in the page cache.
        resident_mb: the process's resident memory after the calls, in 10^6 bytes, with the
            interpreter and numpy. None if the system does not report it.
        peak_resident_mb: the largest resident memory up to then.
        calls: the number of timed forwards.
        seconds: the time of all timed forwards together.
        min_ms: milliseconds of the fastest call, for the whole batch.
        median_ms: the median of the calls' milliseconds.
        p90_ms: the 90th percentile of the calls' milliseconds.
        p99_ms: the 99th percentile of the calls' milliseconds.
        images_per_second: `calls * batch / seconds`.
        profile: the layers' times; None if they were not measured.
    """

    version: str
    cpu: str
    precision: str
    kernel: str
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
        """Return all fields by name, in types that JSON has."""
        return asdict(self)

    def __str__(self) -> str:
        memory = "-"
        if self.resident_mb is not None:
            memory = f"{self.resident_mb:.0f} MB resident, at most {self.peak_resident_mb:.0f} MB"
        lines = [
            f"resnet_rs    {self.version}, {self.isa}, {plural(self.threads, 'thread')}, "
            f"Winograd {'on' if self.winograd else 'off'}",
            f"processor    {self.cpu}",
            f"precision    {self.precision}, {self.kernel}",
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
    options: Options,
    *,
    batch: int = 1,
    size: tuple[int, int] | None = None,
    seconds: float = 5.0,
    with_profile: bool = False,
    progress: Progress,
) -> BenchResult:
    """Load a network and time forwards, one after the other.

    Args:
        options: the weights, and how to load them.
        batch: the images in a call.
        size: the height and width of the input; by default the size that the weights'
            preprocessing makes.
        seconds: how long to measure; at least `FEWEST_CALLS` calls are timed.
        with_profile: measure the layers too.
        progress: where to show what is being done.

    Raises:
        FileNotFoundError, WeightsError, UnsupportedIsaError, ValueError: as `load_network` does.
        MemoryError: the activations do not fit in memory.
    """
    progress.say("loading ...")
    start = time.perf_counter()
    loaded = load_network(options)
    load_s = time.perf_counter() - start

    network = loaded.network
    x = noise(batch, size or loaded.input_size, loaded.config.in_channels)
    progress.say("warming up ...")
    warm_up(network, x)
    calls: list[float] = []
    spent = 0.0
    while spent < seconds or len(calls) < FEWEST_CALLS:
        progress.say(f"measuring: {spent:.0f} of {seconds:.0f} s ...")
        calls.append(seconds_of_call(network, x))
        spent += calls[-1]
    memory = resident_mb()
    profile = None
    if with_profile:
        progress.say("profiling ...")
        profile = measure_profile(network, x, rounds=PROFILE_ROUNDS)

    median, p90, p99 = (float(p) * 1e3 for p in np.percentile(calls, (50, 90, 99)))
    return BenchResult(
        version=__version__,
        cpu=cpu_model(),
        precision=network.precision,
        kernel=main_kernel(network, x),
        isa=network.isa,
        threads=network.threads,
        winograd=network.winograd,
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


def load_network(options: Options) -> Loaded:
    """Load a network of any architecture, with the warnings that `resnet_rs.load` gives.

    Args:
        options: the weights, and how to load them.

    Raises:
        FileNotFoundError, WeightsError, UnsupportedIsaError, ValueError: as `resnet_rs.load` does.
    """
    loaded = load(options)
    loaded.warn(stacklevel=3)
    return loaded


def noise(batch: int, size: tuple[int, int], channels: int) -> NDArray[np.float32]:
    """Make an input of normal noise: the time does not depend on the values.

    Args:
        batch: the number of images.
        size: their height and width.
        channels: the channels that the network takes.

    Returns:
        float32 `[batch, height, width, channels]`.
    """
    generator = np.random.default_rng(NOISE_SEED)
    return generator.standard_normal((batch, *size, channels), dtype=np.float32)


def main_kernel(network: Network, x: Pixels) -> str:
    """Name the routine that does most of the multiply-accumulates of a forward.

    Args:
        network: the network.
        x: its input.
    """
    batch, height, width, _ = x.shape
    macs: Counter[str] = Counter()
    for step in network.plan(batch, height, width):
        macs[step["kernel"]] += step["macs"]
    return macs.most_common(1)[0][0]


def warm_up(network: Network, x: Pixels) -> None:
    """Run until plans are made, caches are filled and the clock is at its full frequency."""
    spent = seconds_of_call(network, x)
    while spent < WARM_UP_SECONDS:
        spent += seconds_of_call(network, x)


def seconds_of_call(network: Network, x: Pixels) -> float:
    """Measure the seconds that one forward takes."""
    start = time.perf_counter()
    network.logits(x)
    return time.perf_counter() - start

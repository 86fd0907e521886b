"""The result of a measurement, as tables, words and plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from ...terminal.tables import text_table
from .advice import Advice, advise
from .cpus import Cpus
from .figures import Row
from .settings import Setting

QUIET = 0.1
"""The spread of a quiet machine's rounds, at most."""


@dataclass(frozen=True, slots=True)
class Scaling:
    """Latency over threads, and throughput over the ways to divide the CPUs.

    Attributes:
        version: the version of this package.
        cpu: the processor's name.
        cpus: the number of CPUs that were divided, and the reason for it.
        precision: of the network's arithmetic: `f32`, `int8`, ...
        isa: the tier of kernels.
        winograd: True if any layer ran with Winograd's algorithm.
        height: the height of the images in pixels.
        width: the width of the images in pixels.
        rounds: the number of turns that each setting had.
        seconds: the time of each setting in all of its turns together.
        rows: the measured settings, each once.
        latency: the settings of one caller with one image.
        throughput: the ways to divide the CPUs.
    """

    version: str
    cpu: str
    cpus: Cpus
    precision: str
    isa: str
    winograd: bool
    height: int
    width: int
    rounds: int
    seconds: float
    rows: tuple[Row, ...]
    latency: tuple[Setting, ...]
    throughput: tuple[Setting, ...]

    def of(self, settings: Sequence[Setting]) -> list[Row]:
        """The rows of some settings, in their order."""
        rows = {row.setting: row for row in self.rows}
        return [rows[setting] for setting in settings]

    @property
    def advice(self) -> Advice:
        """The settings to choose."""
        return advise(
            self.of(self.latency),
            self.of(self.throughput),
            default_threads=None if self.cpus.asked_by == "--threads" else self.cpus.counted,
        )

    @property
    def spread(self) -> float:
        """The median of the rows' spreads: how much the machine's speed changed meanwhile."""
        return median(row.spread for row in self.rows)

    def as_dict(self) -> dict[str, Any]:
        """Return all figures by name, in types that JSON has."""
        advice = self.advice
        return {
            "version": self.version,
            "cpu": self.cpu,
            "cpus": asdict(self.cpus),
            "precision": self.precision,
            "isa": self.isa,
            "winograd": self.winograd,
            "height": self.height,
            "width": self.width,
            "rounds": self.rounds,
            "seconds": self.seconds,
            "spread": self.spread,
            "latency": [row.as_dict() for row in self.of(self.latency)],
            "throughput": [row.as_dict() for row in self.of(self.throughput)],
            "advice": {
                "latency": advice.latency.as_dict(),
                "throughput": advice.throughput.as_dict(),
            },
        }

    def __str__(self) -> str:
        winograd = "on" if self.winograd else "off"
        return (
            f"resnet_rs    {self.version}, {self.precision}, {self.isa}, Winograd {winograd}\n"
            f"processor    {self.cpu}\n"
            f"CPUs         {self.cpus}\n"
            f"input        {self.height} x {self.width}, float32\n"
            f"time         {self.seconds:.3g} s a row, in {self.rounds} rounds over all rows\n\n"
            "latency: one caller, one image a call\n"
            f"{latency_table(self.of(self.latency))}\n\n"
            "throughput: ways to divide the CPUs, and the latency of a call\n"
            f"{throughput_table(self.of(self.throughput))}\n\n"
            f"{self.advice}{self._doubt()}"
        )

    def _doubt(self) -> str:
        if self.spread <= QUIET:
            return ""
        return (
            f"\nThe rounds differ by {self.spread * 100:.0f} %: other programs kept the machine "
            "busy. Measure again when it is\nquiet, or longer with --seconds."
        )


def latency_table(rows: Sequence[Row]) -> str:
    """A line for each number of threads."""
    header = ("threads", "p50 ms", "p99 ms", "gain", "images/s")
    return text_table(
        [
            header,
            *(
                (
                    str(row.setting.threads),
                    f"{row.p50_ms:.1f}",
                    f"{row.p99_ms:.1f}",
                    f"{rows[0].p50_ms / row.p50_ms:.2f} x",
                    f"{row.images_per_second:.1f}",
                )
                for row in rows
            ),
        ],
        left=0,
    )


def throughput_table(rows: Sequence[Row]) -> str:
    """A line for each way to divide the CPUs."""
    header = ("side by side", "threads each", "batch", "images/s", "p50 ms", "p99 ms", "")
    return text_table(
        [
            header,
            *(
                (
                    row.setting.side,
                    str(row.setting.threads),
                    str(row.setting.batch),
                    f"{row.images_per_second:.1f}",
                    f"{row.p50_ms:.1f}",
                    f"{row.p99_ms:.1f}",
                    "take turns" if row.setting.takes_turns else "",
                )
                for row in rows
            ),
        ],
        left=1,
    )

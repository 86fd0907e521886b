"""The result: a row for each precision, as a table, as plain values, and a sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..._core import cpu_features
from ...terminal.tables import plural, text_table
from .advice import advise

_HEADER = (
    *("precision", "kernel", "median ms", "speed-up"),
    *("memory MB", "disk MB", "same label", "rel. error"),
)


@dataclass(frozen=True, slots=True)
class PrecisionRow:
    """The figures of a network in one precision.

    Attributes:
        precision: `f32`, `int8`, ...
        kernel: the routine that does most of the multiply-accumulates.
        median_ms: the median of the calls' milliseconds, for the whole batch.
        calls: the number of timed calls.
        speedup: the median of f32 divided by this one; 1 for f32.
        memory_mb: the resident memory that the weights take as they are packed, in 10^6 bytes;
            None if the system does not report it.
        disk_bytes: the size of the weights' files; None for weights in memory.
        agreement: the part of the photos whose best class is that of f32. None for f32, without
            photos and without classes.
        relative_error: of the logits of all photos: the length of the differences from f32,
            divided by that of the f32 ones. None for f32 and without photos.
    """

    precision: str
    kernel: str
    median_ms: float
    calls: int
    speedup: float
    memory_mb: float | None
    disk_bytes: int | None
    agreement: float | None
    relative_error: float | None


@dataclass(frozen=True, slots=True)
class PrecisionComparison:
    """A network in each precision that it can have here; `str()` gives a table and a sentence.

    Attributes:
        version: the version of this package.
        cpu: the processor's name.
        isa: the tier of kernels.
        threads: the number of threads.
        batch: the images in a timed call.
        height: the height of the timed input in pixels.
        width: the width of the timed input in pixels.
        photos: how many photos were compared; 0 for none.
        skipped: how many photos could not be read, and so were left out.
        calibrated_here: True if int8 was made of those photos.
        rows: the precisions that were measured, `f32` first.
        left_out: of each other precision the reason why it was not.
    """

    version: str
    cpu: str
    isa: str
    threads: int
    batch: int
    height: int
    width: int
    photos: int
    skipped: int
    calibrated_here: bool
    rows: tuple[PrecisionRow, ...]
    left_out: Mapping[str, str]

    @property
    def advice(self) -> str:
        """The precision that pays here, in a sentence."""
        return advise(
            [(row.precision, row.speedup, row.agreement) for row in self.rows], cpu_features()
        )

    def as_dict(self) -> dict[str, Any]:
        """Return all fields by name, in types that JSON has; an infinite error is None."""
        values = asdict(self)
        values["left_out"] = dict(self.left_out)
        values["rows"] = list(values["rows"])
        for row in values["rows"]:
            if row["relative_error"] is not None and not math.isfinite(row["relative_error"]):
                row["relative_error"] = None
        return {**values, "advice": self.advice}

    def __str__(self) -> str:
        lines = [
            f"resnet_rs    {self.version}, {self.isa}, {plural(self.threads, 'thread')}",
            f"processor    {self.cpu}",
            f"input        batch {self.batch}, {self.height} x {self.width}, uint8",
            f"photos       {self._photos()}",
            "",
            text_table([_HEADER, *map(_cells, self.rows)], left=2),
            "",
            *(f"{name} is left out: {why}" for name, why in self.left_out.items()),
            self.advice,
        ]
        return "\n".join(lines)

    def _photos(self) -> str:
        if not self.photos:
            return "none, so no labels were compared: give --images FOLDER"
        used = ", which calibrated int8 too" if self.calibrated_here else ""
        left_out = f"; {self.skipped} could not be read" if self.skipped else ""
        return f"{self.photos}{used}{left_out}"


def _cells(row: PrecisionRow) -> tuple[str, ...]:
    return (
        row.precision,
        row.kernel,
        f"{row.median_ms:.2f}",
        f"{row.speedup:.2f} x",
        "-" if row.memory_mb is None else f"{row.memory_mb:.1f}",
        "-" if row.disk_bytes is None else f"{row.disk_bytes / 1e6:.1f}",
        "-" if row.agreement is None else f"{row.agreement:.1%}",
        "-" if row.relative_error is None else f"{row.relative_error:.2%}",
    )

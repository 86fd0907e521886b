"""Results as rows, and as a table for the terminal."""

from collections.abc import Sequence
from dataclasses import dataclass

from resnet_rs.terminal.tables import text_table


@dataclass(frozen=True)
class Row:
    """One trainer on one network, batch and number of threads; `None` where it did not run.

    Attributes:
        architecture: the network's name.
        runtime: its name.
        precision: of products, `f32` or `bf16`.
        version: its version, and for ours the tier in use.
        batch: images in a step.
        size: the side of the images, in pixels.
        threads: set for the runtime.
        images_per_s: by the median step.
        best_images_per_s: by the fastest step.
        ours_over_best: for ours, the median over rounds of its speed by that of the fastest other
            trainer of the same precision; above 1, ours is faster.
        error: the relative error of the fall of the loss by the first step, against torch in f64;
            in bf16, of the first loss. None if nothing was compared.
        peak_mb: resident memory at its largest, in a process of its own, in 10^6 bytes.
        own_mb: of it, what came after the imports: the network, the batch, the steps.
        note: why there are no numbers.
    """

    architecture: str
    runtime: str
    precision: str
    version: str
    batch: int
    size: int
    threads: int
    images_per_s: float | None = None
    best_images_per_s: float | None = None
    ours_over_best: float | None = None
    error: float | None = None
    peak_mb: float | None = None
    own_mb: float | None = None
    note: str = ""


HEAD = (
    "trainer",
    "version",
    "precision",
    "images/s",
    "best",
    "ms/step",
    "ours/best peer",
    "error",
    "peak MB",
    "own MB",
)


def table(rows: Sequence[Row]) -> str:
    """Lay out rows of one network, batch and number of threads, fastest first."""
    first = rows[0]
    title = (
        f"{first.architecture}, {first.size} x {first.size}, batch {first.batch}, "
        f"{first.threads} thread(s)"
    )
    ran = sorted(
        (row for row in rows if row.images_per_s is not None),
        key=lambda row: -(row.images_per_s or 0.0),
    )
    notes = [f"{row.runtime}: {row.note}" for row in rows if row.images_per_s is None]
    return "\n".join([title, text_table([HEAD, *map(_cells, ran)], left=3), *notes])


def _cells(row: Row) -> tuple[str, ...]:
    assert row.images_per_s is not None
    return (
        row.runtime,
        row.version,
        row.precision,
        f"{row.images_per_s:.2f}",
        f"{row.best_images_per_s:.2f}",
        f"{row.batch / row.images_per_s * 1e3:.1f}",
        "-" if row.ours_over_best is None else f"{row.ours_over_best:.2f}",
        "-" if row.error is None else f"{row.error:.0e}",
        "-" if row.peak_mb is None else f"{row.peak_mb:.0f}",
        "-" if row.own_mb is None else f"{row.own_mb:.0f}",
    )

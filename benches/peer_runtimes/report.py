"""Results as rows: a table for the terminal, a CSV file and a plot."""

import csv
import dataclasses
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Row:
    """One runtime at one batch size and number of threads; `None` where it did not run.

    Attributes:
        architecture: the network's name.
        precision: of the arithmetic: `f32`, `int8` or `bf16`.
        runtime: its name.
        version: its version, and for ours the tier in use.
        batch: images in a call.
        height: of the input, in pixels.
        width: of the input, in pixels.
        threads: set for the runtime.
        median_ms: of a call, over all timed calls.
        min_ms: of a call.
        ours_over_peer: median over rounds of our median by the peer's; below 1, ours is faster.
        relative_error: L2, of the logits against torch in f64; in low precision over all held-out
            images.
        agreement: the part of the held-out images whose largest logit is torch's.
        note: why there are no numbers.
    """

    architecture: str
    precision: str
    runtime: str
    version: str
    batch: int
    height: int
    width: int
    threads: int
    median_ms: float | None = None
    min_ms: float | None = None
    ours_over_peer: float | None = None
    relative_error: float | None = None
    agreement: float | None = None
    note: str = ""


def machine_line() -> str:
    """CPU model, cores that this process may use, operating system and date."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [x for x in cpuinfo.read_text().splitlines() if x.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count()
    date = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    return f"{model}, {cores} cores, {platform.system()} {platform.machine()}, {date}"


def print_table(rows: Sequence[Row]) -> None:
    """Print rows of one network, precision, batch size and number of threads, fastest first."""
    first = rows[0]
    print(
        f"\n{first.architecture}, {first.precision}, batch {first.batch}, "
        f"{first.height} x {first.width}, {first.threads} thread(s)"
    )
    head = f"{'runtime':<20} {'median ms':>9} {'min ms':>8} {'ms/image':>8} {'ours/peer':>9}"
    low = first.precision != "f32"
    print(f"{head} {'rel. error':>10}{' same class' if low else ''}  version")
    for row in sorted(rows, key=lambda row: row.median_ms or float("inf")):
        if row.median_ms is None or row.min_ms is None:
            print(f"{row.runtime:<20} {row.note}")
            continue
        ratio = "" if row.ours_over_peer is None else f"{row.ours_over_peer:.3f}"
        agreement = "" if row.agreement is None else f"{row.agreement:11.1%}"
        print(
            f"{row.runtime:<20} {row.median_ms:9.2f} {row.min_ms:8.2f} "
            f"{row.median_ms / row.batch:8.2f} {ratio:>9} {row.relative_error:10.1e}{agreement}  "
            f"{row.version}"
        )


def write_csv(path: Path, rows: Sequence[Any], machine: str) -> None:
    """Write every row, an instance of one dataclass, with the machine in each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*(field.name for field in dataclasses.fields(rows[0])), "machine"])
        writer.writerows([*dataclasses.astuple(row), machine] for row in rows)


def write_plot(path: Path, rows: Sequence[Row], machine: str) -> None:
    """Draw milliseconds an image: a panel for each network, batch size and number of threads.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    settings = list(dict.fromkeys((row.architecture, row.batch, row.threads) for row in rows))
    names = list(dict.fromkeys(row.runtime for row in rows if row.median_ms is not None))
    figure = Figure(figsize=(7, 0.8 + 2.4 * len(settings)), layout="constrained")
    panels = figure.subplots(len(settings), squeeze=False)[:, 0]
    for panel, (architecture, batch, threads) in zip(panels, settings, strict=True):
        medians = {
            row.runtime: row.median_ms / batch
            for row in rows
            if (row.architecture, row.batch, row.threads) == (architecture, batch, threads)
            and row.median_ms is not None
        }
        present = [name for name in reversed(names) if name in medians]
        colours = ["tab:orange" if name == "resnet_rs" else "tab:gray" for name in present]
        bars = panel.barh(present, [medians[name] for name in present], color=colours)
        panel.bar_label(bars, fmt="%.1f", padding=3)
        panel.margins(x=0.12)
        panel.set_title(f"{architecture}, batch {batch}, {threads} thread(s)", loc="left")
    panels[-1].set_xlabel("ms an image (median; less is better)")
    figure.suptitle(
        f"{rows[0].precision}, {rows[0].height} x {rows[0].width}\n{machine}", fontsize=9
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)

"""A picture of the scaling: latency over threads, and the throughput of each setting."""

from __future__ import annotations

import os
from typing import Any

from ..plots import BLUE, FAINT, GREEN, GREY, RED, TEXT
from .figures import Row
from .result import Scaling


def plot_scaling(scaling: Scaling, path: str | os.PathLike[str], *, note: str = "") -> None:
    """Draw latency over threads on the left, and a bar for each setting's throughput on the right.

    The settings to choose are red.

    Args:
        scaling: the measured settings.
        path: the file to write; its suffix selects the format.
        note: text below the picture, beside the processor's name: a date, for example.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
        OSError: the file cannot be written.
        ValueError: matplotlib cannot write this format.
    """
    from matplotlib.figure import Figure

    latency = scaling.of(scaling.latency)
    throughput = scaling.of(scaling.throughput)
    figure = Figure(figsize=(12, 1.8 + max(2.6, 0.36 * len(throughput))), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(2, 3))
    _draw_latency(left, latency, scaling.advice.latency)
    _draw_throughput(right, throughput, scaling.advice.throughput)
    for axes in (left, right):
        axes.tick_params(which="both", colors=TEXT, length=0)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    told = (
        f"resnet_rs {scaling.version}",
        scaling.cpu,
        f"{scaling.height} x {scaling.width}",
        note,
    )
    figure.supxlabel(", ".join(filter(None, told)), fontsize=8, color=FAINT, x=0.01, ha="left")
    figure.savefig(path, dpi=150)


def _draw_latency(axes: Any, rows: list[Row], chosen: Row) -> None:
    places = range(len(rows))
    ms = [row.p50_ms for row in rows]
    ideal = [ms[0] / row.setting.threads for row in rows]
    axes.plot(places, ideal, "--", color=GREY, label="1 thread's, divided by the threads")
    axes.plot(places, [row.p99_ms for row in rows], ":", color=BLUE, label="p99")
    axes.plot(places, ms, "o-", color=BLUE, label="median")
    for place, row in enumerate(rows):
        is_chosen = row is chosen
        if is_chosen:
            axes.plot([place], [row.p50_ms], "o", color=RED, markersize=10)
        axes.annotate(
            f"{row.p50_ms:.1f}",
            (place, row.p50_ms),
            xytext=(8, 8),
            textcoords="offset points",
            color=RED if is_chosen else TEXT,
        )
    axes.set_xticks(places, [str(row.setting.threads) for row in rows])
    axes.set_xlim(-0.3, len(rows) - 0.5)
    axes.set_ylim(0, max(row.p99_ms for row in rows) * 1.15)
    axes.set_xlabel("threads", color=TEXT)
    axes.set_title("latency of one image, ms (less is better)", loc="left", color=TEXT)
    axes.legend(frameon=False, fontsize=9)


def _draw_throughput(axes: Any, rows: list[Row], chosen: Row) -> None:
    bars = axes.barh(
        range(len(rows)),
        [row.images_per_second for row in rows],
        0.7,
        color=[RED if row.setting == chosen.setting else _colour(row) for row in rows],
    )
    axes.set_yticks(range(len(rows)), [str(row.setting) for row in rows], fontsize=9)
    axes.invert_yaxis()
    axes.bar_label(
        bars,
        [f"{row.images_per_second:.1f}   (p99 {row.p99_ms:,.0f} ms)" for row in rows],
        padding=5,
        fontsize=9,
        color=TEXT,
    )
    # Room for the longest bar's label.
    axes.set_xlim(0, max(row.images_per_second for row in rows) * 1.4)
    axes.set_title("images a second (more is better), and a call's p99", loc="left", color=TEXT)


def _colour(row: Row) -> str:
    if row.setting.processes > 1:
        return GREEN
    return GREY if row.setting.callers == 1 else BLUE

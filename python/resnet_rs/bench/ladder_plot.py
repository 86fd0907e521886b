"""A picture of the ladder."""

from __future__ import annotations

import os

from ..terminal.tables import plural
from .ladder import Ladder, Rung
from .plots import FAINT, GREY, RED, TEXT


def plot_ladder(ladder: Ladder, path: str | os.PathLike[str], *, note: str = "") -> None:
    """Draw the rungs as bars, slowest on top, on a logarithmic scale.

    Args:
        ladder: what was measured.
        path: the file to write; its suffix selects the format.
        note: text below the picture, beside the processor's name: a date, for example.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
        OSError: the file cannot be written.
        ValueError: matplotlib cannot write this format.
    """
    from matplotlib.figure import Figure

    rungs = ladder.rungs
    figure = Figure(figsize=(8, 1.5 + 0.55 * len(rungs)), layout="constrained")
    axes = figure.subplots()
    colours = [GREY] * (len(rungs) - 1) + [RED]
    bars = axes.barh(range(len(rungs)), [rung.ms for rung in rungs], 0.68, color=colours)
    axes.set_yticks(range(len(rungs)), [_stage(rung) for rung in rungs], fontsize=11)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.bar_label(bars, [_label(rung) for rung in rungs], padding=5, fontsize=11, color=TEXT)
    # Room for the longest bar's label, in decades.
    axes.set_xlim(min(rung.ms for rung in rungs) / 3, max(rung.ms for rung in rungs) * 8)
    axes.set_xlabel("milliseconds an image, logarithmic (median; less is better)", color=TEXT)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.tick_params(which="both", colors=TEXT, length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    figure.suptitle(
        f"ResNet-50, one image of {ladder.height} x {ladder.width}: "
        f"{rungs[-1].gain_in_all:,.0f} times as fast in {plural(len(rungs) - 1, 'step')}",
        fontsize=13,
        color=TEXT,
        x=0.01,
        ha="left",
    )
    told = ", ".join(filter(None, (f"resnet_rs {ladder.version}", ladder.cpu, note)))
    figure.supxlabel(told, fontsize=8, color=FAINT, x=0.01, ha="left")
    figure.savefig(path, dpi=150)


def _stage(rung: Rung) -> str:
    return f"{rung.name} ({rung.threads})" if rung.threads > 1 else rung.name


def _label(rung: Rung) -> str:
    ms = f"{rung.ms:,.0f} ms" if rung.ms >= 100 else f"{rung.ms:.1f} ms"
    # The first rung has no rung before it to compare with.
    return ms if rung.gain_in_all == 1 else f"{ms}   ({rung.gain:.1f} x)"

"""A picture of a report: the signal-to-noise ratio of every layer."""

from __future__ import annotations

import os

from ..inspect.pictures.style import ACCENT, BAR, DPI, QUIET, TEXT, require_matplotlib
from .report import Report


def plot_report(report: Report, path: str | os.PathLike[str]) -> None:
    """Draw the layers as bars in network order, the worst ones in another colour.

    Args:
        report: what was measured.
        path: the file to write; its suffix selects the format.

    Raises:
        ImportError: matplotlib is not installed.
        OSError: the file cannot be written.
        ValueError: matplotlib cannot write this format.
    """
    require_matplotlib()
    from matplotlib.figure import Figure

    layers = [layer for layer in report.layers if layer.snr_db is not None]
    worst = {layer.name for layer in report.worst()}
    figure = Figure(figsize=(8, 1.5 + 0.22 * len(layers)), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(
        range(len(layers)),
        [layer.snr_db or 0.0 for layer in layers],
        0.7,
        color=[ACCENT if layer.name in worst else BAR for layer in layers],
    )
    axes.set_yticks(range(len(layers)), [layer.name for layer in layers], fontsize=8)
    axes.margins(y=0.01)
    axes.invert_yaxis()
    axes.bar_label(bars, fmt="%.0f", padding=3, fontsize=8, color=TEXT)
    axes.set_xlabel("signal to noise in decibels (more is better)", color=TEXT)
    axes.tick_params(colors=TEXT, length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    agreement = "" if report.agreement is None else f"{report.agreement:.1%} same class, "
    figure.suptitle(
        f"{report.architecture} in int8: {agreement}relative error {report.relative_error:.2%}",
        fontsize=12,
        color=TEXT,
        x=0.01,
        ha="left",
    )
    figure.supxlabel(
        f"scales by {report.method} from {report.calibration_images} images; compared with f32 on "
        f"{report.images} images",
        fontsize=8,
        color=QUIET,
        x=0.01,
        ha="left",
    )
    figure.savefig(path, dpi=DPI)

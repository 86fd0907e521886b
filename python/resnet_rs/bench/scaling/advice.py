"""The settings to choose, and the lines that set them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...terminal.tables import plural
from .figures import Row

NEAR = 0.03
"""Settings that are slower than the best by no more than this part count as equal to it."""


@dataclass(frozen=True, slots=True)
class Advice:
    """The settings to choose; `str()` says it in words.

    Attributes:
        one_thread: one image on one thread, to compare with.
        latency: the fewest threads with which one image is about as fast as it gets.
        throughput: the smallest setting that makes about as many images a second as any.
        default_threads: the threads that a model has here if nothing is set.
    """

    one_thread: Row
    latency: Row
    throughput: Row
    default_threads: int | None

    def __str__(self) -> str:
        return "\n".join(
            [
                *self._latency(),
                "",
                *self._throughput(),
                "",
                "Folders and model.stream divide the CPUs by themselves: nothing needs to be set.",
                f"Settings within {NEAR * 100:.0f} % of the best count as equal; the smallest one "
                "is named.",
            ]
        )

    def _latency(self) -> list[str]:
        row = self.latency
        threads = row.setting.threads
        lines = [
            f"For the lowest latency: {plural(threads, 'thread')}.",
            f"    an image takes {row.p50_ms:.1f} ms (p99 {row.p99_ms:.1f} ms)",
            f"    in Python:      model = resnet_rs.load(..., threads={threads})",
            f"    in a command:   --threads {threads}",
            f"    for a program:  RESNET_RS_NUM_THREADS={threads}",
        ]
        if threads > 1:
            lines[1] += f"; with 1 thread {self.one_thread.p50_ms:.1f} ms"
        if threads == self.default_threads:
            lines.append("    It is the default here: nothing needs to be set.")
        return lines

    def _throughput(self) -> list[str]:
        row, setting = self.throughput, self.throughput.setting
        several = setting.processes > 1 or setting.callers > 1
        images = plural(setting.batch, "image")
        lines = [
            f"For the highest throughput: {setting.side} of {plural(setting.threads, 'thread')}"
            f"{' each' if several else ''}, {images} a call.",
            f"    {row.images_per_second:.1f} images/s; a call takes {row.p50_ms:.1f} ms "
            f"(p99 {row.p99_ms:.1f} ms)",
            f"    in Python:      model = resnet_rs.load(..., threads={setting.threads})",
        ]
        if setting.processes > 1:
            lines += [
                f"                    and fork {setting.processes} processes, "
                f"each with calls of {images}",
                f"    for a server:   RESNET_RS_NUM_THREADS={setting.threads} "
                f"gunicorn --preload --workers {setting.processes} ...",
            ]
        else:
            if setting.callers > 1:
                lines.append(
                    f"                    and {setting.callers} Python threads that share it, "
                    f"each with calls of {images}"
                )
            lines.append(f"    for a program:  RESNET_RS_NUM_THREADS={setting.threads}")
        if setting != self.latency.setting:
            lines[1] += (
                f"; the setting for latency makes {self.latency.images_per_second:.1f} images/s"
            )
        return lines


def advise(
    latency: Sequence[Row], throughput: Sequence[Row], *, default_threads: int | None = None
) -> Advice:
    """Choose a setting for latency and one for throughput.

    Args:
        latency: the rows of one caller with one image, with ever more threads from 1 up.
        throughput: the rows to choose from for throughput, beside those.
        default_threads: the threads that a model has if nothing is set; None if that is not known.
    """
    fastest = min(row.p50_ms for row in latency)
    most = max(row.images_per_second for row in (*latency, *throughput))
    return Advice(
        one_thread=latency[0],
        latency=min(
            (row for row in latency if row.p50_ms <= fastest * (1 + NEAR)),
            key=lambda row: row.setting.threads,
        ),
        throughput=min(
            (row for row in (*latency, *throughput) if row.images_per_second >= most * (1 - NEAR)),
            key=_size,
        ),
        default_threads=default_threads,
    )


def _size(row: Row) -> tuple[int, int, int, float]:
    """The costs of a setting, the most important one first.

    CPUs are taken from other programs; several processes have the memory of several; images that
    are in progress together wait for each other.
    """
    setting = row.setting
    in_progress = setting.processes * setting.callers * setting.batch
    return setting.busy, setting.processes, in_progress, row.p99_ms

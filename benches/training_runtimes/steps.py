"""The steps of ours: what each kind of step and each layer takes, and its share of the peak."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from resnet_rs import _core
from resnet_rs.targets import target_matrix
from resnet_rs.terminal.tables import text_table
from training_runtimes.task import Task

FORWARD, BACKWARD = "forward", "backward"


@dataclass(frozen=True)
class Work:
    """Steps that belong together, added up.

    Attributes:
        name: the kind of step, or the layer.
        direction: `forward` or `backward`.
        count: the number of steps.
        macs: multiply-accumulates that they do; those of Winograd's algorithm are fewer than those
            of the direct convolution.
        seconds: the sum of the steps' medians.
    """

    name: str
    direction: str
    count: int
    macs: int
    seconds: float


def measure(task: Task, trainer: Any, rounds: int) -> tuple[list[Mapping[str, Any]], list[float]]:
    """Measure the steps of a gradient; the optimiser is not among them.

    Returns:
        The steps as the core describes them, and the median seconds of each.
    """
    core = trainer._core
    plan = core.plan(task.batch, task.size, task.size)
    targets = target_matrix(task.labels, core.num_classes).astype(np.float32)
    core.profile(task.nhwc, targets)
    profiles = [core.profile(task.nhwc, targets) for _ in range(rounds)]
    return plan, [statistics.median(times) for times in zip(*profiles, strict=True)]


def kind_of(step: Mapping[str, Any]) -> str:
    """The kind of a step: its operation."""
    return str(step["operation"])


def stage_of(step: Mapping[str, Any]) -> str:
    """The stage of a step: the first part of its layer's name."""
    return layer_of(step).partition(".")[0]


def layer_of(step: Mapping[str, Any]) -> str:
    """The layer of a step."""
    return str(step["name"])


def grouped(
    plan: Sequence[Mapping[str, Any]],
    seconds: Sequence[float],
    key: Callable[[Mapping[str, Any]], str],
) -> list[Work]:
    """Add steps up by a key and their direction, in the order of the walk."""
    sums: dict[tuple[str, str], tuple[int, int, float]] = {}
    for step, time in zip(plan, seconds, strict=True):
        place = (key(step), BACKWARD if step["backward"] else FORWARD)
        count, macs, total = sums.get(place, (0, 0, 0.0))
        sums[place] = (count + 1, macs + step["macs"], total + time)
    return [
        Work(name, direction, count, macs, total)
        for (name, direction), (count, macs, total) in sums.items()
    ]


def table(works: Sequence[Work], head: str, peak: float) -> str:
    """Lay out what steps take.

    Args:
        works: a row each.
        head: the title of the first column.
        peak: multiply-accumulates a second of all threads together, in registers.
    """
    whole = sum(work.seconds for work in works)
    rows: list[tuple[str, ...]] = [
        (head, "pass", "steps", "MMAC done", "ms", "share of time", "share of peak")
    ]
    rows += [_cells(work, whole, peak) for work in works]
    everything = Work("all", "", sum(w.count for w in works), sum(w.macs for w in works), whole)
    return text_table([*rows, _cells(everything, whole, peak)], left=2)


def peak_of(isa: str, threads: int) -> float:
    """The peak of some threads with a tier's instructions: the median of three measurements."""
    return threads * statistics.median(_core.peak_macs_per_second(isa) for _ in range(3))


def _cells(work: Work, whole: float, peak: float) -> tuple[str, ...]:
    share = work.macs / work.seconds / peak if work.seconds else 0.0
    return (
        work.name,
        work.direction,
        str(work.count),
        f"{work.macs / 1e6:.0f}" if work.macs else "-",
        f"{work.seconds * 1e3:.2f}",
        f"{work.seconds / whole:.1%}",
        f"{share:.0%}" if work.macs else "-",
    )

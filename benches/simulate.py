r"""Predict a forward's time on machines with more cores than this one, from its plan alone.

The plan of a forward is a pure function of shapes and of the number of threads, so it can be made
for 128 threads on a laptop. This program takes the steps, tracks and items of such a plan and lets
simulated workers go through them as the real ones do: each does its own share first, then helps
the others, and a step ends with its last item. An item's time comes from numbers of a machine:

- arithmetic: multiply-accumulates by what a core does in a second. Clocks sink if all cores work;
- memory: what a step reads and writes, by what a core, and all cores together, get from the cache
  that they share; weights count once for each worker that reads them. On two sockets one half of it
  comes from the other socket;
- the end of a step: a time for the news to reach the other cores, which grows with their number.

The numbers below are fitted to one machine, sixteen cores of an Intel Xeon, in `MEASURED`: times of
resnet_rs before its threads had tracks of their own. `--check` simulates that older way, in which
all threads went through each step together, and compares. The rest predicts what runs today, and
says what the time is lost to.

Examples:
  python benches/simulate.py
  python benches/simulate.py --threads 16 64 128 --sockets 2 --batch 1 32
  python benches/simulate.py --check
"""

from __future__ import annotations

import argparse
import heapq
import math
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import resnet_rs
from peer_runtimes.arguments import add_weights, positive
from resnet_rs.terminal.tables import text_table

SIZE = 224
FLOAT_BYTES = 4
TILE_ROWS = 14
"""Rows of a tile, which share what they read of the weights."""


@dataclass(frozen=True)
class Machine:
    """The numbers of a machine.

    Attributes:
        macs_s: multiply-accumulates a second of one core that works alone, as convolutions reach.
        clock_two: the clock with two busy cores, by that with one.
        clock_all: the clock with sixteen busy cores or more.
        core_bytes_s: bytes a second that a core gets from beyond its own caches.
        shared_bytes_s: bytes a second that all cores of a socket get together.
        step_s: the end of a step, with two workers.
        step_worker_s: what each further worker adds to it.
        item_s: what taking an item takes.
        between_sockets: speed of memory and news between two sockets by that within one, a guess.
        sockets: how many.
    """

    macs_s: float = 71.6e9
    clock_two: float = 0.91
    clock_all: float = 0.76
    core_bytes_s: float = 27.6e9
    shared_bytes_s: float = 211e9
    step_s: float = 1.05e-6
    step_worker_s: float = 1.7e-6
    item_s: float = 0.35e-6
    between_sockets: float = 0.6
    sockets: int = 1

    def clock(self, workers: int) -> float:
        """The clock by that of one busy core."""
        if workers == 1:
            return 1.0
        part = min(1.0, (workers - 2) / 14)
        return self.clock_two + part * (self.clock_all - self.clock_two)


MEASURED = {
    (1, 1): 44.5,
    (1, 2): 29.1,
    (1, 4): 14.3,
    (1, 8): 8.1,
    (1, 16): 6.2,
    (8, 2): 183.0,
    (8, 4): 106.0,
    (8, 8): 62.0,
    (8, 16): 38.0,
    (32, 4): 421.0,
    (32, 8): 216.0,
    (32, 16): 130.0,
}
"""(batch, threads): milliseconds of a forward on sixteen cores of an Intel Xeon (2 MB of L2 a core,
one L3), ResNet-50 in f32, before threads had tracks of their own."""

LARGEST_ERROR = 0.15


@dataclass
class Step:
    """A step, and how far the workers have come with it.

    Attributes:
        items: that the workers share.
        item_macs: multiply-accumulates of an item.
        item_bytes: that an item reads and writes beyond its core's caches.
        shares: parts of the items, each of which one worker begins with.
        next: the next item of each part.
        done: items that are done.
        ended_s: when the last one was done.
        waiting: workers that wait for that, and since when.
    """

    items: int
    item_macs: float
    item_bytes: float
    shares: int
    next: list[int] = field(default_factory=list)
    done: int = 0
    ended_s: float = float("inf")
    waiting: list[tuple[int, Worker, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.next = [self.items * share // self.shares for share in range(self.shares)]

    def take(self, share: int) -> bool:
        """Take an item, of the own share if there is one; report whether there was any."""
        for i in range(self.shares):
            owner = (share + i) % self.shares
            if self.next[owner] < self.items * (owner + 1) // self.shares:
                self.next[owner] += 1
                return True
        return False


Segment = list[list[Step]]
"""Tracks of steps."""


@dataclass
class Worker:
    """A worker: the tracks that it has still to visit with its share of each, and its next step."""

    visits: list[tuple[list[Step], int]]
    place: int = 0
    doing: Step | None = None


@dataclass
class Report:
    """The seconds of a forward, and the parts of all workers' seconds.

    Attributes:
        seconds: of the forward.
        arithmetic: multiply-accumulates at the clock of so many cores, and taking items.
        memory: what items take longer because of memory.
        news: from the end of a step until the workers that wait for it know.
        idle: waiting for the last item of a step.
    """

    seconds: float = 0.0
    arithmetic: float = 0.0
    memory: float = 0.0
    news: float = 0.0
    idle: float = 0.0


class Simulation:
    """Workers that go through the segments of a forward on a machine."""

    def __init__(self, machine: Machine, workers: int) -> None:
        between = machine.between_sockets if min(machine.sockets, workers) > 1 else 1.0
        shared_bytes_s = machine.shared_bytes_s * min(machine.sockets, workers) * between
        self._workers = workers
        self._macs_s = machine.macs_s * machine.clock(workers)
        self._bytes_s = min(machine.core_bytes_s * between, shared_bytes_s / workers)
        self._news_s = (machine.step_s + machine.step_worker_s * (workers - 2)) / between
        self._item_s = machine.item_s
        self._events: list[tuple[float, int, Worker]] = []
        self.report = Report()

    def run(self, segments: Iterable[Segment]) -> Report:
        """Let all segments pass; each begins when the one before has ended."""
        for segment in segments:
            start = self.report.seconds
            for index in range(self._workers):
                worker = Worker(visits(segment, index, self._workers))
                heapq.heappush(self._events, (start, index, worker))
            while self._events:
                now, index, worker = heapq.heappop(self._events)
                self.report.seconds = max(self.report.seconds, now)
                self._go_on(worker, index, now)
        return self.report

    def _go_on(self, worker: Worker, index: int, now: float) -> None:
        """End what the worker is doing, and begin the next: an item, or a wait."""
        if worker.doing is not None:
            self._end_item(worker.doing, now)
            worker.doing = None
        while worker.visits:
            track, share = worker.visits[0]
            if worker.place == len(track) or track[-1].ended_s <= now:
                worker.visits.pop(0)
                worker.place = 0
                continue
            step = track[worker.place]
            if step.ended_s <= now:
                worker.place += 1
            elif step.take(share):
                worker.doing = step
                heapq.heappush(self._events, (now + self._item(step), index, worker))
                return
            else:
                step.waiting.append((index, worker, now))
                return

    def _item(self, step: Step) -> float:
        """The seconds of an item; all workers use the memory at the same time."""
        arithmetic = step.item_macs / self._macs_s + self._item_s
        seconds = max(arithmetic, step.item_bytes / self._bytes_s)
        self.report.arithmetic += arithmetic
        self.report.memory += seconds - arithmetic
        return seconds

    def _end_item(self, step: Step, now: float) -> None:
        step.done += 1
        if step.done < step.items:
            return
        step.ended_s = now
        for index, worker, since in step.waiting:
            heapq.heappush(self._events, (now + self._news_s, index, worker))
            self.report.idle += now - since
            self.report.news += self._news_s
        step.waiting.clear()


def visits(segment: Segment, index: int, workers: int) -> list[tuple[list[Step], int]]:
    """The tracks in a worker's order: that of `Segment::visits` in rust/plan/segment.rs."""
    tracks = len(segment)
    own = index * tracks // workers
    others = [(own + tracks // 2 + i) % tracks for i in range(tracks)]
    order = [own, *(track for track in others if track != own)]
    return [(segment[track], share_of(index, owners(track, tracks, workers))) for track in order]


def owners(track: int, tracks: int, workers: int) -> range:
    """The workers that begin with a track."""
    return range(-(-track * workers // tracks), -(-(track + 1) * workers // tracks))


def share_of(index: int, owners: range) -> int:
    """The part of a track's items that a worker begins with."""
    return index - owners.start if index in owners else index % max(len(owners), 1)


Entry = dict[str, Any]
"""A step as `Network.plan` and `Network.schedule` describe it."""


def segment_of(tracks: Sequence[Sequence[Entry]], workers: int) -> Segment:
    """The steps of tracks, with what they move beyond the cores' caches."""
    segment = []
    for track, entries in enumerate(tracks):
        shares = max(1, len(owners(track, len(tracks), workers)))
        read, steps = 0, []
        for entry in entries:
            points, height, width, channels = entry["output_shape"]
            written = points * height * width * channels * FLOAT_BYTES
            # Each point of a Winograd product has weights of its own.
            is_product = entry["algorithm"] == "winograd" and entry["macs"] > 0
            rows = width if is_product else points * height * width
            weights = entry["macs"] / rows * FLOAT_BYTES
            items = entry["items"]
            readers = min(shares, items, math.ceil(rows / TILE_ROWS))
            moved = read + written + weights * readers
            steps.append(Step(items, entry["macs"] / items, moved / items, shares))
            read = written
        segment.append(steps)
    return segment


class Network:
    """ResNet-50 at 224 x 224, whose plans are simulated."""

    def __init__(self, weights: Path) -> None:
        self._weights = weights

    def _core(self, threads: int) -> Any:
        preprocessing = {"resize": 232, "crop": SIZE}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = resnet_rs.load(self._weights, threads=threads, preprocessing=preprocessing)
        return model.loaded.network

    def today(self, batch: int, threads: int) -> Iterator[Segment]:
        """The segments of a forward."""
        for tracks in self._core(1).schedule(batch, SIZE, SIZE, threads):
            yield segment_of(tracks, threads)

    def together(self, batch: int, threads: int) -> Iterator[Segment]:
        """Those of the way before: all threads on each step, with an image for each."""
        core = self._core(threads)
        for first in range(0, batch, 8):
            images = min(8, batch - first)
            group = min(images, threads)
            begin, _ = split(core.plan(group, SIZE, SIZE))
            _, end = split(core.plan(images, SIZE, SIZE))
            for _ in range(0, images, group):
                yield segment_of([begin], threads)
            yield segment_of([end], threads)


def split(plan: list[Entry]) -> tuple[list[Entry], list[Entry]]:
    """The steps of the layers with many pixels, and those of the layers with few."""
    few = next(i for i, entry in enumerate(plan) if entry["name"] == "layer4.0.relu2")
    return plan[:few], plan[few:]


def main(argv: Sequence[str] | None = None) -> int:
    """Predict as the arguments say; with `--check`, return 1 if a time is off by over 15 %."""
    arguments = parse_arguments(argv)
    network = Network(arguments.weights)
    machine = Machine(sockets=arguments.sockets)
    return check(network) if arguments.check else predict(network, machine, arguments)


def check(network: Network) -> int:
    """Compare with the measured times."""
    rows, worst = [["batch", "threads", "measured ms", "simulated ms", "off by"]], 0.0
    for (batch, threads), measured in MEASURED.items():
        simulated = Simulation(Machine(), threads).run(network.together(batch, threads)).seconds
        off = simulated * 1e3 / measured - 1
        worst = max(worst, abs(off))
        rows.append(
            [f"{batch}", f"{threads}", f"{measured}", f"{simulated * 1e3:.1f}", f"{off:+.0%}"]
        )
    print(text_table(rows, left=0))
    return int(worst > LARGEST_ERROR)


def predict(network: Network, machine: Machine, arguments: argparse.Namespace) -> int:
    """Print times, throughput and what the time is lost to."""
    header = ["batch", "threads", "ms", "images/s", "gain", "arithmetic", "memory", "idle", "news"]
    rows = [header]
    for batch in arguments.batch:
        alone = Simulation(machine, 1).run(network.today(batch, 1)).seconds
        for threads in arguments.threads:
            report = Simulation(machine, threads).run(network.today(batch, threads))
            seconds = report.seconds
            parts = [report.arithmetic, report.memory, report.idle, report.news]
            rows.append(
                [
                    f"{batch}",
                    f"{threads}",
                    f"{seconds * 1e3:.1f}",
                    f"{batch / seconds:.0f}",
                    f"{alone / seconds:.1f} x",
                    *(f"{part / (seconds * threads):.0%}" for part in parts),
                ]
            )
    print(text_table(rows, left=0))
    print(NOTES)
    return 0


NOTES = """
gain: by one thread. The last four columns are shares of the time of all threads: multiplying and
adding at the clock of so many busy cores; waiting for memory; waiting for the last item of a step;
waiting for the news that a step has ended."""


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; `--help` describes it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    threads = [1, 2, 4, 8, 16, 32, 64, 128]
    add("--threads", type=positive, nargs="+", default=threads, metavar="N", help="(1 to 128)")
    add("--batch", type=positive, nargs="+", default=[1, 32, 128], metavar="N", help="(1 32 128)")
    add("--sockets", type=positive, default=1, metavar="N", help="of the machine (default: 1)")
    add("--check", action="store_true", help="compare with measured times instead")
    add_weights(parser)
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())

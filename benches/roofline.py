r"""What limits each layer: arithmetic or memory, and how near to that limit it runs.

For every kind of layer the table has the work that it does, the bytes that it needs at least, and
three times: its arithmetic at the measured peak, its weights at the measured bandwidth, and as
measured. It cannot be faster than the larger of the first two. Activations have no time of their
own: a layer finds most of what it reads in the caches near the cores, where the layer before has
left it.

Examples:
  python benches/roofline.py
  python benches/roofline.py --batch 4 --no-winograd --weights weights/
"""

import os

# One thread for each call of numpy's products: the threads below are ours.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse
import re
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from peer_runtimes.report import machine_line
from resnet_rs import ResNet50
from resnet_rs.inspect.profile import Profile
from resnet_rs.terminal.tables import plural, text_table

BANDWIDTH_MB = (1, 100, 1000)
"""Sizes of what is read again and again: one that an L2 cache may hold, about what the network's
weights are, and more than any cache."""

WEIGHTS_MB = 100
"""The size whose bandwidth stands for that of weights at batch 1."""


@dataclass
class Kind:
    """Layers of one shape and algorithm, added up.

    Attributes:
        name: `layer3.0.relu2 indirect`, or `layer3.*.relu2 winograd` for several: layer and
            algorithm.
        count: how many there are.
        flops: 2 x multiply-accumulates that they do.
        weight_bytes: what their weights take as they are packed, without biases.
        activation_bytes: of their inputs, residuals and outputs.
        ms: as measured.
    """

    name: str
    count: int
    flops: int
    weight_bytes: int
    activation_bytes: int
    ms: float


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print as the arguments say."""
    arguments = parse_arguments(argv)
    print(machine_line())
    with tempfile.TemporaryDirectory(prefix="resnet_rs-roofline-") as scratch:
        weights = arguments.weights or random_weights(Path(scratch) / "weights")
        model = ResNet50(weights, threads=arguments.threads, winograd=arguments.winograd)
    height, width = arguments.size
    shape = (arguments.batch, height, width, 3)
    x = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    profile = model.profile(x, rounds=arguments.rounds, detail=True)
    bandwidths = {mb: read_bandwidth(mb, model.threads) for mb in BANDWIDTH_MB}
    print_machine(profile, bandwidths)
    print_kinds(kinds(profile), profile.peak_gflops, bandwidths[WEIGHTS_MB])
    return 0


def kinds(profile: Profile) -> list[Kind]:
    """Add a detailed profile's matrix products up by kind, in the order of the network."""
    found: dict[tuple[Any, ...], Kind] = {}
    previous = block_input = (0, 0, 0, 0)
    for name, group in groupby(profile.rows, key=lambda row: row.name):
        rows = list(group)
        out = rows[-1].output_shape
        macs = sum(row.macs for row in rows)
        if macs:
            # Products of one output pixel, or of one tile, use every weight once.
            weights = sum(row.macs // pixels(row) for row in rows if row.macs)
            inputs = prod(previous)
            if re.fullmatch(r"layer\d\.\d", name):
                # The residual, or what the shortcut's convolution reads: as large either way.
                inputs += prod(block_input)
                block_input = out
            stage = re.sub(r"(layer\d)\.\d", r"\1.*", name)
            algorithm = rows[0].algorithm
            key = (stage, algorithm, macs, weights)
            kind = found.setdefault(key, Kind(f"{name} {algorithm}", 0, 0, 0, 0, 0.0))
            if kind.count > 0:
                kind.name = f"{stage} {algorithm}"
            kind.count += 1
            kind.flops += 2 * macs
            kind.weight_bytes += 4 * weights
            kind.activation_bytes += 4 * (inputs + prod(out))
            kind.ms += sum(row.ms for row in rows)
        if name == "maxpool":
            block_input = out
        previous = out
    return list(found.values())


def pixels(row: Any) -> int:
    """Rows of the matrix product: output pixels, or the tiles of a Winograd layer."""
    batch, height, width, _ = row.output_shape
    if row.algorithm.startswith("winograd"):
        return int(width)  # [points, 1, tiles, channels]
    return int(batch * height * width)


def read_bandwidth(mb: int, threads: int, seconds: float = 0.5) -> float:
    """GB/s of reading the same `mb` megabytes again and again, a share for each thread.

    A dot product of an array with itself reads it once from memory; the best pass counts.
    """
    shares = [np.ones(mb * 250_000 // threads, np.float32) for _ in range(threads)]
    passes = max(1, 200 // mb)

    def read(share: np.ndarray[Any, np.dtype[np.float32]]) -> None:
        for _ in range(passes):
            np.dot(share, share)

    best = 0.0
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        readers = [threading.Thread(target=read, args=(share,)) for share in shares]
        start = time.perf_counter()
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        best = max(best, passes * mb / 1e3 / (time.perf_counter() - start))
    return best


def print_machine(profile: Profile, bandwidths: dict[int, float]) -> None:
    """Print what the threads can do at most."""
    print(
        f"\nbatch {profile.batch}, {profile.height} x {profile.width}, {profile.isa}, "
        f"{plural(profile.threads, 'thread')}, faster half of {plural(profile.rounds, 'round')}"
    )
    print(f"arithmetic  {profile.peak_gflops:.0f} GFLOP/s in registers")
    for mb, bandwidth in bandwidths.items():
        print(f"reading     {bandwidth:.0f} GB/s from {mb} MB")
    ridge = profile.peak_gflops / bandwidths[WEIGHTS_MB]
    print(f"balance     {ridge:.1f} FLOP for each byte of {WEIGHTS_MB} MB\n")


def print_kinds(kinds: Sequence[Kind], peak_gflops: float, bandwidth: float) -> None:
    """Print a row for each kind and a total."""
    header = (
        "layers",
        "count",
        "MFLOP",
        "weights MB",
        "activations MB",
        "FLOP/byte",
        "peak ms",
        "weights ms",
        "measured ms",
        "of limit",
    )
    added = (sum(getattr(kind, field) for kind in kinds) for field in SUMMED)
    total = Kind("total", *added)
    compute_ms = [kind.flops / peak_gflops / 1e6 for kind in kinds]
    memory_ms = [kind.weight_bytes / bandwidth / 1e6 for kind in kinds]
    limit_ms = list(map(max, compute_ms, memory_ms))
    columns = [[*column, sum(column)] for column in (compute_ms, memory_ms, limit_ms)]
    rows = map(cells, [*kinds, total], *columns)
    print(text_table([header, *rows], left=1))


SUMMED = ("count", "flops", "weight_bytes", "activation_bytes", "ms")
"""The fields of `Kind` after its name."""


def cells(kind: Kind, compute_ms: float, memory_ms: float, limit_ms: float) -> tuple[str, ...]:
    """A row of the table; its last cell is the limit by the measured time."""
    return (
        kind.name,
        str(kind.count),
        f"{kind.flops / 1e6:.0f}",
        f"{kind.weight_bytes / 1e6:.1f}",
        f"{kind.activation_bytes / 1e6:.1f}",
        f"{kind.flops / (kind.weight_bytes + kind.activation_bytes):.1f}",
        f"{compute_ms:.2f}",
        f"{memory_ms:.2f}",
        f"{kind.ms:.2f}",
        f"{limit_ms / kind.ms:.0%}",
    )


def random_weights(folder: Path) -> Path:
    """Export seeded random weights with ImageNet's 1,000 classes."""
    from peers import random_weights as export_random_weights

    return export_random_weights(folder)


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; `--help` describes it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--batch", type=int, default=1, metavar="N", help="(default: 1)")
    add("--threads", type=int, metavar="N", help="(default: as ResNet50 does)")
    add("--size", type=int, nargs=2, default=(224, 224), metavar=("H", "W"), help="(224 224)")
    add("--rounds", type=int, default=50, metavar="N", help="(default: 50)")
    add("--no-winograd", dest="winograd", action="store_false", help="direct convolutions only")
    add("--weights", type=Path, metavar="DIR", help="weights directory (default: random weights)")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())

r"""Measure a folder of photos: forward alone, decoding alone, and both in a stream.

A folder of JPEG photos of several sizes is made of the demo photos. Chunk by chunk they are

- decoded by as many threads as a stream has, and nothing else;
- computed from the decoded pixels, one batch in each of the model's threads, and nothing else;
- streamed: `model.stream(paths)`;

so that a change of the machine's speed hits all three alike. Then `resnet-rs predict FOLDER` runs
in a process of its own, and its resident memory is read as its results come.

With a core to spare for decoding (`threads` below `cores`), the stream should reach 0.9 of forward
alone. Without one, it cannot be faster than 1 / (1/forward + 1/decode), "ideal": every core then
spends its time on the one or the other.

Examples:
  python benches/folder.py
  python benches/folder.py --photos 1000 --threads 1 2
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import resnet_rs
from peer_runtimes.arguments import DEMO, add_weights, positive
from peer_runtimes.report import machine_line
from resnet_rs import ResNet
from resnet_rs._core import default_threads
from resnet_rs.images.preprocess import load_pixels
from resnet_rs.terminal.tables import text_table

SIZES = ((500, 375), (640, 480), (800, 600), (1280, 960))
"""Widths and heights of the photos, in pixels; ImageNet's have 500 x 375 on average."""

NOISE = 6.0
"""Standard deviation of what is added to each pixel: smooth pictures decode faster than photos."""

DISTINCT = 40
"""Files that are made; the others are links to them."""

CHUNK = 100
"""Photos that each way has a turn with."""

BATCH = 8
SEED = 0

T = TypeVar("T")


@dataclass
class Figures:
    """Seconds of each way over all photos, and where a stream's threads spent theirs."""

    photos: int = 0
    decode_s: float = 0.0
    forward_s: float = 0.0
    stream_s: float = 0.0
    load_cpu_s: float = 0.0
    compute_cpu_s: float = 0.0
    idle_s: float = 0.0
    workers: int = 0


def main(argv: Sequence[str] | None = None) -> int:
    """Measure as the arguments say; return 1 if a stream with a core to spare is too slow."""
    arguments = parse_arguments(argv)
    print(machine_line())
    cores = default_threads()
    with tempfile.TemporaryDirectory(prefix="resnet_rs-folder-") as scratch:
        folder = Path(scratch)
        print(f"making {arguments.photos} photos ...", file=sys.stderr, flush=True)
        paths = make_photos(folder, arguments.photos)
        rows = [HEADER]
        slow = False
        for threads in arguments.threads:
            model = resnet_rs.load(arguments.weights, threads=threads, preprocessing=PREPROCESSING)
            figures = measure(model, paths, cores)
            rows.append(row(threads, cores, figures))
            slow |= threads < cores and figures.forward_s / figures.stream_s < 0.9
        sizes = ", ".join(f"{width} x {height}" for width, height in SIZES)
        print(f"\n{arguments.photos} JPEG photos of {sizes}; 224 x 224 input, batch {BATCH}\n")
        print(text_table(rows, left=0))
        print(NOTES)
        print_memory(folder, arguments)
    return int(slow)


PREPROCESSING = {"resize": 232, "crop": 224}

HEADER = [
    "threads",
    "cores",
    "decode/s",
    "forward/s",
    "stream/s",
    "of forward",
    "ideal/s",
    "of ideal",
    "decode ms",
    "forward ms",
    "idle",
]

NOTES = """
decode/s, forward/s, stream/s: images a second. ideal: 1 / (1/forward + 1/decode) without a core to
spare, else the slower of the two. decode ms, forward ms: CPU time of an image in the stream. idle:
the share of the stream's threads' time in which they had nothing to do."""


def make_photos(folder: Path, count: int) -> list[Path]:
    """Write JPEG photos of all sizes in turn, each a demo photo enlarged, with noise."""
    sources = sorted((DEMO / "photos").glob("*.jpg"))
    noise = np.random.default_rng(SEED)
    paths: list[Path] = []
    for i in range(count):
        path = folder / f"{i:06}.jpg"
        if i >= DISTINCT:
            os.link(paths[i % DISTINCT], path)
        else:
            with Image.open(sources[i % len(sources)]) as source:
                pixels = np.asarray(source.convert("RGB").resize(SIZES[i % len(SIZES)]), np.float32)
            pixels = pixels + noise.normal(0, NOISE, pixels.shape).astype(np.float32)
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=90)
        paths.append(path)
    return paths


def measure(model: ResNet, paths: list[Path], cores: int) -> Figures:
    """Decode, compute and stream chunk after chunk, in an order that changes."""
    spec = model.config.preprocessing
    figures = Figures(workers=max(cores, model.threads))
    shuffler = random.Random(SEED)
    warm_up = np.stack([load_pixels(path, spec) for path in paths[:BATCH]])
    with ThreadPoolExecutor(model.threads) as computers, ThreadPoolExecutor(cores) as decoders:

        def forward(pixels: NDArray[np.uint8]) -> None:
            batches = (pixels[i : i + BATCH] for i in range(0, len(pixels), BATCH))
            list(
                computers.map(lambda batch: model.loaded.network.logits(batch, threads=1), batches)
            )

        def decode(chunk: list[Path]) -> NDArray[np.uint8]:
            return np.stack(list(decoders.map(lambda path: load_pixels(path, spec), chunk)))

        def stream(chunk: list[Path]) -> None:
            with model.stream(chunk, batch_size=BATCH, workers=figures.workers) as results:
                for result in results:
                    assert result.error is None, result
                figures.load_cpu_s += results.times.load_cpu_s
                figures.compute_cpu_s += results.times.compute_cpu_s
                figures.idle_s += results.times.idle_s

        for _ in range(2):
            forward(np.concatenate([warm_up] * model.threads))
        for number, chunk in enumerate(chunks(paths)):
            print(f"\r{model.threads} threads: {number * CHUNK}", end=" ...", file=sys.stderr)
            pixels, seconds = timed(partial(decode, chunk))
            figures.decode_s += seconds
            for name in shuffler.sample(("forward", "stream"), 2):
                if name == "forward":
                    figures.forward_s += timed(partial(forward, pixels))[1]
                else:
                    figures.stream_s += timed(partial(stream, chunk))[1]
            figures.photos += len(chunk)
    print(file=sys.stderr)
    return figures


def chunks(paths: list[Path]) -> Iterator[list[Path]]:
    """The paths, `CHUNK` at a time."""
    for first in range(0, len(paths), CHUNK):
        yield paths[first : first + CHUNK]


def timed(way: Callable[[], T]) -> tuple[T, float]:
    """Run one variant; return its results and its time in seconds."""
    start = time.perf_counter()
    result = way()
    return result, time.perf_counter() - start


def row(threads: int, cores: int, figures: Figures) -> list[str]:
    """One line of the table."""
    n = figures.photos
    decode, forward, stream = n / figures.decode_s, n / figures.forward_s, n / figures.stream_s
    ideal = min(decode, forward) if threads < cores else 1 / (1 / forward + 1 / decode)
    return [
        f"{threads}",
        f"{cores}",
        f"{decode:.1f}",
        f"{forward:.1f}",
        f"{stream:.1f}",
        f"{stream / forward:.2f}",
        f"{ideal:.1f}",
        f"{stream / ideal:.2f}",
        f"{figures.load_cpu_s / n * 1e3:.2f}",
        f"{figures.compute_cpu_s / n * 1e3:.2f}",
        f"{figures.idle_s / (figures.workers * figures.stream_s):.0%}",
    ]


def print_memory(folder: Path, arguments: argparse.Namespace) -> None:
    """Run the command over the folder and print its resident memory along the way."""
    command = [sys.executable, "-m", "resnet_rs", "predict", str(folder), "--format", "jsonl"]
    command += ["--weights", str(weights_at_224(folder, arguments.weights))]
    command += ["--threads", str(arguments.threads[-1]), "--batch-size", str(BATCH)]
    # The last of them a little before the end, where the process gives its memory back.
    total = arguments.photos
    marks = {total // 5, total * 3 // 5, total * 19 // 20}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    assert process.stdout is not None
    sizes = []
    start = time.perf_counter()
    for number, _ in enumerate(process.stdout, start=1):
        if number in marks:
            sizes.append(f"{resident_mb_of(process.pid):.0f} MB at {number}")
    seconds = time.perf_counter() - start
    if process.wait() != 0:
        raise SystemExit(f"resnet-rs predict ended with status {process.returncode}")
    rate = arguments.photos / seconds
    print(
        f"\nresnet-rs predict, {arguments.threads[-1]} threads: {arguments.photos} photos in ",
        end="",
    )
    print(f"{seconds:.1f} s with start and loading, {rate:.1f} images/s")
    print(f"resident memory (10^6 bytes) by photos done: {', '.join(sizes)}")


def weights_at_224(folder: Path, weights: Path) -> Path:
    """A directory with the same weights whose config asks for the preprocessing of ImageNet."""
    directory = folder / ".weights"
    directory.mkdir()
    config = json.loads((weights / "config.json").read_text(encoding="utf-8"))
    config["preprocessing"] = {**config.get("preprocessing", {}), **PREPROCESSING}
    (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (directory / "model.safetensors").symlink_to((weights / "model.safetensors").resolve())
    return directory


def resident_mb_of(process_id: int) -> float:
    """The resident memory of a process in 10^6 bytes; NaN where there is no `/proc`."""
    try:
        status = Path(f"/proc/{process_id}/status").read_text(encoding="ascii")
    except FileNotFoundError:
        return float("nan")
    line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024 / 1e6


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; `--help` describes it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    cores = default_threads()
    add("--photos", type=positive, default=200, metavar="N", help="(default: %(default)s)")
    add(
        "--threads",
        type=positive,
        nargs="+",
        default=sorted({1, cores}),
        metavar="N",
        help="of the model; a stream has as many as there are cores (default: 1 and all cores)",
    )
    add_weights(parser)
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())

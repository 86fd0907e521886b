"""Damaged files for the readers: `mutations` makes them, `assert_survives` reads them.

A reader of files from strangers may refuse a damaged one or load it (a flipped bit inside a weight
is still a weight), but it may not crash, hang, take memory beyond twice the file, or fail with
anything that is not a clear error naming the file.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import importlib
import json
import os
import random
import resource
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

HEAD_BYTES = 4096
"""Most damage goes to the start of a file, where formats keep what they say about the rest."""
TAIL_BYTES = 1024
"""And some to the end, where a zip file keeps its directory."""

FILE_SECONDS = float(os.environ.get("MUTATIONS_FILE_SECONDS", "20"))
"""Longest time for one file: a hundred times what a read takes on a busy machine."""

SEED = int(os.environ.get("MUTATIONS_SEED", "0"))
"""The seed of damage, for runs over other files than those of every day (`make fuzz`)."""

PYTHON_ALLOWANCE_BYTES = 16 << 20
"""The memory allowed beside twice the file: objects for names, shapes and buffers."""
RESIDENT_ALLOWANCE_BYTES = 64 << 20
"""The same for the whole process, whose allocators keep memory back and map files."""

SIZES = (0, 1, 0x7F, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
LONG_SIZES = (*SIZES, 1 << 32, 1 << 40, (1 << 62) + 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)


def mutations(data: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Yield `count` damaged copies of `data`; the same ones for the same seed.

    Each has one to three faults: bits flipped, bytes set, the end cut off, a range removed,
    inserted, repeated or zeroed, a 32-bit or 64-bit number set to an extreme value, or a decimal
    number made huge. Half of the faults lie in the first 4096 bytes and a fifth in the last 1024.
    """
    source = random.Random(seed)
    for _ in range(count):
        damaged = bytearray(data)
        for _ in range(source.choice((1, 1, 2, 3))):
            source.choice(FAULTS)(damaged, source)
        yield bytes(damaged)


def _flip_bits(data: bytearray, source: random.Random) -> None:
    for _ in range(source.choice((1, 1, 2, 8))):
        if data:
            data[_position(data, source)] ^= 1 << source.randrange(8)


def _set_byte(data: bytearray, source: random.Random) -> None:
    if data:
        data[_position(data, source)] = source.choice((0, 1, 0x7F, 0x80, 0xFF, ord("."), ord("R")))


def _cut_end(data: bytearray, source: random.Random) -> None:
    del data[_position(data, source) :]


def _remove(data: bytearray, source: random.Random) -> None:
    begin = _position(data, source)
    del data[begin : begin + _length(source)]


def _insert(data: bytearray, source: random.Random) -> None:
    begin = _position(data, source)
    data[begin:begin] = source.randbytes(_length(source))


def _repeat(data: bytearray, source: random.Random) -> None:
    begin, target = _position(data, source), _position(data, source)
    data[target:target] = data[begin : begin + _length(source)] * source.choice((1, 2, 50))


def _zero(data: bytearray, source: random.Random) -> None:
    begin = _position(data, source)
    end = min(begin + _length(source), len(data))
    data[begin:end] = bytes(end - begin)


def _set_size(data: bytearray, source: random.Random) -> None:
    width = source.choice((4, 8))
    if len(data) >= width:
        begin = min(_position(data, source), len(data) - width)
        value = source.choice(SIZES if width == 4 else LONG_SIZES)
        data[begin : begin + width] = value.to_bytes(width, source.choice(("little", "big")))


def _set_decimal(data: bytearray, source: random.Random) -> None:
    """Write a number as text over the next one at hand: sizes in JSON and in text files."""
    begin = _position(data, source)
    while begin < len(data) and not 0x30 <= data[begin] <= 0x39:
        begin += 1
    end = begin
    while end < len(data) and 0x30 <= data[end] <= 0x39:
        end += 1
    if begin < end:
        data[begin:end] = source.choice((b"0", b"-1", b"1e999", b"4294967297", b"9" * 30))


FAULTS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    _flip_bits,
    _flip_bits,
    _set_byte,
    _cut_end,
    _remove,
    _insert,
    _repeat,
    _zero,
    _set_size,
    _set_size,
    _set_decimal,
)


def _position(data: bytearray, source: random.Random) -> int:
    if not data:
        return 0
    where = source.random()
    if where < 0.5:
        return source.randrange(min(HEAD_BYTES, len(data)))
    if where < 0.7:
        return source.randrange(max(0, len(data) - TAIL_BYTES), len(data))
    return source.randrange(len(data))


def _length(source: random.Random) -> int:
    return source.choice((1, 1, 2, 4, 8, 64, 1000))


@dataclass
class Outcome:
    """The outcome of a run over damaged files.

    Attributes:
        loaded: files that were read.
        refused: files that raised an error naming the file.
        python_peak_bytes: most that Python and NumPy held during one read, beyond what they held
            before it.
        resident_peak_bytes: the most by which one read made the process grow.
        failure: the first file that ended in anything else, in words; empty where none did.
    """

    loaded: int = 0
    refused: int = 0
    python_peak_bytes: int = 0
    resident_peak_bytes: int = 0
    failure: str = ""


def assert_survives(
    read: Callable[[Path], Any],
    data: bytes,
    suffix: str,
    count: int,
    tmp_path: Path,
    *,
    seed: int = SEED,
    name: str | None = None,
) -> Outcome:
    """Read `count` damaged copies of a file in a process of their own.

    Args:
        read: a function at the top level of a module (of the package, or of a test file): takes
            the path, returns anything, raises `WeightsError` or `OSError` naming the file.
        data: the sound file; reading it must succeed.
        suffix: what the files' names end in, such as `.pth`.
        count: how many damaged copies.
        tmp_path: where they are written, one over the other: after a failure the file is there.
        seed: of the damage; by default that of the run.
        name: the files' whole name, for a reader that looks at its neighbours too.

    Returns:
        How many were loaded and refused, and the peaks of memory.

    Raises:
        AssertionError: a read crashed, hung, took memory beyond twice the file, or raised
            something else.
    """
    sound = tmp_path / "sound.bin"
    sound.write_bytes(data)
    path = tmp_path / (name or f"damaged{suffix}")
    reader = f"{read.__module__}:{read.__qualname__}"
    command = [sys.executable, "-W", "error", __file__, reader, sound, path, count, seed]
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        timeout=FILE_SECONDS + count,
        check=False,
    )
    assert done.returncode == 0, f"the reader died on {path}:\n{done.stdout}{done.stderr}"
    outcome = Outcome(**json.loads(done.stdout.splitlines()[-1]))
    _note(reader, outcome)
    assert not outcome.failure, f"{outcome.failure}\n{done.stderr}"
    assert outcome.loaded + outcome.refused == count
    return outcome


def _note(reader: str, outcome: Outcome) -> None:
    """Add the counts to the file that `MUTATIONS_COUNTS` names, if it names one."""
    if path := os.environ.get("MUTATIONS_COUNTS"):
        with open(path, "a", encoding="utf-8") as file:
            print(reader, outcome.loaded, outcome.refused, file=file)


def main(reader: str, sound: str, target: str, count: str, seed: str) -> int:
    """Run in the process that `assert_survives` starts; prints an `Outcome` as JSON."""
    sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "tools")]
    module, _, function = reader.partition(":")
    read: Callable[[Path], Any] = getattr(importlib.import_module(module), function)
    data = Path(sound).read_bytes()
    path = Path(target)
    # The first read imports what reading needs, which is not the damaged files' memory.
    path.write_bytes(data)
    read(path)

    # Collecting what the imports made, once for each file, would take most of the time.
    gc.collect()
    gc.freeze()

    outcome = Outcome()
    tracemalloc.start()
    for index, damaged in enumerate(mutations(data, int(count), int(seed))):
        path.write_bytes(damaged)
        # Not SIGALRM: this one ends the process from a thread, whatever the reader is doing.
        faulthandler.dump_traceback_later(FILE_SECONDS, exit=True)
        outcome.failure = _read_one(read, path, len(damaged), outcome)
        faulthandler.cancel_dump_traceback_later()
        if outcome.failure:
            outcome.failure = f"damaged file {index} of seed {seed}, {path}: {outcome.failure}"
            break
    print(json.dumps(asdict(outcome)))
    return 0


def _read_one(read: Callable[[Path], Any], path: Path, size: int, outcome: Outcome) -> str:
    """Read one file and count it; returns what is wrong with how that went, or nothing."""
    from resnet_rs import WeightsError

    gc.collect()
    tracemalloc.reset_peak()
    held = tracemalloc.get_traced_memory()[0]
    resident = reset_resident_peak()
    complaint = ""
    try:
        read(path)
        outcome.loaded += 1
    except (WeightsError, OSError) as error:
        outcome.refused += 1
        if path.name not in str(error):
            complaint = f"the error does not name the file: {error!r}"
    except Exception as error:
        complaint = f"expected WeightsError or OSError, got {error!r}"
    python = tracemalloc.get_traced_memory()[1] - held
    grown = resident_peak() - resident
    outcome.python_peak_bytes = max(outcome.python_peak_bytes, python)
    outcome.resident_peak_bytes = max(outcome.resident_peak_bytes, grown)
    if python > 2 * size + PYTHON_ALLOWANCE_BYTES:
        complaint = f"reading {size} bytes took {python} bytes of Python's memory"
    if grown > 2 * size + RESIDENT_ALLOWANCE_BYTES:
        complaint = f"reading {size} bytes made the process grow by {grown} bytes"
    return complaint


def reset_resident_peak() -> int:
    """Start a new peak where the system can; returns the peak that growth is counted from."""
    # Where it cannot, the peak is the process's, and only a read above all earlier ones shows.
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return resident_peak()


def resident_peak() -> int:
    """Most bytes of memory in use by this process since the last reset."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak << 10
    (line,) = [line for line in lines if line.startswith("VmHWM:")]
    return int(line.split()[1]) << 10


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

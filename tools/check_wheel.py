"""Build the wheel, install it alone, and show what it costs: its size, its libraries, its import.

Exits with 1 where the wheel is larger than 3 MB, links anything but the system's libraries, or
holds what does not belong in it. The import's time is shown and not judged: machines differ.

Example:
    python tools/check_wheel.py
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
MAX_BYTES = 3_000_000
# Libraries of every Linux system with glibc; a manylinux wheel may link nothing else.
SYSTEM_LIBRARIES = re.compile(
    r"linux-vdso|ld-linux|lib(c|m|dl|rt|pthread|gcc_s)\.so|statically linked"
)
UNWANTED = re.compile(r"\.(safetensors|jpe?g|png|pth|onnx)$|tests/", re.IGNORECASE)
RUNS = 9


def main() -> int:
    """Build, inspect, install and time; returns the exit code."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        wheel = build(folder)
        problems = inspect(wheel, folder)
        time_import(wheel, folder)
    for problem in problems:
        print(f"wrong: {problem}", file=sys.stderr)
    return 1 if problems else 0


def build(folder: Path) -> Path:
    """The release wheel, built into `folder`."""
    command = [sys.executable, "-m", "maturin", "build", "--release", "--quiet"]
    command += ["--out", str(folder)]
    subprocess.run(command, cwd=REPOSITORY, check=True)
    return next(folder.glob("*.whl"))


def inspect(wheel: Path, folder: Path) -> list[str]:
    """List the faults of the wheel's size, contents and libraries."""
    problems = []
    size = wheel.stat().st_size
    print(f"{wheel.name}: {size / 1e6:.2f} MB (at most {MAX_BYTES / 1e6:.0f})")
    if size > MAX_BYTES:
        problems.append(f"the wheel has {size} bytes, more than {MAX_BYTES}")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        problems += [f"{name} is in the wheel" for name in names if UNWANTED.search(name)]
        extension = archive.extract(next(n for n in names if n.endswith(".so")), folder)
    libraries = subprocess.run(["ldd", extension], capture_output=True, text=True, check=True)
    for line in libraries.stdout.splitlines():
        print(f"  links {line.strip()}")
        if not SYSTEM_LIBRARIES.search(line):
            problems.append(f"links {line.strip()}")
    return problems


def time_import(wheel: Path, folder: Path) -> None:
    """Print the median time of importing numpy, and of resnet_rs on top of it, in milliseconds."""
    environment = folder / "venv"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", wheel], check=True)
    code = (
        "from time import perf_counter as t; a = t(); import numpy; b = t(); import resnet_rs; "
        "print(1e3 * (b - a), 1e3 * (t() - b))"
    )
    runs = []
    for _ in range(RUNS):
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
        runs.append([float(word) for word in done.stdout.split()])
    numpy_ms, ours_ms = (statistics.median(column) for column in zip(*runs, strict=True))
    print(f"import numpy {numpy_ms:.0f} ms; resnet_rs on top {ours_ms:.0f} ms (median of {RUNS})")


if __name__ == "__main__":
    raise SystemExit(main())

"""The machine and the environment, and the defaults that follow for a new model."""

from __future__ import annotations

import contextlib
import os
import platform

import numpy as np

from .. import _core
from ..options import PRECISIONS


def system_info() -> dict[str, str | int | list[str] | None]:
    """Collect versions, the processor and the defaults, by name; JSON can hold every value.

    `isa` and `threads` are None if an environment variable asks for something impossible;
    `isa_from` and `threads_from` then name the variable.
    """
    isa, isa_from = _default_isa()
    threads, threads_from = _default_threads()
    return {
        "version": _core.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "pillow": _pillow_version(),
        "platform": platform.platform(),
        "cpu": cpu_model(),
        "cpu_features": _core.cpu_features(),
        "isas": _core.available_isas(),
        "precisions": list(PRECISIONS),
        "isa": isa,
        "isa_from": isa_from,
        "threads": threads,
        "threads_from": threads_from,
    }


def cpu_model() -> str:
    """Return the processor's name as the system reports it."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def resident_mb() -> tuple[float, float] | None:
    """Measure this process's resident memory now and at its peak, in units of 10^6 bytes.

    The result is None if the system has no `/proc/self/status`.
    """
    sizes = {}
    with contextlib.suppress(OSError), open("/proc/self/status", encoding="utf-8") as file:
        for line in file:
            name, _, value = line.partition(":")
            if name in ("VmRSS", "VmHWM"):
                sizes[name] = int(value.split()[0]) * 1024 / 1e6
    return (sizes["VmRSS"], sizes["VmHWM"]) if len(sizes) == 2 else None


def threads_variable() -> str | None:
    """Name the variable that the core took the number of threads from, by the core's rules.

    The core's own variable must be valid; other programs' variables are ignored if they are not.
    """
    if os.environ.get("RESNET_RS_NUM_THREADS"):
        return "RESNET_RS_NUM_THREADS"
    for name in ("RAYON_NUM_THREADS", "OMP_NUM_THREADS"):
        first = os.environ.get(name, "").split(",")[0].strip()
        if first.isdecimal() and int(first) > 0:
            return name
    return None


def _pillow_version() -> str:
    import PIL

    return PIL.__version__


def _default_isa() -> tuple[str | None, str]:
    """Find the default tier, and where it comes from."""
    available = _core.available_isas()
    named = os.environ.get("RESNET_RS_ISA")
    if not named:
        return available[-1], "the best that this machine has"
    if named not in available:
        return None, f"RESNET_RS_ISA={named}, which this machine cannot run"
    return named, "RESNET_RS_ISA"


def _default_threads() -> tuple[int | None, str]:
    """Find the default number of threads, and where it comes from."""
    try:
        threads = _core.default_threads()
    except ValueError as error:  # RESNET_RS_NUM_THREADS is not a number
        return None, str(error)
    return threads, threads_variable() or "the CPUs that this process may use"

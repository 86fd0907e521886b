"""The resident memory of a network's weights, measured in a process of its own.

In a process that has worked already, a network may lie in memory that is resident from before.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys

from ...options import Options
from ...weights.load import load
from ..system import resident_mb


def weights_mb(options: Options) -> float | None:
    """Load a network in a new process, and measure how much its memory grows.

    Args:
        options: the weights, and how to load them.

    Returns:
        Units of 10^6 bytes; None if the process cannot be started, or tells nothing.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", __name__],
            input=pickle.dumps(options),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            check=True,
        )
        return float(done.stdout)
    except (OSError, subprocess.CalledProcessError, ValueError):
        return None


def main() -> None:
    """Load what stdin describes, and print how much the memory grew."""
    options = pickle.load(sys.stdin.buffer)
    before = resident_mb()
    loaded = load(options)
    after = resident_mb()
    if before is not None and after is not None:
        print(after[0] - before[0])
    del loaded


if __name__ == "__main__":
    main()

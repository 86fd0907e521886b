"""Loading while the file changes or memory ends: an ordinary error, never a signal."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

CHANGING = """
    import os, shutil, sys, threading
    from resnet_rs import ResNet50, WeightsError

    directory, original = sys.argv[1:]
    path = os.path.join(directory, "model.safetensors")
    ends = {"loaded": 0, "refused": 0}
    for trial in range(20):
        shutil.copyfile(original, path)
        # Begins as `cp new model.safetensors` does, at a later moment in each trial.
        overwrite = threading.Timer(0.004 * trial, os.truncate, (path, 0))
        overwrite.start()
        try:
            ResNet50(directory, threads=2)
            ends["loaded"] += 1
        except WeightsError as error:
            assert path in str(error), error
            ends["refused"] += 1
        overwrite.join()
    print(ends)
    assert ends["refused"] > 0
"""

LIMITED = """
    import resource, sys
    import numpy as np
    from resnet_rs import ResNet50, load

    directory, spare, threads = sys.argv[1], int(sys.argv[2]) << 20, int(sys.argv[3])
    x = np.zeros((1, 64, 64, 3), np.float32)
    with open("/proc/self/status") as status:
        (size,) = [line for line in status if line.startswith("VmSize")]
    limit = (int(size.split()[1]) << 10) + spare
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        model = load(directory, threads=threads)
        model.forward(x)
        print("ran")
    except MemoryError:
        print("MemoryError")
"""


def run(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_weights_that_are_overwritten_while_they_load(demo_dir: Path, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(demo_dir, tmp_path / "copy"))
    result = run(CHANGING, directory, demo_dir / "model.safetensors")
    assert result.returncode == 0, (result.returncode, result.stderr)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and RLIMIT_AS")
@pytest.mark.parametrize("threads", [1, 2])
def test_memory_that_ends_while_a_network_is_loaded(threads: int, demo_dir: Path) -> None:
    """Step by step from far too little memory to enough."""
    ends = []
    for spare in range(0, 260, 13):
        result = run(LIMITED, demo_dir, spare, threads)
        assert result.returncode == 0, (spare, result.returncode, result.stderr)
        ends.append(result.stdout.strip())
    assert ends[0] == "MemoryError"
    assert ends[-1] == "ran"
    assert set(ends) == {"MemoryError", "ran"}

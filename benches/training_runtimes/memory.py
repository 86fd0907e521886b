"""The peak memory of each trainer, in a process of its own.

`python -m training_runtimes.memory NAME ARCHITECTURE SIZE BATCH THREADS ISA WINOGRAD` does three
steps and prints the memory as JSON.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from resnet_rs.bench.system import resident_mb
from training_runtimes.runtimes import make
from training_runtimes.task import Task

FOLDER = Path(__file__).resolve().parents[1]
TOOLS = FOLDER.parent / "tools"
STEPS = 3


@dataclass(frozen=True)
class Memory:
    """Resident memory of a process, in 10^6 bytes.

    Attributes:
        imported_mb: with everything imported, before the network is built.
        peak_mb: the largest, over building the network and the steps.
    """

    imported_mb: float
    peak_mb: float


def measure(
    name: str, task: Task, threads: int, isa: str | None = None, winograd: bool = True
) -> Memory | None:
    """Train in a new process; None if it failed, or the system does not tell its memory.

    Args:
        name: as `make` takes it, like `isa` and `winograd`.
        task: the network and the batch.
        threads: of the trainer.
        isa: our tier.
        winograd: ours may use Winograd's algorithm.
    """
    words = (name, task.architecture, task.size, task.batch, threads, isa or "", int(winograd))
    process = subprocess.run(
        [sys.executable, "-m", "training_runtimes.memory", *map(str, words)],
        cwd=FOLDER,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if process.returncode != 0:
        return None
    sizes = json.loads(process.stdout)
    return sizes and Memory(**sizes)


def main(arguments: Sequence[str]) -> int:
    """Do the steps in this process, and print its memory."""
    name, architecture, size, batch, threads, isa, winograd = arguments
    runtime = make(name, isa or None, winograd == "1")
    before = resident_mb()
    runtime.load(Task(architecture, int(batch), int(size)), int(threads))
    for _ in range(STEPS):
        runtime()
    after = resident_mb()
    print(json.dumps(asdict(Memory(before[0], after[1])) if before and after else None))
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(TOOLS))
    sys.exit(main(sys.argv[1:]))

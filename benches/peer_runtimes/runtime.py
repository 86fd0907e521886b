"""The interface of a runtime in the comparison."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from peer_runtimes.workload import Workload


class Runtime(Protocol):
    """A way to run ResNet-50 on a CPU in f32.

    Attributes:
        name: for tables and `--only`.
        version: known after `load`.
    """

    name: str
    version: str

    def load(self, workload: Workload, threads: int) -> None:
        """Do everything that is not to be timed: import, convert, compile, lay out the input.

        Raises:
            ModuleNotFoundError: the runtime is not installed.
        """

    def __call__(self) -> NDArray[np.float32]:
        """Run the loaded input once: logits `[batch, num_classes]`."""

"""The interface of a runtime in the comparison."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from peer_runtimes.workload import Workload


class Runtime(Protocol):
    """A way to run a ResNet on a CPU in one precision.

    Attributes:
        name: for tables and `--only`.
        version: known after `load`; where there are settings to choose from, the choice too.
    """

    name: str
    version: str

    def load(self, workload: Workload, threads: int) -> None:
        """Do everything that is not to be timed: import, convert, compile, lay out the input.

        Raises:
            ModuleNotFoundError: the runtime is not installed.
        """

    def set_input(self, nhwc: NDArray[np.float32]) -> None:
        """Lay out another input of the workload's shape, for the calls that follow."""

    def __call__(self) -> NDArray[np.float32]:
        """Run the loaded input once: logits `[batch, num_classes]`."""


def nchw(nhwc: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same values as contiguous `[batch, 3, height, width]`."""
    return np.ascontiguousarray(nhwc.transpose(0, 3, 1, 2))

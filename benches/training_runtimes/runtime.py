"""The interface of a trainer in the comparison."""

from typing import Protocol

from training_runtimes.task import Task


class Runtime(Protocol):
    """A way to train a ResNet on a CPU.

    Attributes:
        name: for tables and `--only`.
        precision: of products, `f32` or `bf16`.
        version: known after `load`.
    """

    name: str
    precision: str
    version: str

    def load(self, task: Task, threads: int) -> None:
        """Do everything that is not to be timed: import, build, lay out the batch.

        Raises:
            ModuleNotFoundError: the runtime is not installed.
        """

    def __call__(self) -> float:
        """Do a whole step on the batch: forward, loss, gradients, SGD with momentum.

        Returns:
            The loss before the step.
        """

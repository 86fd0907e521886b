"""resnet_rs."""

import resnet_rs
from training_runtimes.task import Task


class Ours:
    """This project, through its public Python class, in f32."""

    name = "resnet_rs"
    precision = "f32"

    def __init__(self, isa: str | None = None, winograd: bool = True) -> None:
        self._isa = isa
        self._winograd = winograd

    def load(self, task: Task, threads: int) -> None:
        """Make a trainer; NHWC is our layout."""
        self.trainer = task.trainer(threads, self._isa, self._winograd, self.precision)
        self._x, self._y = task.nhwc, task.labels
        direct = "" if self._winograd else " direct"
        self.version = f"{resnet_rs.__version__} {self.trainer.isa}{direct}"

    def __call__(self) -> float:
        """Do a step."""
        return self.trainer.step(self._x, self._y)


class OursBf16(Ours):
    """The same with the products of convolutions in bf16."""

    name = "resnet_rs-bf16"
    precision = "bf16"

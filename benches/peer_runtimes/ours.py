"""resnet_rs."""

import numpy as np
from numpy.typing import NDArray

import resnet_rs
from peer_runtimes.workload import Workload


class Ours:
    """This project, through its public Python class."""

    name = "resnet_rs"

    def __init__(self, isa: str | None, winograd: bool) -> None:
        self._isa = isa
        self._winograd = winograd

    def load(self, workload: Workload, threads: int) -> None:
        """Load the weights directory itself; NHWC is our layout."""
        self._model = resnet_rs.load(
            workload.weights, isa=self._isa, threads=threads, winograd=self._winograd
        )
        self._x = workload.nhwc
        direct = "" if self._model.winograd else " direct"
        self.version = f"{resnet_rs.__version__} {self._model.isa}{direct}"

    def __call__(self) -> NDArray[np.float32]:
        """Run the input once."""
        return self._model.forward(self._x)

"""resnet_rs."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import resnet_rs
from peer_runtimes.network import Network
from peer_runtimes.workload import Workload


class Ours:
    """This project, through its public Python class.

    Int8 weights are made by `ResNet.quantize` with its defaults; bf16 is an option of loading.
    """

    name = "resnet_rs"

    def __init__(self, isa: str | None, winograd: bool) -> None:
        self._isa = isa
        self._winograd = winograd

    def load(self, workload: Workload, threads: int) -> None:
        """Load the weights directory itself; NHWC is our layout."""
        weights = workload.weights
        # The weights say that they are int8; f32 is what others are by default.
        options: dict[str, Any] = {}
        if workload.precision == "bf16":
            options = {"precision": "bf16", "strict": True}
        if workload.precision == "int8":
            weights = workload.calibrated.once("ours", partial(_quantised, workload.calibrated))
        self._model = resnet_rs.load(
            weights, isa=self._isa, threads=threads, winograd=self._winograd, **options
        )
        self.set_input(workload.nhwc)
        self.version = f"{resnet_rs.__version__} {self._model.isa}"
        if workload.precision == "f32" and not self._model.winograd:
            self.version += " direct"
        if quantization := self._model.config.quantization:
            self.version += f" {quantization['method']}"

    def set_input(self, nhwc: NDArray[np.float32]) -> None:
        """Take another input as it is."""
        self._x = np.ascontiguousarray(nhwc)

    def __call__(self) -> NDArray[np.float32]:
        """Run the input once."""
        return self._model.forward(self._x)


def _quantised(network: Network) -> Path:
    """Quantise, and write the weights: they are the same for every tier and number of threads."""
    # `quantize` takes arrays of the preprocessing's size alone.
    model = resnet_rs.load(network.weights, preprocessing={"crop": list(network.size)})
    path = network.scratch / "ours-int8"
    model.quantize(network.images.calibration, progress=False).save(path)
    return path

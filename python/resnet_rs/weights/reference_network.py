"""`backend="reference"`: the network in NumPy, with the interface of the core."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from .._core import Network
from .config import Config

Pixels = NDArray[np.uint8]
Input = NDArray[np.float32] | NDArray[np.uint8]


class ReferenceNetwork:
    """A stand-in for `Network` that runs the formulas of `resnet_rs.reference`: slow and exact.

    The core has checked the tensors and lists the operations. Only the forwards run here.

    Args:
        network: the same network in the core.
        tensors: torchvision's names to arrays.
        config: for the normalisation.
    """

    isa = "reference"
    threads = 1
    winograd = False

    def __init__(
        self, network: Network, tensors: Mapping[str, NDArray[Any]], config: Config
    ) -> None:
        self._network = network
        self._tensors = tensors
        self._preprocessing = config.preprocessing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)

    @property
    def layer_names(self) -> list[str]:
        """The layers in order."""
        return self._network.layer_names

    def logits(self, x: Input, *, threads: int | None = None) -> NDArray[np.float32]:
        """`[batch, num_classes]`, or the pooled features if there are no classes."""
        if self._network.num_classes == 0:
            return self.embed(x)
        return self._rows(x, "fc")

    def embed(self, x: Input, *, threads: int | None = None) -> NDArray[np.float32]:
        """`[batch, embedding_size]`, in torch's order if the pooled map has several pixels."""
        return self._rows(x, "avgpool")

    def features(
        self, x: Input, names: Sequence[str], *, threads: int | None = None
    ) -> list[NDArray[np.float32]]:
        """The outputs of layers, NHWC."""
        results = dict(self._walk(x, frozenset(map(self._last_of, names))))
        return [results[self._last_of(name)] for name in names]

    def activations(self, x: Input) -> list[tuple[str, NDArray[np.float32]]]:
        """Every layer's output in network order, NHWC."""
        return list(self._walk(x, frozenset(self.layer_names)))

    def _rows(self, x: Input, name: str) -> NDArray[np.float32]:
        # Image by image: the float64 results of a batch would need much memory.
        rows = [
            result.transpose(0, 3, 1, 2).reshape(1, -1)
            for image in x
            for _, result in self._walk(image[None], frozenset({name}))
        ]
        return np.concatenate(rows) if rows else self._network.embed(x[:0])

    def _walk(self, x: Input, names: frozenset[str]) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """Yield the results of the named operations, up to the last of them."""
        from ..reference import run

        operations = self._network.operations(*x.shape[1:3])
        missing = set(names)
        for name, result in run(operations, self._tensors, self._normalized(x)):
            if name in missing:
                missing.remove(name)
                yield name, result.astype(np.float32)
            if not missing:
                return

    def _normalized(self, x: Input) -> NDArray[np.float64]:
        values = x.astype(np.float64)
        if x.dtype == np.uint8:
            values = (values / 255 - self._preprocessing.mean) / self._preprocessing.std
        return values

    def _last_of(self, name: str) -> str:
        """Resolve a stage's name to its last block."""
        if name.startswith("layer") and "." not in name:
            return [layer for layer in self.layer_names if layer.startswith(f"{name}.")][-1]
        return name


class Int8ReferenceNetwork(ReferenceNetwork):
    """The same for a quantised network: integers, and the core's results to the bit."""

    @property
    def layer_names(self) -> list[str]:
        """The layers in order; a shortcut's convolution is part of its block's last layer."""
        from ..reference import int8_layers

        size = self._preprocessing.input_size
        return [layer.name for layer in int8_layers(self._network.operations(*size))]

    def _walk(self, x: Input, names: frozenset[str]) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """Yield the results of the named layers, up to the last of them."""
        from ..reference import run_int8
        from ..reference.int8 import dequantized

        operations = self._network.operations(*x.shape[1:3])
        mean, std = self._preprocessing.mean, self._preprocessing.std
        missing = set(names)
        for name, q, scale in run_int8(operations, self._tensors, x, mean, std):
            if name in missing:
                missing.remove(name)
                yield name, dequantized(q, scale)
            if not missing:
                return


class Bf16ReferenceNetwork(ReferenceNetwork):
    """The same for a network in bf16: the core's results to the bit, where pairs are widened."""

    @property
    def layer_names(self) -> list[str]:
        """The layers in order; a shortcut's convolution is part of its block's last layer."""
        from ..reference import fused_layers

        size = self._preprocessing.input_size
        return [layer.name for layer in fused_layers(self._network.operations(*size))]

    def _walk(self, x: Input, names: frozenset[str]) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """Yield the results of the named layers, up to the last of them."""
        from ..reference import run_bf16

        operations = self._network.operations(*x.shape[1:3])
        normalized = self._network.normalize(cast(Pixels, x)) if x.dtype == np.uint8 else x
        missing = set(names)
        for name, result in run_bf16(operations, self._tensors, normalized):
            if name in missing:
                missing.remove(name)
                yield name, result
            if not missing:
                return


REFERENCES: Mapping[str, type[ReferenceNetwork]] = {
    "f32": ReferenceNetwork,
    "bf16": Bf16ReferenceNetwork,
    "int8": Int8ReferenceNetwork,
}
"""The stand-in of each precision."""

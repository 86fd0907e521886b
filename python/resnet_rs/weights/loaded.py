"""`Loaded`: a network in memory, with everything that is known of it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from .._core import Network, WeightsError
from .config import Config
from .files import Fingerprint, Stamp, stamp_of
from .labels import class_labels
from .remarks import shown, warnings_of, with_remarks

if TYPE_CHECKING:
    from ..options import Options


class HasLoaded(Protocol):
    """Anything that holds a loaded network, such as a `ResNet`."""

    @property
    def loaded(self) -> Loaded:
        """The network."""
        ...


class Loaded:
    """A network in memory, shared by a model and its copies. The package's rooms work on it.

    Attributes:
        options: the caller's choices.
        network: the compiled network, or its stand-in in NumPy.
        config: the description of the weights, defaults filled in.
        labels: the classes' names by index.
        remarks: what was found out or assumed while reading, in the order in which it happened
            (`remarks.py` has the two kinds).
        pretrained: the published name that the weights were fetched by, and the architecture;
            None for other weights.
        stamp: the time and size of the files before they were read.
        fingerprint: the hashes of the files, computed on first use (see `pickling`).
    """

    def __init__(
        self,
        options: Options,
        network: Network,
        read_tensors: Callable[[], dict[str, NDArray[Any]]],
        *,
        stamp: Stamp = (),
    ) -> None:
        self.options = options
        self.config = Config.from_dict(network.config)
        self.labels = class_labels(self.config)
        self.remarks: tuple[str, ...] = ()
        self.pretrained: tuple[str, str | None] | None = None
        self.stamp = stamp
        self.fingerprint: Fingerprint | None = None
        self.network = network
        self._read_tensors = read_tensors
        if options.backend == "reference":
            from .reference_network import REFERENCES

            stand_in = REFERENCES[self.precision](network, self.tensors(), self.config)
            self.network = cast(Network, stand_in)

    def add_remarks(self, *remarks: str) -> None:
        """Add remarks, and keep them in the config's `source`, which is what `save` writes."""
        if remarks:
            self.remarks += remarks
            self.config = replace(self.config, source=with_remarks(self.config.source, remarks))

    def warn(self, stacklevel: int) -> None:
        """Show the remarks that are more than notes as warnings.

        A network that is restored from a pickle, and a copy, are not warned of again.

        Args:
            stacklevel: as `warnings.warn` takes it, counted from this method.
        """
        # What the core remarks is about this processor, and not about the weights.
        here = [] if self.network.remark is None else [self.network.remark]
        for remark in (*warnings_of(self.remarks), *here):
            warnings.warn(shown(self.options.origin, remark), UserWarning, stacklevel=stacklevel)

    @property
    def precision(self) -> str:
        """The arithmetic: `f32`, `bf16` or `int8`."""
        return self.network.precision

    @property
    def weights_precision(self) -> str:
        """The precision of the weights: `f32`, which also run in bf16, or `int8`."""
        return "f32" if self.config.quantization is None else "int8"

    def require_f32(self, what: str) -> None:
        """Check that the network has f32 weights and runs in f32.

        Args:
            what: what needs them, for the message.

        Raises:
            ValueError: it does not.
        """
        if self.weights_precision != "f32":
            raise ValueError(
                f"{self.options.origin}: {what} needs f32 weights, and these are "
                f"{self.weights_precision}: load those that they were made of"
            )
        if self.precision != "f32":
            raise ValueError(
                f"{self.options.origin}: {what} needs a network in f32, and this one runs in "
                f"{self.precision}: load it without precision"
            )

    @property
    def input_size(self) -> tuple[int, int]:
        """The `(height, width)` that the network is prepared for: `Preprocessing.input_size`."""
        return self.config.preprocessing.input_size

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Read the tensors again: torchvision's names to arrays in torch's layout.

        Raises:
            WeightsError: the files have changed.
            OSError: they are gone.
        """
        path = self.options.path
        if path is not None and stamp_of(path) != self.stamp:
            raise WeightsError(f"{path}: the files have changed since the model was loaded")
        tensors = self._read_tensors()
        if self.config.num_classes == 0:
            return {name: array for name, array in tensors.items() if not name.startswith("fc.")}
        return tensors

    @property
    def last_map(self) -> str:
        """The name of the layer before the pool."""
        names = self.network.layer_names
        return names[names.index("avgpool") - 1]

    @property
    def last_channels(self) -> int:
        """The number of channels of the last feature map."""
        channels: int = next(
            operation["output_shape"][2]
            for operation in self.network.operations(*self.input_size)
            if operation["name"] == self.last_map
        )
        return channels

    @property
    def stages(self) -> tuple[str, ...]:
        """`layer1`, `layer2`, ...: each stands for the last block of its stage."""
        names = (name.split(".")[0] for name in self.network.layer_names)
        return tuple(dict.fromkeys(name for name in names if name.startswith("layer")))


def real_weights(tensors: Mapping[str, NDArray[Any]], name: str) -> NDArray[np.float32]:
    """A tensor of weights in float32; quantised integers times the scales of their channels."""
    weights: NDArray[np.float32] = tensors[name].astype(np.float32)
    scale = tensors.get(f"{name}_scale")
    if scale is not None:
        weights = weights * scale.reshape(-1, *[1] * (weights.ndim - 1))
    return weights

"""`Loaded`: a network in memory, with everything that is known of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, cast

from numpy.typing import NDArray

from .._core import Network, WeightsError
from .config import Config
from .files import Fingerprint, Stamp, stamp_of
from .labels import class_labels
from .request import Request


class Loaded:
    """A network in memory, which a model and its copies share.

    Attributes:
        request: what it was loaded by.
        network: what runs.
        config: what is known of the weights, defaults filled in.
        labels: the classes' names by index.
        assumed: what had to be assumed for want of a config; None where nothing was.
        stamp: when the files on disk were last changed before they were read.
        fingerprint: their hashes, once somebody has asked for them (see `pickling`).
    """

    def __init__(
        self,
        request: Request,
        network: Network,
        read_tensors: Callable[[], dict[str, NDArray[Any]]],
        *,
        stamp: Stamp = (),
    ) -> None:
        self.request = request
        self.config = Config.from_json(network.config_json)
        self.labels = class_labels(self.config)
        self._read_tensors = read_tensors
        self.assumed: str | None = None
        self.stamp = stamp
        self.fingerprint: Fingerprint | None = None
        self.network = network
        if request.backend == "reference":
            from .reference_network import ReferenceNetwork

            stand_in = ReferenceNetwork(network, self.tensors(), self.config)
            self.network = cast(Network, stand_in)

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
        weights = self.request.weights
        if isinstance(weights, str) and stamp_of(weights) != self.stamp:
            raise WeightsError(f"{weights}: the files have changed since the model was loaded")
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


class HasLoaded(Protocol):
    """Anything that holds a loaded network, such as a `ResNet`."""

    @property
    def loaded(self) -> Loaded:
        """The network."""

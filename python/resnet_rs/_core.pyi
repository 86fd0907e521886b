"""The compiled core of resnet_rs (private: use the classes of `resnet_rs`)."""

from typing import Any, final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Network",
    "UnsupportedIsaError",
    "WeightsError",
    "__version__",
    "available_isas",
    "cpu_features",
    "default_threads",
    "peak_macs_per_second",
    "softmax_top_k",
]

__version__: str

class WeightsError(ValueError):
    """A weights file or its config is malformed: the message names the tensor or field."""

class UnsupportedIsaError(RuntimeError):
    """The instruction set that was asked for is not on this machine."""

@final
class Network:
    """A loaded and packed network.

    Args:
        weights: a directory with `model.safetensors` and `config.json`, or a `.safetensors` file
            (a `config.json` beside it is read where there is one).
        isa: `portable`, `avx2` or `avx512`; None takes `RESNET_RS_ISA`, else the best there is.
        threads: at least 1; None takes the environment's wish, else the cores that are ours.
        winograd: whether 3x3 convolutions may run with Winograd's algorithm: faster; results
            differ from the direct ones by rounding.

    Raises:
        FileNotFoundError: there is no such file or directory.
        WeightsError: a missing, surplus, mis-shaped or non-finite tensor, a bad header or config.
        UnsupportedIsaError: the machine lacks `isa`.
        ValueError: `isa` is no known name, or `threads` is below 1.
    """

    def __new__(
        cls,
        weights: str,
        *,
        isa: str | None = None,
        threads: int | None = None,
        winograd: bool = True,
    ) -> Network: ...
    @property
    def config_json(self) -> str:
        """The validated config, defaults filled in, as JSON."""
    @property
    def has_config(self) -> bool:
        """Whether a `config.json` was read; without one the config is all defaults."""
    @property
    def weights_path(self) -> str:
        """The safetensors file that was loaded."""
    @property
    def isa(self) -> str:
        """The tier in use: `portable`, `avx2` or `avx512`."""
    @property
    def threads(self) -> int:
        """The number of threads that a forward uses."""
    @property
    def winograd(self) -> bool:
        """Whether any layer runs with Winograd's algorithm."""
    @property
    def num_classes(self) -> int:
        """The number of logits."""
    @property
    def embedding_size(self) -> int:
        """The number of features before fc (2048)."""
    @property
    def num_parameters(self) -> int:
        """The number of trained values, batch norm's scale and shift among them."""
    def logits(self, x: NDArray[np.float32] | NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run the network: `[batch, height, width, 3]` in, `[batch, num_classes]` out.

        float32 input is taken as normalised already; uint8 input is RGB pixels, normalised here.

        Raises:
            TypeError: another dtype.
            ValueError: another shape, or an array that is not C-contiguous.
            MemoryError: the activations do not fit in memory.
        """
    def embed(self, x: NDArray[np.float32] | NDArray[np.uint8]) -> NDArray[np.float32]:
        """Like `logits`, without fc: `[batch, embedding_size]` out."""
    def activations(
        self, x: NDArray[np.float32] | NDArray[np.uint8]
    ) -> list[tuple[str, NDArray[np.float32]]]:
        """Every fused layer's output in network order, as `(name, NHWC array)`.

        Names are torchvision's of the last operation fused into the layer: `relu` (the stem),
        `maxpool`, `layer1.0.relu1`, `layer1.0.relu2`, `layer1.0`, ..., `avgpool`, `fc`.
        """
    def plan(self, batch: int, height: int, width: int) -> list[dict[str, Any]]:
        """The steps that a forward at this shape walks, in order.

        Returns:
            For each step `name` (the layer's; a Winograd layer has several steps), `algorithm`,
            `kernel`, `output_shape`, `macs` (multiply-accumulates that it does) and `items`
            (pieces of work that threads share).
        """
    def profile(self, x: NDArray[np.float32] | NDArray[np.uint8]) -> list[float]:
        """Run `x` as one batch and return what each step of `plan` took, in seconds."""
    def reference_logits(self, x: NDArray[np.float32]) -> list[float]:
        """The logits of one image by naive loops in f64: takes seconds.

        Args:
            x: `[1, height, width, 3]`, normalised.
        """
    def normalize(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """`(pixels / 255 - mean) / std` in f32: `[batch, height, width, 3]` in and out."""
    def release(self) -> None:
        """Give back the workspace and plans of past forwards; the next forward makes new ones."""

def softmax_top_k(
    logits: NDArray[np.float32], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Softmax scores of the k best classes, best first, and their indices.

    Args:
        logits: `[batch, num_classes]`, C-contiguous.
        k: clamped to num_classes.

    Returns:
        Two `[batch, k]` arrays; equal scores are ordered by index.
    """

def cpu_features() -> list[str]:
    """The CPU features that the kernels look at, as far as this machine has them."""

def available_isas() -> list[str]:
    """The tiers that this machine can run, slowest first; `portable` is always there."""

def peak_macs_per_second(isa: str) -> float:
    """Multiply-accumulates a second that one thread can do in registers with a tier's instructions.

    It is measured anew at each call, for a tenth of a second.
    """

def default_threads() -> int:
    """The number of threads that a model made now without `threads=` would use."""

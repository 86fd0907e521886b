"""The compiled core of resnet_rs (private: use the classes of `resnet_rs`)."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from os import PathLike
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Network",
    "Trainer",
    "UnsupportedIsaError",
    "WeightsError",
    "__version__",
    "architectures",
    "available_isas",
    "cgroup_quota",
    "cpu_features",
    "default_threads",
    "operations",
    "peak_macs_per_second",
    "read_numbers",
    "safetensors_index",
    "top_k",
    "write_safetensors",
]

__version__: str

class WeightsError(ValueError):
    """A weights file or its config is malformed: the message names the tensor or field."""

class UnsupportedIsaError(RuntimeError):
    """This machine lacks the requested instruction set."""

@final
class Network:
    """A loaded and packed network.

    Args:
        weights: a directory with `model.safetensors` and `config.json`, or a `.safetensors` file
            (with the `config.json` beside it, if there is one).
        config: the text of a config, in place of `config.json`.
        isa: `portable`, `avx2` or `avx512`; by default `RESNET_RS_ISA`, else the fastest tier.
        threads: at least 1; by default the number that the environment sets, else the CPUs that
            this process may use.
        winograd: allow Winograd's algorithm for 3x3 convolutions. It is faster, and its results
            differ from direct convolution by rounding.
        fused: compute batch norm, addition and ReLU together with the convolutions before them.
            Otherwise every operation is a layer with an output of its own. int8 networks are
            always fused.
        precision: the arithmetic, `f32`, `bf16` or `int8`; by default that of the weights.
        strict: runs bf16 also where it is slower than f32; otherwise `remark` says that the network
            runs in f32.

    Raises:
        FileNotFoundError: there is no such file or directory.
        WeightsError: a missing, surplus, mis-shaped or non-finite tensor, a bad header or config,
            weights for another precision, or a file that is written to while it is read.
        UnsupportedIsaError: the machine lacks `isa`.
        ValueError: `isa` is not a known name, or `threads` is below 1.
        MemoryError: the weights do not fit in memory.
    """

    def __new__(
        cls,
        weights: str,
        *,
        config: str | None = None,
        isa: str | None = None,
        threads: int | None = None,
        winograd: bool = True,
        fused: bool = True,
        precision: str | None = None,
        strict: bool = False,
    ) -> Network: ...
    @staticmethod
    def from_tensors(
        tensors: Mapping[str, NDArray[np.float32] | NDArray[np.float16] | NDArray[np.int8]],
        config: str,
        *,
        origin: str,
        isa: str | None = None,
        threads: int | None = None,
        winograd: bool = True,
        fused: bool = True,
        precision: str | None = None,
        strict: bool = False,
    ) -> Network:
        """Make a network from tensors in memory, which it does not keep.

        Args:
            tensors: torchvision's names to C-contiguous arrays, convolutions OIHW; those whose
                names end in `.num_batches_tracked` are ignored. They may be read-only.
            config: the text of a config.
            origin: the name of the weights in messages, usually a path.
            isa: as for the class, like the other arguments.
            threads: see `isa`.
            winograd: see `isa`.
            fused: see `isa`.
            precision: see `isa`.
            strict: see `isa`.

        Raises:
            WeightsError, UnsupportedIsaError, ValueError: as the class does.
            TypeError: a tensor is not a C-contiguous array of one of these dtypes.
        """
    @property
    def config(self) -> dict[str, Any]:
        """The fields of config.json, validated, with defaults filled in; a new dict each time."""
    @property
    def has_config(self) -> bool:
        """True if a `config.json` was read; otherwise the config is all defaults."""
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
        """True if any layer runs with Winograd's algorithm."""
    @property
    def precision(self) -> str:
        """The arithmetic: `f32`, `bf16` or `int8`."""
    @property
    def remark(self) -> str | None:
        """A note for the caller if the arithmetic is not the one asked for."""
    @property
    def in_channels(self) -> int:
        """The channels of an image."""
    @property
    def num_classes(self) -> int:
        """The number of logits; 0 for a network without fc, whose logits are its embedding."""
    @property
    def embedding_size(self) -> int:
        """The number of features before fc (2048 for resnet50)."""
    @property
    def num_parameters(self) -> int:
        """The number of trained values, batch norm's scale and shift among them."""
    @property
    def layer_names(self) -> list[str]:
        """The layers in order; each has the name of the last operation fused into it."""
    def logits(
        self, x: NDArray[np.float32] | NDArray[np.uint8], *, threads: int | None = None
    ) -> NDArray[np.float32]:
        """Run the network: `[batch, height, width, channels]` in, `[batch, num_classes]` out.

        float32 input is already normalised; uint8 input is RGB pixels, normalised here.

        Args:
            x: the images.
            threads: the number of threads of this call, instead of the network's own. Results are
                the same, bit for bit.

        Raises:
            TypeError: another dtype.
            ValueError: another shape, or an array that is not C-contiguous.
            MemoryError: the activations do not fit in memory.
            KeyboardInterrupt: Ctrl-C was pressed; any exception of a signal handler ends the call.
        """
    def embed(
        self, x: NDArray[np.float32] | NDArray[np.uint8], *, threads: int | None = None
    ) -> NDArray[np.float32]:
        """Like `logits`, without fc: `[batch, embedding_size]` out."""
    def features(
        self,
        x: NDArray[np.float32] | NDArray[np.uint8],
        names: Sequence[str],
        *,
        threads: int | None = None,
    ) -> list[NDArray[np.float32]]:
        """The outputs of some layers, NHWC, in the order of `names`.

        The layers after the last of them do not run.

        Args:
            x: as for `logits`.
            names: some of `layer_names`; a stage's name (`layer1`) stands for its last block.
            threads: as for `logits`.

        Raises:
            ValueError: there is no such layer; also as `logits` does.
            TypeError, MemoryError: as `logits` does.
        """
    def activations(
        self, x: NDArray[np.float32] | NDArray[np.uint8]
    ) -> list[tuple[str, NDArray[np.float32]]]:
        """Every layer's output in network order, as `(name, NHWC array)`; in int8 times its scale.

        Names are torchvision's of the last operation fused into the layer: `relu` (the stem),
        `maxpool`, `layer1.0.relu1`, `layer1.0.relu2`, `layer1.0`, ..., `avgpool`, `fc`.
        """
    def statistics(
        self, x: NDArray[np.float32] | NDArray[np.uint8], *, threads: int | None = None
    ) -> list[tuple[str, float, NDArray[np.uint64], NDArray[np.float64]]]:
        """Return the distribution of the normalised input and of every layer's output, in order.

        Args:
            x: the images, as for `logits`.
            threads: as for `logits`. The results are the same.

        Returns:
            For each tensor: its name, `input` or the layer's; the largest value; a histogram with
            32,768 bins by the upper 16 bits of the positive values, with those that are not
            positive in bin 0; the sum of each channel over images and pixels.

        Raises:
            ValueError: `x` does not fit, or this is no f32 network.
        """
    def operations(self, height: int, width: int) -> list[dict[str, Any]]:
        """Return the network's operations in the form of the function `operations`."""
    def plan(self, batch: int, height: int, width: int) -> list[dict[str, Any]]:
        """Return the steps of a forward at this shape, in order.

        Returns:
            For each step `name` (the layer's; a Winograd layer has several steps), `algorithm`,
            `precision`, `kernel`, `output_shape`, `macs` (its multiply-accumulates) and `items`
            (work items that are partitioned among the threads).
        """
    def schedule(
        self, batch: int, height: int, width: int, threads: int
    ) -> list[list[list[dict[str, Any]]]]:
        """Return what the threads of a forward do, and in which order.

        Returns:
            Segments, each of which begins when the one before has ended. Their tracks run side by
            side, a thread or several on each. A track is a list of steps as `plan` has them.
        """
    def profile(self, x: NDArray[np.float32] | NDArray[np.uint8]) -> list[float]:
        """Run `x` as one batch and return the time of each step of `plan`, in seconds."""
    def reference_logits(self, x: NDArray[np.float32]) -> list[float]:
        """Compute the logits of one image by naive loops in f64, which takes seconds.

        Args:
            x: `[1, height, width, channels]`, normalised.
        """
    def normalize(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """`(pixels / 255 - mean) / std` in f32: `[batch, height, width, channels]` in and out."""
    def release(self) -> None:
        """Free the workspaces and plans of past forwards; the next forward makes new ones."""

def top_k(
    logits: NDArray[np.float32], k: int, activation: str
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Scores of the k best classes, best first, and their indices.

    Args:
        logits: `[batch, num_classes]`, C-contiguous.
        k: clamped to num_classes.
        activation: `softmax`, `sigmoid`, or `none`, with which scores are the logits themselves.

    Returns:
        Two `[batch, k]` arrays; equal logits are ordered by index.

    Raises:
        ValueError: there is no such activation.
    """

@final
class Trainer:
    """A network that learns: parameters, gradients, and the memory of an optimiser.

    Sets of numbers have names: `values` (parameters and running statistics), `gradients`, `first`
    (SGD's momentum, AdamW's mean of gradients), `second` (AdamW's mean of squares), `average` (the
    running averages of `values`).

    Args:
        tensors: the first values, as for `Network.from_tensors`.
        config: the text of a config.
        origin: the name of the weights in messages.
        isa: as for `Network`, like `threads` and `winograd`.
        threads: see `isa`.
        winograd: see `isa`.
        precision: of the products of convolutions, `f32` or `bf16`, with sums in f32; for tests
            also `emulated-bf16`, which every machine has.
        norm_momentum: the share of a batch in the running statistics.

    Raises:
        WeightsError, UnsupportedIsaError, TypeError: as for `Network`.
        ValueError: the network cannot be trained.
        MemoryError: it does not fit in memory.
    """

    def __new__(
        cls,
        tensors: Mapping[str, NDArray[np.float32] | NDArray[np.float16]],
        config: str,
        *,
        origin: str,
        isa: str | None = None,
        threads: int | None = None,
        winograd: bool = True,
        precision: str = "f32",
        norm_momentum: float = 0.1,
    ) -> Trainer: ...
    @property
    def config(self) -> dict[str, Any]:
        """The fields of config.json, validated, with defaults filled in; a new dict each time."""
    @property
    def isa(self) -> str:
        """The tier in use."""
    @property
    def precision(self) -> str:
        """The precision of the products of convolutions."""
    @property
    def threads(self) -> int:
        """The number of threads."""
    @property
    def num_classes(self) -> int:
        """The number of logits."""
    @property
    def in_channels(self) -> int:
        """The channels of an image."""
    @property
    def arena_bytes(self) -> int:
        """The memory of activations and gradients by them, for the batches so far."""
    @property
    def steps(self) -> int:
        """The number of steps so far, which corrects AdamW's means; it may be set."""
    @steps.setter
    def steps(self, steps: int) -> None: ...
    def tensors(self) -> list[tuple[str, list[int], bool]]:
        """List name, shape, and True for running statistics, of all tensors of `values`."""
    def backward(
        self,
        x: NDArray[np.float32],
        targets: NDArray[np.float32],
        *,
        accumulate: bool = False,
        threads: int | None = None,
    ) -> tuple[list[float], list[int]]:
        """Compute the gradients of a batch; batch norm is in training mode.

        Args:
            x: normalised, `[batch, height, width, channels]`, C-contiguous.
            targets: `[batch, classes]`; the loss is `-sum(targets * log_softmax(logits))`.
            accumulate: add to the gradients that are there.
            threads: the number of threads of this call.

        Returns:
            For each image its loss, and the index of its largest logit. If a loss is not finite,
            the running statistics are as before.

        Raises:
            ValueError: a shape does not fit, or batch norm has a single value of a channel.
            MemoryError: the batch does not fit in memory.
            RuntimeError: another thread uses the trainer.
        """
    def update(
        self,
        *,
        lr: float,
        method: str = "sgd",
        momentum: float = 0.9,
        nesterov: bool = False,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
        average: float | None = None,
        threads: int | None = None,
    ) -> float | None:
        """Do a step of the optimiser.

        Returns:
            With `clip_norm`, the norm of all gradients together; if it is not finite, nothing has
            changed.
        """
    def read(self, kind: str, name: str) -> NDArray[np.float32] | None:
        """Copy a tensor of a set, in torch's layout; None if the set has no such tensor."""
    def write(self, kind: str, name: str, values: NDArray[np.float32]) -> None:
        """Overwrite a tensor of a set.

        Raises:
            ValueError: there is no such tensor, or it has another number of elements.
        """
    def freeze(self, names: AbstractSet[str]) -> None:
        """Set the parameters that do not learn, those of an operation together.

        Raises:
            ValueError: a name is not that of a parameter, or an operation is frozen in part.
        """
    def set_groups(self, groups: Sequence[tuple[str, float, bool]]) -> None:
        """Set the factor of the learning rate of parameters, and whether they decay, by name."""
    def plan(
        self, batch: int, height: int, width: int, *, threads: int | None = None
    ) -> list[dict[str, Any]]:
        """Describe the steps of `backward`: `name`, `operation`, `backward`, `macs`, `items`."""
    def profile(
        self,
        x: NDArray[np.float32],
        targets: NDArray[np.float32],
        *,
        threads: int | None = None,
    ) -> list[float]:
        """The seconds of each step of `backward`, one after the other."""

def architectures() -> list[str]:
    """Return the known values of a config's `architecture`."""

def operations(config: str, height: int, width: int) -> list[dict[str, Any]]:
    """Return the operations of the network that a config describes, in order, unfused.

    Args:
        config: the text of a config; without `num_classes` and `labels` there are 1000 classes.
        height: rows of an image, at least 1.
        width: pixels of a row.

    Returns:
        For each operation `name`; `kind`; `inputs`, the names of its inputs (`image` is the
        network's); `output_shape` `(height, width, channels)`; `fused_into`, the layer of a forward
        that computes it; `parameters`, from the part (`weight`) to the tensor's name and shape;
        and by kind:

        - `conv`: `in_channels`, `out_channels`, `kernel`, `stride`, `padding`, `dilation`,
          `groups`, `bias`
        - `batch_norm`: `channels`, `epsilon`
        - `relu`, `add`, `global_avg_pool`, `global_max_pool`: no further keys
        - `max_pool`: `kernel`, `stride`, `padding`, `ceil_mode`, with torch's meaning, and `extra`,
          further rows below the picture and columns on its right
        - `avg_pool`: these and `count_include_pad`
        - `pad`: `kernel` and `stride` of a mean, `before` and `after`, the channels of zeros around
          those of the input
        - `linear`: `in_features` (of a map flattened in NCHW order), `out_features`

    Raises:
        WeightsError: the config is malformed.
        ValueError: a side is 0.
    """

def safetensors_index(path: str) -> dict[str, tuple[str, tuple[int, ...], int, int]]:
    """Return the tensors of a safetensors file: name to dtype (`F32`), shape, first byte and end.

    The order is that of the tensors in the file.

    Raises:
        OSError: the file cannot be read.
        WeightsError: the header is malformed, or does not fit the size of the file.
    """

def write_safetensors(
    path: str,
    tensors: Mapping[str, NDArray[np.float32] | NDArray[np.float16] | NDArray[np.int8]],
    metadata: Mapping[str, str],
) -> None:
    """Write a safetensors file: first under a temporary name, renamed when complete.

    Raises:
        OSError: it cannot be written.
        TypeError: a tensor is not a C-contiguous float32 or float16 array.
    """

def read_numbers(path: str) -> NDArray[np.float32]:
    """Read the numbers of a text file, separated by white space, each rounded to f32 once.

    Raises:
        OSError: the file cannot be read.
        WeightsError: a word is not a finite number; the message names the line.
    """

def cpu_features() -> list[str]:
    """Return the CPU features of this machine, among those that kernels may be chosen by."""

def available_isas() -> list[str]:
    """Return the tiers that this machine can run, slowest first; `portable` is always there."""

def peak_macs_per_second(isa: str, precision: str = "f32") -> float:
    """Measure the peak of one thread with a tier's instructions: multiply-accumulates a second.

    Args:
        isa: the tier.
        precision: `f32`, `bf16` or `int8`: the products' operands.

    The loop works in registers only. Each call measures again, for a tenth of a second.
    """

def default_threads() -> int:
    """Return the number of threads that a model made now without `threads=` would use."""

def cgroup_quota(root: str | PathLike[str] = ...) -> float | None:
    """Return the CPU time that this process's control groups allow in each second.

    Args:
        root: the directory that has `proc` and `sys` (default: `/`).

    Returns:
        Seconds; None if there is no limit.
    """

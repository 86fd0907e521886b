"""The result of reading a weights file, before and after its names are torchvision's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from .torch_modules import Module


@dataclass(frozen=True)
class RawCheckpoint:
    """The content of a file, as the reader of its format gives it.

    Attributes:
        tensors: the arrays under the file's own names, in torch's layout (convolutions OIHW,
            linear layers `[out, in]`), float32 or float16 and C-contiguous; read-only ones
            are welcome. Integer tensors such as `num_batches_tracked` are left out.
        config: those fields of our config.json that the file states; empty for a state dict.
        remarks: what the user should know: what was unwrapped, stripped, folded or assumed, in
            sentences without the path. A plain `str` is shown as a warning; harmless facts are of
            the class `Note` (`weights/remarks.py`).
        input_size: height and width of the images that the network was made for, if the file says
            so; images of other sizes run too.
        modules: the modules of a whole pickled model, by their places; empty for all others.
    """

    tensors: dict[str, NDArray[Any]]
    config: dict[str, Any] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    input_size: tuple[int, int] | None = None
    modules: Mapping[str, Module] = field(default_factory=dict)


@dataclass(frozen=True)
class Checkpoint:
    """A network that is ready for the core.

    Attributes:
        tensors: the arrays under torchvision's names, in torch's layout, float32 or float16.
        config: a complete config.json, except for `preprocessing`, which is absent or lacks fields
            if neither the file nor the caller states it.
        origin: the path that was read, for messages.
        remarks: what the user should know, in the order in which it happened.
    """

    tensors: dict[str, NDArray[Any]]
    config: dict[str, Any]
    origin: str
    remarks: tuple[str, ...] = ()

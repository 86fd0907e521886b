"""One network in every precision that it can have on this machine."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

from ... import quantization
from ...inspect.same_network import require_same_network
from ...options import PRECISIONS, Options
from ...terminal.progress import Progress
from ...weights.files import files_of
from ...weights.load import load
from ...weights.loaded import HasLoaded, Loaded
from ..run import load_network
from .memory import weights_mb

INT8_NEEDS = (
    "its scales come from photos: give --int8 DIR with the weights that resnet-rs quantize wrote, "
    "or --images FOLDER to quantise here"
)


@dataclass(frozen=True)
class InMemory:
    """A network in one precision.

    Attributes:
        loaded: the network.
        memory_mb: the resident memory that its weights take as they are packed, in 10^6 bytes;
            None if the system does not report it.
        disk_bytes: the size of its files; None for weights that came as bytes.
    """

    loaded: Loaded
    memory_mb: float | None
    disk_bytes: int | None


@dataclass(frozen=True)
class Precisions:
    """The precisions that could be loaded, and those that could not.

    Attributes:
        found: the networks by precision, `f32` first.
        left_out: of each other precision the reason why it is not among them.
    """

    found: dict[str, InMemory]
    left_out: dict[str, str]


def load_precisions(
    options: Options,
    *,
    int8: str | os.PathLike[str] | None,
    images: Any,
    count: int,
    scratch: str,
    progress: Progress,
) -> Precisions:
    """Load a network in f32, and in each other precision.

    Args:
        options: the f32 weights, and how to load them.
        int8: a directory with the same network in int8; None to make it of `images`.
        images: what to quantise with, as for `quantization.quantize`; None leaves int8 out if
            there is no directory.
        count: how many of a folder's images to use.
        scratch: an empty directory for the int8 weights that are made here.
        progress: where to show what is being done.

    Raises:
        FileNotFoundError, WeightsError, UnsupportedIsaError, ValueError: the f32 or the int8
            weights cannot be loaded, or are of another precision or of different networks; or
            `images` calibrate nothing.
    """
    progress.say("loading ...")
    options = replace(options, precision=None)
    f32 = _in_memory(options, warns=True)
    require_f32(f32.loaded)
    found, left_out = {"f32": f32}, {}
    for precision in PRECISIONS:
        if precision == "f32":
            continue
        if precision == "int8":
            path = int8
            if path is None and images is not None:
                path = os.path.join(scratch, "int8")
                _quantize(f32.loaded, images, count, path, progress)
            if path is None:
                left_out[precision] = INT8_NEEDS
                continue
            progress.say("loading int8 ...")
            own = quantization.options_of_quantized(options, os.fspath(path))
            found[precision] = _in_memory(replace(own, precision="int8"))
            require_same_network(f32.loaded, found[precision].loaded)
            continue
        progress.say(f"loading {precision} ...")
        # Also where it is slower: that is what is measured.
        found[precision] = _in_memory(replace(options, precision=precision, strict=True))
    return Precisions(found, left_out)


def require_f32(loaded: Loaded) -> None:
    """Check that the weights to begin with are f32.

    Raises:
        ValueError: they are of another precision; the message says how to give them.
    """
    if loaded.precision != "f32":
        raise ValueError(
            f"{loaded.options.origin}: comparing precisions needs f32 weights, and these are "
            f"{loaded.precision}: give the f32 weights as --weights, and these as "
            f"--{loaded.precision}"
        )


@dataclass(frozen=True)
class _Holder:
    """A model for functions that take one."""

    loaded: Loaded


def _quantize(f32: Loaded, images: Any, count: int, path: str, progress: Progress) -> None:
    """Write the int8 weights as `resnet-rs quantize` does, so that their size is known."""
    from ...weights.save import save

    model: HasLoaded = _Holder(f32)
    made = quantization.quantize(model, images, count=count, progress=progress)
    save(made.loaded, path)


def _in_memory(options: Options, *, warns: bool = False) -> InMemory:
    loaded = load_network(options) if warns else load(options)
    return InMemory(loaded, weights_mb(options), _disk_bytes(options))


def _disk_bytes(options: Options) -> int | None:
    """The size of the files that hold the weights."""
    if options.path is None:
        return None
    return sum(os.path.getsize(file) for file in files_of(options.path))

"""Weights files of other projects, read without their frameworks.

`read` takes any file or directory that is supported, finds out what it is by its content, and
gives tensors with torchvision's names and a config. One module reads one format; what they have
in common comes after: the network's tensors are found among wrappers (`prefixes`), renamed
(`names`), and checked against the architecture (`shapes`, `complete`).

What a file does not say is asked for, and never guessed: which network a state dict belongs to,
and, where two networks share every shape, which of them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .checkpoint import Checkpoint, RawCheckpoint

__all__ = ["Checkpoint", "RawCheckpoint", "read"]


def read(
    path: str | os.PathLike[str],
    *,
    architecture: str | None = None,
    variant: Mapping[str, Any] | None = None,
    num_classes: int | None = None,
    labels: Sequence[str] | None = None,
    preprocessing: Any = None,
    names: Mapping[str, str | None] | str | os.PathLike[str] | None = None,
    key: str | None = None,
) -> Checkpoint:
    r"""Read a network from a file or directory of any supported format.

    Args:
        path: a `.safetensors`, `.pth`, `.pt` or `.bin` file (torch), `.h5` or `.keras` (Keras),
            `.onnx`; or a directory: of ours, of Hugging Face transformers, of timm, or of text
            files with one number a line.
        architecture: the network's name where the file does not state it.
        variant: how the network differs from that architecture, in the fields of config.json's
            `variant`; laid over what the file states.
        num_classes: 0 leaves the last layer out, and heads of other kinds with it; any other
            number is checked against the file.
        labels: the classes' names by index.
        preprocessing: a `Preprocessing`, a preset's name such as `IMAGENET1K_V1`, or a dict of
            some of the fields, of which `preset` may name where the others come from; laid over
            what the file states.
        names: the file's tensor names to torchvision's, or the path of a JSON file with such an
            object. A left side that is no tensor's name is a regular expression for whole names,
            and its right side may hold `\1`, `\2`, ...; a right side of None leaves out.
        key: which network, where a file holds several: the key of a checkpoint's dict, the prefix
            of the tensors' names, or the start of the text files' names.

    Returns:
        The network. Its config is complete but for `preprocessing`, which is absent where neither
        the file nor the caller states it; its remarks say what was unwrapped, stripped, renamed
        or left out.

    Raises:
        FileNotFoundError: there is no such file or directory.
        WeightsError: a malformed file, an unsupported format or network, tensors that do not fit
            the network, or something that the caller must state; the message says how.
        TypeError, ValueError: an argument of the wrong kind or out of range.
    """
    from .complete import Overrides, complete
    from .detect import read_raw
    from .names import read_rules

    source = Path(path)
    raw, key_used = read_raw(source, key, variant)
    overrides = Overrides(
        architecture=architecture,
        variant=variant,
        num_classes=num_classes,
        labels=labels,
        preprocessing=preprocessing,
        names=None if names is None else read_rules(names),
        key=None if key_used else key,
    )
    return complete(raw, str(source), overrides)

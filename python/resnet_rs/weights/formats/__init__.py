"""Weights files of other projects, read without their frameworks.

`read` takes any supported file or directory, detects its format by its content (`detect`), and
gives tensors with torchvision's names and a config. Each format has a reader of its own. The steps
after it are shared: the network's tensors are found among wrappers (`prefixes`), renamed
(`names`), and checked against the architecture (`shapes`, `complete`).

Nothing is guessed. If a file does not say which network its tensors belong to, or two networks
have the same shapes, the error asks for it.

Keras' and ONNX files need a library, which is an extra of this package (`libraries`). All other
formats need NumPy alone.
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
    activation: str | None = None,
    preprocessing: Any = None,
    names: Mapping[str, str | None] | str | os.PathLike[str] | None = None,
    key: str | None = None,
) -> Checkpoint:
    r"""Read a network from a file or directory of any supported format.

    Args:
        path: a `.safetensors`, `.pth`, `.pt` or `.bin` file (torch), `.h5` or `.keras` (Keras),
            `.onnx`; or a directory: our own, or one of Hugging Face transformers, of timm, or of
            text files with one number a line.
        architecture: the network's name, if the file does not state it.
        variant: how the network differs from that architecture, in the fields of config.json's
            `variant`; laid over what the file states.
        num_classes: 0 leaves the last layer out, and heads of other kinds with it; any other
            number is checked against the file.
        labels: the classes' names by index.
        activation: `softmax`, `sigmoid` or `none`, in place of what the file states.
        preprocessing: a `Preprocessing`, a preset's name such as `IMAGENET1K_V1`, or a dict of
            some of the fields; its field `preset` may name the source of the others. Laid over
            what the file states.
        names: the file's tensor names to torchvision's, or the path of a JSON file with such an
            object. A left side that is not a tensor's name is a regular expression for whole names,
            and its right side may hold `\1`, `\2`, ...; a right side of None leaves out.
        key: which network, if a file holds several: the key of a checkpoint's dict, the prefix
            of the tensors' names, or the start of the text files' names.

    Returns:
        The network. Its config is complete except for `preprocessing`, which is absent if neither
        the file nor the caller states it; its remarks say what was unwrapped, stripped, renamed
        or left out.

    Raises:
        FileNotFoundError: there is no such file or directory.
        WeightsError: a malformed file, an unsupported format or network, tensors that do not fit
            the network, or something that the caller must state; the message says how.
        TypeError, ValueError: an argument of the wrong kind or out of range.
    """
    from .complete import complete
    from .detect import read_raw
    from .names import read_rules
    from .overrides import Overrides

    source = Path(path)
    raw, key_used = read_raw(source, key, variant)
    overrides = Overrides(
        architecture=architecture,
        variant=variant,
        num_classes=num_classes,
        labels=labels,
        activation=activation,
        preprocessing=preprocessing,
        names=None if names is None else read_rules(names),
        key=None if key_used else key,
    )
    return complete(raw, str(source), overrides)

"""`resnet-rs compare`: find the first step, or the first gradient, where two networks differ.

Of an int8 network and its f32 network it shows how much each layer loses.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from typing import Any

from ..inspect.compare import (
    Comparison,
    PrecisionLosses,
    compare,
    compare_precision,
    compare_step,
)
from ..inspect.compare.step_files import STEP_FILES
from ..inspect.compare.steps import TOLERANCE
from ..inspect.compare.training_step import STEP_TOLERANCE
from ..inspect.dumps import entry_names
from ..model import ResNet
from .common import (
    LOAD_ERRORS,
    OK,
    WRONG_RESULTS,
    add_format,
    add_model_options,
    fail,
    load_model,
    plain_warnings,
)

F32 = "f32"
"""The word for the network of `--weights` in f32."""

EPILOG = """\
The network of --weights is taken to be right. The other one is compared with it, and its first
wrong step is diagnosed. The other one may be:

  torch          torchvision's network with the same weights, run by torch
  FILE.npz       a dump of any implementation's results; docs/debugging.md says how to write one
  WEIGHTS        other weights of the same architecture

If one of both is quantised and the other one f32, every layer has its signal-to-noise ratio, what
of it was lost in that layer, and the part of the values that the scale clips.

Without IMAGE, the network's input comes from FILE.npz, which must then contain it.

With --label, a training step is compared: loss, running statistics, and gradients from the last
layer to the first. --against may then be torch, WEIGHTS, or a file of gradients by name (.npz,
.safetensors, .pt, .pth; docs/debugging.md). An .npz file that contains `image` with `labels` or
`targets` needs neither IMAGE nor --label.

examples:
  resnet-rs compare photo.jpg --weights weights/ --against torch
  resnet-rs compare photo.jpg --weights weights/ --against dump.npz
  resnet-rs compare --weights weights/ --against dump.npz --tolerance 1e-3
  resnet-rs compare photo.jpg --weights weights/ --against torch --label 3
  resnet-rs compare --weights weights/ --against gradients.npz
  resnet-rs compare photo.jpg --weights weights-int8/ --against weights/

Steps that agree are green on a terminal and the others red, unless NO_COLOR is set.

exit status: 0 if all steps agree, 1 if one does not, 2 for bad usage or something that could not
be read. For int8 beside f32: 0 if the best class is the same and the logits are within --tolerance,
if that is given.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("image", nargs="?", metavar="IMAGE", help="an image file")
    add_model_options(parser)
    parser.add_argument(
        "--against",
        required=True,
        metavar="torch|f32|FILE.npz|WEIGHTS",
        help="what to compare with; f32 is --weights again, in f32",
    )
    parser.add_argument(
        "--label",
        metavar="CLASS",
        help="compare a training step of IMAGE with this class, an index or a name",
    )
    parser.add_argument(
        "--lr",
        type=_above_zero,
        metavar="X",
        help="the file has weights after the first step of SGD with this learning rate, not "
        "gradients",
    )
    parser.add_argument(
        "--weight-decay",
        type=float,
        default=0.0,
        metavar="X",
        help="of that step (default: 0)",
    )
    parser.add_argument(
        "--tolerance",
        type=_above_zero,
        metavar="X",
        help=f"the largest relative L2 difference that counts as equal (default: {TOLERANCE:g}, "
        f"{STEP_TOLERANCE:g} for a training step, none for the logits of int8 beside f32)",
    )
    add_format(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Compare, print the result, and return the exit status."""
    with plain_warnings():
        try:
            comparison = _compare(arguments)
        except LOAD_ERRORS as error:
            return fail(error)
    if arguments.format == "json":
        print(json.dumps(comparison.as_dict(), indent=2))
    elif isinstance(comparison, PrecisionLosses):
        print(comparison)
    else:
        print(comparison.text(color=_wants_color()))
    return OK if _is_ok(comparison, arguments.tolerance) else WRONG_RESULTS


def _is_ok(comparison: Comparison | PrecisionLosses, tolerance: float | None) -> bool:
    """Tell if the two sides are equal; few bits are if they give the same class."""
    if isinstance(comparison, Comparison):
        return comparison.ok
    within = tolerance is None or comparison.relative_error <= tolerance
    return comparison.same_classes and within


def _compare(arguments: argparse.Namespace) -> Comparison | PrecisionLosses:
    model = load_model(arguments)
    if _is_step(arguments):
        return compare_step(
            model,
            _other_step(arguments, model),
            arguments.image,
            arguments.label,
            lr=arguments.lr,
            weight_decay=arguments.weight_decay,
            tolerance=arguments.tolerance or STEP_TOLERANCE,
        )
    if arguments.lr is not None or arguments.weight_decay:
        raise ValueError("--lr and --weight-decay are of a training step: add --label")
    other = _other_side(arguments, model)
    if isinstance(other, ResNet) and (model.precision == "f32") != (other.precision == "f32"):
        if arguments.image is None:
            raise ValueError("comparing precisions needs an image: give IMAGE")
        low, f32 = (other, model) if model.precision == "f32" else (model, other)
        return compare_precision(low, f32, arguments.image)
    return compare(model, other, arguments.image, tolerance=arguments.tolerance or TOLERANCE)


def _is_step(arguments: argparse.Namespace) -> bool:
    """Tell if a training step is compared: there is a label, on the command line or in the file."""
    against: str = arguments.against
    if arguments.label is not None:
        return True
    return against.endswith(".npz") and not {"labels", "targets"}.isdisjoint(entry_names(against))


def _other_step(arguments: argparse.Namespace, model: ResNet) -> Any:
    """Make what `--against` names: a torch module in training mode, a file's path, or a model."""
    against: str = arguments.against
    if against == "torch":
        return _other_side(arguments, model).train()
    if against.endswith(STEP_FILES):
        return against
    return load_model(arguments, weights=against)


def _other_side(arguments: argparse.Namespace, model: ResNet) -> Any:
    """Make what `--against` names: a torch module, the path of a dump, or a model."""
    against: str = arguments.against
    if against == "torch":
        from ..inspect.compare.twin import torch_twin

        return torch_twin(model)
    if against.endswith(".npz"):
        return against
    return _other_model(arguments, model)


def _other_model(arguments: argparse.Namespace, model: ResNet) -> ResNet:
    """Load the weights that `--against` names; `--precision` is of those of `--weights` alone.

    Raises:
        ValueError: it names f32, and the weights of `--weights` are int8 themselves.
        LOAD_ERRORS: they cannot be loaded.
    """
    against: str = arguments.against
    plain = argparse.Namespace(**{**vars(arguments), "precision": None})
    if against != F32 or os.path.exists(F32):
        return load_model(plain, weights=against)
    if model.config.quantization is not None:
        made_of = (model.config.source or {}).get("file")
        raise ValueError(
            f"--against f32: {arguments.weights} holds int8 weights alone: give the path of the "
            f"f32 weights that they were made of{f' ({made_of})' if made_of else ''}"
        )
    return load_model(argparse.Namespace(**{**vars(arguments), "precision": F32}))


def _wants_color() -> bool:
    """Tell if stdout is a terminal whose user has not asked for plain text."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def _above_zero(text: str) -> float:
    """Read a number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0; got {text!r}")
    return number

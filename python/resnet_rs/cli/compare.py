"""`resnet-rs compare`: find the first step, or the first gradient, where two networks differ."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from typing import Any

from ..inspect.compare import Comparison, compare, compare_step
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

EPILOG = """\
The network of --weights is taken to be right. The other one is compared with it, and its first
wrong step is diagnosed. The other one may be:

  torch          torchvision's network with the same weights, run by torch
  FILE.npz       a dump of any implementation's results; docs/debugging.md says how to write one
  WEIGHTS        other weights of the same architecture

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

Steps that agree are green on a terminal and the others red, unless NO_COLOR is set.

exit status: 0 if all steps agree, 1 if one does not, 2 for bad usage or something that could not
be read.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("image", nargs="?", metavar="IMAGE", help="an image file")
    add_model_options(parser)
    parser.add_argument(
        "--against",
        required=True,
        metavar="torch|FILE.npz|WEIGHTS",
        help="what to compare with",
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
        f"and {STEP_TOLERANCE:g} for a training step)",
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
    else:
        print(comparison.text(color=_wants_color()))
    return OK if comparison.ok else WRONG_RESULTS


def _compare(arguments: argparse.Namespace) -> Comparison:
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
    return load_model(arguments, weights=against)


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

"""`resnet-rs compare`: find the first step where two networks differ."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from typing import Any

from ..inspect.compare import Comparison, compare
from ..inspect.compare.steps import TOLERANCE
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

examples:
  resnet-rs compare photo.jpg --weights weights/ --against torch
  resnet-rs compare photo.jpg --weights weights/ --against dump.npz
  resnet-rs compare --weights weights/ --against dump.npz --tolerance 1e-3

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
        "--tolerance",
        type=_tolerance,
        default=TOLERANCE,
        metavar="X",
        help=f"the largest relative L2 difference that counts as equal (default: {TOLERANCE:g})",
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
    other = _other_side(arguments, model)
    return compare(model, other, arguments.image, tolerance=arguments.tolerance)


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


def _tolerance(text: str) -> float:
    """Read a number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0; got {text!r}")
    return number

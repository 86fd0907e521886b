"""`resnet-rs trace`: show every operation's result for an image, or its gradients; write a dump."""

from __future__ import annotations

import argparse
import json

from ..inspect.gradients import GradientTrace
from ..inspect.trace import Trace
from .common import LOAD_ERRORS, OK, add_format, add_model_options, fail, load_model, plain_warnings

EPILOG = """\
Without --out a table of every result's shape and values is printed. With --out the results
themselves are written: an .npz file that NumPy reads, and resnet-rs compare.

With --label the gradients are shown in place of the results: those of the cross-entropy by every
result and every weight, with the network in training mode, from the last layer to the first.

examples:
  resnet-rs trace photo.jpg --weights weights/
  resnet-rs trace photo.jpg --weights weights/ --out dump.npz
  resnet-rs trace photo.jpg --weights weights/ --label 3

exit status: 0, or 2 for bad usage, weights that could not be loaded or an image that could not be
read.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("image", metavar="IMAGE", help="an image file")
    add_model_options(parser)
    parser.add_argument(
        "--fused",
        action="store_true",
        help="show the layers that a forward runs, with batch norm, ReLU and addition fused into "
        "the convolutions",
    )
    parser.add_argument(
        "--label", metavar="CLASS", help="show the gradients for this class, an index or a name"
    )
    parser.add_argument("--out", metavar="FILE.npz", help="write the results to this file")
    add_format(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Trace the image, and return the exit status."""
    with plain_warnings():
        try:
            trace = _trace(arguments)
            if arguments.out is not None:
                trace.save(arguments.out)
        except LOAD_ERRORS as error:
            return fail(error)
    if arguments.out is None:
        print(json.dumps(trace.as_list(), indent=2) if arguments.format == "json" else trace)
    return OK


def _trace(arguments: argparse.Namespace) -> Trace | GradientTrace:
    model = load_model(arguments)
    if arguments.label is None:
        return model.trace(arguments.image, fused=arguments.fused)
    if arguments.fused:
        raise ValueError("--fused shows results; leave it out with --label, or --label with it")
    return model.trace_gradients(arguments.image, arguments.label)

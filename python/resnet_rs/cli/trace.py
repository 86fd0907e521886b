"""`resnet-rs trace`: show every operation's result for an image, or write a dump."""

from __future__ import annotations

import argparse
import json

from .common import LOAD_ERRORS, OK, add_format, add_model_options, fail, load_model, plain_warnings

EPILOG = """\
Without --out a table of every result's shape and values is printed. With --out the results
themselves are written: an .npz file that NumPy reads, and resnet-rs compare.

examples:
  resnet-rs trace photo.jpg --weights weights/
  resnet-rs trace photo.jpg --weights weights/ --out dump.npz

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
    parser.add_argument("--out", metavar="FILE.npz", help="write the results to this file")
    add_format(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Trace the image, and return the exit status."""
    with plain_warnings():
        try:
            trace = load_model(arguments).trace(arguments.image, fused=arguments.fused)
            if arguments.out is not None:
                trace.save(arguments.out)
        except LOAD_ERRORS as error:
            return fail(error)
    if arguments.out is None:
        print(json.dumps(trace.as_list(), indent=2) if arguments.format == "json" else trace)
    return OK

"""`resnet-rs summary`: show the operations of a network and their cost."""

from __future__ import annotations

import argparse
import json

from ..inspect.summary import SIZE, Summary, summarize, summarize_architecture
from .common import (
    LOAD_ERRORS,
    OK,
    add_format,
    add_model_options,
    count,
    fail,
    load_model,
    plain_warnings,
)

EPILOG = """\
With --weights, the size is that of a preprocessed image, and every layer has its algorithm and
kernel. With --architecture alone, no weights are needed, and the size is 224.

examples:
  resnet-rs summary --architecture resnet50
  resnet-rs summary --weights weights/ --size 320
  resnet-rs summary --architecture resnext50_32x4d --format json

exit status: 0, or 2 for bad usage or weights that could not be loaded.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    add_model_options(parser, weights_required=False)
    parser.add_argument("--size", type=count, metavar="N", help="the input's side in pixels")
    add_format(parser)
    parser.set_defaults(run=lambda arguments: run(parser, arguments))


def run(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    """Print the summary, and return the exit status."""
    if arguments.weights is None and arguments.architecture is None:
        parser.error("one of the arguments --weights --architecture is required")
    with plain_warnings():
        try:
            summary = _summary(arguments)
        except LOAD_ERRORS as error:
            return fail(error)
    print(json.dumps(summary.as_dict(), indent=2) if arguments.format == "json" else summary)
    return OK


def _summary(arguments: argparse.Namespace) -> Summary:
    if arguments.weights is None:
        return summarize_architecture(arguments.architecture, arguments.size or SIZE)
    return summarize(load_model(arguments), arguments.size)

"""`resnet-rs explain`: draw the best classes of a photo and their activation maps."""

from __future__ import annotations

import argparse

from ..inspect.pictures import explain
from .common import count
from .pictures import add_picture_options, write_picture

EPILOG = """\
The picture has a bar for each of the best classes, and for the best three a class activation map:
red marks the places of the photo that speak for the class, blue those against it. The maps are
exact: a map's mean plus the class's bias is its logit. The command needs matplotlib:
pip install "resnet_rs[pictures]".

examples:
  resnet-rs explain photo.jpg --weights weights/ -o out.png
  resnet-rs explain photo.jpg --weights weights/ -o out.svg --top-k 3

exit status: 0 if the picture was written, 1 if the photo could not be read, 2 for bad usage,
weights that could not be loaded, or a file that could not be written.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("image", metavar="IMAGE", help="an image file")
    add_picture_options(parser)
    parser.add_argument(
        "--top-k",
        type=count,
        default=5,
        metavar="K",
        help="how many classes have a bar (default: 5)",
    )
    parser.add_argument(
        "--shifts",
        type=count,
        metavar="N",
        help="refine the maps by moving the photo to N x N places (default: 1 if the map has 7 x 7 "
        "cells or more, otherwise a number that gives about 16 x 16)",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Draw and write the picture, and return the exit status."""
    return write_picture(
        arguments,
        lambda model: explain(model, arguments.image, arguments.top_k, shifts=arguments.shifts),
    )

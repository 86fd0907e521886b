"""`resnet-rs features`: draw a layer's feature maps, or the first filters, as a grid."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ..inspect.pictures import feature_grid, stem_filters
from .common import count
from .pictures import add_picture_options, write_picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..model import ResNet

EPILOG = """\
A layer is a stage (layer1 to layer4), a block (layer2.0), or any operation that `resnet-rs trace`
shows (conv1, layer2.0.bn1). The command needs matplotlib: pip install "resnet_rs[pictures]".

examples:
  resnet-rs features photo.jpg --weights weights/ --layer layer2.0 -o grid.png
  resnet-rs features photo.jpg --weights weights/ --layer layer1 --max 16 --strongest -o grid.png
  resnet-rs features --stem-filters --weights weights/ -o filters.png

exit status: 0 if the picture was written, 1 if the photo could not be read, 2 for bad usage,
weights that could not be loaded, or a file that could not be written.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("image", nargs="?", metavar="IMAGE", help="an image file")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--layer", metavar="NAME", help="draw this layer's feature maps")
    what.add_argument(
        "--stem-filters",
        action="store_true",
        help="draw the first convolution's filters; leave out IMAGE",
    )
    add_picture_options(parser)
    parser.add_argument(
        "--max",
        type=count,
        default=64,
        metavar="N",
        help="how many maps to draw at most (default: 64)",
    )
    parser.add_argument(
        "--strongest",
        action="store_true",
        help="draw the maps with the largest mean, not those with the lowest numbers",
    )
    parser.set_defaults(run=run, usage_error=parser.error)


def run(arguments: argparse.Namespace) -> int:
    """Draw and write the picture, and return the exit status."""
    if arguments.stem_filters and arguments.image is not None:
        arguments.usage_error("--stem-filters draws weights: leave out the image")
    if not arguments.stem_filters and arguments.image is None:
        arguments.usage_error("--layer draws what an image becomes: name one")
    return write_picture(arguments, lambda model: _draw(arguments, model))


def _draw(arguments: argparse.Namespace, model: ResNet) -> Figure:
    if arguments.stem_filters:
        return stem_filters(model)
    return feature_grid(
        model, arguments.image, arguments.layer, arguments.max, strongest=arguments.strongest
    )

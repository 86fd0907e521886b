"""The common part of `explain` and `features`: options, and writing a figure to a file."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..images.errors import ImageError
from ..inspect.pictures.style import DPI, require_matplotlib
from .common import (
    LOAD_ERRORS,
    OK,
    SOME_IMAGES_FAILED,
    add_model_options,
    count,
    fail,
    load_model,
    plain_warnings,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..model import ResNet


def add_picture_options(parser: argparse.ArgumentParser) -> None:
    """Add `-o`, `--dpi` and the model options."""
    parser.add_argument(
        "-o",
        "--out",
        required=True,
        metavar="FILE",
        help="the picture to write; its suffix says the format, such as .png, .svg or .pdf",
    )
    parser.add_argument(
        "--dpi",
        type=count,
        default=DPI,
        metavar="N",
        help=f"pixels an inch (default: {DPI})",
    )
    add_model_options(parser)


def write_picture(arguments: argparse.Namespace, draw: Callable[[ResNet], Figure]) -> int:
    """Load the model, draw, write the file, and return the exit status."""
    with plain_warnings():
        try:
            require_matplotlib()
            model = load_model(arguments)
        except LOAD_ERRORS as error:
            return fail(error)
        try:
            figure = draw(model)
        except (ImageError, OSError) as error:
            fail(error)
            return SOME_IMAGES_FAILED
        except (ValueError, MemoryError) as error:
            return fail(error)
        try:
            figure.savefig(arguments.out, dpi=arguments.dpi)
        except (OSError, ValueError) as error:
            return fail(f"{arguments.out}: {error}")
    return OK

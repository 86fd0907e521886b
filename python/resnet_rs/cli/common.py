"""The base of all commands: exit statuses, options, loading, errors and warnings in one line."""

from __future__ import annotations

import argparse
import contextlib
import sys
import threading
import warnings
from collections.abc import Collection, Iterator
from dataclasses import fields
from typing import TextIO

from ..family import load
from ..images.options import MAX_PIXELS
from ..model import ResNet
from ..options import Options, flags
from ..terminal.visible import visible

OK = 0
SOME_IMAGES_FAILED = 1
WRONG_RESULTS = 1
BAD_USAGE = 2  # argparse exits with this number too
INTERRUPTED = 130  # 128 + SIGINT, as shells count
BROKEN_PIPE = 141  # 128 + SIGPIPE

# The errors of loading a model and opening an output. WeightsError is a ValueError and
# UnsupportedIsaError a RuntimeError. ImportError means that an extra is not installed, such as that
# for Parquet or pictures.
LOAD_ERRORS = (OSError, ValueError, RuntimeError, MemoryError, ImportError)


def fail(problem: object) -> int:
    """Print an error on one line of stderr, and return the exit status."""
    print(f"resnet-rs: error: {visible(str(problem))}", file=sys.stderr)
    return BAD_USAGE


def note(text: str) -> None:
    """Print a remark on one line of stderr."""
    print(f"resnet-rs: note: {visible(text)}", file=sys.stderr)


@contextlib.contextmanager
def plain_warnings() -> Iterator[None]:
    """Show each warning once, as a line of text without a place in the code."""
    shown = set()
    lock = threading.Lock()

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        with lock:  # pictures are decoded in many threads
            if str(message) in shown:
                return
            shown.add(str(message))
            # In one piece, so that no other line comes in between.
            sys.stderr.write(f"resnet-rs: warning: {visible(str(message))}\n")

    with warnings.catch_warnings():
        warnings.showwarning = show
        warnings.simplefilter("always", UserWarning)
        yield


def add_model_options(
    parser: argparse.ArgumentParser,
    *,
    weights_required: bool = True,
    leave_out: Collection[str] = (),
) -> None:
    """Add the flags of `Options`: `--weights`, `--architecture`, `--isa`, ...

    Args:
        parser: the command's.
        weights_required: whether `--weights` must be given.
        leave_out: options that the command adds by itself, or does not have.
    """
    defaults = {one.name: one.default for one in fields(Options)}
    for name, flag in flags().items():
        if name in leave_out:
            continue
        text = name.replace("_", "-")
        if flag.kind == "off":
            parser.add_argument(f"--no-{text}", dest=name, action="store_false", help=flag.help)
            continue
        if flag.kind == "on":
            parser.add_argument(f"--{text}", action="store_true", help=flag.help)
            continue
        parser.add_argument(
            f"--{text}",
            required=weights_required and name == "weights",
            default=None if name == "weights" else defaults[name],
            metavar=flag.metavar,
            choices=flag.choices,
            type=count if flag.kind == "count" else str,
            help=flag.help,
        )


def model_options(arguments: argparse.Namespace) -> Options:
    """Read the options of a model from the flags that `add_model_options` added.

    Raises:
        LOAD_ERRORS: a value is out of range.
    """
    return Options(**{name: getattr(arguments, name) for name in flags()})


def load_model(arguments: argparse.Namespace, *, weights: str | None = None) -> ResNet:
    """Load the model that the flags of `add_model_options` describe.

    Args:
        arguments: the parsed command line.
        weights: other weights than those of `--weights`.

    Raises:
        LOAD_ERRORS: it cannot be loaded.
    """
    values = {name: getattr(arguments, name) for name in flags()}
    if weights is not None:
        values["weights"] = weights
    if arguments.max_pixels > MAX_PIXELS:
        from PIL import Image

        # Pillow's own bound, which only a whole process can raise: the command is one.
        Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS or 0, arguments.max_pixels)
    return load(**values)


def add_format(parser: argparse.ArgumentParser) -> None:
    """Add `--format`."""
    parser.add_argument(
        "--format", choices=("text", "json"), default="text", help="(default: text)"
    )


def count(text: str) -> int:
    """Read a whole number from 1 up."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 up; got {text!r}")
    return number


def duration(text: str) -> float:
    """Read a number of seconds above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"expected seconds, a number above 0; got {text!r}")
    return number

"""The base of all commands: exit statuses, options, loading, errors and warnings in one line."""

from __future__ import annotations

import argparse
import contextlib
import sys
import warnings
from collections.abc import Iterator
from typing import TextIO

from ..family import load
from ..model import ResNet

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
    print(f"resnet-rs: error: {problem}", file=sys.stderr)
    return BAD_USAGE


@contextlib.contextmanager
def plain_warnings() -> Iterator[None]:
    """Show each warning once, as a line of text without a place in the code."""
    shown = set()

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if str(message) not in shown:
            shown.add(str(message))
            print(f"resnet-rs: warning: {message}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show
        warnings.simplefilter("always", UserWarning)
        yield


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add `--weights`, `--architecture`, `--isa`, `--threads` and `--no-winograd`."""
    parser.add_argument(
        "--weights",
        required=True,
        metavar="DIR",
        help="a directory with model.safetensors and config.json, or any other file of weights "
        "that resnet-rs convert takes",
    )
    parser.add_argument(
        "--architecture",
        metavar="NAME",
        help="what the network is, such as resnet50, where the weights do not state it",
    )
    parser.add_argument(
        "--isa",
        choices=("portable", "avx2", "avx512"),
        help="which kernels to use (default: RESNET_RS_ISA, else the best this machine has)",
    )
    parser.add_argument(
        "--threads",
        type=count,
        metavar="N",
        help="how many threads to use (default: RESNET_RS_NUM_THREADS, RAYON_NUM_THREADS or "
        "OMP_NUM_THREADS, else the CPUs this process may use)",
    )
    parser.add_argument(
        "--no-winograd",
        dest="winograd",
        action="store_false",
        help="compute every convolution directly: slower, with less memory",
    )


def load_model(arguments: argparse.Namespace) -> ResNet:
    """Load the model that the options of `add_model_options` describe.

    Raises:
        LOAD_ERRORS: it cannot be loaded.
    """
    return load(
        arguments.weights,
        architecture=arguments.architecture,
        isa=arguments.isa,
        threads=arguments.threads,
        winograd=arguments.winograd,
    )


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

"""The command line: `resnet-rs predict`, `resnet-rs info` and `resnet-rs bench`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from .. import __version__
from . import bench, info, predict
from .common import BROKEN_PIPE, INTERRUPTED

_DESCRIPTION = "Classify images with ResNet-50 on the CPU."

_EPILOG = """\
examples:
  resnet-rs predict cat.jpg --weights weights/
  resnet-rs predict photos/*.jpg --weights weights/ --top-k 1
  resnet-rs predict photos/*.jpg --weights weights/ --format json > labels.json
  resnet-rs info
  resnet-rs bench --weights weights/

exit status:
  0  every image was classified
  1  at least one image could not be read; the others were classified
  2  bad usage, or the weights could not be loaded
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: the arguments after the program's name; by default the process's own.

    Returns:
        The exit status.
    """
    # A file name that the terminal's encoding lacks is shown escaped rather than as a traceback.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    arguments = _parser().parse_args(argv)
    try:
        status: int = arguments.run(arguments)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has gone (as in `| head`). Python flushes stdout once more at exit, and would
        # complain: let it flush into nothing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="resnet-rs", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=raw
    )
    parser.add_argument("--version", action="version", version=f"resnet-rs {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    predict.add_arguments(
        commands.add_parser(
            "predict",
            help="name what is in images",
            description="Name what is in images: the best classes of each, best first.",
            epilog=predict.EPILOG,
            formatter_class=raw,
        )
    )
    info.add_arguments(
        commands.add_parser(
            "info",
            help="show the version, CPU features, kernels and threads",
            description="Show the version, CPU features, the kernels that would be used and the "
            "number of threads.",
        )
    )
    bench.add_arguments(
        commands.add_parser(
            "bench",
            help="measure how fast a model runs on this machine",
            description="Measure latency and throughput of a model on this machine, with noise as "
            "input.",
            epilog=bench.EPILOG,
            formatter_class=raw,
        )
    )
    return parser

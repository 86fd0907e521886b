"""`resnet-rs info`: show the version, the processor and the defaults of a new model."""

from __future__ import annotations

import argparse
import json

from ..bench.system import system_info
from .common import OK, add_format


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    add_format(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the information, and return the exit status."""
    info = system_info()
    if arguments.format == "json":
        print(json.dumps(info, indent=2))
        return OK
    width = max(map(len, info))
    for name, value in info.items():
        text = " ".join(value) if isinstance(value, list) else value
        print(f"{name.replace('_', ' '):<{width}}  {'-' if text is None else text}")
    return OK

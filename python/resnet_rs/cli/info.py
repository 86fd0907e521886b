"""`resnet-rs info`: show the version, the processor, the defaults of a new model, and a model."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from typing import Any

from ..bench.system import system_info
from ..options import flags
from ..terminal.tables import plural
from .common import LOAD_ERRORS, OK, add_format, add_model_options, fail, load_model, plain_warnings

EPILOG = """\
With --weights, the network's precision follows, and each kernel that computes some of its layers.

examples:
  resnet-rs info
  resnet-rs info --weights weights/

exit status: 0, or 2 for bad usage or weights that could not be loaded.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    add_model_options(parser, weights_required=False)
    add_format(parser)
    parser.set_defaults(run=lambda arguments: run(parser, arguments))


def run(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    """Print the information, and return the exit status."""
    info: dict[str, Any] = dict(system_info())
    if arguments.weights is not None:
        with plain_warnings():
            try:
                info |= _network_info(arguments)
            except LOAD_ERRORS as error:
                return fail(error)
    elif any(getattr(arguments, name) != parser.get_default(name) for name in flags()):
        parser.error("the flags of a model need --weights")
    if arguments.format == "json":
        print(json.dumps(info, indent=2))
        return OK
    width = max(map(len, info))
    for name, value in info.items():
        print(f"{name.replace('_', ' '):<{width}}  {_text(value)}")
    return OK


def _network_info(arguments: argparse.Namespace) -> dict[str, Any]:
    """Describe the network of `--weights`, and the tier and threads that it runs with."""
    model = load_model(arguments)
    rows = [row for row in model.summary().rows if row.kernel is not None]
    return {
        "isa": model.isa,
        "isa_from": "--isa" if arguments.isa else system_info()["isa_from"],
        "threads": model.threads,
        "threads_from": "--threads" if arguments.threads else system_info()["threads_from"],
        "weights": model.loaded.options.origin,
        "architecture": model.config.architecture,
        "precision": model.precision,
        "kernels": dict(Counter(str(row.kernel) for row in rows).most_common()),
    }


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, dict):
        return ", ".join(f"{name} ({plural(count, 'layer')})" for name, count in value.items())
    return " ".join(value) if isinstance(value, list) else str(value)

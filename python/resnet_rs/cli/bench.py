"""`resnet-rs bench`: the speed of a model on this machine, and the gain of each optimisation."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import datetime, timezone

from .common import (
    LOAD_ERRORS,
    OK,
    WRONG_RESULTS,
    add_format,
    add_model_options,
    count,
    duration,
    fail,
    model_options,
    plain_warnings,
)

EPILOG = """\
Latency is the time of one call with the whole batch; calls follow each other. 90 and 99 % of the
calls are faster than p90 and p99. A quiet machine gives steadier figures.

examples:
  resnet-rs bench --weights weights/
  resnet-rs bench --weights weights/ --batch 8 --threads 4 --profile
  resnet-rs bench --weights weights/ --ladder --plot ladder.png

exit status: 0; 1 if the ladder's stages do not agree on the logits; 2 for bad usage, weights that
could not be loaded or a plot that cannot be drawn.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    add_model_options(parser)
    add = parser.add_argument
    add("--batch", type=count, metavar="N", help="images in a call (default: 1)")
    add(
        "--size",
        type=count,
        nargs=2,
        metavar=("H", "W"),
        help="height and width of the input (default: what the weights' preprocessing makes)",
    )
    add(
        "--seconds",
        type=duration,
        default=5.0,
        metavar="S",
        help="how long to measure; with --ladder, each stage (default: 5)",
    )
    add_format(parser)
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--profile", action="store_true", help="also show the time of each layer")
    kinds.add_argument(
        "--ladder",
        action="store_true",
        help="measure one image in stages instead: naive loops (once: they take 10 to 30 s at "
        "224 x 224), each tier of kernels, Winograd, threads",
    )
    add("--plot", metavar="FILE", help="with --ladder: also draw it (needs matplotlib)")
    parser.set_defaults(run=lambda arguments: _run(parser, arguments))


def _run(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    """Measure; returns the exit status."""
    if arguments.plot is not None and not arguments.ladder:
        parser.error("--plot draws the ladder: add --ladder")
    if arguments.ladder and arguments.batch is not None:
        parser.error("--ladder measures one image: leave out --batch")
    with plain_warnings():
        try:
            return _ladder(arguments) if arguments.ladder else _bench(arguments)
        except LOAD_ERRORS as error:
            return fail(error)


def _bench(arguments: argparse.Namespace) -> int:
    from ..bench.run import run_bench
    from ..terminal.progress import Progress

    with Progress() as progress:
        result = run_bench(
            model_options(arguments),
            batch=arguments.batch or 1,
            size=arguments.size and tuple(arguments.size),
            seconds=arguments.seconds,
            with_profile=arguments.profile,
            progress=progress,
        )
    print(json.dumps(result.as_dict(), indent=2) if arguments.format == "json" else result)
    return OK


def _ladder(arguments: argparse.Namespace) -> int:
    from ..bench.ladder import climb_ladder
    from ..bench.ladder_plot import NEEDS_MATPLOTLIB, can_plot, plot_ladder
    from ..terminal.progress import Progress

    if arguments.plot is not None and not can_plot():
        # Before the measuring, which takes a minute.
        return fail(NEEDS_MATPLOTLIB)
    with Progress() as progress:
        ladder = climb_ladder(
            model_options(arguments),
            size=arguments.size and tuple(arguments.size),
            seconds=arguments.seconds,
            progress=progress,
        )
    print(json.dumps(ladder.as_dict(), indent=2) if arguments.format == "json" else ladder)
    if arguments.plot is not None:
        today = datetime.now(timezone.utc).date().isoformat()
        plot_ladder(ladder, arguments.plot, note=today)
        print(f"wrote {arguments.plot}", file=sys.stderr)
    if not ladder.agrees:
        print("resnet-rs: the stages do not agree on the logits: see rel. error", file=sys.stderr)
        return WRONG_RESULTS
    return OK

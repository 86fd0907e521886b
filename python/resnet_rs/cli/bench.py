"""`resnet-rs bench`: the speed of a model here, its scaling, and the gain of each optimisation."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ..images.errors import ImageError
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

--scale divides the CPUs in every sensible way: more threads for one image (latency); batches on all
threads, callers (Python threads that share the model) and processes side by side (throughput). It
ends with the settings to choose, as lines to paste. With 2 CPUs it takes one to two minutes, with
16 three to four; --seconds changes that, and --threads N divides fewer CPUs.

--compare-precisions times f32 and int8 in turns and says which pays here. WEIGHTS are f32; int8 is
what --int8 names, or is made of the photos of --images. Labels and logits are compared on those
photos. Without --int8 and --images there are no scales, so int8 is left out.

examples:
  resnet-rs bench --weights weights/
  resnet-rs bench --weights weights/ --batch 8 --threads 4 --profile
  resnet-rs bench --weights weights/ --scale
  resnet-rs bench --weights weights/ --scale --seconds 20 --plot scaling.png --format json
  resnet-rs bench --weights weights/ --ladder --plot ladder.png
  resnet-rs bench --weights weights/ --compare-precisions --images photos/
  resnet-rs bench --weights weights/ --compare-precisions --int8 weights-int8/ --images photos/

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
        help="how long to measure; with --ladder each stage, with --scale each row, with "
        "--compare-precisions each precision (default: 5)",
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
    kinds.add_argument(
        "--scale",
        action="store_true",
        help="measure latency and throughput over threads, callers and processes instead, and say "
        "which to choose",
    )
    kinds.add_argument(
        "--compare-precisions",
        action="store_true",
        help="measure f32 and the other precisions in turns instead, with their memory and the "
        "agreement of their labels, and say which pays here",
    )
    add(
        "--int8",
        metavar="DIR",
        help="with --compare-precisions: the same network in int8, as resnet-rs quantize writes it",
    )
    add(
        "--images",
        metavar="FOLDER",
        help="with --compare-precisions: photos to compare labels on, and to make int8 of without "
        "--int8",
    )
    add(
        "--count",
        type=count,
        metavar="N",
        help="with --images: how many of them to use, evenly over the sorted files (default: 100)",
    )
    add("--plot", metavar="FILE", help="with --ladder or --scale: also draw it (needs matplotlib)")
    parser.set_defaults(run=lambda arguments: _run(parser, arguments))


def _run(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    """Measure; returns the exit status."""
    from ..bench.plots import NEEDS_MATPLOTLIB, can_plot

    if arguments.plot is not None and not (arguments.ladder or arguments.scale):
        parser.error("--plot draws a ladder or the scaling: add --ladder or --scale")
    if arguments.ladder and arguments.batch is not None:
        parser.error("--ladder measures one image: leave out --batch")
    if arguments.scale and arguments.batch is not None:
        parser.error("--scale measures several batches: leave out --batch")
    _check_precisions(parser, arguments)
    if arguments.plot is not None and not can_plot():
        return fail(NEEDS_MATPLOTLIB)
    measure = _bench
    if arguments.ladder:
        measure = _ladder
    elif arguments.scale:
        measure = _scale
    elif arguments.compare_precisions:
        measure = _compare_precisions
    with plain_warnings():
        try:
            return measure(arguments)
        except (ImageError, *LOAD_ERRORS) as error:
            return fail(error)


def _check_precisions(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Refuse flags that do not go together with a comparison of precisions, or without one."""
    if arguments.compare_precisions:
        if arguments.precision is not None:
            parser.error("--compare-precisions measures each of them: leave out --precision")
        if arguments.count is not None and arguments.images is None:
            parser.error("--count is of the photos: add --images FOLDER")
        return
    for name in ("int8", "images", "count"):
        if getattr(arguments, name) is not None:
            parser.error(f"--{name} is of a comparison of precisions: add --compare-precisions")


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
    from ..bench.ladder_plot import plot_ladder
    from ..bench.plots import NEEDS_MATPLOTLIB, can_plot
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
    _show(arguments, ladder, plot_ladder)
    if not ladder.agrees:
        print("resnet-rs: the stages do not agree on the logits: see rel. error", file=sys.stderr)
        return WRONG_RESULTS
    return OK


def _scale(arguments: argparse.Namespace) -> int:
    from ..bench.scaling.measure import measure_scaling
    from ..bench.scaling.plot import plot_scaling
    from ..terminal.progress import Progress

    with Progress() as progress:
        scaling = measure_scaling(
            model_options(arguments),
            size=arguments.size and tuple(arguments.size),
            seconds=arguments.seconds,
            progress=progress,
        )
    _show(arguments, scaling, plot_scaling)
    return OK


def _compare_precisions(arguments: argparse.Namespace) -> int:
    from ..bench.precisions.measure import PHOTOS, compare_precisions
    from ..terminal.progress import Progress

    if arguments.images is not None and not Path(arguments.images).is_dir():
        raise NotADirectoryError(f"--images: expected a folder of images; got {arguments.images}")
    with Progress() as progress:
        result = compare_precisions(
            model_options(arguments),
            int8=arguments.int8,
            images=arguments.images,
            count=arguments.count or PHOTOS,
            batch=arguments.batch or 1,
            size=arguments.size and tuple(arguments.size),
            seconds=arguments.seconds,
            progress=progress,
        )
    print(json.dumps(result.as_dict(), indent=2) if arguments.format == "json" else result)
    return OK


def _show(arguments: argparse.Namespace, result: Any, plot: Callable[..., None]) -> None:
    """Print a result in the format that is asked for, and draw it if that is asked for."""
    print(json.dumps(result.as_dict(), indent=2) if arguments.format == "json" else result)
    if arguments.plot is not None:
        today = datetime.now(timezone.utc).date().isoformat()
        plot(result, arguments.plot, note=today)
        print(f"wrote {arguments.plot}", file=sys.stderr)

"""`resnet-rs train`: train a network on labelled photos."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..datasets.augment import Augment
from ..training import Recipe, TrainingError, train
from ..training.numbers import METHODS, PRECISIONS
from ..training.recipe import seconds
from ..training.schedule import SCHEDULES
from ..training.show import Show
from .common import (
    INTERRUPTED,
    LOAD_ERRORS,
    OK,
    WRONG_RESULTS,
    count,
    fail,
    plain_warnings,
)

EPILOG = """\
DATA is a folder with a folder of photos for each class, class/photo.jpg, a folder with such folders
in train/ and val/, or a CSV file of paths and labels. Photos are checked before the first epoch.

RUN gets args.json, results.csv, curves.png, confusion.png, mistakes.jpg, batches.jpg, report.json,
and the weights: best/ and last/, which every command takes as --weights. Ctrl-C ends the training
after the step and keeps everything; --resume goes on, to the bit.

examples:
  resnet-rs train signs -o run --architecture resnet50 --size 64
  resnet-rs train photos/ -o run --weights weights/ --epochs 8
  resnet-rs train photos/ -o head --weights weights/ --freeze backbone
  resnet-rs train photos/ -o run --architecture resnet18 --time 10m --flip
  resnet-rs train signs -o run --resume
  resnet-rs evaluate new-photos/ --weights run/best

exit status: 0 if the training came to its end, 1 if the loss was no number (the last good weights
are kept), 2 for bad usage, data or weights, 130 if Ctrl-C ended it.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    add = parser.add_argument
    add("data", metavar="DATA", help="labelled photos: a folder or a CSV file")
    add("-o", "--out", metavar="RUN", required=True, type=Path, help="the directory of the run")
    begin = parser.add_mutually_exclusive_group()
    begin.add_argument(
        "--weights", metavar="DIR", help="weights to go on from, of any format that convert takes"
    )
    begin.add_argument(
        "--architecture",
        metavar="NAME",
        help="begin with random weights of this network (default: resnet50)",
    )
    add("--val", metavar="DATA", help="photos for validation, if DATA has none of its own")
    add(
        "--val-fraction",
        type=float,
        default=0.2,
        metavar="X",
        help="the part of each class that is drawn for validation if there is none (default: 0.2)",
    )
    _add_recipe(parser)
    _add_changes(parser)
    add("--threads", type=count, metavar="N", help="threads that compute (default: all CPUs)")
    add("--isa", choices=("portable", "avx2", "avx512"), help="the kernels to use")
    add("--workers", type=count, metavar="N", help="threads that decode photos (default: all CPUs)")
    add(
        "--on-error",
        choices=("skip", "fail"),
        default="skip",
        help="a photo that cannot be read: leave it out, or end the run (default: skip)",
    )
    add("--resume", action="store_true", help="go on with the run in RUN, with its own choices")
    add("--force", action="store_true", help="begin anew over a run in RUN")
    add("--quiet", action="store_true", help="show no progress, only remarks")
    parser.set_defaults(run=run)


def _add_recipe(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("recipe")
    add = group.add_argument
    add(
        "--epochs",
        type=count,
        metavar="N",
        help="passes over the photos (default: 50 from random weights, else 12)",
    )
    add("--time", type=_time, metavar="T", help="in place of --epochs: 90s, 10m, 1h30m")
    add(
        "--size",
        type=count,
        metavar="N",
        help="the side of the network's input in pixels (default: that of the weights, or 224)",
    )
    add("--batch-size", type=count, metavar="N", help="photos of a step (default: 32)")
    add("--optimizer", choices=METHODS, help="(default: sgd)")
    add("--lr", type=float, metavar="X", help="the largest learning rate")
    add("--schedule", choices=SCHEDULES, help="(default: one_cycle)")
    add("--weight-decay", type=float, metavar="X", help="(default: 5e-4, adamw 0.05)")
    add("--label-smoothing", type=float, metavar="X", help="(default: 0.1)")
    add("--clip-norm", type=float, metavar="X", help="the largest norm of all gradients together")
    add("--average", type=float, metavar="X", help="keep running averages of weights, as 0.999")
    add("--balanced", action="store_true", help="weigh classes by the inverse of their photos")
    add(
        "--freeze",
        action="append",
        metavar="NAME",
        help="what does not learn: backbone (the last layer is then fitted to embeddings, in "
        "seconds), norms, or the beginning of a name such as layer1; may be given again",
    )
    add(
        "--frozen-epochs",
        type=int,
        metavar="N",
        help="epochs at the beginning in which only the last layer learns",
    )
    add("--backbone-lr", type=float, metavar="X", help="the factor of the other layers' rate")
    add("--patience", type=count, metavar="N", help="end after N epochs without a better result")
    add(
        "--precision",
        choices=PRECISIONS,
        help="the products of convolutions; bf16 needs AVX512_BF16 (default: f32)",
    )
    add(
        "--zero-last",
        action=argparse.BooleanOptionalAction,
        help="begin random weights with the last scale of each block at 0 (default: for networks "
        "of bottlenecks, such as resnet50)",
    )
    add("--seed", type=int, metavar="N", help="(default: 0)")


def _add_changes(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("random changes of photos")
    add = group.add_argument
    add("--flip", action="store_true", help="turn every other photo left to right")
    add(
        "--crop",
        type=_crop,
        default=0.35,
        metavar="X",
        help="the least part of a photo's area that is cut out, and resized to a square (default: "
        "0.35). 1 takes all of it, but the middle alone of photos longer than 4:3",
    )
    add("--rotation", type=float, default=0.0, metavar="X", help="degrees, at most (default: 0)")
    add(
        "--jitter",
        type=_jitter,
        default=0.0,
        metavar="X",
        help="of brightness, contrast and saturation (default: 0)",
    )
    add("--erasing", type=float, default=0.0, metavar="X", help="the chance of an erased rectangle")
    add("--mixup", type=float, default=0.0, metavar="X", help="mix photos; for 80 epochs and more")
    add("--cutmix", type=float, default=0.0, metavar="X", help="lay parts of photos over others")


def _time(text: str) -> float:
    try:
        return seconds(text)
    except (TypeError, ValueError) as error:
        raise argparse.ArgumentTypeError(str(error)) from error


# Python's names of these two choices are others than the flags', so the flags are checked here.
def _crop(text: str) -> float:
    number = _number(text)
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError(f"expected a number above 0, up to 1; got {text!r}")
    return number


def _jitter(text: str) -> float:
    number = _number(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1; got {text!r}")
    return number


def _number(text: str) -> float:
    """Read a number; NaN for anything else."""
    try:
        return float(text)
    except ValueError:
        return float("nan")


_CHOICES = (
    "epochs",
    "time",
    "size",
    "batch_size",
    "optimizer",
    "lr",
    "schedule",
    "weight_decay",
    "label_smoothing",
    "clip_norm",
    "average",
    "frozen_epochs",
    "backbone_lr",
    "patience",
    "precision",
    "seed",
)


def run(arguments: argparse.Namespace) -> int:
    """Train, and return the exit status."""
    with plain_warnings():
        try:
            if arguments.resume and (given := _given(arguments)):
                raise ValueError(
                    f"{', '.join(given)}: --resume goes on with the run's own choices; begin "
                    "another run to change them"
                )
            choices: dict[str, Any] = {} if arguments.resume else {"recipe": _recipe(arguments)}
            done = train(
                arguments.data,
                arguments.out,
                weights=arguments.weights or arguments.architecture or "resnet50",
                val=arguments.val,
                val_fraction=arguments.val_fraction,
                on_error="raise" if arguments.on_error == "fail" else "skip",
                workers=arguments.workers,
                threads=arguments.threads,
                isa=arguments.isa,
                zero_last=arguments.zero_last,
                resume=arguments.resume,
                force=arguments.force,
                progress=Show(not arguments.quiet, remarks="resnet-rs: note: "),
                **choices,
            )
        except TrainingError as error:
            fail(error)
            return WRONG_RESULTS
        except (*LOAD_ERRORS, TypeError) as error:
            return fail(error)
    if done.interrupted:
        return INTERRUPTED
    if done.evaluation is not None:
        print(done.evaluation.text(5))
    print(f"weights: {done.best}")
    return OK


_OF_THE_RUN = (
    "weights",
    "architecture",
    "val_fraction",
    "freeze",
    "balanced",
    "force",
    "zero_last",
    "flip",
    "crop",
    "rotation",
    "jitter",
    "erasing",
    "mixup",
    "cutmix",
)


def _given(arguments: argparse.Namespace) -> list[str]:
    """The flags of the command line that a resumed run does not take."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return [
        f"--{name.replace('_', '-')}"
        for name in (*_OF_THE_RUN, *_CHOICES)
        if getattr(arguments, name) != parser.get_default(name)
    ]


def _recipe(arguments: argparse.Namespace) -> Recipe:
    given = {name: getattr(arguments, name) for name in _CHOICES}
    changes = Augment(
        scale=(arguments.crop, 1.0),
        flip=arguments.flip,
        rotation=arguments.rotation,
        brightness=arguments.jitter,
        contrast=arguments.jitter,
        saturation=arguments.jitter,
        erasing=arguments.erasing,
        mixup=arguments.mixup,
        cutmix=arguments.cutmix,
    )
    return Recipe(
        balanced=arguments.balanced,
        freeze=tuple(arguments.freeze or ()),
        augment=changes,
        **{name: value for name, value in given.items() if value is not None},
    )

"""`resnet-rs evaluate`: compare a model's answers with the labels of photos."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..datasets import Labelled, read_part
from ..evaluation import Evaluation, evaluate
from ..evaluation.metrics import with_notes
from ..images.errors import ImageError
from ..model import ResNet
from ..replacing import require_no_directory
from ..terminal.progress import Progress
from .common import (
    LOAD_ERRORS,
    OK,
    SOME_IMAGES_FAILED,
    add_format,
    add_model_options,
    count,
    fail,
    load_model,
    note,
    plain_warnings,
)

_SPLITS = ("train", "val", "test")
_CONFUSION, _MISTAKES = "confusion.png", "mistakes.jpg"
_MISTAKES_SHOWN = 20

EPILOG = f"""\
DATA is a folder with a folder of photos for each class, class/photo.jpg, a folder with such folders
in train/, val/ or test/, or a CSV file of paths and labels (docs/datasets.md). Of several parts val
is evaluated, or the one that --split names. The names
of the classes are found among those of the model, in any order. If the weights state no names, the
model must have as many classes, and the order of the folders' names counts.

The report has top-1 and top-5, the loss, the expected calibration error, precision, recall and F1
of each class (0/0 is 0), the confusion matrix and the most confident mistakes. --pictures draws
{_CONFUSION} and {_MISTAKES}. An image that cannot be read is left out and listed. With the
activation sigmoid, too, the answer is the class with the largest output.

examples:
  resnet-rs evaluate signs/val --weights run/best
  resnet-rs evaluate signs --weights run/best --split test -o report.json --pictures pictures/
  resnet-rs evaluate photos/ --weights weights/ --format json > report.json

exit status: 0 if every image was evaluated, 1 if at least one could not be read, 2 for bad usage,
weights that could not be loaded, data that does not fit the model or a file that could not be
written.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    add = parser.add_argument
    add("data", metavar="DATA", type=Path, help="labelled photos: a folder or a CSV file")
    add_model_options(parser)
    add(
        "--split",
        choices=_SPLITS,
        help="the part of DATA to evaluate (default: val if there is a folder of that name, else "
        "DATA itself)",
    )
    add(
        "-o",
        "--out",
        type=Path,
        metavar="FILE",
        help="write the whole report as JSON, too, with all mistakes",
    )
    add(
        "--pictures",
        type=Path,
        metavar="DIR",
        help=f"draw the confusion matrix and the mistakes: DIR/{_CONFUSION} and DIR/{_MISTAKES}",
    )
    add(
        "--top",
        type=count,
        metavar="N",
        help="the number of mistakes that are printed and drawn, the most confident ones "
        f"(default: {_MISTAKES_SHOWN}; as JSON all are printed)",
    )
    add_format(parser)
    add(
        "--on-error",
        choices=("skip", "fail"),
        default="skip",
        help="an image that cannot be read: leave it out and go on, or end the run (default: skip)",
    )
    add(
        "--batch-size",
        type=count,
        default=8,
        metavar="N",
        help="images that each thread computes at once (default: 8)",
    )
    add(
        "--workers",
        type=count,
        metavar="N",
        help="threads that decode and compute (default: the CPUs this process may use)",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Evaluate, print and write the report, and return the exit status."""
    with plain_warnings():
        try:
            data, notes = read_part(arguments.data, part=arguments.split)
            _check_outputs(arguments)
            model = load_model(arguments)
            if arguments.split is None and (remark := _on_learnt(arguments, data)):
                notes = (*notes, remark)
            for text in notes:
                note(text)
        except LOAD_ERRORS as error:
            return fail(error)
        try:
            evaluation = evaluate(
                model,
                data.images,
                data.labels,
                data.classes,
                on_error="raise" if arguments.on_error == "fail" else "skip",
                batch_size=arguments.batch_size,
                workers=arguments.workers,
                progress=Progress(),
            )
        except (ImageError, OSError) as error:
            fail(error)
            return SOME_IMAGES_FAILED
        except (ValueError, MemoryError) as error:
            return fail(error)
        whole = with_notes(evaluation, remarks=notes)
        if arguments.format == "json":
            print(whole.to_json(arguments.top), end="")
        else:
            # Without the notes, which are on the terminal already.
            print(evaluation.text(arguments.top or _MISTAKES_SHOWN))
        try:
            _write(whole, model, arguments)
        except LOAD_ERRORS as error:
            return fail(error)
    return SOME_IMAGES_FAILED if evaluation.skipped else OK


def _check_outputs(arguments: argparse.Namespace) -> None:
    """Find out before the work that its results can be written.

    Raises:
        OSError: a folder is missing or cannot be made, or a file to write is a folder.
    """
    if arguments.out is not None:
        require_no_directory(arguments.out)
        if not arguments.out.parent.is_dir():
            raise FileNotFoundError(2, "there is no such folder", str(arguments.out.parent))
    if arguments.pictures is not None:
        arguments.pictures.mkdir(parents=True, exist_ok=True)


def _on_learnt(arguments: argparse.Namespace, data: Labelled) -> str | None:
    from ..training.learnt import remark_on_learnt

    return remark_on_learnt(arguments.weights, arguments.data, data)


def _write(evaluation: Evaluation, model: ResNet, arguments: argparse.Namespace) -> None:
    """Write the files that were asked for, and name them on stderr.

    Raises:
        OSError: one cannot be written.
    """
    written = []
    if arguments.out is not None:
        evaluation.save(arguments.out)
        written.append(arguments.out)
    if arguments.pictures is not None:
        from ..evaluation.pictures import confusion_matrix, mistake_mosaic, save

        decoding = model.loaded.options
        pictures = {
            _CONFUSION: confusion_matrix(evaluation),
            _MISTAKES: mistake_mosaic(
                evaluation, arguments.top or _MISTAKES_SHOWN, decoding=decoding
            ),
        }
        for name, picture in pictures.items():
            save(picture, arguments.pictures / name)
            written.append(arguments.pictures / name)
    if written and sys.stderr.isatty():
        print(f"resnet-rs: wrote {', '.join(map(str, written))}", file=sys.stderr)

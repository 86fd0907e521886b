"""`resnet-rs predict`: name what is in images."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..images.views import VIEWS
from ..model import ResNet
from ..stream.folder.outputs import Check, Output
from ..stream.folder.records import Format, JsonLines, Table
from .common import count
from .images import INPUTS_HELP, STATUS_HELP, Opener, add_image_arguments, run_command

_FORMATS = ("text", "json", "jsonl", "csv", "tsv", "parquet")

EPILOG = f"""\
{INPUTS_HELP}
An image that cannot be read costs one record with an error (in text, one line on stderr), and the
others go on. Results are written as they come. With jsonl, csv, tsv and parquet, --resume continues
a run that was killed.

examples:
  resnet-rs predict cat.jpg --weights weights/
  resnet-rs predict photos/*.jpg --weights weights/ --top-k 1 --threads 4
  resnet-rs predict photos/ --weights weights/ -o labels.jsonl --resume
  find photos -newer stamp -print0 | resnet-rs predict -0 - --weights weights/ --format csv

{STATUS_HELP}"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    add_image_arguments(parser, _FORMATS, "text")
    parser.add_argument(
        "--top-k",
        type=count,
        default=5,
        metavar="K",
        help="how many classes to give for each image (default: 5)",
    )
    parser.add_argument(
        "--tta",
        choices=tuple(VIEWS),
        help="look at each image several times and average: it and its mirror image, ten crops, "
        "or five sizes",
    )
    parser.set_defaults(run=lambda arguments: _run(parser, arguments))


def _parquet(out: Path, mode: str, check: Check, classes: int) -> Output:
    from ..stream.folder.parquet import ParquetFile

    return ParquetFile(out, classes, mode, embeds=False, check=check)


def _run(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    """Classify the images, and return the exit status."""

    def opener(model: ResNet) -> Opener:
        # This raises the error for a model without classes, or for a `tta` that does not suit the
        # model, before there is an output.
        model.probabilities([], arguments.tta)
        classes = min(arguments.top_k, model.config.num_classes)
        records: dict[str, Format] = {
            "jsonl": JsonLines("predictions", classes),
            "csv": Table.of_predictions(",", classes),
            "tsv": Table.of_predictions("\t", classes),
        }
        return Opener(
            records,
            {"parquet": lambda out, mode, check: _parquet(out, mode, check, classes)},
            percent=model.config.activation != "none",
        )

    return run_command(
        parser,
        arguments,
        _FORMATS,
        "text",
        opener,
        what="predict",
        top_k=arguments.top_k,
        tta=arguments.tta,
    )

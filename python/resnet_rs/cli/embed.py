"""`resnet-rs embed`: turn images into vectors."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..model import ResNet
from ..stream.folder.outputs import Check, NpyFile, Output
from ..stream.folder.records import Format, JsonLines, Table
from ..stream.pooling import POOLS
from .images import INPUTS_HELP, STATUS_HELP, Opener, add_image_arguments, run_command

_FORMATS = ("jsonl", "csv", "npy", "parquet")

EPILOG = f"""\
{INPUTS_HELP}
-o NAME.npy is a float32 array with a row for each image that could be read, and NAME.paths.jsonl
beside it has a record for every image: {{"path": ..., "row": 0}} or {{"path": ..., "error": ...}}.
Results are written as they come, and --resume continues a run that was killed.

examples:
  resnet-rs embed photos/ --weights weights/ -o photos.npy
  resnet-rs embed photos/ --weights weights/ -o photos.parquet --normalize --resume
  resnet-rs embed cat.jpg --weights weights/ --format jsonl

{STATUS_HELP}"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    add_image_arguments(parser, _FORMATS, "jsonl")
    parser.add_argument(
        "--pool",
        choices=[pool for pool in POOLS if pool != "none"],
        default="avg",
        help="how the last feature map becomes a vector (default: avg, as the network does)",
    )
    parser.add_argument(
        "--normalize", action="store_true", help="scale each vector to length 1, for cosines"
    )
    parser.set_defaults(run=lambda arguments: _run(parser, arguments))


def _parquet(out: Path, mode: str, check: Check, size: int) -> Output:
    from ..stream.folder.parquet import ParquetFile

    return ParquetFile(out, size, mode, embeds=True, check=check)


def _run(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    """Embed the images, and return the exit status."""

    def opener(model: ResNet) -> Opener:
        size = model.embed([], pool=arguments.pool).shape[1]
        records: dict[str, Format] = {
            "jsonl": JsonLines("embedding", size),
            "csv": Table.of_embeddings(",", size),
        }
        return Opener(
            records,
            {
                "npy": lambda out, mode, check: NpyFile(out, size, mode, check=check),
                "parquet": lambda out, mode, check: _parquet(out, mode, check, size),
            },
        )

    return run_command(
        parser,
        arguments,
        _FORMATS,
        "jsonl",
        opener,
        what="embed",
        pool=arguments.pool,
        normalize=arguments.normalize,
    )

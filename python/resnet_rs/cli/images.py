"""The common part of `predict` and `embed`: inputs, outputs, the run and its report."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..model import ResNet
from ..stream.folder.outputs import (
    Check,
    Output,
    OutputError,
    RecordFile,
    no_check,
    refuse_existing,
)
from ..stream.folder.paths import SUFFIXES, Sources
from ..stream.folder.printed import JsonArray, Records, Text
from ..stream.folder.records import Format
from ..stream.folder.resume import same_run
from ..stream.folder.run import run
from ..terminal.progress import Progress, duration_text
from ..terminal.visible import visible
from .common import (
    LOAD_ERRORS,
    OK,
    SOME_IMAGES_FAILED,
    add_model_options,
    count,
    fail,
    load_model,
    plain_warnings,
)

INPUTS_HELP = f"""\
inputs:
  photo.jpg          an image, whatever its suffix
  photos/            every image in it and below it: files with a suffix of
                     {" ".join(SUFFIXES[:9])}
                     {" ".join(SUFFIXES[9:18])}
                     {" ".join(SUFFIXES[18:])}
                     Other files are counted at the end. Hidden names are left out, links to
                     directories not followed.
  'photos/**/*.png'  a pattern, quoted so that the shell leaves it alone
  @list.txt          a file that lists paths, one a line (with -0, each ended by a NUL)
  -                  such a list on stdin
"""

STATUS_HELP = """\
exit status: 0 if every image has a result, 1 if at least one could not be read (with --resume,
those of earlier runs count too), 2 for bad usage, weights that could not be loaded or an output
that could not be written.
"""

_NO_RESUME = ("text", "json")
# The number of suffixes in the last line of a run.
_KINDS_SHOWN = 8


@dataclass(frozen=True)
class Opener:
    """The outputs of a command, by the name of the format.

    Attributes:
        records: the formats that write one record after the other, to a file or to stdout.
        files: the formats that write files only: functions of a path, a mode and a check of the
            records that a resumed file holds.
        percent: True if text shows its numbers in percent, as it does probabilities.
    """

    records: dict[str, Format]
    files: dict[str, Callable[[Path, str, Check], Output]]
    percent: bool = False


def add_image_arguments(
    parser: argparse.ArgumentParser, formats: tuple[str, ...], default_format: str
) -> None:
    """Add the arguments for inputs, outputs, the model and the run."""
    add = parser.add_argument
    add("inputs", nargs="+", metavar="INPUT", help="an image, a directory, a pattern, @LIST or -")
    add_model_options(parser)
    add("-o", "--out", type=Path, metavar="FILE", help="where results go (default: stdout)")
    add(
        "--format",
        choices=formats,
        help=f"(default: by the suffix of --out; {default_format} on stdout)",
    )
    add(
        "--resume",
        action="store_true",
        help="continue an --out that an earlier run did not finish, or start it; images that it "
        "holds are not run again",
    )
    add("--overwrite", action="store_true", help="replace an existing --out")
    add(
        "--on-error",
        choices=("skip", "fail"),
        default="skip",
        help="an image that cannot be read: record the error and go on, or end the run "
        "(default: skip)",
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
        help="threads that decode and compute (default: the CPUs this process may use); more "
        "of them help if files come from a slow disk or network",
    )
    add(
        "-r",
        "--recursive",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="search the directories in a directory too (default: yes)",
    )
    add("-0", "--null", action="store_true", help="lists end each path with a NUL, as find -print0")


def run_command(
    parser: argparse.ArgumentParser,
    arguments: argparse.Namespace,
    formats: tuple[str, ...],
    default_format: str,
    opener: Callable[[ResNet], Opener],
    **options: Any,
) -> int:
    """Run a command over its images, and return the exit status.

    Args:
        parser: reports bad usage.
        arguments: the arguments that `add_image_arguments` describes.
        formats: the names of the command's formats.
        default_format: the format on stdout.
        opener: makes the outputs for a model.
        options: further options of `resnet_rs.stream.stream`.
    """
    kind = _format(parser, arguments, formats, default_format)
    sources = Sources(arguments.inputs, arguments.recursive, arguments.null)
    with plain_warnings():
        try:
            sources.check()
            model = load_model(arguments)
            outputs = opener(model)
            resumes = arguments.out is not None and arguments.resume
            check = same_run(model, arguments.out, **options) if resumes else no_check
            output = _output(arguments, kind, outputs, check)
            summary = run(
                model,
                sources,
                output,
                progress=_progress(arguments),
                stop_on_error=arguments.on_error == "fail",
                warn=lambda message: warnings.warn(message, stacklevel=2),
                batch_size=arguments.batch_size,
                workers=arguments.workers,
                **options,
            )
        except BrokenPipeError:
            raise  # the reader of stdout has gone, which is no error
        except LOAD_ERRORS as error:
            return fail(error)
        except KeyboardInterrupt:
            if arguments.out is not None and kind not in _NO_RESUME:
                print(f"resnet-rs: {arguments.out}: add --resume to continue", file=sys.stderr)
            raise
    if summary.stopped_by is not None:
        result = summary.stopped_by
        print(f"resnet-rs: {visible(f'{result.path}: {result.reason}')}", file=sys.stderr)
        return SOME_IMAGES_FAILED
    if summary.others:
        print(f"resnet-rs: {others_text(summary.others)}", file=sys.stderr)
    if arguments.out is not None and (output.failed or sys.stderr.isatty()):
        _tell(arguments.out, output, summary.images, summary.seconds)
    return SOME_IMAGES_FAILED if output.failed else OK


def _format(
    parser: argparse.ArgumentParser,
    arguments: argparse.Namespace,
    formats: tuple[str, ...],
    default: str,
) -> str:
    """Choose the format; exits if it contradicts the other arguments."""
    out: Path | None = arguments.out
    kind: str = arguments.format or default
    if out is not None and arguments.format is None:
        kind = out.suffix.removeprefix(".").replace("txt", "text")
        if kind not in formats:
            parser.error(
                f"the suffix of {out} names no format: add --format ({', '.join(formats)})"
            )
    if out is None:
        if kind in ("npy", "parquet"):
            parser.error(f"--format {kind} is a file: add --out")
        if arguments.resume or arguments.overwrite:
            parser.error("--resume and --overwrite are about a file: add --out")
    if arguments.resume and arguments.overwrite:
        parser.error("--resume continues a file and --overwrite starts it anew: leave one out")
    if arguments.resume and kind in _NO_RESUME:
        parser.error(f"--resume cannot continue {kind}: take a format of records, such as jsonl")
    return kind


def _output(arguments: argparse.Namespace, kind: str, opener: Opener, check: Check) -> Output:
    """Open the output.

    Raises:
        OutputError, OSError, ImportError: it cannot be opened.
    """
    out: Path | None = arguments.out
    mode = "resume" if arguments.resume else "overwrite" if arguments.overwrite else "new"
    if kind in opener.files:
        assert out is not None
        return opener.files[kind](out, mode, check)
    if kind in opener.records:
        record = opener.records[kind]
        if out is None:
            return Records(sys.stdout.buffer, record)
        if _is_pipe(out):
            if mode == "resume":
                raise OutputError(f"{out}: is no regular file, so leave out --resume")
            return Records(open(out, "wb"), record)
        return RecordFile(out, record, mode, check=check)
    stream = sys.stdout
    if out is not None:
        if mode == "new" and not _is_pipe(out):
            refuse_existing(out)
        stream = open(out, "w", encoding="utf-8", errors="surrogateescape")  # noqa: SIM115
    return JsonArray(stream) if kind == "json" else Text(stream, percent=opener.percent)


def _is_pipe(path: Path) -> bool:
    """Tell if a path is a pipe or a device, whose content cannot be kept or continued."""
    return path.exists() and not path.is_file() and not path.is_dir()


def others_text(others: Counter[str]) -> str:
    """Say how many files of which kinds a run left out, the most frequent first."""
    counts = others.most_common()
    parts = [f"{count} {kind or 'without a suffix'}" for kind, count in counts[:_KINDS_SHOWN]]
    if rest := sum(count for _, count in counts[_KINDS_SHOWN:]):
        parts.append(f"{rest} of other kinds")
    text = f"not read: {', '.join(parts)}"
    suffix = next((kind for kind, _ in counts if kind.startswith(".")), None)
    if suffix is not None:
        text += f". A pattern names such files: 'DIR/**/*{suffix}'"
    return text


def _progress(arguments: argparse.Namespace) -> Progress:
    """Make a progress line on stderr, unless results go to the same terminal."""
    progress = Progress()
    if arguments.out is None and sys.stdout.isatty():
        progress.turn_off()
    return progress


def _tell(out: Path, output: Output, images: int, seconds: float) -> None:
    """Print on stderr how a run went whose results are in a file."""
    rate = images / max(seconds, 1e-9)
    text = f"{out}: {images} images in {duration_text(seconds)} ({rate:.1f} images/s)"
    if output.done > images:
        text += f", {output.done} in all"
    if output.failed:
        text += f'; {output.failed} could not be read (see "error" there)'
    print(f"resnet-rs: {text}", file=sys.stderr)

"""The command line: `resnet-rs predict` and `resnet-rs info`."""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any, TextIO, TypeAlias

from . import __version__
from .images import ImageError
from .model import Prediction, ResNet50
from .system import system_info

OK = 0
SOME_IMAGES_FAILED = 1
BAD_USAGE = 2  # argparse exits with this number too
INTERRUPTED = 130  # 128 + SIGINT, as shells count
BROKEN_PIPE = 141  # 128 + SIGPIPE

# An image's best classes, or what was wrong with it.
Result: TypeAlias = list[Prediction] | str

_DESCRIPTION = "Classify images with ResNet-50 on the CPU."

_EPILOG = """\
examples:
  resnet-rs predict cat.jpg --weights weights/
  resnet-rs predict photos/*.jpg --weights weights/ --top-k 1
  resnet-rs predict photos/*.jpg --weights weights/ --format json > labels.json
  resnet-rs info

exit status:
  0  every image was classified
  1  at least one image could not be read; the others were classified
  2  bad usage, or the weights could not be loaded
"""

_PREDICT_EPILOG = """\
An image that cannot be read costs one line on stderr (in JSON, an object with an "error" in
place of its "predictions"), and the others go on.

examples:
  resnet-rs predict cat.jpg --weights weights/
  resnet-rs predict photos/*.jpg --weights model.safetensors --top-k 1 --threads 4

exit status: 0 if every image was classified, 1 if at least one could not be read, 2 for bad
usage or weights that could not be loaded.
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

    predict = commands.add_parser(
        "predict",
        help="name what is in images",
        description="Name what is in images: the best classes of each, best first.",
        epilog=_PREDICT_EPILOG,
        formatter_class=raw,
    )
    predict.add_argument("images", nargs="+", metavar="IMAGE", help="an image file")
    predict.add_argument(
        "--weights",
        required=True,
        metavar="DIR",
        help="a directory with model.safetensors and config.json, or a .safetensors file",
    )
    predict.add_argument(
        "--top-k",
        type=_count,
        default=5,
        metavar="K",
        help="how many classes to print for each image (default: 5)",
    )
    _add_format(predict)
    predict.add_argument(
        "--isa",
        choices=("portable", "avx2", "avx512"),
        help="which kernels to use (default: RESNET_RS_ISA, else the best this machine has)",
    )
    predict.add_argument(
        "--threads",
        type=_count,
        metavar="N",
        help="how many threads to use (default: RESNET_RS_NUM_THREADS, RAYON_NUM_THREADS or "
        "OMP_NUM_THREADS, else the CPUs this process may use)",
    )
    predict.set_defaults(run=_predict)

    info = commands.add_parser(
        "info",
        help="show the version, CPU features, kernels and threads",
        description="Show the version, CPU features, the kernels that would be used and the "
        "number of threads.",
    )
    _add_format(info)
    info.set_defaults(run=_info)
    return parser


def _add_format(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--format", choices=("text", "json"), default="text", help="(default: text)"
    )


def _count(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 up; got {text!r}")
    return number


def _predict(arguments: argparse.Namespace) -> int:
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        warnings.simplefilter("always", UserWarning)
        try:
            model = ResNet50(arguments.weights, isa=arguments.isa, threads=arguments.threads)
        # WeightsError is a ValueError, UnsupportedIsaError a RuntimeError.
        except (OSError, ValueError, RuntimeError, MemoryError) as error:
            print(f"resnet-rs: error: {error}", file=sys.stderr)
            return BAD_USAGE
        results = ((path, _classify(model, path, arguments.top_k)) for path in arguments.images)
        failed = _print_json(results) if arguments.format == "json" else _print_text(results)
    return SOME_IMAGES_FAILED if failed else OK


def _classify(model: ResNet50, path: str, top_k: int) -> Result:
    try:
        return model.predict(path, top_k=top_k)
    except OSError as error:
        return error.strerror or str(error)
    except ImageError as error:
        return str(error).removeprefix(f"{path!r}: ")
    except MemoryError as error:
        return f"out of memory: {error}"


def _print_text(results: Iterable[tuple[str, Result]]) -> int:
    """Print a paragraph for each image as it comes; returns how many failed."""
    failed = 0
    for path, result in results:
        if isinstance(result, str):
            failed += 1
            print(f"resnet-rs: {path}: {result}", file=sys.stderr)
            continue
        print(path)
        for prediction in result:
            print(f"  {prediction.score:7.2%}  {prediction.label}")
    return failed


def _print_json(results: Iterable[tuple[str, Result]]) -> int:
    """Print one JSON array, an object a line, as the results come; returns how many failed."""
    failed = 0
    before = "[\n"
    for path, result in results:
        entry: dict[str, Any] = {"path": path}
        if isinstance(result, str):
            failed += 1
            entry["error"] = result
        else:
            entry["predictions"] = [asdict(prediction) for prediction in result]
        print(before + json.dumps(entry), end="")
        before = ",\n"
    print("\n]")
    return failed


def _info(arguments: argparse.Namespace) -> int:
    info = system_info()
    if arguments.format == "json":
        print(json.dumps(info, indent=2))
        return OK
    width = max(map(len, info))
    for name, value in info.items():
        text = " ".join(value) if isinstance(value, list) else value
        print(f"{name.replace('_', ' '):<{width}}  {'-' if text is None else text}")
    return OK


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Stands in for `warnings.showwarning`: the user's line, without ours."""
    print(f"resnet-rs: warning: {message}", file=sys.stderr)

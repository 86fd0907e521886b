"""`resnet-rs predict`: name what is in images."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, TypeAlias

from ..images import ImageError
from ..model import Prediction, ResNet50
from .common import (
    LOAD_ERRORS,
    OK,
    SOME_IMAGES_FAILED,
    add_format,
    add_model_options,
    count,
    fail,
    plain_warnings,
)

# An image's best classes, or what was wrong with it.
Result: TypeAlias = list[Prediction] | str

EPILOG = """\
An image that cannot be read costs one line on stderr (in JSON, an object with an "error" in
place of its "predictions"), and the others go on.

examples:
  resnet-rs predict cat.jpg --weights weights/
  resnet-rs predict photos/*.jpg --weights model.safetensors --top-k 1 --threads 4

exit status: 0 if every image was classified, 1 if at least one could not be read, 2 for bad
usage or weights that could not be loaded.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="an image file")
    add_model_options(parser)
    parser.add_argument(
        "--top-k",
        type=count,
        default=5,
        metavar="K",
        help="how many classes to print for each image (default: 5)",
    )
    add_format(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Classify the images; returns the exit status."""
    with plain_warnings():
        try:
            model = ResNet50(
                arguments.weights,
                isa=arguments.isa,
                threads=arguments.threads,
                winograd=arguments.winograd,
            )
        except LOAD_ERRORS as error:
            return fail(error)
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

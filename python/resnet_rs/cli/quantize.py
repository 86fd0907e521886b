"""`resnet-rs quantize`: write a model with int8 weights."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..datasets import read_part
from ..evaluation import evaluate
from ..evaluation.report import image_name
from ..images.errors import ImageError
from ..model import ResNet
from ..quantization import METHODS, Quantized, Report
from ..quantization.clipping import PERCENTILE
from ..quantization.images import COUNT
from ..quantization.quantize import AUTO, quantize
from ..quantization.report import report_on
from ..quantization.trial import CLEARLY, TRIED
from ..replacing import require_no_directory
from ..terminal.progress import Progress
from ..weights.formats.convert import require_free
from .common import (
    LOAD_ERRORS,
    OK,
    SOME_IMAGES_FAILED,
    add_model_options,
    count,
    fail,
    load_model,
    note,
    plain_warnings,
)

EPILOG = f"""\
WEIGHTS are f32 weights of any format that resnet-rs convert takes. OUT gets model.safetensors and
config.json with int8 weights, a quarter of the size. Commands that compute with a model take them;
train, export and those that look at single operations need f32.

The images of --images tell the range of each layer's 8 bits: photos like those that the model will
see, without labels. {COUNT} are enough, and fewer often are. --method auto takes minmax, which
cuts off nothing, unless the logits of mse are clearly nearer to those of f32. The report compares
both networks on up to 32 of the images; --evaluate compares their accuracy on labelled photos.

examples:
  resnet-rs quantize weights/ weights-int8/ --images photos/
  resnet-rs quantize weights/ weights-int8/ --images photos/ --count 100 --method percentile
  resnet-rs quantize weights/ weights-int8/ --images photos/ --max-error 0.01
  resnet-rs quantize run/best weights-int8/ --images signs/train --evaluate signs/val --plot q.png
  resnet-rs predict cat.jpg --weights weights-int8/

A photo that cannot be read is named and left out; --on-error fail ends the run there.

exit status: 0 if OUT was written, 1 if it was without photos that could not be read, 2 for bad
usage, no image that can be read or weights that could not be quantised; nothing is written then.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    add = parser.add_argument
    add("weights", metavar="WEIGHTS", help="the f32 weights to read")
    add("target", metavar="OUT", type=Path, help="the directory to write")
    add("--images", metavar="FOLDER", required=True, help="images to calibrate with")
    add(
        "--count",
        type=count,
        default=COUNT,
        metavar="N",
        help=f"how many of them to use, evenly over the sorted files (default: {COUNT})",
    )
    add(
        "--method",
        choices=(AUTO, *METHODS),
        default=AUTO,
        help="how the range of each layer is chosen (default: auto)",
    )
    add(
        "--percentile",
        type=float,
        default=PERCENTILE,
        metavar="X",
        help=f"the percentage of values that --method percentile keeps (default: {PERCENTILE})",
    )
    add(
        "--bf16",
        nargs="+",
        default=(),
        metavar="LAYER",
        help="layers or stages that stay in bf16, such as layer4 fc",
    )
    add(
        "--max-error",
        type=float,
        metavar="X",
        help="the relative error of the logits that is allowed, such as 0.01 for 1%%: as few "
        "layers stay in bf16 as it takes (default: all are in int8)",
    )
    add(
        "--on-error",
        choices=("skip", "fail"),
        default="skip",
        help="an image that cannot be read: leave it out and go on, or end the run (default: skip)",
    )
    add("--evaluate", metavar="DATA", help="labelled photos to measure both models on")
    add("--plot", metavar="FILE", help="draw the noise of every layer")
    add("--layers", action="store_true", help="list every layer, not only the worst")
    add("--json", action="store_true", help="print the report as JSON")
    add("--force", action="store_true", help="replace weights that OUT holds")
    add_model_options(parser, leave_out=("weights", "precision", "strict"))
    parser.set_defaults(run=run, precision=None, strict=False)


@dataclass(frozen=True)
class _Accuracy:
    """The top-1 of both models on the same photos."""

    images: int
    before: float
    after: float

    def __str__(self) -> str:
        return (
            f"top-1 on {self.images} labelled photos: {self.before:.2%} in f32, {self.after:.2%} "
            "in int8"
        )


def run(arguments: argparse.Namespace) -> int:
    """Quantise, write and report, and return the exit status."""
    with plain_warnings():
        try:
            require_free(arguments.target, force=arguments.force)
            if arguments.plot is not None:
                _check_plot(arguments.plot)
            if not Path(arguments.images).is_dir():
                raise NotADirectoryError(
                    f"--images: expected a folder of images; got {arguments.images}"
                )
            data = None if arguments.evaluate is None else read_part(arguments.evaluate)[0]
            model = load_model(arguments)
            result = quantize(
                model,
                arguments.images,
                arguments.method,
                percentile=arguments.percentile,
                bf16=arguments.bf16,
                max_error=arguments.max_error,
                count=arguments.count,
                on_error="raise" if arguments.on_error == "fail" else "skip",
                progress=Progress(),
            )
            quantized = ResNet.of(result.loaded)
            for one in result.skipped:
                note(f"{image_name(one.image)}: {one.reason}; left out")
            found = report_on(model, quantized, result.sample)
            accuracy = None if data is None else _accuracy(model, quantized, data)
            quantized.save(arguments.target, force=arguments.force)
            if arguments.plot is not None:
                from ..quantization.plot import plot_report

                plot_report(found, arguments.plot)
        except (ImageError, *LOAD_ERRORS) as error:
            return fail(error)
    if arguments.json:
        print(json.dumps(_values(arguments, result, found, accuracy), indent=2, ensure_ascii=False))
    else:
        print(_text(arguments, result, found, accuracy))
    return SOME_IMAGES_FAILED if result.skipped else OK


def _accuracy(before: ResNet, after: ResNet, data: Any) -> _Accuracy:
    pair = [
        evaluate(model, data.images, data.labels, data.classes, progress=Progress())
        for model in (before, after)
    ]
    return _Accuracy(pair[0].count, pair[0].top1, pair[1].top1)


def _text(
    arguments: argparse.Namespace, result: Quantized, found: Report, accuracy: _Accuracy | None
) -> str:
    parts = [found.text(layers=arguments.layers)]
    if result.errors:
        tried = ", ".join(f"{name} {error:.2%}" for name, error in result.errors.items())
        plain = result.method == TRIED[0]
        why = f": no other has less than {CLEARLY} of its error" if plain else ""
        parts.append(f"{result.method} was taken{why}; relative errors: {tried}")
    if accuracy is not None:
        parts.append(str(accuracy))
    parts.append(f"wrote {arguments.target}")
    return "\n\n".join(parts)


def _values(
    arguments: argparse.Namespace, result: Quantized, found: Report, accuracy: _Accuracy | None
) -> dict[str, Any]:
    record = result.loaded.config.quantization or {}
    measured = (
        {"images": accuracy.images, "f32": accuracy.before, "int8": accuracy.after}
        if (accuracy)
        else None
    )
    return {
        "target": str(arguments.target),
        "quantization": dict(record),
        **found.to_dict(),
        "skipped": [
            {"image": image_name(one.image), "reason": one.reason} for one in result.skipped
        ],
        "top1": measured,
    }


def _check_plot(path: str) -> None:
    """Find out before the work that the picture can be drawn.

    Raises:
        ImportError: matplotlib is not installed.
        OSError: the file is a folder, or its folder is missing.
    """
    from ..inspect.pictures.style import require_matplotlib

    require_matplotlib()
    require_no_directory(path)
    if not Path(path).absolute().parent.is_dir():
        raise FileNotFoundError(2, "there is no such folder", str(Path(path).parent))

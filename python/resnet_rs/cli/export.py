"""`resnet-rs export`: write a model as an ONNX file."""

from __future__ import annotations

import argparse
import os

from ..terminal.tables import plural
from .common import LOAD_ERRORS, OK, add_model_options, fail, load_model, plain_warnings

EPILOG = """\
The graph takes `image`, float32 [batch, channels, height, width], normalised, in RGB and of any
batch and size, and gives `logits` [batch, classes], before softmax. How images are prepared and
what the classes are called is in the metadata `resnet_rs.config`, as config.json has it. Needs the
onnx package: pip install "resnet_rs[onnx]".

examples:
  resnet-rs export model.onnx --weights run/best
  resnet-rs export model.onnx --weights run/best --keep-norms --force

exit status: 0, or 2 for bad usage, weights that could not be loaded or a file that could not be
written.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("target", metavar="OUT.onnx", help="the file to write")
    add_model_options(parser)
    parser.add_argument(
        "--keep-norms",
        action="store_true",
        help="keep batch norms as nodes of their own, in place of folding them into the "
        "convolutions",
    )
    parser.add_argument("--force", action="store_true", help="replace a file that is there")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the file, say what was written, and return the exit status."""
    from ..weights.onnx_export import OPSET

    with plain_warnings():
        try:
            model = load_model(arguments)
            model.export_onnx(
                arguments.target, fold_norms=not arguments.keep_norms, force=arguments.force
            )
        except LOAD_ERRORS as error:
            return fail(error)
    classes = model.config.num_classes
    head = plural(classes, "class", "classes") if classes else "no classes (embeddings alone)"
    size = os.path.getsize(arguments.target) / 1e6
    print(
        f"wrote {arguments.target}: {model.config.architecture}, {head}, opset {OPSET}, "
        f"{size:.1f} MB"
    )
    return OK

"""The command line, `resnet-rs`: one module for each command."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from .._core import __version__
from .common import BROKEN_PIPE, INTERRUPTED, fail

_DESCRIPTION = "Classify and embed images with ResNets on the CPU, train them, and look inside."

_EPILOG = """\
examples:
  resnet-rs predict cat.jpg --weights weights/
  resnet-rs predict photos/ --weights weights/ -o labels.jsonl --resume
  resnet-rs embed photos/ --weights weights/ -o photos.npy
  resnet-rs train photos/ -o run --architecture resnet50 --size 64
  resnet-rs evaluate signs/val --weights weights/ --pictures pictures/
  resnet-rs convert best.pth weights/ --architecture resnet50 --labels labels.txt
  resnet-rs quantize weights/ weights-int8/ --images photos/
  resnet-rs COMMAND --help

exit status, of every command:
  0  all went well
  1  only a part was done (an image could not be read), or a comparison differs
  2  bad usage, or the weights could not be loaded
"""

# Each command's module, its line in the list of commands, and the head of its own help.
_COMMANDS = {
    "predict": (
        "name what is in images",
        "Name what is in images: the best classes of each, best first.",
    ),
    "embed": (
        "turn images into vectors",
        "Turn images into vectors: the features before the last layer.",
    ),
    "train": (
        "train a network on labelled photos",
        "Train a network on labelled photos, from random weights or from weights that exist.",
    ),
    "evaluate": (
        "measure a model on labelled photos",
        "Compare a model's answers with the labels of photos: accuracy, the figures of each\n"
        "class, the confusion matrix and the most confident mistakes.",
    ),
    "convert": (
        "write weights of any format as a weights directory",
        "Read weights of any format and write them as a directory with model.safetensors\n"
        "and config.json.",
    ),
    "quantize": (
        "write a model with int8 weights",
        "Write a model with int8 weights: a quarter of the size, nearly as precise.",
    ),
    "export": (
        "write a model as an ONNX file",
        "Write a model as an ONNX file, for other runtimes.",
    ),
    "pretrained": (
        "list and download trained weights",
        "List the trained weights that are known by name, or download some into the cache.",
    ),
    "summary": (
        "show every layer's shape, parameters and arithmetic",
        "Show every layer's shape, parameters, multiply-accumulates and kernel.",
    ),
    "trace": (
        "write or show every operation's output",
        "Run one image and show every operation's output, or write all of them to a file.",
    ),
    "compare": (
        "find the first layer where two implementations differ",
        "Compare every operation's output with another implementation's, and say what the\n"
        "first difference looks like.",
    ),
    "explain": (
        "draw which pixels speak for which class",
        "Draw the class activation maps of an image's best classes over it.",
    ),
    "features": (
        "draw a layer's feature maps",
        "Draw a layer's feature maps for an image, or the first convolution's filters.",
    ),
    "bench": (
        "measure how fast a model runs on this machine",
        "Measure latency and throughput of a model on this machine, with noise as input.",
    ),
    "info": (
        "show the version, CPU features, kernels and threads",
        "Show the version, CPU features, the kernels that would be used and the number\n"
        "of threads.",
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: the arguments after the program's name; by default the process's own.

    Returns:
        The exit status.
    """
    # A daemon may have closed stdout and stderr.
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, it stays open
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    # A file name that the terminal's encoding lacks is shown escaped rather than as a traceback.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    argv = sys.argv[1:] if argv is None else argv
    arguments = _parser(argv).parse_args(argv)
    try:
        status: int = arguments.run(arguments)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has gone (as in `| head`).
        _forget_output()
        return BROKEN_PIPE
    except OSError as error:
        # A full disk behind stdout.
        _forget_output()
        return fail(error)


def _forget_output() -> None:
    """Point stdout at nothing, so that Python's flush at exit does not fail once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    """Make the parser; only the module of the command in `argv` is loaded, with its options."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="resnet-rs", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=raw
    )
    parser.add_argument("--version", action="version", version=f"resnet-rs {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    chosen = next((word for word in argv if not word.startswith("-")), None)
    for name, (summary, description) in _COMMANDS.items():
        command = commands.add_parser(
            name, help=summary, description=description, formatter_class=raw
        )
        if name == chosen:
            module = importlib.import_module(f".{name}", __name__)
            command.epilog = getattr(module, "EPILOG", None)
            module.add_arguments(command)
    return parser

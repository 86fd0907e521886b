"""`resnet-rs convert`: write weights of any supported format as a weights directory."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..images.spec import PRESETS
from ..options import ACTIVATIONS
from ..weights.labels import order_remark, read_labels
from ..weights.remarks import Note
from .common import LOAD_ERRORS, OK, WRONG_RESULTS, fail, plain_warnings

_INTERPOLATIONS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
_PREPROCESSING = ("resize", "crop", "interpolation", "mean", "std")
_AUTO = "auto"

EPILOG = """\
The content of IN tells its format: a .safetensors file; a .pth, .pt or .bin file of torch; a .h5 or
.keras file of Keras; a .onnx file; a directory of transformers, of timm, of resnet_rs, or of text
files with a number a line. No framework is needed, and no code in a file runs.

OUT gets model.safetensors and config.json. State here what IN does not say: the network, if IN is
a bare state dict, and how images are prepared. An error names what is missing.

examples:
  resnet-rs convert resnet50-11ad3fa6.pth weights/
  resnet-rs convert best.pth weights/ --architecture resnet18 --labels labels.txt \\
      --resize 256 --crop 224
  resnet-rs convert moco.pth weights/ --architecture resnet50 --num-classes 0 --preset IMAGENET1K_V1
  resnet-rs convert text/ weights/ --preset IMAGENET1K_V2 --dtype f16
  resnet-rs convert mine.pth weights/ --names names.json --architecture resnet50 \\
      --variant '{"stride_on": "conv1", "conv_bias": true}' --resize 64 --crop 64
  resnet-rs convert mine.pth weights/ --names auto --confirm mynet:MyResNet \\
      --architecture resnet18 --resize 64 --crop 64

exit status: 0 if OUT was written, 1 if the results of --confirm differ, 2 for bad usage or weights
that could not be converted.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("source", metavar="IN", help="the file or directory to read")
    parser.add_argument("target", metavar="OUT", help="the directory to write")
    parser.add_argument("--force", action="store_true", help="replace weights that OUT holds")
    parser.add_argument(
        "--dtype",
        choices=("f32", "f16"),
        default="f32",
        help="storage of convolution and fc weights (default: f32); arithmetic is f32 always",
    )
    network = parser.add_argument_group("the network")
    network.add_argument(
        "--architecture", metavar="NAME", help="its name, such as resnet50, if IN does not say it"
    )
    network.add_argument(
        "--variant",
        type=_variant,
        metavar="JSON",
        help='its differences from that architecture, as in config.json: {"stride_on": "conv1"}',
    )
    network.add_argument(
        "--names",
        metavar="FILE",
        help="a JSON object from the tensors' names, or patterns of them, to torchvision's; or "
        "auto, to have one proposed by the layers' order and shapes",
    )
    network.add_argument(
        "--confirm",
        metavar="MODULE:NAME",
        help="a function of yours that makes the torch module of the weights: OUT is written only "
        "if both give the same results; MODULE is imported and run",
    )
    network.add_argument(
        "--key", metavar="KEY", help="the network to take if IN holds several: a key or a prefix"
    )
    network.add_argument(
        "--num-classes",
        type=_classes,
        metavar="N",
        help="0 leaves the last layer out, for embeddings alone",
    )
    network.add_argument(
        "--labels", metavar="FILE", help="one label a line, in the order of the classes"
    )
    network.add_argument(
        "--activation",
        choices=ACTIVATIONS,
        help="the function that makes scores of the logits, if IN does not say it (default: "
        "softmax, or sigmoid for one output; none is for regression)",
    )
    images = parser.add_argument_group(
        "how images are prepared", "These options override what IN says."
    )
    images.add_argument(
        "--preset",
        choices=PRESETS,
        help="torchvision's: resize 256 (V1) or 232 (V2), crop 224, bilinear",
    )
    # Not in the namespace unless given, because None is a value of --resize and --crop ("none").
    size: dict[str, Any] = {"type": _size, "metavar": "N", "default": argparse.SUPPRESS}
    images.add_argument("--resize", help="short side; or HxW exactly; or none", **size)
    images.add_argument("--crop", help="square centre crop; or HxW; or none", **size)
    images.add_argument(
        "--interpolation",
        choices=_INTERPOLATIONS,
        default=argparse.SUPPRESS,
        help="Pillow's filter",
    )
    channels: dict[str, Any] = {
        "type": float,
        "nargs": "+",
        "metavar": "X",
        "default": argparse.SUPPRESS,
    }
    images.add_argument("--mean", help="of each channel, of values in 0 to 1", **channels)
    images.add_argument("--std", help="likewise", **channels)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Read, write, print a summary, and return the exit status."""
    from ..weights import formats
    from ..weights.formats.convert import write_directory
    from ..weights.remarks import shown

    try:
        labels = None if arguments.labels is None else read_labels(arguments.labels)
        stated: dict[str, Any] = {
            "architecture": arguments.architecture,
            "variant": arguments.variant,
            "num_classes": arguments.num_classes,
            "labels": labels,
            "activation": arguments.activation,
            "preprocessing": _preprocessing(arguments),
            "names": _names(arguments),
            "key": arguments.key,
        }
        checkpoint = formats.read(arguments.source, **stated)
        known = checkpoint.config.get("preprocessing", {}).keys()
        prepared = stated["preprocessing"] is not None or {"mean", "std"} <= known
        if not prepared or not {"resize", "crop"} <= known:
            raise ValueError(
                f"{arguments.source}: it does not say how images are prepared: pass "
                "--preset IMAGENET1K_V1 or IMAGENET1K_V2 for torchvision's, --preset CIFAR10 for "
                "images of 32 x 32, or --resize and --crop; with these also --interpolation, "
                "--mean and --std, where they are not torchvision's"
            )
        if arguments.confirm is not None and not _is_confirmed(arguments, stated):
            return WRONG_RESULTS
        if arguments.names == _AUTO and stated["names"] is not None:
            remark: str = (
                Note(f"the proposed names are confirmed by the results of {arguments.confirm}")
                if arguments.confirm is not None
                else "the names were proposed by order and shape, which does not prove them: "
                "compare the results with those of the original network, as --confirm does"
            )
            checkpoint = replace(checkpoint, remarks=(*checkpoint.remarks, remark))
        for remark in checkpoint.remarks:
            print(shown(arguments.source, remark))
        if labels is not None and (doubt := order_remark(labels)):
            print(f"{arguments.labels}: {doubt}")
        write_directory(checkpoint, arguments.target, dtype=arguments.dtype, force=arguments.force)
    except LOAD_ERRORS as error:
        return fail(error)
    print(_summary(arguments.target, checkpoint.config, arguments.dtype))
    return OK


def _names(arguments: argparse.Namespace) -> Any:
    """The value of `names=`; a proposed map is printed, so that it can be saved and changed."""
    if arguments.names != _AUTO:
        return arguments.names
    from ..weights.formats.auto_names import proposed_rules

    rules, doubtful = proposed_rules(
        Path(arguments.source),
        key=arguments.key,
        architecture=arguments.architecture,
        variant=arguments.variant,
        num_classes=arguments.num_classes,
    )
    if not rules:
        print(f"{arguments.source}: the names are known, so none are proposed")
        return None
    print(json.dumps(rules, indent=2))
    for first, second in doubtful:
        print(
            f"{arguments.source}: {first} and {second} have the same shapes: their order decided",
            file=sys.stderr,
        )
    return rules


def _is_confirmed(arguments: argparse.Namespace, stated: Mapping[str, Any]) -> bool:
    """Compare the network with the caller's module, and print where they differ."""
    from ..family import load
    from .confirm import confirmed

    with plain_warnings():
        model = load(arguments.source, **stated)
    comparison = confirmed(model, arguments.confirm, arguments.source, arguments.key)
    if not comparison.ok:
        print(comparison.text(color=False))
        print(f"{arguments.source}: not written, as the results differ", file=sys.stderr)
    return comparison.ok


def _preprocessing(arguments: argparse.Namespace) -> dict[str, Any] | None:
    """Collect the fields that were given, and the preset for all other fields."""
    fields = {name: getattr(arguments, name) for name in _PREPROCESSING if hasattr(arguments, name)}
    if arguments.preset is not None:
        fields["preset"] = arguments.preset
    return fields or None


def _summary(target: str, config: Mapping[str, Any], dtype: str) -> str:
    size = (Path(target) / "model.safetensors").stat().st_size
    classes = config["num_classes"]
    head = f"{classes} class{'' if classes == 1 else 'es'}"
    head = head if classes else "no classes (embeddings alone)"
    spec = config["preprocessing"]
    lines = [f"wrote {target}: {config['architecture']}, {head}, {dtype}, {size / 1e6:.1f} MB"]
    if config.get("variant"):
        lines.append(f"  variant: {json.dumps(config['variant'])}")
    if classes:
        lines.append(f"  activation: {config['activation']}")
    lines.append("  images: " + ", ".join(f"{name} {value}" for name, value in spec.items()))
    return "\n".join(lines)


def _variant(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise argparse.ArgumentTypeError(f"no JSON: {error}") from error
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"expected a JSON object in braces; got {text!r}")
    return value


def _classes(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = -1
    if number < 0:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 up; got {text!r}")
    return number


def _size(text: str) -> int | list[int] | None:
    """Read `232`, `256x192` (height x width) or `none`."""
    if text == "none":
        return None
    try:
        sides = [int(side) for side in text.split("x")]
    except ValueError:
        sides = []
    if len(sides) not in (1, 2) or min(sides) < 1:
        raise argparse.ArgumentTypeError(
            f"expected pixels (232), HEIGHTxWIDTH (256x192) or none; got {text!r}"
        )
    return sides if len(sides) == 2 else sides[0]

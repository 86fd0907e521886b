"""Sources of exported weights: torchvision, timm, a checkpoint file, or a seed."""

import argparse
import math
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
import torchvision
from torchvision.models import get_model_weights

from checkpoint import read_checkpoint
from random_resnet import random_state_dict
from torch_family import ARCHITECTURES, TORCHVISION, import_timm
from weights_directory import Export, Preprocessing, Size

ACTIVATIONS = ("softmax", "sigmoid", "none")
INTERPOLATIONS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that `collect` reads."""
    source = parser.add_argument_group("source of the weights (exactly one)")
    which = source.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--weights", metavar="NAME", help="torchvision's: IMAGENET1K_V1, IMAGENET1K_V2 or DEFAULT"
    )
    which.add_argument(
        "--state-dict",
        type=Path,
        metavar="FILE",
        help="a .pth checkpoint with torchvision's names (v1.5: stride on the 3x3 convolution)",
    )
    which.add_argument(
        "--timm",
        metavar="NAME",
        help="timm's, such as resnet50d.ra2_in1k; brings its own architecture",
    )
    which.add_argument("--random", type=int, metavar="SEED", help="random weights and statistics")
    source.add_argument(
        "--architecture",
        "--arch",
        choices=ARCHITECTURES,
        metavar="NAME",
        help=f"one of {', '.join(ARCHITECTURES)} (default: resnet50)",
    )
    source.add_argument(
        "--num-classes", type=int, metavar="N", help="with --random (default: 1000)"
    )

    config = parser.add_argument_group(
        "labels and preprocessing",
        "Preprocessing that is not given is the preset of --weights or --timm (at the size of\n"
        "its training, timm's own default), else that of IMAGENET1K_V2: resize 232, crop 224,\n"
        "bilinear, ImageNet's mean and standard deviation.",
    )
    config.add_argument(
        "--labels", type=Path, metavar="FILE", help="one label a line, in the order of the classes"
    )
    # Left out of the namespace unless given: None is a value of --resize and --crop ("none").
    absent = argparse.SUPPRESS
    size: dict[str, Any] = {"type": parse_size, "metavar": "N", "default": absent}
    config.add_argument(
        "--activation",
        choices=ACTIVATIONS,
        help="what turns logits into scores (default: softmax, or sigmoid for one output)",
    )
    config.add_argument("--resize", help="short side; or HxW exactly; or none", **size)
    config.add_argument("--crop", help="square centre crop; or HxW; or none", **size)
    config.add_argument(
        "--interpolation", choices=INTERPOLATIONS, default=absent, help="Pillow's filter"
    )
    rgb: dict[str, Any] = {"type": float, "nargs": 3, "metavar": ("R", "G", "B"), "default": absent}
    config.add_argument("--mean", help="per channel, of values in [0, 1]", **rgb)
    config.add_argument("--std", help="per channel, of values in [0, 1]", **rgb)


def parse_size(text: str) -> Size:
    """Parse `232`, `256x192` (height x width) or `none`.

    Raises:
        argparse.ArgumentTypeError: anything else, or a side below 1.
    """
    if text == "none":
        return None
    try:
        sides = [int(side) for side in text.split("x")]
    except ValueError:
        sides = []
    if len(sides) not in (1, 2) or min(sides) < 1:
        raise argparse.ArgumentTypeError(
            f"expected pixels (232), HEIGHTxWIDTH (256x192) or none, got {text!r}"
        )
    return sides if len(sides) == 2 else sides[0]


def collect(arguments: argparse.Namespace) -> Export:
    """Read or draw the weights that the arguments ask for, printing progress.

    Raises:
        ValueError: an unknown name, a wrong checkpoint, labels or options that do not fit.
        OSError: a file cannot be read, or a download fails.
    """
    if arguments.num_classes is not None and arguments.random is None:
        raise ValueError("--num-classes goes with --random: other weights know their classes")
    if arguments.architecture is not None and arguments.timm is not None:
        raise ValueError("--architecture does not go with --timm: its name says it")
    architecture = arguments.architecture or "resnet50"
    if arguments.weights is not None:
        export = _from_torchvision(architecture, arguments.weights)
    elif arguments.timm is not None:
        export = _from_timm(arguments.timm)
    elif arguments.state_dict is not None:
        export = _from_checkpoint(arguments.state_dict, architecture)
    else:
        num_classes = 1000 if arguments.num_classes is None else arguments.num_classes
        export = _from_seed(arguments.random, num_classes, architecture)

    if arguments.activation == "softmax" and export.num_classes == 1:
        raise ValueError("--activation softmax: expected sigmoid or none for one output")
    if arguments.activation is not None:
        export = replace(export, activation=arguments.activation)
    if arguments.labels is not None:
        export = replace(export, labels=read_labels(arguments.labels, export.num_classes))
    given = {
        field.name: getattr(arguments, field.name)
        for field in fields(Preprocessing)
        if hasattr(arguments, field.name)
    }
    preprocessing = replace(export.preprocessing, **given)
    print(f"preprocessing: {preprocessing}")
    return replace(export, preprocessing=preprocessing)


def read_labels(path: Path, num_classes: int) -> list[str]:
    """Read one label a line, UTF-8; blank lines at the end do not count.

    Raises:
        ValueError: their number is not `num_classes`, or one of them is blank.
    """
    labels = [line.strip() for line in path.read_text(encoding="utf-8").rstrip().splitlines()]
    if len(labels) != num_classes:
        raise ValueError(
            f"{path}: expected {num_classes} labels, one a line, as fc has {num_classes} rows; "
            f"got {len(labels)}"
        )
    if "" in labels:
        raise ValueError(f"{path}: line {labels.index('') + 1} is blank: expected a label")
    return labels


def _from_torchvision(architecture: str, name: str) -> Export:
    if architecture not in TORCHVISION:
        raise ValueError(f"torchvision has no {architecture}: take it from timm with --timm")
    known = get_model_weights(architecture)
    names = sorted(known.__members__)
    if name not in names:
        raise ValueError(f"--weights: expected one of {', '.join(names)}, got {name!r}")
    weights = known[name]
    print(f"reading torchvision's {architecture} {weights.name} (cached, or downloaded) ...")
    preset = weights.transforms()
    return Export(
        state=_tensors(weights.get_state_dict(progress=True, check_hash=True)),
        labels=list(weights.meta["categories"]),
        preprocessing=Preprocessing(
            resize=preset.resize_size[0],
            crop=preset.crop_size[0],
            interpolation=preset.interpolation.value,
            mean=tuple(preset.mean),
            std=tuple(preset.std),
        ),
        source={"weights": weights.name, **_versions()},
        architecture=architecture,
    )


def _from_timm(name: str) -> Export:
    architecture = name.partition(".")[0]
    if architecture not in ARCHITECTURES:
        raise ValueError(f"--timm: expected one of {', '.join(ARCHITECTURES)}, got {name!r}")
    timm = import_timm()
    print(f"reading timm's {name} (cached, or downloaded) ...")
    model = timm.create_model(name, pretrained=True)
    config = timm.data.resolve_model_data_config(model)
    tested = timm.data.resolve_model_data_config(model, use_test_size=True)
    side = config["input_size"][1]
    if tested != config:
        crop = tested["input_size"][1]
        resize = math.floor(crop / tested["crop_pct"])
        print(f"  for the size that timm tests with, pass --resize {resize} --crop {crop}")
    return Export(
        state=_tensors(model.state_dict()),
        labels=None,
        preprocessing=Preprocessing(
            resize=math.floor(side / config["crop_pct"]),
            crop=side,
            interpolation=config["interpolation"],
            mean=tuple(config["mean"]),
            std=tuple(config["std"]),
        ),
        source={"timm": name, "timm_version": timm.__version__, **_versions()},
        architecture=architecture,
    )


def _from_checkpoint(path: Path, architecture: str) -> Export:
    print(f"reading {path} ...", flush=True)
    state, remarks = read_checkpoint(path, architecture)
    for remark in remarks:
        print(f"  {remark}")
    source = {"checkpoint": path.name, **_versions()}
    return Export(state, None, Preprocessing(), source, architecture)


def _from_seed(seed: int, num_classes: int, architecture: str) -> Export:
    if num_classes < 1:
        raise ValueError(f"--num-classes: expected at least 1, got {num_classes}")
    print(f"drawing random weights, seed {seed} ...", flush=True)
    state = random_state_dict(seed, num_classes, architecture)
    source = {"random_seed": str(seed), **_versions()}
    return Export(state, None, Preprocessing(), source, architecture)


def _tensors(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Keep what inference reads, in f32."""
    return {k: v.float() for k, v in state.items() if not k.endswith("num_batches_tracked")}


def _versions() -> dict[str, str]:
    return {"torch": torch.__version__, "torchvision": torchvision.__version__}

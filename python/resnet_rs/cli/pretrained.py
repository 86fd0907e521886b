"""`resnet-rs pretrained`: list the pretrained weights, or fetch one of them into the cache."""

from __future__ import annotations

import argparse
import json
from typing import Any

from ..terminal.tables import text_table
from ..weights.pretrained import (
    TIMM_WEIGHTS,
    TORCHVISION_WEIGHTS,
    TimmPreset,
    TorchvisionWeights,
    fetch,
    torchvision_path,
)
from .common import LOAD_ERRORS, OK, add_format, fail, plain_warnings

EPILOG = """\
Without NAME all known names are listed. With NAME the weights are downloaded, unless the cache has
them, and the path is printed: a .pth file, or the folder of a hub's repository. With --out they are
written as a weights directory, with the right preset in its config, and the directory is printed.
Downloads need the extra: pip install "resnet_rs[pretrained]".

names:
  resnet50.IMAGENET1K_V2       torchvision's; "IMAGENET1K_V2 --architecture resnet50" is the same
  resnet50.DEFAULT             the best that torchvision has
  timm/resnet50.a1_in1k        timm's; "resnet50.a1_in1k" is the same
  microsoft/resnet-50          a repository on the Hugging Face hub

environment:
  RESNET_RS_CACHE              the folder for downloads (else $XDG_CACHE_HOME/resnet_rs or
                               ~/.cache/resnet_rs, and the Hugging Face cache for its hub)
  RESNET_RS_OFFLINE=1          use the cache alone; so does HF_HUB_OFFLINE=1
  RESNET_RS_MIRROR             an address in place of torchvision's server
  HF_ENDPOINT, HF_TOKEN        another hub, and a token for repositories that are not public
  HTTPS_PROXY, NO_PROXY        as other programs read them
  other HF_... variables       as huggingface_hub reads them

examples:
  resnet-rs pretrained
  resnet-rs pretrained resnet50.IMAGENET1K_V2
  resnet-rs pretrained resnet18.DEFAULT --out weights/

exit status: 0 if all went well, 2 if the weights could not be fetched.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="the weights to fetch")
    parser.add_argument(
        "--architecture", metavar="NAME", help="the network, if NAME does not say it"
    )
    parser.add_argument(
        "-o", "--out", metavar="DIR", help="write them as a weights directory, for other commands"
    )
    parser.add_argument("--force", action="store_true", help="replace weights that DIR holds")
    parser.add_argument("--cache", metavar="DIR", help="the folder of downloads")
    parser.add_argument(
        "--offline", action="store_true", default=None, help="look at the cache alone"
    )
    parser.add_argument(
        "--no-progress", dest="progress", action="store_false", help="show no bar while downloading"
    )
    add_format(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """List the names, or fetch one of them, and return the exit status."""
    if arguments.name is None:
        return _list(arguments)
    with plain_warnings():
        try:
            path, config = _fetched(arguments)
        except LOAD_ERRORS as error:
            return fail(error)
    if arguments.format == "json":
        print(json.dumps({"path": path, "config": config}, indent=2))
    else:
        print(path)
    return OK


def _fetched(arguments: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Download, convert if `--out` is given, and return the path and the config's fields."""
    places: dict[str, Any] = {
        "cache_dir": arguments.cache,
        "offline": arguments.offline,
        "progress": arguments.progress,
        "architecture": arguments.architecture,
    }
    if arguments.out is None:
        file = fetch(arguments.name, **places)
        return str(file.path), file.config
    from ..model import ResNet

    model = ResNet.from_pretrained(arguments.name, **places)
    model.save(arguments.out, force=arguments.force)
    return arguments.out, model.config.as_dict()


def _list(arguments: argparse.Namespace) -> int:
    """Print the known weights, of all architectures or of one."""
    wanted = arguments.architecture
    torchvision = [row for row in TORCHVISION_WEIGHTS if wanted in (None, row.architecture)]
    timm = [
        (f"{architecture}.{tag}", place == 0, preset)
        for architecture, tags in TIMM_WEIGHTS.items()
        if wanted in (None, architecture)
        for place, (tag, preset) in enumerate(tags.items())
    ]
    if not torchvision and not timm:
        return fail(f"there are no pretrained weights of {wanted}")
    if arguments.format == "json":
        entries = [_torchvision_entry(row, arguments.cache) for row in torchvision]
        entries += [_timm_entry(*row) for row in timm]
        print(json.dumps(entries, indent=2))
        return OK
    tables = []
    if torchvision:
        heads = ["torchvision", "", "top-1", "top-5", "parameters", "MB", "resize", "crop"]
        rows = [_torchvision_cells(row, arguments.cache) for row in torchvision]
        tables.append(text_table([heads, *rows], left=2))
    if timm:
        heads = ["timm", "", "filter", "resize", "crop", "to test: resize", "crop"]
        tables.append(text_table([heads, *(_timm_cells(*row) for row in timm)], left=3))
    print("\n\n".join(tables))
    return OK


def _torchvision_cells(row: TorchvisionWeights, cache: str | None) -> list[str]:
    cached = torchvision_path(row, cache).is_file()
    return [
        row.full_name,
        ", ".join(["default"] * row.is_default + ["cached"] * cached),
        f"{row.top_1:.2f}",
        f"{row.top_5:.2f}",
        f"{row.parameters:,}",
        f"{row.mebibytes * (1 << 20) / 1e6:.0f}",
        *_sizes(row.preprocessing()),
    ]


def _timm_cells(name: str, default: bool, preset: TimmPreset) -> list[str]:
    tested = preset.test_size is not None
    return [
        name,
        "default" if default else "",
        preset.interpolation,
        *_sizes(preset.preprocessing("train")),
        *(_sizes(preset.preprocessing("test")) if tested else ["", ""]),
    ]


def _sizes(preprocessing: dict[str, Any]) -> list[str]:
    return [str(preprocessing["resize"]), str(preprocessing["crop"])]


def _torchvision_entry(row: TorchvisionWeights, cache: str | None) -> dict[str, Any]:
    return {
        "name": row.full_name,
        "from": "torchvision",
        "default": row.is_default,
        "cached": torchvision_path(row, cache).is_file(),
        "sha256_prefix": row.sha256_prefix,
        "parameters": row.parameters,
        "top_1": row.top_1,
        "top_5": row.top_5,
        "preprocessing": row.preprocessing(),
    }


def _timm_entry(name: str, default: bool, preset: TimmPreset) -> dict[str, Any]:
    return {
        "name": name,
        "from": "timm",
        "default": default,
        "preprocessing": preset.preprocessing("train"),
        "preprocessing_to_test": preset.preprocessing("test"),
    }

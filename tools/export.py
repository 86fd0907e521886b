r"""Write the weights of a ResNet as a directory that `resnet_rs` loads.

The directory holds `model.safetensors` (torchvision's tensor names, OIHW) and `config.json`
(classes, labels, preprocessing, where the weights came from). Before it appears under --out, the
package loads it and runs random input, and the logits are compared with torch in f64.

Examples:
  torchvision's ImageNet weights (downloaded once, then cached by torch):
    python tools/export.py --weights IMAGENET1K_V2 --out weights/
  a checkpoint of one's own, seven classes, one label a line in labels.txt:
    python tools/export.py --state-dict best.pth --labels labels.txt \
        --resize 256 --crop 224 --out weights/
  another member of the family, or timm's weights:
    python tools/export.py --architecture resnet18 --weights DEFAULT --out weights/
    python tools/export.py --timm resnet50d.ra2_in1k --out weights/
  half the size on disk (conv and fc weights f16, vectors f32):
    python tools/export.py --state-dict best.pth --dtype f16 --out weights/
  random weights, for tests and benchmarks without a network connection:
    python tools/export.py --random 0 --out weights/
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import export_sources
from resnet_rs import load
from torch_reference import load_reference, reference_logits, relative_l2
from weights_directory import Export, require_free, staged, write_weights

TOLERANCE = 1e-5
"""Largest relative L2 error of the logits against torch in f64.

f32 rounding through all convolutions gives below 1e-6; a wrong layout, stride or statistic gives
more than 1e-1.
"""

VERIFY_SEED = 0
VERIFY_BATCH = 2
DEFAULT_SIDE = 224
"""Height and width of the check's input where the preprocessing has no crop."""


def main(argv: Sequence[str] | None = None) -> int:
    """Export as the arguments say.

    Returns:
        0; or 1 when the weights cannot be read or the check fails, and then nothing is written.
    """
    arguments = parse_arguments(argv)
    try:
        require_free(arguments.out, force=arguments.force)
        export = export_sources.collect(arguments)
        with staged(arguments.out) as directory:
            write_weights(directory, export, arguments.dtype)
            if arguments.verify:
                verify(directory, export)
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        # RuntimeError: torch's for a download with another hash, ours for an absent ISA.
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"wrote {arguments.out}: {export.num_classes} classes, {arguments.dtype}")
    return 0


def verify(directory: Path, export: Export) -> None:
    """Compare our logits with torch's in f64, both from the files just written.

    Raises:
        ValueError: the relative L2 error is above `TOLERANCE`.
    """
    crop = export.preprocessing.crop or DEFAULT_SIDE
    height, width = crop if isinstance(crop, list) else (crop, crop)
    shape = (VERIFY_BATCH, height, width, 3)
    print(f"checking against torch in f64 on random input {list(shape)} ...", flush=True)
    x = np.random.default_rng(VERIFY_SEED).standard_normal(shape, dtype=np.float32)
    expected = reference_logits(load_reference(directory), x)
    model = load(directory)
    error = relative_l2(model.forward(x), expected)
    print(f"relative error of the logits {error:.1e} (at most {TOLERANCE:.0e}), tier {model.isa}")
    if not error <= TOLERANCE:
        raise ValueError(
            f"the logits differ from torch's by {error:.1e}, above {TOLERANCE:.0e}: nothing was "
            "written. Please report this with the command line"
        )


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; `--help` has the whole story."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where to write")
    parser.add_argument("--force", action="store_true", help="replace weights that are there")
    parser.add_argument(
        "--dtype",
        choices=("f32", "f16", "bf16"),
        default="f32",
        help="storage of convolution and fc weights (default: f32); arithmetic is f32 always",
    )
    parser.add_argument(
        "--no-verify", dest="verify", action="store_false", help="skip the check against torch"
    )
    export_sources.add_arguments(parser)
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())

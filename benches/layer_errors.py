r"""How far every layer's output is from torch in f64, with Winograd's algorithm and without.

Errors are relative, in the L2 norm, and those of the whole computation up to that layer.

Examples:
  python benches/layer_errors.py
  python benches/layer_errors.py --weights examples/sign-digits --size 64 64 --layers
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

# `peers` finds `tools`, where torch_reference lies.
from peers import random_weights
from resnet_rs import _core
from resnet_rs.terminal.tables import text_table
from torch_reference import load_reference, reference_activations, relative_l2

INPUTS = 3
"""Images of noise that the errors are taken over."""


def main(argv: Sequence[str] | None = None) -> int:
    """Compare as the arguments say and print a table."""
    arguments = parse_arguments(argv)
    shape = (INPUTS, *arguments.size, 3)
    x = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    with tempfile.TemporaryDirectory(prefix="resnet_rs-layer-errors-") as scratch:
        weights = arguments.weights or random_weights(Path(scratch) / "weights")
        expected = reference_activations(load_reference(weights), x)
        networks = [
            _core.Network(str(weights), isa=arguments.isa, winograd=winograd)
            for winograd in (True, False)
        ]
    with_winograd, direct = (layer_errors(network, x, expected) for network in networks)
    print(f"{networks[0].isa}, {INPUTS} images of {shape[1]} x {shape[2]}, against torch in f64\n")
    rows: list[tuple[str, ...]] = [("", "with Winograd", "direct")]
    if arguments.layers:
        rows += [(name, f"{with_winograd[name]:.1e}", f"{direct[name]:.1e}") for name in direct]
    largest = max(with_winograd.values()), max(direct.values())
    rows += [
        ("largest of a layer", *(f"{error:.1e}" for error in largest)),
        ("logits", f"{with_winograd['fc']:.1e}", f"{direct['fc']:.1e}"),
    ]
    print(text_table(rows, left=1))
    return 0


def layer_errors(
    network: _core.Network, x: NDArray[np.float32], expected: dict[str, NDArray[np.float64]]
) -> dict[str, float]:
    """Each layer's relative error by name, in the order of the network."""
    return {
        name: relative_l2(actual.reshape(expected[name].shape), expected[name])
        for name, actual in network.activations(x)
    }


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; `--help` describes it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--weights", type=Path, metavar="DIR", help="weights directory (default: random weights)")
    add("--size", type=int, nargs=2, default=(224, 224), metavar=("H", "W"), help="(224 224)")
    add("--isa", choices=("portable", "avx2", "avx512"), help="(default: the best there is)")
    add("--layers", action="store_true", help="a row for every layer, not for the largest alone")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())

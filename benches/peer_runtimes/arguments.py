"""Arguments that the benchmarks' command lines share."""

import argparse
from pathlib import Path

DEMO = Path(__file__).resolve().parents[2] / "examples" / "sign-digits"
"""The demo model's directory."""


def positive(text: str) -> int:
    """Parse an integer of at least 1.

    Raises:
        ValueError: anything else.
    """
    if (number := int(text)) < 1:
        raise ValueError
    return number


def add_weights(parser: argparse.ArgumentParser) -> None:
    """Add `--weights`, by default the demo model: times and plans do not depend on the values."""
    parser.add_argument(
        "--weights",
        type=Path,
        default=DEMO,
        metavar="DIR",
        help="a directory with config.json (default: the demo model; the network is what counts)",
    )

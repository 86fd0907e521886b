r"""Errors of int8 or bf16, ours beside the peers': same weights, same calibration, no timing.

Errors are those of `peers.py`: of the logits on held-out images, relative to torch in f64. The demo
model calibrates with photos, if there are any, the others, whose weights are random, with smooth
noise. The last column is our error by the peer's: at most 1, ours is no larger.

Examples:
  python benches/precision_errors.py --images signs/train --held-out signs/val
  python benches/precision_errors.py --precision bf16 --architecture resnet18 --skip openvino
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))

from peer_runtimes.accuracy import Accuracy
from peer_runtimes.arguments import DEMO, positive
from peer_runtimes.images import Images, photos, smooth_noise
from peer_runtimes.network import Network
from peer_runtimes.ours import Ours
from peer_runtimes.report import machine_line, write_csv
from peer_runtimes.runtime import Runtime
from peer_runtimes.workload import Workload
from peers import (
    PEERS,
    RESULTS,
    add_choices,
    add_images,
    check_images,
    chosen,
    loaded_accuracy,
    progress,
    random_weights,
)
from resnet_rs import _core
from resnet_rs.terminal.tables import text_table

HELD_OUT = 32


@dataclass(frozen=True)
class Row:
    """One runtime's error on one network; `None` where it did not run.

    Attributes:
        network: its name.
        images: what calibrated and measured.
        precision: of the arithmetic.
        runtime: its name.
        version: its version and chosen setting.
        relative_error: L2, of all held-out logits against torch in f64.
        agreement: the part of the held-out images whose largest logit is torch's.
        ours_over_peer: our error by this one.
        note: why there are no numbers.
    """

    network: str
    images: str
    precision: str
    runtime: str
    version: str
    relative_error: float | None = None
    agreement: float | None = None
    ours_over_peer: float | None = None
    note: str = ""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure as the arguments say; return 1 if ours did not run or computed wrong logits."""
    arguments = parse_arguments(argv)
    machine = machine_line()
    print(machine)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="resnet_rs-errors-") as scratch:
        for name, network in networks(arguments, Path(scratch)):
            measured = measure(name, network, chosen(arguments), arguments)
            print_table(measured, network)
            rows += measured
    write_csv(arguments.csv, rows, machine)
    print(f"\nwrote {arguments.csv}")
    ours = [row for row in rows if row.runtime == Ours.name]
    return int(any(row.relative_error is None for row in ours))


def networks(arguments: argparse.Namespace, scratch: Path) -> Iterator[tuple[str, Network]]:
    """The demo model, then random ones, by name; converted models go to `scratch`."""
    counts = (arguments.calibration, arguments.held_out_count)
    sources: list[tuple[str, Path]] = [] if arguments.no_demo else [("demo model", arguments.demo)]
    sources += [(name, scratch / name) for name in arguments.architecture]
    for name, weights in sources:
        images: Images
        if weights == arguments.demo and arguments.images:
            images = photos(weights, *counts, arguments.images, arguments.held_out)
        else:
            if weights != arguments.demo:
                random_weights(weights, name)
            images = smooth_noise(weights, *counts)
        with tempfile.TemporaryDirectory(dir=scratch) as files:
            yield name, Network(weights, Path(files), images)


def measure(
    name: str, network: Network, runtimes: Sequence[Runtime], arguments: argparse.Namespace
) -> list[Row]:
    """Each runtime's error, one image at a time."""
    height, width = network.size
    workload = Workload(
        network.weights, network.scratch, 1, height, width, arguments.precision, network
    )
    found: dict[str, Accuracy | str] = {}
    for runtime in runtimes:
        progress(f"{name}: {runtime.name} ...")
        found[runtime.name] = loaded_accuracy(runtime, workload, arguments.threads)
    ours = found[Ours.name]
    rows = []
    for runtime in runtimes:
        kind = (name, network.images.origin, arguments.precision, runtime.name)
        result = found[runtime.name]
        if isinstance(result, str):
            rows.append(Row(*kind, "", note=result))
            continue
        ratio = None if isinstance(ours, str) else ours.relative_error / result.relative_error
        error, agreement = result.relative_error, result.agreement
        rows.append(Row(*kind, runtime.version, error, agreement, ratio))
    return rows


def print_table(rows: Sequence[Row], network: Network) -> None:
    """Print one network's rows, the least error first."""
    first = rows[0]
    height, width = network.size
    print(
        f"\n{first.network}, {first.precision}, {height} x {width}, {first.images}: "
        f"{len(network.images.calibration)} calibrate, {len(network.images.held_out)} measure"
    )
    table = [("runtime", "rel. error", "same class", "ours/peer", "version")]
    for row in sorted(rows, key=lambda row: row.relative_error or float("inf")):
        if row.relative_error is not None and row.agreement is not None:
            ratio = "" if row.ours_over_peer is None else f"{row.ours_over_peer:.2f}"
            cells = (f"{row.relative_error:.2%}", f"{row.agreement:.1%}", ratio, row.version)
            table.append((row.runtime, *cells))
    print(text_table(table, left=1))
    for row in rows:
        if row.note:
            print(f"{row.runtime}: {row.note}")


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; `--help` describes it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    low = [precision for precision in PEERS if precision != "f32"]
    add("--precision", choices=low, default="int8", help="(default: int8)")
    add(
        "--architecture",
        nargs="*",
        choices=_core.architectures(),
        default=["resnet18", "resnet50", "resnet101"],
        metavar="NAME",
        help="networks with random weights (default: resnet18 resnet50 resnet101)",
    )
    add("--demo", type=Path, default=DEMO, metavar="DIR", help="(default: the demo model)")
    add("--no-demo", action="store_true", help="random weights alone")
    add("--threads", type=positive, default=2, metavar="N", help="(default: 2)")
    add_choices(parser)
    add_images(parser, HELD_OUT)
    file = RESULTS / "precision_errors.csv"
    add("--csv", type=Path, default=file, metavar="FILE", help="(%(default)s)")
    arguments = parser.parse_args(argv)
    # `chosen` and `check_images` read these, though errors have no use for them.
    arguments.no_winograd, arguments.size = False, None
    check_images(parser, arguments)
    return arguments


if __name__ == "__main__":
    sys.exit(main())

r"""Time ResNets beside onnxruntime, OpenVINO, ncnn and torch: same weights, input and threads.

Every runtime's logits are compared with torch in f64 before it is timed. With `--precision` the
runtimes compute in int8 or bf16, and their errors stand beside their times. What the columns mean
and what makes the comparison fair is in benches/README.md.

Examples:
  python benches/peers.py
  python benches/peers.py --threads 1 2 --batch 1 8 --rounds 20
  python benches/peers.py --only onnxruntime ncnn --isa avx2
  python benches/peers.py --architecture resnet18 resnext50_32x4d --only onnxruntime
  python benches/peers.py --precision int8 --batch 1 8
  python benches/peers.py --precision int8 --weights examples/sign-digits --images photos/
"""

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))

import export
from peer_runtimes.accuracy import Accuracy, measure_accuracy
from peer_runtimes.arguments import positive
from peer_runtimes.images import DEFAULT_SIDE, Images, photos, smooth_noise
from peer_runtimes.ncnn_int8 import NcnnInt8
from peer_runtimes.ncnn_runtime import Ncnn
from peer_runtimes.network import Network
from peer_runtimes.onnx_runtimes import OnnxRuntime, OpenVino
from peer_runtimes.onnxruntime_int8 import OnnxRuntimeInt8, OnnxRuntimePrecise
from peer_runtimes.openvino_int8 import OpenVinoInt8
from peer_runtimes.ours import Ours
from peer_runtimes.report import Row, machine_line, print_table, write_csv, write_plot
from peer_runtimes.rounds import time_interleaved
from peer_runtimes.runtime import Runtime
from peer_runtimes.torch_int8 import TorchFx
from peer_runtimes.torch_runtimes import Torch, TorchChannelsLast, TorchInductor
from peer_runtimes.workload import Workload
from resnet_rs import _core

PEERS: dict[str, list[type[Runtime]]] = {
    "f32": [OnnxRuntime, OpenVino, Ncnn, Torch, TorchChannelsLast, TorchInductor],
    "int8": [OnnxRuntimeInt8, OnnxRuntimePrecise, OpenVinoInt8, NcnnInt8, TorchFx],
    # onnxruntime's convolutions on CPUs have no bf16.
    "bf16": [OpenVino, Ncnn, Torch, TorchChannelsLast, TorchInductor],
}
"""Precisions to the peers that have them, each in its best setting."""

HELD_OUT = 16
"""Images that errors in low precision are measured on."""

RESULTS = Path(__file__).resolve().parent / "results"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure as the arguments say; return 1 if ours did not run or computed wrong logits."""
    arguments = parse_arguments(argv)
    machine = machine_line()
    print(machine)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="resnet_rs-peers-") as scratch:
        for workload in workloads(arguments, Path(scratch)):
            for threads in arguments.threads:
                measured = measure(chosen(arguments), workload, threads, arguments)
                print_table(measured)
                rows += measured
    write_csv(arguments.csv, rows, machine)
    print(f"\nwrote {arguments.csv}")
    try:
        write_plot(arguments.plot, rows, machine)
        print(f"wrote {arguments.plot}")
    except ModuleNotFoundError as error:
        print(f"no plot: {error.name} is not installed")
    return int(any(row.runtime == Ours.name and row.median_ms is None for row in rows))


def workloads(arguments: argparse.Namespace, scratch: Path) -> Iterator[Workload]:
    """Every network at every batch size; converted models go to `scratch`."""
    for architecture in arguments.architecture:
        weights = arguments.weights or random_weights(scratch / architecture, architecture)
        network = None
        height, width = arguments.size or (DEFAULT_SIDE, DEFAULT_SIDE)
        if arguments.precision != "f32":
            network = Network(
                weights, scratch / f"{architecture}-files", images(weights, arguments)
            )
            network.scratch.mkdir()
            height, width = network.size
        for batch in arguments.batch:
            folder = scratch / f"{architecture}-batch{batch}"
            folder.mkdir()
            yield Workload(weights, folder, batch, height, width, arguments.precision, network)


def images(weights: Path, arguments: argparse.Namespace) -> Images:
    """Images that calibrate and measure: photos of `--images`, else smooth noise."""
    counts = (arguments.calibration, arguments.held_out_count)
    if arguments.images is None:
        return smooth_noise(weights, *counts, arguments.size)
    return photos(weights, *counts, arguments.images, arguments.held_out)


def measure(
    runtimes: list[Runtime], workload: Workload, threads: int, arguments: argparse.Namespace
) -> list[Row]:
    """Load, check and time runtimes at one batch size and number of threads: a row for each."""
    accuracies: dict[str, Accuracy] = {}
    notes: dict[str, str] = {}
    for runtime in runtimes:
        accuracy = loaded_accuracy(runtime, workload, threads)
        if isinstance(accuracy, str):
            notes[runtime.name] = accuracy
        else:
            accuracies[runtime.name] = accuracy

    ready = [runtime for runtime in runtimes if runtime.name in accuracies]
    progress(f"timing {arguments.rounds} rounds of {len(ready)} runtimes ...")
    timings = time_interleaved(ready, arguments.rounds, arguments.calls)
    ours = timings.get(Ours.name)

    rows = []
    for runtime in runtimes:
        kind = (workload.architecture, workload.precision, runtime.name)
        setting = (workload.batch, workload.height, workload.width, threads)
        if runtime.name in notes:
            rows.append(Row(*kind, "", *setting, note=notes[runtime.name]))
            continue
        timing = timings[runtime.name]
        rows.append(
            Row(
                *kind,
                runtime.version,
                *setting,
                median_ms=timing.median_s * 1e3,
                min_ms=timing.min_s * 1e3,
                ours_over_peer=ours.ratio_to(timing) if ours else None,
                relative_error=accuracies[runtime.name].relative_error,
                agreement=accuracies[runtime.name].agreement,
            )
        )
    return rows


def loaded_accuracy(runtime: Runtime, workload: Workload, threads: int) -> Accuracy | str:
    """Load a runtime and check its logits; where that fails, say in a line why."""
    progress(
        f"loading {runtime.name}, {workload.architecture}, {workload.precision}, "
        f"batch {workload.batch}, {threads} thread(s) ..."
    )
    try:
        runtime.load(workload, threads)
        return measure_accuracy(runtime, workload)
    except ModuleNotFoundError as missing:
        return f"missing: {missing.name} is not installed"
    except Exception as failure:  # A peer that breaks must not end the comparison.
        first_line = (str(failure).splitlines() or [""])[0]
        return f"failed: {type(failure).__name__}: {first_line}"


def chosen(arguments: argparse.Namespace) -> list[Runtime]:
    """Make the runtimes that `--only` and `--skip` leave; ours is always one of them."""
    peers = [
        peer
        for peer in PEERS[arguments.precision]
        if peer.name not in arguments.skip and (not arguments.only or peer.name in arguments.only)
    ]
    ours = Ours(arguments.isa, winograd=not arguments.no_winograd)
    return [ours, *(peer() for peer in peers)]


def random_weights(weights: Path, architecture: str = "resnet50") -> Path:
    """Export seeded random weights with ImageNet's 1,000 classes: arithmetic needs no training."""
    command = ["--random", "0", "--architecture", architecture, "--no-verify"]
    with contextlib.redirect_stdout(sys.stderr):
        status = export.main([*command, "--out", str(weights)])
    if status:
        raise RuntimeError("the export of random weights failed: see above")
    return weights


def progress(text: str) -> None:
    """Say on stderr what takes time, so that stdout holds results alone."""
    print(text, file=sys.stderr, flush=True)


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; `--help` describes it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--precision", choices=list(PEERS), default="f32", help="(default: f32)")
    add(
        "--architecture",
        nargs="+",
        choices=_core.architectures(),
        default=["resnet50"],
        metavar="NAME",
        help="networks (default: resnet50)",
    )
    add("--batch", type=positive, nargs="+", default=[1], metavar="N", help="(default: 1)")
    add("--threads", type=positive, nargs="+", default=[1, 2], metavar="N", help="(default: 1 2)")
    add(
        "--size",
        type=size,
        metavar="N",
        help=f"side, or HxW (default: {DEFAULT_SIDE}; in low precision the network's own)",
    )
    add("--rounds", type=positive, default=15, metavar="N", help="(default: 15)")
    add("--calls", type=positive, default=5, metavar="N", help="timed, in a turn (default: 5)")
    add_choices(parser)
    add("--no-winograd", action="store_true", help="ours without Winograd's algorithm")
    add("--weights", type=Path, metavar="DIR", help="weights directory (default: random weights)")
    add_images(parser, HELD_OUT)
    add("--csv", type=Path, default=RESULTS / "peers.csv", metavar="FILE", help="(%(default)s)")
    add("--plot", type=Path, default=RESULTS / "peers.png", metavar="FILE", help="(%(default)s)")
    arguments = parser.parse_args(argv)
    if arguments.weights and len(arguments.architecture) > 1:
        parser.error("--weights are of one network: leave --architecture out")
    check_images(parser, arguments)
    return arguments


def add_choices(parser: argparse.ArgumentParser) -> None:
    """Add what chooses among runtimes, and our tier."""
    names = list(dict.fromkeys(peer.name for peers in PEERS.values() for peer in peers))
    add = parser.add_argument
    add("--only", nargs="+", choices=names, metavar="PEER", help=f"of {', '.join(names)}")
    add("--skip", nargs="+", choices=names, default=[], metavar="PEER", help="leave these out")
    tiers = ("portable", "avx2", "avx512")
    add("--isa", choices=tiers, help="the tier of resnet_rs (default: the fastest)")


def add_images(parser: argparse.ArgumentParser, held_out: int) -> None:
    """Add what low precision calibrates with and what measures its errors."""
    group = parser.add_argument_group(
        "images of low precision", "Without --images they are smooth noise."
    )
    add = group.add_argument
    add("--images", type=Path, metavar="FOLDER", help="photos that calibrate")
    add("--held-out", type=Path, metavar="FOLDER", help="photos that measure (default: others)")
    add("--calibration", type=positive, default=100, metavar="N", help="(default: 100)")
    help_text = "images that errors are measured on (default: %(default)s)"
    add("--held-out-count", type=positive, default=held_out, metavar="N", help=help_text)


def check_images(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Refuse options of images that have no effect."""
    if arguments.precision == "f32" and arguments.images:
        parser.error("--images calibrate low precision: give --precision too")
    if arguments.held_out and not arguments.images:
        parser.error("--held-out goes with --images")
    if arguments.images and arguments.size:
        parser.error("--images have the size of the network's preprocessing: leave --size out")


def size(text: str) -> tuple[int, int]:
    """Parse `224` or `160x288` as (height, width).

    Raises:
        ValueError: anything else, or a side below 1.
    """
    sides = [positive(side) for side in text.split("x")]
    height, width = sides * 2 if len(sides) == 1 else sides
    return height, width


if __name__ == "__main__":
    sys.exit(main())

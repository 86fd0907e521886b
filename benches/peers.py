r"""Time ResNets beside onnxruntime, OpenVINO, ncnn and torch: same weights, input and threads.

Every runtime's logits are compared with torch in f64 before it is timed. What the columns mean and
what makes the comparison fair is in benches/README.md.

Examples:
  python benches/peers.py
  python benches/peers.py --threads 1 2 --batch 1 8 --rounds 20
  python benches/peers.py --only onnxruntime ncnn --isa avx2
  python benches/peers.py --architecture resnet18 resnext50_32x4d --only onnxruntime
"""

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))

import export
from peer_runtimes.arguments import positive
from peer_runtimes.ncnn_runtime import Ncnn
from peer_runtimes.onnx_runtimes import OnnxRuntime, OpenVino
from peer_runtimes.ours import Ours
from peer_runtimes.report import Row, machine_line, print_table, write_csv, write_plot
from peer_runtimes.rounds import time_interleaved
from peer_runtimes.runtime import Runtime
from peer_runtimes.torch_runtimes import Torch, TorchChannelsLast, TorchInductor
from peer_runtimes.workload import Workload
from resnet_rs import _core
from torch_reference import relative_l2

PEERS: list[type[Runtime]] = [
    OnnxRuntime,
    OpenVino,
    Ncnn,
    Torch,
    TorchChannelsLast,
    TorchInductor,
]

RESULTS = Path(__file__).resolve().parent / "results"

LARGEST_ERROR = 1e-4
"""A runtime whose logits are further from torch's in f64 does not compute the same f32 network."""


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
        for batch in arguments.batch:
            folder = scratch / f"{architecture}-batch{batch}"
            folder.mkdir()
            yield Workload(weights, folder, batch, *arguments.size)


def measure(
    runtimes: list[Runtime], workload: Workload, threads: int, arguments: argparse.Namespace
) -> list[Row]:
    """Load, check and time runtimes at one batch size and number of threads: a row for each."""
    errors: dict[str, float] = {}
    notes: dict[str, str] = {}
    for runtime in runtimes:
        progress(f"loading {runtime.name}, batch {workload.batch}, {threads} thread(s) ...")
        try:
            runtime.load(workload, threads)
            error = relative_l2(runtime(), workload.expected)
            if not error <= LARGEST_ERROR:
                raise ValueError(f"wrong logits: relative error {error:.1e}")
            errors[runtime.name] = error
        except ModuleNotFoundError as missing:
            notes[runtime.name] = f"missing: {missing.name} is not installed"
        except Exception as failure:  # A peer that breaks must not end the comparison.
            first_line = (str(failure).splitlines() or [""])[0]
            notes[runtime.name] = f"failed: {type(failure).__name__}: {first_line}"

    ready = [runtime for runtime in runtimes if runtime.name in errors]
    progress(f"timing {arguments.rounds} rounds of {len(ready)} runtimes ...")
    timings = time_interleaved(ready, arguments.rounds, arguments.calls)
    ours = timings.get(Ours.name)

    rows = []
    for runtime in runtimes:
        network = workload.architecture
        setting = (workload.batch, workload.height, workload.width, threads)
        if runtime.name in notes:
            rows.append(Row(network, runtime.name, "", *setting, note=notes[runtime.name]))
            continue
        timing = timings[runtime.name]
        rows.append(
            Row(
                network,
                runtime.name,
                runtime.version,
                *setting,
                median_ms=timing.median_s * 1e3,
                min_ms=timing.min_s * 1e3,
                ours_over_peer=ours.ratio_to(timing) if ours else None,
                relative_error=errors[runtime.name],
            )
        )
    return rows


def chosen(arguments: argparse.Namespace) -> list[Runtime]:
    """Make the runtimes that `--only` and `--skip` leave; ours is always one of them."""
    names = arguments.only or [peer.name for peer in PEERS]
    peers = [peer for peer in PEERS if peer.name in names and peer.name not in arguments.skip]
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
    names = [peer.name for peer in PEERS]
    add = parser.add_argument
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
    add("--size", type=size, default=(224, 224), metavar="N", help="side, or HxW (default: 224)")
    add("--rounds", type=positive, default=15, metavar="N", help="(default: 15)")
    add("--calls", type=positive, default=5, metavar="N", help="timed, in a turn (default: 5)")
    add("--only", nargs="+", choices=names, metavar="PEER", help=f"of {', '.join(names)}")
    add("--skip", nargs="+", choices=names, default=[], metavar="PEER", help="leave these out")
    tiers = ("portable", "avx2", "avx512")
    add("--isa", choices=tiers, help="the tier of resnet_rs (default: the fastest)")
    add("--no-winograd", action="store_true", help="ours without Winograd's algorithm")
    add("--weights", type=Path, metavar="DIR", help="weights directory (default: random weights)")
    add("--csv", type=Path, default=RESULTS / "peers.csv", metavar="FILE", help="(%(default)s)")
    add("--plot", type=Path, default=RESULTS / "peers.png", metavar="FILE", help="(%(default)s)")
    arguments = parser.parse_args(argv)
    if arguments.weights and len(arguments.architecture) > 1:
        parser.error("--weights are of one network: leave --architecture out")
    return arguments


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
